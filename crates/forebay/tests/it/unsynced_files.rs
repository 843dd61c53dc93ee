//! Complete data files whose sync is still pending while the next file is written.
//!
//! Most tests run over a simulated file system on the calling thread, which syncs only if it is
//! asked to or has to. The others have background threads, some on a real file system.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::storage::Access;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{Ack, Config, ErrorKind, Io, Reader, Receipt, SyncPolicy, WhenFull, Writer};

use crate::before_open::BeforeOpen;
use crate::faults::{DIR, after_power_cut, faulty, next, open};
use crate::support::{drain_ids, payload, record, small, temp_dir};
use crate::usage::check_law;

/// The records that fit into a data file.
pub(crate) const IN_FILE: u64 = 7;
/// At most this many complete files wait for a sync.
const LEFT_MAX: u64 = 8;

fn config() -> Config {
    small(Path::new(DIR)).io(Io::Caller)
}

/// Appends and writes records with these ids.
pub(crate) fn write(writer: &Writer, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        let receipt = writer.append(&payload(id, 100)).unwrap();
        assert_eq!(receipt.id(), Some(id));
        receipt.wait_written().unwrap();
    }
}

/// Appends `count` records and only then writes them, so that a later reader finds them in the
/// files alone. Returns their ids.
fn write_at_once(writer: &Writer, count: u64) -> Vec<u64> {
    let append = |id| writer.append(&payload(id, 100)).unwrap();
    let receipts: Vec<Receipt<'_>> = (1..=count).map(append).collect();
    receipts.last().unwrap().wait_written().unwrap();
    (1..=count).collect()
}

/// A buffer of three and a half files whose first record is synced. Returns the ids of all
/// records.
fn left(fault: &Fault) -> (Writer, Reader, Vec<u64>) {
    let (writer, reader) = open(fault, config()).unwrap();
    write(&writer, [1]);
    writer.flush().unwrap();
    let last = 3 * IN_FILE + 3;
    write(&writer, 2..=last);
    (writer, reader, (1..=last).collect())
}

fn syncs(fault: &Fault) -> u64 {
    fault.counts().get(&Op::Sync).copied().unwrap_or(0)
}

fn data_files(sim: &Sim) -> Vec<(String, Option<Vec<u8>>)> {
    let names = sim.files(DIR).into_iter().map(|(name, _)| name);
    names
        .filter(|name| name.starts_with("buffer-data"))
        .map(|name| (name.clone(), sim.read_file(format!("{DIR}/{name}"))))
        .collect()
}

#[test]
fn a_flush_syncs_them_with_their_names() {
    let (sim, fault) = faulty();
    let (writer, _reader, ids) = left(&fault);
    assert_eq!(after_power_cut(&sim), [1]);
    let before = syncs(&fault);
    writer.flush().unwrap();
    assert_eq!(syncs(&fault) - before, 4);
    assert_eq!(after_power_cut(&sim), ids);
    assert_eq!(writer.usage().last_synced_id, ids.len() as u64);
}

#[test]
fn a_wait_for_a_record_in_one_of_them_returns_when_it_is_synced() {
    let (sim, fault) = faulty();
    let (writer, _reader) = open(&fault, config()).unwrap();
    let receipt = writer.append(&payload(1, 100)).unwrap();
    write(&writer, 2..=2 * IN_FILE);
    receipt.wait_synced().unwrap();
    assert!(after_power_cut(&sim).starts_with(&[1, 2, 3, 4, 5, 6, 7]));
}

#[test]
fn only_so_many_are_left_at_a_time() {
    let (_sim, fault) = faulty();
    let (writer, _reader) = open(&fault, config()).unwrap();
    let before = syncs(&fault);
    write(&writer, 1..=(LEFT_MAX + 1) * IN_FILE);
    assert_eq!(syncs(&fault), before);
    let last = (LEFT_MAX + 3) * IN_FILE;
    write(&writer, (LEFT_MAX + 1) * IN_FILE + 1..=last);
    assert_eq!(syncs(&fault) - before, 2);
    assert_eq!(writer.usage().last_synced_id, 2 * IN_FILE);
}

