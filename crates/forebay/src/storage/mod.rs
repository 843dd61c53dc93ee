//! The interface to the operating system: everything that a buffer asks of a file system, and
//! nothing else.
//!
//! Invariants:
//! - Every call blocks; none retries. The caller retries
//!   [`Interrupted`](io::ErrorKind::Interrupted), with [`uninterrupted`].
//! - *Written* (a write returned) survives a killed process; *synced* (a sync returned) survives a
//!   power cut. Syncing a file does not make its directory entry durable; syncing a directory does
//!   not make the contents of its files durable.
//! - Faults and crashes live in implementations of these traits (`sim`,
//!   `fault`), never in the code above.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

// The unit tests need them with any features.
#[cfg(any(test, feature = "sim"))]
pub mod fault;
pub mod os;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

/// How [`Storage::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Existing, for reading.
    Read,
    /// Existing, for reading and writing.
    Write,
    /// New, for reading and writing; fails with `AlreadyExists` otherwise.
    CreateNew,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without the directory.
    pub name: std::ffi::OsString,
    /// The length in bytes (0 for anything but a regular file).
    pub len: u64,
    /// Whether it is a regular file (links followed).
    pub is_file: bool,
    /// The time of the last modification, where the system knows it.
    pub modified: Option<SystemTime>,
}

/// A file system, as far as a buffer needs one.
pub trait Storage: Debug + Send + Sync {
    /// Creates the directory and its missing parents, each synced into its parent; no error if it
    /// is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Lists a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Opens a file. New files get the mode `0640` where modes exist, the lock
    /// file (made by [`lock`](Self::lock)) `0644`.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;
    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn delete(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and deletions in the directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive advisory lock on a file, created if missing; fails
    /// with `WouldBlock` when it is held. Dropping the guard releases it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Maps an existing file of exactly 24 bytes, shared.
    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>>;
    /// Bytes free to this user on the file system of the directory, or `None`
    /// where the platform does not say.
    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>>;
}

/// An open file. Reads and writes say where; there is no cursor.
#[expect(
    clippy::len_without_is_empty,
    reason = "the seam is as small as it can be"
)]
pub trait File: Debug + Send + Sync {
    /// Reads up to `buf.len()` bytes; 0 means the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes up to `buf.len()` bytes, growing the file where needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Makes the contents and the length durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file to `len` bytes. Never makes it longer: that is an
    /// `InvalidInput` error.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// A held lock; dropping it releases the lock.
pub trait Lock: Debug + Send + Sync {}

/// The mapped ledger: three little-endian words, kept by the kernel when the
/// process dies.
pub trait Map: Debug + Send + Sync {
    /// The words, in file order. The bytes of word `i` are at `8 * i`; callers
    /// convert with `u64::from_le`/`to_le`.
    fn words(&self) -> &[AtomicU64; 3];
    /// Makes the mapped bytes durable (`msync`).
    fn sync(&self) -> io::Result<()>;
}

/// A call that signals interrupt is made at most this many times. Signals do not come that fast,
/// and a system that reports them for ever must not hold a program for ever.
pub const ATTEMPTS_MAX: u32 = 1000;

/// Repeats a call that a signal interrupted: at most [`ATTEMPTS_MAX`] calls.
///
/// # Errors
/// Those of the call.
#[inline]
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..ATTEMPTS_MAX {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
    call()
}

/// Reads until `buf` is full or the file ends; returns the bytes read.
///
/// # Errors
/// The first error of [`File::read_at`] other than an interruption.
pub fn read_full(file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match uninterrupted(|| file.read_at(&mut buf[done..], offset + done as u64))? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Writes all of `buf`.
///
/// # Errors
/// The first error of [`File::write_at`] other than an interruption;
/// [`WriteZero`](io::ErrorKind::WriteZero) when it writes nothing.
pub fn write_all(file: &dyn File, buf: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match uninterrupted(|| file.write_at(&buf[done..], offset + done as u64))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => done += n,
        }
    }
    Ok(())
}
