//! Decides by their ids which records are at the place where they were written.
//!
//! A checksum proves that a record was written, not that it was written at this place:
//! an old page or a sector of another file holds whole records too. So a record whose
//! id is higher than the one expected is believed only if it is part of the heaviest
//! chain of *runs* (frames that follow each other in place and in id). A chain is a list of
//! runs in place order with rising ids. The heaviest chain holds the most bytes; of two
//! chains of the same weight, the one with the lower ids wins. A displaced page weighs at
//! most 4 KiB. The records that it contradicts weigh more, or weigh the same and have the
//! lower ids.
//!
//! Bounds: at most [`MAX_RUNS`] runs are weighed at a time, and [`ANCHOR_LEN`] bytes of
//! frames in sequence end the look ahead.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use super::{Scanned, Scanner};

/// At most this many runs are weighed at a time. If there may be more, only the first half
/// is decided; the caller looks ahead again when it reaches the rest.
const MAX_RUNS: usize = 512;

/// Frames in sequence of this many bytes are not displaced as a whole, so the look ahead
/// ends after them. 1 MiB is far more than a page, and quick to read.
const ANCHOR_LEN: u64 = 1 << 20;

/// The look ahead takes whole files after the current one until they have at least this
/// many bytes: more than enough to outweigh a displaced page.
pub(crate) const FOLLOWING_LEN: u64 = 64 << 10;

/// Frames that follow each other in place and in id. A run holds all or none of the ids of
/// an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdRun {
    /// Whether it is in the current file, not in one after it.
    in_this_file: bool,
    /// Where its frames are in their file.
    place: Range<u64>,
    /// The ids of its first and its last record.
    pub(crate) first_id: u64,
    pub(crate) last_id: u64,
    /// The id after the events of the last record.
    next_id: u64,
}

impl IdRun {
    pub(crate) fn len(&self) -> u64 {
        self.place.end - self.place.start
    }

    /// Whether the next run of its file follows it in place and in id.
    pub(crate) fn leads_to(&self, next: &Self) -> bool {
        self.place.end == next.place.start
            && self.last_id < next.first_id
            && next.first_id <= self.next_id
    }
}

/// Collects runs from a scan that reads ahead of the scan that met a jump in ids.
#[derive(Debug)]
pub(crate) struct LookAhead {
    /// Only records with these ids count.
    ids: Range<u64>,
    runs: Vec<IdRun>,
    /// The first id of each run and the id after its last record's: later runs are cut at
    /// these ids.
    cuts: BTreeSet<u64>,
    /// The last this many bytes are frames that follow each other in place and in id.
    unbroken_len: u64,
    /// The look ahead ends when `unbroken_len` is this long.
    anchor_len: u64,
    is_in_later_file: bool,
    /// The next record begins a new run, wherever it is.
    is_new: bool,
}

impl LookAhead {
    /// A look ahead for records after `last_id`. No record has the id `limit` or a higher
    /// one.
    pub(crate) fn behind(last_id: u64, limit: u64) -> Self {
        Self {
            ids: last_id.saturating_add(1)..limit,
            runs: Vec::new(),
            cuts: BTreeSet::new(),
            unbroken_len: 0,
            anchor_len: ANCHOR_LEN,
            is_in_later_file: false,
            is_new: true,
        }
    }

    /// A look ahead at all ids that ends only with the scan, or at [`MAX_RUNS`] runs.
    pub(crate) fn without_anchor() -> Self {
        Self {
            anchor_len: u64::MAX,
            ..Self::behind(0, u64::MAX)
        }
    }

    /// Makes the look ahead end after the first record.
    pub(crate) fn of_one_record(self) -> Self {
        let anchor_len = 1;
        Self { anchor_len, ..self }
    }

    /// Whether the look ahead is still in the file where it began.
    pub(crate) fn is_in_this_file(&self) -> bool {
        !self.is_in_later_file
    }

    /// Says that the records from now on are in the next file.
    pub(crate) fn next_file(&mut self) {
        self.is_in_later_file = true;
        self.is_new = true;
    }

    /// Takes a record. Returns `false` when the look ahead is complete.
    pub(crate) fn push(&mut self, place: Range<u64>, id: u64, events: u64) -> bool {
        if !self.ids.contains(&id) {
            self.is_new = true;
            return true;
        }
        let next_id = id.saturating_add(events);
        let is_new = std::mem::take(&mut self.is_new);
        let mut goes_on = false;
        if let Some(run) = self.runs.last_mut() {
            goes_on =
                !is_new && run.place.end == place.start && id > run.last_id && id <= run.next_id;
            if goes_on && self.cuts.range(run.last_id + 1..=id).next().is_none() {
                self.unbroken_len += place.end - place.start;
                run.place.end = place.end;
                run.last_id = id;
                run.next_id = next_id;
                return self.unbroken_len < self.anchor_len;
            }
        }
        if self.runs.len() == MAX_RUNS {
            return false;
        }
        if let Some(run) = self.runs.last() {
            self.cuts.extend([run.first_id, run.last_id + 1]);
        }
        let before = if goes_on { self.unbroken_len } else { 0 };
        self.unbroken_len = before + (place.end - place.start);
        self.runs.push(IdRun {
            in_this_file: !self.is_in_later_file,
            place,
            first_id: id,
            last_id: id,
            next_id,
        });
        self.unbroken_len < self.anchor_len
    }

