//! What is reported about a closed buffer, and about what is no buffer.

use std::path::Path;
use std::time::Duration;

use forebay::storage::sim::Sim;
use forebay::{
    Error, ErrorKind, InspectOptions, LedgerCondition, RecordsOptions, Recovery, VerifyOptions,
};

use crate::support::{open, payload, record, small, temp_dir};

fn inspect(dir: &Path) -> Result<forebay::Inspection, Error> {
    InspectOptions::default().inspect(dir)
}

fn verify(dir: &Path) -> Result<forebay::Verification, Error> {
    VerifyOptions::default().verify(dir)
}

fn records(dir: &Path, options: &RecordsOptions) -> Vec<u64> {
    let records = options.records(dir).unwrap();
    records.map(|record| record.unwrap().id).collect()
}

/// A closed buffer: 20 records of 100 bytes in three files, `acknowledged` of
/// them acknowledged.
fn closed(dir: &Path, acknowledged: usize) {
    let (writer, mut reader) = open(&small(dir));
    for n in 1..=20 {
        writer.append_with(n as u32, &payload(n, 100)).unwrap();
    }
    writer.close().unwrap();
    for _ in 0..acknowledged {
        record(reader.recv().unwrap()).ack();
    }
    reader.close().unwrap();
}

#[test]
fn a_buffer_at_rest_is_described() {
    let dir = temp_dir();
    closed(dir.path(), 9);
    let inspection = inspect(dir.path()).unwrap();
    assert_eq!(inspection.directory, dir.path());
    assert!(!inspection.locked);
    assert_eq!(inspection.lock_holder_pid, None);
    let ledger = &inspection.ledger;
    assert_eq!(ledger.status, LedgerCondition::Ok);
    assert_eq!(ledger.damage, None);
    assert_eq!(ledger.writer_next_record_id, Some(21));
    assert_eq!(ledger.reader_last_record_id, Some(9));
    assert_eq!(
        (ledger.reader_file_id, ledger.writer_file_id),
        (Some(1), Some(2))
    );
    let files: Vec<_> = inspection
        .files
        .iter()
        .map(|file| {
            (
                file.file_id,
                file.bytes,
                file.first_record_id,
                file.is_stale,
            )
        })
        .collect();
    assert_eq!(
        files,
        [(1, 7 * 144, Some(8), false), (2, 6 * 144, Some(15), false)]
    );
    assert_eq!(inspection.disk_bytes(), 13 * 144);
    assert!(inspection.files.iter().all(|file| file.modified.is_some()));
    assert_eq!(inspection.next_record_id, 21);
    assert_eq!(inspection.last_acknowledged_id, 9);
    assert_eq!(inspection.recovery, Recovery::default());
    assert!(inspection.is_orphaned());
    assert_eq!(inspection.free_bytes.is_some(), cfg!(unix));
    assert_eq!(inspection.unread.records, 11);
    assert_eq!(inspection.unread.events, 11);
    assert_eq!(inspection.unread.bytes, 11 * 144);
    let age = inspection.oldest_unread_age_seconds.unwrap();
    assert!((0.0..3600.0).contains(&age), "{age}");
}

#[test]
fn with_nothing_unread_there_is_no_age() {
    let dir = temp_dir();
    closed(dir.path(), 20);
    let inspection = inspect(dir.path()).unwrap();
    assert_eq!(inspection.unread, forebay::Unread::default());
    assert_eq!(inspection.oldest_unread_age_seconds, None);
}

#[test]
fn the_age_is_that_of_the_file_with_the_oldest_unread_record() {
    let dir = temp_dir();
    closed(dir.path(), 7);
    for (file_id, hours) in [(1, 5), (2, 1)] {
        let path = dir.path().join(format!("buffer-data-{file_id}.dat"));
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let time = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        file.set_modified(time).unwrap();
    }
    let age = inspect(dir.path())
        .unwrap()
        .oldest_unread_age_seconds
        .unwrap();
    assert_eq!((age / 3600.0).floor() as u64, 5);
}

#[test]
fn records_are_counted_only_if_asked_for() {
    let dir = temp_dir();
    closed(dir.path(), 3);
    let options = InspectOptions::default().count_records(false);
    let unread = options.inspect(dir.path()).unwrap().unread;
    assert_eq!((unread.records, unread.events), (0, 17));
}

#[test]
fn a_healthy_buffer_verifies_clean_and_progress_reaches_the_total() {
    let dir = temp_dir();
    closed(dir.path(), 9);
    let mut steps = Vec::new();
    let progress = |done, total| steps.push((done, total));
    let verification = VerifyOptions::default()
        .on_progress(progress)
        .verify(dir.path())
        .unwrap();
    assert!(verification.is_clean());
    assert_eq!(verification.findings, []);
    assert_eq!((verification.records, verification.events), (13, 13));
    assert_eq!(verification.bytes, 13 * 144);
    assert_eq!(steps.first(), Some(&(0, 13 * 144)));
    assert_eq!(steps.last(), Some(&(13 * 144, 13 * 144)));
}

