//! Adds records to a buffer that is not open: as a data file of their own, together with a file
//! that says where they come from.
//!
//! Invariants:
//! - A kill or a power cut at any moment leaves the buffer without the records and with the old
//!   file, or with all of them and the new file, or a state that the next opening finishes.
//! - The ids follow those that were given out before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::staged::StagedFile;
use crate::config::{Config, OnCorruption};
use crate::counter::EventCounter;
use crate::directory::install::{self, Installation, List, Out, TRANSFERS_FILE_NAME};
use crate::directory::recovery::{DataFile, RecoveryOptions, create, recover};
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id::{LEDGER_FILE_NAME, file_name};
use crate::format::ledger::LedgerState;
use crate::format::record::{MAX_RECORD_ID, frame_len};
use crate::storage::Storage;
use crate::write::side::synced_mark;

/// Records that are being added.
#[derive(Debug)]
pub(super) struct Addition {
    staged: Staged,
    /// What is deleted when the new file comes.
    out: Vec<Out>,
    /// The ledger afterwards.
    ledger: LedgerState,
    file: StagedFile,
    /// The bytes of the new file, and of the files that are there.
    pub(super) len: u64,
    pub(super) len_before: u64,
}

/// The files that are being made. What is not installed is deleted, as well as that is possible;
/// an opening deletes the rest.
#[derive(Debug)]
struct Staged {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    is_installed: bool,
}

impl Addition {
    /// Begins to add records to the buffer in `dir`, which is made if it is not there. Mends what a
    /// crash has left. The caller holds the lock.
    ///
    /// # Errors
    /// Those of an opening.
    pub(super) fn begin(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        counter: &EventCounter,
    ) -> Result<Self> {
        install::finish(&**storage, dir)?;
        synced_mark::rewrite_unsynced(&**storage, dir)?;
        let options = RecoveryOptions {
            counter: counter.clone(),
            max_frame_len: u64::MAX,
            on_corruption: OnCorruption::Quarantine,
            quarantine_bytes: Config::DEFAULT_MAX_SIZE,
        };
        let recovered = recover(storage, dir, &options)?;
        synced_mark::forget(&**storage, dir)?;
        let mut out = vec![Out::Delete {
            name: LEDGER_FILE_NAME.to_owned(),
        }];
        // An empty file is not left between files with records.
        let file_id = match recovered.writer {
            Some((file_id, 0)) => {
                let name = file_name(file_id);
                out.push(Out::Delete { name });
                file_id
            }
            _ => recovered.next_file_id,
        };
        // With all ids taken there is none for the new file.
        let is_taken = |file: &DataFile| file.file_id == file_id && file.len > 0;
        if recovered.files.iter().any(is_taken) {
            let message = format!(
                "the buffer in {} has as many data files as there can be; what was taken before is \
                 synced there; take records out of it, and begin again",
                dir.display()
            );
            return Err(Error::with_path(ErrorKind::Full, dir, message));
        }
        let reader = recovered.files.get(recovered.acknowledged.0);
        let installation = Installation::begin_without_original(&**storage, dir)?;
        let path = installation.path_of_new(&file_name(file_id));
        Ok(Self {
            staged: Staged {
                storage: Arc::clone(storage),
                dir: dir.to_owned(),
                is_installed: false,
            },
            out,
            ledger: LedgerState {
                writer_next_record_id: recovered.next_id,
                writer_file_id: file_id,
                reader_file_id: reader.map_or(file_id, |file| file.file_id),
                reader_last_record_id: recovered.last_id,
            },
            file: StagedFile::create(&**storage, path)?,
            len: 0,
            len_before: recovered.files.iter().map(|file| file.len).sum(),
        })
    }

    /// Adds a record, and returns its id.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`] if there are no ids left; those of the storage.
    pub(super) fn push(&mut self, metadata: u32, events: u64, payload: &[u8]) -> Result<u64> {
        let id = self.ledger.writer_next_record_id;
        let next_id = id.saturating_add(events);
        if next_id > MAX_RECORD_ID {
            let message = format!(
                "the next record id of the buffer in {} is {id}, and ids end at {MAX_RECORD_ID}; \
                 begin a new buffer",
                self.staged.dir.display()
            );
            let dir = &self.staged.dir;
            return Err(Error::with_path(ErrorKind::Poisoned, dir, message));
        }
        self.file.push(id, metadata, payload)?;
        self.ledger.writer_next_record_id = next_id;
        self.len += frame_len(payload.len()) as u64;
        Ok(id)
    }

    /// Installs the records, and a file with these contents that says where they come from. If
    /// this fails after the installation began, the next opening finishes it.
    ///
    /// # Errors
    /// Those of the storage.
    pub(super) fn commit(mut self, transfers: &[u8]) -> Result<()> {
        let storage = Arc::clone(&self.staged.storage);
        let installation = Installation::resume_without_original(&*storage, &self.staged.dir);
        self.file.finish()?;
        for (name, bytes) in [
            (LEDGER_FILE_NAME, &self.ledger.to_bytes()[..]),
            (TRANSFERS_FILE_NAME, transfers),
        ] {
            create(&*storage, &installation.path_of_new(name), bytes)?;
        }
        self.out.push(Out::Delete {
            name: TRANSFERS_FILE_NAME.to_owned(),
        });
        self.staged.is_installed = true;
        installation.install(&List {
            out: self.out,
            missing: Vec::new(),
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_installed {
            let _ = install::finish(&*self.storage, &self.dir);
        }
    }
}
