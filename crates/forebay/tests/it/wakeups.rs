//! Promise 10: no silent stall.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay::storage::sim::Sim;
use forebay::storage::{Access, File, Storage};
use forebay::{Config, ReaderSees, SyncPolicy, TryRecv, WhenFull};

use crate::support::{open, payload, record, small, temp_dir};

#[test]
fn the_last_event_arrives_alone() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&Config::new(dir.path()));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| record(reader.recv().unwrap()).id());
        std::thread::sleep(Duration::from_millis(20));
        writer.append(b"alone").unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

#[test]
fn an_event_nobody_waits_for_is_written_all_the_same() {
    let dir = temp_dir();
    let (writer, _reader) = open(&Config::new(dir.path()));
    writer.append(b"alone").unwrap();
    while std::fs::metadata(dir.path().join("buffer-data-0.dat"))
        .unwrap()
        .len()
        == 0
    {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Regression: once a sync was due later, the I/O thread slept until then, however many records
/// came meanwhile.
#[test]
fn an_event_is_written_soon_while_a_sync_is_due_much_later() {
    let dir = temp_dir();
    let config = Config::new(dir.path()).flush_interval(Duration::from_secs(3600));
    let (writer, _reader) = open(&config);
    writer.append(b"first").unwrap().wait_written().unwrap();
    writer.append(b"second").unwrap();
    let begun = Instant::now();
    while writer.usage().writes < 2 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it is not written"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn space_wakes_a_waiting_writer() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()).max_size(4096));
    let total = 200;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=total {
                writer.append(&payload(n, 100)).unwrap();
            }
        });
        for n in 1..=total {
            let delivery = record(reader.recv().unwrap());
            assert_eq!(delivery.id(), n);
            delivery.ack();
        }
    });
}

#[test]
fn space_wakes_every_waiting_writer() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()).max_size(4096));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let writer = writer.clone();
            scope.spawn(move || {
                for n in 1..=50 {
                    writer.append(&payload(n, 100)).unwrap();
                }
            });
        }
        drop(writer);
        let mut next = 1;
        while let Some(batch) = reader.recv_batch(3, 1 << 20).unwrap() {
            for record in batch.records() {
                assert_eq!(record.id, next);
                next += 1;
            }
            batch.ack();
        }
        assert_eq!(next, 401);
    });
}

#[test]
fn a_wait_for_space_ends_in_time_when_told_to() {
    let dir = temp_dir();
    let policy = WhenFull::BlockFor(Duration::from_millis(20));
    let (writer, _reader) = open(&small(dir.path()).max_size(4096).when_full(policy));
    let error = (0..100)
        .find_map(|n| writer.append(&payload(n, 100)).err())
        .unwrap();
    assert_eq!(error.kind(), forebay::ErrorKind::Full);
}

#[test]
fn closing_ends_the_reader_after_the_last_event() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&Config::new(dir.path()));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut ids = Vec::new();
            while let Some(item) = reader.recv().unwrap() {
                ids.push(record(Some(item)).id());
            }
            ids
        });
        std::thread::sleep(Duration::from_millis(10));
        let other = writer.clone();
        writer.append(b"one").unwrap();
        drop(writer);
        std::thread::sleep(Duration::from_millis(10));
        other.append(b"two").unwrap();
        drop(other);
        assert_eq!(waiting.join().unwrap(), [1, 2]);
    });
}

#[test]
fn a_wait_with_a_limit_ends_at_it() {
    let dir = temp_dir();
    let (_writer, mut reader) = open(&Config::new(dir.path()));
    assert!(matches!(
        reader.recv_timeout(Duration::from_millis(5)).unwrap(),
        TryRecv::Empty
    ));
}

#[test]
fn nobody_waits_for_a_reader_that_is_gone() {
    let dir = temp_dir();
    let (writer, reader) = open(&small(dir.path()).max_size(4096));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| (0..100).find_map(|n| writer.append(&payload(n, 100)).err()));
        std::thread::sleep(Duration::from_millis(20));
        drop(reader);
        let error = waiting.join().unwrap().unwrap();
        assert_eq!(error.kind(), forebay::ErrorKind::ReaderGone);
    });
}

/// Regression: a batch that ended with this error left the write side asleep. Its accepted
/// records were neither written nor synced before something else came.
#[test]
fn what_a_batch_accepted_before_an_error_is_synced_in_time() {
    let dir = temp_dir();
    let (writer, reader) = open(&small(dir.path()).max_size(4096));
    drop(reader);
    // Let the write side fall asleep, with nothing to wake up for.
    std::thread::sleep(Duration::from_millis(20));
    let many: Vec<_> = (0..100).map(|n| payload(n, 100)).collect();
    let error = writer.append_batch(&many).unwrap_err();
    assert_eq!(error.kind(), forebay::ErrorKind::ReaderGone);
    let hang = Instant::now() + Duration::from_secs(60);
    while writer.usage().last_synced_id + 1 < writer.usage().next_record_id {
        assert!(Instant::now() < hang, "{:?}", writer.usage());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(writer.usage().last_synced_id > 0);
}

#[test]
fn a_reader_of_synced_records_is_not_left_waiting_when_nothing_syncs() {
    let dir = temp_dir();
    let config = small(dir.path())
        .reader_sees(ReaderSees::Synced)
        .sync(SyncPolicy::Never);
    let (writer, mut reader) = open(&config);
    writer.append(b"one").unwrap();
    assert_eq!(record(reader.recv().unwrap()).id(), 1);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| record(reader.recv().unwrap()).id());
        std::thread::sleep(Duration::from_millis(20));
        writer.append(b"two").unwrap();
        assert_eq!(waiting.join().unwrap(), 2);
    });
}

/// A disk so slow that records come faster than it writes them.
#[derive(Debug)]
struct SlowDisk(Sim);

#[derive(Debug)]
struct SlowFile(Box<dyn File>);

impl Storage for SlowDisk {
    forward!(0: create_dir list rename delete sync_dir lock map free_bytes);

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        Ok(Box::new(SlowFile(self.0.open(path, access)?)))
    }
}

impl File for SlowFile {
    forward!(0: read_at len sync truncate);

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(1));
        self.0.write_at(buf, offset)
    }
}

/// Records come faster than the disk writes them, so there is always one to write first.
#[test]
fn a_sync_that_somebody_waits_for_comes_while_writing_never_pauses() {
    let config = Config::new("/buffer")
        .sync(SyncPolicy::Never)
        .max_size(1 << 30)
        .batch_size(4096);
    let (writer, _reader) = config
        .storage(Arc::new(SlowDisk(Sim::new())))
        .open()
        .unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                writer.append(&[0; 1000]).unwrap();
            }
        });
        let syncs = || {
            for _ in 0..5 {
                let receipt = writer.append(b"to be synced").unwrap();
                receipt.wait_synced_timeout(Duration::from_secs(10))?;
            }
            Ok::<(), forebay::Error>(())
        };
        let synced = syncs();
        stop.store(true, Ordering::Relaxed);
        synced.unwrap();
    });
}
