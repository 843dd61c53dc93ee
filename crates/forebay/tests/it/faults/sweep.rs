//! Every call of every kind fails, once or from then on, with every error: in the life of a
//! new buffer, and in that of a damaged one.
//!
//! Invariants:
//! - No call panics or waits for ever, and each error says what failed and where.
//! - Every promise holds while the fault lasts and afterwards, after a kill and after a power
//!   cut.
//! - The buffer goes on, or it is poisoned and opens again.

use std::sync::Arc;

use forebay::format::file_id::{LEDGER_FILE_NAME, file_name};
use forebay::format::record::{encode, frame_len};
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{Error, ErrorKind, Item, Reader, TryRecv, Writer};

use crate::crash::{Stop, check_machine};
use crate::support::{Rng, payload};
use crate::workload::{Check, DIR, Known, Limits, Record, check_usage};

/// A planned fault.
#[derive(Debug, Clone, Copy)]
struct Planned {
    op: Op,
    nth: u64,
    errno: Errno,
    lasts: bool,
}

/// A buffer whose storage fails, and what it has promised.
struct Life {
    sim: Sim,
    fault: Fault,
    limits: Limits,
    known: Known,
    /// The id after the last accepted record.
    next_id: u64,
    poisoned: bool,
    /// The first broken expectation.
    wrong: Option<String>,
    failed_calls: u64,
}

impl Life {
    fn new(sim: &Sim, plan: Option<Planned>) -> Self {
        let fault = Fault::of_sim(sim, 0);
        if let Some(Planned {
            op,
            nth,
            errno,
            lasts,
        }) = plan
        {
            match lasts {
                true => fault.fail_from(op, nth, errno),
                false => fault.fail(op, nth, errno),
            }
        }
        Self {
            sim: sim.clone(),
            fault,
            limits: Limits::for_faults(),
            known: Known::default(),
            next_id: 1,
            poisoned: false,
            wrong: None,
            failed_calls: 0,
        }
    }

    fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// Notes the outcome of a call; `None` if it failed.
    fn note<T>(&mut self, call: &str, result: Result<T, Error>) -> Option<T> {
        let error = match result {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        self.failed_calls += 1;
        let text = error.to_string();
        let says_where = text.contains(DIR) || error.path().is_some_and(|p| p.starts_with(DIR));
        let waits = error.kind() == ErrorKind::TimedOut;
        if text.chars().next().is_some_and(char::is_uppercase) || !(says_where || waits) {
            self.wrong(format!("{call} does not say where: {error:?}"));
        }
        self.poisoned |= error.kind() == ErrorKind::Poisoned;
        None
    }

    fn open(&mut self) -> Option<(Writer, Reader)> {
        self.poisoned = false;
        let storage = Arc::new(self.fault.clone());
        let opened = self.limits.config().storage(storage).open();
        let handles = self.note("open", opened)?;
        // Records that were acknowledged after a gap come again.
        let acked = self.known.acked;
        self.known.acking.retain(|id| *id < acked);
        Some(handles)
    }

    fn append(&mut self, writer: &Writer, len: usize) {
        let id = writer.usage().next_record_id;
        let record = Record {
            id,
            events: 1,
            metadata: 0,
            payload: payload(id, len),
        };
        self.known.given = self.known.given.max(record.end());
        self.known.records.insert(id, record.clone());
        let was_poisoned = self.poisoned;
        let result = writer.append(&record.payload).map(|receipt| receipt.id());
        match self.note("append", result) {
            Some(given) if given == Some(id) && !was_poisoned => self.next_id = id + 1,
            Some(given) => self.wrong(format!("id {given:?} instead of {id}, {was_poisoned}")),
            None if writer.usage().next_record_id == id => {
                self.known.records.remove(&id);
            }
            None => self.next_id = id + 1,
        }
    }

    /// The id after the contiguous acknowledged prefix.
    fn prefix(&self) -> u64 {
        let mut open = self.known.records.range(self.known.acked..);
        let first = open.find(|(id, _)| !self.known.acking.contains(id));
        first.map_or(self.next_id, |(id, _)| *id)
    }

    fn synced(&mut self) {
        self.known.synced = self.known.synced.max(self.next_id);
        self.known.written = self.known.written.max(self.next_id);
        self.acks_synced();
    }

    fn acks_synced(&mut self) {
        self.known.acks_synced = self.prefix();
        self.known.acked = self.prefix();
    }

    fn flush(&mut self, writer: &Writer) {
        let was_poisoned = self.poisoned;
        if self.note("flush", writer.flush()).is_some() {
            if was_poisoned {
                self.wrong("a poisoned buffer flushed".to_owned());
            }
            self.synced();
        }
    }

    /// Reads at most `count` items and acknowledges the records for which `acks` is true.
    fn read(&mut self, reader: &mut Reader, count: usize, acks: impl Fn(u64) -> bool) {
        for _ in 0..count {
            let next = reader.try_recv();
            match self.note("try_recv", next) {
                Some(TryRecv::Ready(Item::Record(delivery))) => {
                    let seen = Record::from(&delivery);
                    if self.known.records.get(&seen.id) != Some(&seen) {
                        self.wrong(format!("{seen:?} was never appended"));
                    }
                    self.known.written = self.known.written.max(seen.end());
                    if acks(seen.id) {
                        self.known.acking.insert(seen.id);
                        delivery.ack();
                        self.known.acked = self.prefix();
                    }
                }
                Some(TryRecv::Ready(Item::Lost(lost))) => {
                    for id in lost.first_id..lost.last_id + 1 {
                        if self.known.records.contains_key(&id) {
                            self.wrong(format!("{lost:?} without damage"));
                        }
                    }
                }
                Some(TryRecv::Empty | TryRecv::End) | None => return,
            }
        }
    }

    fn close(&mut self, writer: Writer, reader: Reader) {
        self.note("close", reader.close());
        if self.note("close", writer.close()).is_some() {
            self.synced();
        }
    }

    /// Makes every kind of call that a program makes on a buffer.
    fn live(&mut self) {
        let Some((writer, mut reader)) = self.open() else {
            return;
        };
        // A damaged buffer has records that no life here appended.
        self.next_id = writer.usage().next_record_id;
        for _ in 0..12 {
            self.append(&writer, 100);
        }
        self.flush(&writer);
        self.read(&mut reader, 9, |id| id != 3);
        self.check(&writer);
        for _ in 0..3 {
            self.append(&writer, 60);
            let result = writer
                .append(b"")
                .and_then(|receipt| receipt.wait_written());
            let id = writer.usage().next_record_id - 1;
            self.appended_empty(id, result);
        }
        reader.rewind();
        self.read(&mut reader, 9, |_| true);
        if self.note("sync_acks", reader.sync_acks()).is_some() {
            self.acks_synced();
        }
        self.check(&writer);
        self.append(&writer, 200);
        self.flush(&writer);
        reader.rewind();
        self.read(&mut reader, 3, |_| true);
        self.check(&writer);
        self.close(writer, reader);
    }

    /// Notes the append of an empty record and the result of waiting until it was written.
    fn appended_empty(&mut self, id: u64, result: Result<(), Error>) {
        let is_new = id >= self.next_id;
        if is_new {
            let record = Record {
                id,
                events: 1,
                metadata: 0,
                payload: Vec::new(),
            };
            self.known.given = self.known.given.max(record.end());
            self.known.records.insert(id, record);
            self.next_id = id + 1;
        }
        if self.note("wait_written", result).is_some() {
            self.known.written = self.known.written.max(self.next_id);
        }
    }

    fn check(&mut self, writer: &Writer) {
        let usage = writer.usage();
        if let Err(e) = check_usage(&usage) {
            self.wrong(e);
        }
        let size: u64 = self.sim.files(DIR).iter().map(|(_, len)| len).sum();
        if size > self.limits.max_size() {
            self.wrong(format!("{size} bytes on disk"));
        }
    }

    /// Stops the machine as it is now, in several ways, and checks each result against what
    /// was promised.
    fn check_stops(&self, seed: u64, damaged: bool) -> Check {
        let mut rng = Rng(seed);
        for stop in [
            Stop::Killed,
            Stop::PowerCut(0),
            Stop::PowerCut(1),
            Stop::PowerCut(2 + rng.below(1 << 32)),
        ] {
            // Losses that were there before are no broken promise.
            if damaged && stop == Stop::Killed {
                continue;
            }
            let after = stop.apply(&self.sim);
            check_machine(&after, &self.known, stop, &self.limits, &mut rng)
                .map_err(|e| format!("{stop:?}: {e}"))?;
        }
        Ok(())
    }
}

/// Runs a life with the fault and one without. Returns whether a call failed.
fn run(prepare: &dyn Fn() -> (Sim, Known), plan: Planned) -> Check<bool> {
    let (sim, known) = prepare();
    let damaged = !known.records.is_empty();
    let mut life = Life::new(&sim, Some(plan));
    life.known = known;
    life.live();
    if let Some(wrong) = life.wrong.take() {
        return Err(wrong);
    }
    life.check_stops(plan.nth, damaged)
        .map_err(|e| format!("with the fault: {e}"))?;
    let failed = life.fault.failures() > 0;
    // The handles are dropped and the fault is removed, so no call may fail now.
    life.fault.clear();
    let failed_calls = life.failed_calls;
    life.live();
    match life.wrong.take() {
        Some(wrong) => return Err(format!("afterwards: {wrong}")),
        None if life.failed_calls > failed_calls => {
            return Err("calls fail without a fault".to_owned());
        }
        None => {}
    }
    life.check_stops(plan.nth, damaged)
        .map_err(|e| format!("afterwards: {e}"))?;
    Ok(failed)
}

/// Fails each call of each kind.
fn sweep(prepare: &dyn Fn() -> (Sim, Known), kinds_min: usize) {
    let (sim, known) = prepare();
    let mut life = Life::new(&sim, None);
    life.known = known;
    life.live();
    assert_eq!((life.wrong.as_deref(), life.failed_calls), (None, 0));
    let counts = life.fault.counts();
    let (mut runs, mut failures, mut kinds) = (0, 0, 0);
    for (op, count) in counts {
        kinds += usize::from(count > 0);
        for nth in 1..=count {
            for errno in Errno::ALL {
                for lasts in [false, true] {
                    let plan = Planned {
                        op,
                        nth,
                        errno,
                        lasts,
                    };
                    match run(prepare, plan) {
                        Ok(failed) => failures += u64::from(failed),
                        Err(e) => panic!("{plan:?}: {e}"),
                    }
                    runs += 1;
                }
            }
        }
    }
    eprintln!("{kinds} kinds of calls, {runs} faults, {failures} met");
    assert!(kinds >= kinds_min && failures > runs * 9 / 10);
}

#[test]
fn every_call_of_a_new_buffer_fails() {
    let known = Known {
        given: 1,
        ..Known::default()
    };
    sweep(&|| (Sim::new(), known.clone()), 12);
}

/// A torn tail, a damaged record, a copied file, and a file in the ledger's place that is no
/// ledger.
#[test]
fn every_call_of_a_damaged_buffer_fails() {
    sweep(
        &|| {
            let sim = Sim::new();
            let mut known = Known::default();
            let mut file = |file_id: u16, ids: std::ops::Range<u64>| {
                let mut bytes = Vec::new();
                for id in ids {
                    let record = Record {
                        id,
                        events: 1,
                        metadata: 0,
                        payload: payload(id, 50),
                    };
                    let at = bytes.len();
                    bytes.resize(at + frame_len(50), 0);
                    encode(&mut bytes[at..], id, 0, &record.payload);
                    known.records.insert(id, record);
                }
                (format!("{DIR}/{}", file_name(file_id)), bytes)
            };
            let (first_name, first) = file(0, 1..6);
            let (second_name, mut second) = file(1, 6..11);
            let copy = format!("{DIR}/{}", file_name(7));
            second[20] ^= 1;
            second.truncate(second.len() - 12);
            sim.write_file(copy, &first).unwrap();
            sim.write_file(first_name, &first).unwrap();
            sim.write_file(second_name, &second).unwrap();
            sim.write_file(format!("{DIR}/{LEDGER_FILE_NAME}"), b"no ledger")
                .unwrap();
            known.records.retain(|id, _| ![6, 10].contains(id));
            known.given = 11;
            known.written = 1;
            (sim, known)
        },
        14,
    );
}
