//! Regressions: one intact record in the wrong place once cost whole files, which were deleted
//! without a copy, or records that had been reported synced.

use std::ops::RangeInclusive;
use std::sync::Arc;

use forebay::format::file_id::{LEDGER_FILE_NAME, file_name};
use forebay::format::ledger::LedgerState;
use forebay::format::record::{encode, frame_len};
use forebay::storage::Storage;
use forebay::storage::sim::Sim;
use forebay::{
    Config, ErrorKind, FindingKind, Io, Item, OnCorruption, Reader, TryRecv, VerifyOptions, Writer,
};

use super::shapes::path;
use crate::support::payload;
use crate::workload::DIR;

/// The length of a payload whose frame fills a sector.
const SECTOR: usize = 472;

/// The length of a payload whose frame fills a page.
const PAGE: usize = 4056;

fn frames(ids: RangeInclusive<u64>, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in ids {
        let at = bytes.len();
        bytes.resize(at + frame_len(len), 0);
        encode(&mut bytes[at..], id, 0, &payload(id, len));
    }
    bytes
}

/// Data files of `per_file` records each, up to the id `last`.
fn files(last: u64, per_file: u64, len: usize) -> Vec<Vec<u8>> {
    let firsts = (1..=last).step_by(per_file as usize);
    firsts
        .map(|first| frames(first..=last.min(first + per_file - 1), len))
        .collect()
}

/// A buffer of these files, acknowledged up to `last`, whose ledger has `next` as its next id.
fn buffer(files: &[Vec<u8>], next: u64, last: u64) -> Sim {
    let sim = Sim::new();
    for (file_id, bytes) in (0..).zip(files) {
        sim.write_file(path(&file_name(file_id)), bytes).unwrap();
    }
    let ledger = LedgerState {
        writer_next_record_id: next,
        writer_file_id: files.len() as u16 - 1,
        reader_file_id: 0,
        reader_last_record_id: last,
    };
    sim.write_file(path(LEDGER_FILE_NAME), &ledger.to_bytes())
        .unwrap();
    sim
}

fn config() -> Config {
    Config::new(DIR)
        .max_size(16 << 20)
        .data_file_size(64 << 10)
        .batch_size(4 << 10)
        .io(Io::Caller)
}

fn open(sim: &Sim) -> (Writer, Reader) {
    config().storage(Arc::new(sim.clone())).open().unwrap()
}

/// The ids that come, and the number of events lost. Nothing is acknowledged.
fn read(reader: &mut Reader) -> (Vec<u64>, u64) {
    let (mut ids, mut lost) = (Vec::new(), 0);
    loop {
        match reader.try_recv().unwrap() {
            TryRecv::Ready(Item::Record(delivery)) => {
                let start = &delivery.payload()[..delivery.payload().len().min(8)];
                assert_eq!(start, &payload(delivery.id(), 8)[..start.len()]);
                ids.push(delivery.id());
            }
            TryRecv::Ready(Item::Lost(loss)) => lost += loss.events,
            TryRecv::Empty | TryRecv::End => return (ids, lost),
        }
    }
}

fn lost_by_verify(sim: &Sim) -> u64 {
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    let options = VerifyOptions::default();
    let verified = options.storage(storage.clone()).verify(DIR);
    verified.unwrap().events_lost
}

/// Checks that of the unacknowledged records up to `last` exactly `gone` are lost, that
/// `verify` says so before, and that another life of the buffer delivers the same.
fn only_lost(sim: &Sim, acknowledged: u64, last: u64, gone: &[u64]) {
    let wanted: Vec<u64> = (acknowledged + 1..=last)
        .filter(|id| !gone.contains(id))
        .collect();
    assert_eq!(lost_by_verify(sim), gone.len() as u64);
    let (writer, mut reader) = open(sim);
    let (ids, lost) = read(&mut reader);
    assert_eq!(ids, wanted);
    assert_eq!(lost, gone.len() as u64);
    writer.append(&payload(last + 1, SECTOR)).unwrap();
    writer.flush().unwrap();
    let sim = sim.kill();
    let (_writer, mut reader) = open(&sim);
    let (ids, _) = read(&mut reader);
    let again: Vec<u64> = wanted.into_iter().chain([last + 1]).collect();
    assert_eq!(ids, again);
}

/// The frame of record 21, at the end of the last file, was taken for the record where the
/// acknowledged events end: none of 30 records came, and `verify` found nothing lost.
#[test]
fn an_old_record_at_the_end_of_the_last_file_hides_none() {
    let mut files = files(300, 120, PAGE);
    files[2].extend(frames(21..=21, PAGE));
    only_lost(&buffer(&files, 301, 270), 270, 300, &[]);
}

