//! Going on behind damage: which place is the next to believe.
//!
//! What stands behind the damage comes from one backward [`search`](super::search)
//! of the file, as a list of runs of frames. Then, at a place where a frame must
//! begin:
//!
//! - A run that begins there is this frame's own root, and the delimiter was
//!   wrong.
//! - A possible delimiter is believed: the damage ends where it leads, and runs
//!   before that lie inside the payload. Unless a run stands across that place,
//!   or ends at it: no frame inside a payload can, because the root is between.
//!   Then the chain of that run counts. Nor is it believed across a torn frame at the
//!   end of the file that follows a run whose ids follow.
//! - A delimiter that leads behind the end is a torn frame, and so is one whose
//!   frame and all behind it end in zeros.
//! - Otherwise the runs are taken in order, if their ids make sense: beyond the
//!   last record's, or what the caller says went before, and by no more than the bytes
//!   between can hold (an event takes a byte at least), or else part of an unbroken
//!   chain to the end. Whether a record's id belongs where it stands is not judged
//!   here: the last record may be the one that does not.
//!
//! Two of these can speak at once. Own root against delimiter: the delimiter
//! wins where it leads to a run or to the end and nothing contradicts it, or
//! where the id of the root makes no sense, because a payload can begin behind
//! the delimiter of an inner frame. A torn frame against frames that follow it
//! up to the very end: they win when their ids follow closely and the frame has
//! room before them.
//!
//! What no reader of these bytes can know: a record whose middle was taken out
//! of the file looks like a torn one that holds frames. Nothing is returned that
//! was not written as a record, so what stands behind it is given up then. And a
//! torn record whose payload holds frames, torn just where one of them ends, looks
//! like one with a bad delimiter: if their ids follow closely, too, they are
//! returned. A bad bit is likelier than that.

use std::io;

use super::search::{Run, Salvage, Search};
use super::{Check, Damage, DamageKind, Found, Mended, Reach, Scanned, Scanner, Source, Verdict};
use crate::format::record::{ALIGN, DELIMITER_LEN, FRAME_OVERHEAD, ROOT_LEN, Root};
use crate::storage::uninterrupted;

