//! Errors of reading that may pass.
//!
//! Invariant: no data is given up here. The library hands out the error of an unreadable
//! page several times and then takes the page for damage; it is asked more often than that.

use std::thread;
use std::time::Duration;

use forebay::{ErrorKind, Result};

/// More than the library needs, so that it is the library that gives up.
const ATTEMPTS: u32 = 20;

/// The pause after the first error; it grows by as much with each.
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
