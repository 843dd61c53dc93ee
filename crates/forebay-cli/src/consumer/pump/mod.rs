//! Moves records from the buffer into a program, and acknowledges those that it has taken.
//!
//! A program that acknowledges has *taken* the records that it acknowledges. Any other
//! program has taken a record once it has read the record's last byte and, after that,
//! has read a further margin (what it may hold in a buffer of its own when it dies), or
//! has ended successfully, or has ended with any status of its own after it had read
//! everything up to the end of its input. The margin is made smaller when the buffer has
//! no room for it.
//!
//! With a maximum of attempts, the pump looks for a record on which the program fails: a
//! start gets one record alone, and takes it only if it ends successfully (or acknowledges
//! the record). A record that has used up its attempts goes to the dead letters.
//!
//! Invariants: only records that are taken, or synced in the dead letters, are
//! acknowledged; what a program that failed had not taken is delivered again, from the
//! first such record on and in order; a program's input never ends inside a record,
//! unless the program is killed for not reading on.

mod ending;
mod failing;
mod taking;

pub(crate) use self::ending::End;
use self::ending::{Failed, HowEnded, Verdict};
use crate::buffer::losses::Losses;
use crate::buffer::pace::Pace;
use crate::buffer::patience::patiently;
use crate::consumer::acks::Acks;
use crate::consumer::backoff::{Backoff, Progress};
use crate::consumer::child::{Child, Children, Output, StartError};
use crate::consumer::dead_letters::DeadLetters;
use crate::consumer::flight::Flight;
use crate::consumer::suspects::{Next, Suspects};
use crate::failure::{Failure, Result};
use crate::io::framing::Framing;
use crate::io::outgoing::Outgoing;
use crate::output::live::{Flow, Live};
use crate::stop::Stop;
use forebay::{Item, Reader, TryRecv, Usage};
use std::ffi::OsString;
use std::io;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// At most this many records and payload bytes are taken from the buffer at a time.
const BATCH_RECORDS: usize = 16 << 10;
const BATCH_BYTES: u64 = 256 << 10;
/// How long the end of a program, or a stop, goes unnoticed while the buffer is
/// empty.
const IDLE: Duration = Duration::from_millis(100);
/// How often a program that reads nothing is checked.
const BLOCKED: Duration = Duration::from_secs(1);
/// How long acknowledgements go unnoticed while the buffer is empty. Until they are
/// noticed, a full buffer has no room.
const ACKS_IDLE: Duration = Duration::from_millis(5);
/// At most this many unacknowledged records are with a program: each takes some 64 bytes
/// of memory.
const UNACKNOWLEDGED_MAX: usize = 1 << 20;

/// What a pump is asked to do.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The buffer's directory.
    pub(crate) directory: &'a Path,
    /// The program and its arguments.
    pub(crate) command: &'a [OsString],
    pub(crate) framing: Framing,
    /// How many bytes a program may have read but not processed when it dies.
    pub(crate) margin: u64,
    /// How long a program may take to end after a stop.
    pub(crate) grace: Duration,
    /// Where a program's standard output goes.
    pub(crate) output: Output,
    /// Only a program that ends with status 0, or acknowledges, takes the last records.
    pub(crate) is_strict: bool,
    /// How much programs may get a second.
    pub(crate) pace: &'a Pace,
    /// How often a program may fail on a record before the record is set aside.
    pub(crate) max_attempts: Option<NonZeroU64>,
}

/// What is known of a buffer once its pump has closed it.
#[derive(Debug)]
pub(crate) struct Closed {
    /// The buffer's usage before it was closed.
    pub(crate) usage: Usage,
    /// Whether events were lost to damage, which was reported.
    pub(crate) has_losses: bool,
}

