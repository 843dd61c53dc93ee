//! Repairs: a clean buffer of everything that still checks out takes the place of a damaged one.
//!
//! The golden buffers are repaired, and the machine is stopped before every storage operation of
//! each repair. What must come out of each is known from outside (`golden/expected.json`).

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use forebay::storage::Storage;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{
    Config, ErrorKind, EventCounter, FileAction, FindingKind, InspectOptions, Item, OnCorruption,
    RecordsOptions, Recovery, RepairOptions, Severity, Verification, VerifyOptions, Writer,
};

use crate::crash::{Stop, stop_again};
use crate::golden::{Golden, golden};
use crate::support::{Rng, drain, number_from, payload, record, small, temp_dir};

const DIR: &str = "/buffer";

/// What a reader gets of a record.
type Read = (u64, u32, Bytes);

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

fn options(sim: &Sim, counter: EventCounter) -> RepairOptions<'static> {
    RepairOptions::new()
        .event_counter(counter)
        .storage(Arc::new(sim.clone()))
}

fn verify(sim: &Sim, counter: EventCounter) -> Verification {
    VerifyOptions::new()
        .event_counter(counter)
        .storage(Arc::new(sim.clone()))
        .verify(DIR)
        .unwrap()
}

/// Everything that a reader of a copy of the machine gets, and the ids that the next records get.
fn read(sim: &Sim, counter: EventCounter) -> (Vec<Read>, u64) {
    let config = Config::new(DIR)
        .max_size(64 << 20)
        .event_counter(counter)
        .storage(Arc::new(sim.kill()));
    let (writer, mut reader) = config.open().unwrap();
    let next_id = next_id(&writer);
    let read = drain(&mut reader)
        .into_iter()
        .filter_map(|item| match item {
            Item::Record(delivery) => Some((
                delivery.id(),
                delivery.metadata(),
                delivery.payload().clone(),
            )),
            Item::Lost(_) => None,
        });
    (read.filter(|(id, _, _)| *id < next_id).collect(), next_id)
}

/// The id of a record that is appended now.
fn next_id(writer: &Writer) -> u64 {
    let receipt = writer.append(b"\x00\x01x").unwrap();
    receipt.id().unwrap()
}

/// The golden buffers of which everything is known.
fn known() -> Vec<Golden> {
    let known: Vec<Golden> = golden()
        .into_iter()
        .filter(|g| !g.must_deliver().is_empty())
        .collect();
    assert!(known.len() > 40);
    known
}

#[test]
fn a_plan_changes_nothing() {
    for golden in golden() {
        let sim = machine(&golden);
        let before = (sim.fingerprint(DIR), sim.operations());
        let plan = options(&sim, golden.counter()).plan(DIR).unwrap();
        assert_eq!(
            (sim.fingerprint(DIR), sim.operations()),
            before,
            "{}",
            golden.name
        );
        assert_eq!(plan.verification, verify(&sim, golden.counter()));
        let kept: u64 = plan.files.iter().map(|file| file.records).sum();
        assert_eq!(kept, plan.records, "{}", golden.name);
        assert_eq!(
            plan.records,
            golden.must_deliver().len() as u64,
            "{}",
            golden.name
        );
    }
}

#[test]
fn a_healthy_buffer_needs_no_repair_and_is_not_touched() {
    for golden in golden().into_iter().filter(Golden::is_healthy) {
        let sim = machine(&golden);
        let before = sim.fingerprint(DIR);
        let repair = options(&sim, golden.counter()).repair(DIR).unwrap();
        if golden.name != "vector-events" {
            assert!(
                !repair.plan.is_needed(),
                "{}: {:#?}",
                golden.name,
                repair.plan
            );
            assert_eq!(repair.original, None);
            assert_eq!(sim.fingerprint(DIR), before, "{}", golden.name);
        }
    }
}

