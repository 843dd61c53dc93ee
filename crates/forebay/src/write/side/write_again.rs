//! What follows a failed write or sync of a data file: the bytes that no sync covers are written
//! again, to the same place.
//!
//! After such a failure the kernel may count pages as clean that never reached the disk, and a
//! later sync that succeeds proves nothing about them. Written again they are dirty like any
//! others, and a sync of them can be trusted.
//!
//! Invariants:
//! - Bytes come from memory if they are still there. Others are read back from the file, and are
//!   used only if every checksum is right.
//! - Whatever is in the file after its records is cut off again.
//! - Nothing moves: file ids, offsets and lengths stay, so a crash at any step leaves the same as a
//!   crash before any sync.

use std::io;
use std::sync::Arc;

use super::WriteSide;
use super::failure::{Trouble, trouble};
use super::open_file::{FileFailure, OpenFile};
use crate::error::{Error, ErrorKind};
use crate::scan::{Check, ScanOptions, Scanned, Scanner};
use crate::state::shared::Shared;
use crate::storage::read_full;
use crate::sync::atomic::Ordering;
use crate::sync::wake::lock;

impl WriteSide {
    /// Notes a failure of the current file: the bytes that no sync covers cannot be trusted. `what`
    /// was to be done to it.
    ///
    /// # Errors
    /// It is the second failure without progress in between.
    pub(super) fn fail_current(
        &mut self,
        shared: &Shared,
        what: &str,
        e: io::Error,
    ) -> Result<(), Trouble> {
        match self.files.current_id() {
            Some(file_id) => self.note_failed(shared, file_id, what, e),
            None => Ok(()),
        }
    }

    /// [`fail_current`](Self::fail_current), of the file with this id. A file that is not open any
    /// more was deleted and needs no sync.
    pub(super) fn note_failed(
        &mut self,
        shared: &Shared,
        file_id: u16,
        what: &str,
        e: io::Error,
    ) -> Result<(), Trouble> {
        let Some(file) = self.files.file_mut(file_id) else {
            return Ok(());
        };
        let error = Error::io(what, file.path(), e);
        match file.fail(error.clone()) {
            FileFailure::Final => return Err(Trouble::Failed(error)),
            FileFailure::Known => return Ok(()),
            FileFailure::New => {}
        }
        let synced_len = file.synced_len();
        shared.meters.failed_files.fetch_add(1, Ordering::Relaxed);
        tracing::error!(error = %format_args!("{error:#}"), synced_len,
            "the unsynced bytes of the data file are written again");
        Ok(())
    }

    /// If a file has failed, writes it again and syncs everything.
    ///
    /// True: a file had failed, and everything is synced. False: no file has failed, or it is too
    /// early to try again because there is no space.
    pub(super) fn write_failed_again(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        if !self.files.has_failed() || self.failure.waits_for_space(shared) {
            return Ok(false);
        }
        // Each file that has failed is written again before it is synced.
        self.sync_all(shared)?;
        self.failure.space_came_back(shared);
        Ok(true)
    }
}

/// Writes again the bytes of a failed file that no sync covers. A sync of them can be trusted
/// afterwards.
pub(super) fn write_again(shared: &Shared, file: &mut OpenFile) -> Result<(), Trouble> {
    let base = file.base();
    let (from, to) = (base + file.synced_len(), base + file.len());
    let (memory_from, in_memory) = lock(&shared.log).in_memory(from, to);
    let memory_from = memory_from.min(to);
    check_frames(shared, file, memory_from - base)?;
    copy_in_place(shared, file, memory_from - base)?;
    let mut at = memory_from - base;
    for frames in in_memory {
        // The last batch may have been written in part when the write failed.
        let len = (frames.len() as u64).min(file.len() - at);
        write(file, &frames[..len as usize], at)?;
        at += len;
    }
    file.cut_rest()
        .map_err(|e| trouble("cut the rest of", file.path(), e))?;
    file.trust_again();
    Ok(())
}

/// Checks the frames that can only be read back: those from the synced length up to `to`.
fn check_frames(shared: &Shared, file: &OpenFile, to: u64) -> Result<(), Trouble> {
    let options = ScanOptions {
        max_frame_len: u64::MAX,
        check: Check::Checksums,
    };
    let (from, pool) = (file.synced_len(), shared.pool.clone());
    let mut scanner = Scanner::over_file(Arc::clone(file.file()), from, to, options, pool);
    loop {
        match scanner.next() {
            Ok(None) => return Ok(()),
            Ok(Some(Scanned::Record(found))) if found.mended.is_none() => {}
            Ok(Some(_)) => {
                return Err(Trouble::Failed(Error::with_path(
                    ErrorKind::Poisoned,
                    file.path(),
                    format!(
                        "records written to {} after offset {from} were lost with a failed sync",
                        file.path().display()
                    ),
                )));
            }
            Err(e) => return Err(trouble("read back", file.path(), e)),
        }
    }
}

/// Reads the bytes from the synced length up to `to` and writes them to the same place.
fn copy_in_place(shared: &Shared, file: &mut OpenFile, to: u64) -> Result<(), Trouble> {
    let mut at = file.synced_len();
    let mut chunk = shared.pool.take();
    while at < to {
        let wanted = (to - at).min(chunk.len() as u64) as usize;
        let read = read_full(&**file.file(), &mut chunk[..wanted], at)
            .map_err(|e| trouble("read back", file.path(), e))?;
        if read < wanted {
            let error = io::ErrorKind::UnexpectedEof.into();
            return Err(trouble("read back", file.path(), error));
        }
        write(file, &chunk[..wanted], at)?;
        at += wanted as u64;
    }
    Ok(())
}

fn write(file: &mut OpenFile, bytes: &[u8], at: u64) -> Result<(), Trouble> {
    let written = file.write_again(bytes, at);
    written.map_err(|e| trouble("write again to", file.path(), e))
}
