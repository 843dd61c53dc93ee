//! Opens what a stop left, reads everything, and checks it against what was claimed before the
//! stop.

use std::ops::Range;
use std::sync::Arc;

use forebay::format::file_id::{LEDGER_FILE_NAME, LOCK_FILE_NAME};
use forebay::format::record::{encode, frame_len};
use forebay::storage::Storage;
use forebay::storage::sim::Sim;
use forebay::{ErrorKind, Item, Lost, OnCorruption, Reader, TryRecv, VerifyOptions};

use super::claims::Claims;
use super::limits::Limits;
use super::picture::picture;
use super::stops::Stop;
use crate::support::Rng;
use crate::workload::{Check, DIR, Record, check_usage, must};

/// An item that a reader returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Record(Record),
    Lost(Lost),
}

impl Seen {
    pub(super) fn ids(&self) -> Range<u64> {
        match self {
            Self::Record(record) => record.id..record.end(),
            Self::Lost(lost) => lost.first_id..lost.last_id + 1,
        }
    }

    fn lost_events(&self) -> u64 {
        match self {
            Self::Record(_) => 0,
            Self::Lost(lost) => lost.events,
        }
    }
}

/// What a machine holds, as seen by a reader that opens the buffer there.
#[derive(Debug, Clone)]
pub(super) struct Inventory {
    /// The last id of the acknowledged prefix.
    pub(super) acknowledged: u64,
    pub(super) items: Vec<Seen>,
    pub(super) next_id: u64,
}

/// Reads everything there is; acknowledges the first `acks` items.
fn drain(reader: &mut Reader, acks: usize) -> Check<Vec<Seen>> {
    let mut seen = Vec::new();
    loop {
        match must("try_recv", reader.try_recv())? {
            TryRecv::Ready(Item::Record(delivery)) => {
                seen.push(Seen::Record(Record::from(&delivery)));
                if seen.len() <= acks {
                    delivery.ack();
                }
            }
            TryRecv::Ready(Item::Lost(lost)) => seen.push(Seen::Lost(lost)),
            TryRecv::Empty | TryRecv::End => return Ok(seen),
        }
    }
}

/// Opens the buffer on this machine, which changes it, reads everything, acknowledges the first
/// `acks` items, and closes.
pub(super) fn take_inventory(sim: &Sim, limits: &Limits, acks: usize) -> Check<Inventory> {
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let (writer, mut reader) = limits.open(&storage)?;
    let at_open = reader.usage();
    check_usage(&at_open)?;
    let items = drain(&mut reader, acks)?;
    let mut at = at_open.last_acknowledged_id + 1;
    for item in &items {
        let ids = item.ids();
        if ids.start != at {
            return Err(format!("SILENT: {} came where {at} was due", brief(&items)));
        }
        at = ids.end;
    }
    if at != at_open.next_record_id {
        let next = at_open.next_record_id;
        return Err(format!(
            "SILENT: {} and then nothing up to {next}",
            brief(&items)
        ));
    }
    let events: u64 = items
        .iter()
        .map(|item| item.ids().end - item.ids().start)
        .sum();
    if at_open.unread.events != events {
        let unread = at_open.unread.events;
        return Err(format!(
            "COUNT: {unread} events unread at open, {events} came"
        ));
    }
    let usage = reader.usage();
    check_usage(&usage)?;
    let lost: u64 = items.iter().map(Seen::lost_events).sum();
    if usage.lost.events != lost {
        let counted = usage.lost.events;
        return Err(format!(
            "COUNT: {counted} events counted lost, {lost} reported"
        ));
    }
    must("close", reader.close())?;
    must("close", writer.close())?;
    Ok(Inventory {
        acknowledged: at_open.last_acknowledged_id,
        items,
        next_id: at_open.next_record_id,
    })
}

/// The ids of what came, in short.
pub(super) fn brief(items: &[Seen]) -> String {
    let mut runs: Vec<(Range<u64>, bool)> = Vec::new();
    for item in items {
        let is_lost = matches!(item, Seen::Lost(_));
        match runs.last_mut() {
            Some((ids, lost)) if *lost == is_lost && ids.end == item.ids().start => {
                ids.end = item.ids().end;
            }
            _ => runs.push((item.ids(), is_lost)),
        }
    }
    let words = runs.iter().map(|(ids, is_lost)| {
        let word = if *is_lost { "lost " } else { "" };
        format!("{word}{}..{}", ids.start, ids.end)
    });
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}

