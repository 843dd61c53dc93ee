//! Deleting the data files in which everything is acknowledged.
//!
//! Invariant: the ledger that says so is synced first.

use std::io;

use super::{Trouble, WriteSide};
use crate::error::Error;
use crate::format::file_id;
use crate::log::{Position, Span};
use crate::shared::Shared;
use crate::sync::Instant;
use crate::sync::atomic::Ordering;
use crate::wake::lock;

impl WriteSide {
    /// Deletes what may be deleted; `None` if nothing may.
    pub(super) fn delete_acknowledged(&mut self, shared: &Shared) -> Option<Result<(), Trouble>> {
        let done = lock(&shared.acks).done();
        if done.offset < shared.head_end.load(Ordering::Acquire) {
            return self.replace_drained(shared, done);
        }
        let current_id = self
            .current
            .as_ref()
            .or(self.given_up.as_ref())
            .map(|c| c.file_id);
        let (gone, reader_file_id, head) = {
            let log = lock(&shared.log);
            let count = log
                .spans
                .iter()
                .take_while(|s| s.end() <= done.offset && Some(s.file_id) != current_id)
                .count();
            let gone: Vec<Span> = log.spans.iter().take(count).copied().collect();
            let first = log.spans.get(count);
            (
                gone,
                first.map(|s| s.file_id),
                first.map_or(log.written.offset, |s| s.base),
            )
        };
        if gone.is_empty() {
            shared.set_head_end(&lock(&shared.log), current_id);
            return self.replace_drained(shared, done);
        }
        Some(self.delete(shared, &gone, reader_file_id, head))
    }

    fn delete(
        &mut self,
        shared: &Shared,
        gone: &[Span],
        reader_file_id: Option<u16>,
        head: u64,
    ) -> Result<(), Trouble> {
        let writer_file_id = shared.ledger.state().writer_file_id;
        shared
            .ledger
            .set_file_ids(writer_file_id, reader_file_id.unwrap_or(self.next_file_id));
        self.ledger_dirty_since = None;
        self.sync_ledger(shared)?;
        for span in gone {
            let path = shared.dir.join(file_id::file_name(span.file_id));
            match shared.storage.delete(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    // Its space is still taken; opening the buffer again tries again.
                    let error = Error::io("delete", &path, e);
                    tracing::warn!(%error, "an acknowledged data file stays on disk");
                    self.extra_bytes += span.len;
                }
            }
        }
        {
            let current_id = self
                .current
                .as_ref()
                .or(self.given_up.as_ref())
                .map(|c| c.file_id);
            let mut log = lock(&shared.log);
            log.spans.drain(..gone.len());
            shared.set_head_end(&log, current_id);
        }
        lock(&shared.intake).set_disk(head, self.extra_bytes);
        self.retry = self.retry.map(|(_, pause)| (Instant::now(), pause));
        shared.space.ring();
        Ok(())
    }

    /// A drained file that leaves no room for one more record under the limits
    /// (they may have been larger when it was written) gives way to a new one.
    fn replace_drained(&mut self, shared: &Shared, done: Position) -> Option<Result<(), Trouble>> {
        let len = self.current.as_ref()?.len;
        if len <= shared.limits.data_file_size {
            return None;
        }
        let drained = lock(&shared.log).written.offset == done.offset;
        drained.then(|| self.roll(shared))
    }
}
