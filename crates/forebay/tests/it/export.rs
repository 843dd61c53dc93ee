//! Export and import: the same buffer again, ids and gaps included.
//!
//! Random buffers go from one simulated machine to another; `FOREBAY_SIM_SEED` is the first seed
//! (default 1), `FOREBAY_SIM_SEEDS` how many there are. What the golden buffers hold is known from
//! outside.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use forebay::storage::Storage;
use forebay::storage::sim::Sim;
use forebay::{
    Config, ErrorKind, EventCounter, ExportOptions, ImportOptions, Imported, InspectOptions, Item,
    RecordsOptions, Severity, StoredRecord, VerifyOptions,
};

use crate::crash::stop_again;
use crate::golden::{Golden, golden};
use crate::support::{Rng, drain, number_from, payload};

const FROM: &str = "/from";
const TO: &str = "/to";

/// Id, events, metadata and payload.
type Moved = (u64, u64, u32, Vec<u8>);

/// What an export says and holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exported {
    acknowledged_id: u64,
    next_record_id: u64,
    records: Vec<Moved>,
}

/// Metadata of 3 and more is the number of events.
fn counter() -> EventCounter {
    EventCounter::new(|metadata, payload| {
        u64::from(metadata)
            .max(1)
            .min((payload.len() as u64).max(1))
    })
}

fn options(sim: &Sim, counter: EventCounter) -> ExportOptions {
    ExportOptions::new()
        .event_counter(counter)
        .storage(Arc::new(sim.clone()))
}

fn export(options: &ExportOptions, dir: &str) -> Exported {
    let mut export = options.export(dir).unwrap();
    let moved = |record: StoredRecord| {
        let payload = record.payload.to_vec();
        (record.id, record.events, record.metadata, payload)
    };
    let exported = Exported {
        acknowledged_id: export.acknowledged_id(),
        next_record_id: export.next_record_id(),
        records: export
            .by_ref()
            .map(|record| moved(record.unwrap()))
            .collect(),
    };
    let (done, total) = export.progress();
    assert_eq!(done, total);
    assert!(export.next().is_none());
    exported
}

fn import(sim: &Sim, data_file_size: u64, from: &Exported) -> forebay::Result<Imported> {
    let options = ImportOptions::new()
        .data_file_size(data_file_size)
        .storage(Arc::new(sim.clone()));
    let mut import = options.begin(TO, from.acknowledged_id)?;
    for (id, events, metadata, payload) in &from.records {
        import.push(*id, *metadata, *events, payload)?;
    }
    import.finish(from.next_record_id)
}

/// What an opening delivers: each record, or how many events are lost.
fn delivered(sim: &Sim, dir: &str, counter: EventCounter) -> Vec<Result<Moved, u64>> {
    let config = Config::new(dir)
        .max_size(1 << 30)
        .event_counter(counter)
        .storage(Arc::new(sim.kill()));
    let (_writer, mut reader) = config.open().unwrap();
    let items = drain(&mut reader).into_iter();
    items
        .map(|item| match item {
            Item::Record(of) => Ok((of.id(), 0, of.metadata(), of.payload().to_vec())),
            Item::Lost(lost) => Err(lost.events),
        })
        .collect()
}

/// No finding but what is normal, and files and ledger as other implementations need them.
fn check_clean(sim: &Sim, dir: &str, counter: EventCounter) {
    let options = VerifyOptions::new().event_counter(counter);
    let found = options.storage(Arc::new(sim.clone())).verify(dir).unwrap();
    assert!(found.is_clean(), "{found:?}");
    let is_normal = |severity| severity == Severity::Normal;
    assert!(found.findings.iter().all(|f| is_normal(f.severity)));
    let options = InspectOptions::new().storage(Arc::new(sim.clone()));
    let ledger = options.inspect(dir).unwrap().ledger;
    assert_eq!(ledger.reader_file_id, Some(0));
    let there = sim.files(dir).into_iter().map(|(name, _)| name);
    let there: BTreeSet<String> = there.filter(|name| name.ends_with(".dat")).collect();
    let last = ledger.writer_file_id.unwrap();
    let expected = (0..=last).map(forebay::format::file_id::file_name);
    assert_eq!(there, expected.collect());
}

