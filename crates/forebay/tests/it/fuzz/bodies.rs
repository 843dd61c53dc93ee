//! The body of each fuzz target: what it does with its bytes. `cargo fuzz` (see `fuzz/`) and
//! the deterministic variant in `cargo test` share them; they panic on a finding.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use forebay::format::file_id::{LEDGER_FILE_NAME, file_name};
use forebay::format::ledger::{LedgerDamage, LedgerState};
use forebay::format::record::{encode, frame_len};
use forebay::storage::Storage;
use forebay::storage::sim::Sim;
use forebay::{
    Config, Delivery, ErrorKind, InspectOptions, Io, Item, Reader, RecordsOptions, TryRecv, Usage,
    VerifyOptions, WhenFull, Writer,
};

const DIR: &str = "/buffer";

/// The ids of the data files that a directory can have; the index after the last one stands
/// for the ledger.
pub const FILE_IDS: [u16; 7] = [0, 1, 2, 7, 30_000, 65533, 65534];

fn config() -> Config {
    Config::new(DIR)
        .max_size(256 << 10)
        .data_file_size(1 << 10)
        .batch_size(4 << 10)
        .when_full(WhenFull::Reject)
        .io(Io::Caller)
}

fn write(sim: &Sim, name: &str, bytes: &[u8]) {
    sim.write_file(Path::new(DIR).join(name), bytes)
        .expect("a file can be prepared");
}

/// Frames of records with these ids.
pub fn frames(ids: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in ids {
        let payload = vec![id as u8; (id % 20) as usize];
        let at = bytes.len();
        bytes.resize(at + frame_len(payload.len()), 0);
        encode(&mut bytes[at..], id, id as u32, &payload);
    }
    bytes
}

/// Checks that received = acknowledged + unread + dropped + lost.
fn check_law(usage: &Usage) {
    let sum = |part: fn(&forebay::Count) -> u64| {
        part(&usage.acknowledged) + part(&usage.unread) + part(&usage.dropped) + part(&usage.lost)
    };
    assert_eq!(
        usage.received.events,
        sum(|count| count.events),
        "{usage:?}"
    );
    assert_eq!(usage.received.bytes, sum(|count| count.bytes), "{usage:?}");
}

/// Reads and acknowledges everything, and checks that the ids have no gap up to the next id.
/// Returns the ids of the records.
fn drain(reader: &mut Reader) -> Vec<u64> {
    let (mut ids, mut expected) = (Vec::new(), None);
    loop {
        let (first, events) = match reader.try_recv().expect("it can be read") {
            TryRecv::Ready(Item::Record(delivery)) => {
                let item = (delivery.id(), delivery.events());
                ids.push(delivery.id());
                delivery.ack();
                item
            }
            TryRecv::Ready(Item::Lost(lost)) => (lost.first_id, lost.events),
            TryRecv::Empty | TryRecv::End => break,
        };
        assert!(events > 0 && expected.is_none_or(|expected| expected == first));
        expected = Some(first + events);
        check_law(&reader.usage());
    }
    let usage = reader.usage();
    assert!(expected.is_none_or(|expected| expected == usage.next_record_id));
    assert_eq!(usage.unread.events, 0);
    ids
}

/// Inspects, verifies and lists a directory, opens it, reads it, appends to it and opens it
/// again. Returns the ids that were delivered.
fn live(sim: &Sim) -> Vec<u64> {
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    InspectOptions::default()
        .storage(storage.clone())
        .inspect(DIR)
        .expect("inspect");
    VerifyOptions::default()
        .storage(storage.clone())
        .verify(DIR)
        .expect("verify");
    let listed = RecordsOptions::default()
        .storage(Arc::clone(&storage))
        .records(DIR)
        .expect("list");
    let listed: Vec<u64> = listed.map(|record| record.expect("a record").id).collect();
    assert!(listed.windows(2).all(|pair| pair[0] < pair[1]));

    let (writer, mut reader) = config()
        .storage(Arc::new(sim.clone()))
        .open()
        .expect("open");
    let next_id = writer.usage().next_record_id;
    let ids = drain(&mut reader);
    assert!(ids.iter().all(|id| *id < next_id));
    let end = match writer.append(b"more") {
        Ok(receipt) => {
            assert_eq!(receipt.id(), Some(next_id));
            next_id + 1
        }
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Full, "{e}");
            next_id
        }
    };
    writer.flush().expect("flush");
    drop(reader);
    writer.close().expect("close");
    let again = config().storage(Arc::new(sim.crash(0))).open();
    let (writer, mut reader) = again.expect("open again");
    let came: Vec<u64> = drain(&mut reader);
    assert_eq!(came, (next_id..end).collect::<Vec<_>>());
    // A deleted file may be back, and with it earlier findings, but no loss.
    assert_eq!(writer.recovery().events_lost, 0, "{:?}", writer.recovery());
    assert_eq!(writer.usage().next_record_id, end);
    ids
}

/// Any bytes as a data file.
pub fn scanner(bytes: &[u8]) {
    let sim = Sim::new();
    write(&sim, &file_name(0), bytes);
    live(&sim);
}

