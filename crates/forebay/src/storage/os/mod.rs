//! The file system of the machine: [`Storage`] over `std::fs`, `statvfs` and
//! one shared map of 24 bytes.
//!
//! Invariants:
//! - This file alone in the library contains `unsafe`: the view of the mapped
//!   ledger as three atomic words.
//! - Opening a path that is not a regular file fails, and never blocks (a pipe would wait for its
//!   other end).
//! - Nothing is retried and nothing is cached; every error is the system's own.
//!
//! What *synced* means on each platform is what [`std::fs::File::sync_data`]
//! means there: `fdatasync` on Linux, `F_FULLFSYNC` on macOS (the drive's cache
//! as well), `FlushFileBuffers` on Windows. Windows documents no way to sync a
//! directory, so there nothing is done. What follows for each platform is in
//! `docs/portability.md`.
#![expect(
    unsafe_code,
    reason = "the one place that may: the atomic view of the mapped ledger"
)]

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Component, Path};
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};

use super::{Access, Entry, File, Lock, Map, Storage};

#[cfg(target_os = "linux")]
mod locks;
mod memory;

pub(crate) use self::memory::Memory;

/// The length of a mapped file, in bytes.
const MAP_LEN: usize = 24;

/// The machine's own file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Os;

impl Os {
    /// The machine's own file system.
    pub fn new() -> Self {
        Self
    }
}

impl Storage for Os {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = std::path::absolute(dir)?;
        let missing: Vec<&Path> = dir
            .ancestors()
            .take_while(|ancestor| !ancestor.is_dir())
            .collect();
        // A process that was killed between making a directory and syncing its parent leaves an
        // entry that no later call would sync. This is best effort, because the parent may be
        // unreadable to this user.
        let there = missing
            .last()
            .map_or(Some(dir.as_path()), |top| top.parent());
        if let Some(parent) = there.and_then(Path::parent) {
            let _ = self.sync_dir(parent);
        }
        for &ancestor in missing.iter().rev() {
            match make_dir(ancestor) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && ancestor.is_dir() => {}
                Err(e) => return Err(e),
            }
            if let Some(parent) = ancestor.parent() {
                self.sync_dir(parent)?;
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            // A link that leads nowhere is still an entry; an entry that was deleted meanwhile is
            // not.
            let found = fs::metadata(entry.path());
            let found = match found.or_else(|_| fs::symlink_metadata(entry.path())) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                found => found?,
            };
            let is_file = found.is_file();
            entries.push(Entry {
                name: entry.file_name(),
                len: if is_file { found.len() } else { 0 },
                is_file,
                modified: found.modified().ok(),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let file = match access {
            Access::Read => open_regular(path, OpenOptions::new().read(true))?,
            Access::Write => open_regular(path, OpenOptions::new().read(true).write(true))?,
            Access::CreateNew => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true);
                set_mode(&mut options, 0o640);
                open_regular(path, &mut options)?
            }
        };
        Ok(Box::new(OsFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    #[cfg(unix)]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::File::open(dir)?.sync_all() {
            // Some file systems have nothing to sync in a directory and return one of these errors.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    #[cfg(not(unix))]
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        set_mode(&mut options, 0o644);
        let file = open_regular(path, &mut options)?;
        file.try_lock()?;
        Ok(Box::new(OsLock {
            file,
            holder: process_id(),
        }))
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        let file = open_regular(path, OpenOptions::new().read(true).write(true))?;
        let len = file.metadata()?.len();
        if len != MAP_LEN as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the file to map has {len} bytes instead of {MAP_LEN}"),
            ));
        }
        let map = MmapOptions::new().len(MAP_LEN).map_raw(&file)?;
        Ok(Box::new(OsMap { map, file }))
    }

    #[cfg(unix)]
    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    #[cfg(not(unix))]
    fn free_bytes(&self, _dir: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

/// Opens a file that must be a regular one, without ever blocking.
fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<fs::File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // No effect on regular files; keeps a pipe from waiting for a peer.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

/// Makes a directory that only its owner and group can look into, whatever the process's file mode
/// mask allows.
#[cfg(unix)]
fn make_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o750).create(dir)
}

/// Makes a directory, which gets the access list that its parent hands down.
#[cfg(not(unix))]
fn make_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)
}

#[cfg(unix)]
fn set_mode(options: &mut OpenOptions, mode: u32) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(mode);
}

#[cfg(not(unix))]
fn set_mode(_options: &mut OpenOptions, _mode: u32) {}

#[derive(Debug)]
struct OsFile(fs::File);

impl File for OsFile {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, buf, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.0, buf, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.0, buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let old_len = self.len()?;
        if len > old_len {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("truncating to {len} bytes would extend a file of {old_len}"),
            ));
        }
        self.0.set_len(len)
    }
}

#[derive(Debug)]
struct OsLock {
    file: fs::File,
    /// The process that took the lock.
    holder: u32,
}

impl Lock for OsLock {}

