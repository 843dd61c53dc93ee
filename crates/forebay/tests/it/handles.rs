//! Single calls of handles: time limits, outcomes of batches, detached receipts, stopping a
//! reader, errors as other libraries see them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::storage::Storage;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{
    BufferState, Config, ErrorKind, Io, Item, OnCorruption, SyncPolicy, TryRecv, WhenFull,
};

use crate::gate::Gate;
use crate::support::{open, payload, record, small, temp_dir};

/// A time limit that no wait is expected to reach.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

#[test]
fn an_append_can_wait_for_room_otherwise_than_the_policy_says() {
    for when_full in [WhenFull::Block, WhenFull::DropNewest, WhenFull::Reject] {
        let dir = temp_dir();
        let (writer, mut reader) = open(&small(dir.path()).max_size(4096).when_full(when_full));
        let mut there = 0;
        while writer.try_append(&[0; 100]).is_ok() {
            there += 1;
        }
        let error = writer.append_timeout(&[0; 100], SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{when_full:?}");
        let dropped = writer.usage().dropped.events;
        assert_eq!(dropped, 0, "{when_full:?}");
        // Only whole data files are deleted, so all records are acknowledged.
        for _ in 0..there {
            record(reader.recv().unwrap()).ack();
        }
        writer.append_timeout(&[0; 100], LONG).unwrap();
    }
}

#[test]
fn a_batch_tells_what_became_of_it() {
    let dir = temp_dir();
    let config = small(dir.path()).max_size(4096);
    let (writer, _reader) = open(&config.when_full(WhenFull::DropNewest));
    let appended = writer.append_batch(&vec![[7; 100]; 40]).unwrap();
    let usage = writer.usage();
    assert!(appended.dropped() > 0);
    assert_eq!(appended.accepted() + appended.dropped(), 40);
    assert_eq!(appended.dropped() as u64, usage.dropped.events);
    assert_eq!(appended.receipt().id(), Some(appended.accepted() as u64));
    let none = writer.append_batch(&[[7; 100]; 2]).unwrap();
    assert_eq!((none.accepted(), none.dropped()), (0, 2));
    assert_eq!(none.receipt().id(), None);
    assert_eq!(writer.append(&[7; 100]).unwrap().id(), None);
    // Refused as a whole: one of them could never be appended.
    let error = writer
        .append_batch(&[vec![1; 10], vec![1; 1 << 20]])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    assert_eq!((error.accepted(), error.receipt().id()), (0, None));
}

#[test]
fn a_detached_receipt_outlives_the_buffer() {
    let dir = temp_dir();
    let (writer, reader) = open(&small(dir.path()).sync(SyncPolicy::Never));
    let receipt = writer.append(b"one").unwrap().detach();
    let waiting = {
        let receipt = receipt.clone();
        std::thread::spawn(move || receipt.wait_synced())
    };
    waiting.join().unwrap().unwrap();
    writer.close().unwrap();
    reader.close().unwrap();
    assert_eq!(receipt.id(), Some(1));
    receipt.wait_written().unwrap();
    receipt.wait_synced().unwrap();
    // The receipt keeps nothing open.
    open(&small(dir.path()));
}

#[test]
fn a_stopped_reader_ends_and_leaves_what_is_there() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()));
    let stopper = reader.stopper();
    let waiting = std::thread::spawn(move || {
        let ended = reader.recv().unwrap().is_none();
        (ended, reader)
    });
    std::thread::sleep(SHORT);
    stopper.stop();
    let (ended, mut reader) = waiting.join().unwrap();
    assert!(ended && reader.is_stopped());
    writer.append(b"later").unwrap();
    assert!(matches!(reader.try_recv().unwrap(), TryRecv::End));
    assert!(reader.recv_batch(10, 1000).unwrap().is_none());
    assert!(reader.next().is_none());
    drop((writer, reader));
    let (_writer, mut reader) = open(&small(dir.path()));
    assert_eq!(&record(reader.recv().unwrap()).payload()[..], b"later");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_reader_can_be_stopped_while_it_waits() {
    let dir = temp_dir();
    let (_writer, mut reader) = small(dir.path()).open_async().await.unwrap();
    let stopper = reader.stopper();
    let waiting = tokio::spawn(async move { reader.recv().await.unwrap().is_none() });
    tokio::time::sleep(SHORT).await;
    stopper.stop();
    assert!(waiting.await.unwrap());
}

