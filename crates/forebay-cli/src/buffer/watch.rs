//! Notices, without the lock of a buffer, that another process has changed it or that
//! there is space for it again.

use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::storage::{Storage as _, os::Os};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait at least before a full buffer is tried again because the file system
/// has more space. While it is tried, no other process can open it.
pub(crate) const SPACE_RETRY: Duration = Duration::from_secs(1);
/// How long to wait before a full buffer is tried again although nothing has changed: a
/// quota, for example, may have been raised.
const FULL_RETRY: Duration = Duration::from_secs(30);

/// What a buffer's directory looked like.
#[derive(Debug)]
pub(crate) struct Watch {
    directory: PathBuf,
    seen: Look,
}

/// The data files with their lengths, and the ledger.
type Look = (Vec<(OsString, u64)>, Option<Vec<u8>>);

impl Watch {
    /// Remembers what a buffer looks like now.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            seen: look(directory),
        }
    }

    /// Whether the buffer looks different from the last time.
    pub(crate) fn has_changed(&mut self) -> bool {
        let now = look(&self.directory);
        let changed = now != self.seen;
        self.seen = now;
        changed
    }
}

/// Notices that a full buffer may have space.
#[derive(Debug)]
pub(crate) struct SpaceWatch {
    watch: Watch,
    free: u64,
    since: Instant,
    is_due: bool,
}

impl SpaceWatch {
    /// Remembers what a buffer and its file system look like now. If the buffer is not
    /// full, it may be tried at once.
    pub(crate) fn new(directory: &Path, is_full: bool) -> Self {
        Self {
            watch: Watch::new(directory),
            free: free_bytes(directory),
            since: Instant::now(),
            is_due: !is_full,
        }
    }

    /// Whether the buffer is worth a try. Once this is true, it stays true.
    pub(crate) fn may_be_there(&mut self) -> bool {
        let waited = self.since.elapsed();
        self.is_due = self.is_due
            || self.watch.has_changed()
            || waited >= FULL_RETRY
            || (waited >= SPACE_RETRY && free_bytes(&self.watch.directory) > self.free);
        self.is_due
    }
}

/// The free space of a directory's file system, 0 where it cannot be known. A directory
/// that a full disk did not take has that of the directory it is to be made in.
fn free_bytes(directory: &Path) -> u64 {
    let directories = directory
        .ancestors()
        .map(|at| match at.as_os_str().is_empty() {
            true => Path::new("."),
            false => at,
        });
    let mut free = directories.map(|at| Os::new().free_bytes(at).ok().flatten());
    free.find_map(|free| free).unwrap_or(0)
}

/// Leaves out what cannot be read; that it can be read later is a change.
fn look(directory: &Path) -> Look {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len())))
        .collect();
    files.sort();
    (files, std::fs::read(directory.join(LEDGER_FILE_NAME)).ok())
}
