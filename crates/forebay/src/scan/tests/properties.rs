//! One damage anywhere: every record whose frame is untouched is returned, once, in
//! order, with its bytes, and nothing that was not written is returned.

use super::*;
use crate::format::record::Frame;
use proptest::prelude::*;
use proptest::sample::Index;

/// One damage to a file.
#[derive(Debug, Clone)]
enum Harm {
    Flip { bit: Index },
    Truncate { len: Index },
    ZeroSector { sector: Index },
    Noise { at: Index, bytes: Vec<u8> },
    Insert { at: Index, bytes: Vec<u8> },
    Remove { at: Index, words: usize },
}

/// A damaged file and what must be found in it.
struct Harmed {
    bytes: Vec<u8>,
    /// For each record, whether its frame is untouched.
    untouched: Vec<bool>,
}

fn spans(records: &[Record]) -> Vec<Range<usize>> {
    let mut end = 0;
    records
        .iter()
        .map(|record| {
            let start = end;
            end += frame_len(record.payload.len());
            start..end
        })
        .collect()
}

/// Whether the bytes end with a whole frame.
fn ends_with_frame(bytes: &[u8]) -> bool {
    let root = bytes.last_chunk().map(Root::from_bytes);
    let Some(len) = root.and_then(|root| root.agreed_len()) else {
        return false;
    };
    let delimiter = u64::from(len) + ROOT_LEN as u64;
    let start = bytes.len().checked_sub(frame_len(len as usize));
    start.is_some_and(|start| bytes[start..].starts_with(&delimiter.to_be_bytes()))
}

