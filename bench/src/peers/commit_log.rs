//! `commitlog`: an append-only log of segments with an index.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, said};
use commitlog::message::{MessageBuf, MessageSet};
use commitlog::{CommitLog, LogOptions, ReadLimit};

/// Bytes read at once: many records, and one of any length measured here.
const READ_BYTES: usize = 4 << 20;

pub(super) const ABOUT: About = About {
    name: "commitlog",
    kind: "log",
    single: true,
    batched: true,
    durable: None,
    payload_max: usize::MAX,
    sums: "CRC-32C, always",
    acks: "none; the beginning cannot be dropped",
    syncs: "the index on demand, data never",
    remarks: "segments of 1 GB; batches allowed to be larger than 1 MB",
    open: |place| Ok(Box::new(Log::open(place)?)),
};

struct Log {
    log: CommitLog,
    batch: MessageBuf,
}

impl Log {
    fn open(place: &Place) -> Result<Self> {
        let mut options = LogOptions::new(&place.dir);
        options.message_max_bytes((place.payload_len + 64) * BATCH as usize);
        Ok(Self {
            log: CommitLog::new(options)?,
            batch: MessageBuf::default(),
        })
    }
}

impl Peer for Log {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        said(self.log.append_msg(payload))?;
        Ok(())
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.batch.clear();
        for payload in payloads {
            let pushed = self.batch.push(payload);
            said(pushed.map_err(|error| format!("{error:?}")))?;
        }
        said(self.log.append(&mut self.batch))?;
        Ok(())
    }

    fn append_synced(&mut self, _payloads: &[&[u8]]) -> Result<()> {
        Err("commitlog cannot sync its data".into())
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        let mut next = 0;
        loop {
            let messages = said(self.log.read(next, ReadLimit::max_bytes(READ_BYTES)))?;
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages.iter() {
                check.take(message.payload())?;
                next = message.offset() + 1;
            }
        }
    }
}
