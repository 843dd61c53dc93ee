//! User code that panics inside a call of the library, and a host that catches it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use forebay::Error;

/// Why a call returned no value.
#[derive(Debug)]
pub(super) enum Failed {
    Error(Error),
    /// The event counter panicked inside it, as planned.
    Panicked,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The payload of a planned panic.
struct Planned;

/// Counts down the calls of an event counter to the one that panics. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(super) struct Fuse(Arc<AtomicI64>);

impl Fuse {
    /// The `nth` call from now on panics; none does with 0.
    pub(super) fn set(&self, nth: u64) {
        self.0.store(nth as i64, Ordering::Relaxed);
    }

    pub(super) fn burn(&self) {
        if self.0.load(Ordering::Relaxed) > 0 && self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Unlike `panic!`, this does not call the panic hook.
            resume_unwind(Box::new(Planned));
        }
    }
}

/// Makes a call and catches a planned panic in it.
pub(super) fn caught<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Failed> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(Failed::Error),
        Err(panic) if panic.is::<Planned>() => Err(Failed::Panicked),
        Err(panic) => resume_unwind(panic),
    }
}
