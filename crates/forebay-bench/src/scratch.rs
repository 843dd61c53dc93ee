//! The directory that measurements write to, which is removed afterwards.
//!
//! Invariant: nothing outside this directory is touched, and it is removed when its
//! [`Scratch`] is dropped, also after an error or a signal. A missing parent directory is
//! made, and stays.

use super::failure::{Failure, Result};
use super::figures::bytes;
use super::stop::Stop;
use forebay::storage::Storage as _;
use forebay::storage::os::Os;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Free space that is required in addition to what is written.
const SPARE_BYTES: u64 = 256 << 20;
/// Bytes written at a time to warm memory.
const WARM_BLOCK: usize = 1 << 20;
/// At most this many names are tried for the directory; other runs may have taken some.
const NAMES_MAX: u32 = 100;

/// The directory for measurements, and how much each measurement does.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    /// Bytes, about, that a measurement of throughput writes.
    pub(crate) size: u64,
    /// How long a measurement takes that is bound by time and not by size.
    pub(crate) time: Duration,
    /// Ends the measurement early.
    pub(crate) stop: Stop,
}

impl Scratch {
    /// Makes the directory inside `parent`, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// `parent` cannot be made or is not writable, or its file system has too little
    /// free space for measurements of `size` bytes.
    pub fn new(parent: &Path, size: u64, time: Duration, stop: Stop) -> Result<Self> {
        // Absolute, because a child process may have another working directory.
        let parent = std::path::absolute(parent)
            .map_err(|error| Failure::io(&format!("look at {}", parent.display()), &error))?;
        fs::create_dir_all(&parent)
            .map_err(|error| Failure::io(&format!("make {}", parent.display()), &error))?;
        let free = Os::new()
            .free_bytes(&parent)
            .map_err(|error| Failure::io(&format!("look at {}", parent.display()), &error))?;
        let needed = bytes_needed(size);
        if let Some(free) = free.filter(|free| *free < needed) {
            return Err(Failure::new(format!(
                "the file system of {} has {} free, and measurements of {} need {}; choose \
                 another with --dir, or a smaller --size",
                parent.display(),
                bytes(free),
                bytes(size),
                bytes(needed),
            )));
        }
        Ok(Self {
            dir: make_dir(&parent)?,
            size,
            time,
            stop,
        })
    }

    /// Checks that the measurement is to continue.
    ///
    /// # Errors
    ///
    /// The stop is set.
    pub fn check(&self) -> Result<()> {
        match self.stop.is_set() {
            true => Err(Failure::new("stopped by a signal")),
            false => Ok(()),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the directory, after what was there is removed.
    ///
    /// # Errors
    ///
    /// What was there cannot be removed, or the stop is set.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        self.check()?;
        let path = self.dir.join(name);
        self.remove(&path)?;
        Ok(path)
    }

    /// Makes the page cache reuse memory that was in use a moment ago, by writing and
    /// removing a file of a measurement's size. Virtual machines give memory that is free
    /// for a second back to their hosts; touching it again is then many times slower than
    /// any file system.
    ///
    /// # Errors
    ///
    /// The file system refuses, or the stop is set.
    pub fn warm(&self) -> Result<()> {
        self.warm_more(0)
    }

    /// The same for a measurement that writes `bytes` more.
    ///
    /// # Errors
    ///
    /// As [`warm`](Self::warm).
    pub fn warm_more(&self, bytes: u64) -> Result<()> {
        let path = self.fresh("warm")?;
        let block = vec![0x5a_u8; WARM_BLOCK];
        let write = || -> io::Result<()> {
            let mut file = fs::File::create_new(&path)?;
            for _ in 0..(self.size + bytes).div_ceil(WARM_BLOCK as u64) {
                file.write_all(&block)?;
            }
            Ok(())
        };
        write().map_err(|error| Failure::io(&format!("write {}", path.display()), &error))?;
        self.remove(&path)
    }

    /// Removes a path in the directory, if it is there.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let removed = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::io(&format!("remove {}", path.display()), &error))
            }
            _ => Ok(()),
        }
    }
}

/// The free space that measurements of `size` bytes require.
fn bytes_needed(size: u64) -> u64 {
    // A raw file and a buffer may take space at the same time, because some file systems
    // are slow to free what was deleted.
    size.saturating_mul(2).saturating_add(SPARE_BYTES)
}

fn make_dir(parent: &Path) -> Result<PathBuf> {
    let pid = std::process::id();
    for n in 0..NAMES_MAX {
        let dir = parent.join(format!("forebay-bench-{pid}-{n}"));
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Failure::io(
                    &format!("make a directory in {}", parent.display()),
                    &error,
                ));
            }
        }
    }
    Err(Failure::new(format!(
        "{} holds too many directories of earlier measurements (forebay-bench-…); remove them",
        parent.display()
    )))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            // A failure to write to standard error cannot be reported anywhere.
            let _ = writeln!(
                io::stderr(),
                "cannot remove {}: {error}; remove it by hand",
                self.dir.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_goes_with_its_scratch_and_leaves_the_rest() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("other"), b"x").unwrap();
        let stop = Stop::never();
        let scratch = Scratch::new(parent.path(), 1, Duration::ZERO, stop).unwrap();
        let path = scratch.fresh("a").unwrap();
        fs::create_dir_all(path.join("b")).unwrap();
        assert_eq!(scratch.fresh("a").unwrap(), path);
        assert!(!path.exists());
        drop(scratch);
        let left: Vec<_> = fs::read_dir(parent.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn warming_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let stop = Stop::never();
        let scratch = Scratch::new(parent.path(), 3 << 19, Duration::ZERO, stop).unwrap();
        scratch.warm().unwrap();
        assert_eq!(fs::read_dir(scratch.dir()).unwrap().count(), 0);
    }

    #[test]
    fn too_little_free_space_is_refused_before_anything_is_made() {
        let parent = tempfile::tempdir().unwrap();
        let stop = Stop::never();
        let failure = Scratch::new(parent.path(), u64::MAX, Duration::ZERO, stop).unwrap_err();
        assert!(failure.to_string().contains("--size"), "{failure}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
