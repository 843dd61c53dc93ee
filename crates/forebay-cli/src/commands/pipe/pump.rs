//! From the buffer into a program, and what the program has taken back into
//! acknowledgements.
//!
//! A program that acknowledges has *taken* the records that it acknowledges. Of any
//! other a record is taken once the program has read its last byte and, after that,
//! has read a further margin (what it may hold in a buffer of its own when it
//! dies), or has ended successfully, or has ended with any status of its own
//! after it had read everything up to the end of its input. A margin that the buffer
//! has no room for is made smaller.
//!
//! With a maximum of attempts, a record on which the program fails is looked for: starts
//! get one record alone, and take it only if they end successfully (or acknowledge it).
//! A record that has used up its attempts goes to the dead letters.
//!
//! Invariants: only records that are taken, or synced in the dead letters, are
//! acknowledged; what a program that failed had not taken is delivered again, from the
//! first such record on and in order; a program's input never ends inside a record,
//! unless the program is killed for not reading on.

use super::acks::{AckLines, Acks};
use super::backoff::Backoff;
use super::child::{Child, Children};
use super::dead_letters::{self, DeadLetters};
use super::flight::Flight;
use super::outgoing::Outgoing;
use super::suspects::{Next, Suspected, Suspects};
use crate::buffer::losses::Losses;
use crate::buffer::patience::patiently;
use crate::failure::{Failure, Result};
use crate::io::framing::Framing;
use crate::live::{Flow, Live};
use crate::output::count;
use crate::stop::Stop;
use forebay::{Delivery, Item, Reader, TryRecv};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::num::NonZeroU64;
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
/// How long acknowledgements go unnoticed while the buffer is empty. Until they are
/// noticed, a full buffer has no room.
const ACKS_IDLE: Duration = Duration::from_millis(5);
/// Records that a program may have without having acknowledged them: each takes some
/// 64 bytes of memory.
const UNACKNOWLEDGED_MAX: usize = 1 << 20;
/// How long acknowledgements are waited for before that is told.
const ACKS_MISSED: Duration = Duration::from_secs(10);
/// How long a program that can acknowledge no more may take to end.
const DEAF: Duration = Duration::from_secs(1);

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
    /// How often a program may fail on a record before that is set aside.
    pub(crate) max_attempts: Option<NonZeroU64>,
    /// Whether nothing is shown on a terminal.
    pub(crate) quiet: bool,
}

/// How the pumping ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything was taken; the program's status.
    Drained(u8),
    /// The program ended successfully before its input did.
    Enough,
    /// The program ended successfully, and had not acknowledged these records that it
    /// had read (if any: it may have closed the descriptor for that).
    Unacknowledged(Option<Suspected>),
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

    /// The status that it ended with by itself.
    fn code(self) -> Option<u8> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(_) => None,
        }
    }

    /// The signal that ended it.
    fn signal(self) -> Option<u8> {
        match self {
            Self::Code(_) => None,
            Self::Signal(signal) => Some(signal),
        }
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
    /// Starts programs that acknowledge.
    acks: Option<Acks>,
    reader: Reader,
    dead_letters: Option<DeadLetters>,
    suspects: Suspects,
    losses: Losses,
    display: Live,
    unread_at_open: u64,
    /// Whether it was said how a record is set aside.
    has_hinted: bool,
    /// What belongs to the program that runs.
    run: Run,
}

/// What a pump knows of one program, from its start to its end.
#[derive(Debug)]
struct Run {
    /// Records on their way into the program.
    outgoing: Outgoing,
    /// Records that it was given and has not taken.
    flight: Flight,
    /// The buffer has no more, and will not have.
    is_drained: bool,
    /// It gets one record, and this is its id once it has that.
    is_alone: bool,
    alone_id: Option<u64>,
    /// Since when it can acknowledge no more, and whether that is for good.
    closed_since: Option<Instant>,
    is_deaf: bool,
    /// It has acknowledged what it had not read: no more of its lines count.
    is_distrusted: bool,
    /// Since when it is waited for to acknowledge, and whether that was told.
    waiting_since: Option<Instant>,
    has_told_waiting: bool,
}