/// Sector 29 was copied over sector 99: none of 49 intact records came.
#[test]
fn an_old_sector_at_the_end_of_the_last_file_hides_none() {
    let mut files = files(100, 100, SECTOR);
    let old = files[0][29 * 512..30 * 512].to_vec();
    files[0][99 * 512..].copy_from_slice(&old);
    only_lost(&buffer(&files, 101, 50), 50, 100, &[100]);
}

/// The beginning of a long record replaces sector 29 of a file that a kill left with an
/// incomplete last frame. Everything from there on was taken for one torn record and cut,
/// including 10 intact records.
#[test]
fn a_length_that_leads_beyond_an_incomplete_last_frame_hides_no_written_record() {
    let mut files = files(40, 100, SECTOR);
    let long = frames(90..=90, 64 << 10);
    files[0][29 * 512..30 * 512].copy_from_slice(&long[..512]);
    files[0].extend(&frames(41..=41, SECTOR)[..104]);
    only_lost(&buffer(&files, 41, 12), 12, 40, &[30]);
}

/// The same with a ledger that a power cut set back: the records after the bad length cannot
/// be told from the payload of a torn record. Their ids were given out again.
#[test]
fn ids_after_such_a_length_are_not_given_out_again() {
    let mut files = files(40, 100, SECTOR);
    let long = frames(90..=90, 64 << 10);
    files[0][29 * 512..30 * 512].copy_from_slice(&long[..512]);
    files[0].extend(&frames(41..=41, SECTOR)[..104]);
    let sim = buffer(&files, 13, 12);
    assert_eq!(lost_by_verify(&sim), 11);
    let (writer, mut reader) = open(&sim);
    assert_eq!(read(&mut reader), ((13..=29).collect(), 11));
    assert_eq!(writer.append(b"next").unwrap().id(), Some(41));
    let kept = sim.files(format!("{DIR}/quarantine"));
    assert!(
        kept.iter().any(|(name, _)| name.contains(".dat")),
        "{kept:?}"
    );
}

/// The first page of a later file replaces that of the oldest one. Its last frame leads beyond
/// the end of the shorter file. The records after it were taken for the payload of a torn
/// record, because the first of them was acknowledged.
#[test]
fn acknowledged_records_after_such_a_length_vouch_for_those_behind_them() {
    let mut files = files(30, 10, SECTOR);
    let mut later = frames(20..=24, SECTOR);
    later.extend(frames(25..=25, 3000));
    files[0][..4096].copy_from_slice(&later[..4096]);
    files[2] = later;
    files[2].extend(frames(26..=30, SECTOR));
    files[1].truncate(9 * 512);
    only_lost(&buffer(&files, 31, 9), 9, 30, &[]);
}

/// A page of the newest file replaces the last page of the file before, which then seemed to
/// hold the newest records. Records were appended to it, and after the next power cut nothing
/// led to them: they were lost, and their ids were given out again.
#[test]
fn nothing_is_appended_to_a_file_that_is_last_by_mistake() {
    let mut files = vec![
        frames(1..=2, SECTOR),
        frames(3..=3, 3 * 4096 - 40),
        frames(4..=20, SECTOR),
    ];
    let displaced = files[2][8 * 512..16 * 512].to_vec();
    files[1][8192..].copy_from_slice(&displaced);
    let sim = buffer(&files, 21, 0);
    let before = sim.read_file(path(&file_name(1))).unwrap();
    only_lost(&sim, 0, 20, &[3]);
    assert_eq!(sim.read_file(path(&file_name(1))).unwrap(), before);
    assert!(sim.read_file(path(&file_name(3))).is_some());
}

/// Frames with payloads of these lengths, whose ids begin with `first`.
fn frames_of(first: u64, lens: &[usize]) -> Vec<u8> {
    let each = lens.iter().zip(first..);
    each.flat_map(|(len, id)| frames(id..=id, *len)).collect()
}

/// A ledger that a power cut set back, and a sector of an older file among the zeros of the
/// newest one. The old records outweighed the few new ones, which were left out without a
/// report, and their ids were given out again.
#[test]
fn what_continues_the_file_before_stands_where_it_belongs_however_light() {
    for next in [11, 21, 25] {
        let old = frames(1..=20, 64);
        let mut new = frames(21..=24, 24);
        new.resize(2560, 0);
        new[512..1024].copy_from_slice(&old[1024..1536]);
        only_lost(&buffer(&[old, new], next, 3), 3, 24, &[]);
    }
}

