//! The order of data files.
//!
//! Invariants:
//! - Files with a known first id are in the order of those ids.
//! - A file without one stands beside the file that its id is nearest to.
//! - Of several files with the same first id one is part of the buffer.

use std::collections::BTreeMap;

use crate::Result;
use crate::format::file_id::{FILE_ID_COUNT, distance, next};
use crate::format::ledger::LedgerState;

use super::SurveyedFile;
use super::first_record::{FirstId, FirstRecords};

/// The files in order, and those that repeat another, which is named by its
/// index in the first.
type Ordered = (Vec<SurveyedFile>, Vec<(SurveyedFile, usize)>);

/// Looks at the beginning of each file and puts them in order.
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
    sort(&mut known);
    if !follow_one_another(&known) {
        for (file, first) in &mut known {
            if matches!(first, FirstId::Claimed(_)) {
                *first = first_records.settle(file)?;
                file.first_id = first.id();
            }
        }
        let (settled, lost) = known
            .into_iter()
            .partition(|(file, _)| file.first_id.is_some());
        known = settled;
        unknown.extend(lost.into_iter().map(|(file, _)| file));
        sort(&mut known);
    }
    let (mut files, stale) = without_repeats(first_records, &known, ledger)?;
    let stale: Vec<_> = stale
        .into_iter()
        .map(|(file, live)| (file, files[live].file_id))
        .collect();
    files = place_unknown(files, unknown, ledger);
    let stale = stale
        .into_iter()
        .filter_map(|(file, live)| {
            let index = files.iter().position(|f| f.file_id == live)?;
            Some((file, index))
        })
        .collect();
    Ok((files, stale))
}

fn sort(known: &mut [(SurveyedFile, FirstId)]) {
    known.sort_by_key(|(file, first)| (first.id(), file.file_id));
}

/// Whether the file ids rise, going round at most once, and no first id occurs
/// twice: then the order is right whatever a claimed id is.
fn follow_one_another(known: &[(SurveyedFile, FirstId)]) -> bool {
    let mut round = 0;
    known.windows(2).all(|pair| {
        let [(a, first_a), (b, first_b)] = pair else {
            return true;
        };
        round += u32::from(distance(a.file_id, b.file_id));
        round < FILE_ID_COUNT && first_a.id() != first_b.id()
    })
}

/// Separates the files that begin with the same record as another.
fn without_repeats(
    first_records: &FirstRecords<'_>,
    known: &[(SurveyedFile, FirstId)],
    ledger: Option<LedgerState>,
) -> Result<Ordered> {
    let mut files: Vec<SurveyedFile> = Vec::with_capacity(known.len());
    let mut stale = Vec::new();
    for group in known.chunk_by(|(a, _), (b, _)| a.first_id == b.first_id) {
        let first_id = group.first().and_then(|(file, _)| file.first_id);
        let mut group: Vec<_> = group.iter().map(|(file, _)| file.clone()).collect();
        if group.len() > 1 {
            // The one that reaches furthest, so that no record is put aside
            // that only one of them has; between copies, where it belongs, and
            // then the newer one: the older may have been given up after a failed
            // sync. Lengths are no help: recovery changes them.
            let mut ranked = Vec::with_capacity(group.len());
            for file in group {
                let is_neighbour = |(other, _): &(SurveyedFile, FirstId)| {
                    other.first_id != first_id
                        && (next(other.file_id) == file.file_id
                            || next(file.file_id) == other.file_id)
                };
                let rank = (
                    first_records.extent(&file)?,
                    in_window(ledger, file.file_id),
                    known.iter().any(is_neighbour),
                    ledger.map(|ledger| distance(ledger.reader_file_id, file.file_id)),
                );
                ranked.push((rank, file));
            }
            ranked.sort_by(|(a, _), (b, _)| b.cmp(a));
            group = ranked.into_iter().map(|(_, file)| file).collect();
        }
        let live = files.len();
        let mut group = group.into_iter();
        files.extend(group.next());
        stale.extend(group.map(|file| (file, live)));
    }
    Ok((files, stale))
}

/// Whether the ledger says that the file is between the reader's and the
/// writer's.
fn in_window(ledger: Option<LedgerState>, file_id: u16) -> bool {
    ledger.is_some_and(|ledger| {
        distance(ledger.reader_file_id, file_id)
            <= distance(ledger.reader_file_id, ledger.writer_file_id)
    })
}

/// Puts each file without a known first id beside the known one that its id is
/// nearest to: behind the nearest smaller id, or before the nearest larger one.
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
    const BEHIND: u8 = 2;
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
            (before_at, BEHIND, from_before)
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

/// File ids in the order in which they were given out, as far as they tell: from
/// the reader's on, or from behind the widest gap.
fn in_turn(mut files: Vec<SurveyedFile>, ledger: Option<LedgerState>) -> Vec<SurveyedFile> {
    files.sort_by_key(|file| file.file_id);
    let inside = |file: &SurveyedFile| in_window(ledger, file.file_id);
    let origin = match ledger {
        Some(ledger) if files.iter().any(inside) => ledger.reader_file_id,
        _ => {
            let mut widest = (0, 0);
            for (i, file) in files.iter().enumerate() {
                let before = files[(i + files.len() - 1) % files.len()].file_id;
                widest = widest.max((distance(before, file.file_id), file.file_id));
            }
            widest.1
        }
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
    fn file_ids_follow_one_another_as_long_as_they_go_round_once() {
        let with_first = |ids: &[u16]| -> Vec<_> {
            files(ids)
                .into_iter()
                .zip(1..)
                .map(|(file, id)| (file, FirstId::Claimed(id)))
                .collect()
        };
        assert!(follow_one_another(&with_first(&[])));
        assert!(follow_one_another(&with_first(&[65533, 65534, 0, 7])));
        assert!(follow_one_another(&with_first(&[3, 5, 2])));
        assert!(!follow_one_another(&with_first(&[3, 5, 2, 3])));
        assert!(!follow_one_another(&with_first(&[3, 2, 4])));
        let mut twice = with_first(&[3, 4]);
        twice[1].1 = FirstId::Claimed(1);
        assert!(!follow_one_another(&twice));
    }
}