impl Run {
    fn new(framing: Framing, is_alone: bool) -> Self {
        Self {
            outgoing: Outgoing::default(),
            flight: Flight::new(framing),
            is_drained: false,
            is_alone,
            alone_id: None,
            closed_since: None,
            is_deaf: false,
            is_distrusted: false,
            waiting_since: None,
            has_told_waiting: false,
        }
    }

    /// Whether the program gets nothing beyond what is outgoing.
    fn gets_no_more(&self) -> bool {
        self.is_drained || self.is_deaf || self.alone_id.is_some()
    }
}

/// What the end of a program means.
enum Verdict {
    End(End),
    /// It has taken the one record that it was given.
    Passed,
    Failed(Failed),
}

/// How a program failed.
struct Failed {
    how: HowEnded,
    /// The records that it had read and not taken.
    suspected: Option<Suspected>,
}

impl<'a> Pump<'a> {
    /// A pump from a buffer's reader, into a program that acknowledges if there are
    /// `acks`.
    ///
    /// # Errors
    ///
    /// The operating system has no descriptors left.
    pub(crate) fn new(
        plan: Plan<'a>,
        reader: Reader,
        acks: Option<Acks>,
        dead_letters: Option<DeadLetters>,
        stop: Stop,
        starved: &'a AtomicBool,
    ) -> Result<Self> {
        let usage = reader.usage();
        let unread_at_open = usage.unread.events;
        Ok(Self {
            margin: plan.margin,
            stop,
            starved,
            children: Children::new().map_err(|error| Failure::io("watch programs", &error))?,
            acks,
            reader,
            dead_letters,
            suspects: Suspects::new(plan.max_attempts),
            losses: Losses::default(),
            display: Live::new(plan.quiet, Flow::of(&usage, unread_at_open)),
            unread_at_open,
            has_hinted: false,
            run: Run::new(plan.framing, false),
            plan,
        })
    }

    /// Starts the program for the first time.
    ///
    /// # Errors
    ///
    /// It cannot be started; the failure has the status that shells use.
    pub(crate) fn start(&mut self) -> Result<Child> {
        Child::start(self.plan.command, self.acks.as_mut()).map_err(|error| Failure {
            message: error.message,
            status: error.code,
        })
    }

    /// Feeds the program, and starts it again when it fails, until the buffer
    /// is drained or something else ends it.
    ///
    /// # Errors
    ///
    /// The buffer cannot be read, a record cannot be set aside, the program
    /// acknowledges what it has not read, or the operating system fails a pipe.
    pub(crate) fn run(&mut self, first: Child, mut backoff: Backoff) -> Result<End> {
        let end = self.run_all(first, &mut backoff);
        self.display.clear();
        end
    }

    fn run_all(&mut self, first: Child, backoff: &mut Backoff) -> Result<End> {
        let mut running = Some(first);
        loop {
            let begun = Instant::now();
            let failed = match running.take() {
                Some(mut child) => match self.serve(&mut child)? {
                    Verdict::End(end) => return Ok(end),
                    Verdict::Failed(failed) => Some(failed),
                    Verdict::Passed => None,
                },
                None => match Child::start(self.plan.command, self.acks.as_mut()) {
                    Ok(child) => {
                        running = Some(child);
                        continue;
                    }
                    // It could be started once: it may be back after an upgrade.
                    Err(error) => {
                        self.display.note(error.message);
                        Some(Failed {
                            how: HowEnded::Code(error.code),
                            suspected: None,
                        })
                    }
                },
            };
            let took = self.run.flight.taken() > 0;
            self.rewind();
            if self.stop.is_set() {
                return Ok(End::Stopped);
            }
            match failed {
                None => {
                    backoff.succeeded();
                    if self.has_come_to_the_end()? {
                        return Ok(End::Drained(0));
                    }
                }
                Some(failed) => {
                    let next = match failed.suspected {
                        Some(suspected) if !took => Some(self.suspects.failed(suspected)),
                        _ => None,
                    };
                    if let Some(Next::SetAside { id, attempts }) = next
                        && !self.set_aside(id, attempts, failed.how)?
                    {
                        return Ok(End::Stopped);
                    }
                    let Some(delay) = backoff.after(begun.elapsed(), took) else {
                        return Ok(End::Failed(failed.how));
                    };
                    self.tell(&failed, next, delay);
                    if self.stops_within(delay) {
                        return Ok(End::Stopped);
                    }
                }
            }
            self.run.is_alone = self.suspects.is_alone_next();
        }
    }

