//! The data files that this process has open for writing: they are created, rolled over, closed.
//!
//! Invariants:
//! - They are in the order of the stream. The last is the current one, which is
//!   appended to, unless there is none; those before it are complete.
//! - A complete file stays open until a sync covers all of it, or everything in it is acknowledged
//!   durably.
//! - A file is created exclusively, and a file id is not used again while its file
//!   exists.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::failure::{Trouble, trouble};
use super::open_file::{Covered, FileSync, OpenFile};
use crate::format::file_id;
use crate::state::log::Span;
use crate::state::shared::Shared;
use crate::state::stream::Position;
use crate::storage::{Access, File, uninterrupted};
use crate::sync::Instant;
use crate::sync::wake::lock;

/// The open data files, in the order of the stream. Changed only by the thread that drives the
/// write side.
#[derive(Debug)]
pub(super) struct Files {
    open: VecDeque<OpenFile>,
    /// Whether the last open file is the current one.
    has_current: bool,
    next_file_id: u16,
    /// How many files were created since the buffer was opened.
    created: u64,
    /// Bytes on disk that are no part of the stream, by the id of their file.
    outside: BTreeMap<u16, u64>,
}

impl Files {
    /// `current` is the file to append to, with its path and its span of the log,
    /// which ends at `end`.
    pub(super) fn new(
        current: Option<(Arc<dyn File>, PathBuf, Span)>,
        end: Position,
        next_file_id: u16,
    ) -> Self {
        let open: VecDeque<_> = current
            .map(|(file, path, span)| OpenFile::new(file, path, span.file_id, span.base, end))
            .into_iter()
            .collect();
        Self {
            has_current: !open.is_empty(),
            open,
            next_file_id,
            created: 0,
            outside: BTreeMap::new(),
        }
    }

    pub(super) fn current(&self) -> Option<&OpenFile> {
        self.open.back().filter(|_| self.has_current)
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut OpenFile> {
        self.open.back_mut().filter(|_| self.has_current)
    }

    pub(super) fn current_id(&self) -> Option<u16> {
        self.current().map(OpenFile::file_id)
    }

    pub(super) fn oldest(&self) -> Option<&OpenFile> {
        self.open.front()
    }

    pub(super) fn next_file_id(&self) -> u16 {
        self.next_file_id
    }

    /// The complete files that no sync covers yet, oldest first.
    pub(super) fn complete(&self) -> impl DoubleEndedIterator<Item = &OpenFile> {
        let count = self.open.len() - usize::from(self.has_current);
        self.open.iter().take(count)
    }

    // ---- what is to be synced ----

    /// When the oldest change was made that no sync covers, not even a running one.
    pub(super) fn dirty_since(&self) -> Option<Instant> {
        self.open.iter().find_map(OpenFile::dirty_since)
    }

    /// The oldest file with a change that no sync covers.
    pub(super) fn oldest_dirty(&mut self) -> Option<&mut OpenFile> {
        self.open
            .iter_mut()
            .find(|file| file.dirty_since().is_some())
    }

    /// A sync of the oldest file with a change that no sync covers; `None` if there is no such
    /// file, or if it has to be written again first.
    pub(super) fn begin_sync(&mut self) -> Option<FileSync> {
        let created = self.created;
        self.oldest_dirty()
            .filter(|file| file.failure().is_none())
            .and_then(|file| file.begin_sync(created))
    }

    /// Notes a successful sync. Returns how many more bytes are synced by it, or `None` if its file
    /// is not open any more.
    pub(super) fn note_synced(&mut self, covered: &Covered) -> Option<u64> {
        // One sync of the directory makes the entries of all files durable.
        for file in &mut self.open {
            file.note_entries_synced(covered.entries.unwrap_or(0));
        }
        let file = self.file_mut(covered.file_id)?;
        let bytes = file.note_synced(covered);
        while self
            .complete()
            .next()
            .is_some_and(|oldest| oldest.dirty_since().is_none() && oldest.unsynced() == 0)
        {
            self.open.pop_front();
        }
        Some(bytes)
    }

    pub(super) fn file_mut(&mut self, file_id: u16) -> Option<&mut OpenFile> {
        self.open.iter_mut().find(|file| file.file_id() == file_id)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.open.iter().any(|file| file.failure().is_some())
    }

    /// Closes a complete file in which everything is acknowledged durably, so that it needs no
    /// sync. Returns where it ends, if no sync covered all of it.
    pub(super) fn forget(&mut self, file_id: u16) -> Option<Position> {
        let oldest = self.complete().next()?;
        if oldest.file_id() != file_id {
            return None;
        }
        self.open.pop_front().map(|file| file.end())
    }

    // ---- rolling ----

    /// Creates the next file and makes it the current one. The one before it is closed if a sync
    /// covers all of it.
    pub(super) fn roll(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let end = lock(&shared.log).written;
        let created = self.create(shared, end)?;
        let is_synced = |file: &OpenFile| file.dirty_since().is_none() && file.unsynced() == 0;
        if self.current().is_some_and(is_synced) {
            self.open.pop_back();
        }
        let (file_id, base) = (created.file_id(), created.base());
        self.open.push_back(created);
        self.has_current = true;
        let reader_file_id = {
            let mut log = lock(&shared.log);
            log.zeros_ahead = 0;
            log.spans.push_back(Span {
                file_id,
                base,
                len: 0,
                modified: None,
            });
            log.spans.front().map_or(file_id, |span| span.file_id)
        };
        shared.ledger.set_file_ids(file_id, reader_file_id);
        lock(&shared.intake).file_base = base;
        self.note_head_end(shared);
        Ok(())
    }

    fn create(&mut self, shared: &Shared, end: Position) -> Result<OpenFile, Trouble> {
        for _ in 0..=u32::from(file_id::MAX_FILE_ID) {
            let id = self.next_file_id;
            let path = shared.dir.join(file_id::file_name(id));
            let opened = uninterrupted(|| shared.storage.open(&path, Access::CreateNew));
            match opened {
                Ok(file) => {
                    self.next_file_id = file_id::next(id);
                    self.created += 1;
                    let (file, nth) = (Arc::from(file), self.created);
                    return Ok(OpenFile::created(file, path, id, end, nth));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    self.next_file_id = file_id::next(id);
                }
                Err(e) => return Err(trouble("create", &path, e)),
            }
        }
        Err(Trouble::NoSpace(io::Error::other(
            "each of the 65,535 data file ids is in use",
        )))
    }

    /// To be called whenever the oldest file or the current one changed.
    pub(super) fn note_head_end(&self, shared: &Shared) {
        shared.set_head_end(&lock(&shared.log), self.current_id());
    }

    // ---- what is on disk ----

    /// Notes that bytes of a file are on disk but no part of the stream.
    pub(super) fn note_outside(&mut self, shared: &Shared, file_id: u16, bytes: u64) {
        *self.outside.entry(file_id).or_default() += bytes;
        self.note_disk(shared);
    }

    /// Notes that a file was deleted, with whatever was in it.
    pub(super) fn note_gone(&mut self, file_id: u16) {
        self.outside.remove(&file_id);
    }

    pub(super) fn outside_bytes(&self) -> u64 {
        self.outside.values().sum()
    }

    /// Tells the intake what is on disk, for the limit on size.
    pub(super) fn note_disk(&self, shared: &Shared) {
        let oldest_offset = lock(&shared.log).oldest_offset();
        lock(&shared.intake).set_disk(oldest_offset, self.outside_bytes());
    }
}

#[cfg(test)]
mod tests;
