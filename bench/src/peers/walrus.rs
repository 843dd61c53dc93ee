//! `walrus-rust`: a log of topics in files of 1 GB.

use crate::payload::Check;
use crate::peer::{About, Peer, Place, Result, Shared, Sixteen};
use std::sync::Arc;
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

/// The environment variable that says where `walrus-rust` keeps its files.
pub(crate) const DIRECTORY_VARIABLE: &str = "WALRUS_DATA_DIR";
/// The environment variable that keeps `walrus-rust` from printing.
pub(crate) const QUIET_VARIABLE: &str = "WALRUS_QUIET";

const TOPIC: &str = "peers";
/// The most bytes of records read at once.
const READ_BYTES: usize = 1 << 20;
/// The default interval of `walrus-rust` for syncs in the background.
const SYNC_MS: u64 = 200;

pub(super) const ABOUT: About = About {
    name: "walrus-rust",
    kind: "log",
    single: true,
    batched: true,
    durable: Some(Sixteen::Own(share)),
    payload_max: usize::MAX,
    sums: "FNV-1a, always",
    acks: "a read position, kept every 1,000 reads",
    syncs: "data every 200 ms, or before each append returns",
    remarks: "files of 1 GB; io_uring for batches",
    open: |place| Ok(Box::new(Log(open(place)?))),
};

struct Log(Walrus);

fn open(place: &Place) -> Result<Walrus> {
    let schedule = match place.durable {
        true => FsyncSchedule::SyncEach,
        false => FsyncSchedule::Milliseconds(SYNC_MS),
    };
    let consistency = ReadConsistency::AtLeastOnce {
        persist_every: 1_000,
    };
    Ok(Walrus::with_consistency_and_schedule(
        consistency,
        schedule,
    )?)
}

fn share(place: &Place) -> Result<Arc<dyn Shared>> {
    Ok(Arc::new(Log(open(place)?)))
}

impl Peer for Log {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        Ok(self.0.append_for_topic(TOPIC, payload)?)
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        Ok(self.0.batch_append_for_topic(TOPIC, payloads)?)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        match payloads {
            [payload] => self.append(payload),
            _ => self.append_batch(payloads),
        }
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        loop {
            let entries = self.0.batch_read_for_topic(TOPIC, READ_BYTES, true)?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                check.take(&entry.data)?;
            }
        }
    }
}

impl Shared for Log {
    fn append_synced(&self, _producer: u32, payload: &[u8]) -> Result<()> {
        Ok(self.0.append_for_topic(TOPIC, payload)?)
    }
}
