//! Memory that the system gives a page at a time, when it is touched, and gets back when it is
//! dropped.
//!
//! The allocator keeps what was freed: buffers of a megabyte come from a heap that is not zero
//! any more, so they are touched whole to be made zero, and a process that has had hundreds of
//! buffers open keeps that memory after they are closed. A map of its own has neither fault.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Less than this comes from the allocator: a map costs two calls of the system and whole pages.
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
        // Also where the system has no more maps to give.
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
