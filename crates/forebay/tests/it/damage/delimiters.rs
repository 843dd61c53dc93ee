//! One delimiter, or one field of a root, is replaced, in buffers of many shapes: with a stale
//! ledger or without one, with acknowledged records, with what a crash leaves at the end.
//!
//! Invariant: in each life of the buffer, `verify` and the listing say before the opening what
//! the opening and the reader then say: the same records, the same lost events at the same
//! places, the same bytes, and nothing but what a crash leaves where `verify` says so.
//!
//! `FOREBAY_DELIMITERS_SEED` sets the first seed, `FOREBAY_DELIMITERS_SEEDS` how many follow: a
//! seed is a case.

use std::sync::Arc;

use forebay::format::file_id::{LEDGER_FILE_NAME, file_name};
use forebay::format::ledger::LedgerState;
use forebay::storage::Storage;
use forebay::storage::sim::Sim;
use forebay::{
    Config, Finding, Io, Item, Lost, LostReason, OnCorruption, Reader, RecordsOptions, Severity,
    StoredRecord, TryRecv, Verification, VerifyOptions, Writer,
};

use super::shapes::{counter, frame, path};
use crate::support::{Rng, number_from, payload};
use crate::workload::{Check, DIR, Record, check_usage, must};

/// The length of a root, which ends each frame.
const ROOT_LEN: usize = 32;

/// The records of one data file, each as its events and the length of its payload.
type Sizes = &'static [(u64, usize)];

const SHORT: Sizes = &[(1, 0), (1, 1), (1, 8), (1, 13), (1, 30), (1, 5)];
const EQUAL: Sizes = &[(1, 100), (1, 100), (1, 100), (1, 100)];
const LONG: Sizes = &[(1, 600), (1, 40), (1, 900), (1, 16), (1, 470)];
const EVENTS: Sizes = &[(3, 12), (1, 0), (5, 5), (2, 20), (1, 9)];

/// How much is acknowledged.
#[derive(Debug, Clone, Copy)]
enum Acknowledged {
    Nothing,
    /// The first record.
    One,
    /// The first file, or the first half of the only one.
    Half,
    /// All events but the last one.
    AlmostAll,
    /// One event less than the first record and the second hold.
    Inside,
}

/// What the ledger says.
#[derive(Debug, Clone, Copy)]
enum Ledger {
    Exact,
    /// It does not count the last record.
    BehindByOne,
    /// It counts nothing but what is acknowledged.
    Behind,
    /// Its next id is 1, below what is acknowledged.
    ReaderAhead,
    Missing,
    /// It counts two records more than there are.
    Ahead,
}

/// What follows the last record.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Clean,
    /// This many bytes of one more frame, and zeros.
    Torn(usize, usize),
}

/// What the file's bytes are replaced by.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// The delimiter of the frame.
    Delimiter(Value),
    /// A field of its root: its offset in the root, its length, and a number to add.
    Root(usize, usize, u64),
    /// All of the root.
    RootOf(u8),
}

/// What a delimiter says.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// This number.
    Number(u64),
    /// The right one and this.
    Off(i64),
    /// It leads to the end of the n-th frame after this one, and this many bytes further.
    ToFrame(usize, i64),
    /// It leads to the middle of the n-th frame after this one.
    Inside(usize),
    /// It leads to the end of the file, and this many bytes further.
    ToEnd(i64),
    /// It leads to the middle of what follows the last record.
    IntoTail,
}

/// What payloads consist of.
#[derive(Debug, Clone, Copy)]
enum Filler {
    /// Bytes that differ.
    Noise,
    /// The same delimiter again and again.
    Delimiters(u64),
    /// Two whole frames, with ids that follow.
    Frames,
}

/// A buffer and its damage.
#[derive(Debug, Clone)]
struct Case {
    sizes: Sizes,
    files: usize,
    filler: Filler,
    acknowledged: Acknowledged,
    ledger: Ledger,
    /// What follows the last record of each file.
    endings: Vec<Ending>,
    /// Where: the index of the file and of the frame in it.
    harms: Vec<((usize, usize), Harm)>,
}

