//! `persistent-queue` over its `redb` store.

use crate::payload::Check;
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen, said};
use persistent_queue::{Builder, Consumer, Durability, Producer, RedbStore};
use std::sync::Arc;

pub(super) const ABOUT: About = About {
    name: "persistent-queue",
    kind: "queue",
    single: true,
    batched: false,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "none on reading",
    acks: "each record",
    syncs: "nothing, or each push; group commit",
    remarks: "a redb database; capacity without a bound",
    open: |place| Ok(Box::new(Queue::open(place)?)),
};

struct Queue {
    producer: Producer<RedbStore>,
    consumer: Consumer<RedbStore>,
}

impl Queue {
    fn open(place: &Place) -> Result<Self> {
        std::fs::create_dir_all(&place.dir)?;
        let durability = match place.durable {
            true => Durability::Group,
            false => Durability::None,
        };
        let store = said(RedbStore::open(place.dir.join("queue.redb")))?;
        let (producer, consumer) = said(
            Builder::new(store)
                .capacity(usize::MAX)
                .durability(durability)
                .open(),
        )?;
        Ok(Self { producer, consumer })
    }
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    Ok(Arc::new(Appender(Queue::open(place)?.producer)))
}

impl Peer for Queue {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        said(self.producer.push(payload))
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        while let Some(item) = said(self.consumer.reserve())? {
            check.take(&item)?;
            said(item.ack())?;
        }
        Ok(())
    }
}

struct Appender(Producer<RedbStore>);

impl Shared for Appender {
    fn append_synced(&self, _producer: u32, payload: &[u8]) -> Result<()> {
        said(self.0.push(payload))
    }
}