/// An async reader gets the same batches as a blocking one, also after it read items one by one,
/// and after a future that was reading was dropped.
#[tokio::test(flavor = "multi_thread")]
async fn an_async_batch_goes_on_where_single_items_ended() {
    let dir = temp_dir();
    let (writer, reader) = open(&small(dir.path()));
    for n in 1..=200 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let (writer, mut reader) = small(dir.path()).open_async().await.unwrap();
    let mut expected = 1;
    while expected <= 200 {
        if let Some(Item::Record(delivery)) = reader.recv().await.unwrap() {
            assert_eq!(delivery.id(), expected);
            expected += 1;
            delivery.ack();
        }
        // This future is dropped while it reads from the disk, or is ready at once.
        let dropped = reader.recv_batch(7, u64::MAX);
        if let Ok(batch) = tokio::time::timeout(Duration::ZERO, dropped).await {
            let batch = batch.unwrap().unwrap();
            assert!((1..=7).contains(&batch.len()) && !batch.is_empty());
            for item in batch {
                let delivery = record(Some(item));
                assert_eq!(delivery.id(), expected);
                expected += 1;
                delivery.ack();
            }
        }
    }
    assert!(matches!(reader.try_recv().await.unwrap(), TryRecv::Empty));
    let empty = reader.recv_batch_timeout(7, 1000, SHORT).await.unwrap();
    assert!(matches!(empty, TryRecv::Empty));
    assert_eq!(writer.usage().unread.events, 0);
    writer.flush_timeout(LONG).await.unwrap();
    assert!(writer.max_record_size() > 0);
    writer.close_timeout(LONG).await.unwrap();
    assert!(reader.recv().await.unwrap().is_none());
    reader.close_timeout(LONG).await.unwrap();
}

/// The iterator of a batch returns losses where they happened.
#[test]
fn a_batch_iterates_over_records_and_losses_in_order() {
    let dir = temp_dir();
    let (writer, reader) = open(&small(dir.path()));
    for n in 1..=10 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let path = dir.path().join("buffer-data-0.dat");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4 * 144 + 50] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (_writer, mut reader) = open(&small(dir.path()));
    let batch = reader.recv_batch(100, u64::MAX).unwrap().unwrap();
    assert_eq!((batch.len(), batch.lost().len()), (9, 1));
    assert_eq!(batch.records().count(), 9);
    let ids: Vec<_> = batch
        .into_iter()
        .map(|item| match item {
            Item::Record(delivery) => (delivery.id(), true),
            Item::Lost(lost) => (lost.first_id, false),
        })
        .collect();
    let expected: Vec<_> = (1..=10).map(|id| (id, id != 5)).collect();
    assert_eq!(ids, expected);
}

