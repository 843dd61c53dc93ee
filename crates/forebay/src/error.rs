//! What can go wrong, and what the caller can do about it.
//!
//! Damage on disk, a full buffer that may wait, and an empty one are results,
//! not errors. A kind exists only where a caller acts differently.

use std::path::{Path, PathBuf};
use std::{fmt, io};

/// A `Result` whose error is [`struct@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What happened, where, and what to do. One word on the stack.
///
/// `Display` is one lower-case sentence that names the path (or the parameter)
/// and the remedy; [`std::error::Error::source`] is the operating system's
/// error where there is one.
#[derive(Clone)]
pub struct Error(std::sync::Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    source: Option<io::Error>,
}

/// The kinds on which callers act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A parameter is out of its bounds; the message names it, its value and
    /// the bound.
    InvalidConfig,
    /// Another process, or another handle of this one, has the buffer open.
    Locked,
    /// The directory is missing, is no directory, or holds something else.
    NotABuffer,
    /// The operating system refused access.
    PermissionDenied,
    /// The buffer (or the disk) is full and the policy is to reject, or the
    /// time to wait for space ran out. Nothing was accepted (of a batch: what the message
    /// says); acknowledging more makes room, so trying again is worth it.
    Full,
    /// The record is larger than the configured maximum, or counts no events.
    /// Nothing was accepted; the buffer goes on.
    InvalidRecord,
    /// The buffer was closed, or it is full and its reader was closed: no try will ever
    /// succeed until it is opened again.
    Closed,
    /// A wait reached its time limit. What was waited for may still happen: an append
    /// that waits for its sync (under [`SyncPolicy::EveryBatch`](crate::SyncPolicy)) and
    /// fails with this has accepted its records.
    TimedOut,
    /// Damage was found and the configuration says to refuse it.
    Corrupt,
    /// A write or sync failed and could not be made good. Every later append
    /// says so until the buffer is opened again.
    Poisoned,
    /// Any other failure of the operating system.
    Io,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(std::sync::Arc::new(Inner {
            kind,
            message: message.into(),
            path: None,
            source: None,
        }))
    }

    /// An operating-system error while doing `what` (an infinitive: "write to").
    pub(crate) fn io(what: &str, path: &Path, source: io::Error) -> Self {
        let (kind, remedy) = match source.kind() {
            io::ErrorKind::PermissionDenied => (
                ErrorKind::PermissionDenied,
                "; give this user access to the buffer's directory and files: read access to look \
                 at it, write access as well to open it",
            ),
            io::ErrorKind::ReadOnlyFilesystem => (
                ErrorKind::PermissionDenied,
                "; the file system is mounted read-only",
            ),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (ErrorKind::Full, "; free some space")
            }
            _ => (ErrorKind::Io, ""),
        };
        let message = format!("cannot {what} {}: {source}{remedy}", path.display());
        Self(std::sync::Arc::new(Inner {
            kind,
            message,
            path: Some(path.to_owned()),
            source: Some(source),
        }))
    }

    pub(crate) fn with_path(kind: ErrorKind, path: &Path, message: impl Into<String>) -> Self {
        Self(std::sync::Arc::new(Inner {
            kind,
            message: message.into(),
            path: Some(path.to_owned()),
            source: None,
        }))
    }

    /// The same error, saying that the buffer is unusable because of it.
    pub(crate) fn poisoned(&self) -> Self {
        Self(std::sync::Arc::new(Inner {
            kind: ErrorKind::Poisoned,
            message: format!(
                "{self}; the buffer accepts nothing more: close it, mend the cause, open it again"
            ),
            path: self.0.path.clone(),
            source: None,
        }))
    }

    /// The same error, saying that so many records of a batch were accepted before.
    pub(crate) fn after(self, accepted_count: usize) -> Self {
        if accepted_count == 0 {
            return self;
        }
        Self(std::sync::Arc::new(Inner {
            kind: self.0.kind,
            message: format!(
                "{self} ({accepted_count} records of this batch were accepted before)"
            ),
            path: self.0.path.clone(),
            source: None,
        }))
    }

    /// The kind, to act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file or directory concerned, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}
