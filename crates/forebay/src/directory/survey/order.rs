//! The order of data files.
//!
//! Invariants:
//! - Files with a known first id are in the order of those ids.
//! - Where that order differs from the order of the file ids, a first record may be
//!   misplaced. The heaviest chain of the records of the files concerned then decides.
//! - A file without a known first id comes next to the file whose file id is nearest.
//! - A file is stale only if another one holds all its records, acknowledged ones included.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::Result;
use crate::format::file_id::{distance, next};
use crate::format::ledger::LedgerState;
use crate::scan::sequence::{IdRun, heaviest_chain};

use super::SurveyedFile;
use super::first_record::{FirstId, FirstRecords};

/// Files all of whose records are in another file, each with the index of that file.
type Stale = Vec<(SurveyedFile, usize)>;

/// A file among others that begin with the same record: its rank (the highest one is kept),
/// the file, the runs of its records, and whether these are all its records.
type Ranked<'f> = (
    (bool, bool, Option<Reverse<u16>>),
    &'f SurveyedFile,
    Vec<IdRun>,
    bool,
);

/// Data files in order.
pub(super) struct Ordered {
    pub(super) files: Vec<SurveyedFile>,
    /// Indices are those in `files`.
    pub(super) stale: Stale,
    /// Whether first records and file ids give the same order.
    pub(super) is_certain: bool,
}

/// Reads the beginning of each file and puts the files in order.
pub(super) fn order(
    first_records: &FirstRecords<'_>,
    listed: Vec<SurveyedFile>,
    ledger: Option<LedgerState>,
) -> Result<Ordered> {
    let mut known = Vec::with_capacity(listed.len());
    let mut unknown = Vec::new();
    for mut file in listed {
        let Some(first) = first_records.look(&file)? else {
            continue;
        };
        file.first_id = first.id();
        match first {
            FirstId::Unknown => unknown.push(file),
            first => known.push((file, first)),
        }
    }
    let acknowledged = ledger.map_or(0, |ledger| ledger.reader_last_record_id);
    let (mut known, lost): (Vec<_>, Vec<_>) = settled(first_records, known, acknowledged)?
        .into_iter()
        .partition(|file| file.first_id.is_some());
    unknown.extend(lost);
    known.sort_by_key(|file| (file.first_id, file.file_id));
    let (mut files, stale) = without_repeats(first_records, &known, ledger)?;
    let stale: Vec<_> = stale
        .into_iter()
        .map(|(file, live)| (file, files[live].file_id))
        .collect();
    let is_certain = file_ids_rise(&files);
    files = place_unknown(files, unknown, ledger);
    let stale = stale
        .into_iter()
        .filter_map(|(file, live)| {
            let index = files.iter().position(|f| f.file_id == live)?;
            Some((file, index))
        })
        .collect();
    Ok(Ordered {
        files,
        stale,
        is_certain,
    })
}

/// The files with the first ids that determine their order.
fn settled(
    first_records: &FirstRecords<'_>,
    mut known: Vec<(SurveyedFile, FirstId)>,
    acknowledged: u64,
) -> Result<Vec<SurveyedFile>> {
    let file_ids = known.iter().map(|(file, _)| file.file_id).collect();
    let origin = after_widest_gap(file_ids);
    known.sort_by_key(|(file, _)| distance(origin, file.file_id));
    let ids: Vec<_> = known.iter().map(|(_, first)| first.id()).collect();
    let is_suspect = suspects(&ids);
    if !is_suspect.contains(&true) {
        return Ok(known.into_iter().map(|(file, _)| file).collect());
    }
    let mut files = Vec::with_capacity(known.len());
    for (mut file, first) in known {
        if matches!(first, FirstId::Claimed(_)) {
            file.first_id = first_records.settle(&file)?.id();
        }
        files.push(file);
    }
    let mut begin = 0;
    while let Some(first) = (begin..files.len()).find(|at| is_suspect[*at]) {
        let undoubted = (first..files.len()).find(|at| !is_suspect[*at]);
        let end = undoubted.unwrap_or(files.len()).min(first + SUSPECTS_MAX);
        // The neighbours show which ids belong to them.
        let around = first.saturating_sub(1)..files.len().min(end + 1);
        let suspects = first - around.start..end - around.start;
        let around = &mut files[around];
        let first_ids = settled_first_ids(first_records, around, suspects.clone(), acknowledged)?;
        for at in suspects {
            around[at].first_id = first_ids[at];
        }
        begin = end;
    }
    Ok(files)
}