/// The same with whole records in place of the zeros: only those that the sector touches are
/// lost.
#[test]
fn an_old_sector_in_the_newest_file_costs_only_what_it_touches() {
    let old = frames(1..=20, 64);
    let mut new = frames_of(21, &[64, 464, 376]);
    new[512..1024].copy_from_slice(&old[1024..1536]);
    only_lost(&buffer(&[old, new], 24, 3), 3, 23, &[22, 23]);
}

/// A sector of later records among acknowledged ones costs nothing. When a power cut then left
/// a hole, the whole run after it was skipped, because its first record was acknowledged.
#[test]
fn an_old_damage_costs_nothing_when_a_power_cut_leaves_a_hole() {
    for zeros in [0, 100, 600] {
        for (acknowledged, hole) in [(12, 35), (20, 58), (45, 50)] {
            for at in (0..6144).step_by(512) {
                for from in (0..6144).step_by(512) {
                    let mut file = frames(1..=60, 64);
                    file[(hole - 1) * 104..hole * 104].fill(0);
                    file.resize(file.len() + zeros, 0);
                    let intact = file.clone();
                    file.copy_within(from..from + 512, at);
                    let is_gone = |id: &u64| {
                        let range = (*id as usize - 1) * 104..*id as usize * 104;
                        *id as usize == hole || file[range.clone()] != intact[range]
                    };
                    let wanted = (acknowledged + 1..=60).filter(|id| !is_gone(id));
                    let sim = buffer(&[file.clone()], 61, acknowledged);
                    let (_writer, mut reader) = open(&sim);
                    let (ids, _) = read(&mut reader);
                    let case = format!("{acknowledged} done, hole {hole}: {at} from {from}");
                    for id in wanted {
                        assert!(ids.contains(&id), "{case}: {id} is not in {ids:?}");
                    }
                }
            }
        }
    }
}

/// The last bytes of a sector begin a frame that leads beyond the end of the file, with no room
/// for a frame before the next one. Record 5, intact and the last, was taken for its payload.
#[test]
fn the_beginning_of_a_frame_at_the_end_of_a_sector_hides_no_record() {
    for has_next in [false, true] {
        let mut file = frames_of(1, &[448, 120, 312, 496, 192]);
        file.copy_within(512..1024, 1024);
        let mut files = vec![file];
        let mut last = 5;
        if has_next {
            files.push(frames(6..=9, 64));
            last = 9;
        }
        let gone: Vec<u64> = vec![3, 4];
        let sim = buffer(&files, last + 1, 0);
        let (_writer, mut reader) = open(&sim);
        let (ids, _) = read(&mut reader);
        for id in (1..=last).filter(|id| !gone.contains(id)) {
            assert!(ids.contains(&id), "{id} is not in {ids:?}");
        }
    }
}

/// The same with only the frame's first 8 bytes: the next record begins where the payload of
/// the torn frame would begin.
#[test]
fn the_first_word_of_a_frame_at_the_end_of_a_page_hides_no_record() {
    // Frames of 4,088 bytes, so that the next one begins 8 bytes before the page ends.
    let old = frames_of(1, &[4048, 600, 4048]);
    let mut new = frames_of(4, &[4056, 64, 64]);
    new[..4096].copy_from_slice(&old[..4096]);
    only_lost(&buffer(&[old, new], 7, 0), 0, 6, &[4]);
}

/// The last frame of a sector lacks its last 8 bytes, and another frame begins there. The
/// delimiter of that frame was taken for those bytes, and its record was lost.
#[test]
fn a_frame_that_ends_where_the_next_one_begins_takes_nothing_of_it() {
    for (acknowledged, has_more) in [(0, false), (2, false), (3, false), (0, true), (3, true)] {
        let first = frames_of(1, &[200, 200, 0]);
        assert_eq!(first.len(), 520);
        let mut second = frames_of(4, &[200, 232, 16]);
        let mut last = 6;
        if has_more {
            second.extend(frames(7..=9, 100));
            last = 9;
        }
        second[..512].copy_from_slice(&first[..512]);
        let sim = buffer(&[first, second], last + 1, acknowledged);
        only_lost(&sim, acknowledged, last, &[4, 5]);
    }
}

