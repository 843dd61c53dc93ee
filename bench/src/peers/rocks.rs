//! `rocksdb`: a log-structured key-value store in C++, with numbers as keys.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen};
use rocksdb::{DB, IteratorMode, Options, WriteBatch, WriteOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const ABOUT: About = About {
    name: "rocksdb",
    kind: "store",
    single: true,
    batched: true,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "of blocks and of the WAL's records",
    acks: "ranges of keys are deleted",
    syncs: "the WAL, per write or on demand; group commit",
    remarks: "LSM tree in C++; keys are numbers; built without compression",
    open: |place| Ok(Box::new(Store::open(place)?)),
};

struct Store {
    database: DB,
    writing: WriteOptions,
    next: AtomicU64,
}

impl Store {
    fn open(place: &Place) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        let mut writing = WriteOptions::default();
        writing.set_sync(place.durable);
        Ok(Self {
            database: DB::open(&options, &place.dir)?,
            writing,
            next: AtomicU64::new(0),
        })
    }

    fn key(&self) -> [u8; 8] {
        self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }

    fn put(&self, payload: &[u8]) -> Result<()> {
        Ok(self.database.put_opt(self.key(), payload, &self.writing)?)
    }

    /// Deletes all keys up to this one.
    fn delete_to(&self, last: &[u8]) -> Result<()> {
        let Some(last) = last.first_chunk().copied().map(u64::from_be_bytes) else {
            return Err("a key is not a number".into());
        };
        let mut batch = WriteBatch::default();
        batch.delete_range(0_u64.to_be_bytes(), (last + 1).to_be_bytes());
        Ok(self.database.write_opt(batch, &self.writing)?)
    }
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    Ok(Arc::new(Store::open(place)?))
}

impl Peer for Store {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.put(payload)
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for payload in payloads {
            batch.put(self.key(), payload);
        }
        Ok(self.database.write_opt(batch, &self.writing)?)
    }

    fn sync(&mut self) -> Result<bool> {
        self.database.flush_wal(true)?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        let mut since = 0;
        for record in self.database.iterator(IteratorMode::Start) {
            let (key, payload) = record?;
            check.take(&payload)?;
            since += 1;
            if since == BATCH || check.is_complete() {
                self.delete_to(&key)?;
                since = 0;
            }
        }
        Ok(())
    }
}

impl Shared for Store {
    fn append_synced(&self, _producer: u32, payload: &[u8]) -> Result<()> {
        self.put(payload)
    }
}
