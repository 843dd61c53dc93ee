//! The simulated directories and files, and what is left of them after a power cut.
//!
//! Invariants:
//! - Directories are known by their normalised path; a directory exists when
//!   every ancestor's entries lead to it.
//! - `synced` of each directory with all of `pending` applied equals `now`.
//! - A file lives as long as an entry, durable or not, a pending change or an
//!   open handle leads to it.
//! - All maps are ordered, so that the same seed gives the same outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::Kernel;
use super::contents::{Inode, Survival};
use super::random::Random;

/// A file's number.
pub(super) type FileNumber = u64;

/// What a directory entry leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    File(FileNumber),
    Dir,
}

type Entries = BTreeMap<OsString, Node>;

#[derive(Debug, Clone, Default)]
struct Dir {
    now: Entries,
    synced: Entries,
}

/// A directory and a name in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) dir: Arc<Path>,
    pub(super) name: OsString,
}

impl Place {
    /// The place that a path names. The root has none: that is an error.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let path = normalised(path);
        match (path.parent(), path.file_name()) {
            (Some(dir), Some(name)) => Ok(Self {
                dir: dir.into(),
                name: name.to_owned(),
            }),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }
}

/// A path from the root without `.` and `..`; relative paths start at the root.
pub(super) fn normalised(path: &Path) -> PathBuf {
    let mut result = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => {
                result.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    result
}

/// A change of directory entries that is not yet durable. A creation inserts, a deletion removes, a
/// rename does both.
#[derive(Debug, Clone)]
struct EntryChange {
    remove: Option<Place>,
    insert: Option<(Place, Node)>,
}

/// All directories and files.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    dirs: BTreeMap<Arc<Path>, Arc<Dir>>,
    pending: Vec<Arc<EntryChange>>,
    files: BTreeMap<FileNumber, Arc<Inode>>,
    next_file: FileNumber,
}

impl Tree {
    /// An empty root directory.
    pub(super) fn new() -> Self {
        Self {
            dirs: BTreeMap::from([(Path::new("/").into(), Arc::default())]),
            pending: Vec::new(),
            files: BTreeMap::new(),
            next_file: 1,
        }
    }

    fn entries(&self, dir: &Path) -> io::Result<&Entries> {
        match self.dirs.get(dir) {
            Some(found) => Ok(&found.now),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// What is at a place, if anything.
    pub(super) fn node(&self, place: &Place) -> io::Result<Option<Node>> {
        Ok(self.entries(&place.dir)?.get(&place.name).copied())
    }

    /// The number of the file at a place.
    pub(super) fn file_number(&self, place: &Place) -> io::Result<FileNumber> {
        match self.node(place)? {
            Some(Node::File(number)) => Ok(number),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The names in a directory and what they lead to, in order.
    pub(super) fn list<'a>(
        &'a self,
        dir: &Path,
    ) -> io::Result<impl Iterator<Item = (&'a OsStr, Option<&'a Inode>)> + use<'a>> {
        let entries = self.entries(dir)?.iter();
        Ok(entries.map(|(name, node)| match node {
            Node::File(number) => (name.as_os_str(), self.file(*number)),
            Node::Dir => (name.as_os_str(), None),
        }))
    }

    /// The directories there are now.
    pub(super) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.dirs.keys().map(|path| &**path)
    }

    pub(super) fn has_dir(&self, dir: &Path) -> bool {
        self.dirs.contains_key(dir)
    }

    pub(super) fn file(&self, number: FileNumber) -> Option<&Inode> {
        self.files.get(&number).map(|file| &**file)
    }

    /// The file, for changing it; copied first if a snapshot shares it.
    pub(super) fn file_mut(&mut self, number: FileNumber) -> Option<&mut Inode> {
        self.files.get_mut(&number).map(Arc::make_mut)
    }

    /// The lengths of all files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        let entries = self.dirs.values().flat_map(|dir| dir.now.values());
        let lens = entries.map(|node| match node {
            Node::File(number) => self.file(*number).map_or(0, |f| f.contents().len() as u64),
            Node::Dir => 0,
        });
        lens.sum()
    }

    /// Creates a file at a free place. The new entry is pending.
    pub(super) fn create(&mut self, place: Place, file: Inode) -> FileNumber {
        let number = self.next_file;
        self.next_file += 1;
        self.files.insert(number, Arc::new(file));
        self.change(EntryChange {
            remove: None,
            insert: Some((place, Node::File(number))),
        });
        number
    }

