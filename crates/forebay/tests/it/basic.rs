//! Write, read, close, open again.

use forebay::{Config, ErrorKind, EventCounter, Io, Item, ReaderSees, SyncPolicy, TryRecv};

use crate::support::{data_files, drain_ids, open, payload, record, small, temp_dir};

#[test]
fn records_arrive_in_order_with_ids_metadata_and_payload() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&Config::new(dir.path()));
    assert_eq!(writer.append(b"one").unwrap().id(), Some(1));
    assert_eq!(writer.append_with(7, b"two").unwrap().id(), Some(2));
    assert_eq!(writer.append(b"").unwrap().id(), Some(3));
    for (id, metadata, bytes) in [(1, 0, &b"one"[..]), (2, 7, b"two"), (3, 0, b"")] {
        let delivery = record(reader.recv().unwrap());
        assert_eq!(
            (delivery.id(), delivery.metadata(), delivery.events()),
            (id, metadata, 1)
        );
        assert_eq!(delivery.payload(), bytes);
        delivery.ack();
    }
    assert!(matches!(reader.try_recv().unwrap(), TryRecv::Empty));
    drop(writer);
    assert!(reader.recv().unwrap().is_none());
}

#[test]
fn a_new_buffer_looks_like_one_of_the_format() {
    let dir = temp_dir();
    let (writer, reader) = open(&Config::new(dir.path().join("a/b")));
    drop(reader);
    writer.close().unwrap();
    let read = |name: &str| std::fs::read(dir.path().join("a/b").join(name)).unwrap();
    assert_eq!(read("buffer.lock"), b"");
    assert_eq!(read("buffer-data-0.dat"), b"");
    assert_eq!(
        read("buffer.db"),
        forebay::format::ledger::LedgerState::INITIAL.to_bytes()
    );
    #[cfg(unix)]
    for (name, mode) in [
        ("buffer.lock", 0o644),
        ("buffer.db", 0o640),
        ("buffer-data-0.dat", 0o640),
    ] {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(dir.path().join("a/b").join(name)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn what_is_not_acknowledged_comes_again_after_reopening() {
    let dir = temp_dir();
    let config = small(dir.path());
    let (writer, mut reader) = open(&config);
    for n in 1..=30 {
        writer.append(&payload(n, 100)).unwrap();
    }
    for _ in 0..10 {
        record(reader.recv().unwrap()).ack();
    }
    let _eleventh = record(reader.recv().unwrap());
    drop(reader);
    writer.close().unwrap();
    let (writer, mut reader) = open(&config);
    assert_eq!(writer.usage().unread.events, 20);
    assert_eq!(writer.usage().unread.bytes, 20 * 144);
    for n in 11..=30 {
        let delivery = record(reader.recv().unwrap());
        assert_eq!(
            (delivery.id(), &delivery.payload()[..]),
            (n, &payload(n, 100)[..])
        );
        delivery.ack();
    }
    assert_eq!(writer.append(b"next").unwrap().id(), Some(31));
}

#[test]
fn data_files_are_rolled_before_they_exceed_their_size_and_deleted_when_acknowledged() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()));
    for n in 1..=40 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.flush().unwrap();
    let files: Vec<_> = (0..6).map(|id| format!("buffer-data-{id}.dat")).collect();
    assert_eq!(data_files(dir.path()), files);
    for name in &files[..5] {
        assert_eq!(
            std::fs::metadata(dir.path().join(name)).unwrap().len(),
            1008
        );
    }
    for _ in 0..17 {
        record(reader.recv().unwrap()).ack();
    }
    writer.flush().unwrap();
    assert_eq!(data_files(dir.path()), files[2..]);
}

#[test]
fn long_data_files_are_deleted_as_well() {
    // The space of a long file is freed on another thread; the close waits for it.
    let dir = temp_dir();
    let config = Config::new(dir.path())
        .max_size(128 << 20)
        .data_file_size(20 << 20);
    let (writer, mut reader) = open(&config);
    let payload = vec![7; 1 << 20];
    for _ in 0..70 {
        writer.append(&payload).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(data_files(dir.path()).len(), 4);
    writer.close().unwrap();
    let mut records = 0;
    while let Some(batch) = reader.recv_batch(16, u64::MAX).unwrap() {
        records += batch.len();
        batch.ack();
    }
    assert_eq!(records, 70);
    reader.close().unwrap();
    assert_eq!(data_files(dir.path()).len(), 1);
}

#[test]
fn an_exact_fit_stays_in_the_file() {
    let dir = temp_dir();
    let (writer, _reader) = open(&Config::new(dir.path()).max_size(4096).data_file_size(288));
    for n in 1..=5 {
        writer.append(&payload(n, 104)).unwrap();
    }
    writer.flush().unwrap();
    let len = |id| {
        std::fs::metadata(dir.path().join(format!("buffer-data-{id}.dat")))
            .unwrap()
            .len()
    };
    assert_eq!([len(0), len(1), len(2)], [288, 288, 144]);
}

#[test]
fn rewind_delivers_what_is_not_acknowledged_again_and_only_that() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()));
    for n in 1..=20 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.flush().unwrap();
    let mut held = Vec::new();
    for _ in 1..=12 {
        let delivery = record(reader.recv().unwrap());
        match delivery.id() {
            1..=3 | 6 | 7 => delivery.ack(),
            _ => held.push(delivery),
        }
    }
    reader.rewind();
    assert_eq!(
        drain_ids(&mut reader),
        [4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
    );
    for delivery in held {
        delivery.ack();
    }
    reader.rewind();
    assert_eq!(drain_ids(&mut reader), [13, 14, 15, 16, 17, 18, 19, 20]);
}