fn value(rng: &mut Rng) -> Value {
    let frame = 1 + rng.below(3) as usize;
    match rng.below(8) {
        0 => Value::Number(one_of(
            rng,
            &[
                0,
                1,
                8,
                32,
                1 << 31,
                1 << 32,
                1 << 63,
                u64::MAX - 7,
                u64::MAX,
            ],
        )),
        1 => Value::Off(one_of(rng, &[-40, -8, -1, 1, 8, 16, 40])),
        2 => Value::ToFrame(frame, one_of(rng, &[0, -8, 8, -16, -32, -40, 16])),
        3 => Value::Inside(frame),
        4 => Value::ToEnd(0),
        5 => Value::ToEnd(one_of(rng, &[-32, -8, 8, 512, 4096])),
        6 => Value::ToEnd(8 * (1 + rng.below(64) as i64)),
        _ => Value::IntoTail,
    }
}

fn harm(rng: &mut Rng) -> Harm {
    match rng.below(4) {
        0 => {
            // The id, the metadata, the pointer, the payload length and the checksum.
            let (at, len) = one_of(rng, &[(8, 8), (16, 4), (20, 4), (24, 4), (0, 4)]);
            Harm::Root(
                at,
                len,
                one_of(rng, &[1, 2, 8, 1 << 20, u64::MAX, u64::MAX - 7]),
            )
        }
        1 if rng.below(4) == 0 => Harm::RootOf(one_of(rng, &[0, 0xa5])),
        _ => Harm::Delimiter(value(rng)),
    }
}

fn one_of<T: Copy>(rng: &mut Rng, values: &[T]) -> T {
    values[rng.below(values.len() as u64) as usize]
}

impl Case {
    fn of(seed: u64) -> Self {
        use Acknowledged::*;
        use Ledger::*;
        let rng = &mut Rng(seed);
        let sizes = one_of(rng, &[SHORT, EQUAL, LONG, EVENTS]);
        let files = one_of(rng, &[1, 2, 3]);
        let ending = |rng: &mut Rng| match rng.below(2) {
            0 => Ending::Clean,
            _ => {
                let torn = one_of(rng, &[0, 5, 8, 24, 41, 64, 120, 140]);
                Ending::Torn(torn, one_of(rng, &[0, 0, 24, 700, 1500]))
            }
        };
        let endings: Vec<_> = (0..files).map(|_| ending(rng)).collect();
        let harms = 0..1 + u64::from(rng.below(4) == 0);
        Self {
            sizes,
            files,
            filler: match rng.below(4) {
                0 => Filler::Noise,
                1 => Filler::Frames,
                _ => Filler::Delimiters(one_of(rng, &[0, 32, 40, 4096, 1 << 20])),
            },
            acknowledged: one_of(rng, &[Nothing, One, Half, AlmostAll, Inside]),
            ledger: one_of(
                rng,
                &[Exact, BehindByOne, Behind, ReaderAhead, Missing, Ahead],
            ),
            harms: harms
                .map(|_| {
                    let file = rng.below(files as u64) as usize;
                    // The torn frame is one more.
                    let frames = sizes.len() + usize::from(endings[file].torn() >= 8);
                    ((file, rng.below(frames as u64) as usize), harm(rng))
                })
                .collect(),
            endings,
        }
    }

    /// The payload of a record.
    fn payload(&self, id: u64, len: usize) -> Vec<u8> {
        match self.filler {
            Filler::Frames if len >= 30 => (id + 1..id + 3)
                .flat_map(|id| frame(&record(id, 1, payload(id, 9))))
                .collect(),
            Filler::Noise | Filler::Frames => payload(id, len),
            Filler::Delimiters(delimiter) => {
                let bytes = delimiter.to_be_bytes();
                bytes.into_iter().cycle().take(len).collect()
            }
        }
    }

