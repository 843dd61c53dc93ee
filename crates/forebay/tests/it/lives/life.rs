//! One life of a buffer: opened, used at random while its storage fails, left open or closed.
//! Everything that its calls promise is noted with the number of operations done by then.

use std::sync::{Arc, Mutex, PoisonError};

use forebay::storage::fault::Fault;
use forebay::storage::sim::Sim;
use forebay::{Delivery, ErrorKind, Reader, Writer};

use super::Lean;
use super::claims::{Claims, Fact, History, State};
use super::limits::Limits;
use super::panics::{Failed, caught};
use super::picture::picture;
use crate::support::Rng;
use crate::workload::{Check, DIR, check_usage};

/// The calls of a seed in order, printed if the seed fails.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line());
    }

    pub(super) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.join("\n")
    }
}

/// The handles of an open buffer.
#[derive(Debug)]
pub(super) struct Handles {
    pub(super) writer: Writer,
    pub(super) reader: Reader,
}

/// A running life.
pub(super) struct Life {
    pub(super) sim: Sim,
    pub(super) fault: Fault,
    pub(super) rng: Rng,
    pub(super) lean: Lean,
    pub(super) limits: Limits,
    pub(super) claims: Claims,
    pub(super) history: History,
    pub(super) trace: Trace,
    pub(super) handles: Option<Handles>,
    /// Deliveries that are not acknowledged yet.
    pub(super) held: Vec<Delivery>,
    /// The id of the next record to append.
    pub(super) next_id: u64,
    /// No record below this id is delivered before the next rewind.
    pub(super) cursor: u64,
    /// This life reported every record below this id synced.
    pub(super) synced: u64,
    pub(super) is_poisoned: bool,
    /// The disk was small at some moment of this life.
    pub(super) was_small: bool,
    /// The maximum size of the directory.
    size_max: u64,
    /// A number that no two lives share, for payloads.
    pub(super) number: u64,
}

/// What a life leaves.
pub(super) struct Left {
    pub(super) sim: Sim,
    pub(super) history: History,
    pub(super) limits: Limits,
}

impl Life {
    pub(super) fn new(
        sim: &Sim,
        claims: &Claims,
        lean: Lean,
        number: u64,
        rng: &mut Rng,
        trace: &Trace,
        counts_events: bool,
    ) -> Self {
        let sim = sim.kill();
        sim.keep_history();
        let limits = Limits::draw(rng, counts_events);
        // A failed sync keeps mostly a random subset of the pages, sometimes none of them.
        let seed = match rng.below(4) {
            0 => 0,
            _ => 1 + rng.below(1 << 40),
        };
        Self {
            fault: Fault::of_sim(&sim, seed),
            rng: Rng(rng.next()),
            lean,
            claims: claims.clone(),
            history: History::default(),
            trace: trace.clone(),
            handles: None,
            held: Vec::new(),
            next_id: claims.given,
            cursor: claims.first,
            synced: 0,
            is_poisoned: false,
            was_small: false,
            // Opening may make the ledger (24 bytes) and the mark (8 bytes).
            size_max: limits.max_size.max(size(&sim) + 32),
            number,
            limits,
            sim,
        }
    }

    /// Opens the buffer, takes `steps` random steps, and closes it or not; the trace says which.
    pub(super) fn live(mut self, steps: u64) -> Check<Left> {
        self.trace
            .note(|| format!("life {}: {:?}", self.number, self.limits));
        self.before_opening();
        if self.open()? {
            for _ in 0..steps {
                self.step()?;
                self.check_state()?;
            }
            if self.rng.below(2) == 0 {
                self.close()?;
            }
        }
        // Dropping the handles closes the buffer as well, but promises nothing.
        self.held.clear();
        self.limits.fuse.set(0);
        self.handles = None;
        Ok(Left {
            sim: self.sim,
            history: self.history,
            limits: self.limits,
        })
    }

    /// Notes a fact as of the operations done by now.
    pub(super) fn promise(&mut self, fact: Fact) {
        self.claims.apply(&fact);
        self.history.facts.push((self.sim.operations(), fact));
    }

