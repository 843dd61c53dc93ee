//! What a peer has to do to be measured, and what the table says about it.
//!
//! Invariant: nothing here makes a peer faster or slower. The trait has the works that
//! are measured and nothing else; everything between two records is the peer's own code,
//! except with [`Sixteen::Supplied`], which the table marks.

use crate::payload::Check;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

/// A result whose error is in the words of what reported it.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Where a peer keeps its files, and what it will be used for.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// A directory of its own.
    pub(crate) dir: PathBuf,
    pub(crate) payload_len: usize,
    /// The most records that will be appended.
    pub(crate) records: u64,
    /// Whether each append has to be synced when it returns.
    pub(crate) durable: bool,
}

/// A peer that is open.
pub(crate) trait Peer {
    /// Appends a record. It need not be synced.
    ///
    /// # Errors
    ///
    /// As the peer's.
    fn append(&mut self, payload: &[u8]) -> Result<()>;

    /// Appends records together. They need not be synced.
    ///
    /// # Errors
    ///
    /// As the peer's.
    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        for payload in payloads {
            self.append(payload)?;
        }
        Ok(())
    }

    /// Appends a record and returns when the operating system has it and all records
    /// before it.
    ///
    /// # Errors
    ///
    /// As the peer's.
    fn append_last(&mut self, payload: &[u8]) -> Result<()> {
        self.append(payload)
    }

    /// Returns when everything is synced; `false` if the peer has no call for
    /// that.
    ///
    /// # Errors
    ///
    /// As the peer's.
    fn sync(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Appends records and returns when they are synced, by one sync if the
    /// peer can do that. Only called of a peer opened to be durable.
    ///
    /// # Errors
    ///
    /// As the peer's.
    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()>;

    /// Reads everything, oldest first, hands each record to `check`, and
    /// acknowledges or removes what was read where the peer can.
    ///
    /// # Errors
    ///
    /// As the peer's, or as the check's.
    fn read(&mut self, check: &mut Check) -> Result<()>;
}

/// A peer that many threads append to.
pub(crate) trait Shared: Send + Sync {
    /// Appends a record and returns when it is synced. `producer` tells the
    /// calling thread from the others.
    ///
    /// # Errors
    ///
    /// As the peer's.
    fn append_synced(&self, producer: u32, payload: &[u8]) -> Result<()>;
}

/// How sixteen producers append durably at the same time.
pub(crate) enum Sixteen {
    /// By the peer's own means.
    Own(fn(&Place) -> Result<Arc<dyn Shared>>),
    /// The peer takes one caller at a time, so the benchmark collects what the
    /// producers wait for and appends it together: more than a mutex would do.
    Supplied,
}

/// A peer, and what readers of the figures have to know about it.
pub(crate) struct About {
    /// The name of the package.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) kind: &'static str,
    /// Whether records can be appended one by one without a sync.
    pub(crate) single: bool,
    /// Whether records can be appended together.
    pub(crate) batched: bool,
    /// How sixteen producers append durably; `None` if an append cannot be synced when
    /// it returns.
    pub(crate) durable: Option<Sixteen>,
    /// The longest payload.
    pub(crate) payload_max: usize,
    /// Which checksums are checked when records are read.
    pub(crate) sums: &'static str,
    /// How records that were read are acknowledged or removed.
    pub(crate) acks: &'static str,
    /// What is synced, and when.
    pub(crate) syncs: &'static str,
    /// Files, format, and settings that differ from the defaults.
    pub(crate) remarks: &'static str,
    pub(crate) open: fn(&Place) -> Result<Box<dyn Peer>>,
}

/// Converts a peer's own result into the benchmark's.
///
/// # Errors
///
/// The same, as text: some errors are neither `Send` nor `'static`.
pub(crate) fn said<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| error.to_string().into())
}

impl About {
    /// Whether the benchmark does the group commit for the peer's producers.
    pub(crate) fn is_supplied(&self) -> bool {
        matches!(self.durable, Some(Sixteen::Supplied))
    }
}
