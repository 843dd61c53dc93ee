//! Data files that are missing, empty, copied or in an odd order.

use forebay::FindingKind::{IdGap, LedgerAhead, MissingFile, StaleFile};
use forebay::OnCorruption;

use super::made::{Expected, FRAME_LEN, Made, frames, kinds, without};
use crate::support::{data_files, drain_ids, open};
use crate::usage::check_law;

#[test]
fn clean() {
    let made = Made::three_files();
    assert_eq!(made.verified(), []);
    let contents = |made: &Made| {
        data_files(made.dir.path())
            .into_iter()
            .chain(["buffer.db".to_owned()])
            .map(|name| (made.read(&name), name))
            .collect::<Vec<_>>()
    };
    let before = contents(&made);
    let (writer, reader) = open(&made.config);
    assert_eq!(writer.recovery(), &forebay::Recovery::default());
    drop((writer, reader));
    assert_eq!(contents(&made), before);
    assert!(made.dir.path().join("buffer.lock").exists());
    assert!(!made.dir.path().join("quarantine").exists());
    made.check(&Expected {
        ids: (1..=21).collect(),
        lost: 0,
        next_id: 22,
    });
}

#[test]
fn middle_file_missing() {
    let made = Made::three_files();
    made.remove("buffer-data-5.dat");
    assert_eq!(made.verified(), [(MissingFile, 7)]);
    made.check(&Expected {
        ids: without(1..=21, &[8, 9, 10, 11, 12, 13, 14]),
        lost: 7,
        next_id: 22,
    });
}

#[test]
fn middle_file_empty() {
    let made = Made::three_files();
    made.write("buffer-data-5.dat", &[]);
    assert_eq!(made.verified(), [(IdGap, 7)]);
    made.check(&Expected {
        ids: without(1..=21, &[8, 9, 10, 11, 12, 13, 14]),
        lost: 7,
        next_id: 22,
    });
}

#[test]
fn reader_file_missing() {
    let made = Made::three_files();
    made.remove("buffer-data-4.dat");
    made.ledger(|ledger| ledger.reader_last_record_id = 2);
    made.check(&Expected {
        ids: (8..=21).collect(),
        lost: 5,
        next_id: 22,
    });
}

#[test]
fn writer_file_missing() {
    let made = Made::three_files();
    made.remove("buffer-data-6.dat");
    assert_eq!(made.verified(), [(MissingFile, 7)]);
    let recovery = made.check(&Expected {
        ids: (1..=14).collect(),
        lost: 7,
        next_id: 22,
    });
    assert_eq!(kinds(&recovery), [MissingFile]);
}

#[test]
fn all_files_missing() {
    let made = Made::three_files();
    for name in data_files(made.dir.path()) {
        made.remove(&name);
    }
    made.ledger(|ledger| ledger.reader_last_record_id = 3);
    assert_eq!(made.verified(), [(MissingFile, 18)]);
    made.check(&Expected {
        ids: vec![],
        lost: 18,
        next_id: 22,
    });
}

#[test]
fn wrapped() {
    let made = Made::of(&[(65533, 1..=7), (65534, 8..=14), (0, 15..=21), (1, 22..=23)]);
    assert_eq!(made.verified(), []);
    made.check(&Expected {
        ids: (1..=23).collect(),
        lost: 0,
        next_id: 24,
    });
    // And without a ledger that says where ids begin.
    let made = Made::of(&[(65533, 1..=7), (65534, 8..=14), (0, 15..=21), (1, 22..=23)]);
    made.remove("buffer.db");
    made.check(&Expected {
        ids: (1..=23).collect(),
        lost: 0,
        next_id: 24,
    });
}

