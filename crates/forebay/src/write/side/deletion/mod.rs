//! Deleting the data files in which everything is acknowledged.
//!
//! Invariants:
//! - The ledger that holds the acknowledgements is synced first.
//! - A deleted file may stay open for the moment that another thread takes to free its space. Its
//!   name is gone then, and its bytes do not count any more.

use std::io;
use std::path::Path;

use super::WriteSide;
use super::failure::Trouble;
use super::open_file::OpenFile;
use crate::config::Io;
use crate::error::Error;
use crate::format::file_id;
use crate::state::log::Span;
use crate::state::shared::Shared;
use crate::state::stream::Position;
use crate::storage::{Access, File, uninterrupted};
use crate::sync::atomic::Ordering;
use crate::sync::thread;
use crate::sync::wake::lock;

/// The space of files of at least this length is freed on another thread, because it takes the
/// system long: some ten milliseconds for 128 MiB.
const LONG_FILE: u64 = 16 << 20;

/// Frees the space of a deleted file on a thread that ends with that.
#[derive(Debug, Default)]
pub(super) struct Deletion(Option<thread::JoinHandle<()>>);

impl Deletion {
    fn delete(&mut self, shared: &Shared, path: &Path, len: u64) -> io::Result<()> {
        let long = len >= LONG_FILE && shared.limits.io == Io::Thread;
        let file = long
            .then(|| shared.storage.open(path, Access::Read).ok())
            .flatten();
        uninterrupted(|| shared.storage.delete(path))?;
        if let Some(file) = file {
            self.close(file);
        }
        Ok(())
    }

    /// The system frees a deleted file when it is closed for the last time.
    fn close(&mut self, file: Box<dyn File>) {
        self.finish();
        // If no thread can be started, the file is closed here.
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

impl Drop for Deletion {
    fn drop(&mut self) {
        self.finish();
    }
}

impl WriteSide {
    /// Deletes the files in which everything is acknowledged. Returns whether it did anything.
    pub(super) fn delete_acknowledged(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        let done = lock(&shared.acks).done();
        if done.offset < shared.head_end.load(Ordering::Acquire) {
            return self.replace_drained(shared, done);
        }
        let current_id = self.files.current_id();
        let (gone, next_reader_id) = {
            let log = lock(&shared.log);
            let is_gone =
                |span: &&Span| span.end() <= done.offset && Some(span.file_id) != current_id;
            let gone: Vec<Span> = log.spans.iter().take_while(is_gone).copied().collect();
            let next = log.spans.get(gone.len()).map(|span| span.file_id);
            (gone, next)
        };
        if gone.is_empty() {
            self.files.note_head_end(shared);
            return self.replace_drained(shared, done);
        }
        let reader_id = next_reader_id.unwrap_or(self.files.next_file_id());
        let writer_id = shared.ledger.state().writer_file_id;
        shared.ledger.set_file_ids(writer_id, reader_id);
        self.ledger_sync.sync(shared)?;
        self.delete_files(shared, &gone);
        Ok(true)
    }

    fn delete_files(&mut self, shared: &Shared, gone: &[Span]) {
        let mut forgotten = None;
        for span in gone {
            forgotten = self.files.forget(span.file_id).or(forgotten);
            let path = shared.dir.join(file_id::file_name(span.file_id));
            match self.deletion.delete(shared, &path, span.len) {
                Ok(()) => self.files.note_gone(span.file_id),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    // Its space is still taken; the next opening of the buffer tries again.
                    let error = Error::io("delete", &path, e);
                    tracing::warn!(error = %format_args!("{error:#}"), "an acknowledged data file stays on disk");
                    self.files.note_outside(shared, span.file_id, span.len);
                }
            }
        }
        lock(&shared.log).spans.drain(..gone.len());
        self.files.note_head_end(shared);
        self.files.note_disk(shared);
        if let Some(end) = forgotten {
            self.synced_mark.advance_to(&self.files);
            shared.publish_synced(end);
        }
        self.failure.try_for_space_now();
        if self.appender.is_idle() && !self.files.has_failed() {
            // Nothing is left to write that would show whether there is space.
            self.failure.space_came_back(shared);
        }
        shared.space.ring();
    }

    /// Rolls over a current file in which everything is acknowledged, so that it can be deleted: it
    /// is longer than the limit (which may have been larger when it was written), or the disk is
    /// full, perhaps because of this file.
    fn replace_drained(&mut self, shared: &Shared, done: Position) -> Result<bool, Trouble> {
        let Some(len) = self.files.current().map(OpenFile::len) else {
            return Ok(false);
        };
        let disk_is_full =
            len > 0 && self.failure.lacks_space() && !self.failure.waits_for_space(shared);
        if len <= shared.limits.data_file_size && !disk_is_full {
            return Ok(false);
        }
        if lock(&shared.log).written.offset != done.offset {
            return Ok(false);
        }
        if let Some(current) = self.files.current_mut() {
            // Errors are ignored here: the file is deleted next, and needs no sync.
            current.forget_partial();
            let _ = current.cut_zeros();
        }
        match self.files.roll(shared) {
            // There is no space even for a new file. A write to the current one is tried next.
            Err(Trouble::NoSpace(_)) if disk_is_full => Ok(false),
            rolled => rolled.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests;