impl Harm {
    fn apply(&self, records: &[Record]) -> Harmed {
        let mut bytes = frames(records);
        let len = bytes.len();
        let word = |index: &Index| index.index(len / ALIGN + 1) * ALIGN;
        let hit = match self {
            Self::Flip { bit } => {
                let bit = bit.index(len * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                bit / 8..bit / 8 + 1
            }
            Self::Truncate { len: left } => {
                let mut left = left.index(len);
                let is_end = |at: usize| spans(records).iter().any(|span| span.end == at);
                if !is_end(left) && ends_with_frame(&bytes[..left]) {
                    // If the ids follow as well, nothing tells a frame inside a torn
                    // payload from one after a bad delimiter.
                    left -= 1;
                }
                bytes.truncate(left);
                left..len
            }
            Self::ZeroSector { sector } => {
                let start = sector.index(len.div_ceil(512)) * 512;
                let end = len.min(start + 512);
                bytes[start..end].fill(0);
                start..end
            }
            Self::Noise { at, bytes: noise } => {
                let start = at.index(len);
                let end = len.min(start + noise.len());
                bytes[start..end].copy_from_slice(&noise[..end - start]);
                start..end
            }
            Self::Insert { at, bytes: new } => {
                let at = word(at);
                bytes.splice(at..at, new.iter().copied());
                at..at
            }
            Self::Remove { at, words } => {
                let start = word(at);
                let end = len.min(start + words * ALIGN);
                bytes.drain(start..end);
                start..end
            }
        };
        let gives_up = self.hides_the_rest(records, &hit, bytes.len());
        let untouched = spans(records)
            .into_iter()
            .map(|span| {
                let outside = if hit.is_empty() {
                    hit.start <= span.start || span.end <= hit.start
                } else {
                    hit.end <= span.start || span.end <= hit.start
                };
                outside && !(gives_up && span.start >= hit.start)
            })
            .collect();
        Harmed { bytes, untouched }
    }

    /// Whether the records after the removed bytes may be given up. Either the bytes were
    /// removed so near to the end that the record looks like a torn tail, or all of the
    /// record but its last word is left, and the next delimiter is in the place of that word.
    fn hides_the_rest(&self, records: &[Record], hit: &Range<usize>, len: usize) -> bool {
        matches!(self, Self::Remove { .. })
            && spans(records).into_iter().any(|span| {
                (span.start + DELIMITER_LEN..span.end).contains(&hit.start)
                    && (span.end > len || hit.start + ALIGN == span.end)
            })
    }
}

/// The damage that power cuts, disks and memory do, and inserted bytes.
fn harm() -> impl Strategy<Value = Harm> {
    let index = any::<Index>;
    let noise = || prop::collection::vec(any::<u8>(), 8..700);
    let words = prop_oneof![
        prop::collection::vec(any::<[u8; ALIGN]>(), 1..60).prop_map(|words| words.concat()),
        (1..60usize).prop_map(|words| vec![0; words * ALIGN]),
    ];
    prop_oneof![
        index().prop_map(|bit| Harm::Flip { bit }),
        index().prop_map(|len| Harm::Truncate { len }),
        index().prop_map(|sector| Harm::ZeroSector { sector }),
        (index(), noise()).prop_map(|(at, bytes)| Harm::Noise { at, bytes }),
        (index(), words).prop_map(|(at, bytes)| Harm::Insert { at, bytes }),
    ]
}

/// Removed bytes. If frames of a payload then touch the frame after it, nothing tells
/// them apart, so this is only for payloads without frames.
fn removal() -> impl Strategy<Value = Harm> {
    (any::<Index>(), 1..100usize).prop_map(|(at, words)| Harm::Remove { at, words })
}

/// How to make the payload of a record, given its id.
#[derive(Debug, Clone)]
enum Content {
    Bytes(Vec<u8>),
    Repeated(u8, usize),
    /// Whole frames: the distance of their first id from the record's own, events and
    /// content of each, and the number of bytes before and after the frames.
    Frames(i64, Vec<(u64, Content)>, usize, usize),
    /// A part of such frames, as if a data file had been cut in pieces.
    Part(Box<Content>, Index, Index, [u8; ALIGN]),
}

impl Content {
    fn payload(&self, id: u64) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Repeated(byte, len) => vec![*byte; *len],
            Self::Frames(distance, contents, before, behind) => {
                let mut bytes = vec![0x11; *before];
                let first = id.saturating_add_signed(*distance);
                bytes.extend(frames(&records_of(first, contents)));
                bytes.resize(bytes.len() + behind, 0x22);
                bytes
            }
            Self::Part(whole, from, to, front) => {
                // Ids far from those around: if the file is cut at the end of such a
                // frame, only the ids tell that it is not a record.
                let bytes = whole.payload(id + (1 << 40));
                let words = bytes.len() / ALIGN;
                let (from, to) = (from.index(words + 1), to.index(words + 1));
                // A separate word comes first, because the end of a frame without its
                // delimiter is a different case.
                let mut part = front.to_vec();
                part.extend_from_slice(&bytes[from.min(to) * ALIGN..from.max(to) * ALIGN]);
                part
            }
        }
    }
}

/// Records whose ids begin at `id`, each with the given number of events, but at most as
/// many as its payload can hold.
fn records_of(mut id: u64, contents: &[(u64, Content)]) -> Vec<Record> {
    contents
        .iter()
        .map(|(events, content)| {
            let record = Record::new(id, content.payload(id));
            id += (*events).clamp(1, (record.payload.len() as u64).max(1));
            record
        })
        .collect()
}

fn plain() -> impl Strategy<Value = Content> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..120).prop_map(Content::Bytes),
        (prop_oneof![Just(0), Just(0xff), any::<u8>()], 0..300usize)
            .prop_map(|(byte, len)| Content::Repeated(byte, len)),
    ]
}

/// Mostly one event per record, sometimes more.
fn events() -> impl Strategy<Value = u64> {
    prop_oneof![8 => Just(1), 2 => 1..20u64]
}

fn nested() -> impl Strategy<Value = Content> {
    plain().prop_recursive(2, 24, 5, |inner| {
        let distance = prop_oneof![-3..4i64, -100..100i64];
        let contents = prop::collection::vec((events(), inner), 1..5);
        let frames = (distance, contents, 0..=ALIGN, 0..20usize)
            .prop_map(|(d, contents, before, behind)| Content::Frames(d, contents, before, behind));
        let part = prop::option::weighted(0.3, any::<(Index, Index, [u8; ALIGN])>());
        (frames, part).prop_map(|(frames, part)| match part {
            Some((from, to, front)) => Content::Part(Box::new(frames), from, to, front),
            None => frames,
        })
    })
}