/// A buffer with several files, gaps, metadata, records of several events, empty payloads and
/// acknowledged records.
fn random_buffer(sim: &Sim, rng: &mut Rng) {
    let config = Config::new(FROM)
        .max_size(64 << 10)
        .data_file_size(1 << 10)
        .event_counter(counter())
        .storage(Arc::new(sim.clone()));
    let (writer, mut reader) = config.clone().open().unwrap();
    for n in 0..rng.below(60) {
        let metadata = rng.below(6) as u32;
        // A payload has at least a byte for each event.
        let len = (rng.below(200) as usize * rng.below(3) as usize / 2).max(metadata as usize);
        let len = if metadata <= 1 && rng.below(4) == 0 {
            0
        } else {
            len
        };
        writer.append_with(metadata, &payload(n, len)).unwrap();
    }
    writer.flush().unwrap();
    for _ in 0..rng.below(30) {
        if let forebay::TryRecv::Ready(Item::Record(delivery)) = reader.try_recv().unwrap() {
            delivery.ack();
        }
    }
    drop((writer, reader));
    // Damage makes gaps: bytes of a record, or a whole file.
    for (name, len) in sim.files(FROM) {
        if !name.ends_with(".dat") || len == 0 {
            continue;
        }
        let path = format!("{FROM}/{name}");
        match rng.below(8) {
            0 => sim.remove_file(path).unwrap(),
            1..4 => {
                let mut bytes = sim.read_file(&path).unwrap();
                let at = rng.below(len) as usize;
                let end = (at + rng.below(200) as usize).min(bytes.len());
                bytes[at..end].fill(0xa5);
                sim.write_file(path, &bytes).unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn a_round_trip_is_exact() {
    let first = number_from("FOREBAY_SIM_SEED", 1);
    let (mut records, mut gaps, mut acknowledged) = (0, 0, 0);
    for seed in first..first + number_from("FOREBAY_SIM_SEEDS", 150) {
        eprintln!("FOREBAY_SIM_SEED={seed} FOREBAY_SIM_SEEDS=1 replays this");
        let mut rng = Rng(seed);
        let sim = Sim::new();
        sim.create_dir(Path::new(FROM)).unwrap();
        random_buffer(&sim, &mut rng);
        for (all, salvage) in [(false, false), (true, false), (true, true)] {
            let options = options(&sim, counter()).all(all).salvage(salvage);
            let before = (sim.fingerprint(FROM), sim.operations());
            let exported = export(&options, FROM);
            assert_eq!((sim.fingerprint(FROM), sim.operations()), before);
            let other = Sim::new();
            let imported = import(&other, 1 << rng.below(14), &exported).unwrap();
            check_clean(&other, TO, counter());
            let back = options.clone().storage(Arc::new(other.clone()));
            let again = export(&back, TO);
            assert_eq!(again.records, exported.records);
            assert_eq!(again.next_record_id, exported.next_record_id);
            let unread = |exported: &Exported| {
                let records = exported.records.iter().cloned();
                let after = exported.acknowledged_id;
                records.filter(|moved| moved.0 > after).collect::<Vec<_>>()
            };
            assert_eq!(unread(&again), unread(&exported));
            if !salvage {
                // A reader gets the same records.
                let expected = delivered(&sim, FROM, counter());
                let got = delivered(&other, TO, counter());
                let records =
                    |of: &[Result<Moved, u64>]| of.iter().flatten().cloned().collect::<Vec<_>>();
                assert_eq!(records(&got), records(&expected));
            }
            records += exported.records.len();
            gaps += imported.missing.len();
            acknowledged +=
                usize::from(all) * unread(&exported).len().abs_diff(exported.records.len());
        }
    }
    assert!(
        records > 1000 && gaps > 100 && acknowledged > 100,
        "{records} {gaps} {acknowledged}"
    );
}

fn machine(golden: &Golden) -> Sim {
    let sim = Sim::new();
    sim.import_dir(&golden.dir, FROM).unwrap();
    sim
}

#[test]
fn golden_buffers_are_exported_and_imported() {
    let mut several = 0;
    for golden in golden() {
        let sim = machine(&golden);
        let exported = export(&options(&sim, golden.counter()), FROM);
        let ids: Vec<u64> = exported.records.iter().map(|moved| moved.0).collect();
        assert_eq!(ids, golden.must_deliver(), "{}", golden.name);
        let to = Sim::new();
        import(&to, 1 << 10, &exported).unwrap();
        check_clean(&to, TO, golden.counter());
        let records = |of: Vec<Result<Moved, u64>>| of.into_iter().flatten().collect::<Vec<_>>();
        let before = records(delivered(&sim, FROM, golden.counter()));
        let after = records(delivered(&to, TO, golden.counter()));
        assert_eq!(after, before, "{}", golden.name);
        several += usize::from(ids.len() > 1);
    }
    assert!(several > 40, "{several}");
}

/// Everything whose checksum holds, whether a reader would believe it or not.
#[test]
fn salvaging_finds_every_record_that_checks_out() {
    for golden in golden() {
        let sim = machine(&golden);
        let all = options(&sim, golden.counter()).all(true);
        let salvaged = export(&all.clone().salvage(true), FROM);
        let ids: Vec<u64> = salvaged.records.iter().map(|moved| moved.0).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{}", golden.name);
        let missing: Vec<u64> = golden
            .record_ids()
            .into_iter()
            .filter(|id| !ids.contains(id))
            .collect();
        assert_eq!(missing, [0; 0], "{}", golden.name);
        let without = export(&all, FROM);
        assert!(
            without
                .records
                .iter()
                .all(|moved| salvaged.records.contains(moved))
        );
        let to = Sim::new();
        import(&to, 1 << 10, &salvaged).unwrap();
        check_clean(&to, TO, golden.counter());
    }
}

/// The extent of a record with a wrong checksum is certain. Regression: a frame in its payload with
/// the id that was missing came in its place.
#[test]
fn a_frame_in_the_payload_of_a_damaged_record_fills_no_gap() {
    let sim = Sim::new();
    let config = Config::new(FROM).storage(Arc::new(sim.clone()));
    let (writer, reader) = config.open().unwrap();
    for n in 1..=3 {
        let text = [&payload(n, 16)[..], &frame(2, b"inside")].concat();
        writer.append(&text).unwrap();
    }
    writer.close().unwrap();
    drop(reader);
    let path = format!("{FROM}/buffer-data-0.dat");
    let mut bytes = sim.read_file(&path).unwrap();
    let second = bytes.len() / 3 + 8;
    bytes[second] ^= 1;
    sim.write_file(&path, &bytes).unwrap();
    let salvage = options(&sim, EventCounter::one()).salvage(true);
    let records = export(&salvage, FROM).records;
    let ids: Vec<u64> = records.into_iter().map(|moved| moved.0).collect();
    assert_eq!(ids, [1, 3]);
}

#[test]
fn salvaging_finds_what_the_quarantine_holds() {
    let sim = Sim::new();
    let config = Config::new(FROM).storage(Arc::new(sim.clone()));
    let (writer, reader) = config.open().unwrap();
    for n in 1..=10 {
        // A frame within a payload is no record.
        let inside = frame(7, b"inside");
        let text = [&payload(n, 16)[..], &inside].concat();
        writer.append(&text).unwrap();
    }
    writer.close().unwrap();
    drop(reader);
    let path = format!("{FROM}/buffer-data-0.dat");
    let mut bytes = sim.read_file(&path).unwrap();
    let len = bytes.len() / 10;
    let kept = bytes[3 * len..6 * len].to_vec();
    bytes[3 * len..6 * len].fill(0xee);
    sim.write_file(&path, &bytes).unwrap();
    let options = options(&sim, EventCounter::one());
    let ids = |options: &ExportOptions| -> Vec<u64> {
        let records = export(options, FROM).records;
        records.into_iter().map(|moved| moved.0).collect()
    };
    let salvage = options.clone().salvage(true);
    assert_eq!(ids(&salvage), [1, 2, 3, 7, 8, 9, 10]);
    let quarantine = Path::new(FROM).join("quarantine");
    sim.create_dir(&quarantine).unwrap();
    let name = format!("buffer-data-0.dat.{}-{}.bytes", 3 * len, 3 * len);
    sim.write_file(quarantine.join(name), &kept).unwrap();
    assert_eq!(ids(&options), [1, 2, 3, 7, 8, 9, 10]);
    assert_eq!(ids(&salvage), (1..=10).collect::<Vec<_>>());
    let exported = salvage.export(FROM).unwrap();
    assert_eq!(exported.events_salvaged(), 3);
    let export = export(&salvage, FROM);
    assert_eq!(export.records[4].3[..16], payload(5, 16));
    // What was acknowledged stays so.
    let (writer, mut reader) = Config::new(FROM)
        .storage(Arc::new(sim.clone()))
        .open()
        .unwrap();
    drop(writer);
    while let Some(item) = reader.recv().unwrap() {
        match item {
            Item::Record(delivery) if delivery.id() < 9 => delivery.ack(),
            _ => {}
        }
    }
    drop(reader);
    assert_eq!(ids(&salvage), [9, 10]);
}

/// A frame, as a data file holds it.
fn frame(id: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; forebay::format::record::frame_len(payload.len())];
    forebay::format::record::encode(&mut frame, id, 0, payload);
    frame
}

/// After a kill or a power cut at any moment of an import, importing again succeeds, and the
/// result is the same.
#[test]
fn an_import_that_is_interrupted_can_be_made_again() {
    let from = Exported {
        acknowledged_id: 4,
        next_record_id: 30,
        records: vec![
            (3, 2, 2, payload(3, 50)),
            (6, 1, 1, Vec::new()),
            (7, 1, 0, payload(7, 2000)),
            (20, 5, 5, payload(20, 900)),
        ],
    };
    // In the second one, everything is acknowledged.
    for (acknowledged_id, next_record_id) in [(4, 30), (24, 25)] {
        let from = Exported {
            acknowledged_id,
            next_record_id,
            ..from.clone()
        };
        interrupted_imports(&from);
    }
}

fn interrupted_imports(from: &Exported) {
    let whole = Sim::new();
    whole.keep_history();
    import(&whole, 1 << 10, from).unwrap();
    let expected = export(&options(&whole, counter()).all(true), TO);
    assert_eq!(expected.records, from.records);
    let (mut made, mut was_there, mut second_stops) = (0, 0, 0);
    for operations in 0..=whole.operations() {
        for seed in 0..6 {
            let stopped = whole.at(operations).unwrap();
            let stopped = match seed {
                0 => stopped.kill(),
                seed => stopped.crash(seed - 1),
            };
            let imported = import(&stopped, 1 << 10, from).unwrap();
            match imported.was_there {
                true => was_there += 1,
                false => made += 1,
            }
            let again = export(&options(&stopped, counter()).all(true), TO);
            assert_eq!(again, expected, "{operations} {seed}");
            check_clean(&stopped, TO, counter());
        }
        // The import that finishes it is stopped as well.
        let killed = whole.at(operations).unwrap().kill();
        second_stops += stop_again(
            &killed,
            TO,
            |sim| drop(import(sim, 1 << 10, from)),
            |sim, what| {
                import(sim, 1 << 10, from).unwrap();
                let again = export(&options(sim, counter()).all(true), TO);
                assert_eq!(again, expected, "{operations}, {what}");
            },
        );
    }
    assert!(second_stops > 500, "{second_stops}");
    assert!(made > 50 && was_there > 20, "{made} {was_there}");
}

#[test]
fn an_import_into_another_buffer_is_refused_and_changes_nothing() {
    let sim = Sim::new();
    let (writer, reader) = Config::new(TO)
        .storage(Arc::new(sim.clone()))
        .open()
        .unwrap();
    writer.append(b"other").unwrap();
    let from = Exported {
        acknowledged_id: 0,
        next_record_id: 2,
        records: vec![(1, 1, 0, b"one".to_vec())],
    };
    let kind = |from: &Exported| import(&sim, 1 << 20, from).unwrap_err().kind();
    assert_eq!(kind(&from), ErrorKind::Locked);
    writer.close().unwrap();
    drop(reader);
    let before = sim.fingerprint(TO);
    assert_eq!(kind(&from), ErrorKind::InvalidConfig);
    let with = |records, next_record_id| Exported {
        records,
        next_record_id,
        ..from.clone()
    };
    let same = vec![(1, 1, 0, b"other".to_vec())];
    assert!(
        import(&sim, 1 << 20, &with(same.clone(), 2))
            .unwrap()
            .was_there
    );
    let more = [&same[..], &[(2, 1, 0, b"more".to_vec())]].concat();
    assert_eq!(kind(&with(more, 3)), ErrorKind::InvalidConfig);
    assert_eq!(kind(&with(Vec::new(), 1)), ErrorKind::InvalidConfig);
    assert_eq!(kind(&with(same.clone(), 9)), ErrorKind::InvalidConfig);
    let other_metadata = vec![(1, 1, 7, b"other".to_vec())];
    assert_eq!(kind(&with(other_metadata, 2)), ErrorKind::InvalidConfig);
    assert_eq!(sim.fingerprint(TO), before);
    let records = RecordsOptions::new().storage(Arc::new(sim.clone()));
    assert_eq!(records.records(TO).unwrap().count(), 1);
}

#[test]
fn records_that_cannot_be_are_refused() {
    for (id, events, payload) in [
        (0, 1, &b"x"[..]),
        (u64::MAX, 1, b"x"),
        (1, 0, b"x"),
        (1, 2, b"x"),
        (1, 2, b""),
        (1, u64::MAX, b"x"),
    ] {
        let records = vec![(id, events, 0, payload.to_vec())];
        let from = Exported {
            acknowledged_id: 0,
            next_record_id: 2,
            records,
        };
        let sim = Sim::new();
        let error = import(&sim, 1 << 20, &from).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRecord, "{id} {events}");
        assert!(sim.files(TO).iter().all(|(name, _)| name == "buffer.lock"));
    }
}

#[test]
fn the_newest_record_is_found_from_the_end() {
    for golden in golden() {
        let options = RecordsOptions::new().event_counter(golden.counter());
        let newest = options.newest(&golden.dir).unwrap();
        let all = options.clone().all(true).records(&golden.dir).unwrap();
        let last = all.map(Result::unwrap).last();
        if golden.is_healthy() {
            assert_eq!(newest, last, "{}", golden.name);
        }
        assert_eq!(newest.is_some(), last.is_some(), "{}", golden.name);
    }
    // Behind zeros that were written ahead, and before a long record.
    for len in [10, 100_000, 5_000_000] {
        let sim = Sim::new();
        let config = Config::new(FROM).storage(Arc::new(sim.clone()));
        let (writer, reader) = config.open().unwrap();
        writer.append_with(1, b"first").unwrap();
        writer.append_with(2, &payload(2, len)).unwrap();
        writer.close().unwrap();
        drop(reader);
        let path = format!("{FROM}/buffer-data-0.dat");
        let mut bytes = sim.read_file(&path).unwrap();
        bytes.extend([0; 200_000]);
        sim.write_file(&path, &bytes).unwrap();
        let options = RecordsOptions::new().storage(Arc::new(sim.clone()));
        let newest = options.newest(FROM).unwrap().unwrap();
        assert_eq!((newest.id, newest.metadata), (2, 2));
        assert_eq!(newest.payload, payload(2, len));
    }
}
