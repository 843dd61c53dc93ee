//! What can go wrong, and what the caller can do about it.
//!
//! Damage on disk, an empty buffer, and a full buffer whose policy is to wait are results, not
//! errors. A kind exists only if callers act differently on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

/// A `Result` whose error is [`struct@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What happened, where, and what to do. As small as a pointer.
///
/// `Display` is one lower-case sentence that names the path (or the parameter)
/// and the remedy, and does not repeat [`source`](std::error::Error::source), the
/// operating system's error where there is one. The alternate form, `{error:#}`,
/// adds the source after a colon, for places that print an error on one line.
///
/// ```
/// let error = forebay::Config::new("spool").max_size(1).open().unwrap_err();
/// assert_eq!(error.kind(), forebay::ErrorKind::InvalidConfig);
/// eprintln!("{error:#}");
/// let error: std::io::Error = error.into();
/// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    offset: Option<u64>,
    source: Option<Arc<io::Error>>,
}

/// The kinds on which callers act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A parameter is out of its bounds; the message names it, its value and
    /// the bound.
    InvalidConfig,
    /// Another process has the buffer open, or this process has opened it already.
    Locked,
    /// The directory is missing, is no directory, or holds something else.
    NotABuffer,
    /// The operating system refused access.
    PermissionDenied,
    /// The buffer is full: its records take [`max_size`](crate::Config::max_size) bytes, or all
    /// data files there can be. The policy is to reject, or the time to wait for room ran out.
    /// Nothing was accepted (of a batch: what [`BatchError`](crate::BatchError) says). Try again
    /// once more is acknowledged.
    Full,
    /// The disk takes nothing: the file system or a quota is full, less is free than
    /// [`min_free_space`](crate::Config::min_free_space), or the disk hangs and memory is full.
    /// Nothing was accepted (of a batch: what [`BatchError`](crate::BatchError) says). Try again
    /// once space was freed, or the disk works again.
    DiskFull,
    /// The buffer is full and its reader is closed, so nothing makes space any more. Nothing was
    /// accepted. Trying again is useless until the buffer is opened again.
    ReaderGone,
    /// The record is larger than the configured maximum, counts no events, or cannot be encoded.
    /// Nothing was accepted; the buffer can still be used.
    InvalidRecord,
    /// Too many separate ranges of records are acknowledged out of order. Acknowledge the oldest
    /// delivered records, then read on.
    TooFarAhead,
    /// The async runtime is shutting down, so the call was not carried out.
    Closed,
    /// A wait reached its time limit. What was waited for may still happen: if an append that waits
    /// for its sync (under [`SyncPolicy::Always`](crate::SyncPolicy::Always)) fails with this, its
    /// records are accepted.
    TimedOut,
    /// Damage was found, and [`OnCorruption::Refuse`](crate::OnCorruption::Refuse) is set.
    Corrupt,
    /// The buffer accepts nothing more: a write or a sync failed and could not be repaired, or its
    /// record ids are used up. Every later append fails with this until the buffer is opened again.
    Poisoned,
    /// Any other failure of the operating system.
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            path: None,
            offset: None,
            source: None,
        }))
    }

    /// An operating-system error while doing `what` (an infinitive: "write to").
    pub(crate) fn io(what: &str, path: &Path, source: io::Error) -> Self {
        let (kind, remedy) = match source.kind() {
            io::ErrorKind::PermissionDenied => (
                ErrorKind::PermissionDenied,
                " (give this user access to the buffer's directory and files: read access to look \
                 at it, write access as well to open it)",
            ),
            io::ErrorKind::ReadOnlyFilesystem => (
                ErrorKind::PermissionDenied,
                " (the file system is mounted read-only)",
            ),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (ErrorKind::DiskFull, " (free some space)")
            }
            _ => (ErrorKind::Io, ""),
        };
        Self(Arc::new(Inner {
            kind,
            message: format!("cannot {what} {}{remedy}", path.display()),
            path: Some(path.to_owned()),
            offset: None,
            source: Some(Arc::new(source)),
        }))
    }

    /// An operating-system error while a file was read from `offset` on.
    pub(crate) fn read(path: &Path, offset: u64, source: io::Error) -> Self {
        Self::io(&format!("read from byte {offset} on of"), path, source).at(offset)
    }

    pub(crate) fn with_path(kind: ErrorKind, path: &Path, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            path: Some(path.to_owned()),
            offset: None,
            source: None,
        }))
    }

    /// The same error, with the byte of its file that it is about.
    pub(crate) fn at(self, offset: u64) -> Self {
        self.map(|inner| inner.offset = Some(offset))
    }

    /// The same error, with a note that it makes the buffer unusable.
    pub(crate) fn poisoned(&self) -> Self {
        self.clone().map(|inner| {
            inner.kind = ErrorKind::Poisoned;
            inner.message += "; the buffer accepts nothing more: close it, fix the cause, open \
                              it again";
        })
    }

    /// The same error with a note after its message.
    pub(crate) fn noting(self, note: &str) -> Self {
        self.map(|inner| inner.message += note)
    }

    fn map(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// The kind, to act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file or directory that the error is about, if any.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The byte offset in [`path`](Self::path) that the error is about, if known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) if f.alternate() => write!(f, ": {source}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self:#}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// The kind of the operating system's error if there is one, otherwise the closest kind. The error
/// itself is what [`std::io::Error::get_ref`] gives.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::InvalidConfig | ErrorKind::InvalidRecord | ErrorKind::NotABuffer => {
                io::ErrorKind::InvalidInput
            }
            ErrorKind::Locked => io::ErrorKind::ResourceBusy,
            ErrorKind::Corrupt => io::ErrorKind::InvalidData,
            ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::Full | ErrorKind::TooFarAhead => io::ErrorKind::WouldBlock,
            ErrorKind::DiskFull => io::ErrorKind::StorageFull,
            ErrorKind::ReaderGone | ErrorKind::Closed => io::ErrorKind::BrokenPipe,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Poisoned | ErrorKind::Io => io::ErrorKind::Other,
        };
        let source = error.0.source.as_ref().map(|source| source.kind());
        Self::new(source.unwrap_or(kind), error)
    }
}
