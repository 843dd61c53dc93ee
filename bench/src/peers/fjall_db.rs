//! `fjall`: a log-structured key-value store, with numbers as keys.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const ABOUT: About = About {
    name: "fjall",
    kind: "store",
    single: true,
    batched: true,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "XXH3 of blocks and of the journal",
    acks: "keys are removed",
    syncs: "on demand",
    remarks: "LSM tree; keys are numbers; compression of its own choice",
    open: |place| Ok(Box::new(Store::open(place)?)),
};

struct Store {
    database: Database,
    records: Keyspace,
    next: AtomicU64,
}

impl Store {
    fn open(place: &Place) -> Result<Self> {
        let database = Database::builder(&place.dir).open()?;
        let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
        Ok(Self {
            database,
            records,
            next: AtomicU64::new(0),
        })
    }

    fn key(&self) -> [u8; 8] {
        self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    Ok(Arc::new(Store::open(place)?))
}

impl Peer for Store {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        Ok(self.records.insert(self.key(), payload)?)
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        let mut batch = self.database.batch();
        for payload in payloads {
            batch.insert(&self.records, self.key(), *payload);
        }
        Ok(batch.commit()?)
    }

    fn sync(&mut self) -> Result<bool> {
        self.database.persist(PersistMode::SyncAll)?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        let mut taken = self.database.batch();
        for record in self.records.iter() {
            let (key, payload) = record.into_inner()?;
            check.take(&payload)?;
            taken.remove(&self.records, key);
            if taken.len() >= BATCH as usize {
                std::mem::replace(&mut taken, self.database.batch()).commit()?;
            }
        }
        Ok(taken.commit()?)
    }
}

impl Shared for Store {
    fn append_synced(&self, _producer: u32, payload: &[u8]) -> Result<()> {
        self.records.insert(self.key(), payload)?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }
}
