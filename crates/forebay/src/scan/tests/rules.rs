//! A test for each rule of the scanner, by name.

use super::*;
use DamageKind::{BadLength, BadRecord, Checksum, TornTail, ZeroTail};

/// Five records of different lengths and where their frames begin; the last
/// offset is the end.
fn five() -> (Vec<Record>, Vec<u64>) {
    let records: Vec<_> = [20, 5, 64, 0, 33]
        .iter()
        .zip(1..)
        .map(|(len, id)| Record::new(id, vec![b'a' + id as u8; *len]))
        .collect();
    let offsets = offsets(&records);
    (records, offsets)
}

fn offsets(records: &[Record]) -> Vec<u64> {
    let mut offsets = vec![0];
    for record in records {
        offsets.push(offsets[offsets.len() - 1] + frame_len(record.payload.len()) as u64);
    }
    offsets
}

fn sound(records: &[Record], offsets: &[u64], which: Range<usize>) -> Vec<Item> {
    which
        .map(|i| Item::sound(offsets[i], &records[i]))
        .collect()
}

/// The items of the five records, with `item` in the place of the one with index 2.
fn third_is(item: Item) -> Vec<Item> {
    let (records, offsets) = five();
    let mut items = sound(&records, &offsets, 0..2);
    items.push(item);
    items.extend(sound(&records, &offsets, 3..5));
    items
}

fn set_delimiter(bytes: &mut [u8], at: u64, delimiter: u64) {
    bytes[at as usize..][..8].copy_from_slice(&delimiter.to_be_bytes());
}

#[test]
fn sound_records_are_returned_in_order_with_their_bytes() {
    let (records, offsets) = five();
    assert_eq!(scan(&frames(&records)), sound(&records, &offsets, 0..5));
    assert_eq!(scan(b""), []);
}

#[test]
fn memory_is_scanned_without_a_file() {
    let (records, offsets) = five();
    let mut scanner = Scanner::over_memory(frames(&records).into(), 4096);
    let moved: Vec<_> = offsets.iter().map(|offset| offset + 4096).collect();
    assert_eq!(drain(&mut scanner), sound(&records, &moved, 0..5));
    assert!(scanner.next().unwrap().is_none());
}

#[test]
fn damaged_memory_is_damage_too() {
    let (records, offsets) = five();
    let mut bytes = frames(&records);
    set_delimiter(&mut bytes, offsets[2], 0);
    let mut scanner = Scanner::over_memory(bytes.into(), 0);
    let expected = third_is(Item::mended(offsets[2], &records[2], Mended::Delimiter));
    assert_eq!(drain(&mut scanner), expected);
}

#[test]
fn what_becomes_visible_later_is_returned_then() {
    let (records, offsets) = five();
    let bytes = frames(&records);
    let file = MemoryFile::new(&bytes[..offsets[2] as usize]);
    let mut scanner = scanner_of(file.clone(), OPTIONS, 1000);
    assert_eq!(drain(&mut scanner), sound(&records, &offsets, 0..2));
    file.append(&bytes[offsets[2] as usize..]);
    assert!(scanner.next().unwrap().is_none());
    for end in 3..=5 {
        scanner.extend(offsets[end]);
        assert_eq!(drain(&mut scanner), sound(&records, &offsets, end - 1..end));
    }
}

#[test]
fn what_is_not_visible_yet_is_not_read() {
    let (records, offsets) = five();
    let file = MemoryFile::new(frames(&records));
    let pool = Pool::new(1 << 16, 1);
    let mut scanner = Scanner::over_file(file.clone(), offsets[1], offsets[2], OPTIONS, pool);
    assert_eq!(drain(&mut scanner), sound(&records, &offsets, 1..2));
    assert_eq!(file.read_bytes(), offsets[2] - offsets[1]);
}

