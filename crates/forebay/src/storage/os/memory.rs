//! Memory that the system gives page by page when it is touched, and gets back when it is dropped.
//!
//! The allocator keeps freed memory. Buffers of a megabyte then come from a heap that is no longer
//! zero, so every page of them is touched to clear it; and a process that had hundreds of buffers
//! open keeps that memory after they are closed. A map of its own avoids both.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Less than this comes from the allocator, because a map costs two system calls and whole pages.
const MAPPED_LEN_MIN: usize = 64 << 10;

/// Bytes that are zero at first.
#[derive(Debug)]
pub(crate) enum Memory {
    /// Pages of its own.
    Mapped(MmapMut),
    /// From the allocator.
    Allocated(Box<[u8]>),
}

impl Memory {
    /// Memory of `len` bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        if len >= MAPPED_LEN_MIN
            && let Ok(map) = MmapMut::map_anon(len)
        {
            return Self::Mapped(map);
        }
        // Also if the system gives no more maps.
        Self::Allocated(vec![0; len].into_boxed_slice())
    }
}

impl Default for Memory {
    /// No memory.
    fn default() -> Self {
        Self::Allocated(Box::default())
    }
}

impl Deref for Memory {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Allocated(bytes) => bytes,
        }
    }
}

impl DerefMut for Memory {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Allocated(bytes) => bytes,
        }
    }
}
