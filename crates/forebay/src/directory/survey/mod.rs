//! Reads a buffer's directory: the ledger, and the data files in the order of their
//! records.
//!
//! Invariants:
//! - Nothing is written. The directory may change meanwhile: a file that is gone when it
//!   should be read counts as deleted.
//! - The order of the files is that of their first record ids. File ids and the
//!   ledger only say which files need a closer look, place the files without a readable
//!   record, and choose between files that begin with the same record.
//! - The cost depends on the number of files, not on their lengths, as long as no file begins
//!   with damage and no two begin with the same record.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::counter::EventCounter;
use crate::directory::install::{self, IDENTITY_FILE_NAME, REPAIR_DIR_NAME, TRANSFERS_FILE_NAME};
use crate::directory::quarantine::QUARANTINE_DIR_NAME;
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id::{
    LEDGER_FILE_NAME, LOCK_FILE_NAME, SYNCED_MARK_FILE_NAME, file_name, parse_file_name,
};
use crate::format::ledger::{LEDGER_LEN, LedgerDamage, LedgerState};
use crate::scan::is_device_error;
use crate::storage::{Access, File, Storage, os, read_full, uninterrupted};
use crate::sync::pool::Pool;

mod first_record;
mod order;
pub(crate) mod walk;

/// The longest frame that is accepted by default: only the format and the length of the
/// file limit it.
pub(crate) const DEFAULT_MAX_FRAME_LEN: u64 = u64::MAX;

/// A ledger that is damaged or cannot be read is read at most this often: a running buffer
/// may change it while it is read, and a device's error may pass.
const LEDGER_ATTEMPTS: usize = 16;

/// The contents of the ledger's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LedgerStatus {
    /// A possible state.
    Ok(LedgerState),
    /// There is no file.
    Missing,
    /// Not a ledger, for the reason `why`; the file has `len` bytes. It is blank if it
    /// holds only zeros or only the beginning of the first state.
    Damaged {
        why: String,
        len: u64,
        is_blank: bool,
        /// The state, if its only fault is that its reader is ahead of its writer. A writer
        /// of the format may leave that when it is killed.
        reader_ahead: Option<LedgerState>,
    },
}

/// One data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SurveyedFile {
    pub(crate) file_id: u16,
    /// The length in bytes when it was listed.
    pub(crate) len: u64,
    pub(crate) modified: Option<SystemTime>,
    /// The first record's id; `None` if there is no readable record near the
    /// beginning.
    pub(crate) first_id: Option<u64>,
}

/// The contents of a directory.
#[derive(Debug, Clone)]
pub(crate) struct Survey {
    pub(crate) dir: PathBuf,
    /// The ledger, read before the directory was listed: every record that it counts
    /// was in a file then.
    pub(crate) ledger: LedgerStatus,
    /// The last acknowledged id, read after the files: records up to this id that are missing
    /// were deleted, not lost.
    pub(crate) acknowledged_id: Option<u64>,
    /// The data files that are part of the buffer, oldest first.
    pub(crate) files: Vec<SurveyedFile>,
    /// Data files all of whose records are in another file too, with the index of that file
    /// in `files`.
    pub(crate) stale: Vec<(SurveyedFile, usize)>,
    /// Whether first records and file ids give the same order.
    pub(crate) order_is_certain: bool,
    /// File ids whose names belong to something that is not a file.
    pub(crate) blocked: Vec<u16>,
    /// Whether anything here belongs to a buffer.
    pub(crate) is_buffer: bool,
    /// The names of entries that do not belong to a buffer.
    pub(crate) others: Vec<String>,
}

impl SurveyedFile {
    /// The name in the buffer's directory.
    pub(crate) fn name(&self) -> String {
        file_name(self.file_id)
    }
}

impl LedgerStatus {
    /// The state whose reader is ahead of its writer, if that is its only fault.
    pub(crate) fn reader_ahead(&self) -> Option<LedgerState> {
        match self {
            Self::Damaged { reader_ahead, .. } => *reader_ahead,
            Self::Ok(_) | Self::Missing => None,
        }
    }

    /// The id before which the ledger says that records were written; 0 without a ledger.
    pub(crate) fn written_to(&self) -> u64 {
        self.state().map_or(0, |state| state.writer_next_record_id)
    }

    /// The state, if it is a possible one.
    pub(crate) fn state(&self) -> Option<LedgerState> {
        match self {
            Self::Ok(state) => Some(*state),
            Self::Missing | Self::Damaged { .. } => None,
        }
    }
}

