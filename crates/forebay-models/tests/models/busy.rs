//! A storage whose calls take time: before and after most calls other threads may go on.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use forebay::storage::{Access, Entry, File, Lock, Map, Storage};
use shuttle::sync::atomic::{AtomicBool, Ordering};

/// Any storage, slowed down.
#[derive(Debug)]
pub(crate) struct Busy<S>(pub(crate) S);

/// Lets the scheduler choose the thread that goes on: it does so at every atomic operation.
fn pause() {
    AtomicBool::new(false).load(Ordering::SeqCst);
}

fn slowly<T>(call: impl FnOnce() -> T) -> T {
    pause();
    let result = call();
    pause();
    result
}

impl<S: Storage> Storage for Busy<S> {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.0.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        Ok(Box::new(BusyFile(slowly(|| self.0.open(path, access))?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        slowly(|| self.0.rename(from, to))
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        slowly(|| self.0.delete(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        slowly(|| self.0.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.0.lock(path)
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        Ok(Box::new(BusyMap(self.0.map(path)?)))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        slowly(|| self.0.free_bytes(dir))
    }
}

#[derive(Debug)]
struct BusyFile(Box<dyn File>);

impl File for BusyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        slowly(|| self.0.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        slowly(|| self.0.write_at(buf, offset))
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn sync(&self) -> io::Result<()> {
        slowly(|| self.0.sync())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        slowly(|| self.0.truncate(len))
    }
}

#[derive(Debug)]
struct BusyMap(Box<dyn Map>);

impl Map for BusyMap {
    fn words(&self) -> &[AtomicU64; 3] {
        self.0.words()
    }

    fn sync(&self) -> io::Result<()> {
        slowly(|| self.0.sync())
    }
}