/// An old page holds another record 1, which a power cut had taken and whose id was given out
/// again. It was delivered in place of the real record.
#[test]
fn of_two_records_with_one_id_the_one_that_its_neighbours_vouch_for_is_delivered() {
    for len in [400, 440] {
        for at in 2..=4 {
            let mut files: Vec<_> = (1..=5).map(|id| frames(id..=id, 400)).collect();
            let mut ghost = vec![0; frame_len(len)];
            encode(&mut ghost, 1, 0, &vec![b'g'; len]);
            files[at] = ghost;
            only_lost(&buffer(&files, 6, 0), 0, 5, &[at as u64 + 1]);
        }
    }
}

/// A reader had rewound, acknowledgements deleted the file that it stood in, and damage
/// followed: the search for it where there was no file any more overflowed.
#[test]
fn a_reader_in_a_deleted_file_goes_on_over_damage() {
    let mut file = frames(1..=10, 64);
    file.extend([7; 600]);
    file.extend(frames(11..=13, 64));
    let sim = buffer(&[file, frames(14..=15, 64)], 16, 0);
    let (writer, mut reader) = open(&sim);
    let mut held = Vec::new();
    while let TryRecv::Ready(Item::Record(delivery)) = reader.try_recv().unwrap() {
        held.push(delivery);
    }
    assert_eq!(held.len(), 15);
    reader.rewind();
    for _ in 0..5 {
        assert!(matches!(reader.try_recv().unwrap(), TryRecv::Ready(_)));
    }
    held.into_iter().for_each(forebay::Delivery::ack);
    writer.flush().unwrap();
    assert!(sim.read_file(path(&file_name(0))).is_none());
    assert_eq!(read(&mut reader).1, 0);
}

/// An old record in the zeros that a kill leaves: records that were appended after it were gone
/// in the next life, even if they had been reported synced, and their ids were given out again.
#[test]
fn an_old_record_in_a_zero_tail_hides_nothing_that_is_appended() {
    let mut files = files(40, 100, SECTOR);
    files[0].resize(60 * 512, 0);
    files[0].extend(frames(21..=21, SECTOR));
    only_lost(&buffer(&files, 41, 12), 12, 40, &[]);
    only_lost(&buffer(&files, 41, 40), 40, 40, &[]);
}

/// The first sector of file 12 was replaced by record 3: the file was taken for the oldest,
/// and the intact files before it were deleted.
#[test]
fn an_old_record_at_the_beginning_of_a_file_does_not_move_it() {
    let mut files = files(2000, 128, SECTOR);
    files[12][..512].copy_from_slice(&frames(3..=3, SECTOR));
    only_lost(&buffer(&files, 2001, 3), 3, 2000, &[12 * 128 + 1]);
}

/// Sector 10 of file 1 was replaced by a record of file 12: all records between them were lost.
#[test]
fn a_record_from_a_later_file_skips_nothing() {
    let mut files = files(2000, 128, SECTOR);
    files[1][10 * 512..11 * 512].copy_from_slice(&frames(1600..=1600, SECTOR));
    only_lost(&buffer(&files, 2001, 3), 3, 2000, &[128 + 11]);
}

/// Sector 10 was replaced by sector 90 of 100: that cost 80 records.
#[test]
fn a_record_from_further_on_in_the_file_skips_nothing() {
    let mut files = files(100, 100, SECTOR);
    let later = files[0][90 * 512..91 * 512].to_vec();
    files[0][10 * 512..11 * 512].copy_from_slice(&later);
    only_lost(&buffer(&files, 101, 0), 0, 100, &[11]);
}

/// A record with a damaged delimiter and root, and the zeros of a kill: everything after that
/// record was cut as a torn tail, 79 intact old records and 40 new ones that were synced.
#[test]
fn a_damaged_record_before_a_zero_tail_is_no_torn_tail() {
    let mut files = files(140, 200, SECTOR);
    let damaged = 100 * 512;
    files[0][damaged + 6] ^= 0x70;
    files[0][damaged + 480..damaged + 512].fill(0xa7);
    let end = files[0].len();
    files[0].resize(end + 512 * 1024, 0);
    only_lost(&buffer(&files, 141, 20), 20, 140, &[101]);
}

/// The second half of a file was zeroed, whose records the ledger counts. `Refuse` looked at
/// the severity alone, opened the buffer and cut the file.
#[test]
fn a_zero_tail_that_costs_events_is_refused() {
    let mut files = files(100, 100, SECTOR);
    files[0][50 * 512..].fill(0);
    let sim = buffer(&files, 101, 0);
    let config = config().on_corruption(OnCorruption::Refuse);
    let error = config.storage(Arc::new(sim.clone())).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(sim.read_file(path(&file_name(0))), Some(files[0].clone()));
}