#[test]
fn batches_carry_the_same_records() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&small(dir.path()));
    let payloads: Vec<_> = (1..=50).map(|n| payload(n, n as usize)).collect();
    assert_eq!(
        writer.append_batch(&payloads).unwrap().receipt().id(),
        Some(50)
    );
    writer.flush().unwrap();
    let mut next = 1;
    while next <= 50 {
        let batch = reader.recv_batch(7, 200).unwrap().unwrap();
        assert!(batch.len() <= 7);
        assert!(batch.payload_bytes() <= 200 || batch.len() == 1);
        for record in batch.records() {
            assert_eq!(record.id, next);
            assert_eq!(record.payload, payload(next, next as usize));
            next += 1;
        }
        batch.ack();
    }
    assert_eq!(writer.usage().unread.events, 0);
    writer.append_batch_with(&[(5, b"a"), (6, b"b")]).unwrap();
    let batch = reader.recv_batch(10, 10).unwrap().unwrap();
    let deliveries: Vec<_> = batch.into_deliveries().collect();
    assert_eq!(
        deliveries.iter().map(|d| d.metadata()).collect::<Vec<_>>(),
        [5, 6]
    );
}

#[test]
fn a_batch_holds_no_more_records_than_asked_for_wherever_a_chunk_ends() {
    // The records of each call are written separately, so the first chunk in memory ends where
    // a batch is full, and the later ones end within a batch.
    let dir = temp_dir();
    let (writer, mut reader) = open(&Config::new(dir.path()));
    assert!(matches!(reader.try_recv().unwrap(), TryRecv::Empty));
    for records in [3, 4, 3] {
        let appended = writer.append_batch(&vec![[0; 20]; records]).unwrap();
        appended.receipt().wait_written().unwrap();
    }
    drop(writer);
    let mut lens = Vec::new();
    while let Some(batch) = reader.recv_batch(3, u64::MAX).unwrap() {
        lens.push(batch.len());
        batch.ack();
    }
    assert_eq!(lens, [3, 3, 3, 1]);
}

#[test]
fn an_empty_batch_changes_nothing() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&Config::new(dir.path()));
    writer.append_batch::<&[u8]>(&[]).unwrap();
    assert!(matches!(reader.try_recv().unwrap(), TryRecv::Empty));
    assert_eq!(writer.usage().received.events, 0);
}

#[test]
fn ids_step_by_the_event_counter() {
    let dir = temp_dir();
    let counter =
        EventCounter::new(|_, payload| payload.iter().filter(|b| **b == b';').count() as u64);
    let config = Config::new(dir.path()).event_counter(counter);
    let (writer, mut reader) = open(&config);
    assert_eq!(writer.append(b"a;b;c;").unwrap().id(), Some(1));
    assert_eq!(writer.append(b"d;").unwrap().id(), Some(4));
    let error = writer.append(b"none").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    assert_eq!(writer.append(b"e;f;").unwrap().id(), Some(5));
    let first = record(reader.recv().unwrap());
    assert_eq!((first.id(), first.events()), (1, 3));
    first.ack();
    drop((writer, reader));
    let (writer, mut reader) = open(&config);
    assert_eq!(writer.usage().unread.events, 3);
    assert_eq!(drain_ids(&mut reader), [4, 5]);
    assert_eq!(writer.append(b"g;").unwrap().id(), Some(7));
}

