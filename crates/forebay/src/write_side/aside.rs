//! The sync that another thread does, so that writing goes on meanwhile.
//!
//! Invariants:
//! - There is one at a time, of the oldest file with bytes that no sync vouches for
//!   when it begins: a rolled one, or the current one.
//! - It vouches for what was written before it began, and for no more.
//! - What comes of it counts only if its file is still the oldest: it may have been
//!   deleted or given up meanwhile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::files::{FileSync, NotSynced, Outcome};
use crate::shared::Shared;
use crate::sync::{Mutex, thread};
use crate::wake::lock;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Aside {
    running: Option<Running>,
    /// What the threads report to; without it there are none.
    shared: Option<Arc<Shared>>,
}

/// One sync on a thread that ends with it.
#[derive(Debug)]
struct Running {
    sync: FileSync,
    thread: thread::JoinHandle<()>,
    outcome: Arc<Mutex<Option<Outcome>>>,
}

impl Aside {
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

    /// Begins one; none is running. Gives it back if there is no thread to be had.
    pub(super) fn begin(&mut self, sync: FileSync) -> Result<(), FileSync> {
        self.running = self
            .shared
            .as_ref()
            .and_then(|shared| Running::begin(&sync, Arc::clone(shared)));
        self.running.is_some().then_some(()).ok_or(sync)
    }

    /// The one that is running, or whose outcome nobody has asked for yet.
    pub(super) fn sync(&self) -> Option<&FileSync> {
        self.running.as_ref().map(|running| &running.sync)
    }

    /// What came of the one that is done, or after `wait`ing for it, if there is
    /// one.
    pub(super) fn outcome(&mut self, wait: bool) -> Option<(FileSync, Outcome)> {
        let running = self.running.take_if(|running| wait || running.is_done())?;
        Some(running.wait())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Who closes or poisons the buffer does not ask what came of it.
            let _ = running.thread.join();
        }
    }
}

impl Running {
    fn begin(sync: &FileSync, shared: Arc<Shared>) -> Option<Self> {
        let outcome = Arc::new(Mutex::new(None));
        let (for_thread, report) = (sync.clone(), Arc::clone(&outcome));
        let thread = thread::Builder::new()
            .name("forebay-sync".to_owned())
            .spawn(move || {
                let done = for_thread.run(&shared);
                // The last handle of a deleted file frees its space.
                drop(for_thread);
                *lock(&report) = Some(done);
                shared.poke();
            });
        Some(Self {
            sync: sync.clone(),
            thread: thread.ok()?,
            outcome,
        })
    }

    fn is_done(&self) -> bool {
        lock(&self.outcome).is_some()
    }

    fn wait(self) -> (FileSync, Outcome) {
        let _ = self.thread.join();
        let outcome = lock(&self.outcome).take();
        let outcome = outcome.unwrap_or_else(|| Outcome {
            result: Err(NotSynced::File(io::Error::other(
                "the thread that synced it ended early",
            ))),
            took: Duration::ZERO,
        });
        (self.sync, outcome)
    }
}