/// Moves records from a buffer into a program.
#[derive(Debug)]
pub(crate) struct Pump<'a> {
    plan: Plan<'a>,
    stop: Stop,
    /// Set while the buffer has no room for the input.
    buffer_full: &'a AtomicBool,
    /// The plan's margin, or less if the buffer had no room for that.
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
    /// Records that programs which ended had taken.
    taken_before: u64,
    /// Whether the hint how a record is set aside was printed.
    has_hinted: bool,
    /// The state of the program that runs.
    run: Run,
}

/// What a pump knows of one program, from its start to its end.
#[derive(Debug)]
struct Run {
    /// Records on their way into the program.
    outgoing: Outgoing,
    /// Records that the program was given and has not taken.
    flight: Flight,
    /// The buffer has no more records, and will not have any.
    is_drained: bool,
    /// The program gets one record alone, and the id of that record once it was fetched.
    is_alone: bool,
    alone_id: Option<u64>,
    /// Since when the program has closed its acknowledgements, and whether it therefore
    /// gets no more records.
    closed_since: Option<Instant>,
    cannot_ack: bool,
    /// The program has acknowledged a record that it had not read: no more of its lines
    /// count.
    is_distrusted: bool,
    /// Since when the pump waits for an acknowledgement, and whether that was reported.
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
            cannot_ack: false,
            is_distrusted: false,
            waiting_since: None,
            has_told_waiting: false,
        }
    }

    /// Whether the program gets nothing after what is outgoing.
    fn gets_no_more(&self) -> bool {
        self.is_drained || self.cannot_ack || self.alone_id.is_some()
    }
}

