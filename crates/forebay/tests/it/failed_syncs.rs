//! Promise 9 over several lives: a failed sync, and a stop or another failure after it.
//!
//! The files have several pages, and each seed makes a failed sync keep another subset of them.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay::format::file_id::SYNCED_MARK_FILE_NAME;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::storage::{Access, File, Storage};
use forebay::{Config, ErrorKind, Io, Item, Reader, SyncPolicy, TryRecv, Writer};

use crate::faults::{DIR, next, open};
use crate::support::{drain_ids, payload, record};

fn config() -> Config {
    Config::new(Path::new(DIR))
        .max_size(16 << 20)
        .data_file_size(1 << 20)
        .io(Io::Caller)
}

fn write(writer: &Writer, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        let receipt = writer.append(&payload(id, 100)).unwrap();
        receipt.wait_written().unwrap();
    }
}

fn reopened(sim: &Sim) -> (Writer, Reader) {
    config().storage(Arc::new(sim.clone())).open().unwrap()
}

/// The ids that a reader delivers now; panics if it reports a loss.
fn all(reader: &mut Reader) -> Vec<u64> {
    let mut ids = Vec::new();
    loop {
        match reader.try_recv().unwrap() {
            TryRecv::Ready(Item::Record(delivery)) => ids.push(delivery.id()),
            TryRecv::Ready(Item::Lost(lost)) => panic!("{lost}"),
            TryRecv::Empty | TryRecv::End => return ids,
        }
    }
}

/// A buffer of 400 records and several pages. The first record was synced; the sync of the
/// others failed, and they were written again and synced.
fn mended(seed: u64) -> (Sim, Fault, Writer, Reader) {
    mended_without(seed, None)
}

/// The same; the next call of the kind `also` fails as well.
fn mended_without(seed: u64, also: Option<Op>) -> (Sim, Fault, Writer, Reader) {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, seed);
    let (writer, reader) = open(&fault, config()).unwrap();
    write(&writer, 1..=1);
    writer.flush().unwrap();
    write(&writer, 2..=400);
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    if let Some(op) = also {
        fault.fail(op, next(&fault, op), Errno::Eio);
    }
    writer.flush().unwrap();
    assert_eq!(writer.usage().last_synced_id, 400);
    assert_eq!(writer.usage().failed_files, 1);
    (sim, fault, writer, reader)
}

/// Regression: the unsynced end of a failed file was cut, and the cut was not synced. A power
/// cut brought the end back with holes, which counted as lost although copies of all records
/// were synced in the next file.
#[test]
fn what_is_synced_after_a_failed_sync_survives_a_power_cut() {
    for seed in 1..60 {
        let (sim, _fault, _writer, _reader) = mended(seed);
        for crash in [0, 2, 3, 4, 5] {
            let (_writer, mut reader) = reopened(&sim.crash(crash));
            let ids = all(&mut reader);
            assert_eq!(ids.len(), 400, "fault seed {seed}, crash seed {crash}");
        }
    }
}

/// The same without a power cut: the kernel forgets pages that it takes for clean.
#[test]
fn what_is_synced_after_a_failed_sync_survives_a_kernel_short_of_memory() {
    for seed in 1..60 {
        let (sim, _fault, writer, reader) = mended_without(seed, Some(Op::Truncate));
        drop(reader);
        writer.close().unwrap();
        sim.evict(format!("{DIR}/buffer-data-0.dat")).unwrap();
        let (_writer, mut reader) = reopened(&sim.kill());
        assert_eq!(all(&mut reader).len(), 400, "fault seed {seed}");
    }
}

/// Of 20 records 10 are synced and `acknowledged` are acknowledged; the sync of the others
/// fails, and they are written again and synced. Returns the machine and the operations of
/// that flush.
fn stops_after_a_failed_sync(acknowledged: u64) -> (Sim, RangeInclusive<u64>) {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    let (writer, mut reader) = open(&fault, config()).unwrap();
    write(&writer, 1..=10);
    writer.flush().unwrap();
    write(&writer, 11..=20);
    for _ in 0..acknowledged {
        record(reader.recv().unwrap()).ack();
    }
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    sim.keep_history();
    let from = sim.operations();
    writer.flush().unwrap();
    let to = sim.operations();
    (sim, from..=to)
}

/// Regression: a kill while records were moved left only some of their copies in a newer file.
/// Records that only the older file held were skipped.
#[test]
fn a_kill_at_any_step_after_a_failed_sync_loses_nothing_written() {
    let (sim, stops) = stops_after_a_failed_sync(15);
    for stop in stops {
        let (_writer, mut reader) = reopened(&sim.at(stop).unwrap().kill());
        assert_eq!(all(&mut reader), [16, 17, 18, 19, 20], "killed at {stop}");
    }
}

