//! Syncs that are due at the flush interval. They run in the background, and no caller waits
//! for them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay::format::record::frame_len;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{Config, Reader, ReaderSees, TryRecv, Writer};

use crate::faults::{DIR, after_power_cut, faulty, next};
use crate::gate::Gate;
use crate::support::{drain_ids, payload, record, small};
use crate::unsynced_files::{IN_FILE, write};
use crate::usage::check_law;

/// A time limit that no wait is expected to reach.
const LONG: Duration = Duration::from_secs(60);

fn config() -> Config {
    small(Path::new(DIR)).flush_interval(Duration::from_millis(5))
}

/// A buffer whose first record is being synced in the background: the sync waits at a gate.
struct Syncing {
    /// Dropped first, which opens it: the drops of the other fields may wait for the sync.
    gate: Gate,
    sim: Sim,
    fault: Fault,
    writer: Writer,
    reader: Reader,
}

impl Syncing {
    fn new(config: Config) -> Self {
        Self::with(config, 100, false)
    }

    /// With records of `len` bytes; if `fails`, the sync fails.
    fn with(config: Config, len: usize, fails: bool) -> Self {
        let (sim, fault) = faulty();
        let gate = Gate::default();
        let storage = gate.behind(fault.clone());
        let (writer, reader) = config.storage(Arc::new(storage)).open().unwrap();
        gate.close();
        if fails {
            fault.fail(Op::Sync, next(&fault, Op::Sync), Errno::Eio);
        }
        let receipt = writer.append(&payload(1, len)).unwrap();
        receipt.wait_written().unwrap();
        gate.wait_for(1);
        Self {
            gate,
            sim,
            fault,
            writer,
            reader,
        }
    }
}

/// Waits for the next record; its id.
fn next_id(reader: &mut Reader) -> u64 {
    match reader.recv_timeout(LONG).unwrap() {
        TryRecv::Ready(item) => record(Some(item)).id(),
        other => panic!("a record was expected, not {other:?}"),
    }
}

#[test]
fn a_due_sync_holds_up_neither_writer_nor_reader() {
    let mut case = Syncing::new(config());
    // The records fill several files.
    for id in 1..=3 * IN_FILE {
        if id > 1 {
            case.writer.append(&payload(id, 100)).unwrap();
        }
        assert_eq!(next_id(&mut case.reader), id);
    }
    assert_eq!(case.writer.usage().last_synced_id, 0);
    case.gate.open();
}

#[test]
fn it_vouches_for_what_was_written_before_it_began() {
    let mut case = Syncing::new(config().reader_sees(ReaderSees::Synced));
    write(&case.writer, [2, 3]);
    assert!(matches!(case.reader.try_recv().unwrap(), TryRecv::Empty));
    case.gate.let_one_pass();
    assert_eq!(next_id(&mut case.reader), 1);
    // The records that came meanwhile are due by now, and their sync is at the gate.
    case.gate.wait_for(1);
    assert_eq!(case.writer.usage().last_synced_id, 1);
    assert!(matches!(case.reader.try_recv().unwrap(), TryRecv::Empty));
    case.gate.let_one_pass();
    assert_eq!(
        [next_id(&mut case.reader), next_id(&mut case.reader)],
        [2, 3]
    );
    assert_eq!(case.writer.usage().last_synced_id, 3);
    assert_eq!(after_power_cut(&case.sim), [1, 2, 3]);
    case.gate.open();
}

#[test]
fn a_flush_waits_for_it_and_for_what_came_meanwhile() {
    let case = Syncing::new(config());
    write(&case.writer, [2]);
    let flushing = {
        let writer = case.writer.clone();
        std::thread::spawn(move || writer.flush())
    };
    case.gate.let_one_pass();
    case.gate.wait_for(1);
    assert!(!flushing.is_finished());
    case.gate.open();
    flushing.join().unwrap().unwrap();
    assert_eq!(case.writer.usage().last_synced_id, 2);
    assert_eq!(after_power_cut(&case.sim), [1, 2]);
}

#[test]
fn a_file_that_is_left_meanwhile_is_synced_once_more() {
    let case = Syncing::new(config());
    let last = 2 * IN_FILE + 1;
    write(&case.writer, 2..=last);
    case.gate.let_one_pass();
    case.gate.wait_for(1);
    assert_eq!(case.writer.usage().last_synced_id, 1);
    case.gate.let_one_pass();
    case.gate.wait_for(1);
    assert_eq!(case.writer.usage().last_synced_id, IN_FILE);
    case.gate.open();
    case.writer.flush().unwrap();
    assert_eq!(after_power_cut(&case.sim), (1..=last).collect::<Vec<_>>());
}

