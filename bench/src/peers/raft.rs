//! `raft-engine`: a log of entries for many Raft groups.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen, said};
use forebay_bench::payload::count;
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use std::sync::Arc;

/// The group of a single producer; other producers have the groups after it.
const GROUP: u64 = 1;

pub(super) const ABOUT: About = About {
    name: "raft-engine",
    kind: "log",
    single: true,
    batched: true,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "CRC-32 of each batch, always",
    acks: "a group is compacted to an index",
    syncs: "data, per write (`sync()` does nothing); group commit",
    remarks: "files of 128 MB; entries are protobuf messages; compression off; a group per producer; an index of all in memory",
    open: |place| Ok(Box::new(Log::open(place)?)),
};

/// Tells the engine the index of an entry.
#[derive(Clone)]
struct Numbered;

impl MessageExt for Numbered {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        count(&entry.value).map_or(0, |count| count + 1)
    }
}

struct Log {
    engine: Engine,
    batch: LogBatch,
}

impl Log {
    fn open(place: &Place) -> Result<Self> {
        let config = Config {
            dir: place.dir.to_string_lossy().into_owned(),
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        Ok(Self {
            engine: said(Engine::open(config))?,
            batch: LogBatch::default(),
        })
    }

    fn write(&mut self, payloads: &[&[u8]], sync: bool) -> Result<()> {
        let entries: Vec<_> = payloads.iter().map(|payload| entry(payload)).collect();
        said(self.batch.add_entries::<Numbered>(GROUP, &entries))?;
        said(self.engine.write(&mut self.batch, sync))?;
        Ok(())
    }
}

fn entry(payload: &[u8]) -> BytesValue {
    BytesValue {
        value: payload.to_vec(),
        ..BytesValue::default()
    }
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    Ok(Arc::new(Appender(Log::open(place)?.engine)))
}

impl Peer for Log {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.write(&[payload], false)
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.write(payloads, false)
    }

    fn sync(&mut self) -> Result<bool> {
        // The engine's own `sync` writes an empty batch, and the engine skips an empty
        // batch together with its sync. So this writes a small one.
        said(self.batch.put(GROUP, b"synced".to_vec(), Vec::new()))?;
        said(self.engine.write(&mut self.batch, true))?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.write(payloads, true)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        let mut entries = Vec::new();
        for group in self.engine.raft_groups() {
            let Some((first, last)) = self
                .engine
                .first_index(group)
                .zip(self.engine.last_index(group))
            else {
                continue;
            };
            let mut next = first;
            while next <= last {
                let end = (next + BATCH).min(last + 1);
                entries.clear();
                said(self.engine.fetch_entries_to::<Numbered>(
                    group,
                    next,
                    end,
                    None,
                    &mut entries,
                ))?;
                for entry in &entries {
                    check.take(&entry.value)?;
                }
                self.engine.compact_to(group, end);
                next = end;
            }
        }
        said(self.engine.purge_expired_files())?;
        Ok(())
    }
}

struct Appender(Engine);

impl Shared for Appender {
    fn append_synced(&self, producer: u32, payload: &[u8]) -> Result<()> {
        let mut batch = LogBatch::default();
        said(batch.add_entries::<Numbered>(GROUP + u64::from(producer), &[entry(payload)]))?;
        said(self.0.write(&mut batch, true))?;
        Ok(())
    }
}
