//! `rewal`: a write-ahead log behind a writer thread.

use crate::payload::Check;
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen};
use rewal::{Batch, SyncMode, Wal};
use std::sync::Arc;

pub(super) const ABOUT: About = About {
    name: "rewal",
    kind: "log",
    single: true,
    batched: true,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "CRC-32C of each batch, always",
    acks: "none; the file never shrinks",
    syncs: "all, on demand or with each write; group commit",
    remarks: "one file, read through a map",
    open: |place| Ok(Box::new(Log(open(place)?))),
};

struct Log(Wal);

fn open(place: &Place) -> Result<Wal> {
    std::fs::create_dir_all(&place.dir)?;
    let mode = match place.durable {
        true => SyncMode::Batch,
        false => SyncMode::Never,
    };
    Ok(Wal::open(place.dir.join("log")).sync_mode(mode).build()?)
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    Ok(Arc::new(Log(open(place)?)))
}

impl Peer for Log {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.0.append(payload)?;
        Ok(())
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        let mut batch = Batch::with_capacity(payloads.len());
        for payload in payloads {
            batch.add(*payload);
        }
        self.0.append_batch(batch)?;
        Ok(())
    }

    fn append_last(&mut self, payload: &[u8]) -> Result<()> {
        self.0.append(payload)?;
        Ok(self.0.flush()?)
    }

    fn sync(&mut self) -> Result<bool> {
        self.0.flush()?;
        self.0.sync()?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)?;
        Ok(self.0.flush()?)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        let mut records = self.0.iterator(0)?;
        while let Some(record) = records.next_borrowed()? {
            check.take(record.payload)?;
        }
        Ok(())
    }
}

impl Shared for Log {
    fn append_synced(&self, _producer: u32, payload: &[u8]) -> Result<()> {
        self.0.append(payload)?;
        Ok(self.0.flush()?)
    }
}
