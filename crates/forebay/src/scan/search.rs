//! The backward search: finds the frames after damage.
//!
//! A delimiter leads forward, a root leads back: a root whose pointer and length
//! agree states where its frame begins. The search starts at the end of the file
//! and jumps from frame to frame towards the beginning, so it skips frames inside a
//! payload (a buffer of buffers). A *boundary* is the end of the file, or a place where a
//! frame that the search accepted begins. At its current place the search accepts a frame
//! that ends there if
//!
//! - all three lengths agree (the checksum is checked on delivery);
//! - pointer and length agree, and the checksum holds or the place is a boundary. At a
//!   boundary even a damaged frame is accepted, so that nothing inside it is ever returned;
//! - the delimiter and one other length agree, at a boundary only.
//!
//! Bounds: a search reads the rest of the file once, and computes checksums over at most
//! as many bytes again. The list holds [`MAX_RUNS`] runs. If one file has more separate
//! damages than that, the runs furthest away are dropped; the scanner searches again when
//! it gets there.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::Source;
use super::bad_sectors::{read_around, read_or_zeros};
use crate::format::record::{
    ALIGN, DELIMITER_LEN, FRAME_OVERHEAD, ROOT_LEN, Root, frame_len, hasher,
};
use crate::storage::File;
use crate::sync::pool::{Buffer, Pool};

/// One search keeps at most this many runs.
pub(super) const MAX_RUNS: usize = 1 << 15;

/// At least this many zeros at the end of a file count as preallocated.
const ZERO_TAIL_LEN: u64 = 512;

/// Frames back to back that a search accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub start: u64,
    pub end: u64,
    /// The run is one frame that is known by its root only: its delimiter is wrong, or
    /// its beginning is missing.
    pub by_root: bool,
}

/// What one search found.
#[derive(Debug)]
pub(super) struct Salvage {
    /// In file order, disjoint.
    pub runs: VecDeque<Run>,
    pub from: u64,
    /// `runs` holds every run before this offset; later ones were dropped.
    pub known_to: u64,
    /// The end of the file when the search began.
    pub end: u64,
    /// From here to the end there are only zeros.
    pub zero_from: u64,
    /// From here on frames are back to back up to the end, or up to preallocated zeros.
    pub unbroken_from: u64,
}

impl Salvage {
    pub(super) fn nothing() -> Self {
        Self {
            runs: VecDeque::new(),
            from: 0,
            known_to: 0,
            end: 0,
            zero_from: u64::MAX,
            unbroken_from: u64::MAX,
        }
    }

    /// The run that begins at `at`.
    pub(super) fn run_at(&self, at: u64) -> Option<Run> {
        self.runs.front().copied().filter(|run| run.start == at)
    }

    /// Whether a run begins at `at`.
    pub(super) fn run_starts_at(&self, at: u64) -> bool {
        let place = self.runs.partition_point(|run| run.start < at);
        self.runs.get(place).is_some_and(|run| run.start == at)
    }

    /// Drops the runs that end at or before `at`, and the frames known by their root only
    /// that begin before it.
    pub(super) fn forget_before(&mut self, at: u64) {
        while let Some(run) = self.runs.front() {
            if run.start >= at || (run.end > at && !run.by_root) {
                return;
            }
            self.runs.pop_front();
        }
    }

    /// The index of the run that begins between `at` and `end`, and ends at or after `end`.
    fn across(&self, at: u64, end: u64) -> Option<usize> {
        let place = self.runs.partition_point(|run| run.end < end);
        let run = self.runs.get(place)?;
        (at < run.start && run.start < end).then_some(place)
    }

    /// Whether a run shows that no frame extends from `at` to `end`.
    pub(super) fn contradicts(&self, at: u64, end: u64) -> bool {
        self.across(at, end).is_some()
    }

    /// Of the runs between `at` and `end`, keeps only the chain that contradicts a frame
    /// from `at` to `end`. The runs before that chain are dropped, because they can be inside
    /// the payload of a frame whose end is missing.
    pub(super) fn forget_inside(&mut self, at: u64, end: u64) {
        let Some(mut place) = self.across(at, end) else {
            return;
        };
        while place > 0
            && !self.runs[place].by_root
            && self.runs[place - 1].end == self.runs[place].start
        {
            place -= 1;
        }
        self.runs.drain(..place);
    }

