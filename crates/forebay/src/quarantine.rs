//! Keeps damaged bytes under `quarantine/` in the buffer's directory.
//!
//! Invariants:
//! - What is kept is bounded: a total of bytes, and a number of reports.
//! - Keeping the same span twice keeps it once.
//! - No error of its own fails an open or a read; it is traced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::{File, Storage};

/// What to do with damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnCorruption {
    /// Step over it and count what is lost.
    Skip,
    /// The same, and keep the damaged bytes under `quarantine/`, within a bound.
    #[default]
    Quarantine,
    /// Fail with [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) and change
    /// nothing.
    Refuse,
}

/// Keeps damaged bytes of one buffer.
#[derive(Debug)]
pub(crate) struct Quarantine {
    _storage: Arc<dyn Storage>,
    _dir: PathBuf,
    _policy: OnCorruption,
    _bound: u64,
}

impl Quarantine {
    /// A quarantine for the buffer in `dir` that keeps up to `bound` bytes, when
    /// `policy` says so.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        dir: &Path,
        policy: OnCorruption,
        bound: u64,
    ) -> Self {
        Self {
            _storage: storage,
            _dir: dir.to_owned(),
            _policy: policy,
            _bound: bound,
        }
    }

    /// Keeps `len` bytes of a file from `offset`, with a report that says what
    /// `kind` of damage it is and how many events it lost.
    pub(crate) fn keep_span(
        &self,
        _file: &dyn File,
        _file_name: &str,
        _offset: u64,
        _len: u64,
        _kind: &str,
        _events_lost: u64,
    ) {
    }

    /// Moves a file out of the buffer's directory; whether it did.
    pub(crate) fn keep_file(&self, _name: &str, _kind: &str) -> bool {
        false
    }
}