#[test]
fn an_oversize_record_is_refused_and_the_buffer_goes_on() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&Config::new(dir.path()).max_record_size(100));
    writer.append(&[1; 100]).unwrap();
    let error = writer.append(&[1; 101]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    assert_eq!(
        error.to_string(),
        "the record has 101 bytes; max_record_size is 100 bytes"
    );
    let error = writer.append_batch(&[&[1; 10][..], &[1; 101]]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    writer.append(&[2; 100]).unwrap();
    writer.flush().unwrap();
    assert_eq!(drain_ids(&mut reader), [1, 2]);
}

#[test]
fn a_record_larger_than_a_batch_goes_through() {
    let dir = temp_dir();
    let config = Config::new(dir.path()).max_size(64 << 20).batch_size(4096);
    let (writer, mut reader) = open(&config);
    let large = payload(1, 3_000_001);
    writer.append(&large).unwrap();
    writer.append(b"small").unwrap();
    assert_eq!(record(reader.recv().unwrap()).payload(), &large);
    assert_eq!(&record(reader.recv().unwrap()).payload()[..], b"small");
    drop((writer, reader));
    let (_writer, mut reader) = open(&config);
    assert_eq!(record(reader.recv().unwrap()).payload(), &large);
    assert_eq!(&record(reader.recv().unwrap()).payload()[..], b"small");
}

#[test]
fn a_buffer_larger_than_its_new_limit_drains_and_goes_on() {
    let dir = temp_dir();
    let (writer, reader) = open(
        &Config::new(dir.path())
            .max_size(1 << 20)
            .data_file_size(100 << 10),
    );
    let payloads: Vec<_> = (1..=3000).map(|n| payload(n, 100)).collect();
    writer.append_batch(&payloads).unwrap();
    drop(reader);
    writer.close().unwrap();
    let smaller = small(dir.path()).when_full(forebay::WhenFull::Reject);
    let (writer, mut reader) = open(&smaller);
    assert_eq!(writer.append(b"x").unwrap_err().kind(), ErrorKind::Full);
    for n in 1..=3000 {
        let delivery = record(reader.recv().unwrap());
        assert_eq!(
            (delivery.id(), &delivery.payload()[..]),
            (n, &payload(n, 100)[..])
        );
        delivery.ack();
    }
    writer.flush().unwrap();
    assert_eq!(writer.append(b"x").unwrap().id(), Some(3001));
    assert_eq!(record(reader.recv().unwrap()).id(), 3001);
}

#[test]
fn a_reader_of_synced_records_sees_them_after_the_sync() {
    let dir = temp_dir();
    let config = small(dir.path())
        .reader_sees(ReaderSees::Synced)
        .io(Io::Caller);
    let (writer, mut reader) = open(&config);
    writer.append(b"one").unwrap().wait_written().unwrap();
    assert!(matches!(reader.try_recv().unwrap(), TryRecv::Empty));
    writer.flush().unwrap();
    assert_eq!(drain_ids(&mut reader), [1]);
    writer.append(b"two").unwrap();
    drop(writer);
    assert_eq!(record(reader.recv().unwrap()).id(), 2);
    assert!(reader.recv().unwrap().is_none());
}

#[test]
fn every_sync_policy_delivers_and_closes_durably() {
    for sync in [SyncPolicy::Interval, SyncPolicy::Always, SyncPolicy::Never] {
        let dir = temp_dir();
        let config = small(dir.path()).sync(sync);
        let (writer, mut reader) = open(&config);
        for n in 1..=20 {
            writer.append(&payload(n, 100)).unwrap();
        }
        if sync == SyncPolicy::Always {
            assert!(writer.usage().syncs >= 20);
        }
        for _ in 1..=20 {
            record(reader.recv().unwrap()).ack();
        }
        drop(reader);
        writer.close().unwrap();
        let (_writer, mut reader) = open(&config);
        assert!(drain_ids(&mut reader).is_empty());
    }
}

#[test]
fn one_process_at_a_time_opens_a_buffer() {
    let dir = temp_dir();
    let config = Config::new(dir.path());
    let (writer, reader) = open(&config);
    let error = config.clone().open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("buffer.lock"), "{error}");
    drop(reader);
    assert_eq!(config.clone().open().unwrap_err().kind(), ErrorKind::Locked);
    writer.close().unwrap();
    config.open().unwrap();
}

#[test]
fn what_is_no_buffer_is_not_opened() {
    let dir = temp_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = Config::new(&file).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotABuffer, "{error}");
    // A directory that holds something else.
    let error = Config::new(dir.path()).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotABuffer, "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn acknowledgements_after_the_close_change_nothing() {
    let dir = temp_dir();
    let config = Config::new(dir.path());
    let (writer, mut reader) = open(&config);
    writer.append(b"one").unwrap();
    let late = record(reader.recv().unwrap());
    drop((writer, reader));
    let (_writer, mut reader) = open(&config);
    late.ack();
    assert_eq!(reader.usage().unread.events, 1);
    assert!(matches!(reader.recv().unwrap(), Some(Item::Record(_))));
}

/// Regression: the reader took the length that a data file had when it began to read it as the
/// maximum length of a record. A longer record appended later counted as damage and was lost.
#[test]
fn a_record_longer_than_its_file_was_is_delivered() {
    let dir = temp_dir();
    let config = Config::new(dir.path())
        .max_size(1 << 20)
        .data_file_size(64 << 10)
        .batch_size(4 << 10)
        .io(forebay::Io::Caller);
    let (writer, reader) = open(&config);
    writer.append(b"short").unwrap();
    drop(reader);
    writer.close().unwrap();
    let (writer, mut reader) = open(&config);
    assert_eq!(record(reader.recv().unwrap()).payload()[..], b"short"[..]);
    // Longer than what is kept in memory for a reader that keeps up.
    let long = payload(2, 30_000);
    writer.append(&long).unwrap();
    assert_eq!(record(reader.recv().unwrap()).payload()[..], long[..]);
}