fn check(records: &[Record], harm: &Harm, chunk_len: usize) -> Result<(), TestCaseError> {
    let harmed = harm.apply(records);
    let mut found = returned(&harmed.bytes, chunk_len).into_iter().peekable();
    for (record, untouched) in records.iter().zip(harmed.untouched) {
        let returned = found.next_if(|found| found == record).is_some();
        prop_assert!(returned || !untouched, "not returned: {record:?}");
    }
    prop_assert_eq!(found.next(), None, "returned, but not written or not here");
    Ok(())
}

fn chunk_len() -> impl Strategy<Value = usize> {
    prop_oneof![Just(48), Just(136), Just(1000), Just(1 << 16)]
}

/// At least a thousand cases; more by the variable `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    config.cases = config.cases.max(1000);
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn one_damage_loses_only_what_it_touches(
        first in 1..1000u64,
        contents in prop::collection::vec((events(), plain()), 1..20),
        harm in prop_oneof![3 => harm(), 1 => removal()],
        chunk_len in chunk_len(),
    ) {
        check(&records_of(first, &contents), &harm, chunk_len)?;
    }

    #[test]
    fn one_damage_never_brings_up_frames_of_a_payload(
        first in 1..1000u64,
        // Ids are known before the first payload with frames.
        plain in (events(), plain()),
        contents in prop::collection::vec((events(), nested()), 1..12),
        harm in harm(),
        chunk_len in chunk_len(),
    ) {
        let contents: Vec<_> = [plain].into_iter().chain(contents).collect();
        check(&records_of(first, &contents), &harm, chunk_len)?;
    }

    #[test]
    fn anything_at_all_is_scanned_to_its_end(
        bytes in prop::collection::vec(
            prop_oneof![4 => Just(0u8), 1 => Just(0xff), 1 => Just(32), 1 => any::<u8>()],
            0..2000,
        ),
        to in prop_oneof![Just(None), any::<u64>().prop_map(Some)],
        check in prop_oneof![Just(Check::Checksums), Just(Check::Structure)],
        chunk_len in chunk_len(),
    ) {
        let to = to.unwrap_or(bytes.len() as u64);
        let file = MemoryFile::new(bytes);
        let options = ScanOptions { check, ..OPTIONS };
        let mut scanner = Scanner::over_file(file, 0, to, options, Pool::new(chunk_len, 1));
        drain(&mut scanner);
    }

    /// The two frame parsers: one accepts only frames that pass every check, the other mends.
    #[test]
    fn both_frame_parsers_agree_on_what_is_right(
        id in prop_oneof![1..1000u64, any::<u64>()],
        content in plain(),
        harms in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
        max_len in prop_oneof![4 => Just(u64::MAX), 1 => 40..200u64],
    ) {
        let mut bytes = frames(&[Record::new(id, content.payload(id))]);
        for (at, byte) in harms {
            // Mostly the parts that are not payload.
            let at = match at.index(3) {
                0 => at.index(DELIMITER_LEN),
                1 => bytes.len() - 1 - at.index(ROOT_LEN),
                _ => at.index(bytes.len()),
            };
            bytes[at] = byte;
        }
        let frame = Frame::first(&bytes, max_len).filter(Frame::is_intact);
        let right = frame.map(|frame| (frame.root.id, frame.len as u64, frame.payload.to_vec()));
        let options = ScanOptions { max_frame_len: max_len, ..OPTIONS };
        let mut scanner = scanner_of(MemoryFile::new(&*bytes), options, 1 << 16);
        let careful = match scanner.next_with_care().unwrap() {
            Some(Scanned::Record(found)) if found.mended.is_none() => {
                Some((found.id, found.frame_len, scanner.payload(&found).to_vec()))
            }
            _ => None,
        };
        prop_assert_eq!(right, careful);
    }

    #[test]
    fn many_damages_bring_up_nothing_that_was_not_written(
        contents in prop::collection::vec((events(), plain()), 1..20),
        harms in prop::collection::vec((any::<Index>(), any::<u8>()), 1..40),
        chunk_len in chunk_len(),
    ) {
        let records = records_of(1, &contents);
        let mut bytes = frames(&records);
        for (at, byte) in harms {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut written = records.iter();
        for record in returned(&bytes, chunk_len) {
            prop_assert!(written.any(|written| *written == record), "{record:?}");
        }
    }

    #[test]
    fn the_length_of_a_chunk_does_not_matter(
        contents in prop::collection::vec((events(), nested()), 1..12),
        harms in prop::collection::vec((any::<Index>(), any::<u8>()), 0..40),
        chunk_len in 40..2000usize,
    ) {
        let mut bytes = frames(&records_of(1, &contents));
        for (at, byte) in harms {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(
            scan_with(&bytes, OPTIONS, chunk_len),
            scan_with(&bytes, OPTIONS, 1 << 16)
        );
    }
}

/// Payloads of every shape: short, full words, empty, zeros, and frames with ids close
/// to those around them.
fn shapes() -> Vec<Record> {
    let inner: Vec<_> = (4..8)
        .map(|id| Record::new(id, vec![id as u8; id as usize]))
        .collect();
    vec![
        Record::new(1, *b"hello"),
        Record::new(2, *b"eightful"),
        Record::new(3, frames(&inner)),
        Record::new(4, []),
        Record::new(5, [0; 64]),
        Record::new(6, frames(&inner[..2])),
        Record::new(7, [0xff; 33]),
        Record::new(8, []),
    ]
}

fn returned(bytes: &[u8], chunk_len: usize) -> Vec<Record> {
    scan_with(bytes, OPTIONS, chunk_len)
        .into_iter()
        .filter_map(|item| match item {
            Item::Record { record, .. } => Some(record),
            Item::Damage(_) => None,
        })
        .collect()
}

#[test]
fn each_bit_flipped_loses_at_most_its_record_and_redundant_ones_nothing() {
    let records = shapes();
    let sound = frames(&records);
    for (number, span) in spans(&records).into_iter().enumerate() {
        let root = span.end - ROOT_LEN;
        let payload_end = span.start + DELIMITER_LEN + records[number].payload.len();
        // The bytes that the checksum covers, and the checksum itself.
        let covered = [
            span.start + DELIMITER_LEN..payload_end,
            root..root + 4,
            root + 8..root + 20,
        ];
        let mut without = records.clone();
        without.remove(number);
        for at in span {
            let lost = covered.iter().any(|part| part.contains(&at));
            let expected = if lost { &without } else { &records };
            for bit in 0..8 {
                let mut bytes = sound.clone();
                bytes[at] ^= 1 << bit;
                for chunk_len in [48, 1 << 16] {
                    assert_eq!(
                        &returned(&bytes, chunk_len),
                        expected,
                        "byte {at} bit {bit}"
                    );
                }
            }
        }
    }
}

#[test]
fn cut_at_each_byte_leaves_the_whole_records() {
    let records = shapes();
    let sound = frames(&records);
    let spans = spans(&records);
    for len in 0..sound.len() {
        let whole = spans.iter().filter(|span| span.end <= len).count();
        let items = scan(&sound[..len]);
        let end = spans[whole].start;
        let torn = usize::from(len > end);
        assert_eq!(items.len(), whole + torn, "cut at {len}");
        if torn == 1 {
            let expected = Item::damage(end as u64..len as u64, DamageKind::TornTail, None);
            assert_eq!(items[whole], expected);
        }
    }
}

#[test]
fn zeros_over_any_span_lose_what_they_touch() {
    let records = shapes();
    let sound = frames(&records);
    let spans = spans(&records);
    for start in 0..sound.len() {
        for len in [1, 7, 8, 31, 40, 64, 128, 512] {
            let end = sound.len().min(start + len);
            let mut bytes = sound.clone();
            bytes[start..end].fill(0);
            let mut found = returned(&bytes, 1 << 16).into_iter().peekable();
            for (record, span) in records.iter().zip(&spans) {
                let untouched = bytes[span.clone()] == sound[span.clone()];
                let returned = found.next_if(|found| found == record).is_some();
                assert!(
                    returned || !untouched,
                    "{start}..{end}: not returned: {record:?}"
                );
            }
            assert_eq!(found.next(), None, "{start}..{end}");
        }
    }
}