    /// Says that the program is started again, and which record it may have failed on.
    fn tell(&mut self, failed: &Failed, next: Option<Next>, delay: Duration) {
        let again = format!(
            "{} {}; starting it again in {} s with ",
            self.name(),
            failed.how,
            delay.as_secs_f64()
        );
        let Some((suspected, next)) = failed.suspected.zip(next) else {
            let with = match self.suspects.is_alone_next() {
                true => "the first record that it has not taken",
                false => "what it has not taken",
            };
            return self.display.note(format!("{again}{with}"));
        };
        let first = suspected.first;
        self.display.note(match next {
            Next::Again => {
                let mut hint = "";
                if !std::mem::replace(&mut self.has_hinted, true) {
                    hint = " (--max-attempts with --dead-letters sets such a record aside)";
                }
                format!(
                    "{again}what it has not taken; it took nothing, and may have failed on \
                     {suspected}{hint}"
                )
            }
            Next::Alone => match self.suspects.attempts() {
                0 => format!("{again}record {first} alone; it may have failed on {suspected}"),
                attempts => format!(
                    "{again}record {first} alone, on which it has failed {attempts} of {} times",
                    self.plan.max_attempts.map_or(0, NonZeroU64::get)
                ),
            },
            Next::SetAside { .. } => format!("{again}what follows record {first}"),
        });
    }

    /// Puts the first record, on which the program has used up its attempts, into the
    /// dead letters. False when the stop was set before that was possible.
    fn set_aside(&mut self, id: u64, attempts: u64, how: HowEnded) -> Result<bool> {
        let Some(delivery) = self.first_record(id)? else {
            // Damage has taken it since the program read it, and is reported as such.
            self.rewind();
            return Ok(true);
        };
        let name = self.name();
        let Some(dead_letters) = &mut self.dead_letters else {
            return Err(Failure::new(format!(
                "{name} fails on record {id}; set it aside with --dead-letters"
            )));
        };
        let failed = dead_letters::Failed {
            attempts,
            exit_status: how.code(),
            signal: how.signal(),
        };
        if !dead_letters.store(&delivery, failed)? {
            return Ok(false);
        }
        delivery.ack();
        let directory = dead_letters.directory().display();
        self.display.note(format!(
            "record {id} is set aside in {directory} after {}: {name} {how}",
            count(attempts, "attempt")
        ));
        Ok(true)
    }

    /// The first record that is not acknowledged, if it has this id.
    fn first_record(&mut self, id: u64) -> Result<Option<Delivery>> {
        loop {
            match patiently(|| self.reader.recv_timeout(IDLE))? {
                TryRecv::Ready(Item::Record(delivery)) => {
                    return Ok((delivery.id() == id).then_some(delivery));
                }
                TryRecv::Ready(Item::Lost(lost)) => self.losses.note(&[lost], None),
                TryRecv::Empty | TryRecv::End => return Ok(None),
            }
        }
    }

