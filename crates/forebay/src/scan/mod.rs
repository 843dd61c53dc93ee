//! The scanner: turns the bytes of one data file into records and damage, in file order.
//! Reader, recovery, verify, inspect and listing all read data files through it, so they
//! agree on what is a record.
//!
//! A frame states its length three times: in the delimiter, the pointer and the
//! payload length. At a place where a frame should begin:
//!
//! 1. All three agree: the frame ends there, even if its checksum is wrong, and the scanner
//!    does not search inside it. With a wrong checksum it is one damaged record, unless the
//!    checksum holds with another of the eight payload lengths that pad to this frame.
//! 2. The delimiter and one of the others agree, and the checksum holds: this is a record,
//!    and the third length is *mended*.
//! 3. Otherwise the bytes after it decide: see [`salvage`].
//!
//! Invariants:
//! - Every record returned has a checksum that holds (with [`Check::Structure`]: three
//!   agreeing lengths) and a possible id. It begins where the frame before it ends, or where
//!   a search believed it.
//! - Items come in file order, do not overlap and leave no bytes out.
//! - Lengths are bounded by the limit and by the end of the file before memory
//!   is allocated. Work is linear in the bytes scanned, whatever the damage.

mod bad_sectors;
mod items;
mod salvage;
mod search;
pub(crate) mod sequence;
mod sound;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::{fmt, io};

use bytes::Bytes;

use crate::format::record::{
    ALIGN, DELIMITER_LEN, FRAME_OVERHEAD, MAX_PAYLOAD_LEN, ROOT_LEN, Root, frame_len, hasher,
    padded_len, padding_is_zero, stated_len,
};
use crate::storage::File;
use crate::sync::pool::Pool;
pub(crate) use bad_sectors::is_device_error;
use bad_sectors::{read_around, read_or_zeros};
pub use items::DamageKind;
pub(crate) use items::{Damage, Found, Mended, Scanned};
use search::Salvage;
pub(crate) use search::each_frame;

/// What a scanner accepts as a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanOptions {
    /// The longest frame that is accepted, in bytes; a longer one is damage.
    pub max_frame_len: u64,
    /// What is checked of a frame.
    pub check: Check,
}

/// What is checked of a frame whose three lengths agree. Any other frame needs a
/// checksum that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// The checksum too.
    Checksums,
    /// Only the lengths and the id: for counting and positioning.
    Structure,
}

/// Where the bytes come from.
enum Source {
    File {
        file: Arc<dyn File>,
        pool: Pool,
    },
    /// The chunk holds all the bytes.
    Memory,
}

/// Walks over the frames of one data file.
pub(crate) struct Scanner {
    chunk: Bytes,
    /// Where the next item begins within the chunk.
    at: usize,
    /// Where the chunk begins in the file.
    base: u64,
    /// Changes with the chunk.
    sequence: u64,
    max_frame_len: u64,
    check: Check,
    /// Id and offset of the last record returned.
    last: Option<(u64, u64)>,
    /// The value of `last` when the last damage was returned. Records returned after that
    /// damage may be misplaced, so ids are compared with this record as well.
    before_damage: Option<(u64, u64)>,
    /// The id of a record before the file, and at most how many bytes before the beginning
    /// of the file that record is.
    behind: Option<(u64, u64)>,
    /// The caller knows from elsewhere that the records before this id were written.
    written_to: u64,
    source: Source,
    /// Where the caller says the bytes end.
    to: u64,
    /// Where the bytes really end: less than `to` once the file turned out to be shorter.
    end: u64,
    /// What the last search after damage found.
    salvage: Option<Salvage>,
}

/// What is at a place where a frame should begin.
enum Verdict {
    Record(Found),
    /// A damaged record whose extent is certain.
    Damaged(Damage),
    /// Nothing confirms the delimiter; holds the id that a doubtful root states.
    Doubtful(Option<u64>),
}

/// Where a frame ends according to its delimiter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StatedEnd {
    /// At this offset of the file.
    Inside(u64),
    /// After the end of the file.
    Beyond,
    /// No frame has such a delimiter, or the delimiter is incomplete.
    Impossible,
}

