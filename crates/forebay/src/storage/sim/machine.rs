//! A running simulated machine: its files, what is mapped, locked and open, and
//! when it loses its power.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::contents::Inode;
use super::random::Random;
use super::tree::{FileNumber, Place, Tree};

/// The length that no simulated file exceeds, in bytes.
const FILE_LEN_MAX: u64 = 1 << 36;

/// The length of a mapped file, in bytes.
pub(super) const MAP_LEN: usize = 24;

/// The words of a mapped file.
pub(super) type Words = [AtomicU64; 3];

/// What a snapshot keeps.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) tree: Tree,
    /// Counts changes; the times of files come from it.
    pub(super) clock: u64,
    pub(super) capacity: Option<u64>,
}

/// A running machine.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) state: State,
    pub(super) operations: u64,
    pub(super) cut: Option<Cut>,
    pub(super) is_off: bool,
    pub(super) maps: Vec<(FileNumber, Arc<Words>)>,
    pub(super) locked: BTreeSet<FileNumber>,
    pub(super) open: BTreeMap<FileNumber, usize>,
    pub(super) history: Option<History>,
}

/// When the power is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) after: u64,
    /// Decides how much of a write in progress is done; `None`: nothing.
    pub(super) seed: Option<u64>,
}

/// The state before each operation from the `first`-th on.
#[derive(Debug)]
pub(super) struct History {
    pub(super) first: u64,
    pub(super) states: Vec<State>,
    /// The operations that are writes, by the number of the operation.
    pub(super) writes: BTreeMap<u64, PastWrite>,
}

/// What a write was asked to write.
#[derive(Debug, Clone)]
pub(super) struct PastWrite {
    pub(super) number: FileNumber,
    pub(super) bytes: Arc<[u8]>,
    pub(super) offset: u64,
}

fn power_cut() -> io::Error {
    io::Error::other("simulated power cut")
}

impl Live {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            operations: 0,
            cut: None,
            is_off: false,
            maps: Vec::new(),
            locked: BTreeSet::new(),
            open: BTreeMap::new(),
            history: None,
        }
    }

    /// Begins a call that changes nothing.
    pub(super) fn look(&mut self) -> io::Result<()> {
        if self.is_off {
            return Err(power_cut());
        }
        self.observe();
        Ok(())
    }

    /// Begins a call that changes something.
    pub(super) fn operate(&mut self) -> io::Result<()> {
        self.look()?;
        if self.cut.is_some_and(|cut| self.operations >= cut.after) {
            self.is_off = true;
            return Err(power_cut());
        }
        if let Some(history) = &mut self.history {
            history.states.push(self.state.clone());
        }
        self.operations += 1;
        self.state.clock += 1;
        Ok(())
    }

    /// Notes what was stored into mapped files.
    pub(super) fn observe(&mut self) {
        let tree = &mut self.state.tree;
        self.maps.retain(|(number, words)| {
            let mut bytes = [0; MAP_LEN];
            for (word, bytes) in words.iter().zip(bytes.chunks_exact_mut(8)) {
                let value = u64::from_le(word.load(Ordering::Acquire));
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            let mut seen = [0; MAP_LEN];
            if let Some(file) = tree.file(*number) {
                file.contents().read(&mut seen, 0);
            }
            if seen != bytes
                && let Some(file) = tree.file_mut(*number)
            {
                file.store(&bytes);
            }
            // Once this is the last reference, nothing can store into the map any more.
            Arc::strong_count(words) > 1
        });
    }

    /// Copies what was written into a mapped file to its map.
    pub(super) fn refresh_map(&mut self, number: FileNumber) {
        let map = self.maps.iter().find(|(mapped, _)| *mapped == number);
        let (Some((_, words)), Some(file)) = (map, self.state.tree.file(number)) else {
            return;
        };
        for (index, word) in words.iter().enumerate() {
            let mut bytes = [0; 8];
            file.contents().read(&mut bytes, 8 * index);
            word.store(u64::from_le_bytes(bytes).to_le(), Ordering::Release);
        }
    }

    pub(super) fn file(&self, number: FileNumber) -> io::Result<&Inode> {
        let file = self.state.tree.file(number);
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn file_mut(&mut self, number: FileNumber) -> io::Result<&mut Inode> {
        let clock = self.state.clock;
        let file = self.state.tree.file_mut(number);
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        file.modified = clock;
        Ok(file)
    }

    /// How many of `count` bytes at `offset` may be written.
    fn room(&self, number: FileNumber, offset: u64, count: usize) -> io::Result<usize> {
        let end = offset.saturating_add(count as u64);
        if end > FILE_LEN_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let Some(capacity) = self.state.capacity else {
            return Ok(count);
        };
        let free = capacity.saturating_sub(self.state.tree.used_bytes());
        let len = self.file(number)?.contents().len() as u64;
        let excess = end.saturating_sub(len.saturating_add(free));
        match (count as u64).saturating_sub(excess) {
            0 if count > 0 => Err(io::ErrorKind::StorageFull.into()),
            room => Ok(usize::try_from(room).unwrap_or(count)),
        }
    }

    pub(super) fn write(
        &mut self,
        number: FileNumber,
        buf: &[u8],
        offset: u64,
    ) -> io::Result<usize> {
        let count = self.room(number, offset, buf.len())?;
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if count > 0 {
            self.file_mut(number)?.write(&buf[..count], offset);
            self.refresh_map(number);
        }
        Ok(count)
    }

    /// Keeps what the current operation is asked to write, next to the state before it.
    pub(super) fn note_write(&mut self, number: FileNumber, buf: &[u8], offset: u64) {
        if let Some(history) = &mut self.history {
            let write = PastWrite {
                number,
                bytes: buf.into(),
                offset,
            };
            history.writes.insert(self.operations, write);
        }
    }

    /// Does a part of the write that is in progress when the power is cut.
    pub(super) fn write_partly(&mut self, number: FileNumber, buf: &[u8], offset: u64) {
        // Only the call that found the power cut may still write.
        if let Some(seed) = self.cut.take().and_then(|cut| cut.seed) {
            let count = Random::new(seed).below(buf.len() + 1);
            let _ = self.write(number, &buf[..count], offset);
        }
    }

    /// Creates an empty file at a free place.
    pub(super) fn create(&mut self, place: Place) -> FileNumber {
        let file = Inode::durable(&[], self.state.clock);
        self.state.tree.create(place, file)
    }
}
