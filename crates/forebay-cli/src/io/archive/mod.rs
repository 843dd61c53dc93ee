//! Exports as bytes: the records of a buffer in one stream, to make the same buffer again.
//!
//! Two formats, [`binary`] and [`text`], say the same; docs/command-line.md describes them.
//! Invariants:
//! - Either begins with a header and ends with the number of its records. A stream that is cut
//!   off anywhere, or has bytes after its end, is not read to the end without an error.
//! - Each record has a checksum: the one that it has in a data file.
//! - Memory is bounded by the longest record.

mod binary;
mod feed;
mod text;

pub(crate) use self::feed::Feed;

use crate::failure::{Failure, Result};
use clap::ValueEnum;
use forebay::StoredRecord;
use forebay::format::record::checksum;

/// The version of both formats.
const VERSION: u32 = 1;

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines of JSON
    Ndjson,
    /// Binary, with lengths: shorter, and faster
    Binary,
}

/// What an export says at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Acknowledged records that were still on disk are in it.
    pub(crate) all: bool,
    /// Records were searched in damaged places.
    pub(crate) salvage: bool,
    /// Events of Vector's take the place of payloads.
    pub(crate) decoded: bool,
    /// The id of the last acknowledged event.
    pub(crate) acknowledged_id: u64,
    /// The id that the next record of the buffer gets.
    pub(crate) next_record_id: u64,
}

/// A record of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) id: u64,
    pub(crate) events: u64,
    pub(crate) metadata: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(crate) fn of(record: &'a StoredRecord) -> Self {
        Self {
            id: record.id,
            events: record.events,
            metadata: record.metadata,
            payload: &record.payload,
        }
    }

    fn checksum(&self) -> u32 {
        checksum(self.id, self.metadata, self.payload)
    }
}

/// What an export holds, which its end says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) records: u64,
    pub(crate) events: u64,
}

impl Totals {
    fn add(&mut self, entry: &Entry<'_>) {
        self.records += 1;
        self.events = self.events.saturating_add(entry.events);
    }
}

/// Writes an export, into memory that the caller writes on and empties.
#[derive(Debug)]
pub(crate) struct Writer {
    format: Format,
    totals: Totals,
    sums: crc32fast::Hasher,
}

impl Writer {
    pub(crate) fn new(format: Format, header: &Header, to: &mut Vec<u8>) -> Self {
        match format {
            Format::Ndjson => text::write_header(header, to),
            Format::Binary => binary::write_header(header, to),
        }
        Self {
            format,
            totals: Totals::default(),
            sums: crc32fast::Hasher::new(),
        }
    }

    /// Adds a record; `decoded` takes the place of its payload.
    pub(crate) fn record(
        &mut self,
        entry: &Entry<'_>,
        decoded: Option<Vec<serde_json::Value>>,
        to: &mut Vec<u8>,
    ) {
        self.totals.add(entry);
        match self.format {
            Format::Ndjson => text::write_record(entry, decoded, to),
            Format::Binary => binary::write_record(entry, &mut self.sums, to),
        }
    }

    /// Ends the export.
    pub(crate) fn end(self, to: &mut Vec<u8>) -> Totals {
        match self.format {
            Format::Ndjson => text::write_end(self.totals, to),
            Format::Binary => binary::write_end(self.totals, self.sums.finalize(), to),
        }
        self.totals
    }
}

/// What came next in an export.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    Item(T),
    /// Everything was read, and nothing is missing.
    End,
    /// The stop was set.
    Stopped,
}

/// Reads an export.
#[derive(Debug)]
pub(crate) struct Reader {
    format: Format,
    totals: Totals,
    /// The records whose lines have no checksum, because they were edited.
    unchecked: u64,
    sums: crc32fast::Hasher,
    feed: Feed,
    /// The payload of the last record, where it is not as in the stream.
    payload: Vec<u8>,
}

impl Reader {
    /// Begins to read; which format it is, its first byte says.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no export that this version reads.
    pub(crate) fn open(mut feed: Feed) -> Result<Next<(Header, Self)>> {
        let format = match feed.fill(1)? {
            Next::Item(()) if feed.bytes()[0] == binary::MAGIC[0] => Format::Binary,
            Next::Item(()) => Format::Ndjson,
            Next::Stopped => return Ok(Next::Stopped),
            Next::End => return Err(no_export("it is empty")),
        };
        let header = match format {
            Format::Ndjson => text::read_header(&mut feed)?,
            Format::Binary => binary::read_header(&mut feed)?,
        };
        Ok(match header {
            Next::Item(header) => Next::Item((
                header,
                Self {
                    format,
                    totals: Totals::default(),
                    unchecked: 0,
                    sums: crc32fast::Hasher::new(),
                    feed,
                    payload: Vec::new(),
                },
            )),
            Next::Stopped => Next::Stopped,
            Next::End => return Err(no_export("it ends too early")),
        })
    }

    /// The next record.
    ///
    /// # Errors
    ///
    /// The export cannot be read, is damaged or cut off.
    pub(crate) fn next(&mut self) -> Result<Next<Entry<'_>>> {
        let (feed, totals) = (&mut self.feed, &mut self.totals);
        match self.format {
            Format::Ndjson => {
                text::read_record(feed, totals, &mut self.unchecked, &mut self.payload)
            }
            Format::Binary => binary::read_record(feed, totals, &mut self.sums),
        }
    }

    /// Where the last record is, in words.
    pub(crate) fn place(&self) -> String {
        match self.format {
            // The first line is the header.
            Format::Ndjson => format!("line {} of the export", self.totals.records + 1),
            Format::Binary => format!("record {} of the export", self.totals.records),
        }
    }

    /// How many of the records so far came without a checksum.
    pub(crate) fn unchecked(&self) -> u64 {
        self.unchecked
    }

    /// Bytes that were read so far, and how many there are, if that is known.
    pub(crate) fn progress(&self) -> (u64, Option<u64>) {
        (self.feed.taken(), self.feed.total())
    }
}

fn no_export(why: &str) -> Failure {
    Failure::new(format!(
        "the input is not an export of `forebay export`: {why}; nothing was imported"
    ))
}

/// The input ends, or is damaged, after so many records.
fn broken(what: &str, at: u64, totals: Totals) -> Failure {
    use crate::output::count;
    Failure::new(format!(
        "the export {what} at byte {at}, after {}; nothing was imported: export again, or copy \
         the export again",
        count(totals.records, "record")
    ))
}

#[cfg(test)]
mod tests;
