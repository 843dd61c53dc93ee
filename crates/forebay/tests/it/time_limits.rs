//! Waits with a time limit of any length.

use std::sync::Arc;
use std::time::Duration;

use forebay::storage::sim::Sim;
use forebay::{Config, ErrorKind, Io, SyncPolicy, TryRecv, WhenFull};

use crate::gate::Gate;
use crate::support::{open, payload, record, small, temp_dir};

/// Regression: `Duration::MAX` is the idiom for "no limit". Adding it to the current time
/// overflowed, and every call with a time limit panicked.
#[test]
fn a_limit_beyond_the_end_of_time_is_none() {
    for io in [Io::Thread, Io::Caller] {
        let dir = temp_dir();
        let (writer, mut reader) = open(&Config::new(dir.path()).io(io));
        let receipt = writer.append(b"x").unwrap();
        receipt.wait_synced_timeout(Duration::MAX).unwrap();
        writer.flush_timeout(Duration::MAX).unwrap();
        match reader.recv_timeout(Duration::MAX).unwrap() {
            TryRecv::Ready(item) => record(Some(item)).ack(),
            other => panic!("{other:?}"),
        }
        drop(writer);
        let end = reader.recv_timeout(Duration::MAX).unwrap();
        assert!(matches!(end, TryRecv::End), "{end:?}");
    }
}

/// Regression: the same for the time that an append waits for room. The configuration was
/// accepted, and the first append to a full buffer panicked.
#[test]
fn an_append_may_wait_for_room_without_end() {
    let dir = temp_dir();
    let config = small(dir.path())
        .max_size(4096)
        .when_full(WhenFull::BlockFor(Duration::MAX));
    let (writer, mut reader) = open(&config);
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || {
            for n in 0..100 {
                writer.append(&payload(n, 100)).unwrap();
            }
        });
        for _ in 0..100 {
            record(reader.recv().unwrap()).ack();
        }
        producer.join().unwrap();
    });
}

#[tokio::test]
async fn an_async_append_may_wait_for_room_without_end() {
    let dir = temp_dir();
    let config = small(dir.path())
        .max_size(4096)
        .when_full(WhenFull::BlockFor(Duration::MAX));
    let (writer, mut reader) = config.open_async().await.unwrap();
    let producer = tokio::spawn(async move {
        for n in 0..100 {
            writer.append(&payload(n, 100)).await.unwrap();
        }
    });
    for _ in 0..100 {
        record(reader.recv().await.unwrap()).ack();
    }
    producer.await.unwrap();
}

/// A buffer with little memory for batches.
fn little(gate: &Gate, when_full: WhenFull) -> Config {
    Config::new("/buffer")
        .batch_size(4096)
        .when_full(when_full)
        .storage(Arc::new(gate.behind(Sim::new())))
}

/// Regression: an append that found all memory waiting for the disk waited without a limit,
/// because that "takes only moments". On a disk that hung, `append_timeout` and `try_append` did
/// not return, and the error of the async one said that the buffer was full.
#[test]
fn an_append_does_not_wait_for_a_disk_that_hangs() {
    const TIME: Duration = Duration::from_millis(20);
    let gate = Gate::default();
    let (writer, reader) = open(&little(&gate, WhenFull::Block));
    gate.hold_writes();
    let error = loop {
        match writer.append_timeout(&[0; 1000], TIME) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(error.to_string().contains("hangs"), "{error}");
    let accepted = writer.usage().received.events;
    let error = writer.try_append(&[0; 1000]).unwrap_err();
    assert!(error.to_string().contains("hangs"), "{error}");
    assert_eq!(writer.usage().received.events, accepted);
    gate.open();
    writer.append(b"it goes on").unwrap();
    writer.close().unwrap();
    assert_eq!(reader.usage().received.events, accepted + 1);
}

/// The same for the policies. What is dropped because the disk hangs is counted.
#[test]
fn no_policy_but_block_waits_for_a_disk_that_hangs() {
    let gate = Gate::default();
    let (writer, _reader) = open(&little(&gate, WhenFull::DropNewest));
    gate.hold_writes();
    let dropped = (0..100)
        .filter(|_| writer.append(&[0; 1000]).unwrap().id().is_none())
        .count() as u64;
    assert!((50..100).contains(&dropped), "{dropped}");
    let usage = writer.usage();
    assert_eq!(usage.dropped.events, dropped);
    crate::support::check_law(&usage);
    gate.open();
    assert!(writer.append(b"it goes on").unwrap().id().is_some());
}

#[tokio::test]
async fn an_async_append_does_not_wait_longer_than_it_may_for_a_disk_that_hangs() {
    const TIME: Duration = Duration::from_millis(20);
    let gate = Gate::default();
    let (writer, _reader) = little(&gate, WhenFull::Block).open_async().await.unwrap();
    gate.hold_writes();
    let error = loop {
        match writer.append_timeout(&[0; 1000], TIME).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(error.to_string().contains("hangs"), "{error}");
    gate.open();
    writer.append(b"it goes on").await.unwrap();
}

/// Regression: under `SyncPolicy::Always` the time of `append_timeout` limited the wait for room
/// only, so the call did not return while a sync hung.
#[tokio::test]
async fn an_append_under_always_does_not_wait_longer_than_it_may_for_its_sync() {
    const TIME: Duration = Duration::from_millis(20);
    let gate = Gate::default();
    let (writer, reader) = config_of(&gate).open_async().await.unwrap();
    gate.close();
    let error = writer.append_timeout(b"1", TIME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("accepted"), "{error}");
    gate.open();
    writer.append(b"2").await.unwrap();
    writer.close().await.unwrap();
    reader.close().await.unwrap();

    let (writer, mut reader) = open(&config_of(&gate));
    gate.close();
    let error = writer.append_timeout(b"1", TIME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("accepted"), "{error}");
    gate.open();
    assert_eq!(record(reader.recv().unwrap()).id(), 1);
}

fn config_of(gate: &Gate) -> Config {
    Config::new("/buffer")
        .sync(SyncPolicy::Always)
        .storage(Arc::new(gate.behind(Sim::new())))
}

/// Regression: writes came before the sync of the ledger in the write side's list, and one that
/// found no space ended the list. So who waited for acknowledgements to be synced waited for
/// space as well: with `Io::Caller` always, with a thread when the request came in the moment of
/// a retry.
#[test]
fn acknowledgements_are_synced_although_nothing_can_be_written() {
    for io in [Io::Caller, Io::Thread] {
        let sim = Sim::new();
        let config = Config::new("/buffer")
            .when_full(WhenFull::Reject)
            .io(io)
            .storage(Arc::new(sim.clone()));
        let (writer, mut reader) = config.clone().open().unwrap();
        for n in 0..5 {
            writer.append(&payload(n, 100)).unwrap();
        }
        writer.flush().unwrap();
        sim.set_capacity(Some(sim.used_bytes()));
        writer.append(&payload(5, 100_000)).unwrap();
        for _ in 0..100 {
            match reader.recv_timeout(Duration::from_millis(1)).unwrap() {
                TryRecv::Ready(item) => record(Some(item)).ack(),
                _ => break,
            }
        }
        for _ in 0..50 {
            reader.sync_acks().unwrap();
        }
        let after = config.storage(Arc::new(sim.crash(0))).open().unwrap();
        assert_eq!(after.1.usage().last_acknowledged_id, 5, "{io:?}");
    }
}
