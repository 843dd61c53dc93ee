//! A storage with one kind of sync that does nothing and returns `Ok`: shows that the crash
//! tests notice a buffer that does not sync.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use forebay::storage::sim::Sim;
use forebay::storage::{Access, File, Map, Storage};

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
    forward!(sim: create_dir list rename delete lock free_bytes);

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let file = self.sim.open(path, access)?;
        Ok(match self.lie {
            Lie::File => Box::new(LiarFile(file)),
            Lie::Dir | Lie::Map => file,
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.lie {
            Lie::Dir => Ok(()),
            Lie::File | Lie::Map => self.sim.sync_dir(dir),
        }
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        let map = self.sim.map(path)?;
        Ok(match self.lie {
            Lie::Map => Box::new(LiarMap(map)),
            Lie::File | Lie::Dir => map,
        })
    }
}

#[derive(Debug)]
struct LiarFile(Box<dyn File>);

impl File for LiarFile {
    forward!(0: read_at write_at len truncate);

    fn sync(&self) -> io::Result<()> {
        Ok(())
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