/// Checks what was found against what was claimed.
fn check_claims(claims: &Claims, stop: Stop, there: &Inventory) -> Check {
    let (done, acknowledged) = (there.acknowledged, there.acknowledged + 1);
    let due = match stop {
        Stop::Killed => claims.acked,
        Stop::PowerCut(_) => claims.acks_synced,
    };
    if acknowledged < due && !claims.ledger_damaged {
        return Err(format!(
            "AGAIN: {acknowledged} comes again, done up to {due}"
        ));
    }
    let given = match claims.damaged || claims.syncs_failed {
        // Old bytes may bring back records that a power cut took. A power cut may bring back
        // what was cut off a file that could not be synced.
        true => claims.given.max(claims.given_ever),
        false => claims.given,
    };
    if there.next_id > given {
        return Err(format!(
            "NEXT: the next id is {}, given out {given}",
            there.next_id
        ));
    }
    let items = brief(&there.items);
    let mut found = there.items.iter().peekable();
    for (id, known) in &claims.records {
        if !claims.survives(known, stop) {
            continue;
        }
        while found.next_if(|item| item.ids().end <= *id).is_some() {}
        let is_there = match found.peek() {
            Some(Seen::Record(record)) => record == &known.record,
            _ => false,
        };
        if !is_there && !claims.is_done(*id, done) {
            return Err(format!(
                "LOSS: {:?} is gone ({:?}, {:?}): acknowledged {done}, came {items}, next {}",
                known.record, known.state, known.doubt, there.next_id
            ));
        }
    }
    for item in &there.items {
        match item {
            Seen::Record(record) => {
                let known = claims.records.get(&record.id).map(|known| &known.record);
                // Old bytes may bring back records that a power cut took. Without its ledger a
                // buffer may begin at any id.
                let taken_back = claims.taken_back.get(&record.id);
                let is_back = taken_back.is_some_and(|before| before.contains(record));
                let is_old = known.is_none() && (claims.damaged || stop.is_power_cut() && is_back);
                if known != Some(record) && !is_old {
                    return Err(format!(
                        "ALIEN: {record:?} came, {known:?} was appended: {items}"
                    ));
                }
            }
            Seen::Lost(lost) if stop == Stop::Killed && !claims.evicted && !claims.damaged => {
                let ids = item.ids();
                let was_known = claims
                    .gaps
                    .iter()
                    .any(|gap| gap.start <= ids.start && ids.end <= gap.end);
                if !was_known {
                    return Err(format!("KILL: {lost:?} after a killed process: {items}"));
                }
            }
            Seen::Lost(_) => {}
        }
    }
    Ok(())
}

/// Checks that everything intact is delivered: no data file holds a whole record that neither
/// comes nor is acknowledged.
fn check_intact(sim: &Sim, claims: &Claims, there: &Inventory) -> Check {
    let came = |id: u64| {
        let at = there.items.partition_point(|item| item.ids().end <= id);
        matches!(there.items.get(at), Some(Seen::Record(_)))
    };
    let rest = claims.records.range(there.acknowledged + 1..);
    let missing: Vec<&Record> = rest
        .filter(|(id, _)| !came(**id))
        .map(|(_, known)| &known.record)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (name, _) in sim
        .files(DIR)
        .iter()
        .filter(|(name, _)| name.ends_with(".dat"))
    {
        let bytes = sim.read_file(format!("{DIR}/{name}")).unwrap_or_default();
        for record in &missing {
            let mut frame = vec![0; frame_len(record.payload.len())];
            encode(&mut frame, record.id, record.metadata, &record.payload);
            let mut places = (0..bytes.len()).step_by(8);
            if let Some(at) = places.find(|at| bytes[*at..].starts_with(&frame)) {
                let items = brief(&there.items);
                let next = there.next_id;
                return Err(format!(
                    "INTACT: {record:?} is in {name} at {at}: came {items}, next {next}"
                ));
            }
        }
    }
    Ok(())
}

