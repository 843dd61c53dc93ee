//! Appends records from standard input to a buffer, a block of records at a time.
//!
//! Invariants: records are appended in the order of the input; a record that
//! was read is appended, refused with an error, or counted as left over; after
//! a stop nothing more is read, but whole records that were read are appended while
//! there is room. Records that were accepted into memory and never written can be taken
//! back: they are left over again, and appended to the next writer.

mod kept;
pub(crate) mod reports;

use self::kept::Kept;
use crate::args::{FullPolicy, LimitOptions};
use crate::failure::{Failure, Result};
use crate::io::framing::{BadInput, Framing, Splitter};
use crate::io::input::{Input, Read};
use crate::stop::Stop;
use forebay::{ErrorKind, EventCounter, Writer};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Bytes asked for in one read.
const READ_LEN: usize = 256 << 10;
/// At most this many records that were taken back are appended at a time.
const AGAIN_RECORDS: usize = 4096;

/// Reads records and appends them.
#[derive(Debug)]
pub(crate) struct Producer {
    input: Input,
    splitter: Splitter,
    metadata: u32,
    counter: EventCounter,
    when_full: FullPolicy,
    /// The options that allow longer records.
    longer: &'static str,
    /// Records that were read; those before `next` are appended.
    records: Vec<Range<usize>>,
    next: usize,
    ended: bool,
    bad: Option<BadInput>,
    /// The record after `records` was refused, and that was reported.
    is_refused: bool,
    accepted: u64,
    dropped: u64,
    payload_bytes: u64,
    /// Accepted records that may not be written yet; `None` if they are not kept.
    kept: Option<Kept>,
    /// Records that were taken back, to be appended before all others.
    again: VecDeque<Vec<u8>>,
    /// Records that were accepted, never written, and not kept.
    unwritten_lost: u64,
}

/// What is stored with each payload, and how the buffer counts the events in it.
#[derive(Debug)]
pub(crate) struct StoredAs {
    pub(crate) metadata: u32,
    pub(crate) counter: EventCounter,
}

/// The outcome of a step.
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
    /// Reads records of at most `max_len` bytes, which fit into memory. With `keeps`, what
    /// [`take_back`](Self::take_back) takes back is appended again.
    pub(crate) fn new(
        framing: Framing,
        max_len: u64,
        stored_as: StoredAs,
        limits: &LimitOptions,
        keeps: bool,
        stop: Stop,
    ) -> Self {
        Self {
            input: Input::new(stop),
            metadata: stored_as.metadata,
            counter: stored_as.counter,
            when_full: limits.when_full,
            longer: limits.options_for_longer_records(),
            splitter: Splitter::new(framing, max_len as usize),
            records: Vec::new(),
            next: 0,
            ended: false,
            bad: None,
            is_refused: false,
            accepted: 0,
            dropped: 0,
            payload_bytes: 0,
            kept: keeps.then(Kept::default),
            again: VecDeque::new(),
            unwritten_lost: 0,
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
        let records =
            (self.records.len() - self.next) as u64 + self.again.len() as u64 + self.unwritten_lost;
        // A refused record is reported already.
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

    /// Bytes of memory that records which can be taken back need.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, Kept::bytes)
    }

    /// Whether any record is kept to be taken back.
    pub(crate) fn has_kept(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| !kept.is_empty())
    }

    /// Notes that all records with ids below `id` are written.
    pub(crate) fn note_written(&mut self, id: u64) {
        if let Some(kept) = &mut self.kept {
            kept.forget_below(id);
        }
    }

    /// Takes back the last accepted records, with ids from `first_unwritten` to before
    /// `end`: the writer was closed without writing them.
    pub(crate) fn take_back(&mut self, first_unwritten: u64, end: u64) {
        let Some(kept) = &mut self.kept else {
            let records = end.saturating_sub(first_unwritten);
            self.accepted = self.accepted.saturating_sub(records);
            self.unwritten_lost += records;
            return;
        };
        let mut again: VecDeque<_> = kept.take_from(first_unwritten).into();
        self.accepted = self.accepted.saturating_sub(again.len() as u64);
        self.payload_bytes -= again
            .iter()
            .map(|payload| payload.len() as u64)
            .sum::<u64>();
        again.append(&mut self.again);
        self.again = again;
    }

    /// Whether there are records that were taken back and not appended since.
    pub(crate) fn has_taken_back(&self) -> bool {
        !self.again.is_empty()
    }

    /// Appends what was read, or reads more, waiting for input at most `limit`.
    ///
    /// # Errors
    ///
    /// The buffer cannot be appended to.
    pub(crate) fn step(&mut self, writer: &Writer, limit: Option<Duration>) -> Result<Step> {
        if !self.again.is_empty() {
            return self.append_again(writer);
        }
        if self.next < self.records.len() {
            return self.append(writer);
        }
        self.records.clear();
        self.next = 0;
        if let Some(bad) = self.bad.take() {
            self.is_refused = true;
            return Ok(Step::Failed(Failure::new(bad.message(self.longer))));
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
        let records: Vec<(u32, &[u8])> = self.records[self.next..]
            .iter()
            .map(|range| (self.metadata, self.splitter.payload(range.clone())))
            .collect();
        let appended = Appended::of(writer, &records, self.when_full);
        if let Some(kept) = &mut self.kept {
            kept.keep(appended.with_ids(&records, &self.counter));
        }
        self.next += appended.done;
        self.count(appended)
    }

    /// Appends the oldest records that were taken back.
    fn append_again(&mut self, writer: &Writer) -> Result<Step> {
        let records: Vec<(u32, &[u8])> = self
            .again
            .iter()
            .take(AGAIN_RECORDS)
            .map(|payload| (self.metadata, payload.as_slice()))
            .collect();
        let appended = Appended::of(writer, &records, self.when_full);
        if let Some(kept) = &mut self.kept {
            kept.keep(appended.with_ids(&records, &self.counter));
        }
        self.again.drain(..appended.done);
        self.count(appended)
    }

    fn count(&mut self, appended: Appended) -> Result<Step> {
        self.accepted += appended.accepted;
        self.dropped += appended.dropped;
        self.payload_bytes += appended.payload_bytes;
        match appended.result {
            Ok(()) => Ok(Step::Going),
            Err(error) if is_full(&error) => Ok(Step::Full(error)),
            Err(error) => Err(error.into()),
        }
    }
}