impl Scanner {
    /// A scanner over the bytes `from..to` of a file, both multiples of 8 in a
    /// sound file. A frame begins at `from`; `to` is the end of the last frame
    /// that is visible, or the length of the file.
    ///
    /// Chunks have the length of the pool's buffers; for a longer frame a longer buffer is
    /// allocated.
    pub(crate) fn over_file(
        file: Arc<dyn File>,
        from: u64,
        to: u64,
        options: ScanOptions,
        pool: Pool,
    ) -> Self {
        Self {
            chunk: Bytes::new(),
            at: 0,
            base: from,
            sequence: 0,
            max_frame_len: options
                .max_frame_len
                .clamp(FRAME_OVERHEAD as u64, frame_len(MAX_PAYLOAD_LEN) as u64),
            check: options.check,
            last: None,
            before_damage: None,
            behind: None,
            written_to: 0,
            source: Source::File { file, pool },
            to,
            end: to,
            salvage: None,
        }
    }

    /// Tells the scanner that a record with this id is before the file, at most `len` bytes
    /// before its beginning.
    pub(crate) fn behind(self, id: u64, len: u64) -> Self {
        let behind = Some((id, len));
        Self { behind, ..self }
    }

    /// Tells the scanner that the records before this id were written, whether they are in
    /// this file or not.
    pub(crate) fn written_to(self, id: u64) -> Self {
        Self {
            written_to: id,
            ..self
        }
    }

    /// A scanner over whole frames that this process has just encoded; the first frame
    /// begins at `offset` of the file. The checksums are not computed again.
    pub(crate) fn over_memory(bytes: Bytes, offset: u64) -> Self {
        let to = offset + bytes.len() as u64;
        Self {
            chunk: bytes,
            at: 0,
            base: offset,
            sequence: 0,
            max_frame_len: frame_len(MAX_PAYLOAD_LEN) as u64,
            check: Check::Structure,
            last: None,
            before_damage: None,
            behind: None,
            written_to: 0,
            source: Source::Memory,
            to,
            end: to,
            salvage: None,
        }
    }

    /// Makes the bytes of the file visible up to `to`, the end of a frame. A smaller
    /// value than before changes nothing.
    ///
    /// Only for a scanner over a file, because memory does not grow.
    pub(crate) fn extend(&mut self, to: u64) {
        debug_assert!(matches!(self.source, Source::File { .. }));
        if to > self.to {
            self.to = to;
            self.end = to;
        }
    }

    /// Where the next item begins in the file.
    #[inline]
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The next item, or `None` at the end of the visible bytes.
    ///
    /// # Errors
    /// Those of reading the file. The scanner stays where it is; a later call
    /// retries.
    #[inline]
    pub(crate) fn next(&mut self) -> io::Result<Option<Scanned>> {
        match self.sound_frame() {
            Some(found) => Ok(Some(self.deliver(found))),
            None => self.next_with_care(),
        }
    }

    /// The payload of the record that [`next`](Self::next) has just returned.
    ///
    /// # Panics
    /// For an earlier record it may panic, or return other bytes.
    #[inline]
    pub(crate) fn payload(&self, found: &Found) -> &[u8] {
        &self.chunk[found.payload.clone()]
    }

    /// The same as [`payload`](Self::payload), shared instead of borrowed.
    ///
    /// # Panics
    /// As [`payload`](Self::payload).
    #[inline]
    pub(crate) fn slice(&self, found: &Found) -> Bytes {
        self.chunk.slice(found.payload.clone())
    }

    /// The chunk that holds the record just returned, and a number that changes
    /// with the chunk.
    #[inline]
    pub(crate) fn chunk(&self) -> (&Bytes, u64) {
        (&self.chunk, self.sequence)
    }

    /// The record of the frame at the current place.
    #[inline]
    fn found(
        &self,
        root: &Root,
        frame_len: u64,
        payload_len: usize,
        mended: Option<Mended>,
    ) -> Found {
        let start = self.at + DELIMITER_LEN;
        Found {
            offset: self.offset(),
            frame_len,
            id: root.id,
            metadata: root.metadata,
            payload: start..start + payload_len,
            mended,
        }
    }

    /// Moves past the record at the current place.
    #[inline]
    pub(crate) fn pass(&mut self, found: &Found) {
        self.last = Some((found.id, found.offset));
        self.at += found.frame_len as usize;
    }

