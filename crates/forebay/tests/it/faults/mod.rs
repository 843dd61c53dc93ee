//! Promises 8 and 9: what failing calls of the operating system lead to.
//!
//! All tests run over a simulated file system, and all but one on the calling thread, so the
//! n-th call of a kind is the same one every time.

mod sweep;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay::storage::ATTEMPTS_MAX;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{Config, ErrorKind, Io, Reader, Result, WhenFull, Writer};

use crate::support::{drain_ids, payload, record, small};
use crate::usage::check_law;

pub(crate) const DIR: &str = "/buffer";

fn config() -> Config {
    small(Path::new(DIR)).io(Io::Caller)
}

pub(crate) fn open(storage: &Fault, config: Config) -> Result<(Writer, Reader)> {
    config.storage(Arc::new(storage.clone())).open()
}

pub(crate) fn faulty() -> (Sim, Fault) {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    (sim, fault)
}

/// The number of the next call of a kind.
pub(crate) fn next(fault: &Fault, op: Op) -> u64 {
    fault.counts()[&op] + 1
}

/// The ids that a reopened buffer delivers after a power cut that loses everything unsynced.
pub(crate) fn after_power_cut(sim: &Sim) -> Vec<u64> {
    let (_writer, mut reader) = config().storage(Arc::new(sim.crash(0))).open().unwrap();
    drain_ids(&mut reader)
}