#[test]
fn the_chunk_number_changes_with_the_chunk_only() {
    let records: Vec<_> = (1..=20).map(|id| Record::new(id, [7; 60])).collect();
    let mut scanner = scanner_of(MemoryFile::new(frames(&records)), OPTIONS, 4 * 104);
    let mut numbers = Vec::new();
    while scanner.next().unwrap().is_some() {
        let (chunk, number) = scanner.chunk();
        assert!(chunk.len() <= 4 * 104);
        numbers.push(number);
    }
    assert_eq!(numbers.len(), 20);
    numbers.dedup();
    assert_eq!(numbers.len(), 5);
}

#[test]
fn a_frame_longer_than_a_chunk_is_returned_whole() {
    let records = [
        Record::new(1, [1; 10]),
        Record::new(2, vec![2; 5000]),
        Record::new(3, [3; 10]),
    ];
    let items = scan_with(&frames(&records), OPTIONS, 128);
    assert_eq!(items, sound(&records, &offsets(&records), 0..3));
}

#[test]
fn a_wrong_checksum_damages_exactly_that_record() {
    let (records, offsets) = five();
    let root = offsets[3] as usize - ROOT_LEN;
    // Payload, checksum, id, metadata.
    for (at, claimed_id) in [
        (offsets[2] as usize + 8, 3),
        (root, 3),
        (root + 8, 2),
        (root + 16, 3),
    ] {
        let mut bytes = frames(&records);
        bytes[at] ^= 1;
        let span = offsets[2]..offsets[3];
        let expected = third_is(Item::damage(span, Checksum, claimed_id));
        assert_eq!(scan(&bytes), expected, "byte {at}");
    }
}

#[test]
fn structure_alone_does_not_look_at_checksums() {
    let (records, offsets) = five();
    let mut bytes = frames(&records);
    bytes[offsets[2] as usize + 8] ^= 1;
    let mut changed = records[2].clone();
    changed.payload[0] ^= 1;
    let options = ScanOptions {
        check: Check::Structure,
        ..OPTIONS
    };
    assert_eq!(
        scan_with(&bytes, options, 1000),
        third_is(Item::sound(offsets[2], &changed))
    );
}

#[test]
fn frames_inside_a_damaged_record_of_known_extent_are_not_looked_at() {
    let inner = [Record::new(3, [1; 9]), Record::new(4, [2; 9])];
    let records = [
        Record::new(2, [0; 3]),
        Record::new(3, frames(&inner)),
        Record::new(9, [0; 3]),
    ];
    let offsets = offsets(&records);
    let mut bytes = frames(&records);
    bytes[offsets[2] as usize - ROOT_LEN] ^= 1;
    let expected = [
        Item::sound(0, &records[0]),
        Item::damage(offsets[1]..offsets[2], Checksum, 3),
        Item::sound(offsets[2], &records[2]),
    ];
    assert_eq!(scan(&bytes), expected);
}

#[test]
fn a_wrong_pointer_loses_nothing() {
    let (records, offsets) = five();
    for pointer in [0, -28, i32::MIN, i32::MAX] {
        let mut bytes = frames(&records);
        bytes[offsets[3] as usize - 12..][..4].copy_from_slice(&pointer.to_le_bytes());
        let expected = third_is(Item::mended(offsets[2], &records[2], Mended::Pointer));
        assert_eq!(scan(&bytes), expected, "{pointer}");
    }
}

#[test]
fn a_wrong_length_loses_nothing() {
    let (records, offsets) = five();
    // Lengths that pad to the same frame length, and others.
    for len in [63, 57, 56, 65, 0, u32::MAX] {
        let mut bytes = frames(&records);
        bytes[offsets[3] as usize - 8..][..4].copy_from_slice(&u32::to_le_bytes(len));
        let expected = third_is(Item::mended(offsets[2], &records[2], Mended::Length));
        assert_eq!(scan(&bytes), expected, "{len}");
    }
}

