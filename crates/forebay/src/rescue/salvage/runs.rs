//! Where the records of the sources are: runs of frames that lie back to back with rising ids, and
//! their merge in the order of the ids.
//!
//! Invariants:
//! - Memory is bounded by the number of runs, and by a chunk for each run that overlaps in ids.
//! - Frames inside damage count if their checksums hold, none inside another.
//! - A run that is not the same when it is read again is an error: no record is left out
//!   without a word.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::counter::EventCounter;
use crate::error::{Error, ErrorKind, Result};
use crate::rescue::pieces::{each_whole_frame, is_worth_searching};
use crate::scan::{Check, Found, ScanOptions, Scanned, Scanner};
use crate::storage::{Access, File, Storage, uninterrupted};
use crate::sync::pool::Pool;

/// Chunks of this length are read, or of one frame that is longer.
const CHUNK_LEN: usize = 256 << 10;

/// Frames that lie back to back in one file, with rising ids.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    /// The index of the file.
    file: usize,
    place: Range<u64>,
    first_id: u64,
    last_id: u64,
    records: u64,
    /// It is one record that its delimiter does not lead to, so nothing is added to it.
    is_alone: bool,
}

/// A file with records.
#[derive(Debug)]
struct Piece {
    path: PathBuf,
    /// Open while a run of it is being read.
    open: Option<Weak<dyn File>>,
}

/// The runs of all sources.
#[derive(Debug)]
pub(super) struct Runs {
    storage: Arc<dyn Storage>,
    counter: EventCounter,
    max_frame_len: u64,
    pool: Pool,
    pieces: Vec<Piece>,
    runs: Vec<Run>,
}

/// What is known of the records of a file before it is read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// The records before this id were written.
    pub(super) written_to: u64,
    /// Records whose events all have ids up to this one are left out.
    pub(super) acknowledged: u64,
}

/// What was found in one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) bytes: u64,
    pub(super) records: u64,
    /// Records that were left out because they are acknowledged.
    pub(super) acknowledged: u64,
    /// Bytes that are no record.
    pub(super) damaged_bytes: u64,
}

/// One copy of a record, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub(super) id: u64,
    pub(super) metadata: u32,
    pub(super) payload: Bytes,
    pub(super) frame_len: u64,
    /// The index of the file, and the offset in it.
    pub(super) place: (usize, u64),
}

impl Copy {
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.metadata == other.metadata && self.payload == other.payload
    }
}

/// A run that is being read.
struct Cursor {
    scanner: Scanner,
    /// Keeps the file open.
    _file: Arc<dyn File>,
    /// How many records come after the last one that was read.
    left: u64,
}

