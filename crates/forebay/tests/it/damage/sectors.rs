//! One sector or page of a data file is replaced, in every shape of buffer, by zeros, noise,
//! an older version of itself, or any other sector or page of the buffer's data files and of
//! a deleted one.
//!
//! Invariants:
//! - Only records that the damage touches are lost. They are counted, and `verify` reports
//!   them before.
//! - Nothing else is skipped, cut or deleted: not in this life of the buffer, and not in three
//!   more with appends, acknowledgements, kills, power cuts and closes between them.
//! - What is expected is computed from the list of records and their places alone.
//!
//! `FOREBAY_SECTORS` sets the number of cases to try (0: all), `FOREBAY_SECTORS_SEED`
//! chooses others, `FOREBAY_SECTORS_CASE` replays one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use forebay::format::file_id::{LEDGER_FILE_NAME, file_name};
use forebay::format::ledger::LedgerState;
use forebay::storage::sim::Sim;
use forebay::{Config, Io, Item, Reader, TryRecv, VerifyOptions, Writer};

use super::shapes::{counter, frame, path};
use crate::support::{Rng, number_from, payload};
use crate::workload::{Check, DIR, Record, must};

const SECTOR_LEN: usize = 512;
const PAGE_LEN: usize = 4096;

/// A data file: its id, its bytes, and where each record's frame is.
type DataFile = (u16, Vec<u8>, Vec<(Range<usize>, Record)>);

/// A buffer on disk, and the records in it.
struct Shape {
    name: &'static str,
    files: Vec<DataFile>,
    /// The bytes of a file that was deleted; its records are acknowledged.
    deleted: Vec<u8>,
    ledger: LedgerState,
}

/// A description to build a shape from.
struct Plan<'a> {
    name: &'static str,
    /// Records of the deleted file: events and payload lengths.
    deleted: &'a [(u64, usize)],
    files: &'a [(u16, &'a [(u64, usize)])],
    acknowledged: u64,
    /// Zeros at the end of the last file.
    zero_tail: usize,
    /// How many bytes of one more frame end the last file.
    torn: usize,
}

impl Plan<'_> {
    fn build(&self) -> Shape {
        let mut id = 1;
        let mut record = |&(events, len): &(u64, usize)| {
            let record = Record {
                id,
                events,
                metadata: events as u32,
                payload: payload(id, len),
            };
            id = record.end();
            record
        };
        let deleted = self.deleted.iter().flat_map(|r| frame(&record(r)));
        let deleted: Vec<u8> = deleted.collect();
        let mut files = Vec::new();
        for (file_id, records) in self.files {
            let mut bytes = Vec::new();
            let mut placed = Vec::new();
            for record in records.iter().map(&mut record) {
                let at = bytes.len();
                bytes.extend(frame(&record));
                placed.push((at..bytes.len(), record));
            }
            files.push((*file_id, bytes, placed));
        }
        let torn = frame(&record(&(1, 1000)));
        let next = id - 1;
        if let Some((_, bytes, _)) = files.last_mut() {
            bytes.extend(&torn[..self.torn]);
            bytes.resize(bytes.len() + self.zero_tail, 0);
        }
        let holds = |file: &&DataFile| {
            let last = file.2.last();
            last.is_some_and(|(_, record)| record.end() > self.acknowledged + 1)
        };
        let ledger = LedgerState {
            writer_next_record_id: next,
            writer_file_id: files.last().map_or(0, |file| file.0),
            reader_file_id: files.iter().find(holds).map_or(0, |file| file.0),
            reader_last_record_id: self.acknowledged,
        };
        Shape {
            name: self.name,
            files,
            deleted,
            ledger,
        }
    }
}

