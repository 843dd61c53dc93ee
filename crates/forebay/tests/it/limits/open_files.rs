//! The space of deleted data files that something still has open.
#![cfg(target_os = "linux")]

use std::path::Path;

use forebay::{Config, WhenFull};

use crate::support::{data_files, open, payload, record, temp_dir};

/// The deleted files of a directory that this process has open.
fn deleted_and_open(dir: &Path) -> Vec<String> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = links.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let names = links.map(|link| link.to_string_lossy().into_owned());
    let in_dir = |name: &String| name.starts_with(&*dir.to_string_lossy());
    names
        .filter(|name| in_dir(name) && name.ends_with("(deleted)"))
        .collect()
}

/// Regression: an idle reader kept its last data file open. When the file was deleted, its space
/// stayed taken until the reader was used again: 5 MiB at a maximum of 4 MiB.
#[test]
fn a_reader_that_rests_holds_no_deleted_file() {
    for by_batch in [false, true] {
        let dir = temp_dir();
        let config = Config::new(dir.path())
            .max_size(4 << 20)
            .data_file_size(1 << 20)
            .when_full(WhenFull::Reject);
        let (writer, reader) = open(&config);
        while writer.append(&payload(1, 1000)).is_ok() {}
        drop(reader);
        writer.close().unwrap();

        let (writer, mut reader) = open(&config);
        let first = data_files(dir.path())[0].clone();
        // Reads all records of the first file and no more; then the reader is idle.
        let count = std::fs::metadata(dir.path().join(&first)).unwrap().len() / 1040;
        if by_batch {
            let batch = reader.recv_batch(count as usize, u64::MAX).unwrap();
            let batch = batch.unwrap();
            assert_eq!(batch.len() as u64, count);
            batch.ack();
        } else {
            for _ in 0..count {
                record(reader.recv().unwrap()).ack();
            }
        }
        writer.flush().unwrap();
        while data_files(dir.path())[0] == first {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(deleted_and_open(dir.path()), [""; 0]);
    }
}

/// The same for a file that is the newest one when the reader comes to its end.
#[test]
fn a_reader_at_the_end_holds_no_deleted_file() {
    let dir = temp_dir();
    let config = Config::new(dir.path()).max_size(4096).data_file_size(256);
    let (writer, reader) = open(&config);
    writer.append(&payload(1, 100)).unwrap();
    drop(reader);
    writer.close().unwrap();

    let (writer, mut reader) = open(&config);
    let first = data_files(dir.path())[0].clone();
    record(reader.recv().unwrap()).ack();
    for n in 0..3 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.flush().unwrap();
    while data_files(dir.path())[0] == first {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(deleted_and_open(dir.path()), [""; 0]);
}
