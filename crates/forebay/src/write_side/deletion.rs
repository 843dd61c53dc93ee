//! Deleting the data files in which everything is acknowledged.
//!
//! Invariants:
//! - The ledger that says so is synced first.
//! - A deleted file may be open for the moment that another thread takes to free
//!   its space; its name is gone and its bytes do not count any more.

use std::io;
use std::path::Path;

use super::{Trouble, WriteSide};
use crate::config::Io;
use crate::error::Error;
use crate::format::file_id;
use crate::log::Span;
use crate::shared::Shared;
use crate::storage::{Access, File, uninterrupted};
use crate::stream::Position;
use crate::sync::atomic::Ordering;
use crate::sync::{Instant, thread};
use crate::wake::lock;

/// Freeing the space of longer files takes the system so long that the write
/// side does not wait for it: some ten milliseconds for 128 MiB.
const LONG_FILE: u64 = 16 << 20;

/// Frees the space of deleted files on a thread that ends with that.
#[derive(Debug, Default)]
pub(super) struct Freeing(Option<thread::JoinHandle<()>>);

impl Freeing {
    /// The system frees a deleted file when it is closed for the last time.
    fn close(&mut self, file: Box<dyn File>) {
        self.finish();
        // If there is no thread to be had, it is closed here and now.
        self.0 = thread::Builder::new()
            .name("forebay-free".to_owned())
            .spawn(move || drop(file))
            .ok();
    }

    fn finish(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Freeing {
    fn drop(&mut self) {
        self.finish();
    }
}

impl WriteSide {
    /// Deletes what may be deleted; `None` if nothing may.
    pub(super) fn delete_acknowledged(&mut self, shared: &Shared) -> Option<Result<(), Trouble>> {
        let done = lock(&shared.acks).done();
        if done.offset < shared.head_end.load(Ordering::Acquire) {
            return self.replace_drained(shared, done);
        }
        let current_id = self.current_id();
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
            self.note_head_end(shared);
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
        let mut forgotten = None;
        for span in gone {
            forgotten = self.forget(shared, span.file_id).or(forgotten);
            let path = shared.dir.join(file_id::file_name(span.file_id));
            match self.delete_file(shared, &path, span.len) {
                Ok(()) => drop(self.extra.remove(&span.file_id)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    // Its space is still taken; opening the buffer again tries again.
                    let error = Error::io("delete", &path, e);
                    tracing::warn!(%error, "an acknowledged data file stays on disk");
                    self.note_extra(shared, span.file_id, span.len);
                }
            }
        }
        lock(&shared.log).spans.drain(..gone.len());
        self.note_head_end(shared);
        if let Some(end) = forgotten {
            shared.publish_synced(end);
        }
        lock(&shared.intake).set_disk(head, self.extra_bytes());
        self.retry = self.retry.map(|(_, pause)| (Instant::now(), pause));
        if self.is_idle() {
            // Nothing is left to show that there is space.
            self.space_came_back(shared);
        }
        shared.space.ring();
        Ok(())
    }

    /// Everything in a file is acknowledged, durably: whether it is synced, or has
    /// to move, matters no more. What counts as synced now, if that is news.
    fn forget(&mut self, shared: &Shared, file_id: u16) -> Option<Position> {
        if self.given_up.front().is_none_or(|f| f.file_id != file_id) {
            return self.rolled.forget(file_id);
        }
        self.given_up.pop_front();
        (!self.has_given_up()).then(|| lock(&shared.log).written)
    }

    fn delete_file(&mut self, shared: &Shared, path: &Path, len: u64) -> io::Result<()> {
        let long = len >= LONG_FILE && shared.limits.io == Io::Thread;
        let file = long
            .then(|| shared.storage.open(path, Access::Read).ok())
            .flatten();
        uninterrupted(|| shared.storage.delete(path))?;
        if let Some(file) = file {
            self.freeing.close(file);
        }
        Ok(())
    }

    /// A drained file that stands in the way gives way to a new one: it leaves no
    /// room for one more record under the limits (they may have been larger when
    /// it was written), or the disk is full, and may be full of it.
    fn replace_drained(&mut self, shared: &Shared, done: Position) -> Option<Result<(), Trouble>> {
        let len = self.current.as_ref()?.len;
        let disk_is_full = len > 0 && self.retry.is_some() && !self.waits_for_space(shared);
        if len <= shared.limits.data_file_size && !disk_is_full {
            return None;
        }
        if lock(&shared.log).written.offset != done.offset {
            return None;
        }
        self.cut_unpublished();
        match self.roll(shared) {
            // Not even a new file can be had: writing may have become possible.
            Err(Trouble::NoSpace(_)) if disk_is_full => None,
            rolled => Some(rolled),
        }
    }

    /// Takes back what a full disk took of a write that was not published.
    fn cut_unpublished(&mut self) {
        let Some(current) = &mut self.current else {
            return;
        };
        if current.begun > 0 {
            current.begun = 0;
            // If it cannot be cut, it goes with the file, or is written over.
            let _ = current.file.truncate(current.len);
        }
    }
}