/// A disk whose sync does not return must not keep a program from ending.
#[test]
fn a_close_with_a_time_limit_ends_and_the_closing_goes_on() {
    let gate = Gate::default();
    let disk: Arc<dyn Storage> = Arc::new(gate.behind(Sim::new()));
    let config = || Config::new("/buffer").storage(Arc::clone(&disk));
    let (writer, reader) = config().open().unwrap();
    writer.append(b"kept").unwrap();
    reader.close().unwrap();
    let monitor = writer.monitor();
    assert_eq!(monitor.usage().unwrap().state, BufferState::ReaderGone);
    gate.close();
    let error = writer.close_timeout(SHORT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert_eq!(config().open().unwrap_err().kind(), ErrorKind::Locked);
    gate.open();
    let hang = Instant::now() + LONG;
    while monitor.usage().is_some() {
        assert!(Instant::now() < hang, "closing does not go on");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (_writer, mut reader) = config().open().unwrap();
    assert_eq!(&record(reader.recv().unwrap()).payload()[..], b"kept");
}

#[test]
fn a_caller_that_does_the_work_closes_whatever_the_time() {
    let dir = temp_dir();
    let (writer, reader) = open(&small(dir.path()).io(Io::Caller));
    writer.append(b"kept").unwrap();
    reader.close().unwrap();
    writer.close_timeout(Duration::ZERO).unwrap();
    let (_writer, mut reader) = open(&small(dir.path()));
    record(reader.recv().unwrap()).ack();
}

/// Regression: the message of an error repeated that of its source.
#[test]
fn an_error_does_not_repeat_its_source() {
    let dir = temp_dir();
    let file = dir.path().join("no directory");
    std::fs::write(&file, b"x").unwrap();
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    fault.fail(Op::Lock, 1, Errno::Eio);
    let config = Config::new("/buffer").storage(Arc::new(fault));
    let error = config.open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(!error.to_string().contains(&source), "{error}");
    assert_eq!(format!("{error:#}"), format!("{error}: {source}"));
    let as_io: std::io::Error = error.clone().into();
    assert_eq!(as_io.get_ref().unwrap().to_string(), error.to_string());
    // A kind that `std::io` does not have maps to the closest one.
    let error = Config::new(&file).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotABuffer);
    assert_eq!(
        std::io::Error::from(error).kind(),
        std::io::ErrorKind::InvalidInput
    );
}

#[test]
fn an_error_about_damage_names_its_place() {
    let dir = temp_dir();
    let (writer, reader) = open(&small(dir.path()));
    for n in 1..=10 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let path = dir.path().join("buffer-data-0.dat");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4 * 144 + 50] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let config = small(dir.path()).on_corruption(OnCorruption::Refuse);
    let error = match config.open() {
        Err(error) => error,
        Ok((_writer, mut reader)) => loop {
            if let Err(error) = reader.recv() {
                break error;
            }
        },
    };
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(
        (error.path(), error.offset()),
        (Some(&*path), Some(4 * 144))
    );
}

/// Regression: after a rewind, a loss around records that were acknowledged already counts only
/// the other events. It named as many ids, from its first one on, and the reader then seemed to
/// skip the rest.
#[test]
fn a_loss_around_acknowledged_records_names_all_its_ids() {
    let sim = Sim::new();
    let config = Config::new("/buffer").batch_size(4096);
    let config = config.storage(Arc::new(sim.clone()));
    let (writer, mut reader) = config.open().unwrap();
    // Far more than stays in memory.
    for n in 1..=400 {
        writer.append(&payload(n, 400)).unwrap();
    }
    writer.flush().unwrap();
    for n in 1..=400 {
        let delivery = record(reader.recv().unwrap());
        if n == 3 {
            delivery.ack();
        }
    }
    let path = "/buffer/buffer-data-0.dat";
    let mut bytes = sim.read_file(path).unwrap();
    bytes[440..4 * 440].fill(0);
    sim.write_file(path, &bytes).unwrap();
    reader.rewind();
    assert_eq!(record(reader.recv().unwrap()).id(), 1);
    let Some(Item::Lost(lost)) = reader.recv().unwrap() else {
        panic!("no loss");
    };
    assert_eq!((lost.first_id, lost.last_id, lost.events), (2, 4, 2));
    assert_eq!(writer.usage().lost.events, 2);
    assert!(
        lost.to_string().starts_with("lost 2 events (ids 2 to 4)"),
        "{lost}"
    );
    assert_eq!(record(reader.recv().unwrap()).id(), 5);
}

/// It named this process by its number, as if it were another one.
#[cfg(target_os = "linux")]
#[test]
fn a_buffer_that_this_process_has_open_is_said_to_be_in_use_by_it() {
    let dir = temp_dir();
    let _handles = open(&small(dir.path()));
    let error = small(dir.path()).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let message = error.to_string();
    assert!(message.contains("in use by this process"), "{message}");
}