fn shapes() -> Vec<Shape> {
    let sectors = [(1, 472); 24];
    let crossing: Vec<(u64, usize)> = (0..24).map(|n| (1, 60 + n * 53 % 130)).collect();
    let small: Vec<(u64, usize)> = (0..70).map(|n| (1, n * 7 % 31)).collect();
    let larger: Vec<(u64, usize)> = (0..8).map(|n| (1, 700 + n * 397 % 1200)).collect();
    let events: Vec<(u64, usize)> = (0..14)
        .map(|n| (1 + n as u64 * 5 % 9, 9 + n * 61 % 190))
        .collect();
    let pages = [(1, 4056); 4];
    let plan = Plan {
        name: "",
        deleted: &[],
        files: &[],
        acknowledged: 0,
        zero_tail: 0,
        torn: 0,
    };
    let all = [
        Plan {
            name: "one file",
            files: &[(0, &sectors)],
            ..plan
        },
        Plan {
            name: "one file, half acknowledged",
            files: &[(0, &sectors)],
            acknowledged: 12,
            ..plan
        },
        Plan {
            name: "several files",
            files: &[
                (0, &sectors[..10]),
                (1, &sectors[..8]),
                (2, &sectors[..9]),
                (3, &sectors[..3]),
            ],
            acknowledged: 3,
            ..plan
        },
        Plan {
            name: "several files, a file acknowledged",
            files: &[(4, &sectors[..6]), (5, &sectors[..8]), (6, &sectors[..9])],
            acknowledged: 6,
            ..plan
        },
        Plan {
            name: "a file deleted",
            deleted: &sectors[..8],
            files: &[(1, &sectors[..8]), (2, &sectors[..9]), (3, &sectors[..8])],
            acknowledged: 11,
            ..plan
        },
        Plan {
            name: "short files of many lives",
            deleted: &sectors[..4],
            files: &[
                (1, &sectors[..12]),
                (2, &sectors[..2]),
                (3, &sectors[..1]),
                (4, &sectors[..6]),
            ],
            acknowledged: 5,
            ..plan
        },
        Plan {
            name: "records across sectors",
            deleted: &crossing,
            files: &[(1, &crossing), (2, &crossing), (3, &crossing[..9])],
            acknowledged: 30,
            ..plan
        },
        Plan {
            name: "small records",
            deleted: &small,
            files: &[(1, &small), (2, &small)],
            acknowledged: 75,
            ..plan
        },
        Plan {
            name: "larger records",
            files: &[(65534, &larger), (0, &larger), (1, &larger[..4])],
            acknowledged: 3,
            ..plan
        },
        Plan {
            name: "several events",
            deleted: &events,
            files: &[(1, &events), (2, &events), (3, &events)],
            acknowledged: 90,
            ..plan
        },
        Plan {
            name: "a zero tail",
            deleted: &sectors[..8],
            files: &[(1, &sectors[..8]), (2, &sectors[..8])],
            acknowledged: 11,
            zero_tail: 2048,
            ..plan
        },
        Plan {
            name: "one file and a zero tail",
            files: &[(0, &crossing)],
            acknowledged: 4,
            zero_tail: 1500,
            ..plan
        },
        Plan {
            name: "a torn tail",
            files: &[(0, &sectors[..12]), (1, &crossing)],
            acknowledged: 2,
            torn: 611,
            ..plan
        },
        Plan {
            name: "pages",
            files: &[(0, &pages), (1, &pages), (2, &pages[..2])],
            acknowledged: 2,
            ..plan
        },
        Plan {
            name: "everything acknowledged",
            files: &[(0, &sectors[..6]), (1, &sectors[..6])],
            acknowledged: 12,
            ..plan
        },
    ];
    all.iter().map(Plan::build).collect()
}

/// What a unit is replaced with.
#[derive(Debug, Clone)]
enum With {
    Zeros,
    Noise,
    /// What the unit was before its last part was written.
    OlderVersion,
    /// The unit of the file with this index at this offset; the deleted file comes last.
    Unit(usize, usize),
}

/// One replacement.
#[derive(Debug, Clone)]
struct Case {
    shape: usize,
    file: usize,
    at: usize,
    unit: usize,
    with: With,
}

fn cases(shapes: &[Shape]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        for unit in [SECTOR_LEN, PAGE_LEN] {
            let sources = shape.files.iter().map(|file| &file.1);
            let sources: Vec<_> = sources.chain([&shape.deleted]).collect();
            for (file, (_, bytes, _)) in shape.files.iter().enumerate() {
                for at in (0..bytes.len()).step_by(unit) {
                    let plain = [With::Zeros, With::Noise, With::OlderVersion];
                    let units = sources.iter().enumerate().flat_map(|(source, bytes)| {
                        (0..bytes.len())
                            .step_by(unit)
                            .map(move |at| With::Unit(source, at))
                    });
                    cases.extend(plain.into_iter().chain(units).map(|with| Case {
                        shape: index,
                        file,
                        at,
                        unit,
                        with,
                    }));
                }
            }
        }
    }
    cases
}

