//! Opening: from what is in the directory to where writer and reader stand.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::quarantine::OnCorruption;
use crate::storage::Storage;
use crate::{Error, ErrorKind, EventCounter, Recovery, Result};

/// How to recover.
#[derive(Debug, Clone)]
pub(crate) struct RecoveryOptions {
    /// How many events a record holds.
    pub(crate) counter: EventCounter,
    /// The longest frame to believe, in bytes. Buffers may have been written
    /// with larger limits than they are opened with now.
    pub(crate) max_frame_len: u64,
    /// What to do with damage.
    pub(crate) on_corruption: OnCorruption,
    /// The most bytes to keep under `quarantine/`.
    pub(crate) quarantine_bytes: u64,
}

/// One data file that is part of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataFile {
    /// Its id.
    pub(crate) file_id: u16,
    /// Its length in bytes, after recovery.
    pub(crate) len: u64,
    /// When it was last modified, before recovery.
    pub(crate) modified: Option<SystemTime>,
}

/// Where a buffer stands once it is recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The data files that are part of the buffer, oldest first.
    pub(crate) files: Vec<DataFile>,
    /// The id of the last acknowledged event.
    pub(crate) last_id: u64,
    /// The frame boundary behind the last acknowledged record: an index into
    /// `files` and an offset in that file. `(0, 0)` without files.
    pub(crate) acknowledged: (usize, u64),
    /// The id for the next record, never given out before.
    pub(crate) next_id: u64,
    /// Append to this file (the last of `files`) at this length, which is its
    /// end; `None`: go on in a new file, `next_file_id`.
    pub(crate) writer: Option<(u16, u64)>,
    /// An unused id for the next new file.
    pub(crate) next_file_id: u16,
    /// What was found.
    pub(crate) report: Recovery,
}

/// Makes sure that `dir` is a buffer's directory, or an empty one that can
/// become it; creates it when it is missing. Touches nothing in it, so that it
/// can go before taking the lock.
///
/// # Errors
/// [`ErrorKind::NotABuffer`] when it is no directory or holds something else.
pub(crate) fn prepare(_storage: &dyn Storage, dir: &Path) -> Result<()> {
    Err(Error::with_path(ErrorKind::Io, dir, "not built"))
}

/// Finds out where the buffer in `dir` stands and makes its files fit that:
/// afterwards the ledger is a file of 24 bytes, and whatever `Recovered` says
/// is synced. The caller holds the lock, and sets the ledger's fields.
///
/// # Errors
/// Those of the storage, and [`ErrorKind::Corrupt`] when there is damage and
/// the options refuse it.
pub(crate) fn recover(
    _storage: &Arc<dyn Storage>,
    dir: &Path,
    _options: &RecoveryOptions,
) -> Result<Recovered> {
    Err(Error::with_path(ErrorKind::Io, dir, "not built"))
}