impl Survey {
    /// Reads `dir`. Frames longer than `max_frame_len` bytes are not accepted.
    ///
    /// # Errors
    /// [`ErrorKind::NotABuffer`] when there is no such directory, otherwise
    /// those of the storage.
    pub(crate) fn take(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        counter: &EventCounter,
        max_frame_len: u64,
    ) -> Result<Self> {
        let ledger = read_ledger(&**storage, dir)?;
        let listing = Listing::of(&**storage, dir)?;
        if listing.has_repairs && install::is_unfinished(&**storage, dir)? {
            return Err(unfinished_repair(dir));
        }
        let order::Ordered {
            files,
            stale,
            is_certain,
        } = order::order(
            &first_record::FirstRecords::new(
                storage,
                dir,
                counter,
                max_frame_len,
                ledger.written_to(),
                pool_for(&listing.data_files),
            ),
            listing.data_files,
            ledger.state(),
        )?;
        let acknowledged_id = acknowledged_id(&**storage, dir, &ledger)?;
        Ok(Self {
            dir: dir.to_owned(),
            ledger,
            acknowledged_id,
            files,
            stale,
            order_is_certain: is_certain,
            blocked: listing.blocked,
            is_buffer: listing.is_buffer,
            others: listing.others,
        })
    }

    /// As [`take`](Self::take), for callers that only read: refuses a directory that holds
    /// nothing of a buffer.
    ///
    /// # Errors
    /// As [`take`](Self::take), and [`ErrorKind::NotABuffer`] for such a
    /// directory.
    pub(crate) fn take_existing(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        counter: &EventCounter,
        max_frame_len: u64,
    ) -> Result<Self> {
        let survey = Self::take(storage, dir, counter, max_frame_len)?;
        if survey.is_buffer {
            Ok(survey)
        } else {
            Err(not_a_buffer(dir, &survey.others))
        }
    }

    /// Makes sure that there is something of a buffer in `dir`, before a lock is taken there.
    ///
    /// # Errors
    /// [`ErrorKind::NotABuffer`] if not, otherwise those of the storage.
    pub(crate) fn require(storage: &dyn Storage, dir: &Path) -> Result<()> {
        let listing = Listing::of(storage, dir)?;
        match listing.is_buffer || listing.has_repairs {
            true => Ok(()),
            false => Err(not_a_buffer(dir, &listing.others)),
        }
    }

    /// The path of a data file.
    pub(crate) fn path(&self, file: &SurveyedFile) -> PathBuf {
        self.dir.join(file.name())
    }
}

/// The entries of a directory by kind.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    data_files: Vec<SurveyedFile>,
    blocked: Vec<u16>,
    pub(crate) is_buffer: bool,
    /// There is a directory for repairs. During one, it may hold all there is of the buffer.
    pub(crate) has_repairs: bool,
    pub(crate) others: Vec<String>,
}

impl Listing {
    /// Lists `dir`.
    ///
    /// # Errors
    /// [`ErrorKind::NotABuffer`] when there is no such directory, otherwise
    /// those of the storage.
    pub(crate) fn of(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let entries = uninterrupted(|| storage.list(dir)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::with_path(
                ErrorKind::NotABuffer,
                dir,
                format!("there is no directory {}; check the path", dir.display()),
            ),
            io::ErrorKind::NotADirectory => Error::with_path(
                ErrorKind::NotABuffer,
                dir,
                format!(
                    "{} is not a directory; a buffer is a directory",
                    dir.display()
                ),
            ),
            _ => Error::io("list the directory", dir, e),
        })?;
        let mut listing = Self::default();
        for entry in entries {
            let data_file = parse_file_name(&entry.name);
            match data_file {
                Some(file_id) if entry.is_file => {
                    listing.is_buffer = true;
                    listing.data_files.push(SurveyedFile {
                        file_id,
                        len: entry.len,
                        modified: entry.modified,
                        first_id: None,
                    });
                }
                Some(file_id) => {
                    listing.blocked.push(file_id);
                    listing.others.push(lossy(&entry.name));
                }
                None if entry.name == LEDGER_FILE_NAME || entry.name == LOCK_FILE_NAME => {
                    listing.is_buffer = true;
                }
                None if entry.name == QUARANTINE_DIR_NAME
                    || entry.name == SYNCED_MARK_FILE_NAME
                    || entry.name == IDENTITY_FILE_NAME
                    || entry.name == TRANSFERS_FILE_NAME => {}
                None if entry.name == REPAIR_DIR_NAME => listing.has_repairs = true,
                None => listing.others.push(lossy(&entry.name)),
            }
        }
        Ok(listing)
    }
}

/// The error of those that only look while the files of a buffer are being replaced. Opening
/// finishes that first.
fn unfinished_repair(dir: &Path) -> Error {
    Error::with_path(
        ErrorKind::Locked,
        dir,
        format!(
            "files of the buffer in {} are being replaced, by a repair or a move to it, or that was \
             interrupted; if no process does it any more, open the buffer, which finishes it (`forebay \
             mend` does)",
            dir.display()
        ),
    )
}