    /// Notes the outcome of a call. Returns what the call returned, or `None` if it failed.
    pub(super) fn outcome<T>(&mut self, call: &str, result: Result<T, Failed>) -> Check<Option<T>> {
        let operations = self.sim.operations();
        let error = match result {
            Ok(done) => {
                self.trace.note(|| format!("  {operations}: {call}: ok"));
                return Ok(Some(done));
            }
            Err(Failed::Error(error)) => error,
            Err(Failed::Panicked) => {
                self.trace
                    .note(|| format!("  {operations}: {call}: the counter panicked"));
                return Ok(None);
            }
        };
        self.trace
            .note(|| format!("  {operations}: {call}: {error:?}"));
        self.is_poisoned |= error.kind() == ErrorKind::Poisoned;
        let is_usual = matches!(
            error.kind(),
            ErrorKind::Full | ErrorKind::DiskFull | ErrorKind::TimedOut
        );
        if is_usual || self.fault.failures() > 0 || self.was_small || self.claims.syncs_failed {
            return Ok(None);
        }
        Err(format!("ERROR: {call} failed without a fault: {error:?}"))
    }

    fn open(&mut self) -> Check<bool> {
        // The kernel reports a failed write-back of an earlier process once for each file.
        for attempt in 0..16 {
            let (config, storage) = (self.limits.config(), Arc::new(self.fault.clone()));
            let opened = caught(|| config.storage(storage).open());
            if let Some((writer, reader)) = self.outcome("open", opened)? {
                self.handles = Some(Handles { writer, reader });
                self.promise(Fact::Opened);
                return self.check_opened().map(|()| true);
            }
            if attempt == 1 {
                self.clear_faults();
            }
        }
        Err("SHUT: open fails without a fault".to_owned())
    }

    /// Checks that an opening agrees with the check of the machine before it.
    fn check_opened(&mut self) -> Check {
        let usage = self.handles().reader.usage();
        check_usage(&usage)?;
        if usage.next_record_id != self.next_id || usage.last_acknowledged_id + 1 != self.cursor {
            let (next, cursor) = (self.next_id, self.cursor);
            return Err(format!(
                "OPENED: {usage:?}, a look found {cursor} to {next}"
            ));
        }
        Ok(())
    }

    pub(super) fn close(&mut self) -> Check {
        self.held.clear();
        let Some(Handles { writer, reader }) = self.handles.take() else {
            return Ok(());
        };
        let was_poisoned = self.is_poisoned;
        let (first, last) = match self.rng.below(2) {
            0 => {
                let first = caught(|| writer.close());
                (first, caught(|| reader.close()))
            }
            _ => {
                let first = caught(|| reader.close());
                (first, caught(|| writer.close()))
            }
        };
        let first = self.outcome("close", first)?;
        let last = self.outcome("close the last", last)?;
        if first.is_some() && last.is_some() {
            if was_poisoned {
                return Err("POISON: a poisoned buffer closed without an error".to_owned());
            }
            self.promise(Fact::Synced(self.next_id));
            self.promise(Fact::AcksSynced);
        }
        Ok(())
    }

    pub(super) fn handles(&mut self) -> &mut Handles {
        self.handles.as_mut().expect("a buffer is open")
    }

    /// Checks what must hold after every step.
    fn check_state(&mut self) -> Check {
        let usage = self.handles().reader.usage();
        check_usage(&usage)?;
        let size = size(&self.sim);
        if size > self.size_max {
            let (allowed, files) = (self.size_max, picture(&self.sim));
            return Err(format!(
                "SIZE: {size} bytes on disk, {allowed} allowed\n{files}"
            ));
        }
        self.size_max = self.limits.max_size.max(size.min(self.size_max));
        if usage.next_record_id != self.next_id {
            return Err(format!("NEXT: {usage:?} with next id {}", self.next_id));
        }
        if usage.last_acknowledged_id + 1 < self.claims.prefix() {
            let prefix = self.claims.prefix();
            return Err(format!("ACKS: {usage:?}, acknowledged up to {prefix}"));
        }
        // What the buffer counts as synced is synced, whether a call waited for it or not.
        if usage.last_synced_id >= self.synced {
            self.synced = usage.last_synced_id + 1;
            self.promise(Fact::Synced(self.synced));
        }
        Ok(())
    }

    /// The record that has to come next.
    pub(super) fn expected(&self) -> Option<(u64, State)> {
        let mut rest = self.claims.records.range(self.cursor..self.next_id);
        let next = rest.find(|(id, _)| !self.claims.acking.contains(id));
        next.map(|(id, known)| (*id, known.state))
    }
}

/// The bytes that the files of the directory occupy.
fn size(sim: &Sim) -> u64 {
    sim.files(DIR).iter().map(|(_, len)| len).sum()
}