    /// Adds a run before the others.
    fn push(&mut self, run: Run) {
        match self.runs.front_mut() {
            Some(next) if next.start == run.end && !next.by_root && !run.by_root => {
                next.start = run.start;
            }
            _ => self.runs.push_front(run),
        }
        if self.runs.len() > MAX_RUNS {
            self.runs.pop_back();
            self.known_to = self.runs.back().map_or(self.from, |run| run.end);
        }
    }
}

/// Calls `take` with the offset and the id of each whole frame in this part of a file whose
/// checksum holds, even if no frame leads to it; the last frame first. A frame whose checksum
/// would exceed the budget (16 times the part) counts as well.
///
/// # Errors
/// Those of reading the file.
pub(crate) fn each_frame(
    file: &Arc<dyn File>,
    part: Range<u64>,
    pool: &Pool,
    mut take: impl FnMut(u64, u64),
) -> io::Result<()> {
    let source = Source::File {
        file: file.clone(),
        pool: pool.clone(),
    };
    let nothing = Bytes::new();
    let mut search = Search::new(&source, &nothing, 0, u64::MAX);
    search.from = part.start.next_multiple_of(ALIGN as u64);
    search.budget = 16 * (part.end - part.start);
    let mut at = part.end / ALIGN as u64 * ALIGN as u64;
    loop {
        at = search.claim_before(at)?;
        if at < search.from + FRAME_OVERHEAD as u64 {
            return Ok(());
        }
        if let Some(root) = search.proven_root_before(at)? {
            take(at - frame_len(root.len as usize) as u64, root.id);
        }
        at -= ALIGN as u64;
    }
}

/// A search from the end of the file towards its beginning.
pub(super) struct Search<'a> {
    window: Window<'a>,
    max_frame_len: u64,
    from: u64,
    end: u64,
    /// How many bytes may still be checksummed.
    budget: u64,
}

impl<'a> Search<'a> {
    /// A search of `source`. For [`Source::Memory`], `chunk` holds all the bytes and begins
    /// at `base`.
    pub(super) fn new(source: &'a Source, chunk: &'a Bytes, base: u64, max_frame_len: u64) -> Self {
        Self {
            window: Window {
                source,
                chunk,
                base,
                buffer: None,
                low: 0,
                high: 0,
            },
            max_frame_len,
            from: 0,
            end: 0,
            budget: 0,
        }
    }