#[test]
fn open_fails_without_changing_anything() {
    for op in [Op::List, Op::Open, Op::Map, Op::Lock, Op::Truncate] {
        let (sim, fault) = faulty();
        let (writer, reader) = open(&fault, config()).unwrap();
        for n in 1..=20 {
            writer.append(&payload(n, 100)).unwrap();
        }
        drop(reader);
        writer.close().unwrap();
        if op == Op::Truncate {
            // A torn tail to cut.
            let name = format!("{DIR}/buffer-data-2.dat");
            let mut bytes = sim.read_file(&name).unwrap();
            bytes.truncate(bytes.len() - 20);
            sim.write_file(&name, &bytes).unwrap();
        }
        let before = snapshot(&sim);
        fault.fail(op, next(&fault, op), Errno::Eio);
        let error = open(&fault, config()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{op:?}: {error}");
        assert!(error.to_string().contains(DIR), "{op:?}: {error}");
        assert_eq!(snapshot(&sim), before, "{op:?}");
        let (_writer, mut reader) = open(&fault, config()).unwrap();
        let delivered = if op == Op::Truncate { 19 } else { 20 };
        let items = crate::support::drain(&mut reader);
        let records = items
            .iter()
            .filter(|i| matches!(i, forebay::Item::Record(_)))
            .count();
        assert_eq!(records, delivered, "{op:?}");
    }
}

fn snapshot(sim: &Sim) -> Vec<(String, Option<Vec<u8>>)> {
    let names = sim.files(DIR).into_iter().map(|(name, _)| name);
    names
        .map(|name| (name.clone(), sim.read_file(format!("{DIR}/{name}"))))
        .collect()
}

#[test]
fn a_held_lock_is_its_own_kind() {
    let (_sim, fault) = faulty();
    let (_writer, _reader) = open(&fault, config()).unwrap();
    assert_eq!(
        open(&fault, config()).unwrap_err().kind(),
        ErrorKind::Locked
    );
}

#[test]
fn short_writes_are_completed() {
    let (sim, fault) = faulty();
    let (writer, mut reader) = open(&fault, config()).unwrap();
    fault.fail_from(Op::ShortWrite, next(&fault, Op::ShortWrite), Errno::Eio);
    for n in 1..=20 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.flush().unwrap();
    assert!(fault.failures() > 0);
    assert_eq!(drain_ids(&mut reader), (1..=20).collect::<Vec<_>>());
    assert_eq!(after_power_cut(&sim), (1..=20).collect::<Vec<_>>());
}

#[test]
fn interrupted_calls_are_made_again() {
    let (sim, fault) = faulty();
    let (writer, mut reader) = open(&fault, config()).unwrap();
    for op in [Op::Write, Op::Sync, Op::Create, Op::Read] {
        fault.fail(op, next(&fault, op), Errno::Eintr);
    }
    for n in 1..=20 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(drain_ids(&mut reader), (1..=20).collect::<Vec<_>>());
    assert_eq!(after_power_cut(&sim), (1..=20).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_blocks_and_resumes() {
    for errno in [Errno::Enospc, Errno::Edquot, Errno::Emfile] {
        for op in [Op::Write, Op::Create] {
            let (sim, fault) = faulty();
            let (writer, mut reader) = open(&fault, config().when_full(WhenFull::Reject)).unwrap();
            writer.append(&payload(1, 100)).unwrap();
            writer.flush().unwrap();
            fault.fail_from(op, next(&fault, op), errno);
            // Accepted, but there is no room on the disk for all of them.
            for n in 2..=9 {
                writer.append(&payload(n, 100)).unwrap();
            }
            assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::TimedOut);
            let error = writer.append(b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{op:?}");
            // Regression: it said that there was no space, whatever was missing.
            let why = errno.error().to_string();
            assert!(error.to_string().contains(&why), "{error}");
            // Readers go on meanwhile.
            record(reader.recv().unwrap()).ack();
            check_law(&writer.usage());
            fault.clear();
            writer.flush().unwrap();
            assert_eq!(writer.append(&payload(10, 100)).unwrap().id(), Some(10));
            writer.flush().unwrap();
            assert_eq!(drain_ids(&mut reader), (2..=10).collect::<Vec<_>>());
            assert_eq!(after_power_cut(&sim), (2..=10).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_flush_onto_a_full_disk_may_be_given_up() {
    let (_sim, fault) = faulty();
    let (writer, _reader) = open(&fault, config().io(Io::Thread)).unwrap();
    writer.append(&payload(1, 100)).unwrap();
    writer.flush_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(writer.usage().last_synced_id, 1);
    fault.fail_from(Op::Write, next(&fault, Op::Write), Errno::Enospc);
    writer.append(&payload(2, 100)).unwrap();
    let error = writer.flush_timeout(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(writer.usage().last_synced_id, 1);
    fault.clear();
    writer.flush_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(writer.usage().last_synced_id, 2);
}

#[test]
fn the_longest_record_that_fits_is_told() {
    let (_sim, fault) = faulty();
    let (writer, _reader) = open(&fault, config()).unwrap();
    let longest = vec![b'x'; writer.max_record_size() as usize];
    assert!(writer.append(&longest).unwrap().accepted());
    let error = writer.append(&[&longest[..], b"x"].concat()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
}

#[test]
fn after_a_failed_write_the_file_goes_on() {
    let (sim, fault) = faulty();
    let (writer, mut reader) = open(&fault, config()).unwrap();
    writer.append(&payload(1, 100)).unwrap();
    writer.flush().unwrap();
    writer
        .append(&payload(2, 100))
        .unwrap()
        .wait_written()
        .unwrap();
    fault.fail(Op::Write, next(&fault, Op::Write), Errno::Eio);
    writer
        .append(&payload(3, 100))
        .unwrap()
        .wait_synced()
        .unwrap();
    assert_eq!(writer.usage().failed_files, 1);
    assert_eq!(
        sim.read_file(format!("{DIR}/buffer-data-0.dat"))
            .unwrap()
            .len(),
        3 * 144
    );
    assert_eq!(drain_ids(&mut reader), [1, 2, 3]);
    assert_eq!(after_power_cut(&sim), [1, 2, 3]);
}

#[test]
fn unsynced_records_are_written_again_after_a_failed_sync() {
    let (sim, fault) = faulty();
    let (writer, mut reader) = open(&fault, config()).unwrap();
    writer.append(&payload(1, 100)).unwrap();
    writer.flush().unwrap();
    let first = record(reader.recv().unwrap());
    writer.append(&payload(2, 100)).unwrap();
    writer
        .append(&payload(3, 100))
        .unwrap()
        .wait_written()
        .unwrap();
    // After this failure the kernel takes the unsynced pages for clean, and no later sync of
    // that file writes them.
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    writer
        .append(&payload(4, 100))
        .unwrap()
        .wait_synced()
        .unwrap();
    assert_eq!(writer.usage().failed_files, 1);
    assert_eq!(drain_ids(&mut reader), [2, 3, 4]);
    assert_eq!(after_power_cut(&sim), [1, 2, 3, 4]);
    first.ack();
    check_law(&writer.usage());
    drop(reader);
    writer.close().unwrap();
    assert_eq!(after_power_cut(&sim), [2, 3, 4]);
}

#[test]
fn unsynced_records_that_have_left_memory_are_read_back() {
    let (sim, fault) = faulty();
    let config = Config::new(DIR)
        .max_size(64 << 20)
        .batch_size(4096)
        .io(Io::Caller);
    let (writer, _reader) = open(&fault, config).unwrap();
    for n in 1..=1000 {
        writer
            .append(&payload(n, 100))
            .unwrap()
            .wait_written()
            .unwrap();
    }
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    writer.flush().unwrap();
    assert_eq!(writer.usage().failed_files, 1);
    assert_eq!(after_power_cut(&sim), (1..=1000).collect::<Vec<_>>());
}

#[test]
fn records_lost_with_a_failed_sync_are_never_called_synced() {
    let (sim, fault) = faulty();
    let config = Config::new(DIR)
        .max_size(64 << 20)
        .batch_size(4096)
        .io(Io::Caller);
    let (writer, _reader) = open(&fault, config).unwrap();
    for n in 1..=1000 {
        writer
            .append(&payload(n, 100))
            .unwrap()
            .wait_written()
            .unwrap();
    }
    // The pages are gone from the cache as well.
    let path = format!("{DIR}/buffer-data-0.dat");
    sim.fail_sync(&path, 0).unwrap();
    sim.evict(&path).unwrap();
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(writer.append(b"x").unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn a_second_failure_poisons_the_writer() {
    for op in [Op::Sync, Op::Write] {
        let (sim, fault) = faulty();
        let (writer, mut reader) = open(&fault, config()).unwrap();
        writer.append(&payload(1, 100)).unwrap();
        writer.flush().unwrap();
        let receipt = writer.append(&payload(2, 100)).unwrap();
        receipt.wait_written().unwrap();
        let nth = next(&fault, Op::Sync);
        fault.fail(Op::Sync, nth, Errno::Eio);
        match op {
            Op::Sync => fault.fail(op, nth + 1, Errno::Eio),
            op => fault.fail(op, next(&fault, op), Errno::Eio),
        }
        let error = receipt.wait_synced().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned, "{op:?}");
        assert!(error.to_string().contains("open it again"), "{error}");
        assert_eq!(writer.append(b"x").unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::Poisoned);
        // Written records can still be read and acknowledged.
        record(reader.recv().unwrap()).ack();
        record(reader.recv().unwrap());
        assert_eq!(reader.recv().unwrap_err().kind(), ErrorKind::Poisoned);
        check_law(&writer.usage());
        drop(reader);
        assert_eq!(writer.close().unwrap_err().kind(), ErrorKind::Poisoned);
        fault.clear();
        let (writer, _reader) = open(&fault, config()).unwrap();
        writer.append(b"x").unwrap();
        writer.flush().unwrap();
        assert!(after_power_cut(&sim).len() >= 2, "{op:?}");
    }
}

/// On a disk that refuses every write nothing has to be written again, so writing again never
/// fails. The retries must end nevertheless.
#[test]
fn a_write_that_fails_twice_poisons_the_writer() {
    let (sim, fault) = faulty();
    let (writer, _reader) = open(&fault, config()).unwrap();
    writer.append(&payload(1, 100)).unwrap();
    writer.flush().unwrap();
    fault.fail_from(Op::Write, next(&fault, Op::Write), Errno::Eio);
    let receipt = writer.append(&payload(2, 100)).unwrap();
    let error = receipt.wait_written().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    assert_eq!(writer.usage().failed_files, 1);
    assert_eq!(after_power_cut(&sim), [1]);
}

/// Regression: a failed sync of the ledger was retried after storing the same values. If the
/// kernel takes the page for clean (and the compiler drops such stores), the retry succeeds
/// with nothing on the disk, and acknowledged records came again after a power cut.
#[test]
fn a_failed_ledger_sync_is_not_believed_the_second_time() {
    let (_sim, fault) = faulty();
    let (writer, mut reader) = open(&fault, config()).unwrap();
    writer.append(&payload(1, 100)).unwrap();
    record(reader.recv().unwrap()).ack();
    fault.fail(Op::MapSync, next(&fault, Op::MapSync), Errno::Eio);
    assert_eq!(reader.sync_acks().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(reader.sync_acks().unwrap_err().kind(), ErrorKind::Poisoned);
    drop((writer, reader));
    let (_writer, mut reader) = open(&fault, config()).unwrap();
    assert_eq!(drain_ids(&mut reader), [0; 0]);
    reader.sync_acks().unwrap();
}

/// Regression: with endless signals, each interrupted call was made again without a bound, and
/// the program hung. The module `sweep` covers all kinds of calls.
#[test]
fn calls_that_are_always_interrupted_end() {
    let (_sim, fault) = faulty();
    let (writer, _reader) = open(&fault, config()).unwrap();
    writer.append(&payload(1, 100)).unwrap();
    let before = fault.counts()[&Op::Write];
    fault.fail_from(Op::Write, before + 1, Errno::Eintr);
    assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    let made = fault.counts()[&Op::Write] - before;
    assert_eq!(
        made,
        2 * u64::from(ATTEMPTS_MAX),
        "the mark of what is synced, twice"
    );
    assert_eq!(writer.append(b"x").unwrap_err().kind(), ErrorKind::Poisoned);
}

#[test]
fn no_file_is_deleted_after_a_failed_ledger_sync() {
    let (sim, fault) = faulty();
    let (writer, mut reader) = open(&fault, config()).unwrap();
    for n in 1..=20 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.flush().unwrap();
    let files = sim.files(DIR).len();
    fault.fail_from(Op::MapSync, next(&fault, Op::MapSync), Errno::Eio);
    for _ in 0..15 {
        record(reader.recv().unwrap()).ack();
    }
    assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(sim.files(DIR).len(), files);
    drop((writer, reader));
    assert_eq!(after_power_cut(&sim), (1..=20).collect::<Vec<_>>());
}

#[test]
fn a_failed_read_skips_nothing() {
    let (_sim, fault) = faulty();
    let config = Config::new(DIR)
        .max_size(64 << 20)
        .batch_size(4096)
        .io(Io::Caller);
    let (writer, mut reader) = open(&fault, config).unwrap();
    for n in 1..=1000 {
        writer
            .append(&payload(n, 100))
            .unwrap()
            .wait_written()
            .unwrap();
    }
    for errno in [Errno::Eio, Errno::Emfile] {
        let op = if errno == Errno::Eio {
            Op::Read
        } else {
            Op::Open
        };
        fault.fail_from(op, next(&fault, op), errno);
        reader.rewind();
        let error = reader.recv().unwrap_err();
        assert!(
            error
                .path()
                .is_some_and(|p| p.ends_with("buffer-data-0.dat")),
            "{error}"
        );
        fault.clear();
        assert_eq!(drain_ids(&mut reader), (1..=1000).collect::<Vec<_>>());
    }
}

#[test]
fn a_failed_delete_is_counted_and_tried_again_at_open() {
    let (sim, fault) = faulty();
    let (writer, mut reader) = open(&fault, config()).unwrap();
    for n in 1..=20 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.flush().unwrap();
    fault.fail_from(Op::Delete, next(&fault, Op::Delete), Errno::Eio);
    for _ in 0..15 {
        record(reader.recv().unwrap()).ack();
    }
    writer.flush().unwrap();
    assert!(sim.read_file(format!("{DIR}/buffer-data-0.dat")).is_some());
    assert_eq!(writer.usage().disk_bytes, 20 * 144);
    drop(reader);
    writer.close().unwrap();
    fault.clear();
    let (writer, mut reader) = open(&fault, config()).unwrap();
    assert_eq!(drain_ids(&mut reader), [16, 17, 18, 19, 20]);
    writer.flush().unwrap();
    assert!(sim.read_file(format!("{DIR}/buffer-data-0.dat")).is_none());
}
