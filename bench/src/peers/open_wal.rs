//! `open-wal`: a write-ahead log of one writer, durable first.

use crate::payload::Check;
use crate::peer::{About, Peer, Place, Result, Sixteen};
use open_wal::{Lsn, NullObserver, Wal, WalConfig};

/// Records that are appended one by one are committed each time they reach this many bytes.
const COMMIT_BYTES: usize = 1 << 20;

pub(super) const ABOUT: About = About {
    name: "open-wal",
    kind: "log",
    single: true,
    batched: true,
    durable: Some(Sixteen::Supplied),
    payload_max: 1 << 20,
    sums: "CRC-32C, always",
    acks: "whole segments are dropped",
    syncs: "data at each commit, and nothing is written without one",
    remarks: "segments of 128 MiB; single appends are committed each 1 MiB; one writer",
    open: |place| Ok(Box::new(Log::open(place)?)),
};

struct Log {
    wal: Wal<NullObserver>,
    staged: usize,
}

impl Log {
    fn open(place: &Place) -> Result<Self> {
        std::fs::create_dir_all(&place.dir)?;
        let (wal, _report) = Wal::open(&place.dir, WalConfig::default())?;
        Ok(Self { wal, staged: 0 })
    }

    fn commit(&mut self) -> Result<()> {
        self.wal.commit()?;
        self.staged = 0;
        Ok(())
    }
}

impl Peer for Log {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.wal.append(payload)?;
        self.staged += payload.len();
        match self.staged >= COMMIT_BYTES {
            true => self.commit(),
            false => Ok(()),
        }
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        for payload in payloads {
            self.wal.append(payload)?;
        }
        self.commit()
    }

    fn append_last(&mut self, payload: &[u8]) -> Result<()> {
        self.append_batch(&[payload])
    }

    fn sync(&mut self) -> Result<bool> {
        self.commit()?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        let mut last = Lsn(0);
        let mut reader = self.wal.reader_from(last)?;
        while let Some(record) = reader.next() {
            let (lsn, payload) = record?;
            check.take(payload)?;
            last = lsn;
        }
        drop(reader);
        Ok(self.wal.checkpoint(last)?)
    }
}