    /// A machine with the damaged buffer on its disk.
    fn sim(&self) -> Sim {
        let sim = Sim::new();
        let mut id = 1;
        let mut records: Vec<Record> = Vec::new();
        for file in 0..self.files {
            let mut bytes = Vec::new();
            let mut frames = Vec::new();
            for &(events, len) in self.sizes {
                let record = record(id, events, self.payload(id, len));
                id = record.end();
                frames.push(bytes.len());
                bytes.extend(frame(&record));
                records.push(record);
            }
            frames.push(bytes.len());
            if let Ending::Torn(torn, zeros) = self.endings[file] {
                bytes.extend(&frame(&record(id, 1, self.payload(id, 200)))[..torn]);
                bytes.resize(bytes.len() + zeros, 0);
            }
            for ((_, at), harm) in self.harms.iter().filter(|((at, _), _)| *at == file) {
                harm.apply(&mut bytes, &frames, *at);
            }
            sim.write_file(path(&file_name(file as u16)), &bytes)
                .unwrap();
        }
        if let Some(ledger) = self.ledger(&records) {
            sim.write_file(path(LEDGER_FILE_NAME), &ledger).unwrap();
        }
        sim
    }

    fn ledger(&self, records: &[Record]) -> Option<Vec<u8>> {
        let next = records.last().map_or(1, Record::end);
        let acknowledged = match self.acknowledged {
            Acknowledged::Nothing => 0,
            Acknowledged::One => records[0].end() - 1,
            Acknowledged::Half => records[records.len() / self.files.max(2)].id - 1,
            Acknowledged::AlmostAll => next - 2,
            Acknowledged::Inside => records[1].end() - 2,
        };
        let reader = records.iter().position(|r| r.end() > acknowledged + 1);
        let mut state = LedgerState {
            writer_next_record_id: next,
            writer_file_id: (self.files - 1) as u16,
            reader_file_id: reader.map_or(0, |at| at / self.sizes.len()) as u16,
            reader_last_record_id: acknowledged,
        };
        match self.ledger {
            Ledger::Exact => {}
            Ledger::BehindByOne => {
                let last = records.last().map_or(1, |last| last.id);
                state.writer_next_record_id = last.max(acknowledged + 1);
            }
            Ledger::Behind => state.writer_next_record_id = acknowledged + 1,
            Ledger::ReaderAhead => state.writer_next_record_id = 1,
            Ledger::Missing => return None,
            Ledger::Ahead => state.writer_next_record_id += 2,
        }
        Some(state.to_bytes().to_vec())
    }
}

impl Harm {
    /// Damages the frame with the index `n`. `frames` says where each begins and the last ends.
    fn apply(self, bytes: &mut [u8], frames: &[usize], n: usize) {
        let at = frames[n];
        let end = frames.get(n + 1).copied().unwrap_or(bytes.len());
        let to = |to: i64| (to - at as i64 - 8) as u64;
        let begin = |after: usize| frames.get(n + after).copied().unwrap_or(bytes.len()) as i64;
        let value = match self {
            Harm::Delimiter(value) => match value {
                Value::Number(number) => number,
                Value::Off(off) => to(end as i64 + off),
                Value::ToFrame(n, off) => to(begin(n + 1) + off),
                Value::Inside(n) => to((begin(n) + begin(n + 1)) / 16 * 8),
                Value::ToEnd(off) => to(bytes.len() as i64 + off),
                Value::IntoTail => {
                    let tail = frames.last().copied().unwrap_or(0);
                    to(((tail + bytes.len()) / 16 * 8) as i64)
                }
            },
            Harm::Root(field, len, add) => {
                if let Some(root) = end.checked_sub(ROOT_LEN).filter(|root| *root >= at) {
                    let field = &mut bytes[root + field..root + field + len];
                    let mut number = [0; 8];
                    number[..len].copy_from_slice(field);
                    let number = u64::from_le_bytes(number).wrapping_add(add).to_le_bytes();
                    field.copy_from_slice(&number[..len]);
                }
                return;
            }
            Harm::RootOf(byte) => {
                let root = end.saturating_sub(ROOT_LEN).max(at);
                bytes[root..end].fill(byte);
                return;
            }
        };
        if let Some(delimiter) = bytes.get_mut(at..at + 8) {
            delimiter.copy_from_slice(&value.to_be_bytes());
        }
    }
}

