//! `segment-buffer`: a spool of compressed segments.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen};
use segment_buffer::{DurabilityPolicy, SegmentBuffer, SegmentConfig};
use serde_bytes::ByteBuf;
use std::sync::Arc;

pub(super) const ABOUT: About = About {
    name: "segment-buffer",
    kind: "queue",
    single: true,
    batched: true,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "none of its own (zstd's framing)",
    acks: "whole segments are removed",
    syncs: "nothing, or each segment and the directory",
    remarks: "a file per flush; zstd, which these payloads suit: they repeat; payloads as serde_bytes",
    open: |place| Ok(Box::new(Buffer(open(place)?))),
};

struct Buffer(SegmentBuffer<ByteBuf>);

fn open(place: &Place) -> Result<SegmentBuffer<ByteBuf>> {
    let durability = match place.durable {
        true => DurabilityPolicy::Maximal,
        false => DurabilityPolicy::Throughput,
    };
    let config = SegmentConfig::builder().durability(durability).build();
    Ok(SegmentBuffer::open(&place.dir, config)?)
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    Ok(Arc::new(Buffer(open(place)?)))
}

impl Peer for Buffer {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.0.append(ByteBuf::from(payload))?;
        Ok(())
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.0
            .append_all(payloads.iter().map(|p| ByteBuf::from(*p)))?;
        Ok(())
    }

    fn append_last(&mut self, payload: &[u8]) -> Result<()> {
        self.append(payload)?;
        Ok(self.0.flush()?)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)?;
        Ok(self.0.flush()?)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        let mut next = self.0.stats().head_sequence;
        loop {
            let items = self.0.read_from(next, BATCH as usize)?;
            if items.is_empty() {
                return Ok(());
            }
            for item in &items {
                check.take(item)?;
            }
            next += items.len() as u64;
            self.0.delete_acked(next - 1)?;
        }
    }
}

impl Shared for Buffer {
    fn append_synced(&self, _producer: u32, payload: &[u8]) -> Result<()> {
        self.0.append(ByteBuf::from(payload))?;
        Ok(self.0.flush()?)
    }
}