#[test]
fn records_are_listed_with_their_places() {
    let dir = temp_dir();
    closed(dir.path(), 9);
    let stored: Vec<_> = RecordsOptions::default()
        .records(dir.path())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(stored.len(), 11);
    let first = &stored[0];
    assert_eq!((first.id, first.events, first.metadata), (10, 1, 10));
    assert_eq!((first.file_id, first.offset), (1, 2 * 144));
    assert_eq!(first.payload, payload(10, 100));
}

#[test]
fn acknowledged_records_are_listed_on_request() {
    let dir = temp_dir();
    closed(dir.path(), 9);
    let all = RecordsOptions::default().all(true);
    assert_eq!(records(dir.path(), &all), (8..=20).collect::<Vec<_>>());
}

#[test]
fn a_listing_begins_where_it_is_told_to() {
    let dir = temp_dir();
    closed(dir.path(), 9);
    let from = |id| records(dir.path(), &RecordsOptions::default().from(id));
    assert_eq!(from(0).len(), 11);
    assert_eq!(from(3).len(), 11);
    assert_eq!(from(12), (12..=20).collect::<Vec<_>>());
    assert_eq!(from(15), (15..=20).collect::<Vec<_>>());
    assert_eq!(from(20), [20]);
    assert_eq!(from(21), [0; 0]);
    let all_from = RecordsOptions::default().all(true).from(9);
    assert_eq!(records(dir.path(), &all_from), (9..=20).collect::<Vec<_>>());
}

#[test]
fn what_lies_before_the_beginning_of_a_listing_is_not_lost() {
    let dir = temp_dir();
    closed(dir.path(), 0);
    std::fs::remove_file(dir.path().join("buffer-data-1.dat")).unwrap();
    let lost_from = |id| {
        let options = RecordsOptions::default().from(id);
        let mut records = options.records(dir.path()).unwrap();
        records.by_ref().for_each(|record| drop(record.unwrap()));
        records.lost().events
    };
    assert_eq!(lost_from(1), 7);
    assert_eq!(lost_from(10), 5);
    assert_eq!(lost_from(15), 0);
}

/// The name, contents and modification time of every file of a directory.
fn everything(dir: &Path) -> Vec<(std::ffi::OsString, Vec<u8>, std::time::SystemTime)> {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let modified = entry.metadata().unwrap().modified().unwrap();
            let bytes = std::fs::read(entry.path()).unwrap();
            (entry.file_name(), bytes, modified)
        })
        .collect();
    entries.sort();
    entries
}

#[test]
fn nothing_is_written_not_even_the_lock_file() {
    let dir = temp_dir();
    closed(dir.path(), 9);
    std::fs::remove_file(dir.path().join("buffer.lock")).unwrap();
    let path = dir.path().join("buffer-data-2.dat");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    bytes.truncate(6 * 144 - 9);
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(dir.path().join("buffer.db"), [1, 2, 3]).unwrap();
    let before = everything(dir.path());
    inspect(dir.path()).unwrap();
    assert!(!verify(dir.path()).unwrap().is_clean());
    records(dir.path(), &RecordsOptions::default());
    assert_eq!(everything(dir.path()), before);
}

#[test]
fn nothing_that_changes_a_file_system_is_called() {
    let sim = Sim::new();
    let dir = temp_dir();
    closed(dir.path(), 9);
    sim.import_dir(dir.path(), "/buffer").unwrap();
    let before = sim.operations();
    let storage: std::sync::Arc<dyn forebay::storage::Storage> = std::sync::Arc::new(sim.clone());
    InspectOptions::default()
        .storage(storage.clone())
        .inspect("/buffer")
        .unwrap();
    VerifyOptions::default()
        .storage(storage.clone())
        .verify("/buffer")
        .unwrap();
    let listed = RecordsOptions::default()
        .storage(storage)
        .records("/buffer")
        .unwrap();
    assert_eq!(listed.count(), 11);
    assert_eq!(sim.operations(), before);
}

#[test]
fn what_is_no_buffer_is_refused_and_named() {
    let dir = temp_dir();
    let missing = dir.path().join("missing");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for (path, says) in [
        (missing.as_path(), "there is no directory"),
        (file.as_path(), "not a directory"),
        (empty.as_path(), "is empty: no buffer.db"),
        (dir.path(), "holds empty, file"),
    ] {
        let errors = [
            inspect(path).unwrap_err(),
            verify(path).unwrap_err(),
            RecordsOptions::default().records(path).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::NotABuffer, "{error}");
            assert_eq!(error.path(), Some(path));
            let text = error.to_string();
            assert!(text.contains(says), "{text}");
            assert!(text.contains(path.to_str().unwrap()), "{text}");
        }
    }
}
