//! Salvage: everything that checks out, from directories, single files and quarantined pieces,
//! goes to a new buffer, each record once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use forebay::storage::Storage;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{
    Config, ErrorKind, EventCounter, Item, RecordsOptions, Salvage, SalvageOptions, VerifyOptions,
};

use crate::crash::stop_again;
use crate::golden::{Golden, golden};
use crate::support::{Rng, drain, number_from, payload, small, temp_dir};

const DIR: &str = "/buffer";
const NEW: &str = "/new";

/// A machine with a copy of a golden buffer.
fn machine(golden: &Golden) -> Sim {
    let sim = Sim::new();
    sim.create_dir(Path::new(DIR)).unwrap();
    for entry in std::fs::read_dir(&golden.dir).unwrap() {
        let entry = entry.unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        let path = Path::new(DIR).join(entry.file_name());
        sim.write_file(path, &bytes).unwrap();
    }
    sim
}

fn options(sim: &Sim) -> SalvageOptions<'static> {
    SalvageOptions::new()
        .data_file_size(1 << 10)
        .storage(Arc::new(sim.clone()))
}

/// The unread records of a buffer: metadata and payload by id.
fn records(sim: &Sim, dir: &str, counter: EventCounter) -> BTreeMap<u64, (u32, Bytes)> {
    let options = RecordsOptions::new().event_counter(counter);
    let records = options.storage(Arc::new(sim.clone())).records(dir).unwrap();
    let records = records.map(|record| record.unwrap());
    records
        .map(|record| (record.id, (record.metadata, record.payload)))
        .collect()
}

fn assert_is_clean(sim: &Sim, dir: &str, counter: EventCounter) {
    let options = VerifyOptions::new().event_counter(counter);
    let verification = options.storage(Arc::new(sim.clone())).verify(dir).unwrap();
    assert!(verification.is_clean(), "{verification:#?}");
}

/// What a reader of the damaged buffer gets comes out, under the same ids, and the sources stay.
#[test]
fn golden_buffers_are_salvaged() {
    let mut salvaged = 0;
    for golden in golden() {
        let name = &golden.name;
        let sim = machine(&golden);
        let before = sim.fingerprint(DIR);
        let expected = records(&sim, DIR, golden.counter());
        let salvage = options(&sim)
            .event_counter(golden.counter())
            .salvage(&[DIR], NEW);
        let salvage = match salvage {
            Ok(salvage) => salvage,
            Err(error) => {
                // Records of an older time are under the same ids.
                assert_eq!(error.kind(), ErrorKind::InvalidRecord, "{name}: {error:#}");
                options(&sim)
                    .event_counter(golden.counter())
                    .renumber(true)
                    .salvage(&[DIR], NEW)
                    .unwrap()
            }
        };
        assert_eq!(sim.fingerprint(DIR), before, "{name}");
        assert_is_clean(&sim, NEW, golden.counter());
        let new = records(&sim, NEW, golden.counter());
        assert_eq!(new.len() as u64, salvage.records, "{name}");
        if salvage.conflicts == 0 {
            for (id, record) in &expected {
                assert_eq!(new.get(id), Some(record), "{name}: {id}");
            }
        }
        salvaged += new.len();
    }
    assert!(salvaged > 1000, "{salvaged}");
}

