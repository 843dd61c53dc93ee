//! Finding the next record behind damage.
//!
//! A delimiter leads forward, a root leads back. Where the way forward is lost,
//! one search goes from the end of the file *backward*: a root whose pointer and
//! length agree states where its frame begins, and the search jumps there, so
//! frames inside a payload (a buffer of buffers) are passed over unseen. What it
//! finds is kept as a list of [`Run`]s; every later damage in the file is
//! settled from the list.
//!
//! The search takes for a frame, ending where it stands:
//! - three agreeing lengths (the checksum is checked on delivery);
//! - pointer and length that agree, where the checksum holds, or where a frame
//!   that was taken begins, or the file ends. There the frame is taken even when
//!   damaged, so that nothing inside it is ever returned;
//! - delimiter and one other that agree, at such a place only.
//!
//! Then, from the damaged place forward:
//! - A run that begins there is this frame's own root: the delimiter was wrong.
//! - A possible delimiter is believed: the damage ends where it leads, and runs
//!   before that lie inside the payload. Unless a run stands across that place,
//!   or ends at it: no frame inside a payload can, because the root is between.
//!   Then bytes were taken out or put in, and the chain of that run counts.
//! - A delimiter that leads behind the end is a torn frame: nothing behind it is
//!   believed. A payload that was cut at the end of an inner frame looks exactly
//!   like a record that lost its middle; what was never written as a record must
//!   not be returned, so some that were are given up when bytes were taken out of
//!   the file's last records.
//! - Otherwise the runs are taken in order, if their ids make sense: beyond the
//!   last record's, and by no more than the bytes between can hold (an event
//!   takes a byte at least), or else part of an unbroken chain to the end.
//!
//! Bounds: each search reads what is left of the file once, and computes
//! checksums over at most as many bytes again. The list holds [`MAX_RUNS`]; with
//! more separate damages in one file, those furthest away are forgotten, and
//! searched for again once they are reached.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;

use super::bad_sectors::{read_around, read_or_zeros};
use super::{Check, Damage, DamageKind, Found, Mended, Reach, Scanned, Scanner, Source, Verdict};
use crate::format::record::{
    ALIGN, DELIMITER_LEN, FRAME_OVERHEAD, ROOT_LEN, Root, hasher, padded_len,
};
use crate::pool::Buffer;

/// How many runs one search keeps.
pub(super) const MAX_RUNS: usize = 1 << 15;

/// Frames back to back that a search took for frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    start: u64,
    end: u64,
    /// One frame that is known by its root only: its delimiter is wrong, or its
    /// beginning is missing.
    by_root: bool,
}

/// What one search found.
#[derive(Debug)]
pub(super) struct Salvage {
    /// In file order, disjoint.
    runs: VecDeque<Run>,
    from: u64,
    /// The runs up to here are all there.
    known_to: u64,
    /// The end of the file, as far as the search knew it.
    end: u64,
    /// From here on to the end there is nothing but zeros.
    zero_from: u64,
    /// From here on frames stand back to back up to the end.
    unbroken_from: u64,
}

/// How the walk from the damaged place goes on.
enum Step {
    /// A record that can be believed, or damage of its own, begins here.
    Stop(u64),
    /// The damage goes on up to here, where a frame must begin.
    Boundary(u64),
    /// The damage goes on at least up to here.
    Lost(u64),
    /// The frame here is incomplete, and the file ends with it.
    Torn,
    /// The frame at the very beginning is a record after all.
    Mended(Found),
}

impl Scanner {
    /// Settles what lies at the current place, which no rule for a single frame
    /// explains: a record found through its own root, or damage up to the next
    /// place that can be believed. `claimed_id` is the id in its doubtful root.
    pub(super) fn step_over_damage(&mut self, claimed_id: Option<u64>) -> io::Result<Scanned> {
        let mut damage = Damage {
            offset: self.offset(),
            len: 0,
            kind: DamageKind::BadLength,
            claimed_id,
        };
        let mut step = Step::Boundary(damage.offset);
        loop {
            let at = match step {
                Step::Boundary(at) | Step::Lost(at) => at,
                Step::Stop(at) => return Ok(self.close(damage, at)),
                Step::Torn => return Ok(self.close_torn(damage)),
                Step::Mended(found) => return Ok(self.deliver(found)),
            };
            if at >= self.end {
                return Ok(self.close_at_end(damage));
            }
            self.search(at)?;
            step = match step {
                Step::Boundary(_) => self.step_from_boundary(at, &mut damage)?,
                _ => self.step_to_next_run(at)?,
            };
        }
    }

