//! Replaces one sector or page of a stopped machine by zeros, noise, another one of any file,
//! or an older version of itself.

use std::ops::Range;

use forebay::format::file_id::{LEDGER_FILE_NAME, SYNCED_MARK_FILE_NAME};
use forebay::format::record::{ROOT_LEN, encode, frame_len};
use forebay::storage::sim::{PAGE_LEN, SECTOR_LEN, Sim};

use super::claims::Claims;
use crate::support::Rng;
use crate::workload::DIR;

/// What was damaged, in words, and the records that the damage touches.
pub(super) struct Damage {
    pub(super) words: String,
    touched: Vec<u64>,
    /// Records of which the new bytes hold a copy.
    displaced: Vec<u64>,
    is_ledger: bool,
}

impl Damage {
    /// Takes back what was claimed of the touched records.
    pub(super) fn weaken(&self, claims: &mut Claims) {
        for id in &self.touched {
            claims.forget(*id);
        }
        claims.damaged = true;
        claims.displaced.extend(&self.displaced);
        if self.is_ledger {
            claims.ledger_damaged = true;
            // Only the ledger showed what was acknowledged.
            for id in claims.acking.clone() {
                claims.forget(id);
            }
        }
    }
}

/// Damages a file of the machine; `before` is an older state of the machine.
pub(super) fn damage(sim: &Sim, before: &Sim, claims: &Claims, rng: &mut Rng) -> Option<Damage> {
    let kind = rng.below(24);
    if kind == 0 {
        return damage_mark(sim, rng);
    }
    let wants_ledger = kind < 3;
    let mut files = sim.files(DIR);
    files.retain(|(name, len)| match wants_ledger {
        true => name == LEDGER_FILE_NAME,
        false => name.ends_with(".dat") && *len > 0,
    });
    let (name, _) = files.get(rng.below(files.len().max(1) as u64) as usize)?;
    let path = format!("{DIR}/{name}");
    let old = sim.read_file(&path)?;
    let grain = [SECTOR_LEN, PAGE_LEN][rng.below(2) as usize];
    let units = old.len().div_ceil(grain).max(1) as u64;
    // The last unit more often, because the next life appends after it.
    let unit = match rng.below(4) {
        0 => units - 1,
        _ => rng.below(units),
    };
    let start = unit as usize * grain;
    let range = start..old.len().min(start + grain);
    let (kind, fresh) = replacement(sim, before, &path, &range, grain, rng)?;
    let mut new = old.clone();
    let count = fresh.len().min(range.len());
    new[range.start..range.start + count].copy_from_slice(&fresh[..count]);
    if new == old {
        return None;
    }
    let (touched, displaced) = (touched(&old, &new, claims), touched(&new, &old, claims));
    sim.write_file(&path, &new).ok()?;
    Some(Damage {
        words: format!("{name}: bytes {range:?} replaced by {kind}, which touches {touched:?}"),
        touched,
        displaced,
        is_ledger: wants_ledger,
    })
}

/// Zeroes the mark of what is synced, and may cut it.
fn damage_mark(sim: &Sim, rng: &mut Rng) -> Option<Damage> {
    let path = format!("{DIR}/{SYNCED_MARK_FILE_NAME}");
    let len = sim.read_file(&path)?.len();
    let kept = match rng.below(2) {
        0 => len,
        // An empty mark would say that nothing was written.
        _ => 1 + rng.below(len.max(2) as u64 - 1) as usize,
    };
    sim.write_file(&path, &vec![0; kept]).ok()?;
    Some(Damage {
        words: format!("{SYNCED_MARK_FILE_NAME}: {kept} bytes of zeros"),
        touched: Vec::new(),
        displaced: Vec::new(),
        is_ledger: false,
    })
}

fn replacement(
    sim: &Sim,
    before: &Sim,
    path: &str,
    range: &Range<usize>,
    grain: usize,
    rng: &mut Rng,
) -> Option<(String, Vec<u8>)> {
    let unit_of = |bytes: &[u8], start: usize| {
        let end = bytes.len().min(start + grain);
        bytes.get(start..end).map(<[u8]>::to_vec)
    };
    // An older ledger is no damage: it may have been on the disk.
    let kinds = if path.ends_with(LEDGER_FILE_NAME) {
        2
    } else {
        4
    };
    match rng.below(kinds) {
        0 => Some(("zeros".to_owned(), vec![0; range.len()])),
        1 => {
            let mut noise: Vec<u8> = range.clone().map(|_| rng.next() as u8).collect();
            if kinds == 2 {
                // A ledger with possible values would be believed, so the next id is made
                // impossible.
                noise.iter_mut().take(8).for_each(|byte| *byte = 0xff);
            }
            Some(("noise".to_owned(), noise))
        }
        2 => {
            // A unit of any data file, also of a deleted one.
            let source = [sim, before][rng.below(2) as usize];
            let mut files = source.files(DIR);
            files.retain(|(name, len)| name.ends_with(".dat") && *len >= grain as u64);
            let (name, len) = files.get(rng.below(files.len().max(1) as u64) as usize)?;
            let bytes = source.read_file(format!("{DIR}/{name}"))?;
            let start = rng.below(len / grain as u64) as usize * grain;
            let fresh = unit_of(&bytes, start)?;
            Some((format!("{name} at {start}"), fresh))
        }
        _ => {
            let older = before.read_file(path)?;
            Some(("an older version".to_owned(), unit_of(&older, range.start)?))
        }
    }
}

/// The records whose frame is in `old` and is different, or missing, in `new`.
pub(super) fn touched(old: &[u8], new: &[u8], claims: &Claims) -> Vec<u64> {
    let mut ids = Vec::new();
    for (id, known) in &claims.records {
        let record = &known.record;
        let mut frame = vec![0; frame_len(record.payload.len())];
        encode(&mut frame, record.id, record.metadata, &record.payload);
        // A record with a damaged delimiter, pointer or length is recognised by its checksum,
        // id and payload.
        let root = frame.len() - ROOT_LEN;
        let stands = |bytes: &[u8], at: usize| {
            let bytes = &bytes[at..];
            let is_same = |range: Range<usize>| bytes.get(range.clone()) == frame.get(range);
            is_same(root..root + 4) && is_same(root + 8..root + 16) && is_same(8..root)
        };
        let last = old.len().saturating_sub(frame.len());
        let mut places = (0..=last).step_by(8).filter(|at| stands(old, *at));
        let is_same = |at: usize| new.get(at..at + frame.len()) == Some(&old[at..at + frame.len()]);
        if old.len() >= frame.len() && places.any(|at| !is_same(at)) {
            ids.push(*id);
        }
    }
    ids
}
