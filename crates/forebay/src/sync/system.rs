//! What threads share in production: the standard library's.

pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
pub(crate) use std::thread;
pub(crate) use std::time::Instant;

use std::time::Duration;

/// Where the thread that made it waits.
#[derive(Debug)]
pub(crate) struct Parker(thread::Thread);

impl Parker {
    pub(crate) fn new() -> Self {
        Self(thread::current())
    }

    /// Waits until the thread is unparked, or was since the last call, for at most `timeout`. May
    /// return early.
    pub(crate) fn park(&self, timeout: Option<Duration>) {
        match timeout {
            None => thread::park(),
            Some(timeout) => thread::park_timeout(timeout),
        }
    }

    pub(crate) fn unpark(&self) {
        self.0.unpark();
    }
}
