//! Ledgers that are missing, damaged, or disagree with the data files.

use forebay::FindingKind::{LedgerAhead, LedgerBehind, LedgerDamaged, LedgerMissing, MissingFile};
use forebay::format::ledger::LedgerState;
use forebay::format::record::{encode, frame_len};
use forebay::{EventCounter, Item, OnCorruption, Severity};

use super::made::{Expected, Made, frames, kinds};
use crate::support::{drain, open};

/// Checks that with these bytes in the ledger's place, or none, every record is delivered and
/// the ledger is rebuilt.
fn rebuilt(ledger: Option<&[u8]>) {
    // A buffer whose first files were deleted: its ids do not begin with 1.
    let made = Made::of(&[(65534, 8..=14), (0, 15..=21)]);
    match ledger {
        Some(bytes) => made.write("buffer.db", bytes),
        None => made.remove("buffer.db"),
    }
    let kind = if ledger.is_some() {
        LedgerDamaged
    } else {
        LedgerMissing
    };
    assert_eq!(made.verified(), [(kind, 0)]);
    let recovery = made.check(&Expected {
        ids: (8..=21).collect(),
        lost: 0,
        next_id: 22,
    });
    assert_eq!(kinds(&recovery), [kind]);
    assert_eq!(made.read("buffer.db").len(), 24);
    let kept = made.dir.path().join("quarantine/buffer.db");
    // A kill may leave zeros or the beginning of the first state, so these are not kept.
    let first = LedgerState::INITIAL.to_bytes();
    let tells_something = |bytes: &[u8]| bytes.iter().any(|b| *b != 0) && !first.starts_with(bytes);
    let worth_keeping = ledger.is_some_and(tells_something);
    assert_eq!(kept.exists(), worth_keeping);
    if let (Some(bytes), true) = (ledger, worth_keeping) {
        assert_eq!(std::fs::read(kept).unwrap(), bytes);
    }
}

#[test]
fn ledger_missing() {
    rebuilt(None);
}

#[test]
fn ledger_empty() {
    rebuilt(Some(&[]));
}

#[test]
fn ledger_short() {
    rebuilt(Some(&[1]));
    rebuilt(Some(&[0; 16]));
    rebuilt(Some(&[9; 23]));
}

/// Regression: if the first opening was killed while it wrote the ledger, a buffer with
/// `OnCorruption::Refuse` could not be opened any more.
#[test]
fn a_ledger_cut_short_while_the_buffer_is_made_is_no_damage() {
    let first = LedgerState::INITIAL.to_bytes();
    for len in 0..first.len() {
        let made = Made::of(&[]);
        made.write("buffer-data-0.dat", &[]);
        made.write("buffer.db", &first[..len]);
        let config = made.config.clone().on_corruption(OnCorruption::Refuse);
        let (writer, _reader) = config.open().unwrap();
        assert_eq!(writer.recovery().findings, []);
        assert_eq!(writer.append(b"first").unwrap().id(), Some(1));
    }
}

#[test]
fn ledger_long() {
    let made = Made::three_files();
    for extra in [1, 3, 8, 4096] {
        let mut bytes = made.read("buffer.db");
        bytes.resize(24 + extra, 0);
        rebuilt(Some(&bytes));
    }
}

#[test]
fn ledger_garbage() {
    rebuilt(Some(&[0xa5; 24]));
    // Possible values, but 2^49 events beyond the data.
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&(1u64 << 49).to_le_bytes());
    bytes[16..].copy_from_slice(&(1u64 << 48).to_le_bytes());
    rebuilt(Some(&bytes));
}

#[test]
fn ledger_zero() {
    rebuilt(Some(&[0; 24]));
}

#[test]
fn reader_ahead_of_writer() {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&22u64.to_le_bytes());
    bytes[16..].copy_from_slice(&22u64.to_le_bytes());
    rebuilt(Some(&bytes));
}