    /// Creates a directory at a free place. The new entry is pending.
    pub(super) fn create_dir(&mut self, place: Place) {
        self.dirs.insert(place.path().into(), Arc::default());
        self.change(EntryChange {
            remove: None,
            insert: Some((place, Node::Dir)),
        });
    }

    pub(super) fn delete(&mut self, place: Place) -> io::Result<()> {
        self.file_number(&place)?;
        self.change(EntryChange {
            remove: Some(place),
            insert: None,
        });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: Place, to: Place) -> io::Result<()> {
        let number = self.file_number(&from)?;
        match self.node(&to)? {
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(there)) if there == number => return Ok(()),
            _ => {}
        }
        self.change(EntryChange {
            remove: Some(from),
            insert: Some((to, Node::File(number))),
        });
        Ok(())
    }

    fn change(&mut self, change: EntryChange) {
        for (dir, name, node) in change.steps() {
            set_entry(&mut self.dirs, dir, name, node, |dir| &mut dir.now);
        }
        self.pending.push(Arc::new(change));
    }

    /// Makes a directory's entries durable. A rename out of it into another directory also makes
    /// that directory's entries durable, so that a file never loses its only name.
    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        let mut synced: BTreeSet<Arc<Path>> = BTreeSet::from([dir.into()]);
        self.entries(dir)?;
        loop {
            let targets = self.pending.iter().filter_map(|change| match &**change {
                EntryChange {
                    remove: Some(from),
                    insert: Some((to, _)),
                } if synced.contains(&from.dir) => Some(Arc::clone(&to.dir)),
                _ => None,
            });
            let before = synced.len();
            synced = targets.chain(synced.iter().cloned()).collect();
            if synced.len() == before {
                break;
            }
        }
        for change in std::mem::take(&mut self.pending) {
            let (done, rest) = change.split(|place| synced.contains(&place.dir));
            for (dir, name, node) in done.steps() {
                set_entry(&mut self.dirs, dir, name, node, |dir| &mut dir.synced);
            }
            if rest.remove.is_some() || rest.insert.is_some() {
                self.pending.push(Arc::new(rest));
            }
        }
        Ok(())
    }

    /// What the disk holds if everything that is pending reaches it.
    pub(super) fn after_sync(&self) -> Self {
        let mut tree = self.clone();
        for dir in tree.dirs.values_mut() {
            let dir = Arc::make_mut(dir);
            dir.synced.clone_from(&dir.now);
        }
        tree.pending.clear();
        for file in tree.files.values_mut() {
            Arc::make_mut(file).sync();
        }
        tree.after_crash(None)
    }

    /// Drops the files that nothing leads to any more.
    pub(super) fn collect(&mut self, is_open: impl Fn(FileNumber) -> bool) {
        let dirs = self.dirs.values();
        let entries = dirs.flat_map(|dir| dir.now.values().chain(dir.synced.values()));
        let inserts = self
            .pending
            .iter()
            .filter_map(|change| change.insert.as_ref().map(|(_, node)| node));
        let named: BTreeSet<FileNumber> = entries
            .chain(inserts)
            .filter_map(|node| match node {
                Node::File(number) => Some(*number),
                Node::Dir => None,
            })
            .collect();
        self.files
            .retain(|number, _| named.contains(number) || is_open(*number));
    }

    /// What the disk holds when the power is cut now; with no `choice`, nothing
    /// that is pending survives.
    pub(super) fn after_crash(&self, mut choice: Option<(Kernel, Random)>) -> Self {
        let mut entries: BTreeMap<Arc<Path>, Entries> = self
            .dirs
            .iter()
            .map(|(path, dir)| (Arc::clone(path), dir.synced.clone()))
            .collect();
        if let Some((kernel, random)) = &mut choice {
            for (dir, name, node) in self.surviving_steps(*kernel, random) {
                if let Some(entries) = entries.get_mut(dir) {
                    put(entries, name, node);
                }
            }
        }
        let mut tree = Self::new();
        tree.next_file = self.next_file;
        // A directory's path sorts after its parent's.
        for (path, entries) in entries {
            let is_there = match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => tree
                    .entries(parent)
                    .is_ok_and(|there| there.get(name) == Some(&Node::Dir)),
                _ => true,
            };
            if is_there {
                let dir = Dir {
                    now: entries.clone(),
                    synced: entries,
                };
                tree.dirs.insert(path, Arc::new(dir));
            }
        }
        let dirs = tree.dirs.values();
        let named: BTreeSet<FileNumber> = dirs
            .flat_map(|dir| dir.now.values())
            .filter_map(|node| match node {
                Node::File(number) => Some(*number),
                Node::Dir => None,
            })
            .collect();
        for number in named {
            if let Some(file) = self.files.get(&number) {
                let choice = choice.as_mut().map(|(kernel, random)| (*kernel, random));
                tree.files.insert(number, Inode::after_crash(file, choice));
            }
        }
        tree
    }

    /// The entries that pending changes leave on the disk.
    fn surviving_steps(
        &self,
        kernel: Kernel,
        random: &mut Random,
    ) -> Vec<(&Path, &OsStr, Option<Node>)> {
        let survival = Survival::draw(random);
        if kernel == Kernel::Journalling {
            let prefix = survival.count(self.pending.len(), random);
            let changes = self.pending[..prefix].iter();
            return changes.flat_map(|change| change.steps()).collect();
        }
        // Each name keeps one of its versions, independently of the other names. `versions`: the
        // numbers of the changes that made them.
        let mut versions: BTreeMap<(&Path, &OsStr), Vec<usize>> = BTreeMap::new();
        for (number, change) in self.pending.iter().enumerate() {
            for (dir, name, _) in change.steps() {
                versions.entry((dir, name)).or_default().push(number);
            }
        }
        let mut kept: BTreeMap<(&Path, &OsStr), usize> = BTreeMap::new();
        for (&place, numbers) in &versions {
            if let Some(last) = survival.count(numbers.len(), random).checked_sub(1) {
                kept.insert(place, numbers[last]);
            }
        }
        self.keep_renamed(&mut kept);
        let node_of = |place: (&Path, &OsStr), number: usize| {
            let mut steps = self.pending[number].steps();
            steps.rfind(|&(dir, name, _)| (dir, name) == place)
        };
        kept.into_iter()
            .filter_map(|(place, number)| node_of(place, number))
            .collect()
    }

    /// If a rename's removal of the old name survives, makes the new name survive as well.
    fn keep_renamed<'a>(&'a self, kept: &mut BTreeMap<(&'a Path, &'a OsStr), usize>) {
        // Each round settles at least one more link of a chain of renames.
        for _ in 0..=self.pending.len() {
            let mut settled = true;
            for (number, change) in self.pending.iter().enumerate() {
                let (Some(from), Some((to, _))) = (&change.remove, &change.insert) else {
                    continue;
                };
                let removed = kept.get(&(&*from.dir, &*from.name));
                let inserted = kept.get(&(&*to.dir, &*to.name));
                if removed.is_some_and(|&at| at >= number) && inserted.is_none_or(|&at| at < number)
                {
                    kept.insert((&*to.dir, &*to.name), number);
                    settled = false;
                }
            }
            if settled {
                return;
            }
        }
    }
}