    /// Whether nothing is left for another start. It gets what is there otherwise.
    fn has_come_to_the_end(&mut self) -> Result<bool> {
        if self.suspects.is_alone_next() {
            return Ok(false);
        }
        self.fetch()?;
        Ok(self.run.is_drained && self.run.outgoing.is_empty())
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

    /// Records that were set aside.
    pub(crate) fn set_aside_count(&self) -> u64 {
        self.dead_letters.as_ref().map_or(0, DeadLetters::count)
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
            self.settle(child)?;
            let has_too_many = self.run.flight.len() >= UNACKNOWLEDGED_MAX;
            if self.run.outgoing.is_empty() && !self.run.gets_no_more() {
                self.run.outgoing.clear();
                if !has_too_many {
                    self.fetch()?;
                }
                self.hurry(child, has_too_many)?;
            }
            let all_written = child
                .feed(&mut self.run.outgoing)
                .map_err(|e| self.failed("write to", &e))?;
            let is_done = all_written && self.run.gets_no_more();
            if is_done {
                child.close_input();
            }
            match is_done && self.run.is_drained {
                true => self.display.clear(),
                false => self.show(),
            }
            if !all_written || is_done || has_too_many {
                self.wait(child, !all_written)?;
            }
        }
        Ok(None)
    }

    fn wait(&self, child: &Child, for_room: bool) -> Result<()> {
        self.children
            .wait(Some(&self.stop), child, for_room, BLOCKED)
            .map_err(|e| self.failed("wait for", &e))
    }

    fn show(&mut self) {
        let (reader, unread_at_open) = (&self.reader, self.unread_at_open);
        self.display
            .show(|| Flow::of(&reader.usage(), unread_at_open));
    }

    /// Gets what the buffer has, or waits a little for it to have something.
    fn fetch(&mut self) -> Result<()> {
        let (reader, run) = (&mut self.reader, &mut self.run);
        let mut push = |payload: &[u8]| {
            run.outgoing
                .push(payload, self.plan.framing)
                .map_err(|error| Failure::new(error.to_string()))
        };
        if !run.is_alone {
            match patiently(|| reader.try_recv_batch(BATCH_RECORDS, BATCH_BYTES))? {
                TryRecv::Ready(batch) => {
                    self.losses.note(batch.lost(), None);
                    for record in batch.records() {
                        push(record.payload)?;
                    }
                    match self.acks {
                        Some(_) => batch.into_deliveries().for_each(|d| run.flight.push(d)),
                        None => run.flight.push_batch(batch),
                    }
                    return Ok(());
                }
                TryRecv::End => {
                    run.is_drained = true;
                    return Ok(());
                }
                TryRecv::Empty => {}
            }
        }
        let limit = match self.acks.is_some() && !run.flight.is_empty() {
            true => ACKS_IDLE,
            false => IDLE,
        };
        match patiently(|| reader.recv_timeout(limit))? {
            TryRecv::Ready(Item::Record(delivery)) => {
                push(delivery.payload())?;
                if run.is_alone {
                    run.alone_id = Some(delivery.id());
                }
                run.flight.push(delivery);
            }
            TryRecv::Ready(Item::Lost(lost)) => self.losses.note(&[lost], None),
            TryRecv::Empty => {}
            TryRecv::End => run.is_drained = true,
        }
        Ok(())
    }

    /// Acknowledges what the program has taken so far.
    fn settle(&mut self, child: &mut Child) -> Result<()> {
        if child.acks().is_some() {
            self.settle_acks(child, AckLines::read)?;
            self.look_for_end_of_acks(child);
        } else if !self.run.is_alone {
            let read = self.read_by(child)?;
            self.run.flight.settle(read.saturating_sub(self.margin));
        }
        Ok(())
    }