impl Ending {
    fn torn(self) -> usize {
        match self {
            Self::Clean => 0,
            Self::Torn(torn, _) => torn,
        }
    }
}

fn record(id: u64, events: u64, payload: Vec<u8>) -> Record {
    Record {
        id,
        events,
        metadata: events as u32,
        payload,
    }
}

fn config() -> Config {
    Config::new(DIR)
        .max_size(64 << 10)
        .data_file_size(6 << 10)
        .batch_size(4 << 10)
        .event_counter(counter())
        .on_corruption(OnCorruption::Quarantine)
        .io(Io::Caller)
}

/// What is said of a buffer before it is opened.
#[derive(Debug)]
struct Said {
    verified: Verification,
    listed: Vec<StoredRecord>,
    skipped: u64,
}

impl Said {
    fn of(sim: &Sim) -> Check<Self> {
        let storage: Arc<dyn Storage> = Arc::new(sim.clone());
        let options = VerifyOptions::default().event_counter(counter());
        let verified = must("verify", options.storage(storage.clone()).verify(DIR))?;
        let options = RecordsOptions::default().event_counter(counter());
        let mut records = must("records", options.storage(storage).records(DIR))?;
        let listed = must("list", records.by_ref().collect::<Result<Vec<_>, _>>())?;
        Ok(Self {
            verified,
            listed,
            skipped: records.lost().events,
        })
    }

    /// Compares this with what an opening and the reader then said.
    fn compare(&self, read: &Read, reader: &Reader) -> Check {
        let listed: Vec<(u64, u64)> = self.listed.iter().map(|r| (r.id, r.events)).collect();
        if listed != read.records {
            return Err(format!("{listed:?} listed, {:?} came", read.records));
        }
        let lost: u64 = read.lost.iter().map(|lost| lost.events).sum();
        if [self.verified.events_lost, self.skipped] != [lost; 2] {
            return Err(format!("{lost} lost"));
        }
        self.compare_places(read)?;
        self.compare_bytes(read)?;
        let recovery = reader.recovery();
        let is_mended = reader.usage().mended_records > 0;
        if self.verified.is_clean() && (lost > 0 || is_mended || recovery.is_damaged()) {
            return Err(format!("clean, but {recovery:?}, {is_mended}"));
        }
        Ok(())
    }

    /// Each loss is counted in consecutive findings of its own, the first of which is where the
    /// reader met damage.
    fn compare_places(&self, read: &Read) -> Check {
        let mut findings = self.verified.findings.iter().filter(|f| f.events_lost > 0);
        for lost in &read.lost {
            let first = findings.next();
            let mut events = first.map_or(0, |first| first.events_lost);
            while events < lost.events {
                let Some(next) = findings.next() else { break };
                events += next.events_lost;
            }
            let place = (lost.file.as_ref(), lost.offset);
            let is_there = |first: &Finding| (first.file.as_ref(), first.offset) == place;
            let is_damage = lost.reason == LostReason::Damaged;
            if events != lost.events || (is_damage && !first.is_some_and(is_there)) {
                return Err(format!("{lost:?}, but {first:?}, {events} events"));
            }
            if is_damage && first.is_some_and(|first| first.severity == Severity::Normal) {
                return Err(format!("{lost:?} is normal: {first:?}"));
            }
        }
        Ok(())
    }

