//! Seeded workloads over a simulated file system, and what is known at each moment of what a
//! buffer has promised.
//!
//! - A workload runs on one thread (`Io::Caller`), so a seed replays exactly.
//! - It notes every promise with the number of storage operations done when it was made. After
//!   a power cut that comes after that many operations, the promise must hold.
//! - It also checks what needs no crash: the order of deliveries, their contents, the counts,
//!   the limits, and that no call waits for something that never comes.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use forebay::format::file_id;
use forebay::format::ledger::LedgerState;
use forebay::storage::Storage;
use forebay::storage::sim::Sim;
use forebay::{Delivery, Reader, VerifyOptions, Writer};

use crate::support::Rng;

mod known;
mod liar;
mod limits;
mod reading;
mod writing;

use known::{Fact, History};
pub(crate) use known::{Known, Record};
use liar::Liar;
pub(crate) use liar::Lie;
pub(crate) use limits::{Emphasis, Limits};

/// Where the simulated buffer is.
pub(crate) const DIR: &str = "/spool/buffer";

/// What went wrong, in words.
pub(crate) type Check<T = ()> = Result<T, String>;

/// The error of a call that must not fail.
pub(crate) fn must<T, E: Debug>(what: &str, result: Result<T, E>) -> Check<T> {
    result.map_err(|e| format!("{what} failed: {e:?}"))
}

/// Counts of events that do not happen in every workload.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Events {
    /// Appends refused because the buffer was full.
    pub(crate) refused: u64,
    /// Records delivered again.
    pub(crate) redelivered: u64,
    /// Acknowledgements that left a gap before them.
    pub(crate) out_of_order: u64,
    /// Data files that were rolled over and deleted.
    pub(crate) deleted: u64,
    /// How often the file ids wrapped.
    pub(crate) wrapped: u64,
    /// How often the buffer was closed and opened again.
    pub(crate) reopened: u64,
}

impl std::ops::AddAssign for Events {
    fn add_assign(&mut self, other: Self) {
        self.refused += other.refused;
        self.redelivered += other.redelivered;
        self.out_of_order += other.out_of_order;
        self.deleted += other.deleted;
        self.wrapped += other.wrapped;
        self.reopened += other.reopened;
    }
}

/// A finished workload.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) events: Events,
    /// The machine, with the state before each operation kept.
    pub(crate) sim: Sim,
    pub(crate) history: History,
    /// The limits it was last opened with.
    pub(crate) limits: Limits,
}

/// The handles of an open buffer.
struct Handles {
    /// Several producers.
    writers: [Writer; 2],
    reader: Reader,
}

impl Handles {
    fn close(self, reader_first: bool) -> Check {
        let mut reader = Some(self.reader);
        if reader_first && let Some(reader) = reader.take() {
            must("close", reader.close())?;
        }
        for writer in self.writers {
            must("close", writer.close())?;
        }
        reader.map_or(Ok(()), |reader| must("close", reader.close()))
    }
}

/// A running workload.
struct Run {
    sim: Sim,
    rng: Rng,
    emphasis: Emphasis,
    limits: Limits,
    /// `None` only while the buffer is closed and opened again.
    handles: Option<Handles>,
    /// Deliveries that are not acknowledged yet.
    held: Vec<Delivery>,
    history: History,
    known: Known,
    /// The id of the next record.
    next_id: u64,
    /// No record below this id is delivered before the next rewind.
    cursor: u64,
    /// The maximum size of the buffer: its limit, or its last size if that was larger.
    size_max: u64,
    /// How the storage lies to the buffer, if it does.
    lie: Option<Lie>,
    events: Events,
    /// No record below this id was delivered yet.
    fresh: u64,
    /// The data files at the last check.
    files: BTreeSet<String>,
}