impl EntryChange {
    /// The entries that it sets, in order: directory, name, and the new node, if any.
    fn steps(&self) -> impl DoubleEndedIterator<Item = (&Path, &OsStr, Option<Node>)> {
        let remove = self.remove.iter();
        let remove = remove.map(|place| (&*place.dir, &*place.name, None));
        let insert = self.insert.iter();
        remove.chain(insert.map(|(place, node)| (&*place.dir, &*place.name, Some(*node))))
    }

    /// The part whose places pass, and the rest.
    fn split(&self, passes: impl Fn(&Place) -> bool) -> (Self, Self) {
        let (mut done, mut rest) = (self.clone(), self.clone());
        match &self.remove {
            Some(place) if passes(place) => rest.remove = None,
            _ => done.remove = None,
        }
        match &self.insert {
            Some((place, _)) if passes(place) => rest.insert = None,
            _ => done.insert = None,
        }
        (done, rest)
    }
}

fn put(entries: &mut Entries, name: &OsStr, node: Option<Node>) {
    match node {
        Some(node) => entries.insert(name.to_owned(), node),
        None => entries.remove(name),
    };
}

fn set_entry(
    dirs: &mut BTreeMap<Arc<Path>, Arc<Dir>>,
    dir: &Path,
    name: &OsStr,
    node: Option<Node>,
    select: impl Fn(&mut Dir) -> &mut Entries,
) {
    if let Some(dir) = dirs.get_mut(dir) {
        put(select(Arc::make_mut(dir)), name, node);
    }
}