    /// Takes the records of a scan; `count` gives the events of a record from its metadata
    /// and payload. Returns `false` when the look ahead is complete.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(crate) fn scan(
        &mut self,
        scanner: &mut Scanner,
        count: impl Fn(u32, &[u8]) -> u64,
    ) -> io::Result<bool> {
        while let Some(item) = scanner.next()? {
            let Scanned::Record(found) = item else {
                continue;
            };
            let events = count(found.metadata, scanner.payload(&found));
            let place = found.offset..found.offset + found.frame_len;
            if !self.push(place, found.id, events) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The runs, in place order.
    pub(crate) fn into_runs(self) -> Vec<IdRun> {
        self.runs
    }

    /// Decides which runs of the current file are believed.
    pub(crate) fn decide(self) -> Sequence {
        let believed = heaviest_chain(&self.runs);
        let decided = match self.runs.len() {
            MAX_RUNS => MAX_RUNS / 2,
            len => len,
        };
        let runs = self.runs.into_iter().zip(believed).take(decided);
        Sequence {
            runs: runs
                .filter(|(run, _)| run.in_this_file)
                .map(|(run, believed)| (run.place, believed))
                .collect(),
        }
    }
}

/// Which runs in a part of one file are believed.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    /// The places of the runs, in order, and whether each run is believed.
    runs: Vec<(Range<u64>, bool)>,
}

impl Sequence {
    /// Whether the record at this offset is believed; `None` if that was not decided.
    pub(crate) fn believes(&self, offset: u64) -> Option<bool> {
        let at = self.runs.partition_point(|(place, _)| place.end <= offset);
        let (place, believed) = self.runs.get(at)?;
        place.contains(&offset).then_some(*believed)
    }
}