#[test]
fn a_wrong_length_of_an_empty_payload_loses_nothing() {
    let records = [Record::new(1, []), Record::new(2, [])];
    for len in [1, 8, u32::MAX] {
        let mut bytes = frames(&records);
        bytes[32..36].copy_from_slice(&u32::to_le_bytes(len));
        let expected = [
            Item::mended(0, &records[0], Mended::Length),
            Item::sound(40, &records[1]),
        ];
        assert_eq!(scan(&bytes), expected, "{len}");
    }
}

#[test]
fn padding_that_is_not_zero_loses_nothing() {
    let records = [Record::new(1, [1; 5]), Record::new(2, [2; 8])];
    // The padding after the payload, and both places in the root.
    for at in [8 + 5, 8 + 7, 16 + 4, 16 + 31] {
        let mut bytes = frames(&records);
        bytes[at] = 0x80;
        let expected = [
            Item::mended(0, &records[0], Mended::Padding),
            Item::sound(48, &records[1]),
        ];
        assert_eq!(scan(&bytes), expected, "byte {at}");
    }
}

#[test]
fn a_wrong_delimiter_loses_nothing() {
    let (records, offsets) = five();
    let right = offsets[3] - offsets[2] - 8;
    let swallows_next = offsets[4] - offsets[2] - 8;
    let swallows_all = offsets[5] - offsets[2] - 8;
    for delimiter in [
        0,
        1,
        8,
        32,
        40,
        right - 8,
        right + 1,
        right + 8,
        swallows_next,
        swallows_all,
        swallows_all + 8,
        1 << 19,
        1 << 20,
        1 << 63,
        u64::MAX,
        u64::MAX - 7,
    ] {
        let mut bytes = frames(&records);
        set_delimiter(&mut bytes, offsets[2], delimiter);
        let expected = third_is(Item::mended(offsets[2], &records[2], Mended::Delimiter));
        assert_eq!(scan(&bytes), expected, "{delimiter}");
    }
}

#[test]
fn a_wrong_delimiter_in_every_record_loses_nothing() {
    let (records, offsets) = five();
    let mut bytes = frames(&records);
    for offset in &offsets[..5] {
        set_delimiter(&mut bytes, *offset, 0);
    }
    let expected: Vec<_> = records
        .iter()
        .zip(offsets)
        .map(|(record, offset)| Item::mended(offset, record, Mended::Delimiter))
        .collect();
    assert_eq!(scan(&bytes), expected);
}

#[test]
fn a_wrong_delimiter_with_zeros_where_it_leads_loses_nothing() {
    // A delimiter of 32 then agrees with a length of 0 in the payload.
    let records = [
        Record::new(1, [0; 64]),
        Record::new(2, [0; 64]),
        Record::new(3, [0; 64]),
    ];
    let mut bytes = frames(&records);
    set_delimiter(&mut bytes, 104, 32);
    let mut expected = sound(&records, &[0, 104, 208], 0..3);
    expected[1] = Item::mended(104, &records[1], Mended::Delimiter);
    assert_eq!(scan(&bytes), expected);
}

#[test]
fn a_record_with_wrong_delimiter_and_payload_is_one_damage() {
    let (records, offsets) = five();
    let mut bytes = frames(&records);
    bytes[offsets[2] as usize..][..16].fill(0xa5);
    let span = offsets[2]..offsets[3];
    assert_eq!(scan(&bytes), third_is(Item::damage(span, BadRecord, 3)));
}

#[test]
fn a_record_without_root_is_one_damage() {
    let (records, offsets) = five();
    for fill in [0, 0xff] {
        let mut bytes = frames(&records);
        bytes[offsets[3] as usize - ROOT_LEN..offsets[3] as usize].fill(fill);
        let span = offsets[2]..offsets[3];
        assert_eq!(scan(&bytes), third_is(Item::damage(span, BadRecord, None)));
    }
}

