//! Writes a file as a whole.
//!
//! Invariant: its path names what was there before, or all of the new contents, whenever the
//! program or the machine stops.

use crate::failure::{Failure, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A file that is to be written.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    /// The new contents, until they are complete; `None` for a pipe or a device, which is written
    /// to as it is.
    temporary: Option<PathBuf>,
}

impl Target {
    /// Checks a path, and changes nothing. A symbolic link stands for the file it leads to.
    ///
    /// # Errors
    ///
    /// The directory is missing, or the path names something that is no file.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let shown = path.display();
        if fs::metadata(path).is_ok_and(|about| !about.is_file() && !about.is_dir()) {
            return Ok(Self {
                path: path.to_owned(),
                temporary: None,
            });
        }
        let resolved = match path.canonicalize() {
            Ok(found) if found.is_file() => found,
            Ok(_) => {
                return Err(Failure::new(format!(
                    "cannot write {shown}: it is not a file; give the name of a new file"
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if path.is_symlink() {
                    return Err(Failure::new(format!(
                        "cannot write {shown}: it is a link that leads nowhere; give the name of a \
                         new file"
                    )));
                }
                path.to_owned()
            }
            Err(error) => return Err(Failure::io(&format!("write {shown}"), &error)),
        };
        let Some(name) = resolved.file_name() else {
            return Err(Failure::new(format!(
                "cannot write {shown}: it has no file name; give the name of a new file"
            )));
        };
        let parent = parent(&resolved);
        if !parent.is_dir() {
            return Err(Failure::new(format!(
                "cannot write {shown}: there is no directory {}",
                parent.display()
            )));
        }
        refuse_in_buffer(&resolved)?;
        Ok(Self {
            temporary: Some(temporary(parent, name)),
            path: resolved,
        })
    }

    /// Opens a file for contents that come in parts, and says under which name it is until they are
    /// complete, if it is to be renamed then.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(crate) fn begin(&self) -> Result<(File, Option<PathBuf>)> {
        let (path, file) = match &self.temporary {
            Some(temporary) => (temporary, create(temporary)),
            None => (&self.path, File::options().write(true).open(&self.path)),
        };
        let file =
            file.map_err(|error| Failure::io(&format!("write {}", path.display()), &error))?;
        Ok((file, self.temporary.clone()))
    }

    /// The path, without a link at its end.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the contents, syncs them, and gives them their name.
    ///
    /// # Errors
    ///
    /// They cannot be written; then what was there before stays.
    pub(crate) fn write(&self, contents: &[u8]) -> Result<()> {
        self.try_write(contents).map_err(|error| {
            if let Some(temporary) = &self.temporary {
                // The first error says more than one of tidying up.
                let _ = fs::remove_file(temporary);
            }
            Failure::io(&format!("write {}", self.path.display()), &error)
        })
    }

    fn try_write(&self, contents: &[u8]) -> io::Result<()> {
        let Some(temporary) = &self.temporary else {
            return File::options()
                .write(true)
                .open(&self.path)?
                .write_all(contents);
        };
        let mut file = create(temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(temporary, &self.path)
    }
}

/// The name of a file until it is complete.
fn temporary(parent: &Path, name: &OsStr) -> PathBuf {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    parent.join(temporary)
}

/// Makes a file that is to be renamed once it is complete.
fn create(temporary: &Path) -> io::Result<File> {
    // Of an earlier process with the same id. A link that somebody else made under this name is
    // not followed.
    let _ = fs::remove_file(temporary);
    File::create_new(temporary)
}

/// Refuses a file in the directory of a buffer, or in one below it: it would take the place of a
/// file of the buffer, or be taken for one.
///
/// # Errors
///
/// It is in one.
fn refuse_in_buffer(path: &Path) -> Result<()> {
    match forebay::buffer_around(path) {
        None => Ok(()),
        Some(buffer) => Err(Failure::new(format!(
            "{} is in the directory of the buffer {}, where nothing is written; give another place",
            path.display(),
            buffer.display()
        ))),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
