//! From standard input into a buffer, a block of records at a time.
//!
//! Invariants: records are appended in the order of the input; a record that
//! was read is appended, refused with an error, or counted as left over; after
//! a stop nothing more is read, but what was read whole is appended while there
//! is room.

use crate::failure::{Failure, Result};
use crate::framing::{BadInput, Framing, Splitter};
use crate::input::{Input, Read};
use crate::options::FullPolicy;
use crate::stop::Stop;
use forebay::{ErrorKind, Writer};
use std::ops::Range;
use std::time::Duration;

/// Bytes asked for in one read.
const READ_LEN: usize = 256 << 10;

/// Reads records and appends them.
#[derive(Debug)]
pub(crate) struct Producer {
    input: Input,
    splitter: Splitter,
    when_full: FullPolicy,
    /// Records that were read; those before `next` are appended.
    records: Vec<Range<usize>>,
    next: usize,
    ended: bool,
    bad: Option<BadInput>,
    /// The record that begins behind `records` is what is bad.
    is_refused: bool,
    accepted: u64,
    dropped: u64,
    payload_bytes: u64,
}

/// What a step came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Records were appended, or nothing came within the time limit.
    Going,
    /// The buffer has no room for the next record.
    Full(forebay::Error),
    /// The input has ended, and everything is appended.
    End,
    /// The stop is set, and what was read whole is appended.
    Stopped,
    /// The input cannot be read any further; what came before is appended.
    Failed(Failure),
}

impl Producer {
    /// Reads records of at most `max_len` bytes.
    pub(crate) fn new(framing: Framing, max_len: usize, when_full: FullPolicy, stop: Stop) -> Self {
        Self {
            input: Input::new(stop),
            when_full,
            splitter: Splitter::new(framing, max_len),
            records: Vec::new(),
            next: 0,
            ended: false,
            bad: None,
            is_refused: false,
            accepted: 0,
            dropped: 0,
            payload_bytes: 0,
        }
    }

    /// Records in the buffer by now.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Records that the policy for a full buffer dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes of the payloads of all records that were accepted or dropped.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// What was read and is neither accepted nor dropped, in words; `None` when
    /// there is nothing of that kind.
    pub(crate) fn left_over(&self) -> Option<String> {
        use crate::output::count;
        let records = (self.records.len() - self.next) as u64;
        // What is said about a refused record is said already.
        let partial = match self.is_refused {
            true => 0,
            false => self.splitter.partial_len() as u64,
        };
        let mut parts = Vec::new();
        if records > 0 {
            parts.push(count(records, "record"));
        }
        if partial > 0 {
            parts.push(format!(
                "{} of an unfinished record",
                count(partial, "byte")
            ));
        }
        (!parts.is_empty()).then(|| format!("{} read but not stored", parts.join(" and ")))
    }

    /// Appends what was read, or reads more, waiting for input at most `limit`.
    ///
    /// # Errors
    ///
    /// The buffer cannot be appended to.
    pub(crate) fn step(&mut self, writer: &Writer, limit: Option<Duration>) -> Result<Step> {
        if self.next < self.records.len() {
            return self.append(writer);
        }
        self.records.clear();
        self.next = 0;
        if let Some(bad) = self.bad.take() {
            self.is_refused = true;
            return Ok(Step::Failed(Failure::new(bad.to_string())));
        }
        if self.ended {
            return Ok(Step::End);
        }
        let read = match self.input.read(self.splitter.room(READ_LEN), limit) {
            Ok(read) => read,
            Err(error) => return Ok(Step::Failed(Failure::io("read standard input", &error))),
        };
        let taken = match read {
            Read::Nothing => return Ok(Step::Going),
            Read::Stopped => return Ok(Step::Stopped),
            Read::Bytes(len) => {
                self.splitter.filled(len);
                self.splitter.take(&mut self.records)
            }
            Read::End => {
                self.ended = true;
                self.splitter.finish().map(|last| self.records.extend(last))
            }
        };
        self.bad = taken.err();
        if self.records.is_empty() {
            return Ok(Step::Going);
        }
        self.append(writer)
    }

    fn append(&mut self, writer: &Writer) -> Result<Step> {
        let payloads: Vec<&[u8]> = self.records[self.next..]
            .iter()
            .map(|range| self.splitter.payload(range.clone()))
            .collect();
        let before = writer.usage();
        let mut appended = writer.append_batch(&payloads);
        if let Err(error) = &appended
            && is_full(error)
            && self.when_full == FullPolicy::Reject
        {
            // Together they were refused; the first ones may still fit.
            appended = payloads
                .iter()
                .try_fold(None, |_, payload| writer.append(payload).map(Some))
                .and_then(|receipt| receipt.ok_or_else(|| error.clone()));
        }
        // Every record of this tool is one event, so ids count records.
        let (accepted, dropped) = counts_since(&before, writer);
        let done = usize::try_from(accepted + dropped).unwrap_or(usize::MAX);
        let done = done.min(payloads.len());
        let payload_bytes: usize = payloads[..done].iter().map(|p| p.len()).sum();
        let outcome = match appended {
            Ok(_) => Ok(Step::Going),
            Err(error) if is_full(&error) => Ok(Step::Full(error)),
            Err(error) => Err(error.into()),
        };
        self.next += done;
        self.accepted += accepted;
        self.dropped += dropped;
        self.payload_bytes += payload_bytes as u64;
        outcome
    }
}

/// Whether there is no room. A buffer that is full and has no reader in this process says
/// that it is closed.
fn is_full(error: &forebay::Error) -> bool {
    matches!(error.kind(), ErrorKind::Full | ErrorKind::Closed)
}

/// Records accepted and dropped since a snapshot. There is no other producer.
fn counts_since(before: &forebay::Usage, writer: &Writer) -> (u64, u64) {
    let now = writer.usage();
    (
        now.next_record_id - before.next_record_id,
        now.dropped.events - before.dropped.events,
    )
}