/// Any bytes as a ledger, over three records.
pub fn ledger(bytes: &[u8]) {
    if let Ok(state) = LedgerState::from_bytes(bytes) {
        let mut unpadded = bytes.to_vec();
        unpadded[12..16].fill(0);
        assert_eq!(state.to_bytes()[..], unpadded[..]);
    }
    let sim = Sim::new();
    write(&sim, &file_name(0), &frames(1..=3));
    write(&sim, LEDGER_FILE_NAME, bytes);
    let last = match LedgerState::from_bytes(bytes) {
        Ok(state) => state.reader_last_record_id,
        // Believed if the records show that only the next id is too low.
        Err(LedgerDamage::ReaderAheadOfWriter { reader_last, .. }) if reader_last < 4 => {
            reader_last
        }
        Err(_) => 0,
    };
    let ids = live(&sim);
    // A ledger that is impossibly far ahead counts as none.
    assert!(ids == [1, 2, 3] || ids.iter().copied().eq(last.saturating_add(1)..4));
}

/// A directory of any files. Each is one byte for its name, two for its length (big endian),
/// and as many bytes, or all that are left.
pub fn directory(bytes: &[u8]) {
    let sim = Sim::new();
    let mut rest = bytes;
    while let [name, high, low, more @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (contents, behind) = more.split_at(len);
        rest = behind;
        match FILE_IDS.get(usize::from(*name) % (FILE_IDS.len() + 1)) {
            Some(file_id) => write(&sim, &file_name(*file_id), contents),
            None => write(&sim, LEDGER_FILE_NAME, contents),
        }
    }
    if !sim.files(DIR).is_empty() {
        live(&sim);
    }
}

/// One file of a directory, as [`directory`] reads it.
pub fn entry(name: u8, contents: &[u8]) -> Vec<u8> {
    let len = u16::try_from(contents.len()).expect("a small file");
    [&[name], &len.to_be_bytes()[..], contents].concat()
}

/// A buffer under calls, and what it has promised.
struct Calls {
    sim: Sim,
    handles: Option<(Writer, Reader)>,
    appended: BTreeMap<u64, Vec<u8>>,
    held: Vec<Delivery>,
    /// The id after the contiguous acknowledged prefix.
    acked: u64,
    acks: Vec<u64>,
    /// After a power cut, no record below `synced` is missing unless it was acknowledged, and
    /// none below `acks_synced` comes again.
    synced: u64,
    acks_synced: u64,
    cursor: u64,
}

impl Calls {
    fn open(&mut self) {
        let opened = config().storage(Arc::new(self.sim.clone())).open();
        let (writer, reader) = opened.expect("open");
        self.cursor = 0;
        self.acks.retain(|id| *id < self.acked);
        self.handles = Some((writer, reader));
    }

    fn both(&mut self) -> (&Writer, &mut Reader) {
        let (writer, reader) = self.handles.as_mut().expect("a buffer is open");
        (writer, reader)
    }

    fn append(&mut self, len: usize) {
        let id = self.both().0.usage().next_record_id;
        let payload = vec![id as u8; len];
        match self.both().0.append(&payload) {
            Ok(receipt) => assert_eq!(receipt.id(), Some(id)),
            Err(e) => return assert_eq!(e.kind(), ErrorKind::Full, "{e}"),
        }
        self.appended.insert(id, payload);
    }

    fn flush(&mut self) {
        self.both().0.flush().expect("flush");
        self.synced = self.both().0.usage().next_record_id;
        self.acks_synced = self.acked;
    }

    fn recv(&mut self) {
        match self.both().1.try_recv().expect("try_recv") {
            TryRecv::Ready(Item::Record(delivery)) => {
                let id = delivery.id();
                assert!(id >= self.cursor && id >= self.acked && !self.acks.contains(&id));
                assert_eq!(
                    self.appended.get(&id).map(|p| &p[..]),
                    Some(&delivery.payload()[..])
                );
                let skipped = self.appended.range(self.cursor.max(self.acked)..id);
                let all = skipped.into_iter().all(|(id, _)| self.acks.contains(id));
                assert!(all, "{id} came too early");
                self.cursor = id + 1;
                self.held.push(delivery);
            }
            TryRecv::Ready(Item::Lost(lost)) => panic!("{lost}"),
            TryRecv::Empty => {
                let open = self.cursor.max(self.acked);
                let mut left = self.appended.range(open..self.synced.max(open));
                assert!(left.all(|(id, _)| self.acks.contains(id)));
            }
            TryRecv::End => panic!("the end"),
        }
    }

    fn ack(&mut self, which: usize) {
        if self.held.is_empty() {
            return;
        }
        let delivery = self.held.remove(which % self.held.len());
        self.acks.push(delivery.id());
        delivery.ack();
        self.advance();
    }

    fn advance(&mut self) {
        while self.acks.contains(&self.acked) {
            self.acked += 1;
        }
    }

