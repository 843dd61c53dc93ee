//! What an append accepts and reports: batches that are refused, full disks, counters whose
//! answers change.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use forebay::aio::{AsyncReader, AsyncWriter};
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{Config, ErrorKind, EventCounter, Io, Reader, SyncPolicy, WhenFull, Writer};

use crate::support::{drain_ids, open, payload, record, small, temp_dir};

const DIR: &str = "/buffer";

/// A time limit that no wait is expected to reach.
const LONG: Duration = Duration::from_secs(60);

/// Every write fails from now on: the disk is full.
fn fill(fault: &Fault) {
    let next = fault.counts().get(&Op::Write).copied().unwrap_or(0) + 1;
    fault.fail_from(Op::Write, next, Errno::Enospc);
}

fn open_over(fault: &Fault, config: Config) -> (Writer, Reader) {
    config.storage(Arc::new(fault.clone())).open().unwrap()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let hang = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < hang, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Regression: a batch of more than three batch buffers waits in its middle for a free one.
/// Other appends took its room meanwhile, and it was refused although it had been found to fit.
#[test]
fn a_batch_that_fits_keeps_its_room_while_it_waits() {
    let dir = temp_dir();
    let config = small(dir.path())
        .data_file_size(16 << 10)
        .batch_size(4096)
        .when_full(WhenFull::Reject);
    let (writer, reader) = open(&config);
    let writer = AsyncWriter::new(writer);
    let batch: Vec<_> = (0..300).map(|n| payload(n, 88)).collect();
    let mut append = Box::pin(writer.append_batch(&batch));
    let mut context = Context::from_waker(Waker::noop());
    let mut polled = append.as_mut().poll(&mut context);
    assert!(polled.is_pending());
    // Other appends take all room but that of the batch.
    let hang = Instant::now() + LONG;
    let mut others = 0;
    loop {
        let other = payload(7, 88);
        let mut append = Box::pin(writer.append(&other));
        match append.as_mut().poll(&mut context) {
            Poll::Ready(Ok(_)) => others += 1,
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::Full);
                break;
            }
            Poll::Pending => std::thread::sleep(Duration::from_millis(1)),
        }
        assert!(Instant::now() < hang);
    }
    // 511 frames of 128 bytes fit.
    assert_eq!(others + 300, 511);
    while polled.is_pending() {
        assert!(Instant::now() < hang);
        std::thread::sleep(Duration::from_millis(1));
        polled = append.as_mut().poll(&mut context);
    }
    match polled {
        Poll::Ready(receipt) => receipt.unwrap(),
        Poll::Pending => unreachable!(),
    };
    assert_eq!(writer.usage().received.events, 511);
    drop(reader);
}

/// Room is kept for a batch while it waits. Dropping its future gives the room back.
#[test]
fn a_batch_that_is_dropped_gives_its_room_back() {
    let dir = temp_dir();
    let config = small(dir.path())
        .data_file_size(16 << 10)
        .batch_size(4096)
        .when_full(WhenFull::Reject);
    let (writer, _reader) = open(&config);
    let asynchronous = AsyncWriter::new(writer.clone());
    let batch: Vec<_> = (0..300).map(|n| payload(n, 88)).collect();
    let mut append = Box::pin(asynchronous.append_batch(&batch));
    let mut context = Context::from_waker(Waker::noop());
    assert!(append.as_mut().poll(&mut context).is_pending());
    drop(append);
    while writer.append(&payload(7, 88)).is_ok() {}
    assert_eq!(writer.usage().received.events, 511);
}

/// Regression: a batch that the disk refused in its middle left its accepted records unwritten,
/// woke no reader, and said both "nothing was accepted" and "the first 103 were accepted".
#[test]
fn what_a_batch_accepted_before_the_disk_was_full_is_delivered() {
    let fault = Fault::of_sim(&Sim::new(), 0);
    let config = Config::new(DIR)
        .max_size(16 << 20)
        .batch_size(4096)
        .when_full(WhenFull::Reject);
    let (writer, mut reader) = open_over(&fault, config);
    fill(&fault);
    let batch: Vec<_> = (0..300).map(|n| payload(n, 88)).collect();
    let error = writer.append_batch(&batch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    let accepted = writer.usage().received.events;
    assert!((1..300).contains(&accepted), "{accepted}");
    assert_eq!(error.accepted() as u64, accepted);
    assert_eq!(error.receipt().id(), Some(accepted));
    let message = error.to_string();
    assert!(!message.contains("nothing was accepted"), "{message}");
    let told = format!("accepted of the batch: {accepted}");
    assert!(message.contains(&told), "{message}");
    // A batch that is refused as a whole says so.
    let message = writer.append_batch(&batch).unwrap_err().to_string();
    assert!(message.contains("was not accepted"), "{message}");
    fault.clear();
    for id in 1..=accepted {
        assert_eq!(record(reader.recv().unwrap()).id(), id);
    }
    // No room is kept for the rest of the batch.
    while writer.usage().received.bytes + 128 <= (16 << 20) - 32 {
        let many = vec![payload(0, 1000); 100];
        if writer.append_batch(&many).is_err() {
            break;
        }
    }
    while writer.append(&payload(0, 88)).is_ok() {}
    assert!(writer.usage().received.bytes + 128 > (16 << 20) - 32);
}

/// Regression: under `SyncPolicy::Always` an append waits for its sync, and on a full disk it
/// waited for ever, whatever its when-full policy. The record is accepted by then and stays so:
/// the error has a kind of its own, and the record is written once there is space.
#[test]
fn an_append_that_waits_for_its_sync_obeys_its_policy_on_a_full_disk() {
    let policies = [
        WhenFull::Reject,
        WhenFull::DropNewest,
        WhenFull::BlockFor(Duration::from_millis(20)),
    ];
    for when_full in policies {
        for io in [Io::Thread, Io::Caller] {
            let fault = Fault::of_sim(&Sim::new(), 0);
            let config = Config::new(DIR)
                .max_size(16 << 20)
                .sync(SyncPolicy::Always)
                .when_full(when_full)
                .io(io);
            let (writer, mut reader) = open_over(&fault, config);
            writer.append(b"there is space").unwrap();
            fill(&fault);
            let error = writer.append(b"accepted").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{when_full:?}: {error}");
            assert!(error.to_string().contains("is accepted"), "{error}");
            assert_eq!(writer.usage().received.events, 2);
            // From now on the buffer knows that the disk is full, and accepts nothing.
            match writer.append(b"refused") {
                Ok(receipt) => assert!(!receipt.accepted() && when_full == WhenFull::DropNewest),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::DiskFull, "{when_full:?}: {error}");
                    assert!(error.to_string().contains("was not accepted"), "{error}");
                }
            }
            assert_eq!(writer.usage().next_record_id, 3);
            fault.clear();
            writer.flush().unwrap();
            assert_eq!(writer.usage().last_synced_id, 2);
            assert_eq!(drain_ids(&mut reader), [1, 2]);
            writer.append(b"goes on").unwrap();
        }
    }
}

