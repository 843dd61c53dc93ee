//! One data file that this process appends to, or has appended to.
//!
//! Invariants:
//! - `synced_len <= len <= len + partial`, in bytes of the file. If `zeros_to` is larger,
//!   preallocated zeros end there; otherwise there are none.
//! - A sync covers what was written before it began, and nothing else.
//! - Nothing in a file counts as synced before its directory entry is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::failure::is_no_space;
use crate::error::Error;
use crate::state::shared::Shared;
use crate::state::stream::{Frames, Position};
use crate::storage::{File, uninterrupted, write_all};
use crate::sync::Instant;

/// A data file with its written, its synced and its failed part. Changed only by the thread that
/// drives the write side.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: Arc<dyn File>,
    path: PathBuf,
    file_id: u16,
    /// The stream offset of its first byte.
    base: u64,
    /// Where its records end in the stream.
    end: Position,
    /// Bytes of frames after its records that are in the file but not published, because a full
    /// disk or an error ended the write.
    partial: usize,
    synced_len: u64,
    /// Preallocated zeros end here.
    zeros_to: u64,
    entry: Entry,
    /// When it was first changed after its last sync began.
    dirty_since: Option<Instant>,
    /// Why the bytes that no sync covers cannot be trusted.
    failure: Option<Error>,
    /// The length at which it failed last; a second failure there is final.
    failed_at: Option<u64>,
}

/// A file's directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// Not known to be synced; the file is the n-th that was created since the buffer was opened.
    Created(u64),
    Synced,
}

/// A sync of a data file, which can run on another thread than the writes.
#[derive(Debug, Clone)]
pub(super) struct FileSync {
    file: Arc<dyn File>,
    covered: Covered,
}

/// What a sync makes durable: what was in the file before it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Covered {
    pub(super) file_id: u16,
    /// Bytes of records in the file, and where they end in the stream.
    pub(super) len: u64,
    pub(super) end: Position,
    /// When the oldest change was made that the sync makes durable.
    pub(super) since: Instant,
    /// `Some(n)`: the directory is synced as well, and with it the entries of the first n files
    /// that were created since the buffer was opened.
    pub(super) entries: Option<u64>,
}

/// How a sync ended, and how long it took.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) covered: Covered,
    pub(super) result: Result<(), NotSynced>,
    pub(super) took: Duration,
}

/// What could not be synced.
#[derive(Debug)]
pub(super) enum NotSynced {
    File(io::Error),
    Entry(io::Error),
}

/// What a failed write, cut or sync means for its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileFailure {
    /// The bytes that no sync covers have to be written again.
    New,
    /// They have to be already, because of an earlier failure.
    Known,
    /// They were written again after an earlier failure, and nothing was added since: the buffer is
    /// poisoned.
    Final,
}

impl FileSync {
    pub(super) fn covered(&self) -> Covered {
        self.covered
    }

    /// Does the sync. If the file was deleted meanwhile and is open nowhere else, this closes it,
    /// which frees its space and takes a while.
    pub(super) fn run(self, shared: &Shared) -> Outcome {
        let start = Instant::now();
        let result = self.make_durable(shared);
        Outcome {
            covered: self.covered,
            result,
            took: start.elapsed(),
        }
    }

    fn make_durable(&self, shared: &Shared) -> Result<(), NotSynced> {
        uninterrupted(|| self.file.sync()).map_err(NotSynced::File)?;
        if self.covered.entries.is_some() {
            uninterrupted(|| shared.storage.sync_dir(&shared.dir)).map_err(NotSynced::Entry)?;
        }
        Ok(())
    }
}

impl OpenFile {
    /// A file with records up to `end`. They are synced, and so is its directory entry.
    pub(super) fn new(
        file: Arc<dyn File>,
        path: PathBuf,
        file_id: u16,
        base: u64,
        end: Position,
    ) -> Self {
        Self {
            file,
            path,
            file_id,
            base,
            end,
            partial: 0,
            synced_len: end.offset - base,
            zeros_to: 0,
            entry: Entry::Synced,
            dirty_since: None,
            failure: None,
            failed_at: None,
        }
    }

    /// A file that was just created, empty, at the stream's `end`: the `nth` since the buffer was
    /// opened.
    pub(super) fn created(
        file: Arc<dyn File>,
        path: PathBuf,
        file_id: u16,
        end: Position,
        nth: u64,
    ) -> Self {
        let mut created = Self::new(file, path, file_id, end.offset, end);
        created.entry = Entry::Created(nth);
        created
    }

