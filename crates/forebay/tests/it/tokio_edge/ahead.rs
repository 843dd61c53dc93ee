//! An async reader reads far ahead of its caller. What it has read and not handed out is unread.

use std::sync::Arc;
use std::time::Duration;

use forebay::aio::AsyncReader;
use forebay::storage::sim::Sim;
use forebay::{Config, Delivery, Item, Reader, Text, TryRecv, TypedItem};
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;

use super::poll_once;
use crate::support::{drain, record};

const LONG: Duration = Duration::from_secs(60);
/// Each payload has 100 bytes.
const FRAME_LEN: usize = 144;

fn config(sim: &Sim) -> Config {
    Config::new("/buffer").storage(Arc::new(sim.clone()))
}

/// A buffer of `count` records, closed; some of them are damaged.
fn backlog(count: u64, damaged: &[u64]) -> Sim {
    let sim = Sim::new();
    let (writer, reader) = config(&sim).open().unwrap();
    for n in 1..=count {
        writer.append(format!("{n:0100}").as_bytes()).unwrap();
    }
    drop(reader);
    writer.close().unwrap();
    let path = "/buffer/buffer-data-0.dat";
    let mut bytes = sim.read_file(path).unwrap();
    for id in damaged {
        bytes[(*id as usize - 1) * FRAME_LEN + 50] ^= 1;
    }
    sim.write_file(path, &bytes).unwrap();
    sim
}

/// The reader of a buffer that ends after its backlog.
fn reader(sim: &Sim) -> Reader {
    let (writer, reader) = config(sim).open().unwrap();
    drop(writer);
    reader
}

/// With one blocking thread: see [`background_is_done`].
fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.max_blocking_threads(1).enable_time();
    builder.build().unwrap()
}

/// Waits until every read that was begun has ended: there is one blocking thread.
async fn background_is_done() {
    spawn_blocking(|| ()).await.unwrap();
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Recv,
    TryRecv,
    Stream,
    Batch,
    TryBatch,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Recv,
        Self::TryRecv,
        Self::Stream,
        Self::Batch,
        Self::TryBatch,
    ];

    /// What one call gives; empty at the end.
    async fn read(self, reader: &mut AsyncReader) -> Vec<Item> {
        match self {
            Self::Recv => reader.recv().await.unwrap().into_iter().collect(),
            Self::TryRecv => loop {
                match reader.try_recv().await.unwrap() {
                    TryRecv::Ready(item) => return vec![item],
                    TryRecv::Empty => tokio::task::yield_now().await,
                    TryRecv::End => return vec![],
                }
            },
            Self::Stream => reader
                .next()
                .await
                .map(Result::unwrap)
                .into_iter()
                .collect(),
            Self::Batch => {
                let batch = reader.recv_batch(3, u64::MAX).await.unwrap();
                batch.into_iter().flatten().collect()
            }
            Self::TryBatch => loop {
                match reader.try_recv_batch(3, u64::MAX).await.unwrap() {
                    TryRecv::Ready(batch) => return batch.into_iter().collect(),
                    TryRecv::Empty => tokio::task::yield_now().await,
                    TryRecv::End => return vec![],
                }
            },
        }
    }
}

/// Regression: records that had been read ahead were handed out although they had been acknowledged
/// meanwhile, and the acknowledgements synced: 1 to 10 came again.
#[test]
fn what_is_acknowledged_after_a_rewind_does_not_come_again() {
    for way in Way::ALL {
        let sim = backlog(10, &[]);
        runtime().block_on(async {
            let mut reader = AsyncReader::new(reader(&sim));
            let mut old = vec![];
            while old.len() < 10 {
                old.push(record(reader.recv().await.unwrap()));
            }
            reader.rewind().await.unwrap();
            assert_eq!(record(reader.recv().await.unwrap()).id(), 1);
            if matches!(way, Way::Batch | Way::TryBatch) {
                // The future is dropped, but its read goes on in the background.
                assert!(poll_once(reader.recv_batch(3, u64::MAX)).is_none());
                background_is_done().await;
            }
            old.into_iter().for_each(Delivery::ack);
            reader.sync_acks().await.unwrap();
            let again = way.read(&mut reader).await;
            assert!(again.is_empty(), "{way:?}: {again:?} is acknowledged");
            assert_eq!(reader.usage().delivered.events, 11, "{way:?}");
            reader.close().await.unwrap();
        });
    }
}

/// The same for values, and if every second record is acknowledged.
#[test]
fn a_value_that_is_acknowledged_after_a_rewind_does_not_come_again() {
    let sim = backlog(10, &[]);
    runtime().block_on(async {
        let (writer, mut reader) = config(&sim).open_typed_async(Text).await.unwrap();
        writer.close().await.unwrap();
        let take = |item: Option<TypedItem<String>>| match item {
            Some(TypedItem::Record { delivery, .. }) => delivery,
            other => panic!("{other:?}"),
        };
        let mut old = vec![];
        while old.len() < 10 {
            old.push(take(reader.recv().await.unwrap()));
        }
        reader.get_mut().rewind().await.unwrap();
        let mut ids = vec![take(reader.recv().await.unwrap()).id()];
        for delivery in old.into_iter().step_by(2) {
            delivery.ack();
        }
        reader.get_mut().sync_acks().await.unwrap();
        for _ in 0..2 {
            ids.push(take(reader.next().await.transpose().unwrap()).id());
        }
        for item in reader.recv_batch(2, u64::MAX).await.unwrap().unwrap() {
            ids.push(take(Some(item)).id());
        }
        while let Some(item) = reader.recv().await.unwrap() {
            ids.push(take(Some(item)).id());
        }
        assert_eq!(ids, [1, 2, 4, 6, 8, 10]);
    });
}

