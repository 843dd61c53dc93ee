//! Many buffers, found below paths and each looked at without opening it.
//!
//! Invariants: nothing is written, no lock is taken; a buffer that cannot be looked at does not
//! keep the others from being looked at.

use crate::args::counting::ReadCountingOptions;
use crate::buffer::holder::Holder;
use crate::buffer::steps;
use crate::failure::{Failure, Result};
use crate::output::note;
use forebay::{ErrorKind, InspectOptions, Inspection, find_buffers};
use std::path::{Path, PathBuf};

/// What one look at a buffer found.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) directory: PathBuf,
    pub(crate) inspection: Result<Inspection, NoLook>,
    pub(crate) holder: Option<Holder>,
}

/// Why a buffer could not be looked at.
#[derive(Debug)]
pub(crate) enum NoLook {
    /// Its files are being replaced, or that was interrupted.
    Repair(String),
    /// It is gone since it was found.
    Gone,
    Error(String),
}

impl NoLook {
    /// Why this error was met.
    pub(crate) fn of(error: &forebay::Error) -> Self {
        match error.kind() {
            ErrorKind::Locked => Self::Repair(format!("{error:#}")),
            ErrorKind::NotABuffer => Self::Gone,
            _ => Self::Error(format!("{error:#}")),
        }
    }
}

/// The buffers below paths, and what cannot be listed, in words.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Sorted.
    pub(crate) buffers: Vec<PathBuf>,
    pub(crate) errors: Vec<String>,
}

impl Found {
    /// Searches; calls `progress` with the number of buffers that were found so far.
    pub(crate) fn below(paths: &[PathBuf], mut progress: impl FnMut(u64)) -> Self {
        let mut found = Self::default();
        for buffer in find_buffers(paths) {
            match buffer {
                Ok(directory) => found.buffers.push(directory),
                Err(error) => found.errors.push(format!("{error:#}")),
            }
            progress(found.buffers.len() as u64);
        }
        found.buffers.sort();
        found
    }

    /// Prints on standard error what could not be listed.
    ///
    /// # Errors
    ///
    /// There is no buffer.
    pub(crate) fn report(&self, paths: &[PathBuf]) -> Result<()> {
        if !self.buffers.is_empty() {
            self.errors.iter().for_each(note);
            return Ok(());
        }
        if let Some((last, others)) = self.errors.split_last() {
            others.iter().for_each(note);
            return Err(Failure::new(last));
        }
        let paths: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Err(Failure::new(format!(
            "there is no buffer in or below {}; check the path",
            paths.join(", ")
        )))
    }
}

impl Look {
    /// Looks at a buffer, without reading all of it.
    pub(crate) fn at(directory: &Path, counting: ReadCountingOptions) -> Self {
        let inspection = steps::counter(counting, directory)
            .map_err(|failure| NoLook::Error(failure.message))
            .and_then(|counter| {
                let options = InspectOptions::new().event_counter(counter);
                let inspection = options.count_records(false).inspect(directory);
                inspection.map_err(|error| NoLook::of(&error))
            });
        Self {
            directory: directory.to_owned(),
            holder: inspection.as_ref().ok().and_then(Holder::of),
            inspection,
        }
    }
}
