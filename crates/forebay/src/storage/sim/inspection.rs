//! Calls for tests, to inspect and to prepare the machine. They are no operations, also work
//! without power, and their changes are durable at once.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;

use super::Sim;
use super::contents::Inode;
use super::machine::Live;
use super::tree::{Node, Place, normalised};

impl Sim {
    /// The contents that a reader of the file would see, or `None` if there is no such file.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let mut live = self.live();
        let _ = live.look();
        let place = Place::of(path.as_ref()).ok()?;
        let number = live.state.tree.file_number(&place).ok()?;
        Some(live.file(number).ok()?.contents().to_vec())
    }

    /// Makes the file, its name and its directories durable with these contents;
    /// open handles and maps see them. Other names in its directory become
    /// durable as well.
    ///
    /// # Errors
    /// There is a directory at the path, or a file where a directory is needed.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let place = Place::of(path.as_ref())?;
        let mut live = self.live();
        let _ = live.look();
        live.make_dirs(&place.dir)?;
        live.state.clock += 1;
        let mut file = Inode::durable(bytes, live.state.clock);
        match live.state.tree.node(&place)? {
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(number)) => {
                if let Some(there) = live.state.tree.file_mut(number) {
                    file.mapped = there.mapped;
                    *there = file;
                }
                live.refresh_map(number);
            }
            None => {
                live.state.tree.create(place.clone(), file);
            }
        }
        live.state.tree.sync_dir(&place.dir)
    }

    /// Removes the file's name; other changes of names in its directory become
    /// durable as well.
    ///
    /// # Errors
    /// There is no such file.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let place = Place::of(path.as_ref())?;
        let mut live = self.live();
        let dir = place.dir.clone();
        live.state.tree.delete(place)?;
        live.state.tree.sync_dir(&dir)
    }

    /// Renames the file, replacing what has the new name; other changes of names
    /// in both directories become durable as well.
    ///
    /// # Errors
    /// There is no such file, or no such directory to move it to.
    pub fn rename_file(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (Place::of(from.as_ref())?, Place::of(to.as_ref())?);
        let mut live = self.live();
        let dir = from.dir.clone();
        live.state.tree.rename(from, to)?;
        live.state.tree.sync_dir(&dir)
    }

    /// The names of the regular files in a directory, in order, with their
    /// lengths in bytes. Empty if there is no such directory.
    pub fn files(&self, dir: impl AsRef<Path>) -> Vec<(String, u64)> {
        let live = self.live();
        let Ok(entries) = live.state.tree.list(&normalised(dir.as_ref())) else {
            return Vec::new();
        };
        entries
            .filter_map(|(name, file)| {
                let len = file?.contents().len() as u64;
                Some((name.to_string_lossy().into_owned(), len))
            })
            .collect()
    }

    /// A number that differs if names, lengths or visible contents of the regular files in a
    /// directory differ: for recognising equal outcomes quickly.
    pub fn fingerprint(&self, dir: impl AsRef<Path>) -> u64 {
        let mut live = self.live();
        let _ = live.look();
        let mut hasher = DefaultHasher::new();
        if let Ok(entries) = live.state.tree.list(&normalised(dir.as_ref())) {
            for (name, file) in entries {
                (name, file.map(|file| file.contents().fingerprint())).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// The sum of the lengths of all files that have a name, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.live().state.tree.used_bytes()
    }

    /// Copies the regular files of a real directory, not those in directories
    /// below it, to a simulated one.
    ///
    /// # Errors
    /// The first error of the real file system, and those of
    /// [`write_file`](Self::write_file).
    pub fn import_dir(&self, real: &Path, dir: impl AsRef<Path>) -> io::Result<()> {
        self.live().make_dirs(&normalised(dir.as_ref()))?;
        for entry in fs::read_dir(real)? {
            let path = entry?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                self.write_file(dir.as_ref().join(name), &fs::read(&path)?)?;
            }
        }
        Ok(())
    }

    /// Copies the regular files of a simulated directory to a real one, which is created if it is
    /// missing: for looking at an outcome with other tools.
    ///
    /// # Errors
    /// The first error of the real file system.
    pub fn export_dir(&self, dir: impl AsRef<Path>, real: &Path) -> io::Result<()> {
        fs::create_dir_all(real)?;
        for (name, _) in self.files(&dir) {
            if let Some(bytes) = self.read_file(dir.as_ref().join(&name)) {
                fs::write(real.join(name), bytes)?;
            }
        }
        Ok(())
    }
}

impl Live {
    /// Makes a directory and its ancestors, durable at once.
    fn make_dirs(&mut self, dir: &Path) -> io::Result<()> {
        let missing: Vec<_> = dir
            .ancestors()
            .take_while(|path| !self.state.tree.has_dir(path))
            .collect();
        for path in missing.into_iter().rev() {
            let place = Place::of(path)?;
            if self.state.tree.node(&place)?.is_some() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            let parent = place.dir.clone();
            self.state.tree.create_dir(place);
            self.state.tree.sync_dir(&parent)?;
        }
        Ok(())
    }
}