    /// Moves past the record at the current place and returns it.
    #[inline]
    fn deliver(&mut self, found: Found) -> Scanned {
        self.pass(&found);
        Scanned::Record(found)
    }

    #[cold]
    fn next_with_care(&mut self) -> io::Result<Option<Scanned>> {
        if self.offset() >= self.to {
            return Ok(None);
        }
        match self.examine(self.check)? {
            Verdict::Record(found) => Ok(Some(self.deliver(found))),
            Verdict::Damaged(damage) => Ok(Some(self.skip(damage))),
            Verdict::Doubtful(claimed_id) => {
                let offset = self.offset();
                let item = self.step_over_damage(claimed_id);
                if item.is_err() {
                    self.salvage = None;
                    self.seek(offset);
                }
                item.map(Some)
            }
        }
    }

    /// Moves past the damage and returns it.
    fn skip(&mut self, damage: Damage) -> Scanned {
        self.seek(damage.offset + damage.len);
        self.before_damage = self.last;
        Scanned::Damage(damage)
    }

    /// Makes `offset` the current place.
    fn seek(&mut self, offset: u64) {
        match offset.checked_sub(self.base) {
            Some(at) if at <= self.chunk.len() as u64 => self.at = at as usize,
            _ => {
                self.chunk = Bytes::new();
                self.sequence += 1;
                self.base = offset;
                self.at = 0;
            }
        }
    }

    /// How many bytes the chunk has from the current place on.
    fn held(&self) -> usize {
        self.chunk.len() - self.at
    }

    /// Makes the chunk hold `len` bytes from the current place on, or all bytes up to the end
    /// if there are fewer.
    fn fill(&mut self, len: usize) -> io::Result<()> {
        let left = self.end.saturating_sub(self.offset());
        if self.held() as u64 >= left.min(len as u64) {
            return Ok(());
        }
        let Source::File { file, pool } = &self.source else {
            return Ok(());
        };
        let offset = self.offset();
        let mut buffer = pool.take_len(left.min(len as u64) as usize);
        let wanted = left.min(buffer.len() as u64) as usize;
        let read = read_around(&**file, &mut buffer[..wanted], offset)?;
        if read < wanted {
            self.end = offset + read as u64;
        }
        self.chunk = buffer.freeze(read);
        self.sequence += 1;
        self.base = offset;
        self.at = 0;
        Ok(())
    }

    /// Where the frame at the current place ends according to its delimiter. The caller has
    /// filled the chunk with the delimiter.
    fn stated_end(&self) -> StatedEnd {
        let Some(delimiter) = self.chunk[self.at..].first_chunk() else {
            return StatedEnd::Impossible;
        };
        let len = stated_len(*delimiter).filter(|len| *len <= self.max_frame_len);
        let Some(len) = len else {
            return StatedEnd::Impossible;
        };
        let end = self.offset() + len;
        if end <= self.end {
            StatedEnd::Inside(end)
        } else {
            StatedEnd::Beyond
        }
    }

    /// Judges the frame at the current place by itself.
    ///
    /// If another frame begins where the last 8 bytes of this one (payload length and padding)
    /// should be, this one is damaged and ends there.
    fn examine(&mut self, check: Check) -> io::Result<Verdict> {
        let verdict = self.examine_alone(check)?;
        let Verdict::Record(found) = &verdict else {
            return Ok(verdict);
        };
        if !matches!(found.mended, Some(Mended::Length | Mended::Padding)) {
            return Ok(verdict);
        }
        let (offset, len) = (found.offset, found.frame_len - ALIGN as u64);
        self.seek(offset + len);
        let next = self.examine_alone(Check::Checksums)?;
        self.seek(offset);
        match next {
            Verdict::Record(next) if next.mended.is_none() => Ok(Verdict::Damaged(Damage {
                offset,
                len,
                kind: DamageKind::BadRecord,
                claimed_id: None,
            })),
            _ => self.examine_alone(check),
        }
    }