/// Regression: the life after such a kill lost the records, if it acknowledged some and closed.
#[test]
fn lives_after_a_kill_at_any_step_lose_nothing_either() {
    let (sim, stops) = stops_after_a_failed_sync(5);
    for stop in stops {
        let killed = sim.at(stop).unwrap().kill();
        let (writer, mut reader) = reopened(&killed);
        for id in 6..=15 {
            let delivery = record(reader.recv().unwrap());
            assert_eq!(delivery.id(), id);
            delivery.ack();
        }
        writer.append(&payload(21, 100)).unwrap();
        writer.flush().unwrap();
        drop(reader);
        writer.close().unwrap();
        let (_writer, mut reader) = reopened(&killed.kill());
        assert_eq!(
            all(&mut reader),
            [16, 17, 18, 19, 20, 21],
            "killed at {stop}"
        );
    }
}

/// Regression: a process died after a failed sync. Pages that never reached the disk counted as
/// clean by then. The next process synced the file, which succeeded, and reported them synced.
#[test]
fn the_next_life_does_not_trust_a_failed_sync_either() {
    for (seed, stays) in (1..40).flat_map(|seed| [(seed, false), (seed, true)]) {
        let sim = Sim::new();
        let fault = Fault::of_sim(&sim, seed);
        let (writer, reader) = open(&fault, config()).unwrap();
        write(&writer, 1..=1);
        writer.flush().unwrap();
        write(&writer, 2..=400);
        let nth = next(&fault, Op::Sync);
        fault.fail(Op::Sync, nth, Errno::Eio);
        // The sync of what is written again fails as well. The process is stopped before the
        // first sync, or at any operation after it.
        fault.fail(Op::Sync, nth + 1, Errno::Eio);
        sim.keep_history();
        let before = sim.operations();
        assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::Poisoned);
        let end = if stays { sim.operations() } else { before };
        drop((writer, reader));
        for stop in before..=end {
            let killed = sim.at(stop).unwrap().kill();
            flush_makes_all_durable(&killed, 400, &format!("seed {seed}, stopped at {stop}"));
        }
    }
}

/// Checks that after a flush of the next life, in which nothing fails, all records survive a
/// power cut.
fn flush_makes_all_durable(killed: &Sim, count: usize, case: &str) {
    let (writer, _reader) = reopened(killed);
    writer.flush().unwrap();
    let (_writer, mut reader) = reopened(&killed.crash(0));
    assert_eq!(all(&mut reader).len(), count, "{case}");
}

/// Regression: the mark that tells the next life which bytes to write again was zeroed or cut.
/// It was taken for a mark of file 0, or for none, and the next life trusted the failed sync.
#[test]
fn a_damaged_mark_is_no_word_of_trust() {
    let path = format!("{DIR}/{SYNCED_MARK_FILE_NAME}");
    for (seed, left) in (1..20).flat_map(|seed| [(seed, 1), (seed, 7), (seed, 8)]) {
        let sim = Sim::new();
        let fault = Fault::of_sim(&sim, seed);
        let small = config().data_file_size(4 << 10).batch_size(4 << 10);
        let (writer, reader) = open(&fault, small).unwrap();
        // The unsynced records are far from file 0.
        write(&writer, 1..=300);
        writer.flush().unwrap();
        write(&writer, 301..=400);
        let nth = next(&fault, Op::Sync);
        fault.fail(Op::Sync, nth, Errno::Eio);
        fault.fail(Op::Sync, nth + 1, Errno::Eio);
        assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::Poisoned);
        let killed = sim.kill();
        drop((writer, reader));
        assert_eq!(killed.read_file(&path).unwrap().len(), 8);
        killed.write_file(&path, &vec![0; left]).unwrap();
        flush_makes_all_durable(&killed, 400, &format!("seed {seed}, {left} zeros"));
    }
}

/// Regression: for want of descriptors, that of the mark was closed. When the mark was opened
/// again, the next write moved it past files that no sync covered, and the next life trusted its
/// own sync of them.
#[test]
fn a_mark_that_was_given_back_still_names_the_oldest_unsynced_file() {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    let small = config().data_file_size(600).sync(SyncPolicy::Never);
    let (writer, reader) = open(&fault, small).unwrap();
    fault.fail_from(Op::DirSync, next(&fault, Op::DirSync), Errno::Emfile);
    let append = |id| {
        let receipt = writer.append(&payload(id, 500)).unwrap();
        receipt.wait_written().unwrap();
    };
    (1..=4).for_each(append);
    assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::TimedOut);
    append(5);
    // The kernel cannot write the pages of the older files.
    for file_id in 0..4 {
        let path = format!("{DIR}/buffer-data-{file_id}.dat");
        sim.fail_write_back(path, 0).unwrap();
    }
    let killed = sim.kill();
    drop((writer, reader));
    // The kernel reports a failed write-back once for each file.
    let opened = (0..9).find_map(|_| open(&Fault::of_sim(&killed, 0), config()).ok());
    let (writer, _reader) = opened.unwrap();
    writer.flush().unwrap();
    let (_writer, mut reader) = reopened(&killed.crash(0));
    assert_eq!(all(&mut reader), [1, 2, 3, 4, 5]);
}

