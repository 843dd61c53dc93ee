//! Losses: events that were accepted and are not there any more.
//!
//! Invariant: a loss is a result, never an error. It is counted once, by the step in ids.

use std::fmt;

/// Why events are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LostReason {
    /// The bytes are there, but fail their checks.
    Damaged,
    /// A data file that was there when the buffer was opened has vanished.
    MissingFile,
    /// The ids step over them, and none of their bytes are there. A missing data file leaves this,
    /// or a power cut that took unsynced records.
    Gap,
}

impl LostReason {
    /// All reasons, in order of their declaration.
    pub const ALL: [Self; 3] = [Self::Damaged, Self::MissingFile, Self::Gap];

    /// The reason as one `snake_case` word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::MissingFile => "missing_file",
            Self::Gap => "gap",
        }
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why [`WhenFull::DropNewest`](crate::WhenFull::DropNewest) dropped records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DropReason {
    /// The buffer had reached its maximum size.
    Full,
    /// The file system had no space, or less than
    /// [`min_free_space`](crate::Config::min_free_space), or the disk took nothing for seconds.
    DiskFull,
}

impl DropReason {
    /// All reasons, in order of their declaration.
    pub const ALL: [Self; 2] = [Self::Full, Self::DiskFull];

    /// The reason as one `snake_case` word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::DiskFull => "disk_full",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Events that were accepted and are not there any more. The buffer acknowledges them itself and
/// counts them in [`Usage::lost`](crate::Usage::lost).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The id of the first event lost.
    pub first_id: u64,
    /// The id of the last event lost.
    pub last_id: u64,
    /// How many events: all from the first to the last, without those that were acknowledged before
    /// (delivered, then read again after a [`rewind`](crate::Reader::rewind)).
    pub events: u64,
    /// How many bytes lie in their place in the data files, 0 if none.
    pub bytes: u64,
    /// Why.
    pub reason: LostReason,
    /// The data file where the loss was noticed, if in one.
    pub file: Option<String>,
    /// The offset in that file where the damage, or the record after the gap, begins.
    pub offset: u64,
    /// The damaged bytes could not be kept in quarantine, for instance because the disk is full.
    /// They are deleted with their data file.
    pub not_kept: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first_id,
            last_id,
            events,
            reason,
            offset,
            ..
        } = self;
        match events {
            1 if first_id == last_id => write!(f, "lost 1 event (id {first_id}): {reason}")?,
            1 => write!(
                f,
                "lost 1 event (of the ids {first_id} to {last_id}): {reason}"
            )?,
            _ => write!(
                f,
                "lost {events} events (ids {first_id} to {last_id}): {reason}"
            )?,
        }
        if let Some(file) = &self.file {
            write!(f, ", noticed in {file} at offset {offset}")?;
        }
        if self.not_kept {
            write!(f, "; the damaged bytes could not be kept in quarantine")?;
        }
        Ok(())
    }
}