    /// Makes the list of runs cover the place `at`.
    fn search(&mut self, at: u64) -> io::Result<()> {
        if let Some(salvage) = &mut self.salvage
            && (salvage.from..salvage.known_to).contains(&at)
        {
            salvage.forget_before(at);
            return Ok(());
        }
        if let Source::File { file, .. } = &self.source {
            self.end = self.end.min(file.len()?.max(at));
        }
        let search = Search {
            window: Window {
                source: &self.source,
                chunk: &self.chunk,
                base: self.base,
                buffer: None,
                low: 0,
                high: 0,
            },
            from: at,
            end: self.end,
            max_frame_len: self.max_frame_len,
            budget: self.end - at,
        };
        self.salvage = Some(search.run()?);
        Ok(())
    }

    fn salvage(&mut self) -> &mut Salvage {
        self.salvage.get_or_insert_with(Salvage::nothing)
    }

    /// At `at` a frame must begin, and the damage has reached it.
    fn step_from_boundary(&mut self, at: u64, damage: &mut Damage) -> io::Result<Step> {
        self.seek(at);
        if at > damage.offset {
            match self.examine(self.check)? {
                Verdict::Record(_) | Verdict::Damaged(_) => return Ok(Step::Stop(at)),
                Verdict::Doubtful(_) => {}
            }
            if self.zero_from() <= at {
                return Ok(Step::Stop(at));
            }
        }
        if let Some(run) = self.salvage().run_at(at)
            && run.by_root
        {
            return self.step_over_own_root(run, damage);
        }
        self.seek(at);
        self.fill(DELIMITER_LEN)?;
        let reach = match self.reach() {
            // The rest of this frame was never written.
            Reach::Inside(end) if self.zero_from() <= end - ALIGN as u64 => Reach::Beyond,
            reach => reach,
        };
        match reach {
            Reach::Beyond if at == damage.offset => Ok(Step::Torn),
            Reach::Beyond => Ok(Step::Stop(at)),
            Reach::Inside(end) if !self.salvage().contradicts(at, end) => {
                damage.note(at, DamageKind::BadRecord, damage.claimed_id);
                self.salvage().forget_before(end);
                Ok(Step::Boundary(end))
            }
            reach => {
                damage.note(at, DamageKind::BadLength, None);
                if let Reach::Inside(end) = reach {
                    self.salvage().forget_inside(at, end);
                }
                Ok(Step::Lost(at + ALIGN as u64))
            }
        }
    }

    /// At the beginning of `run` stands the frame of its root.
    fn step_over_own_root(&mut self, run: Run, damage: &mut Damage) -> io::Result<Step> {
        match self.frame_of_root(run)? {
            Ok(found) if run.start == damage.offset => Ok(Step::Mended(found)),
            Ok(_) => Ok(Step::Stop(run.start)),
            Err(claimed_id) => {
                damage.note(run.start, DamageKind::BadRecord, claimed_id);
                self.salvage().forget_before(run.end);
                Ok(Step::Boundary(run.end))
            }
        }
    }

    /// From `at` on nothing is known but the list of runs.
    fn step_to_next_run(&mut self, at: u64) -> io::Result<Step> {
        let known_to = self.salvage().known_to;
        let Some(run) = self.salvage().runs.front().copied() else {
            return Ok(Step::Lost(known_to.max(at + ALIGN as u64)));
        };
        let step = match self.first_record(run)? {
            Some(found) if self.makes_sense(&found) => return Ok(Step::Stop(found.offset)),
            Some(_) => Step::Lost(run.end),
            None => Step::Boundary(run.end),
        };
        self.salvage().forget_before(run.end);
        Ok(step)
    }

    /// The first record of a run whose checksum holds.
    fn first_record(&mut self, run: Run) -> io::Result<Option<Found>> {
        if run.by_root {
            return Ok(self.frame_of_root(run)?.ok());
        }
        self.seek(run.start);
        while self.offset() < run.end {
            match self.examine(Check::Checksums)? {
                Verdict::Record(found) => return Ok(Some(found)),
                Verdict::Damaged(damage) => self.seek(damage.offset + damage.len),
                Verdict::Doubtful(_) => match self.reach() {
                    Reach::Inside(end) => self.seek(end),
                    _ => break,
                },
            }
        }
        Ok(None)
    }

