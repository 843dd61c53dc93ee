//! The ledger while a buffer is open: four fields in a mapped file.
//!
//! Invariants:
//! - The layout is [`format::ledger`](crate::format::ledger)'s; every store is
//!   one aligned word, so a crash sees old or new, never half.
//! - The next record id is stored before the records below it can be read, and
//!   the acknowledged id never passes it.
//! - Only the write side stores the next id and the file ids; only the holder
//!   of the acknowledgements' lock stores the acknowledged id.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use crate::error::{Error, Result};
use crate::format::ledger::LedgerState;

use crate::storage::{Access, Map, Storage, uninterrupted, write_all};
use crate::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
pub(crate) struct Ledger {
    map: Box<dyn Map>,
    /// Set by stores, cleared by the write side when it begins a sync.
    dirty: AtomicBool,
    /// The same for the acknowledged id alone.
    acks_dirty: AtomicBool,
}

impl Ledger {
    /// Opens the ledger's file, of 24 bytes, with this state: what recovery believes.
    pub(crate) fn open(storage: &dyn Storage, path: &Path, state: LedgerState) -> Result<Self> {
        write(storage, path, state).map_err(|e| Error::io("write to", path, e))?;
        let map = uninterrupted(|| storage.map(path)).map_err(|e| Error::io("map", path, e))?;
        Ok(Self {
            map,
            // A killed process may have left what it stored unsynced.
            dirty: AtomicBool::new(true),
            acks_dirty: AtomicBool::new(true),
        })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.map.words()[index]
    }

    fn load(&self, index: usize) -> u64 {
        u64::from_le(self.word(index).load(Ordering::Relaxed))
    }

    /// Returns whether this made the ledger dirty.
    fn store(&self, index: usize, value: u64) -> bool {
        let value = value.to_le();
        if self.word(index).load(Ordering::Relaxed) == value {
            return false;
        }
        self.word(index).store(value, Ordering::Release);
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn state(&self) -> LedgerState {
        LedgerState::from_words([self.load(0), self.load(1), self.load(2)])
    }

    /// For the write side only.
    pub(crate) fn set_next_record_id(&self, id: u64) -> bool {
        self.store(0, id)
    }

    /// For the write side only.
    pub(crate) fn set_file_ids(&self, writer: u16, reader: u16) -> bool {
        let state = LedgerState {
            writer_file_id: writer,
            reader_file_id: reader,
            ..self.state()
        };
        self.store(1, state.to_words()[1])
    }

    /// Under the acknowledgements' lock only. Returns whether the ledger was
    /// clean before.
    pub(crate) fn set_reader_last_record_id(&self, id: u64) -> bool {
        let was_clean = self.store(2, id);
        // After the store, so that a sync that misses it leaves this set.
        self.acks_dirty.store(true, Ordering::Release);
        was_clean
    }

    /// Whether the acknowledged id may differ from what is durable: it was
    /// stored since the last sync began, or nothing was synced since open.
    pub(crate) fn has_unsynced_acks(&self) -> bool {
        self.acks_dirty.load(Ordering::Acquire)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    /// Makes the fields durable. After an error the kernel may count the page as clean although it
    /// never reached the disk: a later sync that succeeds proves nothing.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.dirty.store(false, Ordering::Release);
        self.acks_dirty.store(false, Ordering::SeqCst);
        uninterrupted(|| self.map.sync()).inspect_err(|_| {
            self.dirty.store(true, Ordering::Release);
            self.acks_dirty.store(true, Ordering::Release);
        })
    }
}

/// Writes all of the ledger, even if nothing has changed. The previous process may have died after
/// a failed sync. The kernel may then count the page as clean although it never reached the disk,
/// and without this write a sync would succeed and prove nothing.
fn write(storage: &dyn Storage, path: &Path, state: LedgerState) -> io::Result<()> {
    let file = uninterrupted(|| storage.open(path, Access::Write))?;
    write_all(&*file, &state.to_bytes(), 0)
}