/// At most this many suspect files are weighed against one another.
const SUSPECTS_MAX: usize = 32;

/// The first id of each of these files: that of its first record in the heaviest chain of
/// the records of all of them. Of the `suspects`, only records count that are not
/// acknowledged and whose ids lie between the first ids of the other files. A file without a
/// record in that chain keeps the first id of the heaviest chain of its own records.
fn settled_first_ids(
    first_records: &FirstRecords<'_>,
    files: &[SurveyedFile],
    suspects: Range<usize>,
    acknowledged: u64,
) -> Result<Vec<Option<u64>>> {
    let least = files[..suspects.start]
        .iter()
        .find_map(|file| file.first_id);
    let limit = files[suspects.end..].iter().find_map(|file| file.first_id);
    let mut first_ids = Vec::with_capacity(files.len());
    let mut all = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let runs = first_records.first_runs(file)?;
        let own = heaviest_chain(&runs);
        let first = runs.iter().zip(own).find(|(_, believed)| *believed);
        first_ids.push(first.map(|(run, _)| run.first_id));
        let fits = |run: &IdRun| {
            !suspects.contains(&at)
                || (run.last_id > acknowledged
                    && least < Some(run.first_id)
                    && limit.is_none_or(|limit| run.last_id < limit))
        };
        all.extend(runs.into_iter().filter(fits).map(|run| (at, run)));
    }
    let (at, runs): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let believed = heaviest_chain(&runs);
    let (mut file, mut last_id) = (None, None);
    for n in (0..runs.len()).filter(|n| believed[*n]) {
        if file != Some(at[n]) {
            file = Some(at[n]);
            // A run may be cut where a run of another file begins; go back to its beginning.
            let begins = (1..=n)
                .rev()
                .find(|n| at[n - 1] != at[*n] || !runs[n - 1].leads_to(&runs[*n]));
            let first_id = runs[begins.unwrap_or(0)].first_id;
            // The file may begin with acknowledged records before this one, if their ids are
            // higher than those of earlier files.
            let earlier = first_ids[..at[n]].iter().copied().max().flatten();
            let own = first_ids[at[n]].filter(|own| earlier.max(last_id) < Some(*own));
            first_ids[at[n]] = Some(own.map_or(first_id, |own| own.min(first_id)));
        }
        last_id = Some(runs[n].last_id);
    }
    Ok(first_ids)
}

/// Which of these first ids, in the order of the file ids, do not rise; each with the one
/// before it.
fn suspects(ids: &[Option<u64>]) -> Vec<bool> {
    let mut is_suspect = vec![false; ids.len()];
    for at in 1..ids.len() {
        if ids[at - 1] >= ids[at] {
            is_suspect[at - 1] = true;
            is_suspect[at] = true;
        }
    }
    is_suspect
}

/// Whether files are in the order of their file ids, which wrap.
fn file_ids_rise(files: &[SurveyedFile]) -> bool {
    let origin = after_widest_gap(files.iter().map(|file| file.file_id).collect());
    files.is_sorted_by_key(|file| distance(origin, file.file_id))
}

/// The oldest of these file ids, which wrap: the one after the widest gap.
fn after_widest_gap(mut file_ids: Vec<u16>) -> u16 {
    file_ids.sort_unstable();
    let mut widest = (0, 0);
    for (i, id) in file_ids.iter().enumerate() {
        let before = file_ids[(i + file_ids.len() - 1) % file_ids.len()];
        widest = widest.max((distance(before, *id), *id));
    }
    widest.1
}