impl Drop for OsLock {
    fn drop(&mut self) {
        // Closing alone would leave the lock with a child process that was forked meanwhile and has
        // not yet replaced its image. The child shares this lock, so it must not release it when it
        // drops its copy.
        if process_id() == self.holder {
            let _ = self.file.unlock();
        }
    }
}

#[derive(Debug)]
struct OsMap {
    map: MmapRaw,
    /// Only `sync` outside Linux needs it.
    #[cfg_attr(target_os = "linux", expect(dead_code))]
    file: fs::File,
}

impl Map for OsMap {
    fn words(&self) -> &[AtomicU64; 3] {
        // SAFETY: the map is `MAP_LEN` bytes, readable and writable, aligned to a page, and lives
        // as long as `self`, to which the result is bound. Nothing in this process touches its
        // memory except through this view, so all accesses are atomic; `AtomicU64` has the size
        // and, on the page boundary, at least the alignment of the words. Other processes that
        // write to the file can change the values, and every value is valid. If another process
        // shortens the file, access raises a signal instead of undefined behaviour; the lock keeps
        // cooperating programs from that.
        unsafe { &*self.map.as_mut_ptr().cast::<[AtomicU64; 3]>() }
    }

    fn sync(&self) -> io::Result<()> {
        self.map.flush()?;
        // Elsewhere `msync` need not reach the drive's stable storage.
        #[cfg(not(target_os = "linux"))]
        self.file.sync_data()?;
        Ok(())
    }
}

/// The id of this process. In a forked child it differs from the id of the process that opened the
/// buffer or took the lock.
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// The id of the process that holds a lock on the file, if the system gives it: on Linux, unless
/// that process is in a container hidden from this one.
///
/// Never creates, writes or locks anything. `None` also if the file is missing or no lock is held.
pub fn lock_holder(path: &Path) -> Option<u32> {
    #[cfg(target_os = "linux")]
    return locks::Locks::of(path).ok()?.holder();
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

/// A path without links, as far as it exists.
pub(crate) fn without_links(path: &Path) -> std::path::PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for existing in path.ancestors() {
        let (Ok(mut found), Ok(rest)) = (existing.canonicalize(), path.strip_prefix(existing))
        else {
            continue;
        };
        // What is missing will be made as directories, so `..` leads out of them.
        let mut goes_up = false;
        for part in rest.components() {
            match part {
                Component::ParentDir => {
                    goes_up = true;
                    found.pop();
                }
                part => found.push(part),
            }
        }
        // There may be links in what it leads to.
        return match goes_up {
            true => without_links(&found),
            false => found,
        };
    }
    path
}

/// Whether a process holds an exclusive lock on the file. A missing file is not locked. Never
/// creates or writes anything.
///
/// Where the system has no complete list of locks (outside Linux, and inside its containers), this
/// tries a shared lock and releases it at once: another process that tries to take the exclusive
/// lock in that instant is refused.
///
/// # Errors
/// The file is there but cannot be opened for reading.
pub fn is_locked(path: &Path) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    match locks::Locks::of(path) {
        Ok(locks) if locks.held() => return Ok(true),
        Ok(locks) if locks.complete() => return Ok(false),
        _ => {}
    }
    let file = match open_regular(path, OpenOptions::new().read(true)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => {
            // If this fails, closing the file releases the lock.
            let _ = file.unlock();
            Ok(false)
        }
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use crate::config::{Config, Io};
    use crate::error::ErrorKind;
    use crate::read::delivery::Item;

    unsafe extern "C" {
        fn fork() -> i32;
        fn _exit(code: i32) -> !;
        fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
    }

    /// A child process has copies of the handles. Dropping them once released the parent's lock and
    /// wrote the parent's open batch to the parent's file.
    #[test]
    fn a_forked_child_leaves_the_lock_and_the_files_to_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let config = || Config::new(dir.path()).io(Io::Caller);
        let (writer, mut reader) = config().open().unwrap();
        writer.append(b"in the open batch").unwrap();
        let data_file = dir.path().join("buffer-data-0.dat");
        let len = || std::fs::metadata(&data_file).map_or(0, |file| file.len());
        let before = len();
        // SAFETY: the child flushes, drops its handles and ends. That takes no lock that another
        // thread could hold, except the allocator's, which the C library keeps usable in a child.
        let child = unsafe { fork() };
        if child == 0 {
            // With `Io::Caller` this would write to the parent's file.
            let is_refused = writer.flush().is_err();
            drop(reader);
            drop(writer);
            // SAFETY: this ends the current process, which is the child.
            unsafe { _exit(i32::from(!is_refused)) }
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        unsafe { waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0);
        assert_eq!(len(), before);
        assert_eq!(config().open().unwrap_err().kind(), ErrorKind::Locked);
        writer.append(b"goes on").unwrap();
        drop(writer);
        let mut payloads = vec![];
        while let Some(item) = reader.recv().unwrap() {
            let Item::Record(delivery) = item else {
                panic!("{item:?}");
            };
            payloads.push(delivery.payload().to_vec());
        }
        assert_eq!(payloads, [&b"in the open batch"[..], b"goes on"]);
        reader.close().unwrap();
        config().open().unwrap();
    }
}
