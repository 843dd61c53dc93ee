//! Makes a buffer of records that were exported, under the ids that they had.
//!
//! Invariant: the buffer is there as a whole or not at all. To import the same records again,
//! after a kill at whatever moment, has the same result as to import them once.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::target::{Target, Targeted};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;
use crate::storage::os::Os;

/// How to import: options in the manner of [`std::fs::OpenOptions`], ended by
/// [`begin`](Self::begin). An example is at [`ExportOptions`](crate::ExportOptions).
#[derive(Debug, Clone)]
pub struct ImportOptions {
    data_file_size: u64,
    storage: Option<Arc<dyn Storage>>,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            data_file_size: Config::DEFAULT_MAX_DATA_FILE_SIZE,
            storage: None,
        }
    }
}

impl ImportOptions {
    /// The defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most that a data file holds, in bytes, unless a single record is longer. Default:
    /// 128 MiB.
    #[must_use]
    pub fn data_file_size(mut self, bytes: u64) -> Self {
        self.data_file_size = bytes;
        self
    }

    /// The file system. Default: the operating system's.
    #[must_use]
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Begins a buffer in `dir`, which is made if it is missing. Events up to the id
    /// `acknowledged_id` will count as acknowledged.
    ///
    /// If there is a buffer with unread events, or one that has given out the id of the first record,
    /// the records that are pushed are compared with its records, and [`Import::finish`] succeeds if
    /// they are the same. Any other buffer without unread events is replaced; it must not have given
    /// out any of the ids before.
    ///
    /// # Errors
    /// [`ErrorKind::NotABuffer`] if `dir` holds something else; [`ErrorKind::Locked`] if a buffer
    /// there is open; otherwise those of the system.
    pub fn begin(&self, dir: impl AsRef<Path>, acknowledged_id: u64) -> Result<Import> {
        let dir = dir.as_ref();
        let storage = self.storage.clone().unwrap_or_else(|| Arc::new(Os::new()));
        let target = Target::create(&storage, dir, self.data_file_size, acknowledged_id)?;
        Ok(Import {
            dir: dir.to_owned(),
            target,
            imported: Imported::default(),
        })
    }
}

/// A buffer that is being imported. Dropped before [`finish`](Self::finish), it leaves no buffer.
#[derive(Debug)]
pub struct Import {
    dir: PathBuf,
    target: Target,
    imported: Imported,
}

/// What was imported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// The records, acknowledged ones too.
    pub records: u64,
    /// Their events.
    pub events: u64,
    /// The ids that no record covers, each range half open; at most about a million. They count
    /// as reported, so [`verify`](crate::verify) does not report them. Empty if the
    /// buffer was there already.
    pub missing: Vec<Range<u64>>,
    /// Whether the buffer was there already, with the same records.
    pub was_there: bool,
}

impl Import {
    /// Adds a record. Ids must rise; where they leave a gap, events are missing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`] if the id does not rise, no record can have it, or the
    /// buffer that was there before has given it out; [`ErrorKind::InvalidConfig`] if the buffer
    /// that is there has another record in this place; otherwise those of the system.
    pub fn push(&mut self, id: u64, metadata: u32, events: u64, payload: &[u8]) -> Result<()> {
        let most = (payload.len() as u64).max(1);
        if !(1..=most).contains(&events) {
            let message = format!(
                "a record with the id {id} cannot be added: it would hold {events} events, and \
                 a record holds at least 1, and at most as many as its payload has bytes"
            );
            return Err(Error::with_path(
                ErrorKind::InvalidRecord,
                &self.dir,
                message,
            ));
        }
        self.target.push(id, metadata, events, payload)?;
        self.imported.records += 1;
        self.imported.events = self.imported.events.saturating_add(events);
        Ok(())
    }

    /// Installs the buffer. Its next record will get the id `next_record_id`, or a higher one if
    /// the records reach beyond it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if the buffer that is there has more records; otherwise those
    /// of the system. After an error the next opening finds no record, or all of them.
    pub fn finish(self, next_record_id: u64) -> Result<Imported> {
        let Targeted { missing, was_there } = self.target.finish(next_record_id)?;
        Ok(Imported {
            missing,
            was_there,
            ..self.imported
        })
    }

    /// The directory of the buffer.
    pub fn directory(&self) -> &Path {
        &self.dir
    }
}