/// Regression: a killed process leaves not only its last file unsynced. What a flush of the next
/// process reported durable was not.
#[test]
fn what_a_killed_process_left_is_durable_after_a_flush_of_the_next() {
    let (sim, fault) = faulty();
    let (writer, _reader) = open(&fault, config()).unwrap();
    let last = (LEFT_MAX + 1) * IN_FILE;
    write(&writer, 1..=last);
    let killed = sim.kill();
    let (writer, _reader) = config().storage(Arc::new(killed.clone())).open().unwrap();
    write(&writer, [last + 1]);
    writer.flush().unwrap();
    assert_eq!(after_power_cut(&killed), (1..=last + 1).collect::<Vec<_>>());
}

#[test]
fn what_is_acknowledged_meanwhile_goes_without_a_sync() {
    let (sim, fault) = faulty();
    let (writer, mut reader, ids) = left(&fault);
    let before = syncs(&fault);
    for _ in 1..=2 * IN_FILE {
        record(reader.recv().unwrap()).ack();
    }
    reader.sync_acks().unwrap();
    assert_eq!(syncs(&fault), before);
    assert_eq!(
        sim.files(DIR).len(),
        2 + 3,
        "two data files, ledger, lock and mark"
    );
    // Acknowledged records need no sync any more.
    assert_eq!(writer.usage().last_synced_id, 2 * IN_FILE);
    writer.flush().unwrap();
    assert_eq!(syncs(&fault) - before, 2);
    assert_eq!(after_power_cut(&sim), ids[2 * IN_FILE as usize..]);
    check_law(&writer.usage());
}

#[test]
fn after_a_failed_sync_what_was_not_synced_is_written_again_in_place() {
    for nth in 1..=4 {
        let (sim, fault) = faulty();
        let (writer, mut reader, ids) = left(&fault);
        let before = data_files(&sim);
        fault.fail(Op::Sync, next(&fault, Op::Sync) + nth - 1, Errno::Eio);
        writer.flush().unwrap();
        assert_eq!(writer.usage().failed_files, 1);
        assert_eq!(after_power_cut(&sim), ids, "sync {nth} failed");
        assert_eq!(data_files(&sim), before, "names and contents stay");
        check_law(&writer.usage());
        assert_eq!(drain_ids(&mut reader), ids);
        write(&writer, [ids.len() as u64 + 1]);
        drop(reader);
        writer.close().unwrap();
        assert_eq!(after_power_cut(&sim).len(), ids.len() + 1);
    }
}

#[test]
fn a_failed_write_leaves_the_files_where_they_are() {
    let (sim, fault) = faulty();
    let (writer, _reader, mut ids) = left(&fault);
    let files = sim.files(DIR).len();
    fault.fail(Op::Write, next(&fault, Op::Write), Errno::Eio);
    ids.push(ids.len() as u64 + 1);
    writer.append(&payload(*ids.last().unwrap(), 100)).unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.usage().failed_files, 1);
    assert_eq!(sim.files(DIR).len(), files);
    assert_eq!(after_power_cut(&sim), ids);
}

#[test]
fn writing_again_takes_no_space() {
    let (sim, fault) = faulty();
    let (writer, _reader, ids) = left(&fault);
    sim.set_capacity(Some(sim.used_bytes()));
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    writer.flush().unwrap();
    assert_eq!(after_power_cut(&sim), ids);
}

/// A file system that copies on write may need space to write again.
#[test]
fn a_full_disk_while_writing_again_is_waited_for() {
    let (sim, fault) = faulty();
    let (writer, mut reader) = open(&fault, config().when_full(WhenFull::Reject)).unwrap();
    let ids: Vec<u64> = (1..=3 * IN_FILE + 3).collect();
    write(&writer, ids.iter().copied());
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    fault.fail_from(Op::Write, next(&fault, Op::Write), Errno::Enospc);
    assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(writer.append(b"x").unwrap_err().kind(), ErrorKind::DiskFull);
    // All of it can be read and acknowledged.
    for id in &ids[..IN_FILE as usize + 1] {
        let delivery = record(reader.recv().unwrap());
        assert_eq!(delivery.id(), *id);
        delivery.ack();
    }
    fault.clear();
    writer.flush().unwrap();
    let rest = &ids[IN_FILE as usize + 1..];
    assert_eq!(after_power_cut(&sim), rest);
    assert_eq!(drain_ids(&mut reader), rest);
    check_law(&writer.usage());
}

