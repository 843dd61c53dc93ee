//! Finds the first record of a data file with as few reads as possible.
//!
//! Invariants:
//! - An undamaged file costs one read if its first frame has at most 4 KiB, otherwise two.
//!   Nothing after the first frame is used.
//! - An id needs a checksum that holds, except that of a frame too long to
//!   check in every file; [`FirstRecords::settle`] checks that one on demand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::counter::EventCounter;
use crate::error::{Error, Result};
use crate::format::record::{FRAME_OVERHEAD, Frame, ROOT_LEN, Root, stated_len};
use crate::scan::sequence::{IdRun, LookAhead};
use crate::scan::{Check, ScanOptions, Scanned, Scanner, is_device_error};
use crate::storage::{File, Storage, read_full};
use crate::sync::pool::Pool;

use super::{SurveyedFile, open_data_file};

/// The length of the first read, which holds the first frame of most files.
const FIRST_READ_LEN: usize = 4096;

/// Frames up to this length are read whole and checked.
const CHECKED_LEN: u64 = 1 << 20;

/// After a damaged first frame, a record counts as the first one only in this many bytes. The
/// scanner may read the rest of the file to find it.
const SEARCH_LEN: u64 = 16 << 20;

/// A file's first id, and how it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstId {
    /// The checksum of its record holds.
    Checked(u64),
    /// The lengths of its frame agree; the checksum was not computed.
    Claimed(u64),
    /// There is no readable record in the part that was searched.
    Unknown,
}

impl FirstId {
    pub(super) fn id(self) -> Option<u64> {
        match self {
            Self::Checked(id) | Self::Claimed(id) => Some(id),
            Self::Unknown => None,
        }
    }
}

/// Reads the beginnings of a directory's data files.
#[derive(Debug)]
pub(super) struct FirstRecords<'a> {
    storage: &'a Arc<dyn Storage>,
    dir: &'a Path,
    counter: &'a EventCounter,
    max_frame_len: u64,
    /// The ledger says that the records before this id were written.
    written_to: u64,
    pool: Pool,
}

impl<'a> FirstRecords<'a> {
    pub(super) fn new(
        storage: &'a Arc<dyn Storage>,
        dir: &'a Path,
        counter: &'a EventCounter,
        max_frame_len: u64,
        written_to: u64,
        pool: Pool,
    ) -> Self {
        Self {
            storage,
            dir,
            counter,
            max_frame_len,
            written_to,
            pool,
        }
    }

    /// The first id of a file; `None` if the file is gone.
    ///
    /// # Errors
    /// Those of the storage.
    pub(super) fn look(&self, file: &SurveyedFile) -> Result<Option<FirstId>> {
        let path = self.path(file);
        let Some(open) = open_data_file(&**self.storage, &path)? else {
            return Ok(None);
        };
        if file.len < FRAME_OVERHEAD as u64 {
            return Ok(Some(FirstId::Unknown));
        }
        match self.by_head(&*open, file.len) {
            Ok(Some(first)) => Ok(Some(first)),
            // The scanner skips pages that cannot be read.
            Ok(None) => self.search(open, file).map(Some),
            Err(e) if is_device_error(&e) => self.search(open, file).map(Some),
            Err(e) => Err(Error::io("read", &path, e)),
        }
    }

    /// The first id, with its checksum computed.
    ///
    /// # Errors
    /// Those of the storage.
    pub(super) fn settle(&self, file: &SurveyedFile) -> Result<FirstId> {
        match open_data_file(&**self.storage, &self.path(file))? {
            Some(open) => self.search(open, file),
            None => Ok(FirstId::Unknown),
        }
    }

    /// The runs of records at the beginning of a file. Every checksum is computed.
    ///
    /// # Errors
    /// Those of the storage.
    pub(super) fn first_runs(&self, file: &SurveyedFile) -> Result<Vec<IdRun>> {
        let mut ahead = LookAhead::behind(0, u64::MAX);
        self.scan(file, &mut ahead)?;
        Ok(ahead.into_runs())
    }

    /// The runs of all records of a file, and whether they are complete: `false` if there
    /// are too many runs.
    ///
    /// # Errors
    /// Those of the storage.
    pub(super) fn all_runs(&self, file: &SurveyedFile) -> Result<(Vec<IdRun>, bool)> {
        let mut ahead = LookAhead::without_anchor();
        let is_complete = self.scan(file, &mut ahead)?;
        Ok((ahead.into_runs(), is_complete))
    }

    fn scan(&self, file: &SurveyedFile, ahead: &mut LookAhead) -> Result<bool> {
        let path = self.path(file);
        let Some(open) = open_data_file(&**self.storage, &path)? else {
            return Ok(true);
        };
        // The scanner accepts any id; the caller judges which ids belong together.
        let mut scanner = self.scanner(open, file.len).behind(0, u64::MAX - file.len);
        ahead
            .scan(&mut scanner, |metadata, payload| {
                self.counter.count(metadata, payload)
            })
            .map_err(|e| Error::io("read", &path, e))
    }

    /// The first id from the first frame alone; `None` if that frame fails a check.
    fn by_head(&self, file: &dyn File, len: u64) -> std::io::Result<Option<FirstId>> {
        let mut head = [0; FIRST_READ_LEN];
        let read = read_full(file, &mut head, 0)?;
        let delimiter = head[..read].first_chunk();
        let Some(frame_len) = delimiter.and_then(|delimiter| stated_len(*delimiter)) else {
            return Ok(None);
        };
        if frame_len > len.min(self.max_frame_len) {
            return Ok(None);
        }
        if frame_len > CHECKED_LEN {
            let mut root = [0; ROOT_LEN];
            let read = read_full(file, &mut root, frame_len - ROOT_LEN as u64)?;
            let root = Root::from_bytes(&root);
            let agrees = read == ROOT_LEN && root.frame_len() == Some(frame_len);
            return Ok((agrees && root.has_possible_id()).then_some(FirstId::Claimed(root.id)));
        }
        // Fits a `usize`: at most CHECKED_LEN.
        let frame_len = frame_len as usize;
        if frame_len <= read {
            return Ok(checked_id(&head[..frame_len]));
        }
        let mut frame = self.pool.take_len(frame_len);
        let read = read_full(file, &mut frame[..frame_len], 0)?;
        Ok(checked_id(&frame[..read]))
    }

    fn search(&self, open: Arc<dyn File>, file: &SurveyedFile) -> Result<FirstId> {
        let mut scanner = self.scanner(open, file.len);
        while let Some(item) = scanner
            .next()
            .map_err(|e| Error::io("read", &self.path(file), e))?
        {
            match item {
                Scanned::Record(found) => return Ok(FirstId::Checked(found.id)),
                Scanned::Damage(damage) if damage.offset + damage.len > SEARCH_LEN => break,
                Scanned::Damage(_) => {}
            }
        }
        Ok(FirstId::Unknown)
    }

    fn scanner(&self, open: Arc<dyn File>, len: u64) -> Scanner {
        let options = ScanOptions {
            max_frame_len: self.max_frame_len,
            check: Check::Checksums,
        };
        Scanner::over_file(open, 0, len, options, self.pool.clone()).written_to(self.written_to)
    }

    fn path(&self, file: &SurveyedFile) -> PathBuf {
        self.dir.join(file.name())
    }
}

/// The id of the frame with which `bytes` begin, if that frame passes every check.
fn checked_id(bytes: &[u8]) -> Option<FirstId> {
    let frame = Frame::first(bytes, u64::MAX).filter(Frame::is_intact)?;
    Some(FirstId::Checked(frame.root.id))
}