/// For each run, whether it is in the heaviest chain of runs with rising ids.
pub(crate) fn heaviest_chain(runs: &[IdRun]) -> Vec<bool> {
    /// The heaviest chain that ends with a run.
    struct Chain {
        weight: u64,
        before: Option<usize>,
    }
    /// Ranks chains by weight; of the same weight, the one with the lower last id, then the
    /// first one.
    fn rank(runs: &[IdRun], chains: &[Chain], at: usize) -> (u64, Reverse<(u64, usize)>) {
        (chains[at].weight, Reverse((runs[at].last_id, at)))
    }
    let mut chains: Vec<Chain> = Vec::with_capacity(runs.len());
    for run in runs {
        let before = (0..chains.len())
            .filter(|at| runs[*at].last_id < run.first_id)
            .max_by_key(|at| rank(runs, &chains, *at));
        let weight = before.map_or(0, |at| chains[at].weight);
        chains.push(Chain {
            weight: weight.saturating_add(run.len()),
            before,
        });
    }
    let mut believed = vec![false; runs.len()];
    let mut last = (0..runs.len()).max_by_key(|at| rank(runs, &chains, *at));
    while let Some(at) = last {
        believed[at] = true;
        last = chains[at].before;
    }
    believed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN: u64 = 100;

    /// Records back to back, of one event each.
    fn look_at(ids: &[u64], next_id: u64) -> LookAhead {
        let mut look = LookAhead::behind(next_id.saturating_sub(1), u64::MAX);
        for (id, at) in ids.iter().zip(0..) {
            look.push(at * LEN..(at + 1) * LEN, *id, 1);
        }
        look
    }

    /// The ids of the records that a reader which expects `next_id` gets.
    fn read(ids: &[u64], mut next_id: u64) -> Vec<u64> {
        let decided = look_at(ids, next_id).decide();
        let mut came = Vec::new();
        for (id, at) in ids.iter().zip(0..) {
            let believed = || decided.believes(at * LEN) == Some(true);
            if *id == next_id || (*id > next_id && believed()) {
                came.push(*id);
                next_id = id + 1;
            }
        }
        came
    }

    #[test]
    fn what_follows_in_place_and_id_is_one_run() {
        let mut look = look_at(&[5, 6, 7, 9], 1);
        look.push(500..600, 10, 1);
        look.next_file();
        look.push(600..700, 11, 1);
        let ids = |run: IdRun| (run.first_id, run.last_id);
        let runs: Vec<_> = look.into_runs().into_iter().map(ids).collect();
        assert_eq!(runs, [(5, 7), (9, 9), (10, 10), (11, 11)]);
    }

    #[test]
    fn a_run_is_cut_where_an_earlier_one_begins_and_ends() {
        let runs = look_at(&[13, 14, 11, 12, 13, 14, 15, 16], 11).into_runs();
        let ids: Vec<_> = runs.iter().map(|run| (run.first_id, run.last_id)).collect();
        assert_eq!(ids, [(13, 14), (11, 12), (13, 14), (15, 16)]);
    }

    #[test]
    fn a_record_from_further_on_is_not_believed() {
        assert_eq!(read(&[90, 11, 12, 13], 10), [11, 12, 13]);
        assert_eq!(read(&[90, 91, 12, 13, 14], 10), [12, 13, 14]);
        assert_eq!(read(&[11, 90, 13, 14], 10), [11, 13, 14]);
    }

    #[test]
    fn a_real_gap_is_believed() {
        assert_eq!(read(&[90, 91, 92], 10), [90, 91, 92]);
        assert_eq!(read(&[12, 20, 21, 40], 10), [12, 20, 21, 40]);
    }

    #[test]
    fn of_two_that_weigh_the_same_the_lower_ids_win() {
        assert_eq!(read(&[90, 11], 10), [11]);
        assert_eq!(read(&[11, 90, 12], 10), [11, 12]);
        assert_eq!(read(&[90, 11, 90], 10), [11, 90]);
    }

    #[test]
    fn what_comes_twice_counts_once() {
        // Of a copy that goes on further than the original, the second half counts.
        assert_eq!(read(&[1, 2, 3, 4, 5, 4, 5, 6, 7], 1), [1, 2, 3, 4, 5, 6, 7]);
        // A copy whose ids all lie inside an earlier run does not count.
        assert_eq!(read(&[1, 2, 3, 4, 5, 3, 4], 1), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn long_records_count_more_than_many_events() {
        let mut look = LookAhead::behind(10, u64::MAX);
        look.push(0..100, 21, 100);
        look.push(100..4000, 11, 1);
        look.next_file();
        look.push(0..100, 12, 1);
        let decided = look.decide();
        assert_eq!(
            [0, 100].map(|at| decided.believes(at)),
            [false, true].map(Some)
        );
    }

    #[test]
    fn ids_from_the_limit_on_are_no_records() {
        let mut look = LookAhead::behind(10, 50);
        look.push(0..100, 11, 1);
        look.push(100..200, 90, 1);
        let decided = look.decide();
        assert_eq!(decided.believes(0), Some(true));
        assert_eq!(decided.believes(100), None);
    }

    #[test]
    fn the_last_half_of_a_full_look_is_not_decided() {
        let ids: Vec<u64> = (0..2 * MAX_RUNS as u64).map(|n| 10 + 2 * n).collect();
        let decided = look_at(&ids, 1).decide();
        let half = MAX_RUNS as u64 / 2 * LEN;
        assert_eq!(decided.believes(half - 1), Some(true));
        assert_eq!(decided.believes(half), None);
    }

    /// The weight of the heaviest chain, found by trying all chains.
    fn heaviest_of_all(runs: &[IdRun], last_id: u64) -> u64 {
        let Some((run, rest)) = runs.split_first() else {
            return 0;
        };
        let without = heaviest_of_all(rest, last_id);
        if run.first_id <= last_id {
            return without;
        }
        without.max(run.len() + heaviest_of_all(rest, run.last_id))
    }

    proptest! {
        #[test]
        fn no_chain_is_heavier(ids in prop::collection::vec(1u64..30, 0..12)) {
            let runs = look_at(&ids, 1).into_runs();
            let believed = heaviest_chain(&runs);
            let (mut weight, mut last_id) = (0, 0);
            for (run, _) in runs.iter().zip(&believed).filter(|(_, believed)| **believed) {
                prop_assert!(run.first_id > last_id);
                weight += run.len();
                last_id = run.last_id;
            }
            prop_assert_eq!(weight, heaviest_of_all(&runs, 0));
        }

        #[test]
        fn whatever_one_stretch_is_replaced_with_the_rest_is_believed(
            len in 3usize..60,
            at in 0usize..60,
            span in 1usize..6,
            from in 1u64..60,
        ) {
            // A part of the ids is replaced by another part of them.
            let at = at % len;
            let end = len.min(at + span);
            let from = from.min(len as u64);
            let mut ids: Vec<u64> = (1..=len as u64).collect();
            for (n, id) in ids[at..end].iter_mut().enumerate() {
                *id = (from + n as u64).min(len as u64);
            }
            let came = read(&ids, 1);
            for id in (1..=at as u64).chain(end as u64 + 1..=len as u64) {
                prop_assert!(came.contains(&id), "{} of {:?} is not in {:?}", id, ids, came);
            }
        }
    }
}
