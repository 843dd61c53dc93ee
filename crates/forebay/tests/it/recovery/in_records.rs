//! Damage inside data files.

use forebay::FindingKind::{BadLength, BadRecord, Checksum, TornTail, ZeroTail};
use forebay::format::record::{MAX_RECORD_ID, encode};
use forebay::{Codec, Severity, Text, TypedItem};

use super::made::{
    CHECKSUM_AT, Expected, FRAME_LEN, ID_AT, LENGTH_AT, METADATA_AT, Made, PAYLOAD_LEN, POINTER_AT,
    frames, kinds, without,
};
use crate::support::{drain, open, payload};

/// Checks that damage at `at` in one record of seven (the first, one in the middle, the last)
/// loses that record and nothing else.
fn loses_one_record(at: usize) {
    for n in [0, 3, 6] {
        let made = Made::one_file();
        made.change(0, |bytes| bytes[n * FRAME_LEN + at] ^= 0x10);
        assert_eq!(made.verified(), [(Checksum, 1)], "record {}", n + 1);
        made.check(&Expected {
            ids: without(1..=7, &[n as u64 + 1]),
            lost: 1,
            next_id: 8,
        });
        let kept = format!(
            "quarantine/buffer-data-0.dat.{}-{FRAME_LEN}.bytes",
            n * FRAME_LEN
        );
        assert_eq!(made.read(&kept).len(), FRAME_LEN);
    }
}

/// Checks that damage to one record of seven loses nothing.
fn loses_nothing(kind: forebay::FindingKind, damage: impl Fn(&mut [u8])) {
    for n in [0, 3, 6] {
        let made = Made::one_file();
        made.change(0, |bytes| damage(&mut bytes[n * FRAME_LEN..][..FRAME_LEN]));
        assert_eq!(made.verified(), [(kind, 0)], "record {}", n + 1);
        made.check(&Expected {
            ids: (1..=7).collect(),
            lost: 0,
            next_id: 8,
        });
    }
}

#[test]
fn torn_tail() {
    for kept in [8, 9, 100, FRAME_LEN - 1] {
        let made = Made::one_file();
        made.change(0, |bytes| bytes.truncate(6 * FRAME_LEN + kept));
        made.ledger(|ledger| ledger.writer_next_record_id = 7);
        let recovery = made.check(&Expected {
            ids: (1..=6).collect(),
            lost: 0,
            next_id: 7,
        });
        assert_eq!(kinds(&recovery), [TornTail]);
        assert_eq!(recovery.findings[0].severity, Severity::Normal);
        assert_eq!(recovery.findings[0].offset, 6 * FRAME_LEN as u64);
        assert_eq!(recovery.findings[0].length, kept as u64);
        let quarantine = made.dir.path().join("quarantine");
        assert!(!quarantine.exists(), "what a crash leaves is not kept");
    }
}

#[test]
fn torn_middle_file() {
    let made = Made::three_files();
    made.change(5, |bytes| bytes.truncate(7 * FRAME_LEN - 20));
    assert_eq!(made.verified(), [(TornTail, 1)]);
    made.check(&Expected {
        ids: without(1..=21, &[14]),
        lost: 1,
        next_id: 22,
    });
}

#[test]
fn damaged_payload() {
    loses_one_record(8);
    loses_one_record(8 + 99);
}

#[test]
fn damaged_checksum() {
    loses_one_record(CHECKSUM_AT);
}

#[test]
fn damaged_id() {
    loses_one_record(ID_AT);
    loses_one_record(ID_AT + 7);
}

/// Regression: a record with a checksum that holds and an id near 2^64, as an attacker or a
/// broken writer makes it. The id after its events overflowed, and the reader panicked. Ids that
/// no ledger can follow are damage, whatever the checksum says.
#[test]
fn ids_that_no_record_can_have() {
    for id in [0, MAX_RECORD_ID + 1, 1 << 63, u64::MAX - 1, u64::MAX] {
        for n in [0, 3, 6] {
            let made = Made::one_file();
            made.change(0, |bytes| {
                let frame = &mut bytes[n * FRAME_LEN..][..FRAME_LEN];
                encode(frame, id, 0, &payload(9, PAYLOAD_LEN));
            });
            assert_eq!(made.verified(), [(BadRecord, 1)], "record {}", n + 1);
            made.check(&Expected {
                ids: without(1..=7, &[n as u64 + 1]),
                lost: 1,
                next_id: 8,
            });
        }
    }
}

