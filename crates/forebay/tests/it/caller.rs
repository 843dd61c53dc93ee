//! `Io::Caller`: the caller's thread does the I/O, so every call must end by itself.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use forebay::aio::{AsyncReader, AsyncWriter};
use forebay::{Config, ErrorKind, Io, Item, Reader, TryRecv};

use crate::support::{open, record, temp_dir};

fn try_recv(reader: &mut Reader) -> TryRecv<Item> {
    reader.try_recv().unwrap()
}

fn recv_at_once(reader: &mut Reader) -> TryRecv<Item> {
    reader.recv_timeout(Duration::ZERO).unwrap()
}

fn recv_first_of_batch(reader: &mut Reader) -> TryRecv<Item> {
    match reader.try_recv_batch(1, 1).unwrap() {
        TryRecv::Ready(batch) => {
            let first = batch.into_deliveries().next().unwrap();
            TryRecv::Ready(Item::Record(first))
        }
        TryRecv::Empty => TryRecv::Empty,
        TryRecv::End => TryRecv::End,
    }
}

/// Regression: calls that do not wait did not write, and no other thread does. They returned
/// `Empty` for ever: neither the record nor the end came.
#[test]
fn calls_that_do_not_wait_write_what_was_appended() {
    for recv in [try_recv, recv_at_once, recv_first_of_batch] {
        let dir = temp_dir();
        let (writer, mut reader) = open(&Config::new(dir.path()).io(Io::Caller));
        assert!(matches!(recv(&mut reader), TryRecv::Empty));
        for id in 1..=2 {
            writer.append(b"x").unwrap();
            match recv(&mut reader) {
                TryRecv::Ready(item) => assert_eq!(record(Some(item)).id(), id),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(recv(&mut reader), TryRecv::Empty));
        writer.append(b"x").unwrap();
        drop(writer);
        match recv(&mut reader) {
            TryRecv::Ready(item) => assert_eq!(record(Some(item)).id(), 3),
            other => panic!("{other:?}"),
        }
        assert!(matches!(recv(&mut reader), TryRecv::End));
    }
}

/// A wait that could never end is an error with a message of its own.
#[test]
fn a_wait_for_what_nobody_writes_is_an_error() {
    let dir = temp_dir();
    let (_writer, mut reader) = open(&Config::new(dir.path()).io(Io::Caller));
    let error = reader.recv().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("is read"), "{error}");
    let error = reader.recv_batch(1, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

/// Regression: futures do no I/O, and with `Io::Caller` no thread does, so async handles hung
/// for ever.
#[tokio::test]
async fn async_handles_need_a_thread() {
    let dir = temp_dir();
    let config = Config::new(dir.path()).io(Io::Caller);
    let opened = config.clone().open_async().await;
    let error = opened.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("Io::Caller"), "{error}");

    // Async handles that are made from blocking ones fail in their first call.
    let (writer, reader) = open(&config);
    let receipt = writer.append(b"x").unwrap();
    let kind = |polled: Poll<forebay::Result<()>>| match polled {
        Poll::Ready(Err(error)) => error.kind(),
        other => panic!("{other:?}"),
    };
    let mut context = Context::from_waker(Waker::noop());
    let synced = pin!(receipt.synced()).poll(&mut context);
    assert_eq!(kind(synced), ErrorKind::InvalidConfig);
    let (writer, mut reader) = (AsyncWriter::new(writer.clone()), AsyncReader::new(reader));
    let append = pin!(writer.append(b"x")).poll(&mut context);
    assert_eq!(kind(append.map_ok(drop)), ErrorKind::InvalidConfig);
    let flush = pin!(writer.flush()).poll(&mut context);
    assert_eq!(kind(flush), ErrorKind::InvalidConfig);
    let next = pin!(reader.recv()).poll(&mut context);
    assert_eq!(kind(next.map_ok(drop)), ErrorKind::InvalidConfig);
    let acks = pin!(reader.sync_acks()).poll(&mut context);
    assert_eq!(kind(acks), ErrorKind::InvalidConfig);
}
