//! Mending buffers that are not open, getting records out of what is left of them, and taking
//! records from one buffer to another.

use std::path::Path;

use crate::directory::options::LookOptions;
use crate::error::{Error, Result};
use crate::storage::{Storage, uninterrupted};

mod addition;
mod build;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod repair;
pub(crate) mod salvage;
mod staged;
pub(crate) mod transfer;

/// Space that is left free beside new files: for lists, reports and directories.
const SPARE_LEN: u64 = 256 << 10;

/// Whether two paths lead to one directory.
fn is_same(look: &LookOptions, one: &Path, other: &Path) -> bool {
    if !look.is_of_the_system() {
        return one == other;
    }
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// The space that there is for a directory, if the system says.
fn free_bytes(storage: &dyn Storage, dir: &Path) -> Result<Option<u64>> {
    uninterrupted(|| storage.free_bytes(dir))
        .map_err(|e| Error::io("ask for the free space of", dir, e))
}