/// Regression: the same for the ledger. Records came again whose acknowledgements had been
/// reported synced.
#[test]
fn the_next_life_does_not_trust_a_failed_sync_of_the_ledger() {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    let (writer, mut reader) = open(&fault, config()).unwrap();
    write(&writer, 1..=3);
    writer.flush().unwrap();
    for _ in 1..=2 {
        record(reader.recv().unwrap()).ack();
    }
    fault.fail(Op::MapSync, next(&fault, Op::MapSync), Errno::Eio);
    assert_eq!(reader.sync_acks().unwrap_err().kind(), ErrorKind::Poisoned);
    drop((writer, reader));
    let killed = sim.kill();
    let (_writer, reader) = reopened(&killed);
    reader.sync_acks().unwrap();
    let (_writer, mut reader) = reopened(&killed.crash(0));
    assert_eq!(all(&mut reader), [3]);
}

/// Regression: pages of a failed write-back leave the cache before the sync reports the failure.
/// A reader that came to them meanwhile counted records lost that were still in memory.
#[test]
fn a_reader_takes_from_memory_what_the_file_has_lost() {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    let (writer, mut reader) = open(&fault, config().batch_size(4096)).unwrap();
    write(&writer, 1..=200);
    writer.flush().unwrap();
    write(&writer, 201..=260);
    assert_eq!(record(reader.recv().unwrap()).id(), 1);
    let path = format!("{DIR}/buffer-data-0.dat");
    sim.fail_sync(&path, 0).unwrap();
    sim.evict(&path).unwrap();
    assert_eq!(drain_ids(&mut reader), (2..=260).collect::<Vec<_>>());
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    writer.flush().unwrap();
    let usage = writer.usage();
    assert_eq!((usage.last_synced_id, usage.lost.events), (260, 0));
}

