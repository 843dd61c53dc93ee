//! A sync on another thread, so that writing goes on meanwhile.
//!
//! Invariants:
//! - At most one runs at a time, of the oldest file with a change that no sync covers.
//! - It covers what was written before it began, and nothing else.
//! - Its outcome counts only if its file is still open: everything in it may have been
//!   acknowledged meanwhile, and the file deleted.

use std::sync::Arc;
use std::time::Duration;
use std::{io, panic};

use super::open_file::{Covered, FileSync, NotSynced, Outcome};
use crate::state::shared::Shared;
use crate::sync::wake::lock;
use crate::sync::{Mutex, thread};

/// The sync that runs on another thread, if one does. Changed only by the thread that drives the
/// write side.
#[derive(Debug, Default)]
pub(super) struct BackgroundSync {
    running: Option<Running>,
    /// What the threads report to; while it is `None`, no threads are started.
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
    /// From now on syncs can run on threads.
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

    /// Begins a sync while none is running. False if no thread could be started.
    pub(super) fn begin(&mut self, sync: FileSync) -> bool {
        self.running = self
            .shared
            .as_ref()
            .and_then(|shared| Running::begin(sync, Arc::clone(shared)));
        self.is_running()
    }

    /// The outcome of the sync if it is done, or, with `wait`, once it is done. `None` if there is
    /// no sync.
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
                // If the storage panics, nothing counts as synced.
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::open_file::OpenFile;
    use super::super::testing::{BEGIN, BeforeSync, FRAME, PATIENCE, Setting, frames, wait_until};
    use super::*;
    use crate::storage::fault::{Errno, Op};
    use crate::storage::{Access, File, Storage};