    /// Kills the process or cuts the power, and checks what is left. That ends the sequence;
    /// the crash tests cover several stops in a row.
    fn stop(&mut self, power_cut: Option<u64>) {
        let sim = match power_cut {
            Some(seed) => self.sim.crash(seed),
            None => self.sim.kill(),
        };
        self.held.clear();
        self.handles = None;
        self.sim = sim;
        let (synced, done) = match power_cut {
            Some(_) => (self.synced, self.acks_synced),
            None => (self.synced, self.acked),
        };
        let acknowledged = (self.acked, self.acks.clone());
        self.acked = done;
        self.open();
        let (_, reader) = self.both();
        let mut there = Vec::new();
        loop {
            match reader.try_recv().expect("try_recv") {
                TryRecv::Ready(Item::Record(delivery)) => there.push(delivery.id()),
                TryRecv::Ready(Item::Lost(lost)) => assert!(power_cut.is_some(), "{lost}"),
                TryRecv::Empty | TryRecv::End => break,
            }
        }
        assert!(
            there.first().is_none_or(|first| *first >= done),
            "{there:?}, {done}"
        );
        let must = self
            .appended
            .range(done..synced.max(done))
            .map(|(id, _)| *id);
        // An acknowledged record may be gone, whether its acknowledgement was synced or not.
        let is_done = |id: &u64| *id < acknowledged.0 || acknowledged.1.contains(id);
        for id in must.filter(|id| !is_done(id)) {
            assert!(there.contains(&id), "{id} is gone, synced below {synced}");
        }
    }
}

/// A sequence of calls, one for each byte (a stop takes a second byte).
pub fn calls(bytes: &[u8]) {
    let mut calls = Calls {
        sim: Sim::new(),
        handles: None,
        appended: BTreeMap::new(),
        held: Vec::new(),
        acked: 1,
        acks: vec![],
        synced: 1,
        acks_synced: 1,
        cursor: 0,
    };
    calls.open();
    let mut bytes = bytes.iter().take(200).copied();
    while let Some(call) = bytes.next() {
        match call % 16 {
            0..4 => calls.append(usize::from(call) * 2),
            4 => (0..7).for_each(|n| calls.append(n * 10)),
            5 => calls.flush(),
            6..9 => calls.recv(),
            9..11 => calls.ack(usize::from(call / 16)),
            11 => {
                (0..5).for_each(|_| calls.recv());
                (0..5).for_each(|_| calls.ack(0));
            }
            12 => {
                calls.both().1.rewind();
                calls.held.clear();
                calls.cursor = 0;
            }
            13 => {
                calls.both().1.sync_acks().expect("sync_acks");
                calls.acks_synced = calls.acked;
            }
            14 => {
                calls.held.clear();
                let (writer, reader) = calls.handles.take().expect("a buffer is open");
                reader.close().expect("close");
                let next_id = writer.usage().next_record_id;
                writer.close().expect("close");
                (calls.synced, calls.acks_synced) = (next_id, calls.acked);
                calls.open();
                assert!(calls.both().0.recovery().findings.is_empty());
            }
            _ => match bytes.next().unwrap_or(0) {
                0 => return calls.stop(None),
                seed => return calls.stop(Some(u64::from(seed - 1))),
            },
        }
        check_law(&calls.both().0.usage());
    }
}

/// Small inputs to begin with: the target and the bytes of each.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let data = frames(1..=6);
    let mut torn = data.clone();
    torn.truncate(data.len() - 9);
    let nested = {
        let inner = frames(2..=4);
        let mut bytes = vec![0; frame_len(inner.len())];
        encode(&mut bytes, 1, 0, &inner);
        [bytes, frames(2..=3)].concat()
    };
    let state = LedgerState {
        writer_next_record_id: 13,
        writer_file_id: 1,
        reader_file_id: 0,
        reader_last_record_id: 2,
    };
    let used = state.to_bytes().to_vec();
    let ledger_name = FILE_IDS.len() as u8;
    let two_files = [entry(0, &data), entry(1, &frames(7..=12))].concat();
    let wrapped = [entry(6, &data), entry(0, &frames(7..=12))].concat();
    vec![
        ("scanner", data),
        ("scanner", torn),
        ("scanner", nested),
        ("ledger", LedgerState::INITIAL.to_bytes().to_vec()),
        ("ledger", used.clone()),
        (
            "directory",
            [two_files.clone(), entry(ledger_name, &used)].concat(),
        ),
        ("directory", two_files),
        ("directory", wrapped),
        (
            "calls",
            vec![0, 1, 5, 6, 9, 13, 15, 1, 6, 14, 4, 4, 11, 5, 15, 9],
        ),
        (
            "calls",
            vec![4, 4, 6, 6, 6, 25, 12, 11, 11, 15, 0, 2, 15, 3, 11],
        ),
    ]
}

/// The body of a target.
pub fn body(target: &str) -> fn(&[u8]) {
    match target {
        "scanner" => scanner,
        "ledger" => ledger,
        "directory" => directory,
        "calls" => calls,
        _ => panic!("no target {target}"),
    }
}
