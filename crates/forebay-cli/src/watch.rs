//! Noticing that another process has changed a buffer, without its lock.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

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

    /// Whether it looks different from the last time.
    pub(crate) fn has_changed(&mut self) -> bool {
        let now = look(&self.directory);
        let changed = now != self.seen;
        self.seen = now;
        changed
    }
}

/// What cannot be read looks like nothing; when it can be, that is a change.
fn look(directory: &Path) -> Look {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len())))
        .collect();
    files.sort();
    (files, std::fs::read(directory.join("buffer.db")).ok())
}
