//! `disk_backed_queue`: a channel over an SQLite database.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen};
use disk_backed_queue::{
    DiskBackedReceiver, DiskBackedSender, DurabilityLevel, disk_backed_channel_with_durability,
};
use serde_bytes::ByteBuf;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};

pub(super) const ABOUT: About = About {
    name: "disk_backed_queue",
    kind: "queue",
    single: true,
    batched: true,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "none on reading",
    acks: "removed when received",
    syncs: "nothing (level Off), or each send (Full)",
    remarks: "an SQLite database; payloads as serde_bytes; single sends block, batches are async",
    open: |place| Ok(Box::new(Channel::open(place)?)),
};

struct Channel {
    sender: DiskBackedSender<ByteBuf>,
    receiver: DiskBackedReceiver<ByteBuf>,
    runtime: Runtime,
}

impl Channel {
    fn open(place: &Place) -> Result<Self> {
        std::fs::create_dir_all(&place.dir)?;
        let level = match place.durable {
            true => DurabilityLevel::Full,
            false => DurabilityLevel::Off,
        };
        let runtime = Builder::new_current_thread().build()?;
        let (sender, receiver) = runtime.block_on(disk_backed_channel_with_durability(
            place.dir.join("queue.db"),
            "records".to_owned(),
            None,
            level,
        ))?;
        Ok(Self {
            sender,
            receiver,
            runtime,
        })
    }
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    Ok(Arc::new(Appender(Channel::open(place)?.sender)))
}

impl Peer for Channel {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        Ok(self.sender.blocking_send(ByteBuf::from(payload))?)
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        let items = payloads.iter().map(|p| ByteBuf::from(*p)).collect();
        Ok(self.runtime.block_on(self.sender.send_batch(items))?)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        match payloads {
            [payload] => self.append(payload),
            _ => self.append_batch(payloads),
        }
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        loop {
            let received = self.receiver.recv_batch(BATCH as usize);
            let items = self.runtime.block_on(received)?;
            if items.is_empty() {
                return Ok(());
            }
            for item in &items {
                check.take(item)?;
            }
        }
    }
}

struct Appender(DiskBackedSender<ByteBuf>);

impl Shared for Appender {
    fn append_synced(&self, _producer: u32, payload: &[u8]) -> Result<()> {
        Ok(self.0.blocking_send(ByteBuf::from(payload))?)
    }
}
