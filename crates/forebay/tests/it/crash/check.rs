//! Checks a buffer that is opened after a stop against what was promised before it.

use std::collections::HashSet;

use forebay::storage::sim::Sim;
use forebay::{ErrorKind, Item, Lost, Reader, TryRecv, Writer};

use crate::support::Rng;
use crate::workload::{self, Check, Known, Limits, Record, check_usage, must};

/// How a machine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The process was killed; the kernel lives on.
    Killed,
    /// The power was cut; the seed chooses what is left.
    PowerCut(u64),
}

impl Stop {
    /// The machine after the stop.
    pub(crate) fn apply(self, sim: &Sim) -> Sim {
        match self {
            Self::Killed => sim.kill(),
            Self::PowerCut(seed) => sim.crash(seed),
        }
    }

    /// Every record below this id that was not acknowledged is there.
    fn kept(self, known: &Known) -> u64 {
        match self {
            Self::Killed => known.written,
            Self::PowerCut(_) => known.synced,
        }
    }

    /// No record below this id comes again.
    fn done(self, known: &Known) -> u64 {
        match self {
            Self::Killed => known.acked,
            Self::PowerCut(_) => known.acks_synced,
        }
    }
}

/// An item that a reader returned.
#[derive(Debug)]
enum Seen {
    Record(Record),
    Lost(Lost),
}

impl Seen {
    fn ids(&self) -> std::ops::Range<u64> {
        match self {
            Self::Record(record) => record.id..record.end(),
            Self::Lost(lost) => lost.first_id..lost.last_id + 1,
        }
    }
}

/// Reads everything there is; acknowledges the ids for which `acks` is true.
fn drain(reader: &mut Reader, mut acks: impl FnMut(u64) -> bool) -> Check<Vec<Seen>> {
    let mut seen = Vec::new();
    loop {
        match must("try_recv", reader.try_recv())? {
            TryRecv::Ready(Item::Record(delivery)) => {
                seen.push(Seen::Record(Record::from(&delivery)));
                if acks(delivery.id()) {
                    delivery.ack();
                }
            }
            TryRecv::Ready(Item::Lost(lost)) => seen.push(Seen::Lost(lost)),
            TryRecv::Empty | TryRecv::End => return Ok(seen),
        }
        check_usage(&reader.usage())?;
    }
}

/// Checks what a reader returned after a stop against what was known before it.
fn check_seen(known: &Known, stop: Stop, seen: &[Seen], next_id: u64) -> Check {
    for pair in seen.windows(2) {
        if pair[0].ids().end != pair[1].ids().start {
            return Err(format!("{:?} came after {:?}", pair[1], pair[0]));
        }
    }
    let (first, last) = (seen.first(), seen.last());
    if let Some(first) = first.filter(|first| first.ids().start < stop.done(known)) {
        let done = stop.done(known);
        return Err(format!("{first:?} came again, done up to {done}"));
    }
    let kept = stop.kept(known);
    let reached = last.map_or(0, |last| last.ids().end).max(kept);
    let given = known.given.max(reached);
    if !(reached..=given).contains(&next_id) {
        return Err(format!(
            "next id {next_id}, reached {reached}, given out {given}"
        ));
    }
    let mut there = HashSet::new();
    for item in seen {
        match item {
            Seen::Record(record) => {
                if known.records.get(&record.id) != Some(record) {
                    let known = known.records.get(&record.id);
                    return Err(format!("{record:?} came, {known:?} was appended"));
                }
                there.insert(record.id);
            }
            Seen::Lost(lost) if stop == Stop::Killed => {
                return Err(format!("{lost:?} after a killed process"));
            }
            Seen::Lost(_) => {}
        }
    }
    let mut promised = known.records.range(..kept);
    let missing = promised.find(|(id, _)| !there.contains(id) && !known.acking.contains(id));
    match missing {
        Some((_, record)) => Err(format!("{record:?} is gone, kept up to {kept}")),
        None => Ok(()),
    }
}

