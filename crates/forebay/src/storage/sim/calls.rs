//! The simulated file system as a [`Storage`]: each call first checks the power, and a call that
//! may change something counts as an operation.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use super::Sim;
use super::machine::{Live, MAP_LEN, Words};
use super::tree::{FileNumber, Node, Place, normalised};
use crate::storage::{Access, Entry, File, Lock, Map, Storage};

impl Sim {
    fn handle(&self, live: &mut Live, number: FileNumber) -> Handle {
        *live.open.entry(number).or_default() += 1;
        Handle {
            sim: self.clone(),
            number,
        }
    }
}

impl Storage for Sim {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = normalised(dir);
        let top = {
            let live = self.look()?;
            let there = dir.ancestors().find(|path| live.state.tree.has_dir(path));
            there.unwrap_or(Path::new("/")).to_owned()
        };
        // As on a real machine: the process that made the directory may have died before it synced
        // the parent.
        if let Some(parent) = top.parent() {
            self.sync_dir(parent)?;
        }
        let missing: Vec<&Path> = dir.ancestors().take_while(|path| **path != *top).collect();
        for path in missing.into_iter().rev() {
            let place = Place::of(path)?;
            let mut live = self.operate()?;
            match live.state.tree.node(&place)? {
                Some(Node::Dir) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => live.state.tree.create_dir(place.clone()),
            }
            drop(live);
            self.sync_dir(&place.dir)?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let live = self.look()?;
        let entries = live.state.tree.list(&normalised(dir))?;
        Ok(entries
            .map(|(name, file)| Entry {
                name: name.to_owned(),
                len: file.map_or(0, |file| file.contents().len() as u64),
                is_file: file.is_some(),
                modified: file.map(|file| time(file.modified)),
            })
            .collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let place = Place::of(path)?;
        let mut live = match access {
            Access::Read | Access::Write => self.look()?,
            Access::CreateNew => self.operate()?,
        };
        let number = match access {
            Access::Read | Access::Write => live.state.tree.file_number(&place)?,
            Access::CreateNew => match live.state.tree.node(&place)? {
                Some(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => live.create(place),
            },
        };
        let handle = self.handle(&mut live, number);
        Ok(Box::new(SimFile {
            handle,
            is_writable: access != Access::Read,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (Place::of(from)?, Place::of(to)?);
        self.operate()?.state.tree.rename(from, to)
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        let place = Place::of(path)?;
        self.operate()?.state.tree.delete(place)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut live = self.operate()?;
        let live = &mut *live;
        live.state.tree.sync_dir(&normalised(dir))?;
        live.state
            .tree
            .collect(|number| live.open.contains_key(&number));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let place = Place::of(path)?;
        let mut live = self.operate()?;
        let number = match live.state.tree.node(&place)? {
            None => live.create(place),
            Some(_) => live.state.tree.file_number(&place)?,
        };
        if !live.locked.insert(number) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock(self.handle(&mut live, number))))
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        let place = Place::of(path)?;
        let mut live = self.look()?;
        let number = live.state.tree.file_number(&place)?;
        let len = live.file(number)?.contents().len();
        if len != MAP_LEN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the file to map has {len} bytes instead of {MAP_LEN}"),
            ));
        }
        let shared = live.maps.iter().find(|(mapped, _)| *mapped == number);
        let words = match shared {
            Some((_, words)) => Arc::clone(words),
            None => {
                let words = Arc::new(Words::default());
                live.maps.push((number, Arc::clone(&words)));
                live.refresh_map(number);
                if let Some(file) = live.state.tree.file_mut(number) {
                    file.mapped = true;
                }
                words
            }
        };
        let handle = self.handle(&mut live, number);
        Ok(Box::new(SimMap { handle, words }))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        let live = self.look()?;
        if !live.state.tree.has_dir(&normalised(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let used = live.state.tree.used_bytes();
        let capacity = live.state.capacity;
        Ok(capacity.map(|capacity| capacity.saturating_sub(used)))
    }
}

/// The modification time of a file whose last change was the `clock`-th.
fn time(clock: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + clock)
}

/// Keeps a file alive while it is open, locked or mapped, even without a name.
#[derive(Debug)]
struct Handle {
    sim: Sim,
    number: FileNumber,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut live = self.sim.live();
        if let Some(count) = live.open.get_mut(&self.number) {
            *count -= 1;
            if *count == 0 {
                live.open.remove(&self.number);
            }
        }
    }
}

#[derive(Debug)]
struct SimFile {
    handle: Handle,
    is_writable: bool,
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.is_writable {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file was opened for reading only",
            ))
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let live = self.handle.sim.look()?;
        let contents = live.file(self.handle.number)?.contents();
        Ok(contents.read(buf, usize::try_from(offset).unwrap_or(usize::MAX)))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.check_writable()?;
        let mut live = self.handle.sim.live();
        let was_off = live.is_off;
        match live.operate() {
            Ok(()) => {
                live.note_write(self.handle.number, buf, offset);
                live.write(self.handle.number, buf, offset)
            }
            Err(e) => {
                if !was_off {
                    live.write_partly(self.handle.number, buf, offset);
                }
                Err(e)
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        let live = self.handle.sim.look()?;
        Ok(live.file(self.handle.number)?.contents().len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut live = self.handle.sim.operate()?;
        let number = self.handle.number;
        let old_len = live.file(number)?.contents().len();
        match usize::try_from(len) {
            Ok(len) if len <= old_len => {
                if live.maps.iter().any(|(mapped, _)| *mapped == number) {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
                live.file_mut(number)?.truncate(len);
                Ok(())
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("truncating to {len} bytes would extend a file of {old_len}"),
            )),
        }
    }
}

impl Handle {
    fn sync(&self) -> io::Result<()> {
        let mut live = self.sim.operate()?;
        // A sync is no change: the file's time stays.
        if let Some(file) = live.state.tree.file_mut(self.number) {
            file.sync();
            if std::mem::take(&mut file.write_back_failed) {
                return Err(io::Error::other(
                    "simulated failure of an earlier write-back",
                ));
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SimLock(Handle);

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.sim.live().locked.remove(&self.0.number);
    }
}

#[derive(Debug)]
struct SimMap {
    handle: Handle,
    words: Arc<Words>,
}

impl Map for SimMap {
    fn words(&self) -> &[AtomicU64; 3] {
        &self.words
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync()
    }
}