    /// Reads lines of the program, a block at most, and acknowledges the records that
    /// they stand for; whether there were any.
    fn settle_acks(
        &mut self,
        child: &mut Child,
        read: fn(&mut AckLines) -> io::Result<Option<u64>>,
    ) -> Result<bool> {
        let lines = child.acks().map(read).transpose();
        let Some(lines) = lines
            .map_err(|e| self.failed("read the acknowledgements of", &e))?
            .flatten()
        else {
            return Ok(false);
        };
        if self.run.is_distrusted {
            return Ok(true);
        }
        // What a line stands for was read before it was written.
        let read = self.read_by(child)?;
        for _ in 0..lines {
            self.run.waiting_since = None;
            if !self.run.flight.acknowledge_next(read) {
                self.run.is_distrusted = true;
                let taken = self.run.flight.taken();
                return Err(Failure::new(format!(
                    "{} acknowledged a record that it had not read: line {} on {} came when it \
                     had read {}; have it write one line after each record",
                    self.name(),
                    taken + 1,
                    self.stream(),
                    count(taken, "record")
                )));
            }
        }
        Ok(true)
    }

    /// A program that can acknowledge no more, and does not end, gets no more.
    fn look_for_end_of_acks(&mut self, child: &mut Child) {
        if self.run.is_deaf || child.acks().is_none_or(|acks| acks.is_open()) {
            return;
        }
        let since = *self.run.closed_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= DEAF {
            self.run.is_deaf = true;
            self.display.note(format!(
                "{} has closed {} and can acknowledge nothing more; it gets no more records",
                self.name(),
                self.stream()
            ));
        }
    }

    /// Where the program's acknowledgements come from, for people.
    fn stream(&self) -> String {
        let stream = self.acks.as_ref().map(Acks::stream);
        stream.map_or_else(String::new, |stream| stream.to_string())
    }

    /// Looks whether nothing would ever happen: the buffer is full, or the program has
    /// too many records, and nothing more can be fetched for it.
    fn hurry(&mut self, child: &Child, has_too_many: bool) -> Result<()> {
        let is_starved = self.starved.load(Ordering::Relaxed);
        let is_stuck = self.run.outgoing.is_empty() && (is_starved || has_too_many);
        if !is_stuck || self.run.flight.is_empty() {
            self.run.waiting_since = None;
            return Ok(());
        }
        if self.acks.is_none() {
            return self.make_room(child);
        }
        let since = *self.run.waiting_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= ACKS_MISSED && !self.run.has_told_waiting {
            self.run.has_told_waiting = true;
            let why = match has_too_many {
                true => "gets no more before it acknowledges some",
                false => {
                    "has all that the full buffer holds, which has no room before it \
                          acknowledges some"
                }
            };
            let has = count(self.run.flight.len() as u64, "record");
            self.display.note(format!(
                "{} has {has} that it has not acknowledged, and {why}",
                self.name()
            ));
        }
        Ok(())
    }

    /// The buffer is full, and everything in it is with the program: when the
    /// program has read it all, nothing would ever happen unless less is kept
    /// for the case that it dies.
    fn make_room(&mut self, child: &Child) -> Result<()> {
        let read = self.read_by(child)?;
        if read == child.written() && self.margin > 0 && !self.run.is_alone {
            self.margin /= 2;
            let taken = read.saturating_sub(self.margin);
            self.run.flight.settle_records(taken);
        }
        Ok(())
    }