/// For records that have left memory as well, the reader waits for the sync. The sync fails, and
/// nothing is counted lost, because another life may still deliver them.
#[test]
fn a_reader_counts_nothing_lost_that_no_sync_covers() {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    let (writer, mut reader) = open(&fault, config().batch_size(4096)).unwrap();
    write(&writer, 1..=1);
    writer.flush().unwrap();
    let last = 2000;
    write(&writer, 2..=last);
    assert_eq!(record(reader.recv().unwrap()).id(), 1);
    let path = format!("{DIR}/buffer-data-0.dat");
    sim.fail_sync(&path, 0).unwrap();
    sim.evict(&path).unwrap();
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    let error = loop {
        match reader.try_recv() {
            Ok(TryRecv::Ready(Item::Record(_))) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    assert_eq!(writer.usage().lost.events, 0);
}

/// Regression: closing on a full disk synced neither written records nor acknowledgements.
#[test]
fn closing_on_a_full_disk_syncs_what_is_written() {
    for io in [Io::Caller, Io::Thread] {
        let sim = Sim::new();
        let fault = Fault::of_sim(&sim, 0);
        let config = config().sync(SyncPolicy::Never).io(io);
        let (writer, mut reader) = open(&fault, config).unwrap();
        write(&writer, 1..=20);
        writer.flush().unwrap();
        write(&writer, 21..=30);
        for _ in 1..=10 {
            record(reader.recv().unwrap()).ack();
        }
        fault.fail_from(Op::Write, next(&fault, Op::Write), Errno::Enospc);
        writer.append(b"one that finds no space").unwrap();
        drop(reader);
        assert_eq!(
            writer.close().unwrap_err().kind(),
            ErrorKind::DiskFull,
            "{io:?}"
        );
        let (_writer, mut reader) = reopened(&sim.crash(0));
        assert_eq!(all(&mut reader), (11..=30).collect::<Vec<_>>(), "{io:?}");
    }
}

/// Regression: a flush that waited for space held up a receipt whose record was written.
#[test]
fn what_is_written_is_synced_while_the_rest_finds_no_space() {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    let config = config().sync(SyncPolicy::Never).io(Io::Thread);
    let (writer, _reader) = open(&fault, config).unwrap();
    let receipt = writer.append(b"written").unwrap();
    receipt.wait_written().unwrap();
    fault.fail_from(Op::Write, next(&fault, Op::Write), Errno::Enospc);
    writer.append(b"finds no space").unwrap();
    let flushed = writer.flush_timeout(Duration::from_millis(50));
    assert_eq!(flushed.unwrap_err().kind(), ErrorKind::TimedOut);
    receipt.wait_synced().unwrap();
    fault.clear();
}

/// Regression: the write of a whole batch was retried for ever on a file system that had room
/// for only some of its records.
#[test]
fn a_batch_that_does_not_fit_is_written_in_parts() {
    let (sim, fault) = crate::faults::faulty();
    let (writer, mut reader) = open(&fault, config().batch_size(64 << 10)).unwrap();
    // The storage refuses the first three writes of records, so the writer tries smaller parts.
    for nth in 0..3 {
        fault.fail(Op::Write, next(&fault, Op::Write) + 1 + nth, Errno::Enospc);
    }
    for id in 1..=400 {
        writer.append(&payload(id, 100)).unwrap();
    }
    assert_eq!(record(reader.recv().unwrap()).id(), 1);
    writer.flush().unwrap();
    assert_eq!(fault.failures(), 3);
    let (_writer, mut reader) = reopened(&sim.crash(0));
    assert_eq!(all(&mut reader).len(), 400);
}

/// Regression: with endless signals, preallocating zeros never ended.
#[test]
fn preallocating_that_is_always_interrupted_ends() {
    let (_sim, fault) = crate::faults::faulty();
    let config = config().sync(SyncPolicy::Always).io(Io::Thread);
    let (writer, _reader) = open(&fault, config).unwrap();
    for n in 1..=2 {
        writer.append(&payload(n, 10)).unwrap();
    }
    fault.fail_from(Op::Write, next(&fault, Op::Write) + 1, Errno::Eintr);
    // The write of this record still succeeds; all later ones are interrupted.
    writer.append(&payload(3, 10)).unwrap();
    fault.clear();
}

/// A storage whose writes panic once `now` is set.
#[derive(Debug, Clone)]
struct Panics {
    sim: Sim,
    now: Arc<AtomicBool>,
}

#[derive(Debug)]
struct PanickingFile {
    file: Box<dyn File>,
    now: Arc<AtomicBool>,
}

impl File for PanickingFile {
    forward!(file: read_at len truncate);

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        assert!(!self.now.load(Ordering::SeqCst), "a storage that panics");
        self.file.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Storage for Panics {
    forward!(sim: create_dir list rename delete sync_dir lock map free_bytes);

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        Ok(Box::new(PanickingFile {
            file: self.sim.open(path, access)?,
            now: Arc::clone(&self.now),
        }))
    }
}

/// Regression: after a panic on the I/O thread every waiting call waited on, and appends were
/// still accepted.
#[test]
fn a_storage_that_panics_poisons_the_buffer() {
    for io in [Io::Thread, Io::Caller] {
        let storage = Panics {
            sim: Sim::new(),
            now: Arc::default(),
        };
        let config = config().io(io);
        let (writer, mut reader) = config.storage(Arc::new(storage.clone())).open().unwrap();
        writer.append(b"written").unwrap();
        writer.flush().unwrap();
        storage.now.store(true, Ordering::SeqCst);
        writer.append(b"not written").unwrap();
        let error = writer.flush().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned, "{io:?}: {error}");
        assert_eq!(writer.append(b"x").unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(record(reader.recv().unwrap()).id(), 1);
        assert_eq!(reader.recv().unwrap_err().kind(), ErrorKind::Poisoned);
        drop(reader);
        assert_eq!(writer.close().unwrap_err().kind(), ErrorKind::Poisoned);
        let (_writer, mut reader) = reopened(&storage.sim.kill());
        assert_eq!(all(&mut reader), [1]);
    }
}

/// Regression: the mark could not be made, and records were written without it. Their sync
/// failed, and the next life trusted what it read.
#[test]
fn nothing_is_written_without_the_mark() {
    for (op, errno) in [(Op::Create, Errno::Emfile), (Op::Write, Errno::Eio)] {
        let (sim, fault) = crate::faults::faulty();
        let (writer, _reader) = open(&fault, config()).unwrap();
        fault.fail_from(op, next(&fault, op), errno);
        writer.append(&payload(1, 100)).unwrap();
        let error = writer.flush().unwrap_err();
        let kind = match errno {
            Errno::Eio => ErrorKind::Poisoned,
            _ => ErrorKind::TimedOut,
        };
        assert_eq!(error.kind(), kind, "{error}");
        let data = sim.read_file(format!("{DIR}/buffer-data-0.dat"));
        assert_eq!(data, Some(Vec::new()));
        // A single failure is retried and ends nothing.
        let (_sim, fault) = crate::faults::faulty();
        let (writer, _reader) = open(&fault, config()).unwrap();
        fault.fail(op, next(&fault, op), errno);
        writer.append(&payload(1, 100)).unwrap();
        writer.flush().unwrap();
    }
}