/// Regression: a loss was acknowledged when it was read ahead. If the reader was closed, dropped or
/// stopped before the loss came, nobody was ever told of it.
#[test]
fn a_loss_that_was_only_read_ahead_is_told_in_the_next_life() {
    for ending in [
        "close",
        "close_timeout",
        "drop",
        "drop during a read",
        "stop",
        "stop during a read",
        "close of the reader inside",
    ] {
        // The read may be over before it can be left; then it is begun anew.
        let sim = loop {
            let sim = backlog(10, &[2]);
            if runtime().block_on(end_having_read_ahead(&sim, ending)) {
                break sim;
            }
        };
        assert_eq!(told(&mut reader(&sim)), expected(), "{ending}");
    }
}

/// Takes one record, and ends the reader. False if a read that was to be left was over already.
async fn end_having_read_ahead(sim: &Sim, ending: &str) -> bool {
    let mut reader = AsyncReader::new(reader(sim));
    record(reader.recv().await.unwrap()).ack();
    // Takes back what was read ahead, and reads it again in the background.
    if ending.ends_with("during a read") && poll_once(reader.recv_batch(100, u64::MAX)).is_some() {
        return false;
    }
    if ending.starts_with("stop") {
        reader.stopper().stop();
        assert!(reader.recv().await.unwrap().is_none());
        assert!(reader.recv_batch(100, u64::MAX).await.unwrap().is_none());
    }
    assert_eq!(reader.usage().lost.events, 0, "{ending}");
    match ending {
        "close_timeout" => reader.close_timeout(LONG).await.unwrap(),
        "drop" | "drop during a read" => drop(reader),
        "close of the reader inside" => {
            let inside = reader.into_inner().await.unwrap();
            spawn_blocking(|| inside.close()).await.unwrap().unwrap();
        }
        _ => reader.close().await.unwrap(),
    }
    background_is_done().await;
    true
}

/// Until a loss is handed out, every rewind brings it; after that, none does.
#[test]
fn a_loss_comes_once_however_often_the_reader_goes_back() {
    let sim = backlog(10, &[2]);
    runtime().block_on(async {
        let mut asynchronous = AsyncReader::new(reader(&sim));
        for _ in 0..3 {
            assert_eq!(record(asynchronous.recv().await.unwrap()).id(), 1);
            asynchronous.rewind().await.unwrap();
        }
        record(asynchronous.recv().await.unwrap()).ack();
        let mut inside = asynchronous.into_inner().await.unwrap();
        assert_eq!(told(&mut inside), expected());
        assert_eq!(inside.usage().lost.events, 1);
        inside.rewind();
        assert_eq!(told(&mut inside), &expected()[1..]);
        assert_eq!(inside.usage().lost.events, 1);
        spawn_blocking(|| inside.close()).await.unwrap().unwrap();
    });
}

fn told(reader: &mut Reader) -> Vec<String> {
    let items = drain(reader).into_iter();
    items
        .map(|item| match item {
            Item::Record(delivery) => delivery.id().to_string(),
            Item::Lost(lost) => format!("lost {}..={}", lost.first_id, lost.last_id),
        })
        .collect()
}

/// What comes after record 1 if record 2 is damaged.
fn expected() -> Vec<String> {
    let mut expected = vec!["lost 2..=2".to_owned()];
    expected.extend((3..=10).map(|id| id.to_string()));
    expected
}

/// Regression: records were counted when they were read ahead, and again after each time they were
/// taken back: 100 records handed out once counted as 555.
#[test]
fn a_record_counts_as_delivered_when_it_is_handed_out() {
    let sim = backlog(100, &[50]);
    runtime().block_on(async {
        let mut reader = AsyncReader::new(reader(&sim));
        let mut handed_out = 0;
        for turn in 0.. {
            let way = Way::ALL[turn % Way::ALL.len()];
            let items = way.read(&mut reader).await;
            if items.is_empty() {
                break;
            }
            handed_out += items
                .iter()
                .filter(|item| matches!(item, Item::Record(_)))
                .count() as u64;
            let delivered = reader.usage().delivered;
            assert_eq!(delivered.events, handed_out, "{way:?}");
            assert_eq!(delivered.bytes, handed_out * FRAME_LEN as u64, "{way:?}");
            if turn % 7 == 0 {
                reader = AsyncReader::new(reader.into_inner().await.unwrap());
            }
        }
        assert_eq!(handed_out, 99);
        reader.close().await.unwrap();
    });
}
