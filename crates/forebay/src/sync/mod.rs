//! What threads share: locks, atomics, parking, threads, the clock.
//!
//! They are the standard library's, except in the concurrency models (the package
//! `forebay-models`). There a scheduler decides at each of these which thread goes on, and the clock
//! is simulated.
//!
//! Invariants:
//! - Everything that two threads of an open buffer share goes through here or through the mapped
//!   words of the ledger, so that the models see it.
//! - Correctness never depends on time: the models let no time pass at all, or any amount at any
//!   moment.

#[cfg(forebay_models)]
mod model;
pub(crate) mod pool;
#[cfg(not(forebay_models))]
mod system;
pub(crate) mod wake;

#[cfg(not(forebay_models))]
pub(crate) use self::system::*;

#[cfg(forebay_models)]
pub(crate) use self::model::*;
#[cfg(forebay_models)]
pub use self::model::{Clock, begin};

/// The moment `time` from now; `None` (no deadline) if the clock does not go that far.
pub(crate) fn deadline_after(time: std::time::Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}