/// Checks the machine after a stop without changing it. Returns what it holds.
pub(super) fn check_stop(
    sim: &Sim,
    claims: &Claims,
    stop: Stop,
    limits: &Limits,
    rng: &mut Rng,
) -> Check<Inventory> {
    let lost = match rng.below(4) {
        0 => Some(verify(sim, limits)?),
        _ => None,
    };
    if rng.below(8) == 0 {
        check_refusal(sim, claims, stop, limits)?;
    }
    let trial = sim.kill();
    // This check is not about a full disk.
    trial.set_capacity(None);
    let acks = match rng.below(2) {
        0 => 0,
        _ => rng.below(40) as usize,
    };
    let there = take_inventory(&trial, limits, acks)?;
    check_claims(claims, stop, &there)?;
    if !claims.damaged {
        // In a damaged buffer an intact copy of a record may be in the wrong place.
        check_intact(sim, claims, &there)?;
    }
    let events: u64 = there.items.iter().map(Seen::lost_events).sum();
    if lost.is_some_and(|lost| lost != events) {
        let items = brief(&there.items);
        return Err(format!("VERIFY: verify says {lost:?} lost, then {items}"));
    }
    if rng.below(2) == 0 {
        // After a failed sync, a power cut may still take pages that count as clean. And this
        // process vouches for the ledger only if it changed it itself.
        let mut acked = there.items.iter().take(acks);
        let has_acked = acked.any(|item| matches!(item, Seen::Record(_)));
        let has_failed = claims.syncs_failed || claims.ledger_failed;
        let is_settled = stop.is_power_cut() || (has_acked && !has_failed);
        let after = match is_settled && rng.below(2) == 0 {
            true => trial.crash(rng.next()),
            false => trial.kill(),
        };
        check_next_life(&after, &there, acks, limits)
            .map_err(|e| format!("{e}; acknowledged {acks} items of {}", brief(&there.items)))?;
    }
    Ok(there)
}

/// Checks that a buffer with `OnCorruption::Refuse` opens if only kills went before. If it does
/// not open, no file is changed.
fn check_refusal(sim: &Sim, claims: &Claims, stop: Stop, limits: &Limits) -> Check {
    let trial = sim.kill();
    trial.set_capacity(None);
    let storage: Arc<dyn Storage> = Arc::new(trial.clone());
    let config = limits.config().on_corruption(OnCorruption::Refuse);
    let before = contents(&trial);
    for _ in 0..16 {
        match config.clone().storage(Arc::clone(&storage)).open() {
            Ok((writer, reader)) => {
                let recovery = writer.recovery();
                if recovery.events_lost > 0 {
                    return Err(format!("REFUSAL: opened with {recovery:?}"));
                }
                drop((writer, reader));
                return Ok(());
            }
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                let lost = verify(sim, limits)?;
                let was_cut = claims.power_was_cut || stop.is_power_cut();
                if lost == 0 && !was_cut && !claims.damaged && !claims.evicted {
                    return Err(format!("REFUSAL: of a buffer that has lost nothing: {e}"));
                }
                if contents(&trial) != before {
                    return Err(format!("REFUSAL: {e}, but files are changed"));
                }
                return Ok(());
            }
            // The kernel reports a failed write-back of an earlier process once for each file.
            Err(_) => {}
        }
    }
    Err("SHUT: with refusal, open fails without a fault".to_owned())
}

/// The files of the buffer, but for the lock.
fn contents(sim: &Sim) -> Vec<(String, Option<Vec<u8>>)> {
    let files = sim.files(DIR).into_iter().map(|(name, _)| name);
    files
        .filter(|name| name != LOCK_FILE_NAME)
        .map(|name| {
            let bytes = sim.read_file(format!("{DIR}/{name}"));
            (name, bytes)
        })
        .collect()
}

fn verify(sim: &Sim, limits: &Limits) -> Check<u64> {
    // Before the first opening has finished there is no buffer to verify.
    let is_buffer = |name: &str| name.ends_with(".dat") || name == LEDGER_FILE_NAME;
    if !sim.files(DIR).iter().any(|(name, _)| is_buffer(name)) {
        return Ok(0);
    }
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let options = VerifyOptions::default().event_counter(limits.counter());
    let verified = options.storage(storage.clone()).verify(DIR);
    Ok(must("verify", verified)?.events_lost)
}

/// Checks the opening after one that read everything, acknowledged the first `acks` items and
/// closed: it delivers the rest.
fn check_next_life(after: &Sim, before: &Inventory, acks: usize, limits: &Limits) -> Check {
    let is_record = |item: &&Seen| matches!(item, Seen::Record(_));
    let next = take_inventory(after, limits, 0)?;
    let rest: Vec<&Seen> = before.items.iter().skip(acks).filter(is_record).collect();
    let came: Vec<&Seen> = next.items.iter().filter(is_record).collect();
    if rest == came && next.next_id == before.next_id {
        return Ok(());
    }
    let (items, next_id) = (brief(&next.items), next.next_id);
    if came.ends_with(&rest) && next_id == before.next_id {
        return Err(format!("RESYNC: the next life has {items}"));
    }
    let expected = before.next_id;
    let picture = picture(after);
    Err(format!(
        "SECOND: the next life has {items} and next {next_id}, not {expected}\n{picture}\n "
    ))
}