/// Runs the workload of a seed; the storage may lie to it.
pub(crate) fn run(seed: u64, emphasis: Emphasis, steps: usize, lie: Option<Lie>) -> Check<Done> {
    let mut rng = Rng(seed);
    let sim = Sim::new();
    let mut first_id = 1;
    if rng.below(3) == 0 {
        first_id = prepare_wrap(&sim, &mut rng)?;
    }
    sim.keep_history();
    let counts_events = rng.below(2) == 0;
    let limits = Limits::draw(&mut rng, emphasis, counts_events);
    let mut run = Run {
        size_max: limits.max_size,
        handles: None,
        held: Vec::new(),
        history: History::default(),
        known: Known::default(),
        next_id: first_id,
        cursor: first_id,
        fresh: first_id,
        files: BTreeSet::new(),
        events: Events::default(),
        lie,
        sim,
        rng,
        emphasis,
        limits,
    };
    // The ids before the first one count as synced and acknowledged.
    run.promise(Fact::Synced(first_id));
    run.promise(Fact::AcksSynced(first_id));
    run.handles = Some(run.open()?);
    for step in 0..steps {
        let done = run
            .step()
            .and_then(|what| run.check_state().map_err(|e| format!("after {what}: {e}")));
        done.map_err(|e| format!("step {step}: {e}"))?;
    }
    run.reopen()?;
    Ok(Done {
        events: run.events,
        sim: run.sim,
        history: run.history,
        limits: run.limits,
    })
}

pub(crate) fn open(sim: &Sim, limits: &Limits) -> Check<(Writer, Reader)> {
    let storage = Arc::new(sim.clone());
    must("open", limits.config().storage(storage).open())
}

/// An empty buffer whose file ids are about to wrap; returns its next id.
pub(crate) fn prepare_wrap(sim: &Sim, rng: &mut Rng) -> Check<u64> {
    let file_id = file_id::MAX_FILE_ID - rng.below(3) as u16;
    let next_id = 1 + rng.below(1000);
    let state = LedgerState {
        writer_next_record_id: next_id,
        writer_file_id: file_id,
        reader_file_id: file_id,
        reader_last_record_id: next_id - 1,
    };
    let dir = Path::new(DIR);
    let ledger = dir.join(file_id::LEDGER_FILE_NAME);
    must("prepare", sim.write_file(ledger, &state.to_bytes()))?;
    let data = dir.join(file_id::file_name(file_id));
    must("prepare", sim.write_file(data, &[]))?;
    Ok(next_id)
}

