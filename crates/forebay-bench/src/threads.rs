//! Threads of a measurement.
//!
//! Invariant: that the system refuses to start a thread is a failure, not a panic.

use super::failure::{Failure, Result};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Starts a thread.
///
/// # Errors
///
/// The system refuses.
pub(crate) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().spawn_scoped(scope, work).map_err(|error| {
        Failure::new(format!(
            "cannot start a thread: {error}; raise the limit of processes and threads, as with \
             `ulimit -u`"
        ))
    })
}

/// The failure of a thread that panicked; the panic's message was printed.
pub(crate) fn panicked() -> Failure {
    Failure::new("a thread of the measurement panicked; please report this")
}