    /// The bytes of a loss are those of the findings between the records around it.
    fn compare_bytes(&self, read: &Read) -> Check {
        for lost in &read.lost {
            let behind = self.listed.iter().position(|r| r.id > lost.last_id);
            let Some(behind) = behind.filter(|behind| *behind > 0) else {
                continue;
            };
            let place = |r: &StoredRecord| (file_name(r.file_id), r.offset);
            let between = place(&self.listed[behind - 1])..place(&self.listed[behind]);
            let is_between = |f: &&Finding| {
                let place = (f.file.clone().unwrap_or_default(), f.offset);
                between.start < place && place < between.end
            };
            let findings = self.verified.findings.iter().filter(is_between);
            let bytes: u64 = findings.map(|f| f.length).sum();
            if bytes != lost.bytes {
                return Err(format!("{lost:?}, {bytes} bytes {between:?}"));
            }
        }
        Ok(())
    }
}

/// What came in one life.
#[derive(Debug, Default)]
struct Read {
    /// The id and the events of each record.
    records: Vec<(u64, u64)>,
    lost: Vec<Lost>,
}

/// Reads to the end, and acknowledges the first `ack` records.
fn drain(reader: &mut Reader, ack: usize) -> Check<Read> {
    let mut read = Read::default();
    loop {
        match must("try_recv", reader.try_recv())? {
            TryRecv::Ready(Item::Record(delivery)) => {
                read.records.push((delivery.id(), delivery.events()));
                if read.records.len() <= ack {
                    delivery.ack();
                }
            }
            TryRecv::Ready(Item::Lost(lost)) => read.lost.push(lost),
            TryRecv::Empty | TryRecv::End => return Ok(read),
        }
        check_usage(&reader.usage())?;
    }
}

fn open(sim: &Sim) -> Check<(Writer, Reader)> {
    let storage = Arc::new(sim.clone());
    must("open", config().storage(storage).open())
}

/// Opens the buffer and reads it, after it was looked at; acknowledges the first `ack` records.
fn live(sim: &Sim, ack: usize) -> Check<(Read, Writer, Reader)> {
    let said = Said::of(sim)?;
    let (writer, mut reader) = open(sim)?;
    let read = drain(&mut reader, ack)?;
    said.compare(&read, &reader)
        .map_err(|e| format!("{e}\n  {said:?}\n  {read:?}\n  {:?}", reader.recovery()))?;
    Ok((read, writer, reader))
}

/// The lives of one buffer.
fn check(mut sim: Sim) -> Check {
    let was = |life: &str, e| format!("{life} life: {e}");
    let (first, ..) = live(&sim, 0).map_err(|e| was("first", e))?;
    sim = sim.kill();
    let half = first.records.len() / 2;
    let (second, ..) = live(&sim, half).map_err(|e| was("second", e))?;
    if second.records != first.records {
        return Err(format!("first {first:?}, then {second:?}"));
    }
    sim = sim.kill();
    let (third, writer, reader) = live(&sim, usize::MAX).map_err(|e| was("third", e))?;
    if third.records[..] != first.records[half..] {
        return Err(format!("first {first:?}, then {third:?}"));
    }
    let next = writer.usage().next_record_id;
    must("append", writer.append_with(1, b"go on"))?;
    must("flush", writer.flush())?;
    must("close", reader.close())?;
    must("close", writer.close())?;
    let (fourth, ..) = live(&sim.kill(), usize::MAX).map_err(|e| was("fourth", e))?;
    match fourth.records[..] == [(next, 1)] && fourth.lost.is_empty() {
        true => Ok(()),
        false => Err(format!("{fourth:?} came last")),
    }
}

#[test]
fn verify_and_reader_agree_whatever_a_delimiter_or_a_root_says() {
    let first = number_from("FOREBAY_DELIMITERS_SEED", 1);
    let count = number_from("FOREBAY_DELIMITERS_SEEDS", 4000);
    let mut failed = Vec::new();
    for seed in first..first + count {
        let case = Case::of(seed);
        if let Err(e) = check(case.sim()) {
            failed.push(format!(
                "FOREBAY_DELIMITERS_SEED={seed} FOREBAY_DELIMITERS_SEEDS=1 {case:?}: {e}"
            ));
        }
    }
    let total = failed.len();
    failed.truncate(8);
    assert!(total == 0, "{total} cases failed:\n{}", failed.join("\n"));
}
