//! Reusable byte buffers of one size.
//!
//! Fresh memory is slow at first touch, so the buffers of chunks and batches are reused: one
//! returns when the last slice of it drops, on any thread.
//!
//! Invariants:
//! - At most `max_free` free buffers are kept; further ones are released.
//! - The pool bounds the free buffers. Its user bounds the ones in use.
//! - A reused buffer holds what its last user left in it.
//! - A buffer takes as much memory as was ever filled of it, and gives all of it back to the system
//!   when it is released.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::storage::os::Memory;
use crate::sync::{Mutex, MutexGuard};

/// A pool of byte buffers; clones share it.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    buffer_len: usize,
    max_free: usize,
    free: Mutex<Vec<Memory>>,
}

/// A buffer that returns to its pool when it drops.
pub(crate) struct Buffer {
    memory: Memory,
    /// Where the memory returns to; `None` for a buffer longer than the pool's.
    pool: Option<Pool>,
}

/// The filled part of a buffer that is not written any more.
struct Frozen {
    buffer: Buffer,
    len: usize,
}

impl Pool {
    /// A pool of buffers of `buffer_len` bytes that keeps up to `max_free` free
    /// ones. Nothing is allocated until a buffer is taken.
    pub(crate) fn new(buffer_len: usize, max_free: usize) -> Self {
        Self(Arc::new(Shared {
            buffer_len,
            max_free,
            free: Mutex::new(Vec::new()),
        }))
    }

    /// The length of the buffers in bytes.
    pub(crate) fn buffer_len(&self) -> usize {
        self.0.buffer_len
    }

    /// A buffer of [`buffer_len`](Self::buffer_len) bytes: zeros when new, what
    /// its last user left when reused.
    pub(crate) fn take(&self) -> Buffer {
        let reused = self.0.free().pop();
        let memory = reused.unwrap_or_else(|| Memory::zeroed(self.0.buffer_len));
        Buffer {
            memory,
            pool: Some(self.clone()),
        }
    }

    /// A buffer of at least `len` bytes: one of the pool's when they are long
    /// enough, otherwise one of exactly `len` bytes that is released after use.
    ///
    /// The caller bounds `len` beforehand.
    pub(crate) fn take_len(&self, len: usize) -> Buffer {
        if len <= self.0.buffer_len {
            return self.take();
        }
        Buffer {
            memory: Memory::zeroed(len),
            pool: None,
        }
    }
}

impl Shared {
    fn free(&self) -> MutexGuard<'_, Vec<Memory>> {
        // No code panics while it holds the lock, and a list of free buffers is valid at any
        // moment.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// The first `len` bytes, shared and read-only from now on. The memory
    /// returns to the pool when the last slice of it drops.
    ///
    /// # Panics
    /// When `len` is more than the buffer has.
    pub(crate) fn freeze(self, len: usize) -> Bytes {
        assert!(len <= self.memory.len(), "more bytes than the buffer has");
        Bytes::from_owner(Frozen { buffer: self, len })
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.buffer.memory[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            let mut free = pool.0.free();
            if free.len() < pool.0.max_free {
                free.push(std::mem::take(&mut self.memory));
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("buffer_len", &self.0.buffer_len)
            .field("max_free", &self.0.max_free)
            .field("free", &self.0.free().len())
            .finish()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.memory.len())
            .field("pooled", &self.pool.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free_count(pool: &Pool) -> usize {
        pool.0.free().len()
    }

    #[test]
    fn a_buffer_returns_when_the_last_slice_of_it_drops() {
        let pool = Pool::new(64, 4);
        let mut buffer = pool.take();
        buffer[..5].copy_from_slice(b"hello");
        let whole = buffer.freeze(5);
        let slice = whole.slice(1..3);
        drop(whole);
        assert_eq!(free_count(&pool), 0);
        assert_eq!(&slice[..], b"el");
        drop(slice);
        assert_eq!(free_count(&pool), 1);
    }

    #[test]
    fn a_returned_buffer_is_the_next_one_taken() {
        let pool = Pool::new(64, 4);
        let mut buffer = pool.take();
        buffer.fill(7);
        let address = buffer.as_ptr();
        drop(buffer);
        let again = pool.take();
        assert_eq!(again.as_ptr(), address);
        assert_eq!(again.len(), 64);
        assert_eq!(free_count(&pool), 0);
    }

    #[test]
    fn no_more_than_the_configured_number_lie_idle() {
        let pool = Pool::new(64, 2);
        let taken: Vec<_> = (0..5).map(|_| pool.take()).collect();
        drop(taken);
        assert_eq!(free_count(&pool), 2);
        let none = Pool::new(64, 0);
        drop(none.take());
        assert_eq!(free_count(&none), 0);
    }

    #[test]
    fn a_longer_buffer_has_its_own_length_and_is_released() {
        let pool = Pool::new(64, 4);
        assert_eq!(pool.take_len(1).len(), 64);
        assert_eq!(pool.take_len(64).len(), 64);
        assert_eq!(free_count(&pool), 1);
        let long = pool.take_len(65);
        assert_eq!(long.len(), 65);
        drop(long);
        assert_eq!(free_count(&pool), 1);
    }

    #[test]
    fn buffers_outlive_the_handles_of_their_pool() {
        let pool = Pool::new(64, 4);
        let bytes = pool.take().freeze(64);
        drop(pool);
        assert_eq!(bytes.len(), 64);
    }

    #[test]
    fn buffers_of_many_threads_come_back() {
        let pool = Pool::new(64, 8);
        std::thread::scope(|scope| {
            for n in 0..4u8 {
                let pool = pool.clone();
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let mut buffer = pool.take();
                        buffer.fill(n);
                        let bytes = buffer.freeze(64);
                        let slice = bytes.slice(..32);
                        drop(bytes);
                        assert!(slice.iter().all(|b| *b == n));
                    }
                });
            }
        });
        let count = free_count(&pool);
        assert!((1..=4).contains(&count), "{count} free");
    }

    #[test]
    #[should_panic(expected = "more bytes than the buffer has")]
    fn freezing_more_than_there_is_is_a_mistake_of_the_caller() {
        Pool::new(8, 1).take().freeze(9);
    }
}