#[test]
fn a_delimiter_is_believed_against_frames_inside_the_payload() {
    // Ids that would continue those of the records themselves.
    let inner = [Record::new(4, [1; 9]), Record::new(5, [2; 9])];
    let records = [
        Record::new(2, [0; 3]),
        Record::new(3, frames(&inner)),
        Record::new(90, [0; 3]),
    ];
    let offsets = offsets(&records);
    let mut bytes = frames(&records);
    bytes[offsets[2] as usize - ROOT_LEN..offsets[2] as usize].fill(0);
    let expected = [
        Item::sound(0, &records[0]),
        Item::damage(offsets[1]..offsets[2], BadRecord, None),
        Item::sound(offsets[2], &records[2]),
    ];
    assert_eq!(scan(&bytes), expected);
}

#[test]
fn a_hole_over_several_records_is_one_damage() {
    let (records, offsets) = five();
    for fill in [0, 0x5a] {
        let mut bytes = frames(&records);
        // From within the first root into the payload of the third record.
        bytes[offsets[1] as usize - 16..offsets[2] as usize + 16].fill(fill);
        let items = scan(&bytes);
        let Item::Damage(damage) = &items[0] else {
            panic!("{items:?}")
        };
        assert_eq!((damage.offset, damage.len), (0, offsets[3]));
        assert_eq!(items[1..], sound(&records, &offsets, 3..5));
    }
}

#[test]
fn two_holes_are_two_damages_and_what_is_between_is_found() {
    let records: Vec<_> = (1..=9).map(|id| Record::new(id, [id as u8; 30])).collect();
    let offsets = offsets(&records);
    let mut bytes = frames(&records);
    for hole in [1, 5] {
        bytes[offsets[hole] as usize..offsets[hole + 1] as usize].fill(0x77);
    }
    let mut expected = sound(&records, &offsets, 0..9);
    for hole in [1, 5] {
        let span = offsets[hole]..offsets[hole + 1];
        expected[hole] = Item::damage(span, BadLength, None);
    }
    assert_eq!(scan(&bytes), expected);
}

#[test]
fn a_file_that_ends_within_a_record_has_a_torn_tail() {
    let (records, offsets) = five();
    let bytes = frames(&records);
    for end in offsets[4] + 1..offsets[5] {
        let mut expected = sound(&records, &offsets, 0..4);
        expected.push(Item::damage(offsets[4]..end, TornTail, None));
        assert_eq!(scan(&bytes[..end as usize]), expected, "{end}");
    }
}

#[test]
fn a_torn_tail_hides_the_frames_in_its_payload() {
    let inner: Vec<_> = (2..8).map(|id| Record::new(id, [1; 9])).collect();
    let records = [Record::new(1, [0; 3]), Record::new(2, frames(&inner))];
    let bytes = frames(&records);
    for end in 48 + 1..bytes.len() {
        let expected = [
            Item::sound(0, &records[0]),
            Item::damage(48..end as u64, TornTail, None),
        ];
        assert_eq!(scan(&bytes[..end]), expected, "{end}");
    }
}

#[test]
fn zeros_up_to_the_end_are_a_zero_tail() {
    let (records, offsets) = five();
    for zeros in [8, 39, 40, 4096, 100_000] {
        let mut bytes = frames(&records);
        bytes.resize(bytes.len() + zeros, 0);
        let mut expected = sound(&records, &offsets, 0..5);
        let end = bytes.len() as u64;
        expected.push(Item::damage(offsets[5]..end, ZeroTail, None));
        assert_eq!(scan(&bytes), expected, "{zeros}");
    }
    assert_eq!(scan(&[0; 4096]), [Item::damage(0..4096, ZeroTail, None)]);
}

#[test]
fn a_record_whose_rest_is_zeros_is_torn() {
    let (records, offsets) = five();
    let written = offsets[4] as usize + 16;
    for zeros in [frame_len(33) - 16, 4096] {
        let mut bytes = frames(&records);
        bytes.truncate(written);
        bytes.resize(written + zeros, 0);
        let mut expected = sound(&records, &offsets, 0..4);
        let end = bytes.len() as u64;
        expected.push(Item::damage(offsets[4]..end, TornTail, None));
        assert_eq!(scan(&bytes), expected, "{zeros}");
    }
}