    /// Searches the bytes `from..end`.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn run(mut self, from: u64, end: u64) -> io::Result<Salvage> {
        self.from = from;
        self.end = end;
        self.budget = end - from;
        let zero_from = self.zero_from()?;
        let mut salvage = Salvage {
            from: self.from,
            known_to: self.end,
            end: self.end,
            zero_from,
            unbroken_from: u64::MAX,
            runs: VecDeque::new(),
        };
        // The last root ends at the multiple of 8 after the last byte that is not zero, or 8
        // bytes later: its last 8 bytes are zero if the payload length is 0, but the pointer
        // before them never is.
        let align = ALIGN as u64;
        let mut at = (self.end / align * align).min(zero_from.next_multiple_of(align) + align);
        // Many zeros at the end were preallocated, so the place where they begin is a boundary
        // like the end of the file. A few zeros may belong to a payload that is torn there.
        let mut boundary = at == self.end;
        if self.end - zero_from >= ZERO_TAIL_LEN {
            if at < self.from + FRAME_OVERHEAD as u64 || self.frame_before(at, true)?.is_none() {
                at = at.saturating_sub(align).max(self.from);
            }
            boundary = true;
        }
        let mut unbroken = boundary;
        while at >= self.from + FRAME_OVERHEAD as u64 {
            if let Some(run) = self.frame_before(at, boundary)? {
                salvage.push(run);
                if unbroken {
                    salvage.unbroken_from = run.start;
                }
                at = run.start;
                boundary = true;
            } else {
                at = self.claim_before(at - align)?;
                boundary = false;
                unbroken = false;
            }
        }
        Ok(salvage)
    }

    /// The offset where the zeros at the end begin.
    fn zero_from(&mut self) -> io::Result<u64> {
        let mut at = self.end;
        while at > self.from {
            let bytes = self.window.before(self.from, at)?;
            for piece in bytes.rchunks(64) {
                if piece.iter().fold(0, |all, byte| all | byte) != 0 {
                    let zeros = piece.iter().rev().take_while(|byte| **byte == 0).count();
                    return Ok(at - zeros as u64);
                }
                at -= piece.len() as u64;
            }
        }
        Ok(at)
    }

    /// The last place, at most `at`, where a root ends whose pointer and length agree. If
    /// there is none, a place too near to the beginning for a frame.
    fn claim_before(&mut self, mut at: u64) -> io::Result<u64> {
        while at >= self.from + FRAME_OVERHEAD as u64 {
            let bytes = self.window.before(self.from, at)?;
            let mut rest = bytes;
            while let Some(root) = rest.last_chunk::<ROOT_LEN>() {
                if Root::from_bytes(root).agreed_len().is_some() {
                    return Ok(at);
                }
                rest = &rest[..rest.len() - ALIGN];
                at -= ALIGN as u64;
            }
        }
        Ok(at)
    }

    /// The frame that ends at `at`, if the search accepts one there. `boundary`: an accepted
    /// frame begins at `at`, or the file ends there.
    fn frame_before(&mut self, at: u64, boundary: bool) -> io::Result<Option<Run>> {
        let bytes = self.window.before(self.from, at)?;
        let Some(root) = bytes.last_chunk() else {
            return Ok(None);
        };
        let root = Root::from_bytes(root);
        let Some(frame_len) = root.frame_len() else {
            return if boundary {
                self.frame_by_delimiter(at, &root)
            } else {
                Ok(None)
            };
        };
        if frame_len > self.max_frame_len {
            return Ok(None);
        }
        if frame_len > at - self.from {
            // The beginning of this frame is missing: all bytes from `from` to here are the
            // rest of its payload.
            return Ok(boundary.then_some(Run {
                start: self.from,
                end: at,
                by_root: true,
            }));
        }
        let start = at - frame_len;
        let by_root = self.window.delimiter(start)? != Some(frame_len - DELIMITER_LEN as u64);
        let believed = !by_root || boundary || self.checksum_holds(start, &root)?;
        Ok(believed.then_some(Run {
            start,
            end: at,
            by_root,
        }))
    }

    /// The root of a frame that ends at `at`, if its checksum holds, or if the budget is too
    /// small to compute it.
    fn proven_root_before(&mut self, at: u64) -> io::Result<Option<Root>> {
        let bytes = self.window.before(self.from, at)?;
        let Some(root) = bytes.last_chunk().map(Root::from_bytes) else {
            return Ok(None);
        };
        match root.frame_len().and_then(|len| at.checked_sub(len)) {
            Some(start) if start >= self.from && root.has_possible_id() => {
                let is_too_much = u64::from(root.len) > self.budget;
                Ok((is_too_much || self.checksum_holds(start, &root)?).then_some(root))
            }
            _ => Ok(None),
        }
    }

    /// The frame that ends at `at`, if its delimiter agrees with the pointer or the length
    /// in its root.
    fn frame_by_delimiter(&mut self, at: u64, root: &Root) -> io::Result<Option<Run>> {
        // In 64 bits, because the padding can take a damaged length to 4 GiB or more.
        let lengths = [
            root.pointed_len().map(u64::from),
            Some(u64::from(root.len).next_multiple_of(ALIGN as u64)),
        ];
        for body_len in lengths.into_iter().flatten() {
            let frame_len = body_len + FRAME_OVERHEAD as u64;
            if frame_len > self.max_frame_len.min(at - self.from) {
                continue;
            }
            let start = at - frame_len;
            if self.window.delimiter(start)? == Some(frame_len - DELIMITER_LEN as u64) {
                return Ok(Some(Run {
                    start,
                    end: at,
                    by_root: false,
                }));
            }
        }
        Ok(None)
    }

    /// Whether the checksum of the frame at `start` holds; `false` without computing it when
    /// the budget is too small.
    fn checksum_holds(&mut self, start: u64, root: &Root) -> io::Result<bool> {
        let len = u64::from(root.len);
        let Some(budget) = self.budget.checked_sub(len) else {
            return Ok(false);
        };
        self.budget = budget;
        let mut hasher = hasher(root.id, root.metadata);
        let complete = self
            .window
            .each_piece(start + DELIMITER_LEN as u64, len, |piece| {
                hasher.update(piece);
            })?;
        Ok(complete && hasher.finalize() == root.checksum)
    }
}

