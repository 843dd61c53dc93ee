//! Data files that failed, and the way of their unsynced records to new ones.
//!
//! With a file that failed go those behind it, in order: nothing in them may come
//! before what it held.
//!
//! Invariants:
//! - A new file is written and synced before the log and the ledger know it,
//!   and before the old one is cut. A crash in between leaves both; recovery
//!   delivers each id once.
//! - Stream offsets stay: what lay behind the old file's synced length lies at
//!   the start of the new one.
//! - One file is moved at a time, so no more than one stands twice.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::files::{NotSynced, OpenFile};
use super::{Trouble, WriteSide, trouble};
use crate::data_file::{Check, ScanOptions, Scanned, Scanner};
use crate::error::{Error, ErrorKind};
use crate::shared::Shared;
use crate::storage::{File, read_full, uninterrupted};
use crate::sync::atomic::Ordering;
use crate::wake::lock;

impl WriteSide {
    pub(super) fn has_given_up(&self) -> bool {
        !self.given_up.is_empty()
    }

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
            self.note_given_up(shared, &error, current.synced_len);
            self.given_up.push_back(current);
        }
        Ok(())
    }

    /// The oldest of the rolled files cannot be trusted beyond its synced length.
    pub(super) fn give_up_rolled(&mut self, shared: &Shared, e: io::Error) {
        let behind = std::mem::take(&mut self.given_up);
        self.given_up.extend(self.rolled.take_all());
        if let Some(oldest) = self.given_up.front() {
            let (error, synced_len) = (Error::io("sync", &oldest.path, e), oldest.synced_len);
            self.note_given_up(shared, &error, synced_len);
        }
        self.given_up
            .extend(behind.into_iter().chain(self.current.take()));
    }

    fn note_given_up(&mut self, shared: &Shared, error: &Error, synced_len: u64) {
        tracing::error!(%error, synced_len,
            "giving the data file up at its synced length; going on in the next");
        lock(&shared.log).zeros_ahead = 0;
        self.dirty_since = None;
        shared.meters.files_given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes what the first given-up file holds beyond its synced length to a
    /// new file, under the same stream offsets, and syncs it there. The new file
    /// of the last one is the current file.
    pub(super) fn write_given_up_again(&mut self, shared: &Shared) -> Result<(), Trouble> {
        if !self.rolled.is_empty() {
            // What lies before it must be synced before it.
            return self.sync_oldest(shared);
        }
        let Some(old) = self.given_up.front() else {
            return Ok(());
        };
        let (from, to) = (old.base + old.synced_len, old.base + old.len);
        let (begin, in_memory) = lock(&shared.log).in_memory(from, to);
        let reread_end = begin.min(to);
        let old_file = (Arc::clone(&old.file), old.path.clone(), old.synced_len);
        let mut created = self.create(shared, from)?;
        let copied = copy_unsynced(shared, &old_file, reread_end - from, &in_memory, &created);
        let synced = copied.and_then(|()| {
            created.len = to - from;
            created.sync(shared).map_err(|e| match e {
                NotSynced::File(e) => trouble("sync", &created.path, e),
                NotSynced::Entry(e) => trouble("sync the directory", &shared.dir, e),
            })
        });
        if let Err(trouble) = synced {
            let _ = shared.storage.delete(&created.path);
            return Err(trouble);
        }
        let Some(old) = self.given_up.pop_front() else {
            return Ok(());
        };
        self.put_in_place(shared, &created, &old);
        self.cut_given_up(shared, &old);
        if self.given_up.is_empty() {
            self.go_on_in(shared, created);
            self.is_second_file = true;
            let end = lock(&shared.log).written;
            shared.publish_synced(end);
        } else {
            self.note_head_end(shared);
        }
        self.space_came_back(shared);
        Ok(())
    }

    /// The unsynced rest of a given-up file is in another one now. A crash
    /// before this leaves both; recovery delivers each id once.
    fn cut_given_up(&mut self, shared: &Shared, old: &OpenFile) {
        let Err(e) = uninterrupted(|| old.file.truncate(old.synced_len)) else {
            return;
        };
        if old.synced_len == 0 && shared.storage.delete(&old.path).is_ok() {
            return;
        }
        let error = Error::io("cut", &old.path, e);
        tracing::warn!(%error, "a given-up data file keeps bytes that another repeats");
        // A write that failed midway may have left more than was published.
        let len = old.file.len().unwrap_or(old.len).max(old.len);
        self.note_extra(shared, old.file_id, len - old.synced_len);
    }
}

/// Copies `reread_len` bytes behind a file's synced length, then the frames
/// still in memory, into a new file. What is read back counts only if every
/// checksum holds.
fn copy_unsynced(
    shared: &Shared,
    old: &(Arc<dyn File>, PathBuf, u64),
    reread_len: u64,
    in_memory: &[Bytes],
    created: &OpenFile,
) -> Result<(), Trouble> {
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
    Ok(())
}

fn write_all(to: &OpenFile, mut bytes: &[u8], mut offset: u64) -> Result<(), Trouble> {
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
