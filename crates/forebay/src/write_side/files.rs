//! The data files that this process writes: made, adopted, left for the next.
//!
//! Invariants:
//! - A new file is created exclusively.
//! - Nothing in a file is synced before its directory entry is.
//! - A file that is left with bytes no sync vouches for is among the rolled ones
//!   before the next one is appended to.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Trouble, WriteSide, trouble};
use crate::config::{Io, ReaderSees};
use crate::format::file_id;
use crate::log::Span;
use crate::shared::Shared;
use crate::storage::{Access, File, uninterrupted};
use crate::stream::Position;
use crate::sync::Instant;
use crate::wake::lock;

/// A data file that is appended to, or was.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) file_id: u16,
    pub(super) base: u64,
    pub(super) len: u64,
    /// So many bytes of the frame behind `len` are in it, not yet published.
    pub(super) begun: usize,
    pub(super) synced_len: u64,
    /// Up to where zeros were written ahead; what is below
    /// [`written_len`](Self::written_len) is none.
    pub(super) zeros_to: u64,
    /// Whether its directory entry is synced.
    entry_is_synced: bool,
}

/// Makes what a data file holds durable; not bound to the thread that writes it.
#[derive(Debug, Clone)]
pub(super) struct FileSync {
    file: Arc<dyn File>,
    with_entry: bool,
    covered: Covered,
}

/// What a sync vouches for: what was in the file before it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Covered {
    pub(super) file_id: u16,
    /// So many bytes of records, and where in the stream they end.
    pub(super) len: u64,
    pub(super) end: Position,
    /// When the first change was made that the sync is to make durable.
    pub(super) since: Instant,
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

impl FileSync {
    pub(super) fn covered(&self) -> Covered {
        self.covered
    }

    /// Does it. The file is closed here if it was deleted meanwhile and nobody else
    /// has it open: that frees its space, which takes a while.
    pub(super) fn run(self, shared: &Shared) -> Outcome {
        let start = Instant::now();
        let result = make_durable(&*self.file, self.with_entry, shared);
        Outcome {
            covered: self.covered,
            result,
            took: start.elapsed(),
        }
    }
}

fn make_durable(file: &dyn File, with_entry: bool, shared: &Shared) -> Result<(), NotSynced> {
    uninterrupted(|| file.sync()).map_err(NotSynced::File)?;
    if with_entry {
        uninterrupted(|| shared.storage.sync_dir(&shared.dir)).map_err(NotSynced::Entry)?;
    }
    Ok(())
}

impl OpenFile {
    /// A file as far as a span of the log tells, all of it synced.
    pub(super) fn new(file: Arc<dyn File>, path: PathBuf, span: Span) -> Self {
        Self {
            file,
            path,
            file_id: span.file_id,
            base: span.base,
            len: span.len,
            begun: 0,
            synced_len: span.len,
            zeros_to: 0,
            entry_is_synced: true,
        }
    }

    /// Makes durable what it holds.
    pub(super) fn sync(&mut self, shared: &Shared) -> Result<(), NotSynced> {
        make_durable(&*self.file, !self.entry_is_synced, shared)?;
        self.note_synced(self.len);
        Ok(())
    }

    /// What is to be done to make durable what it holds now, to the `end` of it,
    /// and what was changed `since` then.
    pub(super) fn to_sync(&self, end: Position, since: Instant) -> FileSync {
        debug_assert_eq!(end.offset, self.base + self.len);
        FileSync {
            file: Arc::clone(&self.file),
            with_entry: !self.entry_is_synced,
            covered: Covered {
                file_id: self.file_id,
                len: self.len,
                end,
                since,
            },
        }
    }

    /// It is synced up to `len`, and so is its entry. How many bytes that adds.
    pub(super) fn note_synced(&mut self, len: u64) -> u64 {
        self.entry_is_synced = true;
        let before = std::mem::replace(&mut self.synced_len, len);
        len - before
    }

