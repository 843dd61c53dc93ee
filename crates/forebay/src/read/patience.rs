//! Reading a data file whose device reports errors that may pass.
//!
//! Invariant: bytes are taken for damage only after the caller was given several errors while the
//! reader stood at the same place.

use std::io;
use std::sync::Arc;

use crate::scan::is_device_error;
use crate::storage::File;
use crate::sync::atomic::{AtomicBool, Ordering};

/// At most this many errors are handed out at one place before the unreadable pages there
/// are taken for damage.
const ERRORS_MAX: u32 = 8;

/// The read errors that were handed out since the reader last advanced.
#[derive(Debug, Default)]
pub(super) struct Patience {
    at: u64,
    errors: u32,
}

impl Patience {
    /// Notes an error while the reader stands at this stream offset. Returns whether it was the
    /// last one to hand out.
    pub(super) fn is_over(&mut self, at: u64) -> bool {
        if self.at != at {
            *self = Self { at, errors: 0 };
        }
        self.errors += 1;
        self.errors >= ERRORS_MAX
    }
}

/// A data file whose device errors go to the caller. Once unreadable pages are given up, the
/// scanner gets the errors and reads around them.
#[derive(Debug)]
pub(super) struct PatientFile {
    file: Arc<dyn File>,
    gives_up: AtomicBool,
}

impl PatientFile {
    pub(super) fn new(file: Arc<dyn File>) -> Self {
        Self {
            file,
            gives_up: AtomicBool::new(false),
        }
    }

    pub(super) fn set_gives_up(&self, gives_up: bool) {
        self.gives_up.store(gives_up, Ordering::Relaxed);
    }
}

impl File for PatientFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset).map_err(|e| {
            if is_device_error(&e) && !self.gives_up.load(Ordering::Relaxed) {
                // The message stays the same, but the scanner does not see a device error to read
                // around.
                io::Error::new(e.kind(), e)
            } else {
                e
            }
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