/// What became of records that were appended together.
struct Appended {
    result: Result<(), forebay::Error>,
    /// The id of the last one accepted; 0 if none was.
    last_id: u64,
    accepted: u64,
    dropped: u64,
    /// Records that were accepted or dropped, and the bytes of their payloads.
    done: usize,
    payload_bytes: u64,
}

impl Appended {
    fn of(writer: &Writer, records: &[(u32, &[u8])], when_full: FullPolicy) -> Self {
        let mut tally = Tally::default();
        let mut result = tally.append(writer, records);
        if let Err(error) = &result
            && is_full(error)
            && when_full == FullPolicy::Reject
        {
            // The records were refused together; the first ones may still fit.
            let rest = &records[tally.done()..];
            result = rest
                .chunks(1)
                .try_for_each(|record| tally.append(writer, record));
        }
        let done = tally.done();
        Self {
            result,
            last_id: tally.last_id.unwrap_or(0),
            accepted: tally.accepted as u64,
            dropped: tally.dropped as u64,
            done,
            payload_bytes: records[..done].iter().map(|(_, p)| p.len() as u64).sum(),
        }
    }

    /// The accepted ones of `records`, of which none was dropped, with their ids. They follow
    /// one another, because there is no other producer.
    fn with_ids<'a>(
        &self,
        records: &[(u32, &'a [u8])],
        counter: &EventCounter,
    ) -> Vec<(u64, &'a [u8])> {
        let mut next_id = None;
        let records = records[..self.done].iter().rev();
        let mut with_ids: Vec<_> = records
            .map(|(metadata, payload)| {
                let id = match next_id {
                    None => self.last_id,
                    Some(next_id) => next_id - counter.count(*metadata, payload),
                };
                next_id = Some(id);
                (id, *payload)
            })
            .collect();
        with_ids.reverse();
        with_ids
    }
}

/// What became of the records of several calls.
#[derive(Default)]
struct Tally {
    accepted: usize,
    dropped: usize,
    last_id: Option<u64>,
}

impl Tally {
    fn append(&mut self, writer: &Writer, records: &[(u32, &[u8])]) -> Result<(), forebay::Error> {
        let appended = writer.append_batch_with(records);
        let (accepted, dropped, last_id) = match &appended {
            Ok(all) => (all.accepted(), all.dropped(), all.receipt().id()),
            Err(some) => (some.accepted(), some.dropped(), some.receipt().id()),
        };
        self.accepted += accepted;
        self.dropped += dropped;
        self.last_id = last_id.or(self.last_id);
        // What was accepted is counted here and reported by the caller.
        appended.map(drop).map_err(|batch| batch.error().clone())
    }

    fn done(&self) -> usize {
        self.accepted + self.dropped
    }
}

/// Whether an append found no room. A full buffer without a reader in this process reports
/// `ReaderGone`. With `--sync always`, records that were accepted and then found no space
/// report `TimedOut`, because their sync did not come in time.
fn is_full(error: &forebay::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Full | ErrorKind::DiskFull | ErrorKind::ReaderGone | ErrorKind::TimedOut
    )
}