    /// A new file with one record, which calls `before_sync` before each sync.
    fn file(
        setting: &Setting,
        before_sync: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> OpenFile {
        let path = setting.path_of(0);
        let inner = setting.fault.open(&path, Access::CreateNew).unwrap();
        let file: Arc<dyn File> = Arc::new(BeforeSync::new(inner, before_sync));
        let mut file = OpenFile::created(file, path, 0, BEGIN, 1);
        write(&mut file);
        file
    }

    fn write(file: &mut OpenFile) {
        let frames = frames(file.end(), 1);
        file.write(&frames, frames.len()).unwrap();
        file.publish(frames.end);
    }

    /// A file whose sync sends a message when it begins, and goes on when it gets one.
    fn gated(setting: &Setting) -> (OpenFile, Receiver<Option<String>>, Sender<()>) {
        let (begun, has_begun) = channel();
        let (open, gate) = channel();
        let gate = Mutex::new(gate);
        let file = file(setting, move || {
            let name = std::thread::current().name().map(str::to_owned);
            begun.send(name).unwrap();
            lock(&gate).recv_timeout(PATIENCE).unwrap();
            Ok(())
        });
        (file, has_begun, open)
    }

    fn ready(setting: &Setting) -> BackgroundSync {
        let mut background = BackgroundSync::default();
        background.report_to(Arc::clone(&setting.shared));
        background
    }

    #[test]
    fn without_threads_nothing_begins() {
        let setting = Setting::new();
        let mut file = file(&setting, || panic!("nobody may sync it"));
        let mut background = BackgroundSync::default();
        assert!(!background.is_ready() && !background.is_running());
        assert!(!background.begin(file.begin_sync(1).unwrap()));
        assert!(!background.is_running());
        assert!(background.outcome(true).is_none());
    }

    #[test]
    fn writing_goes_on_while_another_thread_syncs_what_was_there_before() {
        let setting = Setting::new();
        let (mut file, has_begun, open) = gated(&setting);
        let mut background = ready(&setting);
        assert!(background.is_ready() && !background.is_running());
        assert!(background.begin(file.begin_sync(1).unwrap()));
        let thread = has_begun.recv().unwrap();
        assert_eq!(thread.as_deref(), Some("forebay-sync"));
        assert!(background.is_running() && !background.is_ready());
        assert!(background.outcome(false).is_none(), "it is not done");
        assert!(background.is_running(), "looking did not end it");
        write(&mut file);
        assert!(!lock(&setting.shared.intake).is_roused());
        open.send(()).unwrap();
        // The write side is roused when there is an outcome to take.
        wait_until(|| lock(&setting.shared.intake).is_roused());
        let outcome = background.outcome(false).unwrap();
        assert!(outcome.result.is_ok());
        let covered = outcome.covered;
        assert_eq!((covered.len, covered.entries), (FRAME, Some(1)));
        assert!(background.is_ready() && background.outcome(true).is_none());
        assert_eq!(file.note_synced(&covered), FRAME);
        assert_eq!(file.unsynced(), FRAME);
        // The file and its entry are on the disk.
        let after = setting.sim.crash(0).read_file(setting.path_of(0));
        assert!(after.unwrap().len() as u64 >= FRAME);
    }

    #[test]
    fn who_waits_for_the_outcome_gets_it() {
        let setting = Setting::new();
        let (mut file, has_begun, open) = gated(&setting);
        let mut background = ready(&setting);
        assert!(background.begin(file.begin_sync(1).unwrap()));
        let opener = std::thread::spawn(move || {
            has_begun.recv().unwrap();
            std::thread::sleep(Duration::from_millis(20));
            open.send(()).unwrap();
        });
        let outcome = background.outcome(true).unwrap();
        assert!(outcome.result.is_ok());
        assert!(outcome.took >= Duration::from_millis(20));
        opener.join().unwrap();
    }

    #[test]
    fn a_failed_sync_is_reported_with_what_it_did_not_cover() {
        for (op, errno) in [
            (Op::Sync, Errno::Eio),
            (Op::Sync, Errno::Enospc),
            (Op::DirSync, Errno::Eio),
            (Op::DirSync, Errno::Emfile),
        ] {
            let setting = Setting::new();
            let mut file = file(&setting, || Ok(()));
            let mut background = ready(&setting);
            setting.fail_next(op, errno);
            assert!(background.begin(file.begin_sync(1).unwrap()));
            let outcome = background.outcome(true).unwrap();
            assert_eq!(outcome.covered.len, FRAME);
            let (error, of_file) = match outcome.result.unwrap_err() {
                NotSynced::File(error) => (error, true),
                NotSynced::Entry(error) => (error, false),
            };
            assert_eq!(of_file, op == Op::Sync);
            assert_eq!(error.raw_os_error(), errno.error().raw_os_error());
        }
        // A signal is no failure.
        let setting = Setting::new();
        let mut file = file(&setting, || Ok(()));
        let mut background = ready(&setting);
        setting.fail_next(Op::Sync, Errno::Eintr);
        setting.fail_next(Op::DirSync, Errno::Eintr);
        assert!(background.begin(file.begin_sync(1).unwrap()));
        assert!(background.outcome(true).unwrap().result.is_ok());
        assert_eq!(setting.fault.failures(), 2);
    }

    #[test]
    fn a_storage_that_panics_has_synced_nothing() {
        let setting = Setting::new();
        // Without the message of the panic hook.
        let mut file = file(&setting, || panic::resume_unwind(Box::new(())));
        let mut background = ready(&setting);
        assert!(background.begin(file.begin_sync(1).unwrap()));
        wait_until(|| lock(&setting.shared.intake).is_roused());
        let outcome = background.outcome(false).unwrap();
        assert!(matches!(outcome.result, Err(NotSynced::File(_))));
        assert_eq!(outcome.covered.len, FRAME);
        assert!(background.is_ready());
    }

    #[test]
    fn whoever_drops_it_waits_for_the_sync_that_runs() {
        let setting = Setting::new();
        let (done, is_done) = channel();
        let mut file = file(&setting, move || {
            std::thread::sleep(Duration::from_millis(20));
            done.send(()).unwrap();
            Ok(())
        });
        let mut background = ready(&setting);
        assert!(background.begin(file.begin_sync(1).unwrap()));
        drop(background);
        assert!(is_done.try_recv().is_ok());
        assert_eq!(setting.count(Op::DirSync), 1, "it came to its end");
    }
}
