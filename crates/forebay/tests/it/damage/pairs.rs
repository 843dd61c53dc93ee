//! Two damages at once, chosen by a seed: to contents, to the set of files, to the ledger.
//! `FOREBAY_DAMAGE_SEED` sets the first seed, `FOREBAY_DAMAGE_SEEDS` how many follow.

use forebay::format::file_id::{LEDGER_FILE_NAME, MAX_FILE_ID, file_name};
use forebay::format::ledger::{LEDGER_LEN, LedgerState};

use super::judge::{Left, MAX_AHEAD, ledger_said, tell};
use super::shapes::{Shape, path};
use crate::support::{Rng, number_from};
use crate::workload::{Check, DIR, Record};

/// A damaged buffer: the id and the bytes of each file, and the bytes of the ledger.
struct Harmed<'a> {
    shape: &'a Shape,
    files: Vec<(u16, Vec<u8>)>,
    ledger: Option<Vec<u8>>,
    /// For each file, the first id that each damage to its contents touched.
    harmed: Vec<Vec<Option<u64>>>,
    may_be_gone: Vec<u64>,
    did: Vec<String>,
}

impl<'a> Harmed<'a> {
    fn new(shape: &'a Shape) -> Self {
        let files = 0..shape.files.len();
        Self {
            shape,
            files: files.map(|i| (shape.files[i].0, shape.bytes(i))).collect(),
            ledger: Some(shape.ledger.to_bytes().to_vec()),
            harmed: vec![Vec::new(); shape.files.len()],
            may_be_gone: Vec::new(),
            did: Vec::new(),
        }
    }

    /// Damages the contents of a file. No file may have been moved before, because this finds
    /// a file by its index in the shape.
    fn harm_contents(&mut self, rng: &mut Rng) {
        let index = rng.below(self.shape.files.len() as u64) as usize;
        let bytes = &mut self.files[index].1;
        let whole = self.shape.bytes(index).len();
        let at = rng.below(whole as u64) as usize;
        let end = match rng.below(4) {
            0 => whole,
            _ => whole.min(at + 1 + rng.below(64) as usize),
        };
        let span = at.min(bytes.len())..end.min(bytes.len());
        let (touched, did) = match rng.below(4) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
                (at..at + 1, "a bit flipped")
            }
            1 => {
                bytes[span].fill(0);
                (at..end, "zeros")
            }
            2 => {
                bytes[span].iter_mut().for_each(|b| *b = rng.next() as u8);
                (at..end, "noise")
            }
            _ => {
                bytes.truncate(at);
                (at..whole, "cut")
            }
        };
        self.did.push(format!("file {index}: {did} {touched:?}"));
        let touched = self.shape.touched(index, touched);
        self.harmed[index].push(touched.first().copied());
        self.may_be_gone.extend(touched);
        // A delimiter that leads beyond the end of the file begins a torn record, unless frames
        // up to the very end prove otherwise. With both damaged, nothing proves that there
        // was more.
        if let [one, other] = self.harmed[index][..] {
            let ids = self.shape.files[index].1.iter().map(|record| record.id);
            let behind = one.min(other);
            self.may_be_gone
                .extend(ids.filter(|id| Some(*id) >= behind));
        }
    }

    /// Deletes, copies or swaps files.
    fn harm_files(&mut self, rng: &mut Rng) {
        let one = rng.below(self.files.len() as u64) as usize;
        let other = rng.below(self.files.len() as u64) as usize;
        let did = match rng.below(3) {
            0 => {
                let (file_id, _) = self.files[one];
                let was = self.shape.files.iter().find(|(id, _)| *id == file_id);
                let ids = was.iter().flat_map(|(_, records)| records);
                self.may_be_gone.extend(ids.map(|record| record.id));
                self.files.remove(one);
                format!("{file_id} deleted")
            }
            1 => {
                let near = self.files[other].0.saturating_add(1 + rng.below(2) as u16);
                let file_id = [near, 0, 30_000, MAX_FILE_ID][rng.below(4) as usize];
                let file_id = file_id.min(MAX_FILE_ID);
                if self.files.iter().all(|(id, _)| *id != file_id) {
                    self.files.push((file_id, self.files[one].1.clone()));
                }
                format!("{} copied to {file_id}", self.files[one].0)
            }
            _ => {
                let (a, b) = (self.files[one].0, self.files[other].0);
                self.files[one].0 = b;
                self.files[other].0 = a;
                format!("{a} and {b} swapped")
            }
        };
        self.did.push(did);
    }

    fn harm_ledger(&mut self, rng: &mut Rng) {
        let bit = rng.below(8 * LEDGER_LEN as u64) as usize;
        self.ledger = match (rng.below(3), self.ledger.take()) {
            (0, _) | (_, None) => {
                self.did.push("no ledger".to_owned());
                None
            }
            (_, Some(mut bytes)) => {
                bytes[bit / 8] ^= 1 << (bit % 8);
                self.did.push(format!("ledger bit {bit}"));
                Some(bytes)
            }
        };
    }

    fn check(&self) -> Check {
        let sim = forebay::storage::sim::Sim::new();
        for (file_id, bytes) in &self.files {
            sim.write_file(path(&file_name(*file_id)), bytes).unwrap();
        }
        if let Some(ledger) = &self.ledger {
            sim.write_file(path(LEDGER_FILE_NAME), ledger).unwrap();
        }
        if sim.files(DIR).is_empty() {
            return Ok(());
        }
        let ledger = self.ledger.as_deref();
        let data_end = self.shape.records().map(Record::end).max().unwrap_or(1);
        let certain = ledger.and_then(|bytes| LedgerState::from_bytes(bytes).ok());
        let ledger = ledger.and_then(|bytes| ledger_said(bytes, data_end));
        if certain != ledger && !self.may_be_gone.is_empty() {
            // Whether this ledger is believed depends on records that may be gone.
            return Ok(());
        }
        if ledger.is_some_and(|ledger| ledger.writer_next_record_id >= MAX_AHEAD) {
            // Whether a ledger so far ahead is possible depends on records that may be gone.
            return Ok(());
        }
        let left = Left {
            shape: self.shape,
            may_be_gone: self.may_be_gone.clone(),
            gone: Vec::new(),
            ledger,
            is_clear: self.harmed.iter().all(|harmed| harmed.len() < 2),
        };
        left.check(&sim)
    }
}

#[test]
fn two_damages_at_once() {
    let first = number_from("FOREBAY_DAMAGE_SEED", 1);
    let count = number_from("FOREBAY_DAMAGE_SEEDS", 10_000);
    let mut shapes = Shape::all();
    // If a record with frames in its payload and the record after it are both damaged, nothing
    // shows that those frames were a payload.
    shapes.retain(|shape| shape.name != "frames in a payload");
    for seed in first..first + count {
        let mut rng = Rng(seed);
        let shape = &shapes[rng.below(shapes.len() as u64) as usize];
        let mut harmed = Harmed::new(shape);
        match rng.below(5) {
            0 | 1 => harmed.harm_contents(&mut rng),
            2 => {
                harmed.harm_contents(&mut rng);
                harmed.harm_ledger(&mut rng);
            }
            _ => harmed.harm_contents(&mut rng),
        }
        match rng.below(3) {
            0 => harmed.harm_contents(&mut rng),
            _ => harmed.harm_files(&mut rng),
        }
        if let Err(e) = harmed.check() {
            panic!(
                "FOREBAY_DAMAGE_SEED={seed} FOREBAY_DAMAGE_SEEDS=1, {}, {:?}: {e}",
                shape.name, harmed.did
            );
        }
    }
    tell("two damages at once");
}