/// Opens what a stop left and checks it. Then it uses the buffer further, cuts the power, and
/// checks again.
pub(crate) fn check_machine(
    sim: &Sim,
    known: &Known,
    stop: Stop,
    limits: &Limits,
    rng: &mut Rng,
) -> Check {
    let (writer, mut reader) = workload::open(sim, limits)?;
    let at_open = reader.usage();
    check_usage(&at_open)?;
    if stop == Stop::Killed && reader.recovery().events_lost > 0 {
        return Err(format!("a killed process lost {:?}", reader.recovery()));
    }
    let acked: Vec<bool> = (0..64).map(|_| rng.below(2) == 0).collect();
    let acks = |id: u64| acked[(id % 64) as usize];
    let seen = drain(&mut reader, acks)?;
    check_seen(known, stop, &seen, at_open.next_record_id)?;
    let events: u64 = seen
        .iter()
        .map(|item| item.ids().end - item.ids().start)
        .sum();
    if at_open.unread.events != events {
        let unread = at_open.unread.events;
        return Err(format!("{unread} events unread at open, {events} came"));
    }
    let lost = seen.iter().map(|item| match item {
        Seen::Record(_) => 0,
        Seen::Lost(lost) => lost.events,
    });
    let (lost, counted) = (lost.sum::<u64>(), reader.usage().lost.events);
    if counted != lost {
        return Err(format!("{counted} events counted lost, {lost} reported"));
    }

    let next = live_on(&writer, &seen, acks, known, limits, rng)?;
    let stop = Stop::PowerCut(2 + rng.below(1 << 32));
    let again = stop.apply(sim);
    drop((writer, reader));
    let (writer, mut reader) = workload::open(&again, limits)?;
    let next_id = reader.usage().next_record_id;
    let seen = drain(&mut reader, |_| true)?;
    check_seen(&next, stop, &seen, next_id).map_err(|e| format!("gone on, {stop:?}: {e}"))?;
    must("close", reader.close())?;
    must("close", writer.close())
}

/// Uses a recovered buffer further, of which `seen` was read, and acknowledged as `acks` says.
/// Returns what is known then.
fn live_on(
    writer: &Writer,
    seen: &[Seen],
    acks: impl Fn(u64) -> bool,
    before: &Known,
    limits: &Limits,
    rng: &mut Rng,
) -> Check<Known> {
    let mut end = writer.usage().next_record_id;
    let mut known = Known {
        given: end,
        ..before.clone()
    };
    // Of the records that did not come, only those that were acknowledged may still come.
    let acking = &known.acking;
    known.records.retain(|id, _| acking.contains(id));
    for item in seen {
        if let Seen::Record(record) = item {
            known.records.insert(record.id, record.clone());
            // A record that comes again is unacknowledged again.
            if acks(record.id) {
                known.acking.insert(record.id);
            } else {
                known.acking.remove(&record.id);
            }
        }
        if limits.sees_synced_only() {
            known.synced = known.synced.max(item.ids().end);
        }
    }
    if rng.below(3) == 0 {
        return Ok(known);
    }
    let payload = b"after the stop".to_vec();
    match writer.append(&payload) {
        Ok(receipt) if receipt.id() == Some(end) => {
            let record = Record {
                id: end,
                events: limits.events(0, &payload),
                metadata: 0,
                payload,
            };
            end = record.end();
            known.given = end;
            known.acking.remove(&record.id);
            known.records.insert(record.id, record);
        }
        Ok(receipt) => return Err(format!("id {:?} instead of {end}", receipt.id())),
        Err(e) if matches!(e.kind(), ErrorKind::Full | ErrorKind::DiskFull) => {}
        Err(e) => return Err(format!("append failed: {e:?}")),
    }
    must("flush", writer.flush())?;
    known.synced = end;
    let mut open = known
        .records
        .keys()
        .filter(|id| !known.acking.contains(*id));
    known.acks_synced = open.next().copied().unwrap_or(end);
    Ok(known)
}

/// Cuts the power at every operation of a recovery and checks each result. One result in 8 is
/// also cut while it recovers, at most `depth` times in a row.
pub(super) fn check_recovery(
    sim: &Sim,
    known: &Known,
    limits: &Limits,
    rng: &mut Rng,
    depth: u32,
) -> Check {
    let trial = sim.kill();
    trial.keep_history();
    drop(workload::open(&trial, limits)?);
    let end = trial.operations();
    for operations in 0..end {
        let state = trial.at(operations).ok_or("a state was not kept")?;
        let stop = Stop::PowerCut(rng.below(1 << 32));
        let after = stop.apply(&state);
        let place = |e| format!("crashed again at {operations} of {end}, {stop:?}: {e}");
        if depth > 0 && rng.below(8) == 0 {
            check_recovery(&after, known, limits, rng, depth - 1).map_err(place)?;
        }
        check_machine(&after, known, stop, limits, rng).map_err(place)?;
    }
    Ok(())
}
