//! When the ledger is synced: because it is time, because somebody asked, before a
//! data file is deleted.
//!
//! Invariant: a request is answered by a sync that began after it was made.

use super::failure::Trouble;
use crate::config::{Io, SyncPolicy};
use crate::error::Error;
use crate::format::file_id;
use crate::shared::Shared;
use crate::sync::Instant;
use crate::wake::lock;

/// See the head of this file. Changed by the thread that drives the write side.
#[derive(Debug, Default)]
pub(super) struct LedgerSync {
    /// When the ledger was first seen changed since its last sync began.
    dirty_since: Option<Instant>,
    /// The last request that was answered.
    ticket: u64,
}

impl LedgerSync {
    /// When a sync is due for its time.
    pub(super) fn due_at(&self, shared: &Shared) -> Option<Instant> {
        let since = self.dirty_since;
        let since = since.filter(|_| shared.limits.sync != SyncPolicy::Never);
        since.map(|since| since + shared.limits.flush_interval)
    }

    /// Syncs the ledger if it is due or asked for. Whether it did anything.
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
