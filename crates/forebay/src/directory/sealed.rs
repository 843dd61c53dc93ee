//! Small text files of ours beside a buffer's: lines, and a last line that is a checksum of them.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::storage::{Access, Storage, read_full, uninterrupted};

/// A longer file is damaged: what is read of it lacks the last line.
const LEN_MAX: u64 = 64 << 20;

/// The lines with the last one.
pub(crate) fn seal(mut lines: String) -> String {
    let sum = crc32fast::hash(lines.as_bytes());
    // Writing to a string cannot fail.
    let _ = writeln!(lines, "end {sum:08x}");
    lines
}

/// The lines without the last one; `None` if that does not match.
pub(crate) fn unseal(text: &str) -> Option<&str> {
    let end = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
    let (lines, last) = text.split_at(end);
    let sum = last.strip_prefix("end ")?.trim_end();
    (u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(lines.as_bytes())).then_some(lines)
}

/// A file as text.
///
/// # Errors
/// Those of the storage.
pub(crate) fn read(storage: &dyn Storage, path: &Path) -> io::Result<String> {
    let file = uninterrupted(|| storage.open(path, Access::Read))?;
    let len = uninterrupted(|| file.len())?.min(LEN_MAX);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let read = read_full(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