/// The files of a buffer of 60 records.
fn buffer(sim: &Sim) -> Vec<(String, Vec<u8>)> {
    let config = Config::new(DIR)
        .max_size(64 << 10)
        .data_file_size(1 << 10)
        .storage(Arc::new(sim.clone()));
    let (writer, reader) = config.open().unwrap();
    for n in 0..60 {
        writer.append_with(n as u32, &payload(n, 100)).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let names = sim.files(DIR).into_iter().map(|(name, _)| name);
    let data = names.filter(|name| name.ends_with(".dat"));
    data.map(|name| {
        let bytes = sim.read_file(format!("{DIR}/{name}")).unwrap();
        (name, bytes)
    })
    .collect()
}

fn salvage_all(sim: &Sim, sources: &[&str]) -> Salvage {
    let salvage = options(sim).salvage(sources, NEW).unwrap();
    assert_is_clean(sim, NEW, EventCounter::one());
    salvage
}

#[test]
fn single_files_in_any_order_give_each_record_once() {
    let sim = Sim::new();
    let files = buffer(&sim);
    let mut paths: Vec<String> = files
        .iter()
        .map(|(name, _)| format!("{DIR}/{name}"))
        .collect();
    paths.reverse();
    paths.push(paths[2].clone());
    let sources: Vec<&str> = paths.iter().map(String::as_str).collect();
    let salvage = salvage_all(&sim, &sources);
    assert_eq!(
        (salvage.records, salvage.repeated, salvage.conflicts),
        (60, 7, 0)
    );
    let new = records(&sim, NEW, EventCounter::one());
    for n in 0..60 {
        assert_eq!(new[&(n + 1)], (n as u32, payload(n, 100).into()));
    }
}

/// A tear in front of a record hides it from a reader; a salvage finds it.
#[test]
fn whole_frames_inside_damage_are_found() {
    let sim = Sim::new();
    let (name, mut bytes) = buffer(&sim).remove(0);
    // A damaged record whose length leads past the end, and an incomplete frame at the end.
    bytes[200] ^= 1;
    bytes[144..152].copy_from_slice(&100_000_u64.to_be_bytes());
    bytes.truncate(6 * 144 + 50);
    sim.write_file(format!("/pieces/{name}.bytes"), &bytes)
        .unwrap();
    let salvage = salvage_all(&sim, &["/pieces"]);
    assert_eq!(salvage.records, 5, "{salvage:#?}");
    let ids: Vec<u64> = records(&sim, NEW, EventCounter::one())
        .into_keys()
        .collect();
    assert_eq!(ids, [1, 3, 4, 5, 6]);
    assert_eq!(salvage.missing, vec![2..3_u64; 1]);
}

/// The extent of a record with a wrong checksum is certain, so a frame in its payload is no record.
#[test]
fn a_frame_in_the_payload_of_a_damaged_record_is_none() {
    let sim = Sim::new();
    let inner = payload(7, 40);
    let mut outer = vec![0; 16 + forebay::format::record::frame_len(40)];
    forebay::format::record::encode(&mut outer[16..], 77, 0, &inner);
    let mut bytes = Vec::new();
    for (id, payload) in [(1, &inner), (2, &outer), (3, &inner)] {
        let at = bytes.len();
        bytes.resize(at + forebay::format::record::frame_len(payload.len()), 0);
        forebay::format::record::encode(&mut bytes[at..], id, 0, payload);
    }
    let at = forebay::format::record::frame_len(40) + 8;
    bytes[at] ^= 1;
    sim.write_file("/pieces/buffer-data-0.dat", &bytes).unwrap();
    assert_eq!(salvage_all(&sim, &["/pieces"]).records, 2);
    let ids: Vec<u64> = records(&sim, NEW, EventCounter::one())
        .into_keys()
        .collect();
    assert_eq!(ids, [1, 3]);
}

/// While files are being replaced nothing tells what is acknowledged, so that is finished first.
#[test]
fn an_interrupted_repair_is_finished_before_a_salvage() {
    let mut refused = 0;
    for operations in 0..80 {
        let sim = Sim::new();
        buffer(&sim);
        let path = format!("{DIR}/buffer-data-1.dat");
        let mut bytes = sim.read_file(&path).unwrap();
        bytes[20] ^= 1;
        sim.write_file(&path, &bytes).unwrap();
        sim.power_off_after(sim.operations() + operations);
        let repair = forebay::RepairOptions::new().storage(Arc::new(sim.clone()));
        let _ = repair.repair(DIR);
        let sim = sim.kill();
        match options(&sim).plan(&[DIR]) {
            Ok(plan) => assert_eq!((plan.records, plan.conflicts), (59, 0), "{operations}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Locked, "{operations}");
                refused += 1;
            }
        }
        let config = Config::new(DIR).storage(Arc::new(sim.clone()));
        drop(config.open().unwrap());
        assert_eq!(salvage_all(&sim, &[DIR]).records, 59, "{operations}");
    }
    assert!(refused > 5, "{refused}");
}

#[test]
fn what_a_ledger_says_is_acknowledged_is_left_out() {
    let sim = Sim::new();
    buffer(&sim);
    let config = Config::new(DIR).data_file_size(1 << 10).max_size(64 << 10);
    let (writer, mut reader) = config.storage(Arc::new(sim.clone())).open().unwrap();
    for _ in 0..10 {
        if let Some(forebay::Item::Record(delivery)) = reader.recv().unwrap() {
            delivery.ack();
        }
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let salvage = salvage_all(&sim, &[DIR]);
    assert_eq!(salvage.records, 50);
    let acknowledged: u64 = salvage.files.iter().map(|file| file.acknowledged).sum();
    // The first file is deleted.
    assert_eq!(acknowledged, 3);
    let plan = options(&sim).acknowledged(true).plan(&[DIR]).unwrap();
    assert_eq!((plan.records, plan.missing), (53, vec![]));
}

#[test]
fn two_contents_under_one_id_are_both_kept_or_nothing_is_written() {
    let sim = Sim::new();
    buffer(&sim);
    let other = Config::new("/other").storage(Arc::new(sim.clone()));
    let (writer, reader) = other.open().unwrap();
    for n in 0..5 {
        writer.append(&payload(1000 + n, 30)).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let sources = [DIR, "/other"];
    let plan = options(&sim).plan(&sources).unwrap();
    assert_eq!((plan.records, plan.conflicts), (60, 5));
    let conflict = &plan.conflicts_listed[0];
    assert_eq!(conflict.id, 1);
    assert_eq!(
        conflict.places[1],
        (PathBuf::from("/other/buffer-data-0.dat"), 0)
    );
    let error = options(&sim).salvage(&sources, NEW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    assert!(sim.list(Path::new(NEW)).is_err());
    let salvage = options(&sim).renumber(true).salvage(&sources, NEW).unwrap();
    assert_eq!((salvage.records, salvage.conflicts), (65, 5));
    assert_is_clean(&sim, NEW, EventCounter::one());
    let new = records(&sim, NEW, EventCounter::one());
    assert_eq!(
        new.keys().copied().collect::<Vec<_>>(),
        (1..=65).collect::<Vec<_>>()
    );
    assert_eq!(new[&1].1, payload(0, 100));
    assert_eq!(new[&2].1, payload(1000, 30));
}

#[test]
fn what_cannot_be_salvaged_is_said_before_anything_is_written() {
    let sim = Sim::new();
    buffer(&sim);
    let error = options(&sim).salvage(&[DIR], DIR).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    sim.create_dir(Path::new("/empty")).unwrap();
    let error = options(&sim).salvage(&["/empty"], NEW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotABuffer);
    assert!(options(&sim).salvage(&["/missing"], NEW).is_err());
    let used: u64 = sim.files(DIR).iter().map(|(_, len)| len).sum();
    sim.set_capacity(Some(used + 1000));
    let error = options(&sim).salvage(&[DIR], NEW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    let dir = temp_dir();
    let held = small(dir.path()).open().unwrap();
    held.0.append(b"a record").unwrap();
    let error = SalvageOptions::new().plan(&[dir.path()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
}

/// A salvage is killed at any moment, and the next one is stopped by a power cut at any moment: the
/// one after that has the same result as a salvage that nothing interrupts.
#[test]
fn a_salvage_that_is_interrupted_can_be_made_again() {
    let machine = Sim::new();
    let (name, mut bytes) = buffer(&machine).remove(0);
    bytes[200] ^= 1;
    machine.write_file(format!("{DIR}/{name}"), &bytes).unwrap();
    let whole = machine.kill();
    let expected = options(&whole).salvage(&[DIR], NEW).unwrap();
    assert_eq!((expected.records, expected.was_there), (59, false));
    let all = records(&whole, NEW, EventCounter::one());
    let again = |sim: &Sim, what: &str| {
        let salvage = options(sim).salvage(&[DIR], NEW);
        let salvage = salvage.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        let was_there = salvage.was_there;
        assert_eq!(salvage.records, expected.records, "{what}");
        assert_eq!(records(sim, NEW, EventCounter::one()), all, "{what}");
        assert_is_clean(sim, NEW, EventCounter::one());
        was_there
    };
    assert!(again(&whole, "at once"));
    let (mut made, mut was_there, mut second_stops) = (0, 0, 0);
    for first in 0..whole.operations() {
        let sim = machine.kill();
        sim.power_off_after(first);
        let _ = options(&sim).salvage(&[DIR], NEW);
        let killed = sim.kill();
        match again(&killed.kill(), &format!("{first}")) {
            true => was_there += 1,
            false => made += 1,
        }
        second_stops += stop_again(
            &killed,
            NEW,
            |sim| drop(options(sim).salvage(&[DIR], NEW)),
            |sim, what| _ = again(sim, &format!("{first}, {what}")),
        );
    }
    assert!(second_stops > 500, "{second_stops}");
    assert!(made > 20 && was_there > 5, "{made} {was_there}");
}

/// At random: a salvage of damaged sources is killed, meets a power cut, a failing call or a full
/// disk, again and again, and between the attempts its new buffer is appended to and read. Each
/// record that is intact in the sources comes once, and what was appended stays.
/// `FOREBAY_SALVAGE_SEED` and `FOREBAY_SALVAGE_SEEDS` choose the seeds.
#[test]
fn salvages_that_are_made_again_change_nothing_that_is_in_use() {
    let first = number_from("FOREBAY_SALVAGE_SEED", 1);
    for seed in first..first + number_from("FOREBAY_SALVAGE_SEEDS", 300) {
        if let Err(panic) = std::panic::catch_unwind(|| lives(seed)) {
            eprintln!("FOREBAY_SALVAGE_SEED={seed} FOREBAY_SALVAGE_SEEDS=1");
            std::panic::resume_unwind(panic);
        }
    }
}

fn lives(seed: u64) {
    let mut rng = Rng(seed);
    let mut sim = Sim::new();
    let damaged: BTreeSet<u64> = (0..rng.below(4)).map(|_| 1 + rng.below(60)).collect();
    for (name, mut bytes) in buffer(&sim) {
        // Seven records a file, of 144 bytes each.
        let number = name.trim_matches(|c: char| !c.is_ascii_digit());
        let number: u64 = number.parse().unwrap();
        for id in damaged.iter().filter(|id| (**id - 1) / 7 == number) {
            bytes[((id - 1) % 7 * 144) as usize + 60] ^= 1;
        }
        sim.write_file(format!("{DIR}/{name}"), &bytes).unwrap();
    }
    let intact: Vec<Vec<u8>> = (1..=60)
        .filter(|id| !damaged.contains(id))
        .map(|id| payload(id - 1, 100))
        .collect();
    // What the new buffer delivers from now on, once it is in use.
    let mut there: Option<Vec<Vec<u8>>> = None;
    let mut appended = 0;
    for _ in 0..2 + rng.below(6) {
        sim = attempt(&sim, &mut rng);
        if there.is_none() && rng.below(2) == 0 {
            continue;
        }
        let config = Config::new(NEW)
            .max_size(64 << 10)
            .data_file_size(1 << 10)
            .storage(Arc::new(sim.clone()));
        let (writer, mut reader) = config.open().unwrap();
        let mut come: Vec<_> = drain(&mut reader)
            .into_iter()
            .filter_map(|item| match item {
                Item::Record(delivery) => Some(delivery),
                // The ids that are missing in the sources.
                Item::Lost(_) => None,
            })
            .collect();
        let payloads: Vec<Vec<u8>> = come.iter().map(|d| d.payload().to_vec()).collect();
        let expected = match &there {
            Some(expected) => expected,
            None if payloads.is_empty() => &payloads,
            None => &intact,
        };
        let (came, known) = (payloads.len(), expected.len());
        assert!(payloads == *expected, "{came} came, {known} expected");
        let taken = rng.below(1 + payloads.len() as u64 / 3) as usize;
        for delivery in come.drain(..taken) {
            delivery.ack();
        }
        let mut left = payloads[taken..].to_vec();
        for _ in 0..rng.below(3) {
            let bytes = payload(1000 + appended, 50);
            writer.append(&bytes).unwrap();
            left.push(bytes);
            appended += 1;
        }
        writer.close().unwrap();
        reader.close().unwrap();
        // Nothing was there: it may still become the salvaged one.
        there = (!left.is_empty()).then_some(left);
    }
    if there.is_none() {
        let salvage = options(&sim).salvage(&[DIR], NEW).unwrap();
        assert_eq!(salvage.records, intact.len() as u64);
        let all = records(&sim, NEW, EventCounter::one()).into_values();
        let all: Vec<_> = all.map(|(_, payload)| payload.to_vec()).collect();
        assert!(all == intact, "{} salvaged", all.len());
    }
}

/// The machine after a salvage that may be stopped or fail.
fn attempt(sim: &Sim, rng: &mut Rng) -> Sim {
    let sim = sim.kill();
    let fault = Fault::new(Arc::new(sim.clone()));
    if rng.below(3) == 0 {
        let op = Op::ALL[rng.below(Op::ALL.len() as u64) as usize];
        fault.fail(op, 1 + rng.below(20), Errno::ALL[rng.below(5) as usize]);
    }
    if rng.below(2) == 0 {
        sim.power_off_after(sim.operations() + rng.below(120));
    }
    if rng.below(4) == 0 {
        let dirs = [DIR, NEW].iter();
        let files = dirs.flat_map(|dir| sim.files(dir));
        let used: u64 = files.map(|(_, len)| len).sum();
        sim.set_capacity(Some(used + rng.below(16 << 10)));
    }
    let options = SalvageOptions::new().data_file_size(1 << 10);
    let _ = options.storage(Arc::new(fault)).salvage(&[DIR], NEW);
    let sim = match rng.below(3) {
        0 => sim.kill(),
        _ => sim.crash(rng.below(8)),
    };
    sim.set_capacity(None);
    sim
}

/// Random buffers whose files were cut, damaged, copied and moved apart: what comes out is what is
/// intact in at least one place. `FOREBAY_SALVAGE_SEED` and `FOREBAY_SALVAGE_SEEDS` choose the
/// seeds.
#[test]
fn what_is_intact_in_one_place_comes_out() {
    let first = number_from("FOREBAY_SALVAGE_SEED", 1);
    for seed in first..first + number_from("FOREBAY_SALVAGE_SEEDS", 300) {
        if let Err(panic) = std::panic::catch_unwind(|| pieces(seed)) {
            eprintln!("FOREBAY_SALVAGE_SEED={seed} FOREBAY_SALVAGE_SEEDS=1");
            std::panic::resume_unwind(panic);
        }
    }
}

fn pieces(seed: u64) {
    let mut rng = Rng(seed);
    let sim = Sim::new();
    let mut intact: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut next_id, mut sources) = (1, Vec::new());
    for number in 0..1 + rng.below(4) {
        // Frames by hand: id and range in the file.
        let (mut bytes, mut frames) = (Vec::new(), Vec::new());
        for _ in 0..rng.below(20) {
            if rng.below(8) == 0 {
                next_id += rng.below(5);
            }
            let len = rng.below(300) as usize;
            let at = bytes.len();
            bytes.resize(at + forebay::format::record::frame_len(len), 0);
            let payload = payload(next_id, len);
            forebay::format::record::encode(&mut bytes[at..], next_id, 7, &payload);
            frames.push((next_id, at..bytes.len(), len));
            next_id += 1;
        }
        for copy in 0..1 + rng.below(2) {
            let mut bytes = bytes.clone();
            let mut is_gone = vec![false; frames.len()];
            for _ in 0..rng.below(4) {
                if bytes.is_empty() {
                    break;
                }
                let at = rng.below(bytes.len() as u64) as usize;
                let harmed = match rng.below(3) {
                    0 => {
                        bytes[at] ^= 1 << rng.below(8);
                        at..at + 1
                    }
                    1 => {
                        let end = bytes.len().min(at + rng.below(600) as usize + 1);
                        bytes[at..end].fill(0);
                        at..end
                    }
                    _ => {
                        let end = bytes.len();
                        bytes.truncate(at);
                        at..end
                    }
                };
                for ((_, frame, _), is_gone) in frames.iter().zip(&mut is_gone) {
                    *is_gone |= frame.start < harmed.end && harmed.start < frame.end;
                }
            }
            for ((id, _, len), is_gone) in frames.iter().zip(is_gone) {
                if !is_gone {
                    intact.insert(*id, *len);
                }
            }
            let path = format!("/pieces/{copy}/buffer-data-{number}.dat");
            sim.write_file(&path, &bytes).unwrap();
            sources.push(path);
        }
    }
    let rotation = rng.below(sources.len() as u64) as usize;
    sources.rotate_left(rotation);
    let salvage = options(&sim).salvage(&sources, NEW).unwrap();
    assert_eq!(salvage.conflicts, 0);
    assert_is_clean(&sim, NEW, EventCounter::one());
    let new = records(&sim, NEW, EventCounter::one());
    for (id, len) in &intact {
        assert_eq!(new.get(id), Some(&(7, payload(*id, *len).into())), "{id}");
    }
    // A record whose redundant fields are damaged comes as well, with the right contents.
    for (id, (_, bytes)) in &new {
        assert_eq!(bytes, &payload(*id, bytes.len()), "{id}");
    }
}
