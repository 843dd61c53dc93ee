//! Forebay itself, with its defaults; where appends are durable, each batch is
//! synced before its callers go on.

use crate::payload::Check;
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen};
use forebay::{Config, Reader, SyncPolicy, Writer};
use std::sync::Arc;

/// Records and bytes taken from the reader at once.
const TAKE: (usize, usize) = (4_096, 1 << 20);

pub(super) const ABOUT: About = About {
    name: "forebay",
    kind: "queue",
    single: true,
    batched: true,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "CRC-32 of each record, always",
    acks: "each record, in any order",
    syncs: "data every 500 ms, or before each append returns; group commit",
    remarks: "data files of up to 128 MiB and a ledger; bounded size",
    open: |place| Ok(Box::new(Forebay::open(place)?)),
};

struct Forebay {
    writer: Option<Writer>,
    reader: Reader,
}

impl Forebay {
    fn open(place: &Place) -> Result<Self> {
        let bytes = place.records.saturating_mul(place.payload_len as u64 + 64);
        let sync = match place.durable {
            true => SyncPolicy::Always,
            false => SyncPolicy::default(),
        };
        let config = Config::new(&place.dir)
            .max_size(bytes.saturating_mul(2).clamp(1 << 30, 1 << 40))
            .sync(sync);
        let (writer, reader) = config.open()?;
        Ok(Self {
            writer: Some(writer),
            reader,
        })
    }

    fn writer(&self) -> Result<&Writer> {
        let writer = self.writer.as_ref();
        writer.ok_or_else(|| "nothing is appended after reading".into())
    }
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    let Forebay { writer, .. } = Forebay::open(place)?;
    let writer = writer.ok_or("a buffer that was opened has no writer")?;
    Ok(Arc::new(Appender(writer)))
}

impl Peer for Forebay {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.writer()?.append(payload)?;
        Ok(())
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.writer()?.append_batch(payloads)?;
        Ok(())
    }

    fn append_last(&mut self, payload: &[u8]) -> Result<()> {
        self.writer()?.append(payload)?.wait_written()?;
        Ok(())
    }

    fn sync(&mut self) -> Result<bool> {
        self.writer()?.flush()?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        // Without a writer the reader reports the end when the buffer is empty.
        self.writer.take();
        while let Some(batch) = self.reader.recv_batch(TAKE.0, TAKE.1)? {
            for record in batch.records() {
                check.take(record.payload)?;
            }
            batch.ack();
        }
        Ok(())
    }
}

struct Appender(Writer);

impl Shared for Appender {
    fn append_synced(&self, _producer: u32, payload: &[u8]) -> Result<()> {
        self.0.append(payload)?;
        Ok(())
    }
}
