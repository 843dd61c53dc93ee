//! The sync that another thread does, so that writing goes on meanwhile.
//!
//! Invariants:
//! - There is one at a time, of the oldest file with a change that no sync covers.
//! - It covers what was written before it began, and nothing else.
//! - Its outcome counts only if its file is still open: everything in it may have been
//!   acknowledged meanwhile, and the file deleted.

use std::sync::Arc;
use std::time::Duration;
use std::{io, panic};

use super::open_file::{Covered, FileSync, NotSynced, Outcome};
use crate::shared::Shared;
use crate::sync::{Mutex, thread};
use crate::wake::lock;

/// See the head of this file. Changed by the thread that drives the write side.
#[derive(Debug, Default)]
pub(super) struct BackgroundSync {
    running: Option<Running>,
    /// What the threads report to; without it there are none.
    shared: Option<Arc<Shared>>,
}

/// One sync on a thread that ends with it.
#[derive(Debug)]
struct Running {
    covered: Covered,
    thread: thread::JoinHandle<()>,
    outcome: Arc<Mutex<Option<Outcome>>>,
}

impl BackgroundSync {
    /// From now on there are threads for it.
    pub(super) fn report_to(&mut self, shared: Arc<Shared>) {
        self.shared = Some(shared);
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether another one can begin.
    pub(super) fn is_ready(&self) -> bool {
        self.shared.is_some() && !self.is_running()
    }

    /// Begins one, if there is a thread to be had. None is running.
    pub(super) fn begin(&mut self, sync: FileSync) -> bool {
        self.running = self
            .shared
            .as_ref()
            .and_then(|shared| Running::begin(sync, Arc::clone(shared)));
        self.is_running()
    }

    /// What came of the one that is done, or after `wait`ing for it, if there is
    /// one.
    pub(super) fn outcome(&mut self, wait: bool) -> Option<Outcome> {
        let running = self.running.take_if(|running| wait || running.is_done())?;
        Some(running.wait())
    }
}

impl Drop for BackgroundSync {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // A buffer that closes or is poisoned does not ask for the outcome.
            let _ = running.thread.join();
        }
    }
}

impl Running {
    fn begin(sync: FileSync, shared: Arc<Shared>) -> Option<Self> {
        let (covered, outcome) = (sync.covered(), Arc::new(Mutex::new(None)));
        let report = Arc::clone(&outcome);
        let thread = thread::Builder::new()
            .name("forebay-sync".to_owned())
            .spawn(move || {
                let run = panic::AssertUnwindSafe(|| sync.run(&shared));
                // A storage that panics has synced nothing.
                let done = panic::catch_unwind(run).unwrap_or_else(|_| ended_early(covered));
                *lock(&report) = Some(done);
                shared.poke();
            });
        Some(Self {
            covered,
            thread: thread.ok()?,
            outcome,
        })
    }

    fn is_done(&self) -> bool {
        lock(&self.outcome).is_some()
    }

    fn wait(self) -> Outcome {
        let _ = self.thread.join();
        let outcome = lock(&self.outcome).take();
        outcome.unwrap_or_else(|| ended_early(self.covered))
    }
}

fn ended_early(covered: Covered) -> Outcome {
    Outcome {
        covered,
        result: Err(NotSynced::File(io::Error::other(
            "the thread that synced it panicked",
        ))),
        took: Duration::ZERO,
    }
}