/// A tail of zeros that a kill left in a file that is no longer the last: `verify` called it
/// normal, `Refuse` refused it, and the default policy kept the zeros in quarantine.
#[test]
fn a_zero_tail_before_another_file_that_costs_nothing_is_normal() {
    let mut files = files(40, 20, SECTOR);
    let end = files[0].len();
    files[0].resize(end + 2048, 0);
    let sim = buffer(&files, 41, 3);
    only_lost(&sim.kill(), 3, 40, &[]);
    let config = config().on_corruption(OnCorruption::Refuse);
    let opened = config.storage(Arc::new(sim.clone())).open();
    let (_writer, mut reader) = opened.unwrap();
    assert_eq!(read(&mut reader), ((4..=40).collect(), 0));
    assert!(sim.files(format!("{DIR}/quarantine")).is_empty());
}

/// The same if the ids prove a loss: `verify` calls it damage, and `Refuse` refuses it.
#[test]
fn a_zero_tail_before_another_file_that_costs_events_is_refused() {
    let mut files = files(40, 20, SECTOR);
    files[0][19 * 512..].fill(0);
    let sim = buffer(&files, 41, 3);
    let config = config().on_corruption(OnCorruption::Refuse);
    let opened = config.storage(Arc::new(sim.clone())).open();
    let (_writer, mut reader) = opened.unwrap();
    for _ in 4..20 {
        assert!(matches!(reader.try_recv().unwrap(), TryRecv::Ready(_)));
    }
    assert_eq!(reader.try_recv().unwrap_err().kind(), ErrorKind::Corrupt);
    only_lost(&sim.kill(), 3, 40, &[20]);
}

/// A life of the buffer had a counter that counts more than the one before. The events of a
/// record reached into the next record, which then counted as acknowledged. Record 4 was gone
/// in the third life, with 0 events reported lost.
#[test]
fn a_counter_that_counts_more_in_a_later_life_discards_nothing() {
    let sim = buffer(&files(20, 7, 100), 21, 0);
    let config = config().event_counter(forebay::EventCounter::new(|_, _| 2));
    let storage: Arc<dyn Storage> = Arc::new(sim.kill());
    let options = VerifyOptions::default().event_counter(forebay::EventCounter::new(|_, _| 2));
    let verified = options.storage(storage.clone()).verify(DIR).unwrap();
    let kinds: Vec<_> = verified
        .findings
        .iter()
        .map(|finding| finding.kind)
        .collect();
    assert!(kinds.contains(&FindingKind::IdOverlap), "{kinds:?}");
    assert_eq!(verified.events_lost, 0);
    for acknowledged in 1..=3 {
        let sim = sim.kill();
        let opened = config.clone().storage(Arc::new(sim.clone())).open();
        let (writer, mut reader) = opened.unwrap();
        for id in 1..=20 {
            let TryRecv::Ready(Item::Record(delivery)) = reader.try_recv().unwrap() else {
                panic!("record {id} did not come");
            };
            assert_eq!(delivery.id(), id);
            if id <= acknowledged {
                delivery.ack();
            }
        }
        reader.close().unwrap();
        writer.close().unwrap();
        let (_writer, mut reader) = open(&sim);
        let (ids, lost) = read(&mut reader);
        assert_eq!(ids, (acknowledged + 1..=20).collect::<Vec<_>>());
        assert!(lost <= 1, "{lost}");
    }
}

/// Another writer of the format may leave, when it is killed, a ledger whose last acknowledged
/// id is not below its next id. Such a ledger was rebuilt, and all acknowledged records came
/// again.
#[test]
fn a_reader_ahead_of_the_writer_is_believed_where_records_prove_it() {
    for (next, last) in [(21, 30), (25, 25), (1, 40)] {
        let sim = buffer(&files(40, 15, SECTOR), next, last);
        only_lost(&sim, last, 40, &[]);
        let config = config().on_corruption(OnCorruption::Refuse);
        config.storage(Arc::new(sim.crash(0))).open().unwrap();
    }
    let sim = buffer(&files(40, 15, SECTOR), 30, 41);
    let (_writer, mut reader) = open(&sim);
    assert_eq!(read(&mut reader), ((1..=40).collect(), 0));
}

