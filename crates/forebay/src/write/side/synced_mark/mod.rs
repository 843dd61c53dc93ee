//! The synced mark: a file that says up to where this process has synced its data files.
//!
//! A process may die after a failed sync. The pages that never reached the disk are clean then: a
//! sync by the next process succeeds and proves nothing about them. So the next process writes
//! again what lies after the mark, and then syncs it.
//!
//! Invariants:
//! - The mark is there before the first byte is written that no sync covers. It is removed when the
//!   buffer is closed with everything synced.
//! - Everything before the place that it names is synced. It is one word, written with one call, so
//!   a killed process leaves a true mark.
//! - After a power cut it may say anything, or be missing. What can be read then is what is on the
//!   disk, so writing that again changes nothing.
//! - If it is there and cannot be true, nothing in the newest files is trusted to be synced.

use std::io;
use std::path::{Path, PathBuf};

use super::failure::{Trouble, trouble};
use super::files::Files;
use crate::config::UNSYNCED_FILES_MAX;
use crate::directory::survey;
use crate::error::{Error, Result};
use crate::format::file_id;
use crate::scan::is_device_error;
use crate::state::shared::Shared;
use crate::storage::{Access, File, Storage, read_full, uninterrupted, write_all};

/// Together with the ledger's 24 bytes it makes the 32 bytes of `LEDGER_ALLOWANCE`.
const FILE_LEN: usize = 8;
/// The file id plus one stands above this bit, the synced length below it.
const FILE_ID_SHIFT: u32 = 48;

/// The mark of an open buffer. Changed only by the thread that drives the write side.
#[derive(Debug, Default)]
pub(super) struct SyncedMark {
    file: Option<Box<dyn File>>,
    /// Whether the mark was made since the buffer was opened; it stays when its descriptor is given
    /// back.
    is_placed: bool,
}

fn bytes_of(file_id: u16, synced_len: u64) -> [u8; FILE_LEN] {
    debug_assert!(synced_len >> FILE_ID_SHIFT == 0);
    // One more than the id, so that zeros, which a power cut may leave, name no file.
    ((u64::from(file_id) + 1) << FILE_ID_SHIFT | synced_len).to_le_bytes()
}

impl SyncedMark {
    /// Makes the mark, unless it is there: everything up to `synced_len` of this file
    /// is synced. Nothing may be written without it.
    pub(super) fn place(
        &mut self,
        shared: &Shared,
        file_id: u16,
        synced_len: u64,
    ) -> Result<(), Trouble> {
        if self.file.is_some() {
            return Ok(());
        }
        let (path, bytes) = (path(&shared.dir), bytes_of(file_id, synced_len));
        let made = || match self.is_placed {
            // It names the oldest file that is not synced, which may be another than `file_id`.
            true => uninterrupted(|| shared.storage.open(&path, Access::Write)),
            false => make(&*shared.storage, &path, bytes),
        };
        match made().or_else(|_| made()) {
            Ok(file) => {
                self.file = Some(file);
                self.is_placed = true;
                Ok(())
            }
            // The mark is there, and still true.
            Err(_) if self.is_placed => Ok(()),
            Err(e) => Err(trouble("make", &path, e)),
        }
    }

    /// Notes that everything up to this length of this file is synced. If that fails, the mark
    /// stays true.
    pub(super) fn advance(&self, file_id: u16, synced_len: u64) {
        if let Some(file) = &self.file {
            let _ = write_all(&**file, &bytes_of(file_id, synced_len), 0);
        }
    }

    /// Notes that everything before the oldest open file is synced, or need not be.
    pub(super) fn advance_to(&self, files: &Files) {
        if let Some(oldest) = files.oldest() {
            self.advance(oldest.file_id(), oldest.synced_len());
        }
    }

    /// Gives the descriptor back when none is left for a sync of the directory. The mark stays
    /// true; the next write opens it again. Returns whether there was a descriptor.
    pub(super) fn let_go(&mut self) -> bool {
        self.file.take().is_some()
    }

    /// Removes the mark: everything is synced, and nothing more will be written.
    pub(super) fn remove(&mut self, shared: &Shared) {
        self.file = None;
        if std::mem::take(&mut self.is_placed) {
            // If it stays, the next opening writes a little again, and removes it.
            let _ = uninterrupted(|| shared.storage.delete(&path(&shared.dir)));
        }
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(file_id::SYNCED_MARK_FILE_NAME)
}

fn make(storage: &dyn Storage, path: &Path, bytes: [u8; FILE_LEN]) -> io::Result<Box<dyn File>> {
    let file = match uninterrupted(|| storage.open(path, Access::CreateNew)) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            uninterrupted(|| storage.open(path, Access::Write))
        }
        file => file,
    }?;
    write_all(&*file, &bytes, 0)?;
    Ok(file)
}

