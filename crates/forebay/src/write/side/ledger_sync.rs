//! When the ledger is synced: by the flush interval, on request, and before a data file is deleted.
//!
//! Invariant: a request is answered by a sync that began after it was made, or at once if no
//! acknowledgement is unsynced.

use super::failure::Trouble;
use crate::config::{Io, SyncPolicy};
use crate::error::Error;
use crate::format::file_id;
use crate::state::shared::Shared;
use crate::sync::Instant;
use crate::sync::wake::lock;

/// Since when the ledger is dirty, and which requests were answered. Changed only by the thread
/// that drives the write side.
#[derive(Debug, Default)]
pub(super) struct LedgerSync {
    /// When the ledger was first seen changed after its last sync began.
    dirty_since: Option<Instant>,
    /// The last request that was answered.
    ticket: u64,
}

impl LedgerSync {
    /// When the flush interval makes a sync due.
    pub(super) fn due_at(&self, shared: &Shared) -> Option<Instant> {
        let since = self.dirty_since;
        let since = since.filter(|_| shared.limits.sync != SyncPolicy::Never);
        since.map(|since| since + shared.limits.flush_interval)
    }

    /// Syncs the ledger if that is due or requested. Returns whether it did anything.
    pub(super) fn sync_if_due(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        let (ticket, closing) = {
            let intake = lock(&shared.intake);
            (intake.ledger_tickets, intake.closing)
        };
        let is_asked = ticket > self.ticket;
        if !shared.ledger.is_dirty() && !is_asked {
            self.dirty_since = None;
            return Ok(false);
        }
        if is_asked && !shared.ledger.has_unsynced_acks() {
            self.answer(shared, ticket);
            return Ok(true);
        }
        let since = *self.dirty_since.get_or_insert_with(Instant::now);
        let is_due = shared.limits.sync != SyncPolicy::Never
            && shared.limits.io == Io::Thread
            && since.elapsed() >= shared.limits.flush_interval;
        if !(is_asked || closing || is_due) {
            return Ok(false);
        }
        self.sync(shared)?;
        self.answer(shared, ticket);
        Ok(true)
    }

    /// Syncs the ledger now.
    pub(super) fn sync(&mut self, shared: &Shared) -> Result<(), Trouble> {
        self.dirty_since = None;
        shared.ledger.sync().map_err(|e| {
            let path = shared.dir.join(file_id::LEDGER_FILE_NAME);
            Trouble::Failed(Error::io("sync", &path, e))
        })
    }

