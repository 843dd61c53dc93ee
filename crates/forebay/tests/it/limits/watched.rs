//! A simulated file system that records how much is on disk after every change, and what is
//! read of each file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use forebay::storage::sim::Sim;
use forebay::storage::{Access, File, Storage};

/// The storage; its clones share what was seen.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    inner: Arc<dyn Storage>,
    sim: Sim,
    seen: Arc<Mutex<Seen>>,
}

/// What was seen.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// The most that the files of the buffer's directory have ever occupied.
    pub(crate) bytes_max: u64,
    /// The number of reads of each file, and of bytes read.
    pub(crate) reads: BTreeMap<OsString, (u64, u64)>,
    /// Writes to any file: the offset and the number of bytes of each.
    pub(crate) writes: Vec<(u64, u64)>,
}

impl Watched {
    /// Watches what `inner` does to `sim`.
    pub(crate) fn new(sim: &Sim, inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            sim: sim.clone(),
            seen: Arc::default(),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Measures what is on disk after a change.
    fn look<T>(&self, changed: T) -> T {
        let mut seen = self.seen.lock().unwrap();
        let files = self.sim.files(super::DIR);
        let bytes = files.iter().map(|(_, len)| len).sum();
        seen.bytes_max = seen.bytes_max.max(bytes);
        changed
    }
}

impl Storage for Watched {
    forward!(inner: create_dir list sync_dir lock map free_bytes);

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        Ok(Box::new(WatchedFile {
            inner: self.look(self.inner.open(path, access))?,
            name: path.file_name().unwrap_or_default().to_owned(),
            watched: self.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.look(self.inner.rename(from, to))
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        self.look(self.inner.delete(path))
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Box<dyn File>,
    name: OsString,
    watched: Watched,
}

impl File for WatchedFile {
    forward!(inner: len sync);

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.inner.read_at(buf, offset)?;
        let mut seen = self.watched.seen.lock().unwrap();
        let (calls, bytes) = seen.reads.entry(self.name.clone()).or_default();
        *calls += 1;
        *bytes += read as u64;
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.inner.write_at(buf, offset)?;
        let mut seen = self.watched.seen.lock().unwrap();
        seen.writes.push((offset, written as u64));
        drop(seen);
        Ok(self.watched.look(written))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.watched.look(self.inner.truncate(len))
    }
}