/// The least that a disk replaces at a time.
const SECTOR_LEN: u64 = 512;

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
            return self.align_first_run(at);
        }
        if let Source::File { file, .. } = &self.source {
            self.end = self.end.min(uninterrupted(|| file.len())?.max(at));
        }
        let search = Search::new(&self.source, &self.chunk, self.base, self.max_frame_len);
        self.salvage = Some(search.run(at, self.end)?);
        Ok(())
    }

    /// Where no frame of the first run begins at `at`, a frame that was taken reaches into
    /// the run: it goes on with its next frame.
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
            start = match self.reach() {
                Reach::Inside(end) => end,
                Reach::Beyond | Reach::Impossible => run.end,
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
        self.seek(at);
        self.fill(DELIMITER_LEN)?;
        let reach = self.written_reach();
        if let Some(step) = self.step_over_own_root(at, reach, damage)? {
            return Ok(step);
        }
        match reach {
            Reach::Beyond if self.chain_refutes_a_tear(at)? => {
                damage.note(at, DamageKind::BadLength, None);
                Ok(Step::Lost(at + ALIGN as u64))
            }
            Reach::Beyond if at == damage.offset => Ok(Step::Torn),
            Reach::Beyond => Ok(Step::Stop(at)),
            Reach::Inside(end)
                if !self.salvage().contradicts(at, end) && !self.runs_refute(at, end)? =>
            {
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

    /// At `at` stands a frame whose own root says so, unlike its delimiter, and
    /// the delimiter is not the better witness.
    fn step_over_own_root(
        &mut self,
        at: u64,
        reach: Reach,
        damage: &mut Damage,
    ) -> io::Result<Option<Step>> {
        let end = self.end;
        let salvage = self.salvage();
        let Some(run) = salvage.run_at(at).filter(|run| run.by_root) else {
            return Ok(None);
        };
        let (refuted, confirmed) = match reach {
            Reach::Impossible => (true, false),
            Reach::Beyond => (false, false),
            // A frame inside the payload ends before the root.
            Reach::Inside(to) if to < run.end => (true, false),
            Reach::Inside(to) => (
                salvage.contradicts(at, to),
                to == end || salvage.run_starts_at(to),
            ),
        };
        if confirmed && !refuted {
            return Ok(None);
        }
        match self.frame_of_root(run)? {
            Ok(found) if !refuted && !self.makes_sense(&found) => Ok(None),
            Err(_) if reach == Reach::Beyond && !self.chain_refutes_a_tear(at)? => Ok(None),
            Err(_) if matches!(reach, Reach::Inside(to) if to > run.end) => Ok(None),
            Ok(found) if at == damage.offset => Ok(Some(Step::Mended(found))),
            Ok(_) => Ok(Some(Step::Stop(at))),
            Err(claimed_id) => {
                damage.note(at, DamageKind::BadRecord, claimed_id);
                self.salvage().forget_before(run.end);
                Ok(Some(Step::Boundary(run.end)))
            }
        }
    }

    /// Whether frames between `at` and `end` refute the damaged frame at `at` that would
    /// end there: their ids follow, and behind them stands the torn frame that ends the
    /// file, across that place.
    fn runs_refute(&mut self, at: u64, end: u64) -> io::Result<bool> {
        let salvage = self.salvage();
        let place = salvage.runs.partition_point(|run| run.end < end);
        let last = place.checked_sub(1).and_then(|at| salvage.runs.get(at));
        let mut place = salvage.runs.partition_point(|run| run.start <= at);
        let first = salvage.runs.get(place).copied();
        // As in a torn frame, there is room for one before them.
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
        // The damage may reach into the first ones.
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

    /// Whether a delimiter at `at` leads beyond what was written.
    fn is_torn_at(&mut self, at: u64) -> io::Result<bool> {
        self.seek(at);
        self.fill(DELIMITER_LEN)?;
        Ok(self.written_reach() == Reach::Beyond)
    }

    /// What the delimiter at the current place says, where zeros that go on to the end of the
    /// file were never written: a frame that ends among them is as incomplete as one that ends
    /// after the file.
    fn written_reach(&self) -> Reach {
        match self.reach() {
            Reach::Inside(end) if self.zero_from() <= end - ALIGN as u64 => Reach::Beyond,
            reach => reach,
        }
    }

    /// Whether the frame at `at`, which would end after the end of the file, is refuted by
    /// frames that stand between.
    ///
    /// They refute it if their ids belong here, they lead to the end of the file, and the first
    /// of them leaves room for a frame at `at`, because inner frames of its payload could stand
    /// nearer; or if the caller knows that their records were written. Where they lead only to
    /// an incomplete frame, which a crash leaves, a torn payload can look the same: then both
    /// are asked for. Between `at` and them may be other damage.
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
        // A payload of frames begins with one. Where a sector begins, it may also be that the
        // sector before it is another one, which ends with the beginning of a frame.
        if first.start == at + DELIMITER_LEN as u64 && !first.start.is_multiple_of(SECTOR_LEN) {
            return Ok(false);
        }
        let is_own_root = first.start == at;
        let has_room = is_own_root || first.start >= at + FRAME_OVERHEAD as u64;
        let is_chain = is_own_root || is_unbroken || (has_room && self.ends_incomplete()?);
        if !is_chain {
            return Ok(false);
        }
        let end = self.salvage().runs.back().map_or(first.end, |run| run.end);
        while let Some(run) = self.salvage().runs.get(place).copied() {
            if let Some(found) = self.first_record(run)? {
                let is_known = found.id < self.written_to;
                let is_possible = is_own_root || is_known || (is_unbroken && has_room);
                return Ok(is_possible
                    && (self.follows(&found) || self.leads_past_known_id(&found, end)?));
            }
            place += 1;
        }
        Ok(is_own_root && at >= from)
    }

    /// Whether an incomplete frame, or what is left of its delimiter, begins where the last
    /// frame of the file ends.
    fn ends_incomplete(&mut self) -> io::Result<bool> {
        let salvage = self.salvage();
        let file_end = salvage.end;
        let Some(end) = salvage.runs.back().map(|run| run.end) else {
            return Ok(false);
        };
        Ok(salvage.zero_from <= end
            || file_end - end < DELIMITER_LEN as u64
            || self.is_torn_at(end)?)
    }

    /// Whether the frames from `first` on, the last of which ends at `end`, lead past the id
    /// that the caller says went before: then they are the file's own, although `first` was
    /// delivered already.
    fn leads_past_known_id(&mut self, first: &Found, end: u64) -> io::Result<bool> {
        let Some((id, _)) = self.behind.filter(|(id, _)| first.id <= *id) else {
            return Ok(false);
        };
        self.seek(end - ROOT_LEN as u64);
        self.fill(ROOT_LEN)?;
        let root = self.chunk[self.at..].first_chunk().map(Root::from_bytes);
        Ok(root.is_some_and(|root| root.has_possible_id() && root.id > id))
    }

    /// From `at` on nothing is known but the list of runs.
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
            // Where the torn frame at the end of the file follows, no payload ends: the
            // next record of the run may be another's.
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

    /// Whether a record found by searching can be one: by its id, or as part of an
    /// unbroken chain to the end.
    fn makes_sense(&self, found: &Found) -> bool {
        let unbroken = self
            .salvage
            .as_ref()
            .is_some_and(|salvage| found.offset >= salvage.unbroken_from);
        unbroken || self.follows(found)
    }

    /// Whether the ids between this record and the last one, or what the caller says went
    /// before, fit into the bytes between them: an event takes at least one.
    fn follows(&self, found: &Found) -> bool {
        let follows_begin = self
            .behind
            .is_some_and(|(id, len)| found.id > id && found.id - id <= found.offset + len);
        let follows = |(last_id, last_offset): (u64, u64)| {
            found.id > last_id && found.id - last_id <= found.offset - last_offset
        };
        follows_begin || self.last.is_none_or(follows) || self.before_damage.is_some_and(follows)
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