fn lossy(name: &std::ffi::OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// The error for a directory that holds `others`, but nothing of a buffer.
pub(crate) fn not_a_buffer(dir: &Path, others: &[String]) -> Error {
    const NAMED: usize = 3;
    let dir_name = dir.display();
    let nothing = format!("no {LEDGER_FILE_NAME} and no data file");
    let found = match others {
        [] => format!("{dir_name} is empty: {nothing} is there"),
        few if few.len() <= NAMED => format!(
            "{dir_name} is not a buffer: it holds {}, but {nothing}",
            few.join(", ")
        ),
        many => format!(
            "{dir_name} is not a buffer: it holds {} and {} more, but {nothing}",
            many[..NAMED].join(", "),
            many.len() - NAMED
        ),
    };
    let message = format!(
        "{found}; check the path: give the directory of a buffer, or an empty one to make a new buffer"
    );
    Error::with_path(ErrorKind::NotABuffer, dir, message)
}

/// The writer's file id in the ledger, if there is a usable ledger.
///
/// # Errors
/// Those of the storage.
pub(crate) fn writer_file_id(storage: &dyn Storage, dir: &Path) -> Result<Option<u16>> {
    let ledger = read_ledger(storage, dir)?;
    Ok(ledger.state().map(|ledger| ledger.writer_file_id))
}

fn read_ledger(storage: &dyn Storage, dir: &Path) -> Result<LedgerStatus> {
    let path = dir.join(LEDGER_FILE_NAME);
    let mut status = LedgerStatus::Missing;
    for _ in 0..LEDGER_ATTEMPTS {
        let file = match uninterrupted(|| storage.open(&path, Access::Read)) {
            // If the directory is missing, `Listing::of` reports that.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(LedgerStatus::Missing);
            }
            file => file.map_err(|e| Error::io("open", &path, e))?,
        };
        status = match ledger_in(&*file) {
            Err(e) if is_device_error(&e) => LedgerStatus::Damaged {
                why: format!("it cannot be read: {e}"),
                len: uninterrupted(|| file.len()).unwrap_or(LEDGER_LEN as u64),
                is_blank: false,
                reader_ahead: None,
            },
            status => status.map_err(|e| Error::io("read", &path, e))?,
        };
        if status.state().is_some() {
            break;
        }
    }
    Ok(status)
}

fn ledger_in(file: &dyn File) -> io::Result<LedgerStatus> {
    let mut bytes = [0; LEDGER_LEN];
    let len = uninterrupted(|| file.len())?;
    let read = read_full(file, &mut bytes, 0)?;
    let state = if len > LEDGER_LEN as u64 {
        Err(LedgerDamage::Length(len))
    } else {
        LedgerState::from_bytes(&bytes[..read])
    };
    Ok(state.map_or_else(
        |why| LedgerStatus::Damaged {
            why: why.to_string(),
            len,
            is_blank: len <= LEDGER_LEN as u64
                && (bytes == [0; LEDGER_LEN] || is_cut_short(&bytes[..read])),
            reader_ahead: reader_ahead(why, &bytes),
        },
        LedgerStatus::Ok,
    ))
}

/// Whether a process that was killed while it made a ledger may have left these bytes.
fn is_cut_short(bytes: &[u8]) -> bool {
    bytes.len() < LEDGER_LEN && LedgerState::INITIAL.to_bytes().starts_with(bytes)
}

/// The state, if its only fault is that its reader is ahead of its writer.
fn reader_ahead(why: LedgerDamage, bytes: &[u8; LEDGER_LEN]) -> Option<LedgerState> {
    let LedgerDamage::ReaderAheadOfWriter { reader_last, .. } = why else {
        return None;
    };
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let state = LedgerState::from_words(words);
    let in_order = LedgerState {
        writer_next_record_id: reader_last.checked_add(1)?,
        ..state
    };
    in_order.check().ok().map(|()| state)
}

/// The last acknowledged id now; at least the one in `before`. `None` if `before` has none.
pub(crate) fn acknowledged_id(
    storage: &dyn Storage,
    dir: &Path,
    before: &LedgerStatus,
) -> Result<Option<u64>> {
    let Some(before) = before.state().or(before.reader_ahead()) else {
        return Ok(None);
    };
    let now = read_ledger(storage, dir)?;
    let now = now.state().or(now.reader_ahead());
    let now_id = now.map_or(0, |state| state.reader_last_record_id);
    Ok(Some(before.reader_last_record_id.max(now_id)))
}

/// Whether a process has the buffer open.
pub(crate) fn is_open_elsewhere(dir: &Path) -> Result<bool> {
    let path = dir.join(LOCK_FILE_NAME);
    match os::is_locked(&path) {
        // The survey reports what is wrong with the directory.
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Ok(false),
        result => result.map_err(|e| Error::io("look at the lock of", &path, e)),
    }
}

/// Opens a data file for reading; `None` when it is gone.
///
/// # Errors
/// Those of the storage.
pub(crate) fn open_data_file(storage: &dyn Storage, path: &Path) -> Result<Option<Arc<dyn File>>> {
    match uninterrupted(|| storage.open(path, Access::Read)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file
            .map(|file| Some(Arc::from(file)))
            .map_err(|e| Error::io("open", path, e)),
    }
}

/// A pool for reading these files. Its buffers are as long as the longest file, but at least
/// 4 KiB and at most 1 MiB.
pub(crate) fn pool_for(files: &[SurveyedFile]) -> Pool {
    let longest = files.iter().map(|file| file.len).max().unwrap_or(0);
    // Fits a `usize`: at most 1 MiB.
    Pool::new(longest.clamp(4 << 10, 1 << 20) as usize, 2)
}
