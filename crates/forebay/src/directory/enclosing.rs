//! Buffers around a directory.
//!
//! Invariant: links are followed as far as the path exists, so no link leads past the answer.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use crate::directory::install::{self, REPAIR_DIR_NAME};
use crate::directory::quarantine::QUARANTINE_DIR_NAME;
use crate::directory::survey::Listing;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::os::Os;
use crate::storage::{Storage, os};

/// Refuses a directory at or below one that a buffer keeps for itself: an opening of that buffer
/// deletes what is there, and no search finds it.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`].
pub(crate) fn refuse_reserved(storage: &dyn Storage, dir: &Path) -> Result<()> {
    let is_reserved = |name: &OsStr| name == REPAIR_DIR_NAME || name == QUARANTINE_DIR_NAME;
    match around(storage, dir, is_reserved) {
        None => Ok(()),
        Some(buffer) => Err(belongs_to(dir, &buffer)),
    }
}

/// Refuses a directory anywhere below that of a buffer.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`].
pub(crate) fn refuse_inside(storage: &dyn Storage, dir: &Path) -> Result<()> {
    match around(storage, dir, |_| true) {
        None => Ok(()),
        Some(buffer) => Err(belongs_to(dir, &buffer)),
    }
}

/// The buffer in whose directory a path lies, at whatever depth; `None` if there is none. The path
/// may be missing. Links are followed.
///
/// ```
/// # let root = tempfile::tempdir()?;
/// let dir = root.path().join("orders");
/// forebay::Config::new(&dir).open()?;
/// assert!(forebay::buffer_around(dir.join("export.ndjson")).is_some());
/// assert_eq!(forebay::buffer_around(&dir), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn buffer_around(path: impl AsRef<Path>) -> Option<PathBuf> {
    around(&Os::new(), path.as_ref(), |_| true)
}

/// The buffer in whose directory `dir` lies, if a name in it that leads there is `wanted`.
fn around(storage: &dyn Storage, dir: &Path, wanted: impl Fn(&OsStr) -> bool) -> Option<PathBuf> {
    // Where `..` leads depends on links before it. A simulated path is as it is written.
    let goes_up = dir.components().any(|part| part == Component::ParentDir);
    let written = (!goes_up).then(|| dir.to_owned());
    [written, Some(os::without_links(dir))]
        .iter()
        .flatten()
        .flat_map(|path| path.ancestors())
        .filter(|path| path.file_name().is_some_and(&wanted))
        .filter_map(|path| path.parent())
        .map(|parent| match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        })
        .find(|parent| is_buffer(storage, parent))
        .map(Path::to_owned)
}

/// A directory that only has something named `repair` in it is none.
fn is_buffer(storage: &dyn Storage, dir: &Path) -> bool {
    Listing::of(storage, dir).is_ok_and(|listing| listing.is_buffer)
        || install::is_unfinished(storage, dir).unwrap_or(false)
}

fn belongs_to(dir: &Path, buffer: &Path) -> Error {
    let message = format!(
        "{} is in the directory of the buffer {}, which may delete what is there; give another \
         directory",
        dir.display(),
        buffer.display()
    );
    Error::with_path(ErrorKind::InvalidConfig, dir, message)
}