    fn answer(&mut self, shared: &Shared, ticket: u64) {
        self.ticket = ticket;
        shared.publish_ledger_synced(ticket);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use super::super::testing::{BeforeSync, Setting, wait_until};
    use super::*;
    use crate::state::ledger::Ledger;
    use crate::storage::fault::{Errno, Op};
    use crate::storage::sim::Sim;
    use crate::storage::{Access, Entry, File, Lock, Map, Storage};

    /// A buffer whose ledger is synced.
    fn clean(change: impl FnOnce(crate::config::Config) -> crate::config::Config) -> Setting {
        let setting = Setting::with(change);
        setting.shared.ledger.sync().unwrap();
        setting
    }

    fn syncs(setting: &Setting) -> u64 {
        setting.count(Op::MapSync) - 1
    }

    fn answered(setting: &Setting) -> u64 {
        lock(&setting.shared.log).ledger_ticket
    }

    #[test]
    fn a_change_is_synced_when_the_interval_has_passed_since_it_was_seen() {
        let setting = clean(|config| config);
        let shared = &setting.shared;
        let mut sync = LedgerSync::default();
        assert!(!sync.sync_if_due(shared).unwrap());
        assert!(sync.due_at(shared).is_none(), "nothing has changed");
        let begin = Instant::now();
        shared.ledger.set_next_record_id(2);
        assert!(!sync.sync_if_due(shared).unwrap());
        let due = sync.due_at(shared).unwrap();
        assert!(due >= begin + shared.limits.flush_interval);
        // Later changes do not put it off.
        shared.ledger.set_next_record_id(3);
        assert!(!sync.sync_if_due(shared).unwrap());
        assert_eq!((sync.due_at(shared), syncs(&setting)), (Some(due), 0));

        let setting = clean(|config| config.flush_interval(Duration::from_millis(1)));
        let shared = &setting.shared;
        shared.ledger.set_next_record_id(2);
        sync = LedgerSync::default();
        wait_until(|| sync.sync_if_due(shared).unwrap());
        assert_eq!(syncs(&setting), 1);
        assert!(!shared.ledger.is_dirty() && sync.due_at(shared).is_none());
        let ledger = setting.sim.crash(0).read_file(setting.ledger_path());
        assert_eq!(ledger.unwrap(), shared.ledger.state().to_bytes());
    }

    #[test]
    fn time_alone_syncs_nothing_where_that_was_not_asked_for() {
        for (policy, io) in [
            (SyncPolicy::Never, Io::Thread),
            (SyncPolicy::Interval, Io::Caller),
        ] {
            let millisecond = Duration::from_millis(1);
            let setting = clean(|config| config.flush_interval(millisecond).sync(policy).io(io));
            let shared = &setting.shared;
            let mut sync = LedgerSync::default();
            shared.ledger.set_next_record_id(2);
            for _ in 0..3 {
                assert!(!sync.sync_if_due(shared).unwrap());
                std::thread::sleep(millisecond);
            }
            assert_eq!(sync.due_at(shared).is_none(), policy == SyncPolicy::Never);
            // On request, and when the buffer closes, it is synced.
            shared.ledger.set_reader_last_record_id(1);
            let ticket = shared.want_ledger_synced();
            assert!(sync.sync_if_due(shared).unwrap());
            assert_eq!((syncs(&setting), answered(&setting)), (1, ticket));
            shared.ledger.set_next_record_id(3);
            assert!(!sync.sync_if_due(shared).unwrap());
            lock(&shared.intake).closing = true;
            assert!(sync.sync_if_due(shared).unwrap());
            assert_eq!(syncs(&setting), 2);
        }
    }

    #[test]
    fn who_asks_is_answered_without_a_sync_if_no_acknowledgement_is_unsynced() {
        let setting = clean(|config| config);
        let shared = &setting.shared;
        let mut sync = LedgerSync::default();
        let first = shared.want_ledger_synced();
        assert!(sync.sync_if_due(shared).unwrap());
        assert_eq!((syncs(&setting), answered(&setting)), (0, first));
        assert!(!sync.sync_if_due(shared).unwrap(), "nobody asks any more");
        // The same if something else has changed in the ledger.
        shared.ledger.set_next_record_id(2);
        let second = shared.want_ledger_synced();
        assert!(sync.sync_if_due(shared).unwrap());
        assert_eq!((syncs(&setting), answered(&setting)), (0, second));
        shared.ledger.set_reader_last_record_id(1);
        let third = shared.want_ledger_synced();
        assert!(sync.sync_if_due(shared).unwrap());
        assert_eq!((syncs(&setting), answered(&setting)), (1, third));
    }

    #[test]
    fn a_failed_sync_answers_nobody_and_is_not_believed() {
        for errno in [Errno::Eio, Errno::Enospc, Errno::Emfile] {
            let setting = clean(|config| config);
            let shared = &setting.shared;
            let mut sync = LedgerSync::default();
            shared.ledger.set_reader_last_record_id(1);
            let ticket = shared.want_ledger_synced();
            setting.fail_next(Op::MapSync, errno);
            let trouble = sync.sync_if_due(shared).unwrap_err();
            // Space that comes back would not help: the page may be clean by now.
            assert!(matches!(trouble, Trouble::Failed(_)), "{errno:?}");
            assert_eq!(answered(&setting), 0);
            assert!(shared.ledger.is_dirty() && shared.ledger.has_unsynced_acks());
            assert!(ticket > 0);
        }
        let setting = clean(|config| config);
        setting.shared.ledger.set_reader_last_record_id(1);
        let ticket = setting.shared.want_ledger_synced();
        setting.fail_next(Op::MapSync, Errno::Eintr);
        let synced = LedgerSync::default().sync_if_due(&setting.shared);
        assert!(synced.unwrap());
        assert_eq!(answered(&setting), ticket);
    }

    /// A storage on which every sync of the ledger first acknowledges a record and requests a sync.
    #[derive(Debug, Clone)]
    struct Asking(Sim, Arc<OnceLock<Arc<Shared>>>);

    impl Storage for Asking {
        fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
            let shared = Arc::clone(&self.1);
            let hook = move || {
                let shared = shared.get().unwrap();
                let last = shared.ledger.state().reader_last_record_id;
                shared.ledger.set_reader_last_record_id(last + 1);
                shared.want_ledger_synced();
                Ok(())
            };
            Ok(Box::new(BeforeSync::new(self.0.map(path)?, hook)))
        }

        fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
            self.0.open(path, access)
        }

        fn create_dir(&self, _: &Path) -> io::Result<()> {
            unreachable!()
        }

        fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
            unreachable!()
        }

        fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
            unreachable!()
        }

        fn delete(&self, _: &Path) -> io::Result<()> {
            unreachable!()
        }

        fn sync_dir(&self, _: &Path) -> io::Result<()> {
            unreachable!()
        }

        fn lock(&self, _: &Path) -> io::Result<Box<dyn Lock>> {
            unreachable!()
        }

        fn free_bytes(&self, _: &Path) -> io::Result<Option<u64>> {
            unreachable!()
        }
    }

    #[test]
    fn who_asks_while_a_sync_runs_is_answered_by_the_next_one() {
        let mut setting = Setting::new();
        let asking = Asking(setting.sim.clone(), Arc::default());
        let (path, state) = (setting.ledger_path(), setting.shared.ledger.state());
        setting.shared_mut().ledger = Ledger::open(&asking, &path, state).unwrap();
        let shared = Arc::clone(&setting.shared);
        assert!(asking.1.set(Arc::clone(&shared)).is_ok());
        let mut sync = LedgerSync::default();
        let first = shared.want_ledger_synced();
        // The hook takes the locks of the intake and the log: none is held.
        assert!(sync.sync_if_due(&shared).unwrap());
        assert_eq!(answered(&setting), first);
        assert!(shared.ledger.has_unsynced_acks());
        assert!(sync.sync_if_due(&shared).unwrap());
        assert_eq!(answered(&setting), first + 1);
    }
}