/// The ledger counts fewer records than are there: in its writer's file, or in later ones.
#[test]
fn ledger_behind() {
    for (next, writer_file) in [(19, 6), (15, 5), (10, 5), (3, 4), (1, 0)] {
        let made = Made::three_files();
        made.ledger(|ledger| {
            ledger.writer_next_record_id = next;
            ledger.writer_file_id = writer_file;
        });
        assert_eq!(made.verified(), [(LedgerBehind, 0)]);
        let recovery = made.check(&Expected {
            ids: (1..=21).collect(),
            lost: 0,
            next_id: 22,
        });
        assert_eq!(kinds(&recovery), [LedgerBehind]);
        assert_eq!(recovery.findings[0].severity, Severity::Normal);
    }
}

#[test]
fn ledger_ahead() {
    for ahead in [1, 100, 1 << 40] {
        let made = Made::three_files();
        made.ledger(|ledger| ledger.writer_next_record_id += ahead);
        assert_eq!(made.verified(), [(LedgerAhead, ahead)]);
        let recovery = made.check(&Expected {
            ids: (1..=21).collect(),
            lost: ahead,
            next_id: 22 + ahead,
        });
        assert_eq!(kinds(&recovery), [LedgerAhead]);
        assert_eq!(recovery.events_lost, ahead);
    }
}

/// The file with the writer's file id is missing, but no record is.
#[test]
fn a_writer_file_without_a_record_may_be_missing() {
    let made = Made::three_files();
    made.ledger(|ledger| ledger.writer_file_id = 7);
    assert_eq!(made.verified(), [(MissingFile, 0)]);
    let recovery = made.check(&Expected {
        ids: (1..=21).collect(),
        lost: 0,
        next_id: 22,
    });
    assert_eq!(recovery.findings[0].severity, Severity::Normal);
}

#[test]
fn reader_file_behind_ids() {
    let made = Made::three_files();
    made.ledger(|ledger| {
        ledger.reader_file_id = 4;
        ledger.reader_last_record_id = 16;
    });
    assert_eq!(made.verified(), []);
    made.check(&Expected {
        ids: (17..=21).collect(),
        lost: 0,
        next_id: 22,
    });
}

#[test]
fn reader_file_ahead_of_ids() {
    for reader_file in [5, 6, 7, 40_000] {
        let made = Made::three_files();
        made.ledger(|ledger| ledger.reader_file_id = reader_file);
        assert_eq!(made.verified(), []);
        made.check(&Expected {
            ids: (1..=21).collect(),
            lost: 0,
            next_id: 22,
        });
    }
}

/// Three events a record, ids 1, 4, 7, …; acknowledged up to the second event of
/// the third record.
#[test]
fn reader_inside_a_record() {
    let three = EventCounter::new(|_, _| 3);
    let made = Made::of(&[]).counted_by(three);
    let mut bytes = Vec::new();
    for id in [1, 4, 7, 10, 13] {
        let at = bytes.len();
        bytes.resize(at + frame_len(6), 0);
        encode(&mut bytes[at..], id, 0, b"abcdef");
    }
    made.write("buffer-data-0.dat", &bytes);
    for (last, delivered) in [
        (6, &[7, 10, 13][..]),
        (7, &[7, 10, 13]),
        (8, &[7, 10, 13]),
        (9, &[10, 13]),
        (14, &[13]),
        (15, &[]),
    ] {
        made.ledger(|ledger| {
            ledger.writer_next_record_id = 16;
            ledger.reader_last_record_id = last;
        });
        assert_eq!(made.verified(), []);
        assert_eq!(made.listed(), delivered, "last {last}");
        let (writer, mut reader) = open(&made.config);
        let ids: Vec<u64> = drain(&mut reader)
            .into_iter()
            .map(|item| match item {
                Item::Record(delivery) => delivery.id(),
                Item::Lost(lost) => panic!("{lost}"),
            })
            .collect();
        assert_eq!(ids, delivered, "last {last}");
        assert_eq!(writer.usage().received.events, delivered.len() as u64 * 3);
    }
}

/// A record that holds fewer events than the counter says is acknowledged if the next record
/// follows the acknowledged id.
#[test]
fn ids_are_believed_where_the_counter_contradicts_them() {
    let three = EventCounter::new(|_, _| 3);
    let made = Made::of(&[]).counted_by(three);
    made.write("buffer-data-0.dat", &frames(1..=7));
    made.ledger(|ledger| {
        ledger.writer_next_record_id = 8;
        ledger.reader_last_record_id = 4;
    });
    assert_eq!(made.listed(), [5, 6, 7]);
}
