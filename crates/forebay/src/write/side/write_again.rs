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

use std::sync::Arc;

use super::failure::{Trouble, trouble};
use super::open_file::OpenFile;
use crate::error::{Error, ErrorKind};
use crate::scan::{Check, ScanOptions, Scanned, Scanner};
use crate::state::shared::Shared;
use crate::storage::read_full;
use crate::sync::wake::lock;

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
            let error = std::io::ErrorKind::UnexpectedEof.into();
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
