//! `disk-queue`: a queue in one file of pages.

use crate::payload::Check;
use crate::peer::{About, Peer, Place, Result};
use disk_queue::DiskQueue;

pub(super) const ABOUT: About = About {
    name: "disk-queue",
    kind: "queue",
    single: true,
    batched: false,
    durable: None,
    payload_max: 4089,
    sums: "none",
    acks: "removed when taken",
    syncs: "nothing, ever",
    remarks: "one file that never shrinks; payloads up to 4,089 B; panics on failures",
    open: |place| Ok(Box::new(Queue::open(place)?)),
};

struct Queue(DiskQueue);

impl Queue {
    fn open(place: &Place) -> Result<Self> {
        std::fs::create_dir_all(&place.dir)?;
        let path = place.dir.join("queue");
        Ok(Self(DiskQueue::open(&path.to_string_lossy())))
    }
}

impl Peer for Queue {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.0.enqueue(payload.to_vec());
        Ok(())
    }

    fn append_synced(&mut self, _payloads: &[&[u8]]) -> Result<()> {
        Err("disk-queue cannot sync".into())
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        while let Some(payload) = self.0.dequeue() {
            check.take(&payload)?;
        }
        Ok(())
    }
}
