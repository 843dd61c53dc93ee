//! Data files that are synced in the background while the next one is written.

use std::sync::Arc;

use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{Reader, ReaderSees, SyncPolicy, Writer};
use shuttle::thread;

use crate::busy::Busy;
use crate::check::check;
use crate::support::{check_law, config, holds, left, open, payload, record};

/// Two records fill a data file. With seven complete files, background syncs begin.
const RECORDS: u8 = 16;

/// Appends so many records that files begin to be synced in the background.
fn fill(writer: &Writer) {
    for n in 0..RECORDS {
        writer.append(&payload(0, n)).unwrap();
    }
}

/// Opens a buffer whose next sync of a data file fails.
fn open_to_fail(policy: SyncPolicy) -> (Sim, Writer, Reader) {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    let storage = Arc::new(Busy(fault.clone()));
    let (writer, reader) = config().sync(policy).storage(storage).open().unwrap();
    fault.fail(Op::Sync, fault.counts()[&Op::Sync] + 1, Errno::Eio);
    (sim, writer, reader)
}

#[test]
fn a_background_sync_wakes_a_reader_of_synced_records() {
    check("a_background_sync_wakes_a_reader_of_synced_records", || {
        let sim = Sim::new();
        let config = config()
            .sync(SyncPolicy::Interval)
            .reader_sees(ReaderSees::Synced);
        let (writer, mut reader) = open(&sim, config);
        let appending = thread::spawn(move || {
            fill(&writer);
            writer
        });
        // No call asks for a sync, and with the clock that stands still none is due.
        for id in 1..=2 {
            let delivery = record(reader.recv().unwrap());
            assert_eq!(delivery.id(), id);
            assert!(holds(&sim.crash(0), delivery.payload()));
        }
        drop((reader, appending.join().unwrap()));
    });
}

#[test]
fn what_is_reported_synced_is_while_syncs_go_on_in_the_background() {
    check(
        "what_is_reported_synced_is_while_syncs_go_on_in_the_background",
        || {
            let sim = Sim::new();
            let (writer, mut reader) = open(&sim, config().sync(SyncPolicy::Never));
            let other = writer.clone();
            let appending = thread::spawn(move || fill(&other));
            let reading = thread::spawn(move || {
                // Some files are deleted while they are synced.
                for id in 1..=5 {
                    let delivery = record(reader.recv().unwrap());
                    assert_eq!(delivery.id(), id);
                    delivery.ack();
                }
                reader
            });
            let usage = writer.usage();
            check_law(&usage);
            let there = |n: u64| holds(&sim.crash(0), &payload(0, n as u8 - 1));
            let synced = usage.last_synced_id;
            assert!((1..=synced).all(|id| there(id) || id <= 5), "{synced}");
            appending.join().unwrap();
            let receipt = writer.append(&payload(0, RECORDS)).unwrap();
            receipt.wait_synced().unwrap();
            assert!((6..=u64::from(RECORDS) + 1).all(there));
            drop((writer, reading.join().unwrap()));
            assert_eq!(left(&sim), (6..=u64::from(RECORDS) + 1).collect::<Vec<_>>());
        },
    );
}

#[test]
fn a_background_sync_that_fails_is_made_good() {
    check("a_background_sync_that_fails_is_made_good", || {
        let (sim, writer, mut reader) = open_to_fail(SyncPolicy::Never);
        let other = writer.clone();
        let appending = thread::spawn(move || fill(&other));
        for id in 1..=4 {
            assert_eq!(record(reader.recv().unwrap()).id(), id);
        }
        appending.join().unwrap();
        writer.flush().unwrap();
        assert_eq!(writer.usage().failed_files, 1);
        let crashed = sim.crash(0);
        assert!((0..RECORDS).all(|n| holds(&crashed, &payload(0, n))));
        for id in 5..=u64::from(RECORDS) {
            assert_eq!(record(reader.recv().unwrap()).id(), id);
        }
        assert_eq!(writer.usage().lost.events, 0);
        drop((writer, reader));
        assert_eq!(left(&sim), (1..=u64::from(RECORDS)).collect::<Vec<_>>());
    });
}

#[test]
fn a_due_sync_that_fails_covers_what_was_written_meanwhile() {
    check(
        "a_due_sync_that_fails_covers_what_was_written_meanwhile",
        || {
            let (sim, writer, mut reader) = open_to_fail(SyncPolicy::Interval);
            let other = writer.clone();
            let appending = thread::spawn(move || {
                for n in 0..3 {
                    let receipt = other.append(&payload(0, n)).unwrap();
                    receipt.wait_written().unwrap();
                }
            });
            for id in 1..=3 {
                assert_eq!(record(reader.recv().unwrap()).id(), id);
            }
            appending.join().unwrap();
            let receipt = writer.append(&payload(0, 3)).unwrap();
            receipt.wait_synced().unwrap();
            assert_eq!(writer.usage().failed_files, 1);
            let crashed = sim.crash(0);
            assert!((0..4).all(|n| holds(&crashed, &payload(0, n))));
            check_law(&writer.usage());
            drop((writer, reader));
            assert_eq!(left(&sim), [1, 2, 3, 4]);
        },
    );
}