    fn examine_alone(&mut self, check: Check) -> io::Result<Verdict> {
        self.fill(FRAME_OVERHEAD)?;
        let StatedEnd::Inside(end) = self.stated_end() else {
            return Ok(Verdict::Doubtful(None));
        };
        let frame_len = end - self.offset();
        // A long frame needs a buffer of its own: check its root before allocating that.
        if self.is_longer_than_a_chunk(frame_len) && !self.root_fits(frame_len)? {
            return Ok(Verdict::Doubtful(None));
        }
        self.fill(frame_len as usize)?;
        let frame = self.at..self.at + frame_len as usize;
        match self.chunk.get(frame) {
            Some(frame) => Ok(self.judge(frame, check)),
            // The file has just turned out shorter.
            None => Ok(Verdict::Doubtful(None)),
        }
    }

    fn is_longer_than_a_chunk(&self, frame_len: u64) -> bool {
        match &self.source {
            Source::File { pool, .. } => frame_len > pool.buffer_len() as u64,
            Source::Memory => false,
        }
    }

    /// Whether the root at the end of the frame at the current place states the
    /// frame's length at least once.
    fn root_fits(&self, frame_len: u64) -> io::Result<bool> {
        let Source::File { file, .. } = &self.source else {
            return Ok(true);
        };
        let mut root = [0; ROOT_LEN];
        let offset = self.offset() + frame_len - ROOT_LEN as u64;
        if read_or_zeros(&**file, &mut root, offset)? < ROOT_LEN {
            return Ok(true);
        }
        let root = Root::from_bytes(&root);
        let body_len = (frame_len as usize) - FRAME_OVERHEAD;
        Ok(pointer_fits(&root, body_len) || length_fits(&root, body_len))
    }

    /// Judges a whole frame whose delimiter leads to its end.
    fn judge(&self, frame: &[u8], check: Check) -> Verdict {
        let Some((body, root)) = frame[DELIMITER_LEN..].split_last_chunk::<ROOT_LEN>() else {
            return Verdict::Doubtful(None);
        };
        let root = Root::from_bytes(root);
        let damaged = |kind, claimed_id| {
            Verdict::Damaged(Damage {
                offset: self.offset(),
                len: frame.len() as u64,
                kind,
                claimed_id,
            })
        };
        let record = |payload_len: usize, mended| match root.has_possible_id() {
            true => Verdict::Record(self.found(&root, frame.len() as u64, payload_len, mended)),
            // The frame is whole, but no buffer writes such an id.
            false => damaged(DamageKind::BadRecord, None),
        };
        let stated = root.len as usize;
        match (
            pointer_fits(&root, body.len()),
            length_fits(&root, body.len()),
        ) {
            (true, true) => {
                if check == Check::Structure || root.matches(&body[..stated]) {
                    let mended = (!padding_is_zero(&root, body)).then_some(Mended::Padding);
                    return record(stated, mended);
                }
                if let Some(payload_len) = proven_len(&root, body) {
                    return record(payload_len, Some(Mended::Length));
                }
                damaged(DamageKind::Checksum, Some(root.id))
            }
            (false, true) if root.matches(&body[..stated]) => record(stated, Some(Mended::Pointer)),
            (true, false) => match proven_len(&root, body) {
                Some(payload_len) => record(payload_len, Some(Mended::Length)),
                None => Verdict::Doubtful(Some(root.id)),
            },
            (false, true) => Verdict::Doubtful(Some(root.id)),
            (false, false) => Verdict::Doubtful(None),
        }
    }
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner")
            .field("offset", &self.offset())
            .field("to", &self.to)
            .field("end", &self.end)
            .field("chunk_len", &self.chunk.len())
            .finish_non_exhaustive()
    }
}

/// Whether the pointer states the length of this padded payload.
fn pointer_fits(root: &Root, body_len: usize) -> bool {
    root.pointed_len()
        .is_some_and(|len| len as usize == body_len)
}

/// Whether the payload length is one of this padded payload.
fn length_fits(root: &Root, body_len: usize) -> bool {
    let stated = root.len as usize;
    stated <= body_len && padded_len(stated) == body_len
}

/// The payload length with which the checksum holds, among those that pad to the length
/// of `body`.
fn proven_len(root: &Root, body: &[u8]) -> Option<usize> {
    let certain = body.len().saturating_sub(ALIGN - 1);
    let mut hasher = hasher(root.id, root.metadata);
    hasher.update(&body[..certain]);
    for len in certain..=body.len() {
        if hasher.clone().finalize() == root.checksum {
            return Some(len);
        }
        hasher.update(body.get(len..=len)?);
    }
    None
}
