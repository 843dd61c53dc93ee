//! Retries reads from a buffer after I/O errors that may pass.
//!
//! Invariant: no data is given up here. The library returns the error of an unreadable
//! page several times before it takes the page for damage; this makes more attempts.

use std::thread;
use std::time::Duration;

use forebay::{ErrorKind, Result};

/// More attempts than the library makes, so that it is the library that gives up.
const ATTEMPTS: u32 = 20;

/// The pause after the first error; after the n-th it is n times as long.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads from a buffer, and retries after a pause as long as the read fails with an I/O
/// error, at most [`ATTEMPTS`] times in all.
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