#[test]
fn zeros_behind_a_damaged_last_record_are_damage_of_their_own() {
    let (records, offsets) = five();
    let mut bytes = frames(&records);
    bytes[offsets[5] as usize - ROOT_LEN..].fill(0xee);
    bytes.resize(bytes.len() + 4096, 0);
    let mut expected = sound(&records, &offsets, 0..4);
    expected.push(Item::damage(offsets[4]..offsets[5], BadRecord, None));
    expected.push(Item::damage(offsets[5]..bytes.len() as u64, ZeroTail, None));
    assert_eq!(scan(&bytes), expected);
}

#[test]
fn noise_up_to_the_end_is_a_bad_length() {
    let (records, offsets) = five();
    let mut bytes = frames(&records);
    bytes.extend_from_slice(&[0xcc; 500]);
    let mut expected = sound(&records, &offsets, 0..5);
    let end = bytes.len() as u64;
    expected.push(Item::damage(offsets[5]..end, BadLength, None));
    assert_eq!(scan(&bytes), expected);
}

#[test]
fn a_last_record_without_root_is_a_bad_record() {
    let (records, offsets) = five();
    let mut bytes = frames(&records);
    bytes[offsets[5] as usize - ROOT_LEN..].fill(0xee);
    let mut expected = sound(&records, &offsets, 0..4);
    expected.push(Item::damage(offsets[4]..offsets[5], BadRecord, None));
    assert_eq!(scan(&bytes), expected);
}

#[test]
fn a_frame_over_the_limit_is_a_bad_length() {
    let records = [
        Record::new(1, [1; 10]),
        Record::new(2, [2; 100]),
        Record::new(3, [3; 10]),
    ];
    let offsets = offsets(&records);
    let options = ScanOptions {
        max_frame_len: 56,
        ..OPTIONS
    };
    let expected = [
        Item::sound(0, &records[0]),
        Item::damage(offsets[1]..offsets[2], BadLength, None),
        Item::sound(offsets[2], &records[2]),
    ];
    assert_eq!(scan_with(&frames(&records), options, 1000), expected);
}

/// A displaced sector replaces another one, and its last frame states an end far away. After
/// the sector come a record whose beginning is gone, untouched records, and a frame that a
/// crash left incomplete, followed by preallocated zeros. That frame ends among the zeros, so
/// it is torn although it ends before the file does.
#[test]
fn a_displaced_delimiter_hides_no_records_before_a_frame_that_is_torn_by_zeros_written_ahead() {
    let record = |id: u64, len: usize| Record::new(id, vec![id as u8; len]);
    let mut bytes = frames(&[record(16, 400), record(17, 400)]);
    let displaced = bytes.len();
    // The contents of the displaced sector: a repeat, and a delimiter that leads far.
    bytes.extend_from_slice(&record(2, 200).frame());
    let at = bytes.len();
    bytes.extend_from_slice(&record(3, 4000).frame()[..512]);
    // A record whose first bytes the sector replaced, then sound records.
    bytes.extend_from_slice(&record(22, 600).frame()[64..]);
    let sound = bytes.len();
    let after: Vec<_> = (23..=25).map(|id| record(id, 300)).collect();
    bytes.extend_from_slice(&frames(&after));
    // A frame of which only the first part was written; the displaced delimiter leads there.
    let torn = bytes.len();
    bytes.extend_from_slice(&record(26, 6000).frame()[..4000]);
    bytes.resize(torn + 20_000, 0);
    let end = at + record(3, 4000).frame().len();
    assert!((torn..torn + 4000).contains(&end) && displaced < at && at < sound);
    let items = scan(&bytes);
    for record in &after {
        let came =
            |item: &Item| matches!(item, Item::Record { record: found, .. } if found == record);
        assert!(items.iter().any(came), "{}: {items:?}", record.id);
    }
}