impl<'a> Pump<'a> {
    /// A pump from a buffer's reader into a program, which acknowledges if there are
    /// `acks`. It shows on `display` how it goes on.
    ///
    /// # Errors
    ///
    /// The operating system has no descriptors left.
    pub(crate) fn new(
        plan: Plan<'a>,
        reader: Reader,
        acks: Option<Acks>,
        dead_letters: Option<DeadLetters>,
        display: Live,
        stop: Stop,
        buffer_full: &'a AtomicBool,
    ) -> Result<Self> {
        let usage = reader.usage();
        let losses = Losses::of(plan.directory, &usage);
        Ok(Self {
            margin: plan.margin,
            stop,
            buffer_full,
            children: Children::new().map_err(|error| Failure::io("watch programs", &error))?,
            acks,
            reader,
            dead_letters,
            suspects: Suspects::new(plan.max_attempts),
            losses,
            display,
            unread_at_open: usage.unread.events,
            taken_before: 0,
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
        self.start_child().map_err(|error| Failure {
            message: error.message,
            status: error.code,
        })
    }

    fn start_child(&self) -> Result<Child, StartError> {
        Child::start(self.plan.command, self.plan.output, self.acks.as_ref())
    }

    /// Takes steps in the ids for losses: they cannot be events that are counted differently.
    pub(crate) fn steps_are_losses(&mut self) {
        self.losses.are_no_counts();
    }

    /// Whether there is nothing for a program, and will not be. Otherwise fetches records for
    /// the first one.
    ///
    /// # Errors
    ///
    /// The buffer cannot be read.
    pub(crate) fn has_nothing(&mut self) -> Result<bool> {
        while self.run.outgoing.is_empty() && !self.run.is_drained && !self.stop.is_set() {
            self.fetch()?;
        }
        Ok(self.run.outgoing.is_empty() && self.run.is_drained)
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
                None => match self.start_child() {
                    Ok(child) => {
                        running = Some(child);
                        continue;
                    }
                    // The program could be started before: an upgrade may bring it back.
                    Err(error) => {
                        self.display.note(error.message);
                        Some(Failed {
                            how: HowEnded::Code(error.code),
                            suspected: None,
                        })
                    }
                },
            };
            let progress = match (self.run.flight.taken(), &self.acks) {
                (0, _) => Progress::None,
                (_, None) => Progress::Read,
                (_, Some(_)) => Progress::Acknowledged,
            };
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
                        Some(suspected) if progress == Progress::None => {
                            Some(self.suspects.failed(suspected))
                        }
                        _ => None,
                    };
                    if let Some(Next::SetAside { id, attempts }) = next
                        && !self.set_aside(id, attempts, failed.how)?
                    {
                        return Ok(End::Stopped);
                    }
                    let Some(delay) = backoff.after(begun.elapsed(), progress) else {
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

    /// Syncs the acknowledgements, closes the buffer's reader and reports the losses.
    ///
    /// # Errors
    ///
    /// The acknowledgements cannot be synced.
    pub(crate) fn close(mut self) -> Result<Closed> {
        self.reader.sync_acks()?;
        let usage = self.reader.usage();
        self.display.leave_waiting(usage.unread.bytes);
        self.reader.close()?;
        Ok(Closed {
            usage,
            has_losses: self.losses.report(&|text| self.display.note(text)),
        })
    }

    /// The program's name, for people.
    pub(crate) fn name(&self) -> String {
        let program = self.plan.command.first();
        program.map_or_else(String::new, |program| {
            program.to_string_lossy().into_owned()
        })
    }

    /// Records that were taken.
    pub(crate) fn taken_count(&self) -> u64 {
        self.taken_before + self.run.flight.taken()
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

    /// Feeds a program, and returns its status, or `None` when the stop was set first.
    fn feed(&mut self, child: &mut Child) -> Result<Option<ExitStatus>> {
        while !self.stop.is_set() {
            if let Some(status) = child.status().map_err(|e| self.failed("wait for", &e))? {
                return Ok(Some(status));
            }
            self.settle(child)?;
            let has_too_many = self.run.flight.len() >= UNACKNOWLEDGED_MAX;
            if self.run.outgoing.is_empty() && !self.run.gets_no_more() {
                self.run.outgoing.clear();
                if !has_too_many && self.plan.pace.due_in().is_zero() {
                    self.fetch()?;
                }
                self.handle_stall(child, has_too_many)?;
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
            let due_in = self.plan.pace.due_in();
            let limit = match all_written && !is_done && !due_in.is_zero() {
                true => due_in.min(BLOCKED),
                false => BLOCKED,
            };
            if !all_written || is_done || has_too_many || !due_in.is_zero() {
                self.wait(child, !all_written, limit)?;
            }
        }
        Ok(None)
    }

    fn wait(&self, child: &Child, for_room: bool, limit: Duration) -> Result<()> {
        self.children
            .wait(Some(&self.stop), child, for_room, limit)
            .map_err(|e| self.failed("wait for", &e))
    }

    fn show(&mut self) {
        let (reader, unread_at_open) = (&self.reader, self.unread_at_open);
        self.display
            .show(|| Flow::of(&reader.usage(), unread_at_open));
    }

    /// Fetches records that the buffer has, or waits a little for the next one.
    fn fetch(&mut self) -> Result<()> {
        let (reader, run) = (&mut self.reader, &mut self.run);
        let pace = self.plan.pace;
        let mut push = |payload: &[u8]| {
            pace.take(payload.len() as u64);
            run.outgoing
                .push(payload, self.plan.framing)
                .map_err(|error| Failure::new(error.to_string()))
        };
        if !run.is_alone {
            let bytes_max = pace.portion(BATCH_BYTES);
            match patiently(|| reader.try_recv_batch(BATCH_RECORDS, bytes_max))? {
                TryRecv::Ready(batch) => {
                    self.losses
                        .note(batch.lost(), &|text| self.display.note(text));
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
            TryRecv::Ready(Item::Lost(lost)) => {
                self.losses.note(&[lost], &|text| self.display.note(text));
            }
            TryRecv::Empty => {}
            TryRecv::End => run.is_drained = true,
        }
        Ok(())
    }

    /// Forgets what was fetched for a program that has ended: the next one gets
    /// everything that is not acknowledged.
    fn rewind(&mut self) {
        self.taken_before += self.run.flight.taken();
        self.run = Run::new(self.plan.framing, false);
        self.reader.rewind();
    }

    /// Waits for `delay`, and returns whether the stop was set.
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
