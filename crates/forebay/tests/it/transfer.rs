//! Moving and copying: every record of the one buffer comes to the other, once, in order, whatever
//! stops the transfers and whatever else happens to the two buffers between them.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::storage::{Access, Entry, File, Lock, Map, Storage};
use forebay::{
    Config, ErrorKind, EventCounter, Item, Reader, RecordsOptions, RepairOptions, SyncPolicy,
    TransferOptions, TryRecv, VerifyOptions, Writer,
};

use crate::crash::stop_again;
use crate::support::{Rng, number_from, payload, small, temp_dir};

const FROM: &str = "/from";
const TO: &str = "/to";

/// The first byte of the payloads of records that come from the other buffer, and of those that
/// are appended to the target by another program.
const MOVED: u8 = b'm';
const FOREIGN: u8 = b'f';

fn config(sim: &Sim, dir: &str) -> Config {
    Config::new(dir)
        .max_size(1 << 20)
        .data_file_size(1 << 10)
        .storage(Arc::new(sim.clone()))
}

fn open(sim: &Sim, dir: &str) -> (Writer, Reader) {
    config(sim, dir).open().unwrap()
}

fn options<'p>(sim: &Sim) -> TransferOptions<'p> {
    TransferOptions::new()
        .data_file_size(1 << 10)
        .storage(Arc::new(sim.clone()))
}

fn numbered(kind: u8, number: u64, len: usize) -> Vec<u8> {
    let mut payload = payload(number, 9 + len);
    payload[0] = kind;
    payload[1..9].copy_from_slice(&number.to_le_bytes());
    payload
}

fn kind_and_number(payload: &[u8]) -> (u8, u64) {
    let number = u64::from_le_bytes(*payload[1..].first_chunk().unwrap());
    let len = payload.len() - 9;
    assert_eq!(payload, numbered(payload[0], number, len));
    (payload[0], number)
}

/// The records that a buffer without damage delivers, acknowledged.
fn take(sim: &Sim, dir: &str, max: usize) -> Vec<(u8, u64)> {
    let (taken, lost) = take_and_lose(sim, dir, max);
    assert_eq!(lost, 0, "{dir}");
    taken
}

/// The records that a buffer delivers, acknowledged, and the events that it reports lost.
fn take_and_lose(sim: &Sim, dir: &str, max: usize) -> (Vec<(u8, u64)>, u64) {
    let (writer, mut reader) = open(sim, dir);
    drop(writer);
    let (mut taken, mut lost) = (Vec::new(), 0);
    while taken.len() < max
        && let Some(item) = reader.recv().unwrap()
    {
        match item {
            Item::Record(delivery) => {
                taken.push(kind_and_number(delivery.payload()));
                delivery.ack();
            }
            Item::Lost(loss) => lost += loss.events,
        }
    }
    reader.close().unwrap();
    (taken, lost)
}

