//! From the buffer into a program, and what the program has taken back into
//! acknowledgements.
//!
//! A record is *taken* once the program has read its last byte and, after that,
//! has read a further margin (what it may hold in a buffer of its own when it
//! dies), or has ended successfully, or has ended with any status of its own
//! after it had read everything up to the end of its input.
//!
//! A margin that the buffer has no room for is made smaller.
//!
//! Invariants: only taken records are acknowledged; what a program that failed
//! had not taken is delivered again, from the first such record on and in order;
//! a program's input never ends inside a record, unless the program is killed
//! for not reading on.

use super::backoff::Backoff;
use super::child::{Child, Children};
use super::outgoing::Outgoing;
use crate::buffer::losses::Losses;
use crate::buffer::patience::patiently;
use crate::failure::{Failure, Result};
use crate::io::framing::Framing;
use crate::output::note;
use crate::stop::Stop;
use forebay::{Batch, Delivery, Item, Reader, TryBatch, TryNext};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Records and payload bytes taken from the buffer at a time.
const BATCH_RECORDS: usize = 16 << 10;
const BATCH_BYTES: usize = 256 << 10;
/// How long the end of a program, or a stop, goes unnoticed while the buffer is
/// empty.
const IDLE: Duration = Duration::from_millis(100);
/// How often a program that reads nothing is looked at.
const BLOCKED: Duration = Duration::from_secs(1);

/// What a pump is asked to do.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The program and its arguments.
    pub(crate) command: &'a [OsString],
    pub(crate) framing: Framing,
    /// How much a program may have read and not worked off when it dies.
    pub(crate) margin: u64,
    /// How long a program may take to end after a stop.
    pub(crate) grace: Duration,
}

/// How the pumping ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything was taken; the program's status.
    Drained(u8),
    /// The program ended successfully before its input did.
    Enough,
    /// The program failed, too often.
    Failed(HowEnded),
    /// The stop was set.
    Stopped,
}

/// How a program has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HowEnded {
    Code(u8),
    #[cfg_attr(
        not(unix),
        expect(dead_code, reason = "programs die of signals on Unix only")
    )]
    Signal(u8),
}

impl HowEnded {
    fn of(status: ExitStatus) -> Self {
        #[cfg(unix)]
        if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
            return Self::Signal(u8::try_from(signal).unwrap_or(u8::MAX));
        }
        Self::Code(
            status
                .code()
                .map_or(1, |code| u8::try_from(code).unwrap_or(1)),
        )
    }

    /// The exit status that stands for it, as in a shell.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }
}

impl fmt::Display for HowEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with status {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// Moves records from a buffer into a program.
#[derive(Debug)]
pub(crate) struct Pump<'a> {
    plan: Plan<'a>,
    stop: Stop,
    /// Set while the buffer has no room for what comes in.
    starved: &'a AtomicBool,
    /// The plan's margin, or what the buffer has room for.
    margin: u64,
    children: Children,
    reader: Reader,
    outgoing: Outgoing,
    /// What was fetched for this program and is not acknowledged yet, with the
    /// offset in its input where each ends.
    held: VecDeque<(Held, u64)>,
    /// The offset in the program's input behind all that was fetched, and
    /// behind all that is acknowledged.
    fetched: u64,
    settled: u64,
    /// Records that this program has taken.
    taken: u64,
    /// The buffer has no more, and will not have.
    is_drained: bool,
    losses: Losses,
}

#[derive(Debug)]
enum Held {
    Batch(Batch),
    One(Delivery),
}

/// What the end of a program means.
enum Verdict {
    End(End),
    Restart(HowEnded),
}

impl<'a> Pump<'a> {
    /// A pump from a buffer's reader.
    ///
    /// # Errors
    ///
    /// The operating system has no descriptors left.
    pub(crate) fn new(
        plan: Plan<'a>,
        reader: Reader,
        stop: Stop,
        starved: &'a AtomicBool,
    ) -> Result<Self> {
        Ok(Self {
            margin: plan.margin,
            plan,
            stop,
            starved,
            children: Children::new().map_err(|error| Failure::io("watch programs", &error))?,
            reader,
            outgoing: Outgoing::default(),
            held: VecDeque::new(),
            fetched: 0,
            settled: 0,
            taken: 0,
            is_drained: false,
            losses: Losses::default(),
        })
    }

    /// Starts the program for the first time.
    ///
    /// # Errors
    ///
    /// It cannot be started; the failure has the status that shells use.
    pub(crate) fn start(&self) -> Result<Child> {
        Child::start(self.plan.command).map_err(|error| Failure {
            message: error.message,
            status: error.code,
        })
    }