/// The same with a damaged delimiter, so that the record is found through its root alone.
#[test]
fn ids_that_no_record_can_have_behind_a_damaged_delimiter() {
    for id in [0, u64::MAX] {
        let made = Made::one_file();
        made.change(0, |bytes| {
            let frame = &mut bytes[3 * FRAME_LEN..][..FRAME_LEN];
            encode(frame, id, 0, &payload(9, PAYLOAD_LEN));
            frame[0] ^= 0x80;
        });
        made.check(&Expected {
            ids: without(1..=7, &[4]),
            lost: 1,
            next_id: 8,
        });
    }
}

/// A record with the largest possible id is delivered like any other. No record is accepted
/// after it, because that record could not be read again.
#[test]
fn the_largest_id_is_delivered_and_nothing_follows_it() {
    let made = Made::one_file();
    made.change(0, |bytes| {
        let at = bytes.len();
        bytes.resize(at + FRAME_LEN, 0);
        encode(&mut bytes[at..], MAX_RECORD_ID, 0, &payload(1, PAYLOAD_LEN));
    });
    let (writer, mut reader) = open(&made.config);
    let items = drain(&mut reader);
    let last = items.last().map(|item| match item {
        forebay::Item::Record(delivery) => delivery.id(),
        forebay::Item::Lost(lost) => panic!("{lost:?}"),
    });
    assert_eq!(last, Some(MAX_RECORD_ID));
    assert_eq!(reader.usage().lost.events, MAX_RECORD_ID - 8);
    let error = writer.append(b"one more").unwrap_err();
    assert_eq!(error.kind(), forebay::ErrorKind::Poisoned);
    assert!(error.to_string().contains("ids end"), "{error}");
    writer.flush().unwrap();
}

#[test]
fn damaged_metadata() {
    loses_one_record(METADATA_AT);
}

#[test]
fn damaged_pointer() {
    loses_nothing(BadRecord, |frame| frame[POINTER_AT] ^= 1);
    loses_nothing(BadRecord, |frame| frame[POINTER_AT + 3] ^= 0x80);
}

#[test]
fn damaged_length() {
    loses_nothing(BadLength, |frame| frame[LENGTH_AT] ^= 8);
    loses_nothing(BadLength, |frame| frame[LENGTH_AT] ^= 1);
    loses_nothing(BadLength, |frame| frame[LENGTH_AT + 3] ^= 0x80);
}

#[test]
fn damaged_padding() {
    loses_nothing(BadRecord, |frame| frame[8 + 100] = 1);
    loses_nothing(BadRecord, |frame| frame[CHECKSUM_AT + 4] = 1);
    loses_nothing(BadRecord, |frame| frame[FRAME_LEN - 1] = 1);
}

#[test]
fn delimiter_damaged() {
    let set = |delimiter: u64| {
        move |frame: &mut [u8]| frame[..8].copy_from_slice(&delimiter.to_be_bytes())
    };
    let right = FRAME_LEN as u64 - 8;
    loses_nothing(BadLength, set(right + 16));
    loses_nothing(BadLength, set(right - 16));
    loses_nothing(BadLength, set(right + 3));
    loses_nothing(BadLength, set(0));
    loses_nothing(BadLength, set(1 << 63));
    loses_nothing(BadLength, set(u64::MAX));
}

/// Regression: the first delimiter leads beyond the end of the file, and a record in the middle
/// is damaged too. Everything up to the end was taken for one torn record and, without a ledger,
/// cut off. Frames that leave room for the first one, and frames that reach the end of the file,
/// show that it was not torn.
#[test]
fn a_delimiter_beyond_the_end_and_another_damage_lose_two_records() {
    let made = Made::one_file();
    made.remove("buffer.db");
    made.change(0, |bytes| {
        for n in [0, 3] {
            let frame = &mut bytes[n * FRAME_LEN..][..FRAME_LEN];
            frame[20] ^= 1;
            frame[POINTER_AT] ^= 1;
            frame[LENGTH_AT] ^= 8;
        }
        bytes[4] = 1;
    });
    // Without a ledger, nothing shows that there was a record 1.
    made.check(&Expected {
        ids: without(2..=7, &[4]),
        lost: 1,
        next_id: 8,
    });
}

#[test]
fn delimiter_swallows_next() {
    for swallowed in 1..4 {
        let made = Made::one_file();
        let delimiter = ((swallowed + 1) * FRAME_LEN) as u64 - 8;
        made.change(0, |bytes| {
            bytes[FRAME_LEN..][..8].copy_from_slice(&delimiter.to_be_bytes());
        });
        assert_eq!(made.verified(), [(BadLength, 0)]);
        made.check(&Expected {
            ids: (1..=7).collect(),
            lost: 0,
            next_id: 8,
        });
    }
}

