//! Syncs that are due for their time. Another thread does them, and nobody waits.

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

/// What nobody waits for happens long before.
const LONG: Duration = Duration::from_secs(60);

fn config() -> Config {
    small(Path::new(DIR)).flush_interval(Duration::from_millis(5))
}

/// A buffer whose first record is being synced because it is time.
struct Syncing {
    /// Opens before the others go, who may be waiting.
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

    /// With records of so many bytes; `fails` says whether the sync will have failed.
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

/// The id of the next record, which is there or soon will be.
fn next_id(reader: &mut Reader) -> u64 {
    match reader.recv_timeout(LONG).unwrap() {
        TryRecv::Ready(item) => record(Some(item)).id(),
        other => panic!("a record was expected, not {other:?}"),
    }
}

#[test]
fn a_due_sync_holds_up_neither_writer_nor_reader() {
    let mut case = Syncing::new(config());
    // Over several files.
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
    // What came meanwhile is due by now, and at the case.gate.
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

/// In the same file, in the next one, and in two more; and where the file was full.
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

/// A write failed while the sync went on, and so did the sync: one failure of the file.
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
        // Long enough for one that does not wait.
        std::thread::sleep(Duration::from_millis(20));
        assert!(!closing.is_finished());
        gate.open();
        closing.join().unwrap().unwrap();
        assert_eq!(after_power_cut(&sim), [1]);
    }
}

/// Everything in the file is acknowledged while it is synced, and it goes.
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
    while first_is_there() {
        std::thread::yield_now();
    }
    assert_eq!(case.writer.usage().last_synced_id, IN_FILE);
    case.gate.open();
    case.writer.flush().unwrap();
    // And the sync is none of the next file.
    let left = (IN_FILE + 1..=last).collect::<Vec<_>>();
    assert_eq!(after_power_cut(&case.sim), left);
    check_law(&case.writer.usage());
}

/// It began before the zeros behind the records of a full file were cut: that they
/// are gone is not durable when it ends.
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
    // Small syncs, one after the other.
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
    // The gate goes first.
    let _gate = gate;
}
