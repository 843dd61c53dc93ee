//! Waits with a time limit of any length.

use std::time::Duration;

use forebay::{Config, Io, TryRecv, WhenFull};

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