/// The repaired buffer delivers what the damaged one would, under the same ids, and is clean.
#[test]
fn a_repaired_buffer_delivers_the_same_and_is_clean() {
    for in_place in [false, true] {
        for golden in golden() {
            let (name, counter) = (&golden.name, || golden.counter());
            let sim = machine(&golden);
            let (expected, next_id) = read(&sim, counter());
            let ids: Vec<u64> = expected.iter().map(|(id, _, _)| *id).collect();
            assert_eq!(ids, golden.must_deliver(), "{name}");
            let repair = options(&sim, counter())
                .in_place(in_place)
                .repair(DIR)
                .unwrap();
            assert_eq!(read(&sim, counter()), (expected, next_id), "{name}");
            if repair.plan.is_needed() {
                let after = verify(&sim, counter());
                assert!(after.is_clean(), "{name}: {after:#?}");
                let again = options(&sim, counter()).plan(DIR).unwrap();
                assert!(!again.is_needed(), "{name}: {again:#?}");
            }
        }
    }
}

/// The ids of the files follow one another, as other implementations of the format need it, and
/// the ledger names the first and the last.
#[test]
fn the_files_of_a_repaired_buffer_follow_one_another() {
    for golden in known() {
        let sim = machine(&golden);
        let repair = options(&sim, golden.counter()).repair(DIR).unwrap();
        if !repair.plan.is_needed() {
            continue;
        }
        let ledger = sim.read_file(format!("{DIR}/buffer.db")).unwrap();
        let ledger = forebay::format::ledger::LedgerState::from_bytes(&ledger).unwrap();
        let mut id = ledger.reader_file_id;
        let mut names = vec![forebay::format::file_id::file_name(id)];
        while id != ledger.writer_file_id {
            id = forebay::format::file_id::next(id);
            names.push(forebay::format::file_id::file_name(id));
        }
        names.sort();
        let there = sim.files(DIR).into_iter().map(|(name, _)| name);
        let there: Vec<String> = there.filter(|name| name.ends_with(".dat")).collect();
        assert_eq!(there, names, "{}", golden.name);
    }
}

/// Every byte of the original is somewhere: in a file that stays, under its new name, or beside
/// the report.
#[test]
fn the_original_is_kept() {
    for golden in golden() {
        let sim = machine(&golden);
        let before: BTreeMap<String, Vec<u8>> = files(&sim, Path::new(DIR));
        let repair = options(&sim, golden.counter()).repair(DIR).unwrap();
        let Some(original) = repair.original else {
            continue;
        };
        let (after, kept) = (files(&sim, Path::new(DIR)), files(&sim, &original));
        for (name, bytes) in before {
            let plan = repair.plan.files.iter().find(|file| file.name == name);
            let is_there = match plan.map(|plan| (plan.action, &plan.new_name)) {
                Some((FileAction::Keep, _)) => after.get(&name) == Some(&bytes),
                Some((FileAction::Rename, Some(new))) => after.get(new) == Some(&bytes),
                None if name == "buffer.lock" => true,
                _ => kept.get(&name) == Some(&bytes),
            };
            assert!(is_there, "{}: {name}", golden.name);
        }
        let report = kept.get("report.json").unwrap();
        let report: serde_json::Value = serde_json::from_slice(report).unwrap();
        assert_eq!(report["records"], repair.plan.records);
        assert_eq!(report["events_lost"], repair.plan.verification.events_lost);
    }
}

