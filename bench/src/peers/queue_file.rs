//! `queue-file`: a queue in one file, used as a ring.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, Sixteen};
use queue_file::QueueFile;

pub(super) const ABOUT: About = About {
    name: "queue-file",
    kind: "queue",
    single: true,
    batched: true,
    durable: Some(Sixteen::Supplied),
    payload_max: usize::MAX,
    sums: "CRC-32, always",
    acks: "the oldest are removed, in order",
    syncs: "each call, or on demand",
    remarks: "one file that doubles; one thread",
    open: |place| Ok(Box::new(Ring::open(place)?)),
};

struct Ring(QueueFile);

impl Ring {
    fn open(place: &Place) -> Result<Self> {
        std::fs::create_dir_all(&place.dir)?;
        let mut file = QueueFile::open(place.dir.join("queue"))?;
        file.set_sync_writes(place.durable);
        Ok(Self(file))
    }
}

impl Peer for Ring {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        Ok(self.0.add(payload)?)
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        Ok(self.0.add_n(payloads)?)
    }

    fn sync(&mut self) -> Result<bool> {
        self.0.sync_all()?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        while !self.0.is_empty() {
            let mut records = self.0.iter();
            let mut taken = 0;
            while taken < BATCH as usize
                && let Some(payload) = records.borrowed_next()
            {
                check.take(payload)?;
                taken += 1;
            }
            if taken == 0 {
                return Err("the iterator ended before the queue".into());
            }
            self.0.remove_n(taken)?;
        }
        Ok(())
    }
}