    /// Feeds the program, and starts it again when it fails, until the buffer
    /// is drained or something else ends it.
    ///
    /// # Errors
    ///
    /// The buffer cannot be read, or the operating system fails a pipe.
    pub(crate) fn run(&mut self, first: Child, mut backoff: Backoff) -> Result<End> {
        let mut running = Some(first);
        loop {
            let begun = Instant::now();
            let failed = match running.take() {
                Some(mut child) => match self.serve(&mut child)? {
                    Verdict::End(end) => return Ok(end),
                    Verdict::Restart(how) => how,
                },
                None => match Child::start(self.plan.command) {
                    Ok(child) => {
                        running = Some(child);
                        continue;
                    }
                    // It could be started once: it may be back after an upgrade.
                    Err(error) => {
                        note(error.message);
                        HowEnded::Code(error.code)
                    }
                },
            };
            let took = self.taken > 0;
            self.rewind();
            if self.stop.is_set() {
                return Ok(End::Stopped);
            }
            let Some(delay) = backoff.after(begun.elapsed(), took) else {
                return Ok(End::Failed(failed));
            };
            note(format!(
                "{} {failed}; starting it again in {} s with what it has not taken",
                self.name(),
                delay.as_secs_f64()
            ));
            if self.stops_within(delay) {
                return Ok(End::Stopped);
            }
        }
    }

    /// Reports what was lost on the way, and whether anything was; lets go of
    /// the buffer.
    ///
    /// # Errors
    ///
    /// The acknowledgements cannot be synced.
    pub(crate) fn close(self) -> Result<bool> {
        self.reader.sync_acks()?;
        self.reader.close()?;
        Ok(self.losses.report())
    }

    /// The program's name, for people.
    pub(crate) fn name(&self) -> String {
        let program = self.plan.command.first();
        program.map_or_else(String::new, |program| {
            program.to_string_lossy().into_owned()
        })
    }

    /// Feeds a program until it ends or the stop is set.
    fn serve(&mut self, child: &mut Child) -> Result<Verdict> {
        match self.feed(child) {
            Ok(Some(status)) => self.judge(child, HowEnded::of(status)),
            Ok(None) => {
                self.shut_down(child)?;
                Ok(Verdict::End(End::Stopped))
            }
            Err(failure) => {
                // The first failure is the one to report.
                let _ = self.shut_down(child);
                Err(failure)
            }
        }
    }

    /// Feeds a program; its status, or `None` when the stop was set first.
    fn feed(&mut self, child: &mut Child) -> Result<Option<ExitStatus>> {
        while !self.stop.is_set() {
            if let Some(status) = child.status().map_err(|e| self.failed("wait for", &e))? {
                return Ok(Some(status));
            }
            let read = self.read_by(child)?;
            self.settle(read.saturating_sub(self.margin));
            if self.outgoing.is_empty() && !self.is_drained {
                self.outgoing.clear();
                self.fetch()?;
                if self.outgoing.is_empty() && self.starved.load(Ordering::Relaxed) {
                    self.make_room(child)?;
                }
            }
            let all_written = child
                .feed(&mut self.outgoing)
                .map_err(|e| self.failed("write to", &e))?;
            if !all_written {
                self.wait(Some(child), BLOCKED)?;
            } else if self.is_drained {
                child.close_input();
                self.wait(None, BLOCKED)?;
            }
        }
        Ok(None)
    }

    fn wait(&self, room: Option<&Child>, limit: Duration) -> Result<()> {
        self.children
            .wait(Some(&self.stop), room, limit)
            .map_err(|e| self.failed("wait for", &e))
    }

    /// Gets what the buffer has, or waits a little for it to have something.
    fn fetch(&mut self) -> Result<()> {
        let reader = &mut self.reader;
        match patiently(|| reader.try_next_batch(BATCH_RECORDS, BATCH_BYTES))? {
            TryBatch::Batch(batch) => {
                self.losses.note(batch.lost(), None);
                for record in batch.iter() {
                    self.outgoing
                        .push(record.payload, self.plan.framing)
                        .map_err(|error| Failure::new(error.to_string()))?;
                    self.fetched += self.plan.framing.framed_len(record.payload.len());
                }
                self.held.push_back((Held::Batch(batch), self.fetched));
            }
            TryBatch::End => self.is_drained = true,
            TryBatch::Empty => match patiently(|| reader.next_timeout(IDLE))? {
                TryNext::Item(Item::Record(delivery)) => {
                    self.outgoing
                        .push(delivery.payload(), self.plan.framing)
                        .map_err(|error| Failure::new(error.to_string()))?;
                    self.fetched += self.plan.framing.framed_len(delivery.payload().len());
                    self.held.push_back((Held::One(delivery), self.fetched));
                }
                TryNext::Item(Item::Lost(lost)) => {
                    self.losses.note(&[lost], None);
                }
                TryNext::Empty => {}
                TryNext::End => self.is_drained = true,
            },
        }
        Ok(())
    }