/// On a full disk the reader skipped damage, and its file was deleted with nothing kept in
/// quarantine. Nothing reported that.
#[test]
fn a_loss_says_that_a_full_disk_kept_nothing_of_it() {
    let mut files = files(40, 20, SECTOR);
    files[0][9 * 512 + 100] ^= 1;
    let sim = buffer(&files, 41, 0);
    let (_writer, mut reader) = open(&sim);
    sim.set_capacity(Some(sim.used_bytes()));
    let lost = loop {
        match reader.try_recv().unwrap() {
            TryRecv::Ready(Item::Lost(lost)) => break lost,
            TryRecv::Ready(Item::Record(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(lost.not_kept, "{lost}");
    assert!(lost.to_string().contains("could not be kept"), "{lost}");
}

/// The first page of a file replaces its third, and a power cut set the ledger back. The page
/// ends inside record 9, just after the delimiter of a displaced record 7, which leads beyond
/// the end. The damaged record 9 seemed to leave no room for a frame before it, so everything
/// was cut as a torn frame, with the intact record 10.
#[test]
fn a_damaged_record_behind_a_displaced_delimiter_hides_no_intact_one() {
    for next in [8, 10, 11] {
        let mut file = frames_of(4, &[560, 560, 600, 6960, 1184, 2312, 3056]);
        file.copy_within(0..4096, 8192);
        only_lost(&buffer(&[file], next, 4), 4, 10, &[7, 8, 9]);
    }
}

/// A page of an older time has a length that leads beyond the end of the last file, and a power cut
/// left neither a whole nor an incomplete record at that end, but a damaged one. Everything was cut
/// as one torn record, with seven records that had been written and synced.
#[test]
fn a_length_that_leads_beyond_a_damaged_last_frame_hides_no_written_record() {
    let old = frames(1..=17, SECTOR);
    for (hole, zeros) in [
        (100..2000, 0),
        (100..2000, 512),
        (8..2100, 0),
        (600..700, 3000),
    ] {
        let mut new = frames(18..=30, SECTOR);
        let long = frames(9..=9, 64 << 10);
        new[..512].copy_from_slice(&long[..512]);
        let at = new.len();
        new.extend(frames(31..=31, 2064));
        new[at + hole.start..at + hole.end].fill(0);
        new.resize(new.len() + zeros, 0);
        let sim = buffer(&[old.clone(), new], 31, 3);
        let (writer, mut reader) = open(&sim);
        let wanted: Vec<u64> = (4..=17).chain(19..=30).collect();
        assert_eq!(read(&mut reader), (wanted.clone(), 1), "{hole:?} {zeros}");
        let next = writer.append(&payload(31, SECTOR)).unwrap();
        assert_eq!(next.id(), Some(31));
        drop((writer, reader));
        let (_writer, mut reader) = open(&sim.kill());
        let (ids, _) = read(&mut reader);
        let again: Vec<u64> = wanted.into_iter().chain([31]).collect();
        assert_eq!(ids, again, "{hole:?} {zeros}");
    }
}

/// A kill left an incomplete record at the end of the last file, and the intact one before it is
/// not in the ledger yet. The page that replaces the first one has a length that leads beyond the
/// end. The record before the intact one is damaged, but its root tells that it is one that the
/// ledger knows. Everything was cut as one torn record, and the id of the intact one given out again.
#[test]
fn the_root_of_a_damaged_record_vouches_for_the_intact_one_behind_it() {
    let old = frames_of(1, &[456, 15_960]);
    for next in [10, 11] {
        // The page holds records 3 to 8, and the beginning of record 9.
        let mut new = frames_of(3, &[560, 560, 560, 560, 560, 560, 2240, 2760, 2512]);
        new.truncate(new.len() - 875);
        new[..4096].copy_from_slice(&old[496..496 + 4096]);
        let gone: Vec<u64> = (3..=9).collect();
        only_lost(&buffer(&[old.clone(), new], next, 0), 0, 10, &gone);
    }
}

/// The same, and no ledger knows the records behind the page. The incomplete record ends after the
/// one that the page claims, so it is none of its payload.
#[test]
fn an_incomplete_record_that_extends_beyond_a_claimed_one_refutes_it() {
    let old = frames_of(1, &[456, 9760]);
    for next in 3..=11 {
        let mut new = frames_of(3, &[560, 560, 560, 560, 560, 560, 2240, 360, 4000]);
        new.truncate(new.len() - 875);
        new[..4096].copy_from_slice(&old[496..496 + 4096]);
        let gone: Vec<u64> = (3..=9).collect();
        only_lost(&buffer(&[old.clone(), new], next, 0), 0, 10, &gone);
    }
}
