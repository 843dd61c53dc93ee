//! A storage whose syncs do nothing and say that all is well: to see that the
//! laboratory notices a buffer that forgets to sync.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use forebay::storage::sim::Sim;
use forebay::storage::{Access, Entry, File, Lock, Map, Storage};

/// Which call lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The sync of a file.
    File,
    /// The sync of a directory.
    Dir,
    /// The sync of the mapped ledger.
    Map,
}

/// A simulated file system, with a lie.
#[derive(Debug)]
pub(crate) struct Liar {
    sim: Sim,
    lie: Lie,
}

impl Liar {
    pub(crate) fn new(sim: &Sim, lie: Lie) -> Self {
        Self {
            sim: sim.clone(),
            lie,
        }
    }
}

impl Storage for Liar {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.sim.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.sim.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let file = self.sim.open(path, access)?;
        Ok(match self.lie {
            Lie::File => Box::new(LiarFile(file)),
            Lie::Dir | Lie::Map => file,
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.rename(from, to)
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        self.sim.delete(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.lie {
            Lie::Dir => Ok(()),
            Lie::File | Lie::Map => self.sim.sync_dir(dir),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.sim.lock(path)
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        let map = self.sim.map(path)?;
        Ok(match self.lie {
            Lie::Map => Box::new(LiarMap(map)),
            Lie::File | Lie::Dir => map,
        })
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.sim.free_bytes(dir)
    }
}

#[derive(Debug)]
struct LiarFile(Box<dyn File>);

impl File for LiarFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

#[derive(Debug)]
struct LiarMap(Box<dyn Map>);

impl Map for LiarMap {
    fn words(&self) -> &[AtomicU64; 3] {
        self.0.words()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
