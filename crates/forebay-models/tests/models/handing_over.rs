//! Batches go from producers to the I/O thread to the reader: in order, each
//! record once, none forgotten.

use forebay::storage::sim::Sim;
use forebay::{Config, Item, ReaderSees, SyncPolicy};
use shuttle::thread;

use crate::check::check;
use crate::support::{check_law, config, left, open, origin, payload, record};

/// Two producers of three records each, and a reader that takes them all.
fn producers_and_reader(config: Config) {
    let sim = Sim::new();
    let (writer, mut reader) = open(&sim, config);
    let producers: Vec<_> = (0..2)
        .map(|producer| {
            let writer = writer.clone();
            thread::spawn(move || {
                for n in 0..3 {
                    writer.append(&payload(producer, n)).unwrap();
                }
            })
        })
        .collect();
    drop(writer);
    let (mut id, mut next) = (1, [0; 2]);
    while let Some(item) = reader.recv().unwrap() {
        let Item::Record(delivery) = item else {
            panic!("nothing is lost, but {item:?}");
        };
        let (producer, n) = origin(delivery.payload());
        assert_eq!((delivery.id(), n), (id, next[usize::from(producer)]));
        next[usize::from(producer)] += 1;
        id += 1;
        delivery.ack();
    }
    assert_eq!(next, [3, 3]);
    for producer in producers {
        producer.join().unwrap();
    }
    reader.close().unwrap();
    assert!(left(&sim).is_empty());
}

#[test]
fn records_arrive_once_and_in_order() {
    check("records_arrive_once_and_in_order", || {
        producers_and_reader(config());
    });
}

#[test]
fn a_record_that_crosses_the_end_of_a_batch_arrives() {
    check("a_record_that_crosses_the_end_of_a_batch_arrives", || {
        let sim = Sim::new();
        // The tenth record crosses the end of a batch, and so does the nineteenth.
        let (writer, mut reader) = open(&sim, config().data_file_size(16 << 10));
        let batch = [[7; 400]; 10];
        let appended = writer.append_batch(&batch).unwrap();
        appended.receipt().wait_written().unwrap();
        let appending = thread::spawn(move || {
            // Only the reader waits for these.
            writer.append_batch(&batch[..9]).unwrap();
            writer
        });
        for id in 1..=19 {
            assert_eq!(record(reader.recv().unwrap()).id(), id);
        }
        drop((appending.join().unwrap(), reader));
        assert_eq!(left(&sim), (1..=19).collect::<Vec<_>>());
    });
}

#[test]
fn records_arrive_once_they_are_synced() {
    check("records_arrive_once_they_are_synced", || {
        producers_and_reader(
            config()
                .sync(SyncPolicy::Always)
                .reader_sees(ReaderSees::Synced),
        );
    });
}

#[test]
fn a_small_record_alone_reaches_a_waiting_reader() {
    check("a_small_record_alone_reaches_a_waiting_reader", || {
        let (writer, mut reader) = open(&Sim::new(), config());
        let reading = thread::spawn(move || {
            let item = reader.recv().unwrap();
            (item, reader)
        });
        // The writer stays open: only the ring of this append can bring the record.
        writer.append(b"alone").unwrap();
        let (item, reader) = reading.join().unwrap();
        assert!(matches!(item, Some(Item::Record(_))), "{item:?}");
        drop((writer, reader));
    });
}

#[test]
fn batches_of_records_arrive_once_and_in_order() {
    check("batches_of_records_arrive_once_and_in_order", || {
        let sim = Sim::new();
        let (writer, mut reader) = open(&sim, config());
        let producer = thread::spawn(move || {
            let payloads: Vec<_> = (0..5).map(|n| payload(0, n)).collect();
            writer.append_batch(&payloads).unwrap();
        });
        let mut id = 1;
        while let Some(batch) = reader.recv_batch(2, 1 << 20).unwrap() {
            for record in batch.records() {
                assert_eq!(record.id, id);
                id += 1;
            }
            batch.ack();
        }
        assert_eq!(id, 6);
        producer.join().unwrap();
        drop(reader);
        assert!(left(&sim).is_empty());
    });
}

#[test]
fn every_snapshot_adds_up() {
    check("every_snapshot_adds_up", || {
        let (writer, mut reader) = open(&Sim::new(), config());
        let watcher = writer.clone();
        let watching = thread::spawn(move || {
            for _ in 0..4 {
                check_law(&watcher.usage());
            }
        });
        let producer = thread::spawn(move || {
            for n in 0..3 {
                writer.append(&payload(0, n)).unwrap();
            }
        });
        while let Some(item) = reader.recv().unwrap() {
            if let Item::Record(delivery) = item {
                delivery.ack();
            }
            check_law(&reader.usage());
        }
        producer.join().unwrap();
        watching.join().unwrap();
    });
}