/// The test above with async handles.
#[tokio::test]
async fn an_async_append_that_waits_for_its_sync_obeys_its_policy_on_a_full_disk() {
    let policies = [
        WhenFull::Reject,
        WhenFull::DropNewest,
        WhenFull::BlockFor(Duration::from_millis(20)),
    ];
    for when_full in policies {
        let fault = Fault::of_sim(&Sim::new(), 0);
        let config = Config::new(DIR)
            .max_size(16 << 20)
            .sync(SyncPolicy::Always)
            .when_full(when_full);
        let (writer, reader) = open_over(&fault, config);
        let (writer, mut reader) = (AsyncWriter::new(writer), AsyncReader::new(reader));
        writer.append(b"there is space").await.unwrap();
        fill(&fault);
        let error = writer.append(b"accepted").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{when_full:?}: {error}");
        assert_eq!(writer.usage().received.events, 2);
        match writer.append(b"refused").await {
            Ok(receipt) => assert!(!receipt.accepted() && when_full == WhenFull::DropNewest),
            Err(error) => assert_eq!(error.kind(), ErrorKind::DiskFull, "{when_full:?}: {error}"),
        }
        fault.clear();
        writer.flush().await.unwrap();
        for id in 1..=2 {
            assert_eq!(record(reader.recv().await.unwrap()).id(), id);
        }
    }
}

/// Regression: a producer that waited for room when the reader was dropped was told that the
/// buffer is full. A loop that retries on that error would never end.
#[test]
fn a_full_buffer_whose_reader_is_gone_is_closed_for_appends() {
    for when_full in [WhenFull::Block, WhenFull::BlockFor(LONG), WhenFull::Reject] {
        let dir = temp_dir();
        let config = small(dir.path()).max_size(4096).when_full(when_full);
        let (writer, reader) = open(&config);
        let waits = std::thread::scope(|scope| {
            let fill = || (0..100).find_map(|n| writer.append(&payload(n, 100)).err());
            let waiting = scope.spawn(fill);
            wait_until("the buffer fills", || writer.usage().received.events >= 28);
            drop(reader);
            waiting.join().unwrap()
        });
        let error = match when_full {
            // The append above does not wait, so it may have failed before the reader was
            // dropped.
            WhenFull::Reject => writer.append(&payload(0, 100)).unwrap_err(),
            _ => waits.unwrap(),
        };
        assert_eq!(error.kind(), ErrorKind::ReaderGone, "{error}");
        assert!(
            error.to_string().contains("its reader is closed"),
            "{error}"
        );
        let batch = writer.append_batch(&[payload(0, 100)]).unwrap_err();
        assert_eq!(batch.kind(), ErrorKind::ReaderGone, "{batch}");
    }
}

/// Regression: a batch asked the counter once to check a record and again to give out its ids,
/// and did not check the second answer. With a counter whose answers change, ids came twice.
#[test]
fn a_batch_asks_the_counter_once() {
    let dir = temp_dir();
    let asked = Arc::new(AtomicU64::new(0));
    let answers = Arc::clone(&asked);
    // First 3, then 0: with the second answer, ids would not move on.
    let counter = EventCounter::new(move |_, _| match answers.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => 3,
        _ => 0,
    });
    let (writer, reader) = open(&Config::new(dir.path()).event_counter(counter));
    let receipt = writer.append_batch(&[&[1; 10], &[2; 10]]).unwrap();
    assert_eq!((receipt.accepted(), receipt.receipt().id()), (2, Some(4)));
    assert_eq!(writer.usage().next_record_id, 7);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    drop(reader);
}