#[test]
fn a_failure_while_writing_again_poisons_and_loses_nothing_written() {
    for op in [Op::Sync, Op::Write, Op::DirSync] {
        let (sim, fault) = faulty();
        let (writer, mut reader, ids) = left(&fault);
        let nth = next(&fault, Op::Sync);
        fault.fail(Op::Sync, nth, Errno::Eio);
        match op {
            Op::Sync => fault.fail_from(op, nth + 1, Errno::Eio),
            op => fault.fail_from(op, next(&fault, op), Errno::Eio),
        }
        let error = writer.flush().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned, "{op:?}");
        fault.clear();
        for id in &ids {
            assert_eq!(record(reader.recv().unwrap()).id(), *id, "{op:?}");
        }
        assert_eq!(reader.recv().unwrap_err().kind(), ErrorKind::Poisoned);
        drop((writer, reader));
        let killed = Arc::new(sim.kill());
        let (_writer, mut reader) = config().storage(killed).open().unwrap();
        assert_eq!(drain_ids(&mut reader), ids, "{op:?}");
        assert!(after_power_cut(&sim).starts_with(&[1]), "{op:?}");
    }
}

/// A file that waits to be written again is deleted instead, if everything in it is acknowledged
/// by then.
#[test]
fn what_is_to_be_written_again_and_is_acknowledged_goes_instead() {
    let (sim, fault) = faulty();
    let (writer, mut reader, ids) = left(&fault);
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    fault.fail_from(Op::Write, next(&fault, Op::Write), Errno::Enospc);
    assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::TimedOut);
    for _ in &ids {
        record(reader.recv().unwrap()).ack();
    }
    fault.clear();
    writer.flush().unwrap();
    let last = ids.len() as u64;
    assert_eq!(writer.usage().last_synced_id, last);
    write(&writer, [last + 1]);
    writer.flush().unwrap();
    assert_eq!(after_power_cut(&sim), [last + 1]);
    check_law(&writer.usage());
}

/// Regression: after a passing error in the sync of a directory, with nothing left to write,
/// every append was refused for good.
#[test]
fn a_directory_that_cannot_be_synced_for_a_while_is_synced_later() {
    for io in [Io::Caller, Io::Thread] {
        let (sim, fault) = faulty();
        let config = config().when_full(WhenFull::Reject).io(io);
        let (writer, _reader) = open(&fault, config).unwrap();
        write(&writer, 1..=2 * IN_FILE);
        // After the first error the buffer closes a descriptor of its own and retries.
        let nth = next(&fault, Op::DirSync);
        fault.fail(Op::DirSync, nth, Errno::Emfile);
        fault.fail(Op::DirSync, nth + 1, Errno::Emfile);
        if io == Io::Caller {
            assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::TimedOut);
        }
        write(&writer, [2 * IN_FILE + 1]);
        writer.flush().unwrap();
        assert_eq!(fault.failures(), 2);
        write(&writer, [2 * IN_FILE + 2]);
        writer.flush().unwrap();
        assert_eq!(after_power_cut(&sim).len() as u64, 2 * IN_FILE + 2);
    }
}

/// Regression: if no flush interval makes a sync due, nothing woke the thread to retry.
#[test]
fn a_directory_is_synced_later_whatever_the_policy() {
    for policy in [SyncPolicy::Always, SyncPolicy::Never] {
        for gives_up in [false, true] {
            let (sim, fault) = faulty();
            let config = config()
                .sync(policy)
                .io(Io::Thread)
                .flush_interval(Duration::from_secs(3600));
            let (writer, _reader) = open(&fault, config).unwrap();
            for id in 1..=IN_FILE {
                writer.append(&payload(id, 100)).unwrap();
            }
            writer.flush().unwrap();
            if gives_up {
                fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
            }
            fault.fail(Op::DirSync, next(&fault, Op::DirSync), Errno::Emfile);
            let receipt = writer.append(&payload(IN_FILE + 1, 100)).unwrap();
            receipt.wait_synced().unwrap();
            assert_eq!(fault.failures(), 1 + u64::from(gives_up));
            assert_eq!(after_power_cut(&sim).len() as u64, IN_FILE + 1);
        }
    }
}

