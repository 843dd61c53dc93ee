//! A data file that failed, and the way of its unsynced records to the next.
//!
//! Invariants:
//! - The new file is written and synced before the log and the ledger know it,
//!   and before the old one is cut. A crash in between leaves both; recovery
//!   delivers each id once.
//! - Stream offsets stay: what lay behind the old file's synced length lies at
//!   the start of the new one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::{Current, Trouble, WriteSide, trouble};
use crate::data_file::{Check, ScanOptions, Scanned, Scanner};
use crate::error::{Error, ErrorKind};
use crate::shared::Shared;
use crate::storage::{File, read_full, uninterrupted};
use crate::sync::atomic::Ordering;
use crate::wake::lock;

impl WriteSide {
    /// The current file cannot be trusted beyond its synced length.
    pub(super) fn give_up(
        &mut self,
        shared: &Shared,
        what: &str,
        e: io::Error,
    ) -> Result<(), Trouble> {
        if let Some(current) = self.current.take() {
            let error = Error::io(what, &current.path, e);
            if self.is_second_file {
                // The disk takes nothing any more: a third file would not help.
                return Err(Trouble::Failed(error));
            }
            tracing::error!(%error, synced_len = current.synced_len,
                "giving the data file up at its synced length; going on in the next");
            self.given_up = Some(current);
            lock(&shared.log).zeros_ahead = 0;
            if let Some(unwritten) = &mut self.unwritten {
                unwritten.partly = 0;
            }
            shared.meters.files_given_up.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes what the given-up file holds beyond its synced length to a new
    /// file, under the same stream offsets, and syncs it there.
    pub(super) fn write_given_up_again(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let Some(old) = &self.given_up else {
            return Ok(());
        };
        let from = old.base + old.synced_len;
        let (begin, in_memory) = lock(&shared.log).in_memory_from(from);
        let reread_end = begin.min(old.base + old.len);
        let old_file = (Arc::clone(&old.file), old.path.clone(), old.synced_len);
        let created = self.create(shared, from)?;
        let len = match copy_unsynced(shared, &old_file, reread_end - from, &in_memory, &created) {
            Ok(len) => len,
            Err(trouble) => {
                let _ = shared.storage.delete(&created.path);
                return Err(trouble);
            }
        };
        let Some(old) = self.given_up.take() else {
            return Ok(());
        };
        lock(&shared.log).cut_last(old.synced_len);
        self.adopt(shared, created, len);
        self.dirty_since = None;
        self.is_second_file = true;
        self.cut_given_up(shared, &old);
        self.space_came_back(shared);
        shared.publish_synced();
        Ok(())
    }

    /// The unsynced rest of a given-up file is in the next one now. A crash
    /// before this leaves both; recovery delivers each id once.
    fn cut_given_up(&mut self, shared: &Shared, old: &Current) {
        if let Err(e) = uninterrupted(|| old.file.truncate(old.synced_len)) {
            let error = Error::io("cut", &old.path, e);
            tracing::warn!(%error, "a given-up data file keeps bytes that the next one repeats");
            // A write that failed midway may have left more than was published.
            let len = old.file.len().unwrap_or(old.len);
            self.extra_bytes += len.max(old.len) - old.synced_len;
            let head = lock(&shared.log).head();
            lock(&shared.intake).set_disk(head, self.extra_bytes);
        }
    }
}

/// Copies `reread_len` bytes behind a file's synced length, then the frames
/// still in memory, into a new file, and syncs it. What is read back counts
/// only if every checksum holds.
fn copy_unsynced(
    shared: &Shared,
    old: &(Arc<dyn File>, PathBuf, u64),
    reread_len: u64,
    in_memory: &[Bytes],
    created: &Current,
) -> Result<u64, Trouble> {
    let (old_file, old_path, from) = old;
    let options = ScanOptions {
        max_frame_len: u64::MAX,
        check: Check::Checksums,
    };
    let pool = shared.pool.clone();
    let mut scanner = Scanner::over_file(
        Arc::clone(old_file),
        *from,
        from + reread_len,
        options,
        pool,
    );
    loop {
        match scanner.next() {
            Ok(None) => break,
            Ok(Some(Scanned::Record(found))) if found.mended.is_none() => {}
            Ok(Some(_)) => {
                return Err(Trouble::Failed(Error::with_path(
                    ErrorKind::Poisoned,
                    old_path,
                    format!(
                        "records written to {} behind offset {from} were lost with a failed sync",
                        old_path.display()
                    ),
                )));
            }
            Err(e) => return Err(trouble("read back", old_path, e)),
        }
    }
    let mut len = 0;
    let mut chunk = shared.pool.take();
    while len < reread_len {
        let want = (reread_len - len).min(chunk.len() as u64) as usize;
        let got = read_full(&**old_file, &mut chunk[..want], from + len)
            .map_err(|e| trouble("read back", old_path, e))?;
        if got < want {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(trouble("read back", old_path, error));
        }
        write_all(created, &chunk[..want], len)?;
        len += want as u64;
    }
    for frames in in_memory {
        write_all(created, frames, len)?;
        len += frames.len() as u64;
    }
    uninterrupted(|| created.file.sync()).map_err(|e| trouble("sync", &created.path, e))?;
    Ok(len)
}

fn write_all(to: &Current, mut bytes: &[u8], mut offset: u64) -> Result<(), Trouble> {
    while !bytes.is_empty() {
        match uninterrupted(|| to.file.write_at(bytes, offset)) {
            Ok(0) => {
                let error = io::Error::from(io::ErrorKind::WriteZero);
                return Err(trouble("write to", &to.path, error));
            }
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(e) => return Err(trouble("write to", &to.path, e)),
        }
    }
    Ok(())
}
