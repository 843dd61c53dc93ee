//! Failed writes and syncs while other threads wait: every call returns, and its answer is true.

use std::sync::Arc;

use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{ErrorKind, Reader, SyncPolicy, Writer};
use shuttle::thread;

use crate::busy::Busy;
use crate::check::check;
use crate::support::{config, holds, left, payload};

fn open(sim: &Sim, policy: SyncPolicy) -> (Writer, Reader, Fault) {
    let fault = Fault::of_sim(sim, 0);
    let storage = Arc::new(Busy(fault.clone()));
    let (writer, reader) = config().sync(policy).storage(storage).open().unwrap();
    (writer, reader, fault)
}

#[test]
fn receipts_wait_for_what_is_written_again_after_a_failed_sync() {
    check(
        "receipts_wait_for_what_is_written_again_after_a_failed_sync",
        || {
            let sim = Sim::new();
            let (writer, reader, fault) = open(&sim, SyncPolicy::Never);
            fault.fail(Op::Sync, fault.counts()[&Op::Sync] + 1, Errno::Eio);
            let threads: Vec<_> = (0..2)
                .map(|n| {
                    let (writer, sim) = (writer.clone(), sim.clone());
                    thread::spawn(move || {
                        let payload = vec![n + 1; 100];
                        writer.append(&payload).unwrap().wait_synced().unwrap();
                        assert!(holds(&sim.crash(0), &payload));
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(fault.failures(), 1);
            drop((writer, reader));
            assert_eq!(left(&sim), [1, 2]);
        },
    );
}

#[test]
fn a_poisoned_buffer_answers_everybody() {
    check("a_poisoned_buffer_answers_everybody", || {
        let sim = Sim::new();
        let (writer, mut reader, fault) = open(&sim, SyncPolicy::Always);
        fault.fail_from(Op::Sync, fault.counts()[&Op::Sync] + 1, Errno::Eio);
        let threads: Vec<_> = (0..2)
            .map(|n| {
                let writer = writer.clone();
                thread::spawn(move || writer.append(&payload(n, 0)).map(drop))
            })
            .collect();
        let reading = thread::spawn(move || {
            // Written records are delivered; then the reader gets the error.
            loop {
                match reader.recv() {
                    Ok(Some(_)) => {}
                    other => return other.map(drop),
                }
            }
        });
        let poisoned = |result: forebay::Result<()>| result.unwrap_err().kind();
        for thread in threads {
            assert_eq!(poisoned(thread.join().unwrap()), ErrorKind::Poisoned);
        }
        assert_eq!(poisoned(reading.join().unwrap()), ErrorKind::Poisoned);
        assert_eq!(poisoned(writer.flush()), ErrorKind::Poisoned);
        assert_eq!(poisoned(writer.append(b"x").map(drop)), ErrorKind::Poisoned);
    });
}

#[test]
fn a_failed_write_is_made_again_unnoticed() {
    check("a_failed_write_is_made_again_unnoticed", || {
        let sim = Sim::new();
        let (writer, mut reader, fault) = open(&sim, SyncPolicy::Interval);
        // The mark of what is synced is written before the first record.
        let nth = fault.counts()[&Op::Write] + 3;
        fault.fail(Op::Write, nth, Errno::Eio);
        let producer = thread::spawn(move || {
            for n in 0..5 {
                writer.append(&payload(0, n)).unwrap();
            }
        });
        let mut id = 0;
        while let Some(item) = reader.recv().unwrap() {
            let delivery = crate::support::record(Some(item));
            id += 1;
            assert_eq!(delivery.id(), id);
            delivery.ack();
        }
        assert_eq!(id, 5);
        producer.join().unwrap();
        assert_eq!(fault.failures(), 1);
        drop(reader);
        assert!(left(&sim).is_empty());
    });
}

/// Regression: full batches that are never written kept the thread of a poisoned buffer busy.
#[test]
fn a_poisoned_buffer_rests_whatever_is_ready() {
    check("a_poisoned_buffer_rests_whatever_is_ready", || {
        let sim = Sim::new();
        let (writer, mut reader, fault) = open(&sim, SyncPolicy::Never);
        writer.append(&payload(0, 0)).unwrap();
        writer.flush().unwrap();
        crate::support::record(reader.recv().unwrap()).ack();
        fault.fail_from(Op::MapSync, fault.counts()[&Op::MapSync] + 1, Errno::Eio);
        let other = writer.clone();
        let producer = thread::spawn(move || {
            // Some records are in full batches by the time that the buffer is poisoned.
            for n in 1..6 {
                if other.append(&payload(1, n)).is_err() {
                    return;
                }
            }
        });
        let error = reader.sync_acks().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        producer.join().unwrap();
        for _ in 0..20 {
            thread::yield_now();
        }
        assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    });
}