fn fill(sim: &Sim, dir: &str, records: impl Iterator<Item = Vec<u8>>) {
    let (writer, reader) = open(sim, dir);
    for (n, record) in records.enumerate() {
        writer.append_with(n as u32, &record).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
}

#[test]
fn records_move_with_contents_metadata_and_order() {
    let sim = Sim::new();
    fill(&sim, FROM, (0..50).map(|n| numbered(MOVED, n, 60)));
    fill(&sim, TO, (0..5).map(|n| numbered(FOREIGN, n, 60)));
    let transfer = options(&sim).move_records(FROM, TO).unwrap();
    assert_eq!((transfer.records, transfer.synced), (50, 50));
    assert!(transfer.is_complete);
    let records = RecordsOptions::new().storage(Arc::new(sim.clone()));
    let records: Vec<_> = records.records(TO).unwrap().map(Result::unwrap).collect();
    for (n, record) in records.iter().enumerate() {
        let (kind, number) = if n < 5 { (FOREIGN, n) } else { (MOVED, n - 5) };
        assert_eq!(record.id, n as u64 + 1);
        assert_eq!(record.metadata, number as u32);
        assert_eq!(kind_and_number(&record.payload), (kind, number as u64));
    }
    assert_eq!(records.len(), 55);
    assert_eq!(take(&sim, FROM, usize::MAX), []);
    let again = options(&sim).move_records(FROM, TO).unwrap();
    assert_eq!((again.records, again.taken_before), (0, 0));
}

#[test]
fn a_copy_takes_what_is_new_and_leaves_everything_where_it_is() {
    let sim = Sim::new();
    fill(&sim, FROM, (0..20).map(|n| numbered(MOVED, n, 60)));
    let before = sim.fingerprint(FROM);
    let copied = options(&sim).copy_records(FROM, TO).unwrap();
    assert_eq!((copied.records, copied.taken_before), (20, 0));
    let files: Vec<_> = sim.files(FROM).into_iter().map(|(name, _)| name).collect();
    assert!(files.contains(&"identity".to_owned()), "{files:?}");
    sim.delete(&Path::new(FROM).join("identity")).unwrap();
    assert_eq!(sim.fingerprint(FROM), before);
}

#[test]
fn a_second_copy_takes_only_what_came_since() {
    let sim = Sim::new();
    fill(&sim, FROM, (0..20).map(|n| numbered(MOVED, n, 60)));
    assert_eq!(options(&sim).copy_records(FROM, TO).unwrap().records, 20);
    fill(&sim, FROM, (20..30).map(|n| numbered(MOVED, n, 60)));
    let copied = options(&sim).copy_records(FROM, TO).unwrap();
    assert_eq!((copied.records, copied.taken_before), (10, 20));
    let moved = options(&sim).move_records(FROM, TO).unwrap();
    assert_eq!((moved.records, moved.taken_before), (0, 30));
    let expected: Vec<_> = (0..30).map(|n| (MOVED, n)).collect();
    assert_eq!(take(&sim, TO, usize::MAX), expected);
    assert_eq!(take(&sim, FROM, usize::MAX), []);
}

#[test]
fn limits_are_kept() {
    let sim = Sim::new();
    fill(&sim, FROM, (0..50).map(|n| numbered(MOVED, n, 60)));
    let moved = options(&sim).max_records(7).move_records(FROM, TO).unwrap();
    assert_eq!((moved.records, moved.is_complete), (7, false));
    let moved = options(&sim).before(12).move_records(FROM, TO).unwrap();
    assert_eq!((moved.records, moved.is_complete), (4, false));
    let mut left = 9;
    let stop = |_: &forebay::Transfer| {
        left -= 1;
        match left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    let moved = options(&sim)
        .on_progress(stop)
        .move_records(FROM, TO)
        .unwrap();
    assert_eq!((moved.records, moved.is_complete), (9, false));
    let used: u64 = sim.files(TO).iter().map(|(_, len)| len).sum();
    let error = options(&sim)
        .max_size(used + 500)
        .move_records(FROM, TO)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    let moved = options(&sim).move_records(FROM, TO).unwrap();
    assert!(
        (1..30).contains(&moved.records) && moved.is_complete,
        "{moved:?}"
    );
    let expected: Vec<_> = (0..50).map(|n| (MOVED, n)).collect();
    assert_eq!(take(&sim, TO, usize::MAX), expected);
}

/// What is lost in the buffer that records leave is told while it can be: afterwards everything there
/// is acknowledged.
#[test]
fn losses_are_told_while_records_are_moved_or_discarded() {
    for discards in [false, true] {
        let sim = Sim::new();
        fill(&sim, FROM, (0..10).map(|n| numbered(MOVED, n, 60)));
        let path = format!("{FROM}/buffer-data-0.dat");
        let mut bytes = sim.read_file(&path).unwrap();
        let len = bytes.len();
        bytes[len / 2] ^= 1;
        sim.write_file(&path, &bytes).unwrap();
        let told = std::cell::RefCell::new(Vec::new());
        let options = options(&sim).on_lost(|lost| told.borrow_mut().push(lost.clone()));
        let transfer = match discards {
            true => options.discard_records(FROM),
            false => options.move_records(FROM, TO),
        };
        let transfer = transfer.unwrap();
        assert_eq!((transfer.records, transfer.events_lost), (9, 1));
        let told = told.into_inner();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].first_id, told[0].events), (told[0].last_id, 1));
        assert_eq!(told[0].file.as_deref(), Some("buffer-data-0.dat"));
    }
}

