//! `okaywal`: a write-ahead log of entries made of chunks.

use crate::payload::Check;
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen};
use okaywal::{
    Configuration, Entry, EntryId, LogManager, ReadChunkResult, SegmentReader, WriteAheadLog,
};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes that a segment has from the beginning; it can grow.
const SEGMENT_BYTES: u32 = 64 << 20;

pub(super) const ABOUT: About = About {
    name: "okaywal",
    kind: "log",
    single: false,
    batched: true,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "CRC-32 of each chunk, if the caller asks (it does here)",
    acks: "none; a callback saves what is in a segment before it is reused",
    syncs: "data at each commit; group commit",
    remarks: "read back by recovery, at opening; checkpoints turned off to keep all; segments of 64 MiB",
    open: |place| Ok(Box::new(Log::open(place)?)),
};

struct Log {
    /// Opened by the first append, because opening reads the log.
    wal: Option<WriteAheadLog>,
    dir: PathBuf,
}

impl Log {
    fn open(place: &Place) -> Result<Self> {
        Ok(Self {
            wal: None,
            dir: place.dir.clone(),
        })
    }

    fn wal(&mut self) -> Result<&WriteAheadLog> {
        if self.wal.is_none() {
            self.wal = Some(recover(&self.dir, Reading(None))?);
        }
        self.wal
            .as_ref()
            .ok_or_else(|| "a log that was opened is gone".into())
    }
}

fn recover(dir: &PathBuf, manager: Reading) -> Result<WriteAheadLog> {
    let configuration = Configuration::default_for(dir)
        .preallocate_bytes(SEGMENT_BYTES)
        .checkpoint_after_bytes(u64::MAX);
    Ok(configuration.open(manager)?)
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    Ok(Arc::new(Appender(recover(&place.dir, Reading(None))?)))
}

fn commit(wal: &WriteAheadLog, payloads: &[&[u8]]) -> Result<()> {
    let mut entry = wal.begin_entry()?;
    for payload in payloads {
        entry.write_chunk(payload)?;
    }
    entry.commit()?;
    Ok(())
}

impl Peer for Log {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        commit(self.wal()?, &[payload])
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        commit(self.wal()?, payloads)
    }

    fn sync(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        // Recovery takes ownership of what gets the records, so the check is lent to it
        // and swapped back.
        let lent = std::mem::replace(check, Check::new(0, 0, 0, Duration::ZERO));
        let lent = Arc::new(Mutex::new(lent));
        let recovered = recover(&self.dir, Reading(Some(Arc::clone(&lent))));
        let mut lent = lent.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(check, &mut lent);
        self.wal = Some(recovered?);
        Ok(())
    }
}

struct Appender(WriteAheadLog);

impl Shared for Appender {
    fn append_synced(&self, _producer: u32, payload: &[u8]) -> Result<()> {
        commit(&self.0, &[payload])
    }
}

/// Hands recovered records to a check, if there is one.
struct Reading(Option<Arc<Mutex<Check>>>);

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

impl LogManager for Reading {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let Some(check) = &self.0 else {
            return Ok(());
        };
        let mut check = check.lock().unwrap_or_else(PoisonError::into_inner);
        while let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
            let payload = chunk.read_all()?;
            if !chunk.check_crc()? {
                return Err(io::Error::other("a chunk's checksum does not match"));
            }
            check.take(&payload).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last_checkpointed_id: EntryId,
        _checkpointed_entries: &mut SegmentReader,
        _wal: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}
