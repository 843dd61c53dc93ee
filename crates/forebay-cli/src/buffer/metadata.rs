//! `--metadata`, and the refusal to store plain records in a buffer of Vector's.
//!
//! Vector opens a buffer only if each record has the metadata 1. Invariant: without
//! `--metadata`, nothing is appended to a buffer whose oldest unread record or newest record
//! is Vector's.

use crate::failure::{Failure, Result};
use crate::vector;
use forebay::{ErrorKind, RecordsOptions, StoredRecord};
use std::path::Path;

/// The number that is stored with each record.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Records")]
pub(crate) struct MetadataOptions {
    /// The number that is stored with each record [default: 0]
    ///
    /// A buffer of Vector's takes records only with this option: Vector does not open a
    /// buffer again that holds a record with another number than 1, and expects payloads in
    /// its own encoding.
    #[arg(long, value_name = "N", value_parser = metadata, allow_hyphen_values = true)]
    metadata: Option<u32>,
}

fn metadata(text: &str) -> Result<u32, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("not a whole number from 0 to {}", u32::MAX))
}

impl MetadataOptions {
    /// The metadata for the buffer in `directory`, before it is opened. What keeps the buffer
    /// from being read is left to the opening, which says it better.
    ///
    /// # Errors
    ///
    /// The buffer is Vector's, and no metadata was given.
    pub(crate) fn before_opening(self, directory: &Path) -> Result<u32> {
        self.choose(directory, |_| Ok(None))
    }

    /// The same once the buffer is open: while this process waited for it, another one may
    /// have filled it.
    ///
    /// # Errors
    ///
    /// As [`before_opening`](Self::before_opening), or the buffer cannot be read.
    pub(crate) fn once_open(self, directory: &Path) -> Result<u32> {
        self.choose(directory, |error| match error.kind() {
            ErrorKind::NotABuffer => Ok(None),
            _ => Err(error.into()),
        })
    }

    fn choose(
        self,
        directory: &Path,
        unreadable: impl FnOnce(forebay::Error) -> Result<Option<StoredRecord>>,
    ) -> Result<u32> {
        if let Some(metadata) = self.metadata {
            return Ok(metadata);
        }
        let Some(record) = record_of_vector(directory).or_else(unreadable)? else {
            return Ok(0);
        };
        let why = match record.metadata {
            vector::METADATA => "has the metadata 1, as Vector stores it".to_owned(),
            other => format!("holds events in Vector's encoding, with the metadata {other}"),
        };
        let (directory, id, metadata) = (directory.display(), record.id, record.metadata);
        Err(Failure::new(format!(
            "{directory} is a buffer of Vector's: its record {id} {why}; Vector would not open it \
             again with a plain record in it, so nothing was stored: give --metadata {metadata} \
             for payloads in Vector's encoding, or another --metadata if Vector is not to read \
             the buffer any more"
        )))
    }
}

/// The metadata of the records of the buffer in `directory`, if it is Vector's. What keeps the
/// buffer from being read is left to the opening, which says it better.
pub(crate) fn metadata_of_vector(directory: &Path) -> Option<u32> {
    let record = record_of_vector(directory).ok().flatten()?;
    Some(record.metadata)
}

/// Refuses a record with `metadata` for the buffer in `to` if that is Vector's and its records
/// have another number, `of_vector`.
///
/// # Errors
///
/// Why, for a message about the record.
pub(crate) fn refuse_for_vector(
    of_vector: Option<u32>,
    metadata: u32,
    to: &Path,
) -> Result<(), String> {
    match of_vector {
        Some(wanted) if wanted != metadata => Err(format!(
            "its metadata is {metadata}, and {} is a buffer of Vector's, which would not open it \
             again: move it to another buffer",
            to.display()
        )),
        _ => Ok(()),
    }
}

/// The newest record or the oldest unread one, if it is Vector's.
fn record_of_vector(directory: &Path) -> forebay::Result<Option<StoredRecord>> {
    let options = RecordsOptions::new();
    let Some(newest) = options.newest(directory)? else {
        return Ok(None);
    };
    if is_of_vector(&newest) {
        return Ok(Some(newest));
    }
    let oldest = options.records(directory)?.next().transpose()?;
    Ok(oldest.filter(is_of_vector))
}

fn is_of_vector(record: &StoredRecord) -> bool {
    record.metadata == vector::METADATA
        || vector::count_events(vector::METADATA, &record.payload).is_some()
}
