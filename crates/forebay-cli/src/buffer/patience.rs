//! Errors of reading that may pass.
//!
//! Invariant: no data is given up here. The library hands out the same error eight times
//! before it takes what it cannot read for damage, so it is asked once more than that.

use std::thread;
use std::time::Duration;

use forebay::{ErrorKind, Result};

const ATTEMPTS: u32 = 9;

const PAUSE: Duration = Duration::from_millis(50);

/// Reads from a buffer; again, after a moment, as long as the system reports an error
/// that may pass.
pub(crate) fn patiently<T>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match read() {
            Err(error) if error.kind() == ErrorKind::Io && attempt < ATTEMPTS => {
                thread::sleep(PAUSE * attempt);
                attempt += 1;
            }
            result => return result,
        }
    }
}