#[test]
fn zero_tail_known() {
    let made = Made::one_file();
    made.change(0, |bytes| bytes[4 * FRAME_LEN..].fill(0));
    assert_eq!(made.verified(), [(ZeroTail, 3)]);
    let recovery = made.check(&Expected {
        ids: (1..=4).collect(),
        lost: 3,
        next_id: 8,
    });
    assert_eq!(kinds(&recovery), [ZeroTail]);
    assert_eq!(recovery.events_lost, 3);
    // The record that was appended afterwards follows the four.
    assert_eq!(made.read("buffer-data-0.dat").len(), 5 * FRAME_LEN);
}

#[test]
fn zero_tail_unknown() {
    let made = Made::one_file();
    made.change(0, |bytes| bytes.resize(bytes.len() + 4096, 0));
    assert_eq!(made.verified(), [(ZeroTail, 0)]);
    let recovery = made.check(&Expected {
        ids: (1..=7).collect(),
        lost: 0,
        next_id: 8,
    });
    assert_eq!(kinds(&recovery), [ZeroTail]);
    assert_eq!(recovery.findings[0].severity, Severity::Normal);
}

/// Foreign bytes over records 3 to 5 of a file: one finding, three records lost.
fn span_in_the_middle(fill: impl Fn(usize) -> u8) {
    let made = Made::three_files();
    made.change(5, |bytes| {
        let span = &mut bytes[2 * FRAME_LEN..5 * FRAME_LEN];
        for (at, byte) in span.iter_mut().enumerate() {
            *byte = fill(at);
        }
    });
    let verified = made.verified();
    assert_eq!(verified.len(), 1, "{verified:?}");
    assert_eq!(verified[0].1, 3);
    made.check(&Expected {
        ids: without(1..=21, &[10, 11, 12]),
        lost: 3,
        next_id: 22,
    });
}

#[test]
fn hole() {
    span_in_the_middle(|_| 0);
}

#[test]
fn noise() {
    span_in_the_middle(|at| (at * at * 31 + at * 7) as u8);
}

/// Regression: without a ledger, a tail that looks torn may be more than a crash leaves. It was
/// cut off, and nothing of it was kept.
#[test]
fn a_tail_is_kept_where_no_ledger_says_that_nothing_is_lost() {
    let made = Made::one_file();
    made.remove("buffer.db");
    made.change(0, |bytes| bytes.truncate(7 * FRAME_LEN - 8));
    made.check(&Expected {
        ids: (1..=6).collect(),
        lost: 0,
        next_id: 7,
    });
    let len = FRAME_LEN - 8;
    let kept = format!("quarantine/buffer-data-0.dat.{}-{len}.bytes", 6 * FRAME_LEN);
    assert_eq!(made.read(&kept), frames(7..=7)[..len]);
}

/// The last record is text that is not UTF-8: the codec refuses it, and opening does not decode
/// it.
#[test]
fn undecodable_last_record() {
    let made = Made::of(&[]);
    let (writer, reader) = open(&made.config);
    for text in [&b"right"[..], b"\xff\xfe"] {
        writer.append_with(Text.metadata(), text).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let (writer, mut reader) = made.config.clone().open_typed(Text).unwrap();
    assert!(matches!(
        reader.recv().unwrap(),
        Some(TypedItem::Record { value, .. }) if value == "right"
    ));
    assert!(matches!(
        reader.recv().unwrap(),
        Some(TypedItem::Undecodable { .. })
    ));
    assert_eq!(writer.get_ref().recovery(), &forebay::Recovery::default());
    assert_eq!(writer.append(&"more".to_owned()).unwrap().id(), Some(3));
}

/// Bytes of the file that is appended to change under an open buffer.
#[test]
fn damage_while_open() {
    let made = Made::one_file();
    let (writer, mut reader) = open(&made.config);
    made.change(0, |bytes| bytes[3 * FRAME_LEN + 20] ^= 1);
    writer.append(&payload(8, 100)).unwrap();
    writer.flush().unwrap();
    let (mut ids, mut lost) = (Vec::new(), Vec::new());
    for item in drain(&mut reader) {
        match item {
            forebay::Item::Record(delivery) => {
                ids.push(delivery.id());
                delivery.ack();
            }
            forebay::Item::Lost(item) => lost.push((item.first_id, item.events)),
        }
    }
    assert_eq!(ids, without(1..=8, &[4]));
    assert_eq!(lost, [(4, 1)]);
    assert!(drain(&mut reader).is_empty());
    let usage = reader.usage();
    assert_eq!(usage.unread.events, 0);
    assert_eq!(usage.lost.events, 1);
}