    /// Where the bytes of frames end.
    pub(super) fn written_len(&self) -> u64 {
        self.len + self.begun as u64
    }

    /// How many bytes of records no sync vouches for.
    pub(super) fn unsynced(&self) -> u64 {
        self.len - self.synced_len
    }

    fn span(&self) -> Span {
        Span {
            file_id: self.file_id,
            base: self.base,
            len: self.len,
            modified: None,
        }
    }
}

impl WriteSide {
    /// Goes on in a new file. Leaves `given_up` filled if an older one turned
    /// out bad.
    pub(super) fn roll(&mut self, shared: &Shared) -> Result<(), Trouble> {
        // A power cut must not leave zeros in the middle of the stream. And where
        // no thread syncs, a reader of synced records would wait in vain.
        let nobody_else = shared.limits.io == Io::Caller;
        let must_sync = nobody_else && shared.limits.reader_sees == ReaderSees::Synced;
        if self.cut_zeros(shared) || (must_sync && self.is_dirty()) {
            self.sync(shared)?;
        }
        self.wait_for_rolled(shared)?;
        if self.has_given_up() {
            return Ok(());
        }
        let base = lock(&shared.log).written.offset;
        let created = self.create(shared, base)?;
        self.leave_current(shared);
        self.adopt(shared, created);
        Ok(())
    }

    /// Creates the next data file.
    pub(super) fn create(&mut self, shared: &Shared, base: u64) -> Result<OpenFile, Trouble> {
        for _ in 0..=u32::from(file_id::MAX_FILE_ID) {
            let id = self.next_file_id;
            let path = shared.dir.join(file_id::file_name(id));
            match uninterrupted(|| shared.storage.open(&path, Access::CreateNew)) {
                Ok(file) => {
                    self.next_file_id = file_id::next(id);
                    let span = Span {
                        file_id: id,
                        base,
                        len: 0,
                        modified: None,
                    };
                    let mut created = OpenFile::new(Arc::from(file), path, span);
                    created.entry_is_synced = false;
                    return Ok(created);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    self.next_file_id = file_id::next(id);
                }
                Err(e) => return Err(trouble("create", &path, e)),
            }
        }
        Err(Trouble::NoSpace(io::Error::other(
            "every data file id is in use",
        )))
    }

    /// Makes a created file, which begins where the stream ends, the current one.
    fn adopt(&mut self, shared: &Shared, created: OpenFile) {
        lock(&shared.log).spans.push_back(created.span());
        self.name_in_ledger(shared, created.file_id);
        self.go_on_in(shared, created);
    }

    /// Makes a file that the log and the ledger know the current one.
    pub(super) fn go_on_in(&mut self, shared: &Shared, file: OpenFile) {
        lock(&shared.intake).file_base = file.base;
        self.current = Some(file);
        self.note_head_end(shared);
    }

    /// Puts a created and synced file in the place of what an older one held
    /// beyond its synced length.
    pub(super) fn put_in_place(&mut self, shared: &Shared, created: &OpenFile, old: &OpenFile) {
        lock(&shared.log).replace_rest(old.file_id, old.synced_len, created.span());
        self.name_in_ledger(shared, created.file_id);
    }

    fn name_in_ledger(&mut self, shared: &Shared, file_id: u16) {
        let log = lock(&shared.log);
        let reader_file_id = log.spans.front().map_or(file_id, |span| span.file_id);
        drop(log);
        shared.ledger.set_file_ids(file_id, reader_file_id);
        self.ledger_dirty_since.get_or_insert_with(Instant::now);
    }

    pub(super) fn current_id(&self) -> Option<u16> {
        self.current.as_ref().map(|current| current.file_id)
    }

    /// Whenever the oldest file or the current one changed.
    pub(super) fn note_head_end(&self, shared: &Shared) {
        shared.set_head_end(&lock(&shared.log), self.current_id());
    }
}
