//! Zeros that are preallocated when small syncs follow one another: they make syncs cheaper and
//! must have no other effect.

use std::path::Path;
use std::sync::Arc;

use forebay::format::record::frame_len;
use forebay::storage::Storage;
use forebay::storage::fault::{Errno, Op};
use forebay::{Config, ErrorKind, Severity, SyncPolicy, VerifyOptions, WhenFull};

use crate::faults::{DIR, faulty, next};
use crate::support::{data_files, drain_ids, open, payload, small, temp_dir};

const LEN: usize = 20;

fn synced(dir: &Path) -> Config {
    small(dir).sync(SyncPolicy::Always)
}

fn disk_len(dir: &Path) -> u64 {
    let len = |name: &String| std::fs::metadata(dir.join(name)).unwrap().len();
    data_files(dir).iter().map(len).sum()
}

#[test]
fn a_series_of_small_syncs_writes_them_and_a_close_cuts_them() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&synced(dir.path()));
    let written = |n: u64| n * frame_len(LEN) as u64;
    for n in 1..=5 {
        writer.append(&payload(n, LEN)).unwrap();
    }
    let with_zeros = disk_len(dir.path());
    assert!(with_zeros > written(5), "{with_zeros} bytes");
    assert_eq!(writer.usage().disk_bytes, with_zeros);
    for n in 6..=8 {
        writer.append(&payload(n, LEN)).unwrap();
    }
    assert_eq!(drain_ids(&mut reader), [1, 2, 3, 4, 5, 6, 7, 8]);
    writer.close().unwrap();
    reader.close().unwrap();
    assert_eq!(disk_len(dir.path()), written(8));
}

/// Regression: on a file system without the space to shorten a file, a close tried that for ever.
#[test]
fn a_close_leaves_them_where_there_is_no_space_to_cut_them() {
    for errno in [Errno::Enospc, Errno::Emfile] {
        let (_sim, fault) = faulty();
        let (writer, reader) = crate::faults::open(&fault, synced(Path::new(DIR))).unwrap();
        for n in 1..=20 {
            writer.append(&payload(n, LEN)).unwrap();
        }
        fault.fail_from(Op::Truncate, next(&fault, Op::Truncate), errno);
        reader.close().unwrap();
        writer.close().unwrap();
        fault.clear();
        let (_writer, mut reader) = crate::faults::open(&fault, synced(Path::new(DIR))).unwrap();
        assert_eq!(drain_ids(&mut reader).len(), 20);
    }
}

#[test]
fn they_are_cut_when_a_file_is_full() {
    let dir = temp_dir();
    let (writer, reader) = open(&synced(dir.path()));
    for n in 1..=40 {
        writer.append(&payload(n, LEN)).unwrap();
    }
    let files = data_files(dir.path());
    assert_eq!(files.len(), 3);
    let per_file = 1024 / frame_len(LEN) as u64;
    for name in &files[..2] {
        let len = std::fs::metadata(dir.path().join(name)).unwrap().len();
        assert_eq!(len, per_file * frame_len(LEN) as u64, "{name}");
    }
    drop((writer, reader));
}

#[test]
fn a_killed_process_leaves_a_zero_tail_that_costs_nothing() {
    let (dir, killed) = (temp_dir(), temp_dir());
    let (writer, reader) = open(&synced(dir.path()));
    for n in 1..=5 {
        writer.append(&payload(n, LEN)).unwrap();
    }
    // What a killed process leaves is what is in the files now.
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), killed.path().join(entry.file_name())).unwrap();
    }
    drop((writer, reader));
    let found = VerifyOptions::default().verify(killed.path()).unwrap();
    assert_eq!((found.records, found.events_lost), (5, 0));
    let kinds: Vec<_> = found.findings.iter().map(|f| f.kind.as_str()).collect();
    assert_eq!(kinds, ["zero_tail"]);
    assert!(
        found
            .findings
            .iter()
            .all(|f| f.severity == Severity::Normal)
    );

    let (writer, mut reader) = open(&synced(killed.path()));
    assert_eq!(writer.append(b"next").unwrap().id(), Some(6));
    assert_eq!(drain_ids(&mut reader), [1, 2, 3, 4, 5, 6]);
    assert_eq!(writer.usage().lost.events, 0);
}

#[test]
fn they_stay_within_the_limits() {
    let dir = temp_dir();
    let max_size = 4096;
    let config = Config::new(dir.path())
        .max_size(max_size)
        .data_file_size(1024)
        .sync(SyncPolicy::Always)
        .when_full(WhenFull::Reject);
    let (writer, reader) = open(&config);
    let mut records = 0;
    let error = loop {
        match writer.append(&payload(records, LEN)) {
            Ok(_) => records += 1,
            Err(error) => break error,
        }
        let len = disk_len(dir.path());
        assert!(len + 32 <= max_size, "{len} bytes after {records} records");
    };
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(records, (max_size - 32) / frame_len(LEN) as u64);
    drop((writer, reader));
}

/// Regression: a full disk took half of a frame. Zeros that were preallocated for a sync
/// overwrote that half, and the rest of the frame was written after them: a damaged record.
#[test]
fn they_spare_what_a_full_disk_took_of_a_frame() {
    let (_sim, fault) = faulty();
    let (writer, mut reader) = crate::faults::open(&fault, small(Path::new(DIR))).unwrap();
    let append = |n: u64| writer.append(&payload(n, LEN)).unwrap();
    for n in 1..=2 {
        append(n).wait_synced().unwrap();
    }
    let third = append(3);
    third.wait_written().unwrap();
    fault.fail(Op::ShortWrite, next(&fault, Op::ShortWrite), Errno::Enospc);
    fault.fail(Op::Write, next(&fault, Op::Write) + 1, Errno::Enospc);
    let fourth = append(4);
    while fault.failures() < 2 {
        std::thread::yield_now();
    }
    // The third small sync: there are zeros from now on.
    third.wait_synced().unwrap();
    fourth.wait_synced().unwrap();
    reader.rewind();
    drop(writer);
    assert_eq!(drain_ids(&mut reader), [1, 2, 3, 4]);
    let verified = VerifyOptions::default()
        .storage((Arc::new(fault) as Arc<dyn Storage>).clone())
        .verify(DIR);
    assert_eq!(verified.unwrap().events_lost, 0);
}