#[test]
fn a_file_shorter_than_said_ends_as_a_torn_tail() {
    let (records, offsets) = five();
    let bytes = frames(&records);
    for (len, whole) in [(offsets[5], 5), (offsets[4] + 12, 4), (0, 0)] {
        for to in [offsets[5] + 8, 1 << 40, u64::MAX] {
            let file = MemoryFile::new(&bytes[..len as usize]);
            let pool = Pool::new(1000, 1);
            let mut scanner = Scanner::over_file(file.clone(), 0, to, OPTIONS, pool);
            let mut expected = sound(&records, &offsets, 0..whole);
            expected.push(Item::damage(offsets[whole]..to, TornTail, None));
            assert_eq!(drain(&mut scanner), expected);
            assert!(scanner.next().unwrap().is_none());
            assert!(file.read_bytes() < 10 * offsets[5]);
        }
    }
}

#[test]
fn frames_found_behind_damage_must_have_ids_that_follow() {
    let before = [Record::new(10, [1; 30]), Record::new(20, [2; 30])];
    let offsets = offsets(&before);
    let hole = [0x99; 80];
    // A frame left over from a payload, and nothing after it that leads to the end.
    let found = |id| {
        let mut bytes = frames(&before);
        bytes.extend_from_slice(&hole);
        bytes.extend_from_slice(&Record::new(id, [3; 30]).frame());
        bytes.extend_from_slice(&hole);
        scan(&bytes).len()
    };
    let most = 80 + frame_len(30) as u64;
    for id in [0, 9, 10, 19, 20, 20 + most + 1, u64::MAX] {
        assert_eq!(found(id), 3, "id {id}");
    }
    for id in [21, 20 + most] {
        assert_eq!(found(id), 5, "id {id}");
    }
    assert_eq!(offsets.len(), 3);
}

#[test]
fn a_chain_to_the_end_is_believed_whatever_its_ids() {
    // The record before it may be the misplaced one.
    let records = [Record::new(10, [1; 30]), Record::new(1_000_000, [3; 30])];
    let mut bytes = records[0].frame();
    bytes.extend_from_slice(&[0x99; 80]);
    bytes.extend_from_slice(&records[1].frame());
    assert_eq!(scan(&bytes).len(), 3);
    let stale = [records[1].clone(), records[0].clone()];
    let mut bytes = stale[0].frame();
    bytes.extend_from_slice(&[0x99; 80]);
    bytes.extend_from_slice(&stale[1].frame());
    assert_eq!(scan(&bytes).len(), 3);
}

#[test]
fn with_nothing_known_before_any_ids_are_believed() {
    let record = Record::new(77, [3; 30]);
    let mut bytes = vec![0x99; 80];
    bytes.extend_from_slice(&record.frame());
    bytes.extend_from_slice(&[0x99; 80]);
    let expected = [
        Item::damage(0..80, BadLength, None),
        Item::sound(80, &record),
        Item::damage(152..232, BadLength, None),
    ];
    assert_eq!(scan(&bytes), expected);
}

#[test]
fn damage_in_every_other_record_costs_one_search() {
    let records: Vec<_> = (1..=4000).map(|id| Record::new(id, [9; 64])).collect();
    let mut bytes = frames(&records);
    for frame in bytes.chunks_mut(frame_len(64)).step_by(2) {
        frame[..8].fill(0xff);
        frame[60..].fill(0xff);
    }
    let file = MemoryFile::new(&bytes[..]);
    let items = drain(&mut scanner_of(file.clone(), OPTIONS, 4096));
    assert_eq!(items.len(), 4000);
    let found = items
        .iter()
        .filter(|item| matches!(item, Item::Record { .. }))
        .count();
    assert_eq!(found, 2000);
    assert!(file.read_bytes() < 8 * bytes.len() as u64);
}