    /// The record of a frame that is known by its root; the id that the root
    /// states when its checksum does not hold.
    fn frame_of_root(&mut self, run: Run) -> io::Result<Result<Found, Option<u64>>> {
        let frame_len = run.end - run.start;
        self.seek(run.start);
        self.fill(frame_len as usize)?;
        let frame = self.chunk.get(self.at..self.at + frame_len as usize);
        let Some((body, root)) = frame
            .and_then(|frame| frame.get(DELIMITER_LEN..))
            .and_then(|rest| rest.split_last_chunk::<ROOT_LEN>())
        else {
            return Ok(Err(None));
        };
        let root = Root::from_bytes(root);
        match body.get(..root.len as usize) {
            Some(payload)
                if root.agreed_len() == Some(body.len() as u32) && root.matches(payload) =>
            {
                Ok(Ok(self.found(
                    &root,
                    frame_len,
                    payload.len(),
                    Some(Mended::Delimiter),
                )))
            }
            Some(_) => Ok(Err(Some(root.id))),
            None => Ok(Err(None)),
        }
    }

    /// Whether a record found by searching can be the next one: see the head of
    /// this file.
    fn makes_sense(&self, found: &Found) -> bool {
        let Some((last_id, last_offset)) = self.last else {
            return true;
        };
        let unbroken = self
            .salvage
            .as_ref()
            .is_some_and(|salvage| found.offset >= salvage.unbroken_from);
        found.id > last_id && (found.id - last_id <= found.offset - last_offset || unbroken)
    }

    /// The damage ends at `end`, where something of its own begins.
    fn close(&mut self, mut damage: Damage, end: u64) -> Scanned {
        damage.len = end - damage.offset;
        self.skip(damage)
    }

    /// The frame that begins the damage is incomplete.
    fn close_torn(&mut self, mut damage: Damage) -> Scanned {
        damage.kind = DamageKind::TornTail;
        damage.claimed_id = None;
        self.close(damage, self.to)
    }

    /// Nothing to believe up to the end of the file.
    fn close_at_end(&mut self, mut damage: Damage) -> Scanned {
        if self.end < self.to || self.end - damage.offset < DELIMITER_LEN as u64 {
            return self.close_torn(damage);
        }
        if self.zero_from() <= damage.offset {
            damage.kind = DamageKind::ZeroTail;
            damage.claimed_id = None;
        }
        self.close(damage, self.to)
    }

    /// From where on the file is known to hold nothing but zeros.
    fn zero_from(&self) -> u64 {
        match &self.salvage {
            Some(salvage) if salvage.end == self.end => salvage.zero_from,
            _ => self.end,
        }
    }
}

impl Damage {
    /// Notes what is wrong at `at`: the first cause names the whole span, and an
    /// id is claimed only as long as the span is one record.
    fn note(&mut self, at: u64, kind: DamageKind, claimed_id: Option<u64>) {
        if at == self.offset {
            self.kind = kind;
            self.claimed_id = claimed_id;
        } else {
            self.claimed_id = None;
        }
    }
}

impl Salvage {
    fn nothing() -> Self {
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
    fn run_at(&self, at: u64) -> Option<Run> {
        self.runs.front().copied().filter(|run| run.start == at)
    }

    /// Cuts off what lies before `at`.
    fn forget_before(&mut self, at: u64) {
        while let Some(run) = self.runs.front_mut() {
            if run.start >= at {
                return;
            }
            if run.end > at && !run.by_root {
                run.start = at;
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
    fn contradicts(&self, at: u64, end: u64) -> bool {
        self.across(at, end).is_some()
    }

    /// Leaves, of the runs between `at` and `end`, the chain that contradicts
    /// such a frame: those before it can be inside the payload of a frame whose
    /// end is missing.
    fn forget_inside(&mut self, at: u64, end: u64) {
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

/// A search from the end of the file backward.
struct Search<'a> {
    window: Window<'a>,
    from: u64,
    end: u64,
    max_frame_len: u64,
    /// How many bytes may still be checksummed.
    budget: u64,
}

impl Search<'_> {
    fn run(mut self) -> io::Result<Salvage> {
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
        let mut boundary = at == self.end;
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
        let Some(body_len) = root.agreed_len() else {
            return if boundary {
                self.frame_by_delimiter(at, &root)
            } else {
                Ok(None)
            };
        };
        let frame_len = u64::from(body_len) + FRAME_OVERHEAD as u64;
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

    /// The frame that ends at `at` when its delimiter agrees with either the
    /// pointer or the length of its root.
    fn frame_by_delimiter(&mut self, at: u64, root: &Root) -> io::Result<Option<Run>> {
        let lengths = [
            root.pointed_len().map(u64::from),
            Some(padded_len(root.len as usize) as u64),
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