/// Records come meanwhile in the same file, in the next one, and in two more; in the last case
/// the first record fills its file.
#[test]
fn when_it_fails_what_came_meanwhile_is_written_again_as_well() {
    for (last, len) in [(1, 100), (3, 100), (IN_FILE + 1, 100), (20, 100), (2, 900)] {
        let mut case = Syncing::with(config(), len, true);
        for id in 2..=last {
            let receipt = case.writer.append(&payload(id, len)).unwrap();
            receipt.wait_written().unwrap();
        }
        case.gate.open();
        case.writer.flush().unwrap();
        let ids: Vec<u64> = (1..=last).collect();
        assert_eq!(case.writer.usage().failed_files, 1, "{last}");
        assert_eq!(after_power_cut(&case.sim), ids);
        assert_eq!(drain_ids(&mut case.reader), ids);
        assert_eq!(case.writer.usage().lost.events, 0);
        check_law(&case.writer.usage());
    }
}

#[test]
fn what_came_meanwhile_is_written_again_when_the_next_one_fails() {
    for last in [3, IN_FILE + 1] {
        let case = Syncing::new(config());
        write(&case.writer, 2..=last);
        let (fault, gate) = (&case.fault, &case.gate);
        fault.fail(Op::Sync, next(fault, Op::Sync), Errno::Eio);
        gate.open();
        case.writer.flush().unwrap();
        assert_eq!(case.writer.usage().failed_files, 1);
        let ids: Vec<u64> = (1..=last).collect();
        assert_eq!(after_power_cut(&case.sim), ids);
    }
}

/// A write fails while the sync runs, and then the sync fails: that counts as one failure of
/// the file.
#[test]
fn a_write_that_fails_meanwhile_is_one_failure_with_it() {
    let case = Syncing::with(config(), 100, true);
    let (fault, gate) = (&case.fault, &case.gate);
    fault.fail(Op::Write, next(fault, Op::Write), Errno::Eio);
    case.writer.append(&payload(2, 100)).unwrap();
    while fault.failures() < 2 {
        std::thread::yield_now();
    }
    gate.open();
    case.writer.flush().unwrap();
    assert_eq!(fault.failures(), 2);
    assert_eq!(case.writer.usage().failed_files, 1);
    assert_eq!(after_power_cut(&case.sim), [1, 2]);
}

#[test]
fn closing_waits_for_it() {
    for fails in [false, true] {
        let case = Syncing::with(config(), 100, fails);
        let (sim, gate, writer) = (case.sim, case.gate, case.writer);
        drop(case.reader);
        let closing = std::thread::spawn(move || writer.close());
        // Long enough for a close that does not wait.
        std::thread::sleep(Duration::from_millis(20));
        assert!(!closing.is_finished());
        gate.open();
        closing.join().unwrap().unwrap();
        assert_eq!(after_power_cut(&sim), [1]);
    }
}

/// All records of the file are acknowledged while it is being synced, so it is deleted.
#[test]
fn a_file_that_goes_meanwhile_needs_no_other() {
    let mut case = Syncing::new(config());
    let last = 2 * IN_FILE + 1;
    write(&case.writer, 2..=last);
    for _ in 1..=IN_FILE {
        record(case.reader.recv().unwrap()).ack();
    }
    let first_is_there = || {
        let files = case.sim.files(DIR);
        files.iter().any(|(name, _)| name == "buffer-data-0.dat")
    };
    // The file goes first, and what that means for syncs is published after it.
    while first_is_there() || case.writer.usage().last_synced_id < IN_FILE {
        std::thread::yield_now();
    }
    case.gate.open();
    case.writer.flush().unwrap();
    // The sync of the deleted file does not count as one of the next file.
    let left = (IN_FILE + 1..=last).collect::<Vec<_>>();
    assert_eq!(after_power_cut(&case.sim), left);
    check_law(&case.writer.usage());
}

/// The sync began before the preallocated zeros after the records of a full file were cut, so
/// the cut is not durable when the sync ends.
#[test]
fn zeros_that_are_cut_meanwhile_need_another() {
    const LEN: usize = 30;
    let frame_len = frame_len(LEN) as u64;
    let in_file = 1024 / frame_len;
    let (sim, fault) = faulty();
    let gate = Gate::default();
    let storage = Arc::new(gate.behind(fault));
    let (writer, _reader) = config().storage(storage).open().unwrap();
    let append = |id| writer.append(&payload(id, LEN)).unwrap();
    let len = || {
        let files = sim.crash(0).files(DIR).into_iter();
        let lens = files.filter_map(|(name, len)| name.ends_with("-0.dat").then_some(len));
        lens.sum::<u64>()
    };
    // Small syncs that follow one another have zeros preallocated.
    for id in 1..in_file {
        append(id).wait_synced().unwrap();
    }
    assert!(len() > in_file * frame_len);
    gate.close();
    append(in_file).wait_written().unwrap();
    gate.wait_for(1);
    let last = append(in_file + 1);
    gate.open();
    last.wait_written().unwrap();
    assert_eq!(len(), in_file * frame_len);
    // The gate is dropped first, which opens it.
    let _gate = gate;
}