#[test]
fn records_can_be_discarded() {
    let sim = Sim::new();
    fill(&sim, FROM, (0..50).map(|n| numbered(MOVED, n, 60)));
    let discarded = options(&sim).max_records(7).discard_records(FROM).unwrap();
    assert_eq!((discarded.records, discarded.is_complete), (7, false));
    let discarded = options(&sim).before(12).discard_records(FROM).unwrap();
    assert_eq!((discarded.records, discarded.is_complete), (4, false));
    // What was discarded stays so.
    let sim = sim.crash(1);
    let expected: Vec<_> = (11..50).map(|n| (MOVED, n)).collect();
    let discarded = options(&sim).discard_records("/missing");
    assert_eq!(discarded.unwrap_err().kind(), ErrorKind::NotABuffer);
    assert_eq!(take(&sim, FROM, usize::MAX), expected);
    let discarded = options(&sim).discard_records(FROM).unwrap();
    assert_eq!((discarded.records, discarded.is_complete), (0, true));
}

/// A record that cannot be changed ends the move; those before it are taken.
#[test]
fn records_can_be_changed_on_the_way() {
    let sim = Sim::new();
    fill(&sim, FROM, (0..10).map(|n| numbered(MOVED, n, 4)));
    let change = |refused: u64| {
        move |id: u64, metadata: u32, payload: &Bytes| match id == refused {
            true => Err("it is odd".to_owned()),
            false => Ok((metadata + 100, payload.slice(..9))),
        }
    };
    let error = options(&sim)
        .change(change(6))
        .move_records(FROM, TO)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    assert!(error.to_string().contains("record 6 of /from"), "{error}");
    let moved = options(&sim)
        .change(change(0))
        .move_records(FROM, TO)
        .unwrap();
    assert_eq!((moved.records, moved.taken_before), (5, 0));
    let records = RecordsOptions::new().storage(Arc::new(sim.clone()));
    for (n, record) in records.records(TO).unwrap().map(Result::unwrap).enumerate() {
        let expected = numbered(MOVED, n as u64, 0);
        assert_eq!(record.payload[..9], expected[..9]);
        assert_eq!(record.metadata, n as u32 + 100);
    }
}