/// Separates out the stale files: those that begin with the same record as another file
/// that holds all their records.
fn without_repeats(
    first_records: &FirstRecords<'_>,
    known: &[SurveyedFile],
    ledger: Option<LedgerState>,
) -> Result<(Vec<SurveyedFile>, Stale)> {
    let mut files: Vec<SurveyedFile> = Vec::with_capacity(known.len());
    let mut stale = Vec::new();
    for group in known.chunk_by(|a, b| a.first_id == b.first_id) {
        let first_id = group.first().and_then(|file| file.first_id);
        let [_, _, ..] = group else {
            files.extend_from_slice(group);
            continue;
        };
        // A file is stale if another one has all its records. Of two with the same records, the
        // one of lower rank is stale: it is outside the ledger's window, or has no neighbour,
        // or is further from the reader's file.
        let mut ranked: Vec<Ranked<'_>> = Vec::with_capacity(group.len());
        for file in group {
            let is_neighbour = |other: &SurveyedFile| {
                let is_before = other.first_id < first_id && next(other.file_id) == file.file_id;
                is_before || (other.first_id > first_id && next(file.file_id) == other.file_id)
            };
            let (runs, is_complete) = first_records.all_runs(file)?;
            let rank = (
                in_window(ledger, file.file_id),
                known.iter().any(is_neighbour),
                ledger.map(|ledger| Reverse(distance(ledger.reader_file_id, file.file_id))),
            );
            ranked.push((rank, file, runs, is_complete));
        }
        ranked.sort_by(|(a, ..), (b, ..)| b.cmp(a));
        let live = files.len();
        for (at, (_, file, runs, is_complete)) in ranked.iter().enumerate() {
            let has_all = |(other_at, (_, _, other, other_is_complete)): (usize, &Ranked<'_>)| {
                let is_same = *other_is_complete && holds_all(runs, other);
                other_at != at && holds_all(other, runs) && (!is_same || other_at < at)
            };
            match *is_complete && ranked.iter().enumerate().any(has_all) {
                true => stale.push(((*file).clone(), live)),
                false => files.push((*file).clone()),
            }
        }
    }
    Ok((files, stale))
}

/// Whether all records of `runs` are in `held` too. Acknowledged records count as well,
/// because the ledger that acknowledges them may not be synced yet.
fn holds_all(held: &[IdRun], runs: &[IdRun]) -> bool {
    runs.iter().all(|run| {
        held.iter()
            .any(|held| held.first_id <= run.first_id && run.last_id <= held.last_id)
    })
}

/// Whether the file id is in the ledger's window: from the reader's file to the writer's.
fn in_window(ledger: Option<LedgerState>, file_id: u16) -> bool {
    ledger.is_some_and(|ledger| {
        distance(ledger.reader_file_id, file_id)
            <= distance(ledger.reader_file_id, ledger.writer_file_id)
    })
}

/// Puts each file without a known first id next to the known file whose file id is nearest:
/// after the nearest smaller id, or before the nearest larger one.
fn place_unknown(
    known: Vec<SurveyedFile>,
    unknown: Vec<SurveyedFile>,
    ledger: Option<LedgerState>,
) -> Vec<SurveyedFile> {
    if known.is_empty() {
        return in_turn(unknown, ledger);
    }
    const BEFORE: u8 = 0;
    const ITSELF: u8 = 1;
    const AFTER: u8 = 2;
    let at: BTreeMap<u16, usize> = known
        .iter()
        .enumerate()
        .map(|(at, file)| (file.file_id, at))
        .collect();
    let mut placed = Vec::with_capacity(known.len() + unknown.len());
    for file in unknown {
        let id = file.file_id;
        let before = at.range(..id).next_back().or_else(|| at.last_key_value());
        let behind = at.range(id..).next().or_else(|| at.first_key_value());
        let (Some((&before, &before_at)), Some((&behind, &behind_at))) = (before, behind) else {
            continue;
        };
        let (from_before, to_behind) = (distance(before, id), distance(id, behind));
        let place = if to_behind < from_before {
            (behind_at, BEFORE, u16::MAX - to_behind)
        } else {
            (before_at, AFTER, from_before)
        };
        placed.push((place, file));
    }
    placed.extend(
        known
            .into_iter()
            .enumerate()
            .map(|(at, file)| ((at, ITSELF, 0), file)),
    );
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, file)| file).collect()
}

