//! `redb`: a B-tree store of one file, with numbers as keys.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, Sixteen, said};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

pub(super) const ABOUT: About = About {
    name: "redb",
    kind: "store",
    single: true,
    batched: true,
    durable: Some(Sixteen::Supplied),
    payload_max: usize::MAX,
    sums: "none on reading (XXH3 at repair)",
    acks: "keys are removed",
    syncs: "all, per transaction",
    remarks: "copy-on-write B-tree of one file; one writer; a transaction per append",
    open: |place| Ok(Box::new(Store::open(place)?)),
};

struct Store {
    database: Database,
    next: u64,
}

impl Store {
    fn open(place: &Place) -> Result<Self> {
        std::fs::create_dir_all(&place.dir)?;
        Ok(Self {
            database: Database::create(place.dir.join("records.redb"))?,
            next: 0,
        })
    }

    fn insert(&mut self, payloads: &[&[u8]], durability: Durability) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        said(transaction.set_durability(durability))?;
        let mut table = transaction.open_table(RECORDS)?;
        for payload in payloads {
            table.insert(self.next, *payload)?;
            self.next += 1;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    /// Hands some records to the check and removes them.
    fn take(&self, check: &mut Check) -> Result<bool> {
        let reading = self.database.begin_read()?;
        let mut last = None;
        for record in reading
            .open_table(RECORDS)?
            .range::<u64>(..)?
            .take(BATCH as usize)
        {
            let (key, payload) = record?;
            check.take(payload.value())?;
            last = Some(key.value());
        }
        drop(reading);
        let Some(last) = last else {
            return Ok(false);
        };
        let mut transaction = self.database.begin_write()?;
        said(transaction.set_durability(Durability::None))?;
        let mut table = transaction.open_table(RECORDS)?;
        table.retain_in(..=last, |_, _| false)?;
        drop(table);
        transaction.commit()?;
        Ok(true)
    }
}

impl Peer for Store {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.insert(&[payload], Durability::None)
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.insert(payloads, Durability::None)
    }

    fn sync(&mut self) -> Result<bool> {
        self.insert(&[], Durability::Immediate)?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.insert(payloads, Durability::Immediate)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        while !check.is_complete() && self.take(check)? {}
        Ok(())
    }
}
