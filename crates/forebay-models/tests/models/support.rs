//! What the models share: a small buffer on a simulated file system.

use std::sync::Arc;

use forebay::storage::sim::Sim;
use forebay::{Config, Delivery, Io, Item, Reader, TryRecv, Usage, Writer};

use crate::busy::Busy;

/// Where the buffer is.
const DIR: &str = "/buffer";

/// Batches of 4 KiB, data files of 4 KiB: two records of
/// [`payload`] fill a batch, and a data file.
pub(crate) fn config() -> Config {
    Config::new(DIR)
        .max_size(64 << 10)
        .data_file_size(4096)
        .batch_size(4096)
}

/// Opens over a storage whose calls take time.
pub(crate) fn open(sim: &Sim, config: Config) -> (Writer, Reader) {
    config.storage(Arc::new(Busy(sim.clone()))).open().unwrap()
}

/// A payload that begins with its producer and number, and fills half a data file.
pub(crate) fn payload(producer: u8, n: u8) -> Vec<u8> {
    let mut payload = vec![0; 1900];
    payload[0] = producer;
    payload[1] = n;
    payload
}

/// The producer and number of a payload.
pub(crate) fn origin(payload: &[u8]) -> (u8, u8) {
    (payload[0], payload[1])
}

pub(crate) fn record(item: Option<Item>) -> Delivery {
    match item {
        Some(Item::Record(delivery)) => delivery,
        other => panic!("a record was expected, not {other:?}"),
    }
}

/// The ids of what is left in the buffer; it must be closed.
pub(crate) fn left(sim: &Sim) -> Vec<u64> {
    let config = config().io(Io::Caller);
    let (writer, mut reader) = config.storage(Arc::new(sim.clone())).open().unwrap();
    drop(writer);
    let mut ids = Vec::new();
    loop {
        match reader.try_recv().unwrap() {
            TryRecv::Ready(item) => ids.push(record(Some(item)).id()),
            TryRecv::Empty | TryRecv::End => return ids,
        }
    }
}

/// Whether these bytes are in a data file.
pub(crate) fn holds(sim: &Sim, payload: &[u8]) -> bool {
    sim.files(DIR).into_iter().any(|(name, _)| {
        let bytes = sim.read_file(format!("{DIR}/{name}")).unwrap_or_default();
        bytes.windows(payload.len()).any(|window| window == payload)
    })
}

/// The bytes that the files of the buffer occupy.
pub(crate) fn disk_bytes(sim: &Sim) -> u64 {
    sim.files(DIR).into_iter().map(|(_, len)| len).sum()
}

/// Checks that `received = acknowledged + unread + dropped + lost`.
pub(crate) fn check_law(usage: &Usage) {
    let Usage {
        received,
        acknowledged,
        unread,
        dropped,
        lost,
        ..
    } = usage;
    let events = acknowledged.events + unread.events + dropped.events + lost.events;
    let bytes = acknowledged.bytes + unread.bytes + dropped.bytes + lost.bytes;
    assert_eq!(
        (received.events, received.bytes),
        (events, bytes),
        "{usage:?}"
    );
}
