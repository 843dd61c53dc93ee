//! Mending buffers that are not open, getting records out of what is left of them, and taking
//! records from one buffer to another.

use std::path::Path;

use crate::directory::options::LookOptions;
use crate::error::{Error, Result};
use crate::storage::{Storage, os, uninterrupted};

mod addition;
mod build;
pub(crate) mod export;
pub(crate) mod import;
mod pieces;
pub(crate) mod repair;
pub(crate) mod salvage;
mod staged;
mod target;
pub(crate) mod transfer;

/// Space that is left free beside new files: for lists, reports and directories.
const SPARE_LEN: u64 = 256 << 10;

/// Whether two paths lead to one directory.
fn is_same(look: &LookOptions, one: &Path, other: &Path) -> bool {
    if !look.is_of_the_system() {
        return one == other;
    }
    os::without_links(one) == os::without_links(other)
}

/// The space that there is for a directory, if the system says.
fn free_bytes(storage: &dyn Storage, dir: &Path) -> Result<Option<u64>> {
    uninterrupted(|| storage.free_bytes(dir))
        .map_err(|e| Error::io("ask for the free space of", dir, e))
}

/// A number of bytes in words: `640 bytes`, `2.25 MiB`.
fn size(bytes: u64) -> String {
    let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = unit.into_iter().find(|(_, shift)| bytes >> shift > 0);
    match unit {
        None => format!("{bytes} bytes"),
        Some((name, shift)) => format!("{:.2} {name}", bytes as f64 / (1_u64 << shift) as f64),
    }
}
