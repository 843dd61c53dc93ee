//! The acknowledgement window: acknowledgements from several threads, in any
//! order, while the reader rewinds, deletes and closes.

use std::collections::BTreeSet;

use forebay::storage::sim::Sim;
use forebay::{Item, TryRecv};
use shuttle::thread;

use crate::check::check;
use crate::support::{check_law, config, left, open, payload, record};

#[test]
fn acknowledgements_of_two_threads_make_one_prefix() {
    check("acknowledgements_of_two_threads_make_one_prefix", || {
        let sim = Sim::new();
        let (writer, mut reader) = open(&sim, config());
        for n in 0..6 {
            writer.append(&payload(0, n)).unwrap();
        }
        let (mut even, mut odd) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            even.push(record(reader.recv().unwrap()));
            odd.push(record(reader.recv().unwrap()));
        }
        let backwards = thread::spawn(move || {
            while let Some(delivery) = even.pop() {
                delivery.ack();
            }
        });
        for delivery in odd {
            delivery.ack();
            check_law(&reader.usage());
        }
        backwards.join().unwrap();
        reader.sync_acks().unwrap();
        assert_eq!(reader.usage().last_acknowledged_id, 6);
        // At most the last data file is left.
        drop((writer, reader));
        assert!(left(&sim).is_empty());
        assert!(
            sim.files("/buffer").len() <= 3,
            "{:?}",
            sim.files("/buffer")
        );
    });
}

#[test]
fn a_rewind_among_acknowledgements_repeats_no_more_than_it_must() {
    check(
        "a_rewind_among_acknowledgements_repeats_no_more_than_it_must",
        || {
            let sim = Sim::new();
            let (writer, mut reader) = open(&sim, config());
            for n in 0..4 {
                writer.append(&payload(0, n)).unwrap();
            }
            drop(writer);
            let mut held: Vec<_> = (0..4).map(|_| record(reader.recv().unwrap())).collect();
            let other = held.split_off(2);
            let acks: Vec<_> = [held, other]
                .into_iter()
                .map(|held| thread::spawn(move || held.into_iter().for_each(|d| d.ack())))
                .collect();
            reader.rewind();
            let before = reader.usage().last_acknowledged_id;
            let mut seen = BTreeSet::new();
            let mut last = 0;
            while let Some(item) = reader.recv().unwrap() {
                let delivery = record(Some(item));
                assert!(delivery.id() > last, "{} after {last}", delivery.id());
                last = delivery.id();
                seen.insert(last);
                delivery.ack();
                check_law(&reader.usage());
            }
            for ack in acks {
                ack.join().unwrap();
            }
            assert!(before <= 4 && seen.len() <= 4);
            let usage = reader.usage();
            assert_eq!(
                (usage.last_acknowledged_id, usage.acknowledged.events),
                (4, 4)
            );
            drop(reader);
            assert!(left(&sim).is_empty());
        },
    );
}

#[test]
fn an_acknowledged_prefix_is_never_delivered_again() {
    check("an_acknowledged_prefix_is_never_delivered_again", || {
        let sim = Sim::new();
        let (writer, mut reader) = open(&sim, config());
        for n in 0..4 {
            writer.append(&payload(0, n)).unwrap();
        }
        let held: Vec<_> = (0..4).map(|_| record(reader.recv().unwrap())).collect();
        let acknowledging = thread::spawn(move || held.into_iter().take(3).for_each(|d| d.ack()));
        for _ in 0..2 {
            let acknowledged = reader.usage().last_acknowledged_id;
            reader.rewind();
            if let TryRecv::Ready(Item::Record(delivery)) = reader.try_recv().unwrap() {
                assert!(delivery.id() > acknowledged);
            }
        }
        acknowledging.join().unwrap();
        reader.rewind();
        assert_eq!(record(reader.recv().unwrap()).id(), 4);
        drop((writer, reader));
        assert_eq!(left(&sim), [4]);
    });
}

#[test]
fn an_acknowledgement_during_close_counts_or_does_not() {
    check("an_acknowledgement_during_close_counts_or_does_not", || {
        let sim = Sim::new();
        let (writer, mut reader) = open(&sim, config());
        writer.append(&payload(0, 0)).unwrap();
        let delivery = record(reader.recv().unwrap());
        let acknowledging = thread::spawn(move || delivery.ack());
        writer.close().unwrap();
        reader.close().unwrap();
        let ids = left(&sim);
        assert!(ids.is_empty() || ids == [1], "{ids:?}");
        acknowledging.join().unwrap();
        assert_eq!(left(&sim), ids);
    });
}