/// Files in the order of their file ids, from the reader's file id on if one of them is in
/// the ledger's window, otherwise from after the widest gap on.
fn in_turn(mut files: Vec<SurveyedFile>, ledger: Option<LedgerState>) -> Vec<SurveyedFile> {
    files.sort_by_key(|file| file.file_id);
    let inside = |file: &SurveyedFile| in_window(ledger, file.file_id);
    let origin = match ledger {
        Some(ledger) if files.iter().any(inside) => ledger.reader_file_id,
        _ => after_widest_gap(files.iter().map(|file| file.file_id).collect()),
    };
    files.sort_by_key(|file| distance(origin, file.file_id));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(ids: &[u16]) -> Vec<SurveyedFile> {
        ids.iter()
            .map(|id| SurveyedFile {
                file_id: *id,
                len: 0,
                modified: None,
                first_id: None,
            })
            .collect()
    }

    fn placed(known: &[u16], unknown: &[u16]) -> Vec<u16> {
        ids(place_unknown(files(known), files(unknown), None))
    }

    fn ids(files: Vec<SurveyedFile>) -> Vec<u16> {
        files.into_iter().map(|file| file.file_id).collect()
    }

    #[test]
    fn files_without_records_stand_beside_their_neighbours() {
        assert_eq!(placed(&[4, 5, 6], &[7]), [4, 5, 6, 7]);
        assert_eq!(placed(&[4, 5, 6], &[3, 2]), [2, 3, 4, 5, 6]);
        assert_eq!(placed(&[4, 7], &[5, 6]), [4, 5, 6, 7]);
        assert_eq!(placed(&[4, 10], &[5, 6, 8, 9]), [4, 5, 6, 8, 9, 10]);
        assert_eq!(placed(&[9, 4], &[5, 8, 10]), [8, 9, 10, 4, 5]);
        assert_eq!(placed(&[65533, 1], &[0, 65534, 2]), [65533, 65534, 0, 1, 2]);
    }

    #[test]
    fn files_without_any_record_are_in_the_order_of_their_ids_round_the_end() {
        assert_eq!(placed(&[], &[0, 65534, 1]), [65534, 0, 1]);
        assert_eq!(placed(&[], &[7]), [7]);
        assert_eq!(placed(&[], &[]), [0; 0]);
        let ledger = LedgerState {
            writer_file_id: 2,
            reader_file_id: 40_000,
            ..LedgerState::INITIAL
        };
        assert_eq!(
            ids(in_turn(files(&[1, 39_999, 40_001, 60_000]), Some(ledger))),
            [40_001, 60_000, 1, 39_999]
        );
    }

    #[test]
    fn first_ids_that_do_not_rise_are_suspect_with_the_one_before() {
        let of = |ids: &[u64]| {
            let ids: Vec<_> = ids.iter().map(|id| Some(*id)).collect();
            suspects(&ids)
        };
        assert_eq!(of(&[]), [false; 0]);
        assert_eq!(of(&[1, 5, 9]), [false; 3]);
        assert_eq!(of(&[1, 20, 9, 30]), [false, true, true, false]);
        assert_eq!(of(&[1, 5, 5, 9]), [false, true, true, false]);
    }

    #[test]
    fn file_ids_begin_behind_the_widest_gap() {
        assert_eq!(after_widest_gap(vec![0, 65534, 65533, 7]), 65533);
        assert_eq!(after_widest_gap(vec![3, 5, 2]), 2);
        assert_eq!(after_widest_gap(vec![4]), 4);
    }
}