    /// Acknowledges the batches that end within the first `taken` bytes of the
    /// program's input.
    fn settle(&mut self, taken: u64) {
        while let Some((held, end)) = self.held.pop_front() {
            if end > taken {
                self.held.push_front((held, end));
                return;
            }
            self.settled = end;
            match held {
                Held::Batch(batch) => {
                    self.taken += batch.len() as u64;
                    batch.ack();
                }
                Held::One(delivery) => {
                    self.taken += 1;
                    delivery.ack();
                }
            }
        }
    }

    /// The same, record by record.
    fn settle_records(&mut self, taken: u64) {
        self.settle(taken);
        match self.held.pop_front() {
            Some((Held::Batch(batch), _)) if self.settled < taken => {
                let mut end = self.settled;
                let records: Vec<_> = batch
                    .into_deliveries()
                    .map(|delivery| {
                        end += self.plan.framing.framed_len(delivery.payload().len());
                        (Held::One(delivery), end)
                    })
                    .collect();
                for record in records.into_iter().rev() {
                    self.held.push_front(record);
                }
                self.settle(taken);
            }
            Some(other) => self.held.push_front(other),
            None => {}
        }
    }

    /// The buffer is full, and everything in it is with the program: when the
    /// program has read it all, nothing would ever happen unless less is kept
    /// for the case that it dies.
    fn make_room(&mut self, child: &Child) -> Result<()> {
        let read = self.read_by(child)?;
        if read == child.written() && self.margin > 0 {
            self.margin /= 2;
            self.settle_records(read.saturating_sub(self.margin));
        }
        Ok(())
    }

    /// What the end of a program means, and what it had taken.
    fn judge(&mut self, child: &Child, how: HowEnded) -> Result<Verdict> {
        let read = self.read_by(child)?;
        let has_read_all = self.is_drained && self.outgoing.is_empty() && read == child.written();
        let (taken, verdict) = match how {
            HowEnded::Code(0) if !has_read_all => (read, Verdict::End(End::Enough)),
            HowEnded::Code(code) if has_read_all => (read, Verdict::End(End::Drained(code))),
            _ => (read.saturating_sub(self.margin), Verdict::Restart(how)),
        };
        self.settle_records(taken);
        Ok(verdict)
    }

    /// Lets a program end in peace: at the end of a record, then the end of its
    /// input, then by force.
    fn shut_down(&mut self, child: &mut Child) -> Result<()> {
        let deadline = Instant::now() + self.plan.grace;
        let mut killed = false;
        self.outgoing.keep_begun();
        let status = loop {
            if let Some(status) = child.status().map_err(|e| self.failed("wait for", &e))? {
                break status;
            }
            let all_written = child
                .feed(&mut self.outgoing)
                .map_err(|e| self.failed("write to", &e))?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !killed {
                killed = true;
                note(format!(
                    "{} has not ended within {} s; killing it",
                    self.name(),
                    self.plan.grace.as_secs_f64()
                ));
                child.kill();
                self.outgoing.clear();
            } else if all_written {
                child.close_input();
            }
            let room = (!all_written).then_some(&*child);
            self.children
                .wait(None, room, left.max(IDLE).min(BLOCKED))
                .map_err(|e| self.failed("wait for", &e))?;
        };
        let read = self.read_by(child)?;
        let taken = match HowEnded::of(status) {
            HowEnded::Code(0) => read,
            HowEnded::Code(_) if read == child.written() => read,
            _ => read.saturating_sub(self.margin),
        };
        self.settle_records(taken);
        Ok(())
    }

    /// Forgets what was fetched for a program that has ended: the next one gets
    /// everything that is not acknowledged.
    fn rewind(&mut self) {
        self.held.clear();
        self.outgoing.clear();
        self.fetched = 0;
        self.settled = 0;
        self.taken = 0;
        self.is_drained = false;
        self.reader.rewind();
    }

    /// Waits, and says whether the stop was set.
    fn stops_within(&self, delay: Duration) -> bool {
        let deadline = Instant::now() + delay;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.stop.is_set() || left.is_zero() {
                return self.stop.is_set();
            }
            self.stop.wait(left);
        }
    }

    fn read_by(&self, child: &Child) -> Result<u64> {
        child
            .read()
            .map_err(|error| self.failed("ask for the unread input of", &error))
    }

    fn failed(&self, what: &str, error: &io::Error) -> Failure {
        Failure::io(&format!("{what} {}", self.name()), error)
    }
}
