//! A full buffer and a full disk: writers wait, space wakes them, and the limit
//! holds at every moment.

use forebay::storage::sim::Sim;
use forebay::{ErrorKind, WhenFull};
use shuttle::thread;
use std::time::Duration;

use crate::check::{check, check_in_time};
use crate::support::{config, disk_bytes, left, open, payload, record};

/// Room for four records, and not for a fifth.
const MAX_SIZE: u64 = 8224;

#[test]
fn space_wakes_every_waiting_writer() {
    check("space_wakes_every_waiting_writer", || {
        let sim = Sim::new();
        let (writer, mut reader) = open(&sim, config().max_size(MAX_SIZE));
        let producers: Vec<_> = (0..2)
            .map(|producer| {
                let writer = writer.clone();
                thread::spawn(move || {
                    for n in 0..4 {
                        writer.append(&payload(producer, n)).unwrap();
                    }
                })
            })
            .collect();
        drop(writer);
        let mut id = 0;
        while let Some(item) = reader.recv().unwrap() {
            let delivery = record(Some(item));
            id += 1;
            assert_eq!(delivery.id(), id);
            delivery.ack();
            assert!(disk_bytes(&sim) <= MAX_SIZE);
        }
        assert_eq!(id, 8);
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

#[test]
fn acknowledging_late_and_elsewhere_wakes_a_waiting_writer() {
    check(
        "acknowledging_late_and_elsewhere_wakes_a_waiting_writer",
        || {
            let (writer, mut reader) = open(&Sim::new(), config().max_size(MAX_SIZE));
            for n in 0..4 {
                writer.append(&payload(0, n)).unwrap();
            }
            let held: Vec<_> = (0..4).map(|_| record(reader.recv().unwrap())).collect();
            let acknowledging = thread::spawn(move || held.into_iter().rev().for_each(|d| d.ack()));
            writer.append(&payload(0, 4)).unwrap();
            assert_eq!(record(reader.recv().unwrap()).id(), 5);
            acknowledging.join().unwrap();
        },
    );
}

/// The records are more than all batches hold, and nothing reads them: only the write side can
/// wake the writer.
#[test]
fn a_written_batch_wakes_a_waiting_writer() {
    check("a_written_batch_wakes_a_waiting_writer", || {
        let sim = Sim::new();
        let (writer, reader) = open(&sim, config());
        for n in 0..10 {
            writer.append(&payload(0, n)).unwrap();
        }
        drop(reader);
        writer.close().unwrap();
        assert_eq!(left(&sim), (1..=10).collect::<Vec<_>>());
    });
}

#[test]
fn a_wait_for_space_ends_in_time() {
    check_in_time("a_wait_for_space_ends_in_time", || {
        let policy = WhenFull::BlockFor(Duration::from_secs(1));
        let config = config().max_size(MAX_SIZE).when_full(policy);
        let (writer, _reader) = open(&Sim::new(), config);
        let error = (0..5).find_map(|n| writer.append(&payload(0, n)).err());
        assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::Full));
    });
}

#[test]
fn space_on_a_full_disk_wakes_a_waiting_writer() {
    check("space_on_a_full_disk_wakes_a_waiting_writer", || {
        let sim = Sim::new();
        let (writer, mut reader) = open(&sim, config());
        // Room for the ledger and two data files.
        sim.set_capacity(Some(24 + 2 * 4096));
        let producer = thread::spawn(move || {
            for n in 0..8 {
                writer.append(&payload(0, n)).unwrap();
            }
        });
        for id in 1..=8 {
            let delivery = record(reader.recv().unwrap());
            assert_eq!(delivery.id(), id);
            delivery.ack();
        }
        producer.join().unwrap();
        drop(reader);
        assert!(left(&sim).is_empty());
    });
}

#[test]
fn a_disk_that_stays_full_keeps_nobody_from_closing() {
    check("a_disk_that_stays_full_keeps_nobody_from_closing", || {
        let sim = Sim::new();
        let (writer, reader) = open(&sim, config());
        sim.set_capacity(Some(24 + 4096));
        let other = writer.clone();
        let producer = thread::spawn(move || {
            (0..3).for_each(|n| drop(other.append(&payload(0, n))));
        });
        drop(reader);
        let closed = writer.close();
        producer.join().unwrap();
        drop(closed);
        assert!(left(&sim).len() <= 3);
    });
}
