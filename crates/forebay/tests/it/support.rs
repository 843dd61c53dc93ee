//! What the tests share: directories, small buffers, records.

use std::path::Path;

use forebay::{Config, Count, Delivery, Item, Reader, TryRecv, Usage, Writer};

/// A directory that is deleted at the end of the test.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Data files of 1 KiB: seven records of 100 bytes each.
pub(crate) fn small(dir: &Path) -> Config {
    Config::new(dir).max_size(64 << 10).data_file_size(1 << 10)
}

pub(crate) fn open(config: &Config) -> (Writer, Reader) {
    config.clone().open().unwrap()
}

/// The payload of the n-th record: `len` bytes that are computed from `n`.
pub(crate) fn payload(n: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|j| (n.wrapping_mul(31) as usize + j * 7) as u8)
        .collect()
}

pub(crate) fn record(item: Option<Item>) -> Delivery {
    match item {
        Some(Item::Record(delivery)) => delivery,
        other => panic!("a record was expected, not {other:?}"),
    }
}

/// Everything that can be read now.
pub(crate) fn drain(reader: &mut Reader) -> Vec<Item> {
    let mut items = Vec::new();
    loop {
        match reader.try_recv().unwrap() {
            TryRecv::Ready(item) => items.push(item),
            TryRecv::Empty | TryRecv::End => return items,
        }
    }
}

/// The ids of everything that can be read now; panics if there is a loss.
pub(crate) fn drain_ids(reader: &mut Reader) -> Vec<u64> {
    drain(reader)
        .into_iter()
        .map(|item| record(Some(item)).id())
        .collect()
}

/// The names of the data files in a directory, in order of their ids.
pub(crate) fn data_files(dir: &Path) -> Vec<String> {
    let mut ids: Vec<u16> = std::fs::read_dir(dir)
        .unwrap()
        .filter_map(|entry| forebay::format::file_id::parse_file_name(&entry.unwrap().file_name()))
        .collect();
    ids.sort_unstable();
    ids.into_iter()
        .map(forebay::format::file_id::file_name)
        .collect()
}

/// Checks that in a snapshot received = acknowledged + unread + dropped + lost.
pub(crate) fn check_law(usage: &Usage) {
    let sum = |part: fn(&Count) -> u64| -> u64 {
        [
            &usage.acknowledged,
            &usage.unread,
            &usage.dropped,
            &usage.lost,
        ]
        .map(part)
        .iter()
        .sum()
    };
    assert_eq!(
        usage.received.events,
        sum(|c| c.events),
        "events: {usage:?}"
    );
    assert_eq!(usage.received.bytes, sum(|c| c.bytes), "bytes: {usage:?}");
}

/// A small pseudorandom generator (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The number in an environment variable, or `default` if it is not set.
pub(crate) fn number_from(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| {
        value
            .parse()
            .unwrap_or_else(|e| panic!("{name}={value}: {e}"))
    })
}