impl Run {
    /// Makes a random step. Returns its name.
    fn step(&mut self) -> Check<&'static str> {
        // The weights of append, batch, flush, append and wait, recv, recv batch, acknowledge, let
        // go, rewind, sync acknowledgements, reopen.
        let weights: [u64; 11] = match self.emphasis {
            Emphasis::Even => [8, 3, 2, 2, 6, 3, 6, 1, 1, 1, 1],
            Emphasis::Durable => [8, 3, 5, 5, 4, 2, 5, 0, 0, 3, 0],
            Emphasis::Reading => [8, 4, 1, 0, 8, 4, 8, 2, 3, 2, 0],
            Emphasis::SeesSynced => [8, 3, 3, 2, 8, 3, 6, 1, 1, 1, 1],
            Emphasis::Reopening => [8, 3, 1, 1, 4, 2, 4, 1, 1, 1, 3],
            Emphasis::Bulk => [8, 8, 1, 1, 4, 4, 6, 1, 1, 1, 1],
        };
        let mut draw = self.rng.below(weights.iter().sum());
        let step = weights.iter().position(|weight| {
            let here = draw < *weight;
            draw = draw.saturating_sub(*weight);
            here
        });
        match step.unwrap_or_default() {
            0 => self.append().map(|()| "append"),
            1 => self.append_batch().map(|()| "append_batch"),
            2 => self.flush().map(|()| "flush"),
            3 => self.append_and_wait().map(|()| "append and wait"),
            4 => self.recv().map(|()| "recv"),
            5 => self.recv_batch().map(|()| "recv_batch"),
            6 => self.acknowledge().map(|()| "acknowledge"),
            7 => self.let_go().map(|()| "let go"),
            8 => self.rewind().map(|()| "rewind"),
            9 => self.sync_acks().map(|()| "sync_acks"),
            _ => self.reopen().map(|()| "reopen"),
        }
    }

    /// Notes a fact as of the operations done by now.
    fn promise(&mut self, fact: Fact) {
        self.known.apply(&fact);
        self.history.facts.push((self.sim.operations(), fact));
    }

    /// The id after the contiguous acknowledged prefix.
    fn prefix(&self) -> u64 {
        let mut open = self.known.records.range(self.known.acked..);
        let first = open.find(|(id, _)| !self.known.acking.contains(id));
        first.map_or(self.next_id, |(id, _)| (*id).min(self.next_id))
    }

    fn open(&self) -> Check<Handles> {
        let storage: Arc<dyn Storage> = match self.lie {
            Some(lie) => Arc::new(Liar::new(&self.sim, lie)),
            None => Arc::new(self.sim.clone()),
        };
        let opened = self.limits.config().storage(storage).open();
        let (writer, reader) = must("open", opened)?;
        Ok(Handles {
            writers: [writer.clone(), writer],
            reader,
        })
    }

    fn handles(&mut self) -> &mut Handles {
        self.handles.as_mut().expect("a buffer is open")
    }

    fn writer(&mut self) -> Writer {
        let index = self.rng.below(2) as usize;
        self.handles().writers[index].clone()
    }

    fn reader(&mut self) -> &mut Reader {
        &mut self.handles().reader
    }

    fn reopen(&mut self) -> Check {
        let reader_first = self.rng.below(2) == 0;
        self.held.clear();
        if let Some(handles) = self.handles.take() {
            handles.close(reader_first)?;
        }
        self.promise(Fact::Synced(self.next_id));
        self.promise(Fact::AcksSynced(self.prefix()));
        self.check_closed()?;
        let counts_events = self.limits.counts_events;
        self.limits = Limits::draw(&mut self.rng, self.emphasis, counts_events);
        self.handles = Some(self.open()?);
        self.events.reopened += 1;
        self.promise(Fact::Reopened);
        self.cursor = self.prefix();
        // The buffer may be larger than the new limits allow.
        self.size_max = self.limits.max_size.max(self.size());
        let recovery = self.reader().recovery();
        if recovery.findings.is_empty() {
            Ok(())
        } else {
            Err(format!("a closed buffer opened with {recovery:?}"))
        }
    }

    /// Checks that a closed buffer has nothing that another implementation of the format would
    /// have to mend.
    fn check_closed(&self) -> Check {
        let storage: Arc<dyn Storage> = Arc::new(self.sim.clone());
        let options = VerifyOptions::default().event_counter(self.limits.counter());
        let result = options.storage(storage.clone()).verify(DIR);
        let result = must("verify", result)?;
        match result.findings.is_empty() && result.events_lost == 0 {
            true => Ok(()),
            false => Err(format!("a closed buffer has {result:?}")),
        }
    }

    /// The bytes that the files of the directory occupy.
    fn size(&self) -> u64 {
        self.sim.files(DIR).iter().map(|(_, len)| len).sum()
    }

    /// Counts the data files that were deleted since the last check, and wraps of the file ids.
    fn watch_files(&mut self) {
        let names = self.sim.files(DIR).into_iter().map(|(name, _)| name);
        let files: BTreeSet<String> = names.filter(|name| name.ends_with(".dat")).collect();
        self.events.deleted += self.files.difference(&files).count() as u64;
        let first = file_id::file_name(0);
        let is_wrap = files.contains(&first) && !self.files.contains(&first);
        self.events.wrapped += u64::from(is_wrap && !self.files.is_empty());
        self.files = files;
    }

    /// Checks what must hold after every step.
    fn check_state(&mut self) -> Check {
        self.watch_files();
        let size = self.size();
        if size > self.size_max {
            return Err(format!("{size} bytes on disk, {} allowed", self.size_max));
        }
        self.size_max = self.limits.max_size.max(size);
        let usage = self.reader().usage();
        check_usage(&usage)?;
        if usage.next_record_id != self.next_id {
            return Err(format!("{usage:?} with next id {}", self.next_id));
        }
        let records = self.known.records.range(self.known.acked..self.next_id);
        let unread = records.filter(|(id, _)| !self.known.acking.contains(id));
        let unread: u64 = unread.map(|(_, record)| record.events).sum();
        if usage.unread.events != unread {
            return Err(format!("{usage:?} with {unread} events unread"));
        }
        Ok(())
    }
}

/// Checks that received = acknowledged + unread + dropped + lost.
pub(crate) fn check_usage(usage: &forebay::Usage) -> Check {
    let sum = |part: fn(&forebay::Count) -> u64| {
        part(&usage.acknowledged) + part(&usage.unread) + part(&usage.dropped) + part(&usage.lost)
    };
    let events = usage.received.events == sum(|count| count.events);
    let bytes = usage.received.bytes == sum(|count| count.bytes);
    match events && bytes {
        true => Ok(()),
        false => Err(format!("the counts do not add up: {usage:?}")),
    }
}