/// Records count the events of the one buffer there, and those of the other one here.
#[test]
fn events_are_counted_by_each_buffer() {
    let sim = Sim::new();
    let three = EventCounter::new(|_, _| 3);
    let counted = config(&sim, FROM).event_counter(three.clone());
    let (writer, reader) = counted.open().unwrap();
    for n in 0..5 {
        writer.append(&numbered(MOVED, n, 9)).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let options = options(&sim).event_counter(three);
    let target = options.event_counter_of_target(EventCounter::new(|_, _| 2));
    let moved = target.move_records(FROM, TO).unwrap();
    assert_eq!((moved.records, moved.events), (5, 15));
    let (writer, _reader) = config(&sim, TO)
        .event_counter(EventCounter::new(|_, _| 2))
        .open()
        .unwrap();
    assert_eq!(writer.append(b"next").unwrap().id(), Some(11));
}

/// The files of a buffer.
fn files(sim: &Sim, dir: &str) -> Vec<(String, Vec<u8>)> {
    let names = sim.files(dir).into_iter().map(|(name, _)| name);
    names
        .map(|name| {
            (
                name.clone(),
                sim.read_file(format!("{dir}/{name}")).unwrap(),
            )
        })
        .collect()
}

fn replace(sim: &Sim, dir: &str, files: &[(String, Vec<u8>)]) {
    for (name, _) in sim.files(dir) {
        sim.delete(&Path::new(dir).join(name)).unwrap();
    }
    for (name, bytes) in files {
        sim.write_file(format!("{dir}/{name}"), bytes).unwrap();
    }
}

/// An older copy is put back and goes on differently: what was taken is known record by record.
/// Regression: its new records were taken for those that had had their ids, acknowledged and lost.
#[test]
fn of_a_copy_that_was_put_back_the_new_records_are_taken() {
    let sim = Sim::new();
    fill(&sim, FROM, (0..10).map(|n| numbered(MOVED, n, 60)));
    assert_eq!(options(&sim).copy_records(FROM, TO).unwrap().records, 10);
    let older = files(&sim, FROM);
    fill(&sim, FROM, (10..15).map(|n| numbered(MOVED, n, 60)));
    assert_eq!(options(&sim).move_records(FROM, TO).unwrap().records, 5);
    replace(&sim, FROM, &older);
    fill(&sim, FROM, (20..30).map(|n| numbered(MOVED, n, 60)));
    let moved = options(&sim).move_records(FROM, TO).unwrap();
    assert_eq!((moved.records, moved.taken_before), (10, 10));
    let expected: Vec<_> = (0..15).chain(20..30).map(|n| (MOVED, n)).collect();
    assert_eq!(take(&sim, TO, usize::MAX), expected);
    assert_eq!(take(&sim, FROM, usize::MAX), []);
}

/// Two machines were made from one image, with the identity of a buffer in it.
#[test]
fn buffers_with_one_identity_are_told_apart_by_their_records() {
    let sim = Sim::new();
    fill(&sim, FROM, std::iter::empty());
    assert_eq!(options(&sim).move_records(FROM, TO).unwrap().records, 0);
    let image = files(&sim, FROM);
    assert!(image.iter().any(|(name, _)| name == "identity"));
    for machine in 0..3 {
        replace(&sim, FROM, &image);
        let numbers = 10 * machine..10 * machine + 5 + machine;
        let count = 5 + machine;
        fill(&sim, FROM, numbers.map(|n| numbered(MOVED, n, 60)));
        let moved = options(&sim).move_records(FROM, TO).unwrap();
        assert_eq!((moved.records, moved.taken_before), (count, 0));
    }
    assert_eq!(take(&sim, TO, usize::MAX).len(), 18);
}

/// Too many records for all to be noted, and the noted ones are others: nothing is acknowledged and
/// nothing is taken until somebody decides. Regression: the records before the first difference were
/// acknowledged although they had not been taken.
#[test]
fn a_source_of_another_history_is_refused_and_keeps_everything() {
    for copy_instead in [false, true] {
        let sim = Sim::new();
        fill(&sim, FROM, (0..400).map(|n| numbered(MOVED, n, 9)));
        assert_eq!(options(&sim).copy_records(FROM, TO).unwrap().records, 400);
        let identity = sim.read_file(format!("{FROM}/identity")).unwrap();
        for count in [300, 390, 450] {
            replace(&sim, FROM, &[("identity".to_owned(), identity.clone())]);
            fill(
                &sim,
                FROM,
                (1000..1000 + count).map(|n| numbered(MOVED, n, 9)),
            );
            let taken = match copy_instead {
                true => options(&sim).copy_records(FROM, TO),
                false => options(&sim).move_records(FROM, TO),
            };
            let error = taken.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(
                error.to_string().contains("delete identity there"),
                "{error}"
            );
        }
        sim.delete(&Path::new(FROM).join("identity")).unwrap();
        assert_eq!(options(&sim).move_records(FROM, TO).unwrap().records, 450);
        assert_eq!(take(&sim, TO, usize::MAX).len(), 850);
    }
}

/// Regression: the notes of a target whose files were deleted said that it had everything.
#[test]
fn a_target_that_was_emptied_gets_everything_again() {
    let sim = Sim::new();
    fill(&sim, FROM, (0..10).map(|n| numbered(MOVED, n, 60)));
    assert_eq!(options(&sim).copy_records(FROM, TO).unwrap().records, 10);
    let transfers = sim.read_file(format!("{TO}/transfers")).unwrap();
    replace(&sim, TO, &[("transfers".to_owned(), transfers)]);
    assert_eq!(options(&sim).copy_records(FROM, TO).unwrap().records, 10);
    assert_eq!(take(&sim, TO, usize::MAX).len(), 10);
}

/// Regression: an opening of the buffer deleted what lay in its directory `repair`.
#[test]
fn directories_that_a_buffer_uses_itself_are_no_targets() {
    let sim = Sim::new();
    fill(&sim, FROM, (0..10).map(|n| numbered(MOVED, n, 60)));
    for name in ["repair", "quarantine"] {
        let to = format!("{FROM}/{name}");
        let moved = options(&sim).move_records(FROM, &to);
        assert_eq!(moved.unwrap_err().kind(), ErrorKind::InvalidConfig);
        let salvage = forebay::SalvageOptions::new().storage(Arc::new(sim.clone()));
        let salvaged = salvage.salvage(&[FROM], &to);
        assert_eq!(salvaged.unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
    assert_eq!(take(&sim, FROM, usize::MAX).len(), 10);
}

/// Regression: the new file took the place of the oldest one.
#[test]
fn a_target_with_every_file_id_takes_nothing() {
    let sim = Sim::new();
    let len = forebay::format::record::frame_len(9);
    for id in 0..65_535 {
        let mut bytes = vec![0; len];
        let payload = numbered(FOREIGN, id, 0);
        forebay::format::record::encode(&mut bytes, id + 1, 0, &payload);
        sim.write_file(format!("{TO}/buffer-data-{id}.dat"), &bytes)
            .unwrap();
    }
    let ledger = forebay::format::ledger::LedgerState {
        writer_next_record_id: 65_536,
        writer_file_id: 65_534,
        reader_file_id: 0,
        reader_last_record_id: 0,
    };
    sim.write_file(format!("{TO}/buffer.db"), &ledger.to_bytes())
        .unwrap();
    fill(&sim, FROM, (0..10).map(|n| numbered(MOVED, n, 60)));
    let error = options(&sim).move_records(FROM, TO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(take(&sim, FROM, usize::MAX).len(), 10);
    assert_eq!(take(&sim, TO, 1), [(FOREIGN, 0)]);
}

/// The identity is made once, whoever makes it. Regression: of two first copies at the same time
/// each noted an identity of its own.
#[test]
fn copies_at_the_same_time_agree_on_the_identity() {
    for _ in 0..20 {
        let (from, to) = (temp_dir(), temp_dir());
        let (writer, reader) = small(from.path()).open().unwrap();
        for n in 0..5 {
            writer.append(&payload(n, 20)).unwrap();
        }
        writer.close().unwrap();
        reader.close().unwrap();
        let copy = |name: &str| {
            let to = to.path().join(name);
            let copied = TransferOptions::new().copy_records(from.path(), to);
            copied.unwrap()
        };
        std::thread::scope(|scope| {
            for name in ["a", "b", "c"] {
                scope.spawn(move || assert_eq!(copy(name).records, 5));
            }
        });
        for name in ["a", "b", "c"] {
            let again = copy(name);
            assert_eq!((again.records, again.taken_before), (0, 5));
        }
    }
}

/// A machine with a disk for the source, and another one for everything else.
#[derive(Debug)]
struct TwoDisks {
    source: Sim,
    other: Sim,
}

impl TwoDisks {
    fn of(&self, path: &Path) -> &Sim {
        match path.starts_with(FROM) {
            true => &self.source,
            false => &self.other,
        }
    }
}

impl Storage for TwoDisks {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.of(dir).create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.of(dir).list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        self.of(path).open(path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.of(from).rename(from, to)
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        self.of(path).delete(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.of(dir).sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.of(path).lock(path)
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        self.of(path).map(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.of(dir).free_bytes(dir)
    }
}

/// Regression: the way off a full disk failed because there was no space for the identity.
#[test]
fn records_move_off_a_full_disk() {
    for free in [0, 10, 40, 4000] {
        let (source, other) = (Sim::new(), Sim::new());
        fill(&source, FROM, (0..20).map(|n| numbered(MOVED, n, 60)));
        let used: u64 = source.files(FROM).iter().map(|(_, len)| len).sum();
        source.set_capacity(Some(used + free));
        let storage: Arc<dyn Storage> = Arc::new(TwoDisks {
            source: source.clone(),
            other: other.clone(),
        });
        let options = || TransferOptions::new().storage(Arc::clone(&storage));
        let moved = options().max_records(5).copy_records(FROM, TO);
        assert_eq!(moved.unwrap().records, 5, "{free}");
        let moved = options().max_records(5).move_records(FROM, TO).unwrap();
        assert_eq!((moved.records, moved.taken_before), (5, 5), "{free}");
        // With space, the buffer gets an identity, and what was noted before still counts.
        source.set_capacity(None);
        let moved = options().move_records(FROM, TO).unwrap();
        assert_eq!((moved.records, moved.taken_before), (10, 0), "{free}");
        let expected: Vec<_> = (0..20).map(|n| (MOVED, n)).collect();
        assert_eq!(take(&other, TO, usize::MAX), expected);
    }
}

/// A process that is killed while it makes the identity leaves a part of it, and a power cut may
/// leave zeros.
#[test]
fn a_part_of_an_identity_is_made_anew() {
    let sim = Sim::new();
    fill(&sim, FROM, (0..5).map(|n| numbered(MOVED, n, 60)));
    let identity = format!("{FROM}/identity");
    for (number, part) in [&b"0123"[..], &[0; 33], b""].into_iter().enumerate() {
        sim.write_file(&identity, part).unwrap();
        let to = format!("{TO}-{number}");
        assert_eq!(options(&sim).copy_records(FROM, &to).unwrap().records, 5);
        let made = sim.read_file(&identity).unwrap();
        assert_eq!((made.len(), made.contains(&0)), (33, false));
    }
    sim.write_file(format!("{FROM}/identity"), &[b'x'; 100])
        .unwrap();
    let error = options(&sim).copy_records(FROM, TO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

/// What was not taken is taken under its new ids.
#[test]
fn a_source_with_new_ids_goes_on() {
    for in_place in [false, true] {
        let sim = Sim::new();
        fill(&sim, FROM, (0..20).map(|n| numbered(MOVED, n, 60)));
        let moved = options(&sim).max_records(12).move_records(FROM, TO);
        assert_eq!(moved.unwrap().records, 12);
        let path = Path::new(FROM).join("buffer-data-1.dat");
        let mut bytes = sim.read_file(&path).unwrap();
        let last = bytes.len() - 40;
        bytes[last] ^= 1;
        sim.write_file(&path, &bytes).unwrap();
        let repair = RepairOptions::new().renumber(true).in_place(in_place);
        let repair = repair.storage(Arc::new(sim.clone())).repair(FROM).unwrap();
        assert!(repair.plan.is_needed());
        let moved = options(&sim).move_records(FROM, TO).unwrap();
        assert_eq!((moved.records, moved.taken_before), (7, 0));
    }
}

/// A copy is killed anywhere, made again, and loses power: what it noted still belongs to the
/// buffer. Regression: the second copy used an identity that the first one had not synced.
#[test]
fn an_identity_is_synced_before_it_is_used() {
    let machine = Sim::new();
    fill(&machine, FROM, (0..5).map(|n| numbered(MOVED, n, 60)));
    let all = {
        let sim = machine.kill();
        options(&sim).copy_records(FROM, TO).unwrap();
        sim.operations()
    };
    for stopped_before in 0..all {
        let sim = machine.kill();
        sim.power_off_after(stopped_before);
        let _ = options(&sim).copy_records(FROM, TO);
        let again = sim.kill();
        options(&again).copy_records(FROM, TO).unwrap();
        for seed in 0..8 {
            let sim = again.crash(seed);
            options(&sim).copy_records(FROM, TO).unwrap();
            let expected: Vec<_> = (0..5).map(|n| (MOVED, n)).collect();
            let taken = take(&sim, TO, usize::MAX);
            assert_eq!(taken, expected, "stopped before {stopped_before}, {seed}");
        }
    }
}

/// A backup is put back and goes on differently, but some of its new records are the same as those
/// that were taken under their ids. Regression: one of these was enough to take all records before
/// it for taken, and to acknowledge them.
#[test]
fn records_that_repeat_prove_no_history() {
    let record = |first: u64, n: u64| match n % 2 {
        0 => numbered(FOREIGN, 0, 60),
        _ => numbered(MOVED, first + n, 60),
    };
    let sim = Sim::new();
    fill(&sim, FROM, (1..=100).map(|n| record(0, n)));
    options(&sim).copy_records(FROM, TO).unwrap();
    let backup = files(&sim, FROM);
    fill(&sim, FROM, (101..=501).map(|n| record(0, n)));
    let moved = options(&sim).move_records(FROM, TO).unwrap();
    assert_eq!((moved.records, moved.taken_before), (401, 100));
    replace(&sim, FROM, &backup);
    fill(&sim, FROM, (101..=400).map(|n| record(1000, n)));
    let error = options(&sim).move_records(FROM, TO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let (writer, mut reader) = open(&sim, FROM);
    assert_eq!(writer.usage().unread.events, 400);
    assert!(matches!(reader.try_recv(), Ok(TryRecv::Ready(_))));
}

/// A transfer is killed at any moment, and power fails at any moment while the next opening finishes
/// it. Regression: files moved before the list that says so was durable.
#[test]
fn a_second_stop_while_an_installation_is_finished_costs_nothing() {
    let machine = Sim::new();
    fill(&machine, FROM, (0..14).map(|n| numbered(MOVED, n, 60)));
    let all = {
        let sim = machine.kill();
        options(&sim).move_records(FROM, TO).unwrap();
        sim.operations()
    };
    let mut unfinished = 0;
    for first in 0..all {
        let sim = machine.kill();
        sim.power_off_after(first);
        let _ = options(&sim).move_records(FROM, TO);
        let killed = sim.kill();
        unfinished += stop_again(
            &killed,
            TO,
            |sim| drop(options(sim).move_records(FROM, TO)),
            |sim, what| {
                options(sim).move_records(FROM, TO).unwrap();
                let expected: Vec<_> = (0..14).map(|n| (MOVED, n)).collect();
                assert_eq!(take(sim, TO, usize::MAX), expected, "{first}, {what}");
            },
        );
    }
    assert!(unfinished > 1000, "{unfinished}");
}

#[test]
fn buffers_that_are_open_are_refused() {
    let (from, to) = (temp_dir(), temp_dir());
    let (writer, reader) = small(from.path()).open().unwrap();
    writer.append(b"a record").unwrap();
    writer.flush().unwrap();
    let moved = TransferOptions::new().move_records(from.path(), to.path());
    assert_eq!(moved.unwrap_err().kind(), ErrorKind::Locked);
    let copied = TransferOptions::new().copy_records(from.path(), to.path());
    assert_eq!(copied.unwrap().records, 1);
    writer.close().unwrap();
    reader.close().unwrap();
    let held = small(to.path()).open().unwrap();
    let moved = TransferOptions::new().move_records(from.path(), to.path());
    assert_eq!(moved.unwrap_err().kind(), ErrorKind::Locked);
    drop(held);
    let same = TransferOptions::new().move_records(to.path(), to.path());
    assert_eq!(same.unwrap_err().kind(), ErrorKind::InvalidConfig);
    let missing = from.path().join("missing");
    let error = TransferOptions::new().move_records(&missing, to.path());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotABuffer);
    assert!(!missing.exists());
}

/// Several lives of two buffers, at random: records are appended to the one, some of them not
/// synced; a move or copy is stopped before any storage operation by a kill or a power cut, or
/// meets failing calls; another program appends to the target and takes records out of it. In the
/// end each record has come once, and in order. `FOREBAY_TRANSFER_SEED` and
/// `FOREBAY_TRANSFER_SEEDS` choose the seeds.
#[test]
fn nothing_is_lost_or_taken_twice_over_several_lives() {
    each_seed(|seed| lives(seed, false));
}

/// The same, and between the transfers payloads of records in both buffers are damaged, and both are
/// repaired, in place or not, stopped or not. Only what was damaged may be missing.
#[test]
fn damage_and_repairs_between_transfers_cost_only_what_was_damaged() {
    each_seed(|seed| lives(seed, true));
}

fn each_seed(lives: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let first = number_from("FOREBAY_TRANSFER_SEED", 1);
    for seed in first..first + number_from("FOREBAY_TRANSFER_SEEDS", 150) {
        let result = std::panic::catch_unwind(|| lives(seed));
        if let Err(panic) = result {
            eprintln!("FOREBAY_TRANSFER_SEED={seed} FOREBAY_TRANSFER_SEEDS=1");
            std::panic::resume_unwind(panic);
        }
    }
}

fn lives(seed: u64, with_damage: bool) {
    let mut rng = Rng(seed);
    let mut sim = Sim::new();
    fill(&sim, FROM, std::iter::empty());
    let (mut moved, mut foreign) = (0, 0);
    // What was appended without a sync may be gone after a power cut.
    let mut unsure = Vec::new();
    let mut damaged = Vec::new();
    let mut come = Vec::new();
    let copies_only = rng.below(4) == 0;
    for _ in 0..6 {
        match rng.below(4) {
            0 | 1 => {
                let count = rng.below(30);
                let lens: Vec<usize> = (0..count).map(|_| rng.below(200) as usize).collect();
                let records = lens.into_iter().zip(moved..);
                if rng.below(2) == 0 {
                    unsure.extend(moved..moved + count);
                    let config = config(&sim, FROM).sync(SyncPolicy::Never);
                    let (writer, _reader) = config.open().unwrap();
                    for (len, n) in records {
                        let record = numbered(MOVED, n, len);
                        writer.append(&record).unwrap().wait_written().unwrap();
                    }
                    sim = sim.kill();
                } else {
                    fill(&sim, FROM, records.map(|(len, n)| numbered(MOVED, n, len)));
                }
                moved += count;
            }
            2 => {
                let count = rng.below(10);
                let records = (foreign..foreign + count).map(|n| numbered(FOREIGN, n, 50));
                fill(&sim, TO, records);
                foreign += count;
            }
            _ => {
                let max = rng.below(40) as usize;
                come.extend(take_and_lose(&sim, TO, max).0);
            }
        }
        sim = transferred(&sim, &mut rng, copies_only);
        if with_damage {
            for dir in [FROM, TO] {
                damaged.extend(harmed(&sim, dir, &mut rng));
                sim = repaired(&sim, dir, &mut rng);
            }
        }
    }
    if with_damage {
        // Only an opening finishes a repair, and a copy opens nothing.
        fill(&sim, FROM, std::iter::empty());
    }
    match copies_only {
        true => options(&sim).copy_records(FROM, TO).unwrap(),
        false => options(&sim).move_records(FROM, TO).unwrap(),
    };
    if !with_damage {
        let options = VerifyOptions::new().storage(Arc::new(sim.clone()));
        let verification = options.verify(TO).unwrap();
        assert!(verification.is_clean(), "{verification:#?}");
    }
    come.extend(take_and_lose(&sim, TO, usize::MAX).0);
    for kind in [FOREIGN, MOVED] {
        let of_kind = come.iter().filter(|(of, _)| *of == kind);
        let numbers: Vec<u64> = of_kind.map(|(_, number)| *number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let count = if kind == MOVED { moved } else { foreign };
        let may_be_missing = |number: &u64| {
            damaged.contains(&(kind, *number)) || (kind == MOVED && unsure.contains(number))
        };
        for number in (0..count).filter(|number| !may_be_missing(number)) {
            assert!(numbers.contains(&number), "{number} is lost: {numbers:?}");
        }
    }
    if !copies_only {
        assert_eq!(take_and_lose(&sim, FROM, usize::MAX).0, []);
    }
}

/// Damages the payloads of some records of a buffer, acknowledged ones too, and returns which.
fn harmed(sim: &Sim, dir: &str, rng: &mut Rng) -> Vec<(u8, u64)> {
    let options = RecordsOptions::new()
        .all(true)
        .storage(Arc::new(sim.clone()));
    // There may be no buffer yet, or one whose files were being replaced.
    let Ok(records) = options.records(dir) else {
        return Vec::new();
    };
    let records: Vec<_> = records.map(Result::unwrap).collect();
    let mut damaged = Vec::new();
    for _ in 0..rng.below(3).min(records.len() as u64) {
        let record = &records[rng.below(records.len() as u64) as usize];
        let path = format!("{dir}/buffer-data-{}.dat", record.file_id);
        let mut bytes = sim.read_file(&path).unwrap();
        let at = record.offset + 8 + rng.below(record.payload.len() as u64);
        bytes[at as usize] ^= 1 << rng.below(8);
        sim.write_file(&path, &bytes).unwrap();
        damaged.push(kind_and_number(&record.payload));
    }
    damaged
}

/// The machine after a repair of a buffer, or none, which may be stopped.
fn repaired(sim: &Sim, dir: &str, rng: &mut Rng) -> Sim {
    if rng.below(2) == 0 {
        return sim.clone();
    }
    if rng.below(2) == 0 {
        sim.power_off_after(sim.operations() + rng.below(80));
    }
    let repair = RepairOptions::new().in_place(rng.below(2) == 0);
    let _ = repair.storage(Arc::new(sim.clone())).repair(dir);
    match rng.below(2) {
        0 => sim.kill(),
        _ => sim.crash(rng.below(8)),
    }
}

/// The machine after some transfers, each of which may be stopped or fail.
fn transferred(sim: &Sim, rng: &mut Rng, copies_only: bool) -> Sim {
    let mut sim = sim.clone();
    for _ in 0..rng.below(3) {
        let fault = Fault::new(Arc::new(sim.clone()));
        if rng.below(3) == 0 {
            let op = Op::ALL[rng.below(Op::ALL.len() as u64) as usize];
            fault.fail(op, 1 + rng.below(12), Errno::ALL[rng.below(5) as usize]);
        }
        if rng.below(2) == 0 {
            sim.power_off_after(sim.operations() + rng.below(120));
        }
        let storage: Arc<dyn Storage> = Arc::new(fault);
        let options = TransferOptions::new()
            .data_file_size(300 + rng.below(3000))
            .max_records(rng.below(60))
            .storage(storage);
        // A copy may be of what a power cut takes back later.
        let _ = match copies_only {
            true => options.copy_records(FROM, TO),
            false => options.move_records(FROM, TO),
        };
        sim = match rng.below(3) {
            _ if copies_only => sim.kill(),
            0 => sim.kill(),
            _ => sim.crash(rng.below(8)),
        };
    }
    sim
}