    pub(super) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file_id(&self) -> u16 {
        self.file_id
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Where its records end in the stream.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    /// The bytes of its records.
    pub(super) fn len(&self) -> u64 {
        self.end.offset - self.base
    }

    pub(super) fn synced_len(&self) -> u64 {
        self.synced_len
    }

    /// Bytes of records that no sync covers.
    pub(super) fn unsynced(&self) -> u64 {
        self.len() - self.synced_len
    }

    // ---- writing ----

    /// Bytes of frames after its records that are in the file already.
    pub(super) fn partial(&self) -> usize {
        self.partial
    }

    /// Writes the frames up to `to`, from where the last write ended.
    ///
    /// # Errors
    /// The storage's. How far the write got is [`partial`](Self::partial).
    pub(super) fn write(&mut self, frames: &Frames, to: usize) -> io::Result<()> {
        while self.partial < to {
            let at = self.len() + self.partial as u64;
            let bytes = &frames.bytes[self.partial..to];
            self.note_change();
            match uninterrupted(|| self.file.write_at(bytes, at))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => self.partial += n,
            }
        }
        Ok(())
    }

    /// Makes the written bytes up to `end` part of the records.
    pub(super) fn publish(&mut self, end: Position) {
        let len = (end.offset - self.end.offset) as usize;
        debug_assert!(len <= self.partial);
        self.partial -= len;
        self.end = end;
    }