/// What the mark of the previous process says.
enum Found {
    /// Everything was synced, or nothing was written.
    Nothing,
    /// Everything up to this length of this file was synced.
    Synced(u16, u64),
    /// It is damaged.
    Damaged,
}

/// Before a buffer is recovered: writes again what the previous process may have left unsynced.
/// Recovery syncs it.
///
/// # Errors
/// Those of the storage, except for bytes that cannot be read.
pub(crate) fn rewrite_unsynced(storage: &dyn Storage, dir: &Path) -> Result<()> {
    let (mut file_id, mut from) = match read(storage, dir)? {
        Found::Nothing => return Ok(()),
        Found::Synced(file_id, synced_len) => (file_id, synced_len),
        // No more files than these can be unsynced.
        Found::Damaged => match survey::writer_file_id(storage, dir)? {
            Some(newest) => (file_id::back(newest, UNSYNCED_FILES_MAX as u16 - 1), 0),
            None => return Ok(()),
        },
    };
    for _ in 0..UNSYNCED_FILES_MAX {
        let path = dir.join(file_id::file_name(file_id));
        match uninterrupted(|| storage.open(&path, Access::Write)) {
            Ok(file) => {
                write_file_again(&*file, from)
                    .map_err(|e| Error::io("write again to", &path, e))?;
            }
            // It was deleted; the files after it may be there.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("open", &path, e)),
        }
        (file_id, from) = (file_id::next(file_id), 0);
    }
    Ok(())
}

/// After a buffer is recovered and synced: deletes the mark of the previous process.
///
/// # Errors
/// Those of the storage.
pub(crate) fn forget(storage: &dyn Storage, dir: &Path) -> Result<()> {
    match uninterrupted(|| storage.delete(&path(dir))) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("delete", &path(dir), e)),
        _ => Ok(()),
    }
}

fn read(storage: &dyn Storage, dir: &Path) -> Result<Found> {
    let path = path(dir);
    let file = match uninterrupted(|| storage.open(&path, Access::Read)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        file => file.map_err(|e| Error::io("open", &path, e))?,
    };
    let mut bytes = [0; FILE_LEN];
    let read = match read_full(&*file, &mut bytes, 0) {
        Err(e) if is_device_error(&e) => return Ok(Found::Damaged),
        read => read.map_err(|e| Error::io("read", &path, e))?,
    };
    let word = u64::from_le_bytes(bytes);
    let file_id = ((word >> FILE_ID_SHIFT) as u16).checked_sub(1);
    let synced_len = word & ((1 << FILE_ID_SHIFT) - 1);
    Ok(match (read, file_id) {
        // The process ended before it wrote the mark, and so before anything else.
        (0, _) => Found::Nothing,
        // At most the largest id, because one more than it is the largest number.
        (FILE_LEN, Some(file_id)) => Found::Synced(file_id, synced_len),
        _ => Found::Damaged,
    })
}

/// Reads the file from `from` on and writes the same bytes to the same place.
fn write_file_again(file: &dyn File, from: u64) -> io::Result<()> {
    const PAGE_LEN: usize = 4096;
    const PAGE_ATTEMPTS: u32 = 16;
    const CHUNK_LEN: usize = 1 << 20;
    let len = uninterrupted(|| file.len())?;
    let mut chunk = vec![0; CHUNK_LEN];
    let mut at = from;
    let mut step = CHUNK_LEN;
    let mut attempts = 0;
    while at < len {
        // Chunks end at multiples of their length.
        let wanted = (step as u64 - at % step as u64).min(len - at) as usize;
        match read_full(file, &mut chunk[..wanted], at) {
            Ok(0) => break,
            Ok(read) => {
                write_all(file, &chunk[..read], at)?;
                at += read as u64;
                attempts = 0;
                if at.is_multiple_of(CHUNK_LEN as u64) {
                    step = CHUNK_LEN;
                }
            }
            // Page by page up to the end of the chunk, because its other pages may be readable.
            // Each place is retried up to `PAGE_ATTEMPTS` times, because an error may pass; a page
            // that cannot be read stays as it is.
            Err(_) if attempts < PAGE_ATTEMPTS => {
                step = PAGE_LEN;
                attempts += 1;
            }
            Err(_) => {
                at += wanted as u64;
                attempts = 0;
                if at.is_multiple_of(CHUNK_LEN as u64) {
                    step = CHUNK_LEN;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
