//! Resuming after damage: decides at which place the next record is believed. One backward
//! [`search`](super::search) of the file lists the runs of frames after the damage.
//!
//! Then, at a place where a frame must begin:
//!
//! - If a run known by its root begins there, that root is this frame's own, and the
//!   delimiter was wrong.
//! - A possible delimiter is believed: the damage ends where the delimiter leads, and runs
//!   before that end lie inside the payload. It is not believed if a run extends across that
//!   end, or ends at it: a frame inside the payload cannot, because the root comes after the
//!   payload. Then the chain of that run counts. Nor is it believed if it leads into the
//!   torn frame that ends the file, and the frames before that one have ids that follow.
//! - A delimiter that leads to after the end of the file is a torn frame. So is one whose
//!   frame ends in zeros that continue to the end of the file.
//! - Otherwise the runs are taken in order if their ids make sense. An id makes sense if it
//!   is higher than that of the last record, or of the record that the caller says is before
//!   the file, by no more than the bytes between can hold (an event takes at least one byte).
//!   A run that is part of an unbroken chain to the end is taken whatever its ids. Whether a
//!   record is misplaced is not judged here: the last record may be the misplaced one.
//!
//! Two of these rules can conflict:
//!
//! - Own root against delimiter: the delimiter wins if it leads to a run or to the end and
//!   nothing contradicts it. It also wins if the id in the root makes no sense, because a
//!   payload can begin with an inner frame whose delimiter is cut off.
//! - A torn frame against frames after it: the frames win if their ids follow closely and two
//!   of three hold. They lead to the end of the file, or beyond that of the torn frame; there is
//!   room for a frame before them; the caller knows that one of their records was written.
//!
//! Two cases cannot be told from the bytes. A record whose middle was taken out of the file
//! looks like a torn record that holds frames. The records after it are then given up,
//! because nothing may be returned that was not written as a record. And a torn record whose
//! payload holds frames, torn exactly where one of them ends, looks like a record with a bad
//! delimiter. If the ids of those frames follow closely as well, they are returned, because a
//! bad bit is likelier.

use std::io;

use super::search::{Run, Salvage, Search};
use super::{
    Check, Damage, DamageKind, Found, Mended, Scanned, Scanner, Source, StatedEnd, Verdict,
};
use crate::format::record::{ALIGN, DELIMITER_LEN, FRAME_OVERHEAD, ROOT_LEN, Root, stated_len};
use crate::storage::uninterrupted;

/// A disk replaces at least this many bytes at a time.
const SECTOR_LEN: u64 = 512;

/// How the walk from the damaged place continues.
enum Step {
    /// The damage ends here: a record that can be believed, or separate damage, begins.
    Stop(u64),
    /// The damage extends to here, where a frame must begin.
    Boundary(u64),
    /// The damage extends at least to here.
    Lost(u64),
    /// The frame here is incomplete, and the file ends with it.
    Torn,
    /// The frame where the damage seemed to begin is a record after all.
    Mended(Found),
}

impl Scanner {
    /// Decides what the current place holds if no rule for a single frame does: a record
    /// found through its own root, or damage up to the next place that can be believed.
    /// `claimed_id` is the id in its doubtful root.
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

    /// Makes the list of runs cover the place `at`; searches again if it does not.
    fn search(&mut self, at: u64) -> io::Result<()> {
        if let Some(salvage) = &mut self.salvage
            && (salvage.from..salvage.known_to).contains(&at)
        {
            salvage.forget_before(at);
            return self.align_first_run(at);
        }
        if let Source::File { file, .. } = &self.source {
            self.end = self.end.min(uninterrupted(|| file.len())?.max(at));
        }
        let search = Search::new(&self.source, &self.chunk, self.base, self.max_frame_len);
        self.salvage = Some(search.run(at, self.end)?);
        Ok(())
    }

    /// If an accepted frame ends at `at` inside the first run, makes the run begin with its
    /// next frame.
    fn align_first_run(&mut self, at: u64) -> io::Result<()> {
        let Some(run) = self.salvage().runs.front().copied() else {
            return Ok(());
        };
        if run.by_root || run.start >= at {
            return Ok(());
        }
        let mut start = run.start;
        while start < at {
            self.seek(start);
            self.fill(DELIMITER_LEN)?;
            start = match self.stated_end() {
                StatedEnd::Inside(end) => end,
                StatedEnd::Beyond | StatedEnd::Impossible => run.end,
            };
        }
        match self.salvage().runs.front_mut() {
            Some(run) if start < run.end => run.start = start,
            _ => drop(self.salvage().runs.pop_front()),
        }
        Ok(())
    }