#[test]
fn stale_files() {
    let made = Made::three_files();
    made.write("buffer-data-9.dat", &frames(1..=7));
    assert_eq!(made.verified(), [(StaleFile, 0)]);
    let recovery = made.check(&Expected {
        ids: (1..=21).collect(),
        lost: 0,
        next_id: 22,
    });
    assert_eq!(kinds(&recovery), [StaleFile]);
    assert!(!made.dir.path().join("buffer-data-9.dat").exists());
    assert_eq!(made.read("quarantine/buffer-data-9.dat"), frames(1..=7));
}

/// With `OnCorruption::Skip`, a stale file is not kept: the reader skips it, and it is deleted
/// when it is passed.
#[test]
fn stale_files_are_stepped_over_where_nothing_is_kept() {
    for stale in [1..=7, 8..=14, 15..=21] {
        let mut made = Made::three_files();
        made.config = made.config.on_corruption(OnCorruption::Skip);
        made.write("buffer-data-9.dat", &frames(stale));
        made.check(&Expected {
            ids: (1..=21).collect(),
            lost: 0,
            next_id: 22,
        });
        assert!(!made.dir.path().join("quarantine").exists());
    }
}

/// A file of records that were acknowledged long ago has the id that the writer
/// wants next.
#[test]
fn next_file_exists() {
    let made = Made::of(&[(5, 8..=14), (6, 15..=21)]);
    made.write("buffer-data-7.dat", &frames(1..=7));
    made.ledger(|ledger| ledger.reader_last_record_id = 9);
    made.check(&Expected {
        ids: (10..=21).collect(),
        lost: 0,
        next_id: 22,
    });
    // After the full file 6 the writer takes the next free file id.
    assert_eq!(data_files(made.dir.path()), ["buffer-data-8.dat"]);
}

#[test]
fn duplicate_ids() {
    let made = Made::one_file();
    made.change(0, |bytes| {
        let again = bytes[2 * FRAME_LEN..4 * FRAME_LEN].to_vec();
        bytes.splice(4 * FRAME_LEN..4 * FRAME_LEN, again);
    });
    assert_eq!(made.verified(), [(StaleFile, 0)]);
    made.check(&Expected {
        ids: (1..=7).collect(),
        lost: 0,
        next_id: 8,
    });
}

#[test]
fn backward_ids() {
    let made = Made::one_file();
    made.change(0, |bytes| bytes.extend(frames(2..=3)));
    assert_eq!(made.verified(), [(StaleFile, 0)]);
    made.check(&Expected {
        ids: (1..=7).collect(),
        lost: 0,
        next_id: 8,
    });
}

/// Regression, found by a fuzzer: two whole files in the place of one, as a failed copy leaves
/// them. The older file ends with ids beyond all ids of the newest ones. The reader delivered
/// those records, and the counts overflowed. They are damage, and every other record is
/// delivered once.
#[test]
fn ids_beyond_the_newest_in_an_older_file_are_damage() {
    let made = Made::of(&[(0, 1..=3), (1, 4..=6), (2, 7..=9)]);
    made.remove("buffer.db");
    made.change(0, |bytes| bytes.extend(frames(1000..=1001)));
    let (writer, mut reader) = open(&made.config);
    assert_eq!(writer.usage().next_record_id, 10);
    assert_eq!(drain_ids(&mut reader), (1..=9).collect::<Vec<_>>());
    check_law(&writer.usage());
    let kept = format!(
        "quarantine/buffer-data-0.dat.{}-{FRAME_LEN}.bytes",
        3 * FRAME_LEN
    );
    assert_eq!(made.read(&kept), frames(1000..=1000));
    assert_eq!(writer.append(b"next").unwrap().id(), Some(10));
}

/// The last file was cut at a record's end: only the ledger shows the loss.
#[test]
fn records_cut_off_cleanly_are_counted_from_the_ledger() {
    let made = Made::three_files();
    made.change(6, |bytes| bytes.truncate(3 * FRAME_LEN));
    assert_eq!(made.verified(), [(LedgerAhead, 4)]);
    made.check(&Expected {
        ids: (1..=17).collect(),
        lost: 4,
        next_id: 22,
    });
}