impl Case {
    /// The bytes of the damaged file.
    fn bytes(&self, shape: &Shape, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = shape.files[self.file].1.clone();
        let end = bytes.len().min(self.at + self.unit);
        let unit = &mut bytes[self.at..end];
        match self.with {
            With::Zeros => unit.fill(0),
            With::Noise => unit.iter_mut().for_each(|byte| *byte = rng.next() as u8),
            With::OlderVersion => {
                let written = rng.below(unit.len() as u64 / 8) as usize * 8;
                unit[written..].fill(0);
            }
            With::Unit(source, from) => {
                let source = shape.files.get(source).map_or(&shape.deleted, |f| &f.1);
                let mut there = source[from..].to_vec();
                there.resize(there.len().max(unit.len()), 0);
                unit.copy_from_slice(&there[..unit.len()]);
            }
        }
        bytes
    }
}

/// A damaged buffer, and what is known of it.
struct Known {
    sim: Sim,
    records: BTreeMap<u64, Record>,
    /// The events of the records that the damage touches.
    touched: Vec<Range<u64>>,
    acknowledged: u64,
    next: u64,
}

fn config() -> Config {
    Config::new(DIR)
        .max_size(256 << 10)
        .data_file_size(6 << 10)
        .batch_size(4 << 10)
        .event_counter(counter())
        .io(Io::Caller)
}

fn open(sim: &Sim) -> Check<(Writer, Reader)> {
    let storage = Arc::new(sim.clone());
    must("open", config().storage(storage).open())
}

impl Known {
    fn of(case: &Case, shape: &Shape, rng: &mut Rng) -> Self {
        let sim = Sim::new();
        let mut records = BTreeMap::new();
        let mut touched = Vec::new();
        for (index, (file_id, bytes, placed)) in shape.files.iter().enumerate() {
            let mut now = bytes.clone();
            if index == case.file {
                now = case.bytes(shape, rng);
            }
            sim.write_file(path(&file_name(*file_id)), &now).unwrap();
            for (place, record) in placed {
                if now[place.clone()] != bytes[place.clone()] {
                    touched.push(record.id..record.end());
                }
                records.insert(record.id, record.clone());
            }
        }
        sim.write_file(path(LEDGER_FILE_NAME), &shape.ledger.to_bytes())
            .unwrap();
        Self {
            sim,
            records,
            touched,
            acknowledged: shape.ledger.reader_last_record_id,
            next: shape.ledger.writer_next_record_id,
        }
    }

    fn may_be_lost(&self, id: u64) -> bool {
        id <= self.acknowledged || self.touched.iter().any(|events| events.contains(&id))
    }

    /// Checks an item whose ids begin with `expected`, or before it if it is the first item.
    /// Returns the id after the item.
    fn take(&self, item: &Item, expected: u64, is_first: bool) -> Check<u64> {
        let (first, end) = match item {
            Item::Record(delivery) => {
                let record = Record::from(delivery);
                match self.records.get(&record.id) {
                    Some(known) if *known == record => (record.id, record.end()),
                    known => return Err(format!("{record:?} came, {known:?} was written")),
                }
            }
            Item::Lost(lost) => {
                let ids = lost.first_id..lost.last_id + 1;
                if let Some(id) = ids.clone().find(|id| !self.may_be_lost(*id)) {
                    return Err(format!("{id} is not damaged, and lost: {lost}"));
                }
                (ids.start, ids.end)
            }
        };
        if first > expected || (first < expected && !is_first) {
            return Err(format!(
                "{first} to {} came, and {expected} is next",
                end - 1
            ));
        }
        Ok(end)
    }

    /// Reads at most `max` items, and acknowledges them if `ack`. Returns the number of lost
    /// events.
    fn read(&mut self, reader: &mut Reader, max: u64, ack: bool) -> Check<u64> {
        let mut expected = self.acknowledged + 1;
        let mut lost = 0;
        for n in 0..max {
            let item = match must("try_recv", reader.try_recv())? {
                TryRecv::Ready(item) => item,
                TryRecv::Empty | TryRecv::End => {
                    if expected != self.next {
                        return Err(format!("{expected} to {} did not come", self.next - 1));
                    }
                    break;
                }
            };
            expected = self.take(&item, expected, n == 0)?.max(expected);
            match item {
                Item::Record(delivery) if ack => {
                    delivery.ack();
                    self.acknowledged = expected - 1;
                }
                Item::Record(_) => {}
                Item::Lost(loss) => {
                    lost += loss.events;
                    // A loss is acknowledged by itself.
                    if loss.first_id <= self.acknowledged + 1 {
                        self.acknowledged = expected - 1;
                    }
                }
            }
        }
        Ok(lost)
    }