    fn salvage(&mut self) -> &mut Salvage {
        self.salvage.get_or_insert_with(Salvage::nothing)
    }

    /// The step from `at`, where a frame must begin and to which the damage extends.
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
        self.seek(at);
        self.fill(DELIMITER_LEN)?;
        let stated_end = self.written_end();
        if let Some(step) = self.step_over_own_root(at, stated_end, damage)? {
            return Ok(step);
        }
        match stated_end {
            StatedEnd::Beyond if self.chain_refutes_a_tear(at)? => {
                damage.note(at, DamageKind::BadLength, None);
                Ok(Step::Lost(at + ALIGN as u64))
            }
            StatedEnd::Beyond if at == damage.offset => Ok(Step::Torn),
            StatedEnd::Beyond => Ok(Step::Stop(at)),
            StatedEnd::Inside(end)
                if !self.salvage().contradicts(at, end) && !self.runs_refute(at, end)? =>
            {
                damage.note(at, DamageKind::BadRecord, damage.claimed_id);
                self.salvage().forget_before(end);
                Ok(Step::Boundary(end))
            }
            stated_end => {
                damage.note(at, DamageKind::BadLength, None);
                if let StatedEnd::Inside(end) = stated_end {
                    self.salvage().forget_inside(at, end);
                }
                Ok(Step::Lost(at + ALIGN as u64))
            }
        }
    }

    /// The step if the frame at `at` is known by its own root, against its delimiter. `None`
    /// if there is no such root or the delimiter wins.
    fn step_over_own_root(
        &mut self,
        at: u64,
        stated_end: StatedEnd,
        damage: &mut Damage,
    ) -> io::Result<Option<Step>> {
        let end = self.end;
        let salvage = self.salvage();
        let Some(run) = salvage.run_at(at).filter(|run| run.by_root) else {
            return Ok(None);
        };
        let (refuted, confirmed) = match stated_end {
            StatedEnd::Impossible => (true, false),
            StatedEnd::Beyond => (false, false),
            // A frame inside the payload ends before the root.
            StatedEnd::Inside(to) if to < run.end => (true, false),
            StatedEnd::Inside(to) => (
                salvage.contradicts(at, to),
                to == end || salvage.run_starts_at(to),
            ),
        };
        if confirmed && !refuted {
            return Ok(None);
        }
        match self.frame_of_root(run)? {
            Ok(found) if !refuted && !self.makes_sense(&found) => Ok(None),
            Err(_) if stated_end == StatedEnd::Beyond && !self.chain_refutes_a_tear(at)? => {
                Ok(None)
            }
            Err(_) if matches!(stated_end, StatedEnd::Inside(to) if to > run.end) => Ok(None),
            Ok(found) if at == damage.offset => Ok(Some(Step::Mended(found))),
            Ok(_) => Ok(Some(Step::Stop(at))),
            Err(claimed_id) => {
                damage.note(at, DamageKind::BadRecord, claimed_id);
                self.salvage().forget_before(run.end);
                Ok(Some(Step::Boundary(run.end)))
            }
        }
    }

    /// Whether frames between `at` and `end` refute a damaged frame from `at` to `end`: their
    /// ids follow, and the torn frame that ends the file comes after them and extends across
    /// `end`.
    fn runs_refute(&mut self, at: u64, end: u64) -> io::Result<bool> {
        let salvage = self.salvage();
        let place = salvage.runs.partition_point(|run| run.end < end);
        let last = place.checked_sub(1).and_then(|at| salvage.runs.get(at));
        let mut place = salvage.runs.partition_point(|run| run.start <= at);
        let first = salvage.runs.get(place).copied();
        // As for a torn frame, there must be room for a frame before them.
        let first = first.filter(|run| run.start >= at + FRAME_OVERHEAD as u64);
        let (Some(first), Some(last)) = (first, last.copied()) else {
            return Ok(false);
        };
        if last.start < first.start {
            return Ok(false);
        }
        if !self.is_torn_at(last.end)? {
            return Ok(false);
        }
        // The damage may extend into the first of them.
        while let Some(run) = self.salvage().runs.get(place).copied() {
            if run.start > last.start {
                break;
            }
            if let Some(found) = self.first_record(run)? {
                return Ok(self.follows(&found));
            }
            place += 1;
        }
        Ok(false)
    }

    /// Where the frame at `at` would end, if its delimiter is possible.
    fn claimed_end(&mut self, at: u64) -> io::Result<Option<u64>> {
        self.seek(at);
        self.fill(DELIMITER_LEN)?;
        let delimiter = self.chunk[self.at..].first_chunk();
        let len = delimiter.and_then(|delimiter| stated_len(*delimiter));
        Ok(len
            .filter(|len| *len <= self.max_frame_len)
            .map(|len| at + len))
    }

    /// Whether the delimiter at `at` leads past the written bytes.
    fn is_torn_at(&mut self, at: u64) -> io::Result<bool> {
        self.seek(at);
        self.fill(DELIMITER_LEN)?;
        Ok(self.written_end() == StatedEnd::Beyond)
    }

    /// Where the frame at the current place ends according to its delimiter. Zeros that extend
    /// to the end of the file count as not written: a frame that ends among them is as
    /// incomplete as one that ends after the end of the file.
    fn written_end(&self) -> StatedEnd {
        match self.stated_end() {
            StatedEnd::Inside(end) if self.zero_from() <= end - ALIGN as u64 => StatedEnd::Beyond,
            stated_end => stated_end,
        }
    }

    /// Whether frames after `at` refute the frame at `at`, which would end after the end of
    /// the file.
    ///
    /// They refute it if their ids follow and two of three hold: they lead to the end of the
    /// file, or to an incomplete frame that would end after the one at `at`; the first intact one
    /// leaves room for a frame at `at` (inner frames of its payload could be nearer); the caller
    /// knows that one of their records was written. One alone does not do, because a torn payload
    /// can look the same. Other damage may lie between `at` and them.
    fn chain_refutes_a_tear(&mut self, at: u64) -> io::Result<bool> {
        let salvage = self.salvage();
        if salvage.known_to < salvage.end {
            return Ok(true);
        }
        let from = salvage.unbroken_from;
        let is_unbroken = from < salvage.end;
        let mut place = salvage.runs.partition_point(|run| run.start < at);
        let Some(first) = salvage.runs.get(place).copied() else {
            return Ok(false);
        };
        let end = salvage.runs.back().map_or(first.end, |run| run.end);
        let is_own_root = first.start == at;
        // No frame of its payload would end after it.
        let leads_to_end = is_unbroken || self.claimed_end(end)? > self.claimed_end(at)?;
        // A damaged frame known by its root is no inner frame of a torn payload: those were
        // written whole. So only intact ones tell how much room there is. But it has an id.
        let mut claimed = None;
        let intact = loop {
            let Some(run) = self.salvage().runs.get(place).copied() else {
                return Ok(is_own_root && at >= from);
            };
            if run.by_root {
                match self.frame_of_root(run)? {
                    Ok(found) => break found,
                    Err(id) => claimed = claimed.or(id.map(|id| (id, run.start))),
                }
            } else if let Some(found) = self.first_record(run)? {
                break found;
            }
            place += 1;
        };
        // A payload of frames begins with a frame. But if that frame begins with a sector, the
        // sector before it may be a displaced one that ends with a delimiter.
        if intact.offset == at + DELIMITER_LEN as u64 && !intact.offset.is_multiple_of(SECTOR_LEN) {
            return Ok(false);
        }
        let has_room = intact.offset >= at + FRAME_OVERHEAD as u64;
        // An id that the intact one follows is hardly a wrong one.
        let is_known = intact.id < self.written_to
            || claimed.is_some_and(|(id, offset)| {
                id < self.written_to && intact.id.saturating_sub(id) <= intact.offset - offset
            });
        let reasons = [leads_to_end, has_room, is_known];
        let is_possible = is_own_root || reasons.iter().filter(|holds| **holds).count() >= 2;
        Ok(is_possible && (self.follows(&intact) || self.leads_past_known_id(&intact, end)?))
    }

    /// Whether the frames from `first` on, the last of which ends at `end`, lead past the id
    /// of the record that the caller says is before the file. Then they belong to the file,
    /// although `first` was delivered already.
    fn leads_past_known_id(&mut self, first: &Found, end: u64) -> io::Result<bool> {
        let Some((id, _)) = self.behind.filter(|(id, _)| first.id <= *id) else {
            return Ok(false);
        };
        self.seek(end - ROOT_LEN as u64);
        self.fill(ROOT_LEN)?;
        let root = self.chunk[self.at..].first_chunk().map(Root::from_bytes);
        Ok(root.is_some_and(|root| root.has_possible_id() && root.id > id))
    }

    /// The step from `at` if only the list of runs tells what comes next.
    fn step_to_next_run(&mut self, at: u64) -> io::Result<Step> {
        let known_to = self.salvage().known_to;
        let Some(run) = self.salvage().runs.front().copied() else {
            return Ok(Step::Lost(known_to.max(at + ALIGN as u64)));
        };
        let (end, step) = match self.first_record(run)? {
            Some(found)
                if self.makes_sense(&found) || self.leads_past_known_id(&found, run.end)? =>
            {
                return Ok(Step::Stop(found.offset));
            }
            // If the torn frame that ends the file follows the run, the run is not inside a
            // payload. This record is misplaced, but the next one of the run may belong here.
            Some(found) if self.is_torn_at(run.end)? => {
                let end = found.offset + found.frame_len;
                (end, Step::Lost(end))
            }
            Some(_) => (run.end, Step::Lost(run.end)),
            None => (run.end, Step::Boundary(run.end)),
        };
        match self.salvage().runs.front_mut() {
            Some(run) if end < run.end => run.start = end,
            _ => self.salvage().forget_before(run.end),
        }
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
                Verdict::Doubtful(_) => match self.stated_end() {
                    StatedEnd::Inside(end) => self.seek(end),
                    _ => break,
                },
            }
        }
        Ok(None)
    }

    /// The record of a frame that is known by its root. If it is damaged, the inner error is
    /// the id that the root states, if any.
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
            Some(payload) if root.frame_len() == Some(frame_len) && root.matches(payload) => {
                if !root.has_possible_id() {
                    return Ok(Err(None));
                }
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

    /// Whether a record found by searching is believable: by its id, or as part of an
    /// unbroken chain to the end.
    fn makes_sense(&self, found: &Found) -> bool {
        let unbroken = self
            .salvage
            .as_ref()
            .is_some_and(|salvage| found.offset >= salvage.unbroken_from);
        unbroken || self.follows(found)
    }

    /// Whether the id of this record is higher than that of the last record, or of the one
    /// that the caller says is before the file, by no more than the bytes between them: an
    /// event takes at least one byte.
    fn follows(&self, found: &Found) -> bool {
        let follows_begin = self
            .behind
            .is_some_and(|(id, len)| found.id > id && found.id - id <= found.offset + len);
        let follows = |(last_id, last_offset): (u64, u64)| {
            found.id > last_id && found.id - last_id <= found.offset - last_offset
        };
        follows_begin || self.last.is_none_or(follows) || self.before_damage.is_some_and(follows)
    }

    /// Ends the damage at `end`, where a record or separate damage begins.
    fn close(&mut self, mut damage: Damage, end: u64) -> Scanned {
        damage.len = end - damage.offset;
        self.skip(damage)
    }

    /// Ends the damage as a torn tail: the frame that begins it is incomplete.
    fn close_torn(&mut self, mut damage: Damage) -> Scanned {
        damage.kind = DamageKind::TornTail;
        damage.claimed_id = None;
        self.close(damage, self.to)
    }

    /// Ends the damage at the end of the file: nothing before that is believed.
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

    /// The offset from which on the file is known to hold only zeros.
    fn zero_from(&self) -> u64 {
        match &self.salvage {
            Some(salvage) if salvage.end == self.end => salvage.zero_from,
            _ => self.end,
        }
    }
}

impl Damage {
    /// Notes what is wrong at `at`. The kind at the beginning of the span names the whole
    /// span, and an id is claimed only while the span is one record.
    fn note(&mut self, at: u64, kind: DamageKind, claimed_id: Option<u64>) {
        if at == self.offset {
            self.kind = kind;
            self.claimed_id = claimed_id;
        } else {
            self.claimed_id = None;
        }
    }
}
