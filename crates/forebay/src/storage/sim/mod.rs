//! A file system in memory that separates what is durable from what is pending, and can lose power
//! at any operation.
//!
//! After [`Sim::crash`] the new file system holds what was durable and, chosen by
//! a seed, some of what was pending. These outcomes are modelled:
//!
//! 1. Contents not yet synced are lost, or reach the disk in any order: each
//!    4 KiB page as it was after any of the writes since the last sync.
//! 2. A page is torn: 512-byte sectors of an older and a newer version.
//! 3. The length and the contents differ: the file has grown and the new bytes are zeros, or the
//!    bytes were written and the length is still the old one.
//! 4. A cut ([`truncate`](super::File::truncate)) is undone, or done while the
//!    bytes written since are missing; inside the last page that stays, either
//!    without the other.
//! 5. Creations, renames and deletions not yet synced into their directory are lost: a suffix of
//!    them in the order they were made ([`Kernel::Journalling`]), or each name independently
//!    ([`Kernel::Careless`]). A synced file in a directory that is not synced may be gone; a synced
//!    entry may lead to a file that is empty. A rename may leave both names.
//! 6. The mapped ledger reaches the disk at any moment or not at all, independently of the data
//!    files: every value seen at a storage operation since the last sync of the map is possible.
//!    Its words are written together, except with [`Kernel::WordByWord`].
//! 7. A failed sync ([`Sim::fail_sync`]) marks pages clean that never reached the disk: no later
//!    sync writes them, until they are written again. The same may happen in the background, and
//!    the next sync reports it ([`Sim::fail_write_back`]).
//! 8. A killed process ([`Sim::kill`]) loses nothing, but what it left pending is still pending for
//!    the next process that opens the files.
//! 9. The disk is full ([`Sim::set_capacity`]): a write is cut short, then fails.
//!
//! Not modelled: a sector that is destroyed while it is written, damage to data at rest (use
//! [`Sim::write_file`]), stale blocks of deleted files showing up in new ones, a rename that leaves
//! neither name, a file cut short while it is mapped, and a disk that reports a sync as done
//! although it is not.
//!
//! Invariants:
//! - The same calls from one thread and the same seed give the same bytes,
//!   times and errors; there is no clock and no hash order in it.
//! - A file system made by a crash shares nothing with the old one. Handles of the old one still
//!   work on the old one.
//! - Copies share pages, so that a snapshot before each operation is cheap.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::machine::{Cut, History, Live, State};
use self::random::Random;
use self::tree::{FileNumber, Place, Tree};

mod calls;
mod contents;
mod inspection;
mod machine;
mod random;
mod tree;

/// The unit that the kernel caches and writes, in bytes.
pub const PAGE_LEN: usize = 4096;

/// The unit that the disk writes whole or not at all, in bytes.
pub const SECTOR_LEN: usize = 512;

/// How the simulated kernel treats pending changes of directories when the
/// power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kernel {
    /// They are done in the order they were made, up to some point.
    Journalling,
    /// Each is done or not, independently of the others.
    Careless,
    /// As `Careless`, and a value of the mapped ledger may reach the disk with
    /// some words of its neighbour. Harsher than [`Sim::crash`] and than known
    /// machines: the words share a sector and a cache line.
    WordByWord,
}

/// A simulated file system; clones are handles to the same one.
///
/// # Example
/// ```
/// use std::path::Path;
/// use forebay::storage::{Access, Storage, sim::Sim};
///
/// let sim = Sim::new();
/// let file = sim.open(Path::new("/file"), Access::CreateNew)?;
/// file.write_at(b"contents", 0)?;
/// file.sync()?;
/// // The contents are synced, the name is not.
/// assert_eq!(sim.crash(0).read_file("/file"), None);
/// sim.sync_dir(Path::new("/"))?;
/// assert_eq!(sim.crash(0).read_file("/file"), Some(b"contents".to_vec()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Sim(Arc<Mutex<Live>>);

impl Sim {
    /// An empty file system: a root directory, no limit of space.
    pub fn new() -> Self {
        Self::from_state(State {
            tree: Tree::new(),
            clock: 0,
            capacity: None,
        })
    }

    fn from_state(state: State) -> Self {
        Self(Arc::new(Mutex::new(Live::new(state))))
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // After a panic while the guard was held, a test can still look.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call that changes nothing.
    fn look(&self) -> io::Result<MutexGuard<'_, Live>> {
        let mut live = self.live();
        live.look()?;
        Ok(live)
    }