    /// Writes bytes of its records again, at the offset in the file where they are.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn write_again(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        debug_assert!(at + bytes.len() as u64 <= self.len());
        self.note_change();
        write_all(&*self.file, bytes, at)
    }

    /// Drops the bytes that were written but not published.
    pub(super) fn forget_partial(&mut self) {
        if self.partial > 0 {
            self.partial = 0;
            // If the cut fails, the bytes are overwritten later, or deleted with the file.
            let _ = self.file.truncate(self.len());
        }
    }

    fn note_change(&mut self) {
        self.dirty_since.get_or_insert_with(Instant::now);
    }

    // ---- preallocated zeros ----

    /// How many preallocated zeros are left after the records.
    pub(super) fn zeros_left(&self) -> u64 {
        let written_len = self.len() + self.partial as u64;
        self.zeros_to.saturating_sub(written_len)
    }

    /// Writes zeros after the records, up to `to`.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn write_zeros(&mut self, to: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let written_len = self.len() + self.partial as u64;
        let mut at = written_len.max(self.zeros_to);
        while at < to {
            let len = (to - at).min(ZEROS.len() as u64) as usize;
            match uninterrupted(|| self.file.write_at(&ZEROS[..len], at))? {
                0 => break,
                n => at += n as u64,
            }
            self.zeros_to = at;
        }
        Ok(())
    }

    /// Cuts the zeros; a sync makes that durable. Returns whether there were any.
    ///
    /// # Errors
    /// The storage's; the zeros are still there then.
    pub(super) fn cut_zeros(&mut self) -> io::Result<bool> {
        if self.zeros_left() == 0 {
            return Ok(false);
        }
        let to = self.len() + self.partial as u64;
        self.cut(to)?;
        Ok(true)
    }

    /// Cuts whatever is after the records: a failed sync may have brought it back.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn cut_rest(&mut self) -> io::Result<()> {
        self.partial = 0;
        // Usually there is nothing to cut, and so no cut that could fail.
        if uninterrupted(|| self.file.len()).is_ok_and(|len| len <= self.len()) {
            self.zeros_to = 0;
            return Ok(());
        }
        self.cut(self.len())
    }

    fn cut(&mut self, to: u64) -> io::Result<()> {
        let result = uninterrupted(|| self.file.truncate(to));
        // A cut that fails for want of space has changed nothing that a sync would have to cover.
        if result.as_ref().err().is_none_or(|e| !is_no_space(e)) {
            self.note_change();
        }
        result?;
        self.zeros_to = 0;
        Ok(())
    }

    // ---- syncing ----

    pub(super) fn dirty_since(&self) -> Option<Instant> {
        self.dirty_since
    }

    /// A sync of what the file holds now; `None` if it is clean. From here on only later changes
    /// make it dirty. `created` files were created since the buffer was opened.
    pub(super) fn begin_sync(&mut self, created: u64) -> Option<FileSync> {
        debug_assert!(self.failure.is_none(), "written again first");
        Some(FileSync {
            file: Arc::clone(&self.file),
            covered: Covered {
                file_id: self.file_id,
                len: self.len(),
                end: self.end,
                since: self.dirty_since.take()?,
                entries: (self.entry != Entry::Synced).then_some(created),
            },
        })
    }

    /// Notes a successful sync. Returns how many more bytes are synced by it.
    pub(super) fn note_synced(&mut self, covered: &Covered) -> u64 {
        let before = std::mem::replace(&mut self.synced_len, covered.len);
        covered.len - before
    }

    /// Notes that the directory entries of the first `count` created files are synced.
    pub(super) fn note_entries_synced(&mut self, count: u64) {
        if matches!(self.entry, Entry::Created(nth) if nth <= count) {
            self.entry = Entry::Synced;
        }
    }

    /// Undoes [`begin_sync`](Self::begin_sync): that sync was not done and can be repeated.
    pub(super) fn take_back(&mut self, covered: &Covered) {
        self.dirty_since = Some(covered.since);
    }

    // ---- failures ----

    /// Notes a failure: the bytes that no sync covers cannot be trusted any more.
    pub(super) fn fail(&mut self, error: Error) -> FileFailure {
        let failure = if self.failure.is_some() {
            FileFailure::Known
        } else if self.failed_at == Some(self.len()) {
            FileFailure::Final
        } else {
            FileFailure::New
        };
        self.failed_at = Some(self.len());
        self.partial = 0;
        self.note_change();
        self.failure = Some(error);
        failure
    }

    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Everything that no sync covers was written again, so a sync can be trusted.
    pub(super) fn trust_again(&mut self) {
        self.failure = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::frames;
    use super::*;
    use crate::storage::sim::Sim;
    use crate::storage::{Access, Storage};

    fn created(sim: &Sim) -> OpenFile {
        let path = PathBuf::from("/file");
        let file = sim.open(&path, Access::CreateNew).unwrap();
        let end = Position {
            next_id: 1,
            offset: 1000,
        };
        OpenFile::created(Arc::from(file), path, 0, end, 1)
    }

    fn write(file: &mut OpenFile, count: u64) {
        let frames = frames(file.end(), count);
        file.write(&frames, frames.len()).unwrap();
        file.publish(frames.end);
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let mut file = created(&Sim::new());
        assert!(file.begin_sync(1).is_none(), "nothing is dirty");
        write(&mut file, 2);
        let covered = file.begin_sync(1).unwrap().covered();
        assert_eq!((covered.len, covered.end.next_id), (96, 3));
        assert!(file.dirty_since().is_none());
        write(&mut file, 1);
        assert_eq!(file.note_synced(&covered), 96);
        assert_eq!((file.synced_len(), file.unsynced()), (96, 48));
        assert!(file.dirty_since().is_some());
    }

    #[test]
    fn a_sync_of_the_directory_makes_all_entries_durable_that_there_were() {
        let mut file = created(&Sim::new());
        for (synced, with_entry) in [(0, true), (1, false)] {
            file.note_entries_synced(synced);
            write(&mut file, 1);
            let covered = file.begin_sync(3).unwrap().covered();
            assert_eq!(covered.entries, with_entry.then_some(3));
        }
    }

    #[test]
    fn what_a_write_left_of_a_record_is_no_record() {
        let sim = Sim::new();
        let mut file = created(&sim);
        write(&mut file, 1);
        let two = frames(file.end(), 2);
        file.write(&two, 60).unwrap();
        assert_eq!((file.len(), file.partial()), (48, 60));
        // The next write goes on there.
        file.write(&two, 96).unwrap();
        file.publish(two.end);
        assert_eq!((file.len(), file.partial()), (144, 0));
        file.write(&frames(file.end(), 1), 10).unwrap();
        file.forget_partial();
        assert_eq!(sim.read_file("/file").unwrap().len(), 144);
    }

    #[test]
    fn a_second_failure_with_nothing_in_between_is_final() {
        let error = || Error::io("sync", Path::new("/file"), io::Error::other("x"));
        let mut file = created(&Sim::new());
        write(&mut file, 1);
        assert_eq!(file.fail(error()), FileFailure::New);
        assert_eq!(file.fail(error()), FileFailure::Known);
        file.trust_again();
        assert_eq!(file.fail(error()), FileFailure::Final);
        file.trust_again();
        write(&mut file, 1);
        assert_eq!(file.fail(error()), FileFailure::New, "it got further");
    }

    #[test]
    fn preallocated_zeros_are_used_up_and_cut() {
        let sim = Sim::new();
        let mut file = created(&sim);
        write(&mut file, 1);
        assert!(!file.cut_zeros().unwrap());
        file.write_zeros(200).unwrap();
        assert_eq!(file.zeros_left(), 152);
        write(&mut file, 2);
        assert_eq!(file.zeros_left(), 56);
        assert_eq!(sim.read_file("/file").unwrap().len(), 200);
        assert!(file.cut_zeros().unwrap());
        assert_eq!(sim.read_file("/file").unwrap().len(), 144);
        assert_eq!(file.zeros_left(), 0);
    }
}
