//! Finds buffers in a tree of directories.
//!
//! Invariants:
//! - Nothing is written, no lock is taken, no data file is read.
//! - A directory is entered once, however many links and paths lead to it.
//! - What cannot be listed is reported, and the walk goes on.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::directory::install::{self, LIST_DONE, REPAIR_DIR_NAME};
use crate::directory::quarantine::QUARANTINE_DIR_NAME;
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id::is_buffer_file;
use crate::storage::os::Os;
use crate::storage::{Entry, Storage, uninterrupted};

/// Finds every buffer in these directories and below them, in no promised order: a directory with
/// a ledger, with a data file, or with a repair that was interrupted.
///
/// Links to directories are followed. A directory is entered once; a link to it is preferred only
/// if nothing else leads there. The directories in which a buffer keeps damaged bytes and
/// originals (`quarantine`, `repair`) are left out, and so is one to which a repair has moved the
/// original of a buffer, unless it is one of `paths`: what it holds is in the repaired buffer.
///
/// Each item is the directory of a buffer, under the path that led there, or the error of a
/// directory that cannot be listed, after which the search goes on. One of `paths` that is missing
/// or is no directory is an error, too ([`ErrorKind::NotABuffer`]).
///
/// ```
/// # let root = tempfile::tempdir()?;
/// forebay::Config::new(root.path().join("spools/orders")).open()?;
/// let found: Vec<_> = forebay::find_buffers([root.path()]).collect::<Result<_, _>>()?;
/// assert_eq!(found, [root.path().join("spools/orders")]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn find_buffers(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> FoundBuffers {
    let given = paths.into_iter().map(|path| Next {
        path: path.as_ref().to_owned(),
        is_given: true,
    });
    let mut to_enter: Vec<_> = given.collect();
    to_enter.reverse();
    FoundBuffers {
        to_enter,
        links: Vec::new(),
        entered: BTreeSet::new(),
    }
}

/// The search of [`find_buffers`].
#[derive(Debug)]
pub struct FoundBuffers {
    /// The directories to enter, the next one last.
    to_enter: Vec<Next>,
    /// Links, which may lead to directories. They are entered after everything else, so that a
    /// directory is reported under its own path if that is in the tree.
    links: Vec<Next>,
    /// The directories that were entered, without links in their paths.
    entered: BTreeSet<PathBuf>,
}

#[derive(Debug)]
struct Next {
    path: PathBuf,
    /// The caller named it. Anything else may be no directory, or be gone.
    is_given: bool,
}

impl Iterator for FoundBuffers {
    type Item = Result<PathBuf>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let next = self.to_enter.pop().or_else(|| self.links.pop())?;
            match self.enter(&next) {
                Ok(true) => return Some(Ok(next.path)),
                Ok(false) => {}
                Err(e) => match e.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if !next.is_given => {}
                    _ => return Some(Err(error(&next.path, e))),
                },
            }
        }
    }
}

impl FoundBuffers {
    /// Takes note of the directories in a directory. Returns whether it is a buffer.
    fn enter(&mut self, Next { path, is_given }: &Next) -> io::Result<bool> {
        let real = match path.canonicalize() {
            // It was deleted, or is a link that leads nowhere or to itself.
            Err(e) if !is_given && e.kind() != io::ErrorKind::PermissionDenied => return Ok(false),
            real => real?,
        };
        if self.entered.contains(&real) {
            return Ok(false);
        }
        let storage = Os::new();
        let entries = uninterrupted(|| storage.list(path))?;
        let is_of_a_buffer = |entry: &Entry| entry.is_file && is_buffer_file(&entry.name);
        let is_repaired = || entries.iter().any(|entry| entry.name == REPAIR_DIR_NAME);
        let is_original = || {
            let is_list = |entry: &Entry| entry.name == LIST_DONE;
            entries.iter().any(is_list) && install::is_original(&storage, path)
        };
        let is_buffer = entries.iter().any(is_of_a_buffer) && (*is_given || !is_original())
            || is_repaired() && install::is_unfinished(&storage, path).unwrap_or(false);
        // The last one is entered first.
        for entry in entries.iter().rev().filter(|entry| !entry.is_file) {
            if is_buffer && (entry.name == QUARANTINE_DIR_NAME || entry.name == REPAIR_DIR_NAME) {
                continue;
            }
            let below = Next {
                path: path.join(&entry.name),
                is_given: false,
            };
            match below.path.is_symlink() {
                true => self.links.push(below),
                false => self.to_enter.push(below),
            }
        }
        self.entered.insert(real);
        Ok(is_buffer)
    }
}

fn error(path: &Path, e: io::Error) -> Error {
    let says = match e.kind() {
        io::ErrorKind::NotFound => "there is no directory",
        io::ErrorKind::NotADirectory => "buffers are directories, and this is none:",
        _ => return Error::io("list the directory", path, e),
    };
    let message = format!("{says} {}; check the path", path.display());
    Error::with_path(ErrorKind::NotABuffer, path, message)
}
