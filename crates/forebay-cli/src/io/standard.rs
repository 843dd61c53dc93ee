//! Whether standard input and standard output were open when the program was
//! started.
//!
//! Before `main` runs, Rust's runtime opens `/dev/null` in place of a closed standard
//! descriptor. Records that are written there count as handed over, although no program
//! gets them; and from then on a closed descriptor looks the same as a redirection to
//! `/dev/null`, which some users want. Invariant: the descriptors are checked before the
//! runtime opens anything.

use crate::failure::{Failure, Result};

/// A standard stream that a command depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard input.
    Input,
    /// Standard output.
    Output,
}

/// Makes sure that a stream was open when the program was started.
///
/// # Errors
///
/// It was closed.
pub(crate) fn require(stream: Stream) -> Result<()> {
    if was_open(stream) {
        return Ok(());
    }
    Err(Failure::new(match stream {
        Stream::Input => {
            "standard input is closed, so there is nothing to read from; redirect it, to \
             /dev/null for an empty input"
        }
        Stream::Output => {
            "standard output is closed, so what is written there would be lost; redirect it, to \
             /dev/null if that is wanted"
        }
    }))
}

#[cfg(unix)]
mod at_start {
    use super::Stream;
    use rustix::io::fcntl_getfd;
    use rustix::stdio::{stdin, stdout};
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    static INPUT_CLOSED: AtomicBool = AtomicBool::new(false);
    static OUTPUT_CLOSED: AtomicBool = AtomicBool::new(false);

    /// Runs before Rust's runtime is set up, and therefore only makes two system calls.
    #[ctor::ctor(unsafe)]
    fn look() {
        INPUT_CLOSED.store(fcntl_getfd(stdin()).is_err(), Relaxed);
        OUTPUT_CLOSED.store(fcntl_getfd(stdout()).is_err(), Relaxed);
    }

    pub(super) fn was_open(stream: Stream) -> bool {
        let closed = match stream {
            Stream::Input => &INPUT_CLOSED,
            Stream::Output => &OUTPUT_CLOSED,
        };
        !closed.load(Relaxed)
    }
}

#[cfg(unix)]
use at_start::was_open;

/// On other systems, a closed stream fails when it is used.
#[cfg(not(unix))]
fn was_open(_stream: Stream) -> bool {
    true
}