    /// What the end of a program means, and what it had taken.
    fn judge(&mut self, child: &mut Child, how: HowEnded) -> Result<Verdict> {
        let read = self.read_by(child)?;
        let is_given_all = self.run.is_drained && self.run.outgoing.is_empty();
        let has_read_all = is_given_all && read == child.written();
        self.settle_rest(child, how, has_read_all)?;
        let suspected = self.run.flight.suspected(read);
        let has_taken_all = is_given_all && self.run.flight.is_empty();
        let failed = Verdict::Failed(Failed { how, suspected });
        let leaves_unacknowledged =
            self.acks.is_some() && (suspected.is_some() || self.run.is_deaf);
        if let Some(id) = self.run.alone_id {
            let has_passed = self.run.flight.is_empty();
            if has_passed {
                self.suspects.passed(id);
            }
            return Ok(match how {
                HowEnded::Code(0) if has_passed => Verdict::Passed,
                HowEnded::Code(0) if self.run.is_deaf => {
                    Verdict::End(End::Unacknowledged(suspected))
                }
                HowEnded::Code(0) if self.acks.is_none() => Verdict::End(End::Enough),
                _ => failed,
            });
        }
        Ok(match how {
            HowEnded::Code(code) if has_taken_all => Verdict::End(End::Drained(code)),
            HowEnded::Signal(_) if has_taken_all && self.is_strict() => {
                Verdict::End(End::Drained(how.status()))
            }
            HowEnded::Code(0) if leaves_unacknowledged => {
                Verdict::End(End::Unacknowledged(suspected))
            }
            HowEnded::Code(0) if !has_read_all => Verdict::End(End::Enough),
            _ => failed,
        })
    }

    /// Whether only success, or an acknowledgement, takes the last records.
    fn is_strict(&self) -> bool {
        self.acks.is_some() || self.plan.max_attempts.is_some()
    }

    /// Acknowledges what a program had taken when it ended.
    fn settle_rest(&mut self, child: &mut Child, how: HowEnded, has_read_all: bool) -> Result<()> {
        if child.acks().is_some() {
            while self.settle_acks(child, AckLines::read_rest)? {}
            return Ok(());
        }
        let read = self.read_by(child)?;
        let taken = match how {
            HowEnded::Code(0) => read,
            HowEnded::Code(_) if has_read_all && !self.is_strict() => read,
            _ if self.run.is_alone => 0,
            _ => read.saturating_sub(self.margin),
        };
        self.run.flight.settle_records(taken);
        Ok(())
    }

    /// Lets a program end in peace: at the end of a record, then the end of its
    /// input, then by force.
    fn shut_down(&mut self, child: &mut Child) -> Result<()> {
        let deadline = Instant::now() + self.plan.grace;
        let mut killed = false;
        let mut failure = None;
        self.display.clear();
        self.run.outgoing.keep_begun();
        let status = loop {
            if let Some(status) = child.status().map_err(|e| self.failed("wait for", &e))? {
                break status;
            }
            // It may wait for room for its acknowledgements.
            if let Err(first) = self.settle_acks(child, AckLines::read) {
                failure.get_or_insert(first);
            }
            let all_written = child
                .feed(&mut self.run.outgoing)
                .map_err(|e| self.failed("write to", &e))?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !killed {
                killed = true;
                self.display.note(format!(
                    "{} has not ended within {} s; killing it",
                    self.name(),
                    self.plan.grace.as_secs_f64()
                ));
                child.kill();
                self.run.outgoing.clear();
            } else if all_written {
                child.close_input();
            }
            self.children
                .wait(None, child, !all_written, left.max(IDLE).min(BLOCKED))
                .map_err(|e| self.failed("wait for", &e))?;
        };
        let has_read_all = self.read_by(child)? == child.written();
        self.settle_rest(child, HowEnded::of(status), has_read_all)?;
        failure.map_or(Ok(()), Err)
    }

    /// Forgets what was fetched for a program that has ended: the next one gets
    /// everything that is not acknowledged.
    fn rewind(&mut self) {
        self.run = Run::new(self.plan.framing, false);
        self.reader.rewind();
    }

    /// Waits, and says whether the stop was set.
    fn stops_within(&mut self, delay: Duration) -> bool {
        let deadline = Instant::now() + delay;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.stop.is_set() || left.is_zero() {
                return self.stop.is_set();
            }
            self.show();
            self.stop.wait(
                self.display
                    .due_in()
                    .map_or(left, |due_in| due_in.min(left)),
            );
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
