//! The async handles.

mod ahead;
mod sink;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use forebay::aio::{AsyncReader, AsyncWriter};
use forebay::{Config, ErrorKind, Item, SyncPolicy, WhenFull};
use futures_util::{SinkExt, StreamExt};

use crate::support::{payload, record, small, temp_dir};

async fn open(config: &Config) -> (AsyncWriter, AsyncReader) {
    config.clone().open_async().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_go_through_a_full_buffer_in_order() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()).max_size(4096)).await;
    let producer = tokio::spawn(async move {
        for n in 1..=500 {
            assert_eq!(writer.append(&payload(n, 100)).await.unwrap().id(), Some(n));
        }
        writer.close().await.unwrap();
    });
    let mut next = 1;
    while let Some(item) = reader.recv().await.unwrap() {
        let delivery = record(Some(item));
        assert_eq!(
            (delivery.id(), &delivery.payload()[..]),
            (next, &payload(next, 100)[..])
        );
        delivery.ack();
        next += 1;
    }
    assert_eq!(next, 501);
    producer.await.unwrap();
    reader.close().await.unwrap();
}

#[tokio::test]
async fn a_backlog_on_disk_is_read_after_reopening() {
    let dir = temp_dir();
    let config = Config::new(dir.path()).max_size(64 << 20).batch_size(4096);
    let (writer, reader) = open(&config).await;
    for n in 1..=20_000 {
        writer.append(&payload(n, 100)).await.unwrap();
    }
    writer.flush().await.unwrap();
    reader.close().await.unwrap();
    writer.close().await.unwrap();
    let (_writer, mut reader) = open(&config).await;
    let mut next = 1;
    while next <= 20_000 {
        for item in reader.recv_batch(100, u64::MAX).await.unwrap().unwrap() {
            let delivery = record(Some(item));
            assert_eq!(delivery.id(), next);
            next += 1;
            if next <= 10_001 {
                delivery.ack();
            }
        }
    }
    reader.rewind().await.unwrap();
    assert_eq!(record(reader.recv().await.unwrap()).id(), 10_001);
}

/// Polls a future once and drops it.
fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_dropped_append_has_accepted_nothing() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()).max_size(4096)).await;
    let mut accepted = 0;
    while poll_once(writer.append(&payload(accepted, 100))).is_some() {
        accepted += 1;
    }
    for _ in 0..10 {
        assert!(poll_once(writer.append(b"dropped")).is_none());
    }
    assert_eq!(writer.usage().received.events, accepted);
    for _ in 0..accepted {
        record(reader.recv().await.unwrap()).ack();
    }
    writer.append(b"last").await.unwrap();
    assert_eq!(&record(reader.recv().await.unwrap()).payload()[..], b"last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_go_through_a_full_buffer_in_order() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()).max_size(4096)).await;
    let producer = tokio::spawn(async move {
        for first in (1..=500).step_by(100) {
            let batch: Vec<_> = (first..first + 100)
                .map(|n| (n as u32, payload(n, 100)))
                .collect();
            let appended = writer.append_batch_with(&batch).await.unwrap();
            assert_eq!(appended.receipt().id(), Some(first + 99));
        }
        assert!(writer.append_batch::<&[u8]>(&[]).await.is_ok());
        writer.append_batch(&[b"last"]).await.unwrap();
        writer.close().await.unwrap();
    });
    let mut next = 1;
    while let Some(items) = reader.recv_batch(8, 300).await.unwrap() {
        // Three of 100 bytes, or fewer.
        assert!((1..=3).contains(&items.len()), "{}", items.len());
        for item in items {
            let delivery = record(Some(item));
            assert_eq!(delivery.id(), next);
            if next <= 500 {
                assert_eq!(u64::from(delivery.metadata()), next);
                assert_eq!(&delivery.payload()[..], &payload(next, 100)[..]);
            }
            delivery.ack();
            next += 1;
        }
    }
    assert_eq!(next, 502);
    assert_eq!(reader.usage().acknowledged.events, 501);
    assert!(reader.recovery().findings.is_empty());
    producer.await.unwrap();
    reader.close().await.unwrap();
}

#[tokio::test]
async fn a_batch_is_refused_as_a_whole() {
    let dir = temp_dir();
    let config = small(dir.path()).max_size(4096).when_full(WhenFull::Reject);
    let (writer, _reader) = open(&config).await;
    let long = payload(0, 2000);
    let error = writer.append_batch(&[b"fits", &long[..]]).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidRecord);
    let many: Vec<_> = (0..100).map(|n| payload(n, 100)).collect();
    let error = writer.append_batch(&many).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(writer.usage().received.events, 0);
}

#[tokio::test]
async fn a_dropped_batch_keeps_what_it_had_accepted() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()).max_size(4096)).await;
    let many: Vec<_> = (1..=100).map(|n| payload(n, 100)).collect();
    assert!(poll_once(writer.append_batch(&many)).is_none());
    let accepted = writer.usage().received.events;
    assert!((1..100).contains(&accepted), "{accepted}");
    for id in 1..=accepted {
        let delivery = record(reader.recv().await.unwrap());
        assert_eq!(
            (delivery.id(), &delivery.payload()[..]),
            (id, &payload(id, 100)[..])
        );
        delivery.ack();
    }
    assert_eq!(
        writer.append(b"next").await.unwrap().id(),
        Some(accepted + 1)
    );
}