    /// Begins a call that changes something.
    fn operate(&self) -> io::Result<MutexGuard<'_, Live>> {
        let mut live = self.live();
        live.operate()?;
        Ok(live)
    }

    /// The state now, with everything stored into maps so far.
    fn state(&self) -> State {
        let mut live = self.live();
        // Stores after the power cut are not observed.
        let _ = live.look();
        live.state.clone()
    }

    /// The machine after a power cut at this moment, powered on again.
    ///
    /// Seed 0: nothing that is pending survives. Seed 1: all of it does. Every other seed: some of
    /// it, the even ones with [`Kernel::Journalling`], the odd ones with [`Kernel::Careless`]. The
    /// new machine keeps only the capacity of the old one's limits, and its operations are counted
    /// from 0.
    pub fn crash(&self, seed: u64) -> Self {
        let state = self.state();
        let tree = match seed {
            0 => state.tree.after_crash(None),
            1 => state.tree.after_sync(),
            _ if seed.is_multiple_of(2) => return self.crash_as(Kernel::Journalling, seed),
            _ => return self.crash_as(Kernel::Careless, seed),
        };
        Self::from_state(State { tree, ..state })
    }

    /// As [`crash`](Self::crash), but the caller chooses the kernel, and no seed has a special
    /// meaning.
    pub fn crash_as(&self, kernel: Kernel, seed: u64) -> Self {
        let state = self.state();
        let choice = Some((kernel, Random::new(seed)));
        let tree = state.tree.after_crash(choice);
        Self::from_state(State { tree, ..state })
    }

    /// The same machine without the processes that ran on it: locks are free, nothing is mapped,
    /// and what was pending still is. Later calls on the old machine do not affect the new one.
    pub fn kill(&self) -> Self {
        Self::from_state(self.state())
    }

    /// From the next operation on, keeps the state before each operation, for [`at`](Self::at).
    pub fn keep_history(&self) {
        let mut live = self.live();
        live.history = Some(History {
            first: live.operations,
            states: Vec::new(),
            writes: BTreeMap::new(),
        });
    }

    /// The machine as it was when `operations` were done and the next had not
    /// begun, without the processes that ran on it; `None` if it was not kept or
    /// has not been reached.
    ///
    /// `sim.at(n)?.crash(seed)` is `sim.crash(seed)` called at that moment.
    pub fn at(&self, operations: u64) -> Option<Self> {
        let live = self.live();
        if operations == live.operations {
            drop(live);
            return Some(self.kill());
        }
        let history = live.history.as_ref()?;
        let index = operations.checked_sub(history.first)?;
        let state = history.states.get(usize::try_from(index).ok()?)?;
        Some(Self::from_state(state.clone()))
    }

    /// The machine in the middle of the write that begins when `operations` were
    /// done, without the processes that ran on it: the seed decides how many of the
    /// bytes are written. `None` if the next operation was no write, or was not kept.
    pub fn during(&self, operations: u64, seed: u64) -> Option<Self> {
        let write = {
            let live = self.live();
            let history = live.history.as_ref()?;
            history.writes.get(&(operations + 1))?.clone()
        };
        let sim = self.at(operations)?;
        let count = Random::new(seed).below(write.bytes.len() + 1);
        let written = sim
            .live()
            .write(write.number, &write.bytes[..count], write.offset);
        written.ok().map(|_| sim)
    }

    /// The number of operations so far that may change something: making a
    /// directory or a file, write, sync of a file, a directory or a map,
    /// truncate, delete, rename, lock. One that fails counts as well.
    pub fn operations(&self) -> u64 {
        self.live().operations
    }

    /// Cuts the power once [`operations`](Self::operations) reaches `operations`: the next
    /// operation and every later call, reads included, fails.
    pub fn power_off_after(&self, operations: u64) {
        self.live().cut = Some(Cut {
            after: operations,
            seed: None,
        });
    }

    /// As [`power_off_after`](Self::power_off_after); if the operation that
    /// finds the power cut is a write, the seed decides how many of its bytes
    /// are still written.
    pub fn power_off_during(&self, operations: u64, seed: u64) {
        self.live().cut = Some(Cut {
            after: operations,
            seed: Some(seed),
        });
    }

    /// Whether an operation has found the power cut.
    pub fn is_powered_off(&self) -> bool {
        self.live().is_off
    }

    /// Limits the sum of the lengths of all files, in bytes. A write that exceeds it is cut short,
    /// and the next one fails with [`StorageFull`](io::ErrorKind::StorageFull). `None` (the
    /// default) is no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.live().state.capacity = bytes;
    }

    /// Leaves this file as a failed sync does: each page written since the last sync has reached
    /// the disk or not, and counts as clean from now on. Readers still see the new bytes; no later
    /// sync writes them unless their page is written again. Seed 0: nothing has reached the disk.
    ///
    /// # Errors
    /// The path leads to no file.
    pub fn fail_sync(&self, path: impl AsRef<Path>, seed: u64) -> io::Result<()> {
        let number = self.file_number(path.as_ref())?;
        self.fail_sync_of(number, seed);
        Ok(())
    }

    /// Makes write-back in the background fail: as [`fail_sync`](Self::fail_sync), and in addition
    /// the next sync of the file fails, once, although it writes what was written since.
    ///
    /// # Errors
    /// The path leads to no file.
    pub fn fail_write_back(&self, path: impl AsRef<Path>, seed: u64) -> io::Result<()> {
        let number = self.file_number(path.as_ref())?;
        self.fail_sync_of(number, seed);
        if let Some(file) = self.live().state.tree.file_mut(number) {
            file.write_back_failed = true;
        }
        Ok(())
    }

    pub(super) fn file_number(&self, path: &Path) -> io::Result<FileNumber> {
        let place = Place::of(path)?;
        self.live().state.tree.file_number(&place)
    }

    /// As [`fail_sync`](Self::fail_sync), whatever name the file has by now.
    pub(super) fn fail_sync_of(&self, number: FileNumber, seed: u64) {
        let mut live = self.live();
        live.observe();
        let mut random = (seed > 0).then(|| Random::new(seed));
        if let Some(file) = live.state.tree.file_mut(number) {
            file.fail_sync(random.as_mut());
        }
    }

    /// Makes the kernel drop the pages of this file that count as clean, so that readers see what
    /// is on the disk. That makes a difference only after [`fail_sync`](Self::fail_sync).
    ///
    /// # Errors
    /// The path leads to no file.
    pub fn evict(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let number = self.file_number(path.as_ref())?;
        let mut live = self.live();
        live.observe();
        if let Some(file) = live.state.tree.file_mut(number) {
            file.evict();
        }
        live.refresh_map(number);
        Ok(())
    }
}

impl Default for Sim {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let live = self.live();
        f.debug_struct("Sim")
            .field("operations", &live.operations)
            .field("is_powered_off", &live.is_off)
            .field("dirs", &live.state.tree.dirs().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