impl Runs {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        counter: EventCounter,
        max_frame_len: u64,
    ) -> Self {
        Self {
            storage,
            counter,
            max_frame_len,
            pool: Pool::new(CHUNK_LEN, 2),
            pieces: Vec::new(),
            runs: Vec::new(),
        }
    }

    pub(super) fn path(&self, file: usize) -> &Path {
        &self.pieces[file].path
    }

    fn scanner(&self, file: &Arc<dyn File>, part: Range<u64>) -> Scanner {
        let options = ScanOptions {
            max_frame_len: self.max_frame_len,
            check: Check::Checksums,
        };
        let pool = self.pool.clone();
        Scanner::over_file(Arc::clone(file), part.start, part.end, options, pool)
    }

    /// Reads a file and takes note of its records. `progress` is told how many bytes of it are
    /// read.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn take(
        &mut self,
        path: PathBuf,
        known: Known,
        mut progress: impl FnMut(u64),
    ) -> Result<Tally> {
        let file = self.open(&path)?;
        let len = uninterrupted(|| file.len()).map_err(|e| Error::io("look at", &path, e))?;
        let mut scanner = self.scanner(&file, 0..len).written_to(known.written_to);
        let mut tally = Tally {
            bytes: len,
            ..Tally::default()
        };
        loop {
            let at = scanner.offset();
            let item = scanner.next().map_err(|e| Error::read(&path, at, e))?;
            match item {
                None => break,
                Some(Scanned::Record(found)) => {
                    let payload = scanner.payload(&found);
                    let is_alone = found.mended.is_some();
                    self.sort(&found, payload, is_alone, known, &mut tally);
                }
                Some(Scanned::Damage(damage)) => {
                    let end = len.min(damage.offset + damage.len);
                    tally.damaged_bytes += end - damage.offset;
                    if is_worth_searching(damage.kind) {
                        let (part, pool) = (damage.offset..end, self.pool.clone());
                        each_whole_frame(
                            &file,
                            part,
                            self.max_frame_len,
                            &pool,
                            |found, payload| {
                                tally.damaged_bytes -= found.frame_len;
                                self.sort(found, payload, true, known, &mut tally);
                            },
                        )
                        .map_err(|e| Error::read(&path, damage.offset, e))?;
                    }
                }
            }
            progress(scanner.offset());
        }
        self.pieces.push(Piece { path, open: None });
        Ok(tally)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        let file = uninterrupted(|| self.storage.open(path, Access::Read));
        file.map(Arc::from).map_err(|e| Error::io("open", path, e))
    }

    /// Takes note of a record of the file that is being read, unless it is acknowledged.
    fn sort(
        &mut self,
        found: &Found,
        payload: &[u8],
        is_alone: bool,
        known: Known,
        tally: &mut Tally,
    ) {
        let events = self.counter.count(found.metadata, payload);
        if found.id.saturating_add(events) <= known.acknowledged.saturating_add(1) {
            tally.acknowledged += 1;
            return;
        }
        tally.records += 1;
        let file = self.pieces.len();
        let place = found.offset..found.offset + found.frame_len;
        if let Some(run) = self.runs.last_mut()
            && !is_alone
            && !run.is_alone
            && run.file == file
            && run.place.end == place.start
            && run.last_id < found.id
        {
            run.place.end = place.end;
            run.last_id = found.id;
            run.records += 1;
            return;
        }
        self.runs.push(Run {
            file,
            place,
            first_id: found.id,
            last_id: found.id,
            records: 1,
            is_alone,
        });
    }

    /// Calls `each` with all copies of a record, for each id in order. Copies of the sources that
    /// were given first come first.
    ///
    /// # Errors
    /// Those of reading and of `each`, and [`ErrorKind::Io`] if a file was changed meanwhile.
    pub(super) fn merge(
        &mut self,
        mut each: impl FnMut(&Self, &[Copy]) -> Result<()>,
    ) -> Result<()> {
        let runs = std::mem::take(&mut self.runs);
        let result = self.merge_all(&runs, &mut each);
        self.runs = runs;
        result
    }

    fn merge_all(
        &mut self,
        runs: &[Run],
        each: &mut impl FnMut(&Self, &[Copy]) -> Result<()>,
    ) -> Result<()> {
        let firsts = runs.iter().enumerate();
        let mut next: BinaryHeap<_> = firsts
            .map(|(at, run)| Reverse((run.first_id, at)))
            .collect();
        // The runs that are being read, each with its next record.
        let mut reading: Vec<Option<(Cursor, Copy)>> = runs.iter().map(|_| None).collect();
        let mut copies: Vec<Copy> = Vec::new();
        while let Some(Reverse((id, at))) = next.pop() {
            if copies.first().is_some_and(|copy| copy.id != id) {
                each(self, &copies)?;
                copies.clear();
            }
            let (mut cursor, copy) = match reading[at].take() {
                Some(head) => head,
                None => {
                    let mut cursor = self.begin(&runs[at])?;
                    let copy = self.read(&mut cursor, runs[at].file)?;
                    (cursor, copy)
                }
            };
            if copy.id != id {
                return Err(self.was_changed(runs[at].file));
            }
            copies.push(copy);
            if cursor.left > 0 {
                let copy = self.read(&mut cursor, runs[at].file)?;
                next.push(Reverse((copy.id, at)));
                reading[at] = Some((cursor, copy));
            }
        }
        if copies.is_empty() {
            return Ok(());
        }
        each(self, &copies)
    }

    fn begin(&mut self, run: &Run) -> Result<Cursor> {
        let open = self.pieces[run.file].open.as_ref();
        let file = match open.and_then(Weak::upgrade) {
            Some(file) => file,
            None => {
                let file = self.open(&self.pieces[run.file].path)?;
                self.pieces[run.file].open = Some(Arc::downgrade(&file));
                file
            }
        };
        Ok(Cursor {
            scanner: self.scanner(&file, run.place.clone()),
            _file: file,
            left: run.records,
        })
    }

    fn read(&self, cursor: &mut Cursor, file: usize) -> Result<Copy> {
        let at = cursor.scanner.offset();
        let item = cursor.scanner.next();
        match item.map_err(|e| Error::read(self.path(file), at, e))? {
            Some(Scanned::Record(found)) => {
                cursor.left -= 1;
                Ok(Copy {
                    id: found.id,
                    metadata: found.metadata,
                    payload: cursor.scanner.slice(&found),
                    frame_len: found.frame_len,
                    place: (file, found.offset),
                })
            }
            _ => Err(self.was_changed(file)),
        }
    }

    fn was_changed(&self, file: usize) -> Error {
        let path = self.path(file);
        Error::with_path(
            ErrorKind::Io,
            path,
            format!(
                "{} is not what it was when it was read the first time; nothing was written: find \
                 out which program writes there, or copy it to another device first",
                path.display()
            ),
        )
    }
}