#[tokio::test]
async fn an_append_dropped_while_it_waits_for_the_sync_stays_accepted() {
    let dir = temp_dir();
    let config = Config::new(dir.path()).sync(SyncPolicy::Always);
    let (writer, mut reader) = open(&config).await;
    let _ = poll_once(writer.append(b"dropped"));
    writer.append(b"kept").await.unwrap();
    assert_eq!(writer.usage().received.events, 2);
    assert_eq!(
        &record(reader.recv().await.unwrap()).payload()[..],
        b"dropped"
    );
    assert_eq!(&record(reader.recv().await.unwrap()).payload()[..], b"kept");
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let dir = temp_dir();
    let config = Config::new(dir.path()).max_size(64 << 20).batch_size(4096);
    let (writer, mut reader) = open(&config).await;
    for n in 1..=2000 {
        writer
            .append(&payload(n, 100))
            .await
            .unwrap()
            .synced()
            .await
            .unwrap_or_else(|e| panic!("{e}"));
    }
    let mut next = 1;
    while next <= 2000 {
        let item = match poll_once(reader.recv()) {
            Some(item) => item.unwrap(),
            None => reader.recv().await.unwrap(),
        };
        assert_eq!(record(item).id(), next);
        next += 1;
    }
    assert!(poll_once(reader.recv()).is_none());
    writer.append(b"x").await.unwrap();
    assert_eq!(record(reader.recv().await.unwrap()).id(), 2001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_syncs() {
    let dir = temp_dir();
    let config = Config::new(dir.path()).sync(SyncPolicy::Always);
    let (writer, _reader) = open(&config).await;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    writer.append(&payload(n, 100)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let usage = writer.usage();
    assert_eq!(usage.received.events, 64 * 20);
    assert!(usage.syncs < 64 * 20, "{} syncs", usage.syncs);
}

#[tokio::test]
async fn a_wait_for_space_ends_in_time_when_told_to() {
    let dir = temp_dir();
    let policy = WhenFull::BlockFor(Duration::from_millis(10));
    let (writer, _reader) = open(&small(dir.path()).max_size(4096).when_full(policy)).await;
    for n in 0.. {
        match writer.append(&payload(n, 100)).await {
            Ok(_) => assert!(n < 100),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full);
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_and_a_stream_carry_records() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()).max_size(4096)).await;
    let sender = tokio::spawn(async move {
        let mut sink = writer.into_sink();
        for n in 1..=200 {
            sink.feed(Bytes::from(payload(n, 50))).await.unwrap();
        }
        sink.close().await.unwrap();
    });
    let mut next = 1;
    while let Some(item) = reader.recv().await.unwrap() {
        let Item::Record(delivery) = item else {
            panic!("nothing is lost")
        };
        assert_eq!(&delivery.payload()[..], &payload(next, 50)[..]);
        delivery.ack();
        next += 1;
        if next == 100 {
            let streamed = StreamExt::next(&mut reader).await.unwrap().unwrap();
            record(Some(streamed)).ack();
            next += 1;
        }
    }
    assert_eq!(next, 201);
    sender.await.unwrap();
}

/// Regression: `into_inner` went back to the first record that was not acknowledged, so records
/// that the caller held came a second time.
#[tokio::test]
async fn the_reader_inside_goes_on_behind_what_was_given_out() {
    let dir = temp_dir();
    let config = Config::new(dir.path());
    let (writer, reader) = crate::support::open(&config);
    for n in 1..=100 {
        writer.append(&payload(n, 100)).unwrap();
    }
    drop(reader);
    writer.close().unwrap();
    // Damages record 2, whose loss is returned before the first `into_inner`, and record 10, in
    // the middle of what is read ahead.
    let path = dir.path().join("buffer-data-0.dat");
    let mut bytes = std::fs::read(&path).unwrap();
    for n in [2, 10] {
        bytes[(n - 1) * 144 + 50] ^= 1;
    }
    std::fs::write(&path, bytes).unwrap();

    let (writer, mut reader) = crate::support::open(&config);
    let (mut ids, mut lost, mut held) = (vec![], vec![], vec![]);
    for stop in [4, 9, 20, 99] {
        let mut asynchronous = AsyncReader::new(reader);
        while ids.len() + lost.len() < stop {
            match asynchronous.next().await.unwrap().unwrap() {
                Item::Record(delivery) => {
                    ids.push(delivery.id());
                    held.push(delivery);
                }
                Item::Lost(loss) => lost.push(loss.first_id),
            }
        }
        reader = asynchronous.into_inner().await.unwrap();
    }
    assert_eq!(crate::support::drain_ids(&mut reader), [100]);
    assert_eq!(lost, [2, 10]);
    let intact: Vec<u64> = (1..100).filter(|id| ![2, 10].contains(id)).collect();
    assert_eq!(ids, intact);
    assert_eq!(writer.usage().lost.events, 2);
}