    fn append(&mut self, writer: &Writer, rng: &mut Rng) -> Check {
        for _ in 0..rng.below(6) {
            let events = 1 + rng.below(3);
            let len = 3 + rng.below(700) as usize;
            let bytes = payload(self.next, len);
            let given = must("append", writer.append_with(events as u32, &bytes))?.id();
            let id = self.next;
            let record = Record {
                id,
                events,
                metadata: events as u32,
                payload: bytes,
            };
            if given != Some(id) {
                return Err(format!("id {given:?} was given out, not {id}"));
            }
            self.next = record.end();
            self.records.insert(id, record);
        }
        must("flush", writer.flush())
    }

    /// Three lives of the buffer with random appends, reads and stops, and a last one that
    /// reads everything.
    fn live(&mut self, rng: &mut Rng) -> Check {
        for life in 0..3 {
            let was = |e: String| format!("life {}: {e}", life + 1);
            let (writer, mut reader) = open(&self.sim).map_err(was)?;
            if rng.below(2) == 0 {
                self.append(&writer, rng).map_err(was)?;
            }
            let max = [rng.below(6), rng.below(40), u64::MAX][rng.below(3) as usize];
            let ack = rng.below(4) > 0;
            self.read(&mut reader, max, ack).map_err(was)?;
            if rng.below(2) == 0 {
                self.append(&writer, rng).map_err(was)?;
            }
            must("flush", writer.flush())?;
            match rng.below(3) {
                0 => {
                    must("close", reader.close())?;
                    must("close", writer.close())?;
                    self.sim = self.sim.crash(rng.next());
                }
                1 => self.sim = self.sim.kill(),
                _ => self.sim = self.sim.crash(rng.next()),
            }
        }
        let (writer, mut reader) = open(&self.sim)?;
        let was = |e| format!("the last life: {e}; {:?}", writer.recovery());
        self.read(&mut reader, u64::MAX, true).map_err(was)?;
        Ok(())
    }

    /// Compares what `verify` and the listing say with what a reader gets.
    fn compare(&mut self) -> Check {
        let storage: Arc<dyn forebay::storage::Storage> = Arc::new(self.sim.clone());
        let options = VerifyOptions::default().event_counter(counter());
        let verified = options.storage(storage.clone()).verify(DIR);
        let verified = must("verify", verified)?;
        let options = forebay::RecordsOptions::default().event_counter(counter());
        let mut records = must("records", options.storage(storage).records(DIR))?;
        let listed = must("list", records.by_ref().collect::<Result<Vec<_>, _>>())?;
        let skipped = records.lost().events;
        let (writer, mut reader) = open(&self.sim)?;
        let was = |e| format!("{e}; {:?}", writer.recovery());
        let lost = self.read(&mut reader, u64::MAX, true).map_err(was)?;
        let delivered = reader.usage().acknowledged.events;
        let listed: u64 = listed.iter().map(|record| record.events).sum();
        if [verified.events_lost, skipped] != [lost; 2] || listed != delivered {
            return Err(format!(
                "{lost} lost, {delivered} delivered; verify: {verified:?}; listed: {listed}, \
                 {skipped} lost"
            ));
        }
        Ok(())
    }
}

#[test]
fn only_the_records_that_a_replaced_sector_or_page_touches_are_lost() {
    let shapes = shapes();
    let cases = cases(&shapes);
    let count = number_from("FOREBAY_SECTORS", 3000);
    let seed = number_from("FOREBAY_SECTORS_SEED", 1);
    let only = number_from("FOREBAY_SECTORS_CASE", u64::MAX);
    eprintln!("{} cases, seed {seed}", cases.len());
    let every = match count {
        0 => 1,
        count => (cases.len() as u64).div_ceil(count),
    };
    let mut failed = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let mut rng = Rng(seed ^ (number as u64) << 20);
        let is_chosen = rng.below(every) == 0;
        if (only != u64::MAX && only != number as u64) || (only == u64::MAX && !is_chosen) {
            continue;
        }
        let shape = &shapes[case.shape];
        let mut known = Known::of(case, shape, &mut rng);
        let sim = known.sim.kill();
        let compared = known.compare();
        let mut known = Known {
            sim,
            acknowledged: shape.ledger.reader_last_record_id,
            ..known
        };
        let lived = known.live(&mut rng);
        if let Err(e) = compared.and(lived) {
            failed.push(format!(
                "FOREBAY_SECTORS_SEED={seed} FOREBAY_SECTORS_CASE={number} {}: {case:?}: {e}",
                shape.name
            ));
        }
    }
    let total = failed.len();
    failed.truncate(8);
    assert!(total == 0, "{total} cases failed:\n{}", failed.join("\n"));
}
