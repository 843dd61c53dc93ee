//! Records in places where no reader looks: inside damage, and in files that were set aside.
//!
//! Invariant: a frame inside the payload of another one is no record.

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::scan::{Check, DamageKind, Found, ScanOptions, Scanned, Scanner, each_frame};
use crate::storage::File;
use crate::sync::pool::Pool;

/// Whether a file of this name may hold records: a data file, also one that was set aside under
/// another name, or a piece of one.
pub(super) fn may_hold_records(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("buffer-data-") && !name.ends_with(".json")
}

/// Whether a damaged part may hold records. Of a frame with a wrong checksum the extent is certain,
/// so what is whole in it is its payload.
pub(super) fn is_worth_searching(kind: DamageKind) -> bool {
    kind != DamageKind::Checksum
}

/// The record of the frame with which a part of a file begins, if its checksum holds, and the
/// scanner that has its payload.
///
/// # Errors
/// Those of reading.
pub(super) fn whole_frame(
    file: &Arc<dyn File>,
    part: Range<u64>,
    max_frame_len: u64,
    pool: &Pool,
) -> io::Result<Option<(Scanner, Found)>> {
    let check = Check::Checksums;
    let options = ScanOptions {
        max_frame_len,
        check,
    };
    let (file, pool) = (Arc::clone(file), pool.clone());
    let mut scanner = Scanner::over_file(file, part.start, part.end, options, pool);
    Ok(match scanner.next()? {
        Some(Scanned::Record(found)) if found.offset == part.start => Some((scanner, found)),
        _ => None,
    })
}

/// Calls `take` with the records of the whole frames inside a part of a file and their payloads, the
/// last one first. No frame needs to lead to them.
///
/// # Errors
/// Those of reading.
pub(super) fn each_whole_frame(
    file: &Arc<dyn File>,
    part: Range<u64>,
    max_frame_len: u64,
    pool: &Pool,
    mut take: impl FnMut(&Found, &[u8]),
) -> io::Result<()> {
    let mut offsets = Vec::new();
    each_frame(file, part.clone(), pool, |offset, _| offsets.push(offset))?;
    // The frame that ends last comes first, and before those inside it.
    let mut end = part.end;
    for offset in offsets {
        if !(part.start..end).contains(&offset) {
            continue;
        }
        if let Some((scanner, found)) = whole_frame(file, offset..end, max_frame_len, pool)? {
            end = offset;
            take(&found, scanner.payload(&found));
        }
    }
    Ok(())
}
