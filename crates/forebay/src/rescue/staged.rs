//! Writes a data file of given records, and checks it.
//!
//! Invariants:
//! - A file is complete and synced, and was read back, once [`StagedFile::finish`] returns.
//! - Memory is bounded: 1 MiB, or one frame that is longer.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::record::{encode, frame_len};
use crate::scan::{Check, ScanOptions, Scanned, Scanner};
use crate::storage::{Access, File, Storage, uninterrupted, write_all};
use crate::sync::pool::Pool;

/// Frames are written together up to this many bytes.
const CHUNK_LEN: usize = 1 << 20;

/// A data file that is being written.
#[derive(Debug)]
pub(super) struct StagedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    /// What is encoded and not yet written, and where it goes.
    chunk: Vec<u8>,
    written: u64,
    records: u64,
    ids: crc32fast::Hasher,
}

impl StagedFile {
    /// Makes the file.
    ///
    /// # Errors
    /// Those of the storage.
    pub(super) fn create(storage: &dyn Storage, path: PathBuf) -> Result<Self> {
        let file = uninterrupted(|| storage.open(&path, Access::CreateNew))
            .map_err(|e| Error::io("create", &path, e))?;
        Ok(Self {
            file: Arc::from(file),
            path,
            chunk: Vec::new(),
            written: 0,
            records: 0,
            ids: crc32fast::Hasher::new(),
        })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Those of the storage.
    pub(super) fn push(&mut self, id: u64, metadata: u32, payload: &[u8]) -> Result<()> {
        let (at, len) = (self.chunk.len(), frame_len(payload.len()));
        if at > 0 && at + len > CHUNK_LEN {
            self.write()?;
        }
        let at = self.chunk.len();
        self.chunk.resize(at + len, 0);
        encode(&mut self.chunk[at..], id, metadata, payload);
        self.ids.update(&id.to_le_bytes());
        self.records += 1;
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        write_all(&*self.file, &self.chunk, self.written)
            .map_err(|e| Error::io("write to", &self.path, e))?;
        self.written += self.chunk.len() as u64;
        self.chunk.clear();
        Ok(())
    }

    /// Syncs the file and reads it back.
    ///
    /// # Errors
    /// Those of the storage; [`ErrorKind::Corrupt`] when what is read is not what was written.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write()?;
        uninterrupted(|| self.file.sync()).map_err(|e| Error::io("sync", &self.path, e))?;
        let options = ScanOptions {
            max_frame_len: u64::MAX,
            check: Check::Checksums,
        };
        let pool = Pool::new(CHUNK_LEN, 2);
        let mut scanner =
            Scanner::over_file(Arc::clone(&self.file), 0, self.written, options, pool);
        let (mut records, mut ids) = (0, crc32fast::Hasher::new());
        loop {
            let at = scanner.offset();
            let item = scanner.next().map_err(|e| Error::read(&self.path, at, e))?;
            match item {
                Some(Scanned::Record(found)) if found.mended.is_none() => {
                    records += 1;
                    ids.update(&found.id.to_le_bytes());
                }
                None if records == self.records
                    && ids.clone().finalize() == self.ids.clone().finalize() =>
                {
                    return Ok(());
                }
                _ => return Err(self.is_not_what_was_written(at)),
            }
        }
    }

    fn is_not_what_was_written(&self, at: u64) -> Error {
        let path = self.path.display();
        Error::with_path(
            ErrorKind::Corrupt,
            &self.path,
            format!(
                "{path} was written and synced, and does not read back as it was written; the \
                 buffer was not changed: check the device, or repair to another one with salvage"
            ),
        )
        .at(at)
    }
}
