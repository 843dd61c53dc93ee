//! `wal-db`: a write-ahead log with a lock-free append.

use crate::payload::Check;
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen};
use std::sync::Arc;
use wal_db::{SegmentedStore, Wal};

const SEGMENT_BYTES: u64 = 64 << 20;
/// The beginning of the log is dropped once in this many records.
const DROP_EVERY: u64 = 10_000;

pub(super) const ABOUT: About = About {
    name: "wal-db",
    kind: "log",
    single: true,
    batched: false,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "CRC-32C, always",
    acks: "whole segments are dropped",
    syncs: "data, on demand; group commit",
    remarks: "segmented, 64 MiB each; only what is synced can be read",
    open: |place| Ok(Box::new(Log(open(place)?))),
};

struct Log(Wal<SegmentedStore>);

fn open(place: &Place) -> Result<Wal<SegmentedStore>> {
    Ok(Wal::open_segmented(&place.dir, SEGMENT_BYTES)?)
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    Ok(Arc::new(Log(open(place)?)))
}

impl Peer for Log {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        let _lsn = self.0.append(payload)?;
        Ok(())
    }

    fn sync(&mut self) -> Result<bool> {
        self.0.sync()?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)?;
        Ok(self.0.sync()?)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        for entry in self.0.iter()? {
            let entry = entry?;
            check.take(entry.data())?;
            if check.taken().is_multiple_of(DROP_EVERY) {
                let _begin = self.0.truncate_before(entry.lsn())?;
            }
        }
        Ok(())
    }
}

impl Shared for Log {
    fn append_synced(&self, _producer: u32, payload: &[u8]) -> Result<()> {
        let _lsn = self.0.append_and_sync(payload)?;
        Ok(())
    }
}