/// Reads backward, in pieces of at most the length of a chunk.
struct Window<'a> {
    source: &'a Source,
    /// All the bytes of [`Source::Memory`].
    chunk: &'a Bytes,
    base: u64,
    /// Holds the bytes `low..high` of a file.
    buffer: Option<Buffer>,
    low: u64,
    high: u64,
}

impl Window<'_> {
    /// Bytes that end at `at` and begin at `floor` or later: at least [`FRAME_OVERHEAD`] of
    /// them, unless `floor` is nearer. Bytes after the end of the file are zero.
    fn before(&mut self, floor: u64, at: u64) -> io::Result<&[u8]> {
        let Source::File { file, pool } = self.source else {
            let range = (floor - self.base) as usize..(at - self.base) as usize;
            return Ok(self.chunk.get(range).unwrap_or_default());
        };
        let needed = (at - floor).min(FRAME_OVERHEAD as u64);
        let buffer = self
            .buffer
            .get_or_insert_with(|| pool.take_len(FRAME_OVERHEAD));
        if at > self.high || at - needed < self.low {
            self.low = floor.max(at.saturating_sub(buffer.len() as u64));
            self.high = self.low;
            let len = (at - self.low) as usize;
            let read = read_around(&**file, &mut buffer[..len], self.low)?;
            buffer[read..len].fill(0);
            self.high = at;
        }
        let low = floor.max(self.low);
        Ok(&buffer[(low - self.low) as usize..(at - self.low) as usize])
    }

    /// The delimiter at `at`.
    fn delimiter(&self, at: u64) -> io::Result<Option<u64>> {
        let mut bytes = [0; DELIMITER_LEN];
        let len = DELIMITER_LEN as u64;
        let found = match (&self.source, &self.buffer) {
            (Source::Memory, _) => {
                let at = (at - self.base) as usize;
                let held = self.chunk.get(at..at + DELIMITER_LEN);
                held.inspect(|held| bytes.copy_from_slice(held)).is_some()
            }
            (Source::File { .. }, Some(buffer)) if at >= self.low && at + len <= self.high => {
                let at = (at - self.low) as usize;
                bytes.copy_from_slice(&buffer[at..at + DELIMITER_LEN]);
                true
            }
            (Source::File { file, .. }, _) => {
                read_or_zeros(&**file, &mut bytes, at)? == DELIMITER_LEN
            }
        };
        Ok(found.then_some(u64::from_be_bytes(bytes)))
    }

    /// Calls `take` with the `len` bytes from `at` on, piece by piece; returns `false` when
    /// there are fewer.
    fn each_piece(
        &self,
        mut at: u64,
        mut len: u64,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        let Source::File { file, pool } = self.source else {
            let at = (at - self.base) as usize;
            let held = self.chunk.get(at..at + len as usize);
            return Ok(held.inspect(|held| take(held)).is_some());
        };
        let mut buffer = pool.take_len(FRAME_OVERHEAD);
        while len > 0 {
            let wanted = len.min(buffer.len() as u64) as usize;
            if read_or_zeros(&**file, &mut buffer[..wanted], at)? < wanted {
                return Ok(false);
            }
            take(&buffer[..wanted]);
            at += wanted as u64;
            len -= wanted as u64;
        }
        Ok(true)
    }
}