#[test]
fn more_damages_than_one_search_keeps_are_all_settled() {
    let count = 2 * search::MAX_RUNS as u64 + 1000;
    let records: Vec<_> = (1..=count).map(|id| Record::new(id, [])).collect();
    let mut bytes = Vec::new();
    for record in &records {
        bytes.extend_from_slice(&record.frame());
        bytes.extend_from_slice(&[0xff; 8]);
    }
    let file = MemoryFile::new(&bytes[..]);
    let items = drain(&mut scanner_of(file.clone(), OPTIONS, 1 << 16));
    assert_eq!(items.len() as u64, 2 * count);
    assert!(items.iter().step_by(2).zip(&records).all(|(item, record)| {
        matches!(item, Item::Record { record: found, mended: None, .. } if found == record)
    }));
}

#[test]
fn roots_that_all_claim_to_reach_far_back_cost_no_more_than_the_budget() {
    // Every 8 bytes, a pointer and a length that agree on a frame which begins at the
    // beginning of the file.
    let mut bytes = vec![0xff; 64];
    while bytes.len() < 400_000 {
        let body = (bytes.len() + 12 - FRAME_OVERHEAD) as u32;
        bytes.extend_from_slice(&(-(body as i32) - 20).to_le_bytes());
        bytes.extend_from_slice(&body.to_le_bytes());
    }
    let file = MemoryFile::new(&bytes[..]);
    let items = drain(&mut scanner_of(file.clone(), OPTIONS, 4096));
    assert_eq!(items.len(), 1);
    assert!(file.read_bytes() < 6 * bytes.len() as u64);
}

#[test]
fn a_failed_read_is_an_error_and_can_be_tried_again() {
    /// Fails the read with this number.
    #[derive(Debug)]
    struct Failing(Arc<MemoryFile>, AtomicU64);
    impl File for Failing {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            if self.1.fetch_sub(1, Ordering::Relaxed) == 0 {
                return Err(io::Error::other("no"));
            }
            self.0.read_at(buf, offset)
        }
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            unreachable!("a scanner only reads")
        }
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn sync(&self) -> io::Result<()> {
            unreachable!("a scanner only reads")
        }
        fn truncate(&self, _: u64) -> io::Result<()> {
            unreachable!("a scanner only reads")
        }
    }
    let (records, offsets) = five();
    let mut bytes = frames(&records);
    set_delimiter(&mut bytes, offsets[1], 0);
    bytes[offsets[3] as usize - 20..offsets[3] as usize + 20].fill(0x77);
    let expected = scan_with(&bytes, OPTIONS, 64);
    let to = bytes.len() as u64;
    let sound = MemoryFile::new(bytes);
    for nth in 0.. {
        let file = Arc::new(Failing(sound.clone(), AtomicU64::new(nth)));
        let mut scanner = Scanner::over_file(file, 0, to, OPTIONS, Pool::new(64, 1));
        let (mut failed, mut items) = (0, 0);
        while scanner.offset() < to {
            let offset = scanner.offset();
            match scanner.next() {
                Ok(item) => {
                    let found = match (item, &expected[items]) {
                        (Some(Scanned::Record(found)), Item::Record { record, .. }) => {
                            assert_eq!(scanner.payload(&found), record.payload);
                            true
                        }
                        (Some(Scanned::Damage(found)), Item::Damage(damage)) => found == *damage,
                        _ => false,
                    };
                    assert!(found, "item {items}, read {nth}");
                    items += 1;
                }
                Err(_) => {
                    assert_eq!(scanner.offset(), offset);
                    failed += 1;
                }
            }
        }
        assert_eq!(items, expected.len());
        if failed == 0 {
            assert!(nth > 10, "only {nth} reads");
            break;
        }
    }
}

#[test]
fn the_kinds_have_the_names_that_programs_rely_on() {
    let kinds = [TornTail, ZeroTail, BadLength, BadRecord, Checksum];
    assert_eq!(
        kinds.map(DamageKind::as_str),
        [
            "torn_tail",
            "zero_tail",
            "bad_length",
            "bad_record",
            "checksum"
        ]
    );
    assert_eq!(BadLength.to_string(), "bad_length");
}