fn files(sim: &Sim, dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = sim.files(dir).into_iter();
    files
        .map(|(name, _)| {
            let bytes = sim.read_file(dir.join(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}

/// Whenever the machine stops during a repair, the next opening delivers the same, and so does
/// another repair.
#[test]
fn a_repair_that_is_interrupted_loses_nothing() {
    const STOPS: [Stop; 5] = [
        Stop::Killed,
        Stop::PowerCut(0),
        Stop::PowerCut(1),
        Stop::PowerCut(2),
        Stop::PowerCut(3),
    ];
    let (mut stops, mut unfinished) = (0, 0);
    for (index, golden) in known().iter().enumerate() {
        for in_place in [false, true] {
            let counter = || golden.counter();
            let sim = machine(golden);
            let expected = read(&sim, counter());
            let mut met = HashSet::new();
            sim.keep_history();
            let begin = sim.operations();
            options(&sim, counter())
                .in_place(in_place)
                .repair(DIR)
                .unwrap();
            for operations in begin..=sim.operations() {
                for stop in STOPS {
                    let what = || format!("{} {in_place} {operations} {stop:?}", golden.name);
                    let stop = match stop {
                        Stop::PowerCut(seed @ 2..) => Stop::PowerCut(seed + 2 * index as u64),
                        stop => stop,
                    };
                    let after = stop.apply(&sim.at(operations).unwrap());
                    stops += 1;
                    if !met.insert(
                        ["", "repair", "repair/1"]
                            .map(|dir| after.fingerprint(Path::new(DIR).join(dir))),
                    ) {
                        continue;
                    }
                    let looked = VerifyOptions::new()
                        .event_counter(counter())
                        .storage(Arc::new(after.clone()))
                        .verify(DIR);
                    if let Err(error) = looked {
                        assert_eq!(error.kind(), ErrorKind::Locked, "{}: {error}", what());
                        unfinished += 1;
                    }
                    assert_eq!(read(&after, counter()), expected, "opened: {}", what());
                    let again = options(&after, counter()).in_place(in_place).repair(DIR);
                    again.unwrap_or_else(|error| panic!("{}: {error:#}", what()));
                    assert_eq!(read(&after, counter()), expected, "repaired: {}", what());
                    let verification = verify(&after, counter());
                    assert!(verification.is_clean(), "{}: {verification:#?}", what());
                }
            }
        }
    }
    assert!(
        stops > 5_000 && unfinished > 200,
        "{stops} stops, {unfinished} in between"
    );
}

/// A repair is killed at any moment, and power fails at any moment while the next opening finishes
/// it. Regression: files moved before the list that says so was durable.
#[test]
fn a_second_stop_while_a_repair_is_finished_costs_nothing() {
    let machine = Sim::new();
    let config = |sim: &Sim| {
        let config = Config::new(DIR).max_size(64 << 10).data_file_size(1 << 10);
        config.storage(Arc::new(sim.clone()))
    };
    let (writer, reader) = config(&machine).open().unwrap();
    for n in 0..14 {
        writer.append(&payload(n, 68)).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let path = format!("{DIR}/buffer-data-0.dat");
    let mut bytes = machine.read_file(&path).unwrap();
    bytes[200] ^= 1;
    machine.write_file(&path, &bytes).unwrap();
    for in_place in [false, true] {
        let repair = |sim: &Sim| {
            options(sim, EventCounter::one())
                .in_place(in_place)
                .repair(DIR)
        };
        let whole = machine.kill();
        repair(&whole).unwrap();
        let all = whole.operations();
        let expected = read(&whole, EventCounter::one()).0;
        assert_eq!(expected.len(), 13);
        let mut unfinished = 0;
        for first in 0..all {
            let sim = machine.kill();
            sim.power_off_after(first);
            let _ = repair(&sim);
            let killed = sim.kill();
            unfinished += stop_again(
                &killed,
                DIR,
                |sim| drop(config(sim).open()),
                |sim, what| {
                    repair(sim).unwrap();
                    let come = read(sim, EventCounter::one()).0;
                    assert_eq!(come, expected, "{in_place} {first} {what}");
                },
            );
        }
        assert!(unfinished > 500, "{unfinished}");
    }
}

/// Whatever call fails, the repair says so, and what is there afterwards delivers the same.
#[test]
fn a_repair_during_which_a_call_fails_loses_nothing() {
    let mut failed = 0;
    for golden in known().iter().filter(|golden| !golden.is_healthy()) {
        for in_place in [false, true] {
            for op in Op::ALL {
                for nth in 1.. {
                    let sim = machine(golden);
                    let expected = read(&sim, golden.counter());
                    let fault = Fault::new(Arc::new(sim.clone()));
                    fault.fail(op, nth, Errno::Eio);
                    let repair = RepairOptions::new()
                        .event_counter(golden.counter())
                        .in_place(in_place)
                        .storage(Arc::new(fault.clone()))
                        .repair(DIR);
                    let is_over = repair.is_ok();
                    failed += u64::from(!is_over);
                    let what = format!("{} {in_place} {op:?} {nth}: {repair:?}", golden.name);
                    assert_eq!(read(&sim, golden.counter()), expected, "{what}");
                    if is_over {
                        break;
                    }
                }
            }
        }
    }
    assert!(failed > 500, "{failed}");
}

#[test]
fn a_gap_that_a_repair_has_reported_is_normal() {
    let golden = golden();
    let golden = golden
        .iter()
        .find(|g| g.name == "c-flip-payload-mid")
        .unwrap();
    let sim = machine(golden);
    let before = verify(&sim, golden.counter());
    assert!(!before.is_clean() && before.events_lost > 0);
    options(&sim, golden.counter()).repair(DIR).unwrap();
    let after = verify(&sim, golden.counter());
    assert!(after.is_clean(), "{after:#?}");
    let gap = after
        .findings
        .iter()
        .find(|f| f.kind == FindingKind::IdGap)
        .unwrap();
    assert_eq!(
        (gap.severity, gap.events_lost),
        (Severity::Normal, before.events_lost)
    );
    // A reader is told: it did not hear of the loss.
    let config = Config::new(DIR).storage(Arc::new(sim));
    let (_writer, mut reader) = config.open().unwrap();
    let lost = drain(&mut reader)
        .into_iter()
        .filter_map(|item| match item {
            Item::Lost(lost) => Some(lost.events),
            _ => None,
        });
    assert_eq!(lost.sum::<u64>(), before.events_lost);
}

/// Whoever looks at a repaired buffer sees no damage. Regression: only `verify` knew that a loss at
/// the end of the data was reported; a look without reading, and each opening, called it damage
/// again, and an opening that refuses damage failed.
#[test]
fn a_repaired_buffer_shows_no_damage_to_anyone() {
    let mut reported = 0;
    for golden in golden() {
        let name = &golden.name;
        let sim = machine(&golden);
        options(&sim, golden.counter()).repair(DIR).unwrap();
        let recovery = shows_no_damage(&sim, golden.counter(), name);
        let findings = &recovery.findings;
        reported += findings.iter().filter(|f| f.events_lost > 0).count();
    }
    assert!(reported > 5, "{reported}");
}

/// What an opening that refuses damage finds in a buffer in which nobody finds damage.
fn shows_no_damage(sim: &Sim, counter: EventCounter, what: &str) -> Recovery {
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let look = InspectOptions::new().event_counter(counter.clone());
    let look = look.storage(storage.clone()).inspect(DIR).unwrap();
    assert!(!look.recovery.is_damaged(), "{what}: {look:#?}");
    assert_eq!(look.recovery.events_lost, 0, "{what}: {look:#?}");
    assert!(verify(sim, counter.clone()).is_clean(), "{what}");
    let config = Config::new(DIR)
        .event_counter(counter)
        .on_corruption(OnCorruption::Refuse)
        .storage(storage);
    let (writer, _reader) = config.open().unwrap_or_else(|e| panic!("{what}: {e:#}"));
    let recovery = writer.recovery().clone();
    assert!(!recovery.is_damaged(), "{what}: {recovery:#?}");
    assert_eq!(recovery.events_lost, 0, "{what}: {recovery:#?}");
    recovery
}

#[test]
fn renumbering_closes_the_gaps() {
    for golden in known() {
        let counter = || golden.counter();
        let sim = machine(&golden);
        let (before, _) = read(&sim, counter());
        let plan = options(&sim, counter())
            .renumber(true)
            .repair(DIR)
            .unwrap()
            .plan;
        let (after, next_id) = read(&sim, counter());
        let contents = |read: &[Read]| -> Vec<(u32, Bytes)> {
            read.iter()
                .map(|(_, metadata, payload)| (*metadata, payload.clone()))
                .collect()
        };
        assert_eq!(contents(&after), contents(&before), "{}", golden.name);
        let verification = verify(&sim, counter());
        if plan.is_needed() {
            assert!(
                verification.is_clean(),
                "{}: {verification:#?}",
                golden.name
            );
            assert_eq!(verification.findings, [], "{}", golden.name);
            let first = after.first().unwrap().0;
            assert_eq!(next_id - first, plan.events, "{}", golden.name);
        }
    }
}

/// A buffer of three files of 1 KiB, of which the second is damaged.
fn damaged(dir: &Path) {
    let (writer, reader) = small(dir).open().unwrap();
    for n in 0..20 {
        writer.append(&payload(n, 100)).unwrap();
    }
    drop((writer, reader));
    let path = dir.join("buffer-data-1.dat");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_buffer_in_use_is_not_repaired() {
    let dir = temp_dir();
    let (writer, _reader) = small(dir.path()).open().unwrap();
    writer.append(b"x").unwrap();
    let error = RepairOptions::new().plan(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let error = RepairOptions::new().repair(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let nothing = temp_dir();
    let error = RepairOptions::new().repair(nothing.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotABuffer);
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0);
}

#[test]
fn the_original_can_go_to_another_directory() {
    let dir = temp_dir();
    damaged(dir.path());
    let (full, original) = (temp_dir(), temp_dir());
    std::fs::write(full.path().join("file"), "").unwrap();
    let to = |to: &Path| RepairOptions::new().keep_original(to).repair(dir.path());
    let error = to(full.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let bytes = std::fs::read(dir.path().join("buffer-data-1.dat")).unwrap();
    let original = original.path().join("new");
    let repair = to(&original).unwrap();
    assert_eq!(repair.original.as_deref(), Some(&*original));
    assert_eq!(
        std::fs::read(original.join("buffer-data-1.dat")).unwrap(),
        bytes
    );
    assert!(original.join("report.json").exists());
    let verification = forebay::verify(dir.path()).unwrap();
    assert!(verification.is_clean(), "{verification:#?}");
    let (writer, mut reader) = small(dir.path()).open().unwrap();
    drop(writer);
    let ids: Vec<u64> = drain(&mut reader)
        .into_iter()
        .filter(|item| matches!(item, Item::Record(_)))
        .map(|item| record(Some(item)).id())
        .collect();
    assert_eq!(ids.len(), 19);
}

/// Only the file with the damage is copied, and a disk without space for that copy is known
/// before anything is written.
#[test]
fn a_disk_without_space_is_said_before_anything_is_written() {
    let sim = Sim::new();
    let config = Config::new(DIR)
        .max_size(8 << 20)
        .data_file_size(1 << 20)
        .storage(Arc::new(sim.clone()));
    let (writer, reader) = config.clone().open().unwrap();
    for n in 0..60 {
        writer.append(&payload(n, 100_000)).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    for file in ["buffer-data-1.dat", "buffer-data-3.dat"] {
        let path = format!("{DIR}/{file}");
        let mut bytes = sim.read_file(&path).unwrap();
        bytes[5_000] ^= 1;
        sim.write_file(&path, &bytes).unwrap();
    }
    let expected = read(&sim, EventCounter::one());
    assert_eq!(expected.0.len(), 58);
    let plan = options(&sim, EventCounter::one()).plan(DIR).unwrap();
    let rewritten = plan
        .files
        .iter()
        .filter(|file| file.action == FileAction::Rewrite);
    assert_eq!(rewritten.count(), 2);
    let used: u64 = sim.files(DIR).iter().map(|(_, len)| len).sum();
    sim.set_capacity(Some(used + plan.bytes_needed - 500_000));
    let before = sim.fingerprint(DIR);
    let error = options(&sim, EventCounter::one()).repair(DIR).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(error.to_string().contains("in place"), "{error}");
    assert_eq!(sim.fingerprint(DIR), before);
    options(&sim, EventCounter::one())
        .in_place(true)
        .repair(DIR)
        .unwrap();
    assert!(verify(&sim, EventCounter::one()).is_clean());
    sim.set_capacity(None);
    assert_eq!(read(&sim, EventCounter::one()), expected);
    assert_eq!(sim.files(format!("{DIR}/quarantine")).len(), 4);
}

/// Several lives of one buffer, at random: records are appended and acknowledged, payloads in
/// several files are damaged, and a repair of any kind is stopped, meets failing calls, or both,
/// before another one, or an opening, goes on. What must be there is known from what was appended,
/// acknowledged and damaged. `FOREBAY_REPAIR_SEED` and `FOREBAY_REPAIR_SEEDS` choose the seeds.
#[test]
fn repairs_of_any_kind_over_several_lives_keep_what_is_intact() {
    let first = number_from("FOREBAY_REPAIR_SEED", 1);
    for seed in first..first + number_from("FOREBAY_REPAIR_SEEDS", 300) {
        let result = std::panic::catch_unwind(|| lives(seed));
        if let Err(panic) = result {
            eprintln!("FOREBAY_REPAIR_SEED={seed} FOREBAY_REPAIR_SEEDS=1");
            std::panic::resume_unwind(panic);
        }
    }
}

fn lives(seed: u64) {
    let mut rng = Rng(seed);
    let mut sim = Sim::new();
    let mut appended = 0;
    // The numbers in the payloads of what must come, in order.
    let mut expected: Vec<u64> = Vec::new();
    for life in 0..4 {
        let config = Config::new(DIR)
            .max_size(64 << 10)
            .data_file_size(1 << 10)
            .storage(Arc::new(sim.clone()));
        let (writer, mut reader) = config.open().unwrap();
        for _ in 0..rng.below(40) {
            let len = 8 + rng.below(200) as usize;
            let mut payload = payload(appended, len);
            payload[..8].copy_from_slice(&appended.to_le_bytes());
            writer.append(&payload).unwrap();
            expected.push(appended);
            appended += 1;
        }
        writer.flush().unwrap();
        let mut come = drain(&mut reader)
            .into_iter()
            .filter_map(|item| match item {
                Item::Record(delivery) => Some(delivery),
                Item::Lost(_) => None,
            });
        let acknowledged = rng.below(1 + expected.len() as u64 / 2);
        for number in expected.drain(..acknowledged as usize) {
            let delivery = come.next().unwrap();
            assert_eq!(number_of(delivery.payload()), number, "life {life}");
            delivery.ack();
        }
        let numbers: Vec<u64> = come.map(|delivery| number_of(delivery.payload())).collect();
        assert_eq!(numbers, expected, "life {life}");
        writer.close().unwrap();
        reader.close().unwrap();
        for _ in 0..rng.below(5) {
            damage(&sim, &mut rng, &mut expected);
        }
        sim = repaired(&sim, &mut rng);
    }
}

fn number_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(*payload.first_chunk().unwrap())
}

/// Damages one payload byte of one record that is still on the disk.
fn damage(sim: &Sim, rng: &mut Rng, expected: &mut Vec<u64>) {
    let records = RecordsOptions::new()
        .all(true)
        .storage(Arc::new(sim.clone()))
        .records(DIR)
        .unwrap();
    let records: Vec<_> = records.map(Result::unwrap).collect();
    if records.is_empty() {
        return;
    }
    let record = &records[rng.below(records.len() as u64) as usize];
    let number = number_of(&record.payload);
    let path = format!("{DIR}/buffer-data-{}.dat", record.file_id);
    let mut bytes = sim.read_file(&path).unwrap();
    bytes[record.offset as usize + 8 + rng.below(record.payload.len() as u64) as usize] ^= 1;
    sim.write_file(&path, &bytes).unwrap();
    expected.retain(|known| *known != number);
}

/// The machine after some repairs, of which all but the last may be stopped or fail.
fn repaired(sim: &Sim, rng: &mut Rng) -> Sim {
    let mut sim = sim.kill();
    for _ in 0..rng.below(3) {
        let fault = Fault::new(Arc::new(sim.clone()));
        if rng.below(2) == 0 {
            let op = Op::ALL[rng.below(Op::ALL.len() as u64) as usize];
            fault.fail(op, 1 + rng.below(12), Errno::ALL[rng.below(5) as usize]);
        }
        if rng.below(2) == 0 {
            sim.power_off_after(sim.operations() + rng.below(60));
        }
        if rng.below(4) == 0 {
            let used: u64 = sim.files(DIR).iter().map(|(_, len)| len).sum();
            sim.set_capacity(Some(used + rng.below(4 << 10)));
        }
        let _ = random_options(rng, Arc::new(fault)).repair(DIR);
        sim = match rng.below(3) {
            0 => sim.kill(),
            _ => sim.crash(rng.below(8)),
        };
        sim.set_capacity(None);
    }
    if rng.below(2) == 0 {
        let in_place = random_options(rng, Arc::new(sim.clone()));
        in_place.repair(DIR).unwrap();
        let verification = verify(&sim, EventCounter::one());
        assert!(verification.is_clean(), "{verification:#?}");
        shows_no_damage(&sim.kill(), EventCounter::one(), "repaired");
    }
    sim
}

fn random_options(rng: &mut Rng, storage: Arc<dyn Storage>) -> RepairOptions<'static> {
    RepairOptions::new()
        .in_place(rng.below(2) == 0)
        .renumber(rng.below(3) == 0)
        .storage(storage)
}