#[test]
fn a_directory_that_cannot_be_synced_does_not_hang_a_close() {
    for io in [Io::Caller, Io::Thread] {
        let (_sim, fault) = faulty();
        let (writer, reader) = open(&fault, config().io(io)).unwrap();
        write(&writer, 1..=2 * IN_FILE);
        fault.fail_from(Op::DirSync, next(&fault, Op::DirSync), Errno::Emfile);
        drop(reader);
        assert_eq!(writer.close().unwrap_err().kind(), ErrorKind::Poisoned);
    }
}

/// A reader is in the middle of a file that is written again meanwhile.
#[test]
fn a_reader_in_the_middle_of_one_that_is_written_again_goes_on() {
    let (_sim, fault) = faulty();
    let config = Config::new(DIR)
        .max_size(16 << 20)
        .data_file_size(4 << 20)
        .batch_size(4096)
        .io(Io::Caller);
    let (writer, mut reader) = open(&fault, config).unwrap();
    let ids: Vec<u64> = (1..=2000).collect();
    for id in &ids {
        writer.append(&payload(*id, 3000)).unwrap();
    }
    writer.append(b"last").unwrap().wait_written().unwrap();
    let mut seen: Vec<u64> = (0..10)
        .map(|_| record(reader.recv().unwrap()).id())
        .collect();
    fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
    writer.flush().unwrap();
    assert_eq!(writer.usage().failed_files, 1);
    seen.extend(drain_ids(&mut reader));
    assert_eq!(seen.len(), 2001);
    assert_eq!(writer.usage().lost.events, 0);
    check_law(&writer.usage());
}

/// A reader was rewound and is about to open a file. Meanwhile everything in the file is
/// acknowledged, and it is deleted.
#[test]
fn a_reader_that_was_about_to_open_an_acknowledged_one_goes_on_behind_it() {
    let (_sim, fault) = faulty();
    let acks = Arc::new(Mutex::new(None::<(Writer, Vec<Ack>)>));
    let given = Arc::clone(&acks);
    let storage = BeforeOpen::new(fault, move |path, access| {
        let given = given.lock().unwrap().take();
        if let (Access::Read, Some((writer, acks))) = (access, given) {
            assert!(path.ends_with("buffer-data-0.dat"));
            acks.into_iter().for_each(Ack::ack);
            writer.flush().unwrap();
        }
    });
    let (writer, mut reader) = config().storage(Arc::new(storage)).open().unwrap();
    let ids = write_at_once(&writer, 3 * IN_FILE);
    let read = |_| record(reader.recv().unwrap()).split().1;
    let delivered: Vec<Ack> = (1..=IN_FILE + 1).map(read).collect();
    *acks.lock().unwrap() = Some((writer.clone(), delivered));
    reader.rewind();
    assert_eq!(drain_ids(&mut reader), ids[IN_FILE as usize + 1..]);
    assert!(acks.lock().unwrap().is_none());
    assert_eq!(writer.usage().lost.events, 0);
}

#[test]
fn threads_of_their_own_sync_them_when_they_are_due() {
    let dir = temp_dir();
    let config = small(dir.path()).flush_interval(Duration::from_millis(10));
    let (writer, _reader) = crate::support::open(&config);
    write(&writer, 1..=5 * IN_FILE + 1);
    while writer.usage().last_synced_id < 5 * IN_FILE + 1 {
        std::thread::yield_now();
    }
}

#[test]
fn threads_of_their_own_sync_them_when_they_are_many() {
    let dir = temp_dir();
    let config = small(dir.path()).sync(SyncPolicy::Never);
    let (writer, mut reader) = crate::support::open(&config);
    let last = 3 * LEFT_MAX * IN_FILE;
    write(&writer, 1..=last);
    while writer.usage().last_synced_id < last - (LEFT_MAX + 1) * IN_FILE {
        std::thread::yield_now();
    }
    assert_eq!(drain_ids(&mut reader).len() as u64, last);
    writer.flush().unwrap();
    assert_eq!(writer.usage().last_synced_id, last);
}
