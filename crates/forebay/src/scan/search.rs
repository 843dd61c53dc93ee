//! The backward search: which frames stand behind damage.
//!
//! A delimiter leads forward, a root leads back: a root whose pointer and length
//! agree states where its frame begins. The search starts at the end of the file
//! and jumps from frame to frame towards the beginning, so frames inside a
//! payload (a buffer of buffers) are passed over unseen. It takes for a frame,
//! ending where it stands:
//!
//! - three agreeing lengths (the checksum is checked on delivery);
//! - pointer and length that agree, where the checksum holds, or where a frame
//!   that was taken begins, or the file ends. There the frame is taken even when
//!   damaged, so that nothing inside it is ever returned;
//! - delimiter and one other that agree, at such a place only.
//!
//! Bounds: a search reads what is left of the file once, and computes checksums
//! over at most as many bytes again. The list holds [`MAX_RUNS`]; with more
//! separate damages in one file, those furthest away are forgotten, and searched
//! for again once they are reached.

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

/// How many runs one search keeps.
pub(super) const MAX_RUNS: usize = 1 << 15;

/// So many zeros at the end of a file are taken for zeros written ahead.
const ZERO_TAIL_LEN: u64 = 512;

/// Frames back to back that a search took for frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub start: u64,
    pub end: u64,
    /// One frame that is known by its root only: its delimiter is wrong, or its
    /// beginning is missing.
    pub by_root: bool,
}

/// What one search found.
#[derive(Debug)]
pub(super) struct Salvage {
    /// In file order, disjoint.
    pub runs: VecDeque<Run>,
    pub from: u64,
    /// The runs up to here are all there.
    pub known_to: u64,
    /// The end of the file, as far as the search knew it.
    pub end: u64,
    /// From here on to the end there is nothing but zeros.
    pub zero_from: u64,
    /// From here on frames stand back to back up to the end.
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

    /// Forgets the runs that lie before `at`, and what is known by its root only and
    /// begins there.
    pub(super) fn forget_before(&mut self, at: u64) {
        while let Some(run) = self.runs.front() {
            if run.start >= at || (run.end > at && !run.by_root) {
                return;
            }
            self.runs.pop_front();
        }
    }

    /// The place in the list of the run that stands across `end`, or ends at it,
    /// and begins behind `at`.
    fn across(&self, at: u64, end: u64) -> Option<usize> {
        let place = self.runs.partition_point(|run| run.end < end);
        let run = self.runs.get(place)?;
        (at < run.start && run.start < end).then_some(place)
    }

    /// Whether a run shows that no frame reaches from `at` to `end`.
    pub(super) fn contradicts(&self, at: u64, end: u64) -> bool {
        self.across(at, end).is_some()
    }

    /// Leaves, of the runs between `at` and `end`, the chain that contradicts
    /// such a frame: those before it can be inside the payload of a frame whose
    /// end is missing.
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

    /// Adds a run in front of the others.
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

/// Where the whole frames begin, with checksums that hold, that stand anywhere in this part
/// of a file, whatever leads to them, and their ids; the last frame first. Also those for
/// which it would take too long to find out.
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

/// A search from the end of the file backward.
pub(super) struct Search<'a> {
    window: Window<'a>,
    max_frame_len: u64,
    from: u64,
    end: u64,
    /// How many bytes may still be checksummed.
    budget: u64,
}

impl<'a> Search<'a> {
    /// A search of what `source` holds; of memory, `chunk` is all, and begins at
    /// `base`.
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
        // A root ends with its last byte that is not zero, or 8 bytes behind:
        // the payload length can be 0, the pointer cannot.
        let align = ALIGN as u64;
        let mut at = (self.end / align * align).min(zero_from.next_multiple_of(align) + align);
        // Where many zeros begin, the file ends as far as frames are concerned: they were
        // written ahead. A few may be those of a payload that is torn there.
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

    /// Where the zeros at the end begin.
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

    /// The last place up to `at` where a root ends whose pointer and length
    /// agree; where there is none, one too near to the beginning for a frame.
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

    /// The frame that ends at `at`, if one can be taken to. At a `boundary`
    /// frames that were taken begin, or the file ends.
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
            // The beginning of this frame is missing: all from there to here
            // is what is left of its payload.
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

    /// The root of a frame that ends at `at`, if its checksum proves it, or the budget
    /// does not allow to find out.
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

    /// The frame that ends at `at` when its delimiter agrees with either the
    /// pointer or the length of its root.
    fn frame_by_delimiter(&mut self, at: u64, root: &Root) -> io::Result<Option<Run>> {
        // In 64 bits: a damaged length can be so near to 4 GiB that its padded length is more.
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

    /// Whether the checksum of the frame at `start` holds; not computed, and
    /// not believed, beyond the budget.
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

/// Reads backward, in pieces of the length of a chunk.
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
    /// Bytes that end at `at` and begin at `floor` or later: enough for a frame's
    /// root, unless `floor` is nearer. Bytes that the file does not have are
    /// zero.
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

    /// Passes over `len` bytes from `at` on; `false` when there are fewer.
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
