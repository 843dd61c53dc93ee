//! Promise 4: acknowledge in any order.

use forebay::Config;

use crate::support::{Rng, drain_ids, open, payload, record, small, temp_dir};

#[test]
fn the_position_moves_over_the_contiguous_prefix_only() {
    let dir = temp_dir();
    let config = small(dir.path());
    let (writer, mut reader) = open(&config);
    for n in 1..=20 {
        writer.append(&payload(n, 100)).unwrap();
    }
    let mut held: Vec<_> = (1..=20).map(|_| record(reader.recv().unwrap())).collect();
    for id in [3, 1, 2, 5, 20] {
        let index = held.iter().position(|d| d.id() == id).unwrap();
        held.remove(index).ack();
    }
    assert_eq!(writer.usage().last_acknowledged_id, 3);
    assert_eq!(writer.usage().acknowledged.events, 5);
    drop(reader);
    writer.close().unwrap();
    let (_writer, mut reader) = open(&config);
    assert_eq!(drain_ids(&mut reader), (4..=20).collect::<Vec<_>>());
}

#[test]
fn acknowledgements_come_from_any_thread_in_any_order() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let dir = temp_dir();
    let config = small(dir.path()).max_size(1 << 20);
    let (writer, mut reader) = open(&config);
    for n in 1..=1000 {
        writer.append(&payload(n, 100)).unwrap();
    }
    let mut acks: Vec<_> = (1..=1000)
        .map(|_| record(reader.recv().unwrap()).split().1)
        .collect();
    let mut rng = Rng(seed);
    for i in (1..acks.len()).rev() {
        acks.swap(i, rng.below(i as u64 + 1) as usize);
    }
    std::thread::scope(|scope| {
        let mut acks = acks.into_iter().peekable();
        while acks.peek().is_some() {
            let share: Vec<_> = acks.by_ref().take(250).collect();
            scope.spawn(move || share.into_iter().for_each(forebay::Ack::ack));
        }
    });
    writer.flush().unwrap();
    assert_eq!(writer.usage().last_acknowledged_id, 1000);
    assert_eq!(crate::support::data_files(dir.path()).len(), 1);
}

#[test]
fn an_acknowledgement_that_was_synced_holds() {
    let dir = temp_dir();
    let (writer, mut reader) = open(&Config::new(dir.path()));
    writer.append(b"one").unwrap();
    writer.append(b"two").unwrap();
    record(reader.recv().unwrap()).ack();
    reader.sync_acks().unwrap();
    let ledger = std::fs::read(dir.path().join("buffer.db")).unwrap();
    let state = forebay::format::ledger::LedgerState::from_bytes(&ledger).unwrap();
    assert_eq!(state.reader_last_record_id, 1);
    assert_eq!(state.writer_next_record_id, 3);
}

/// Regression: the reader was rewound while deliveries were still held. Acknowledging them
/// deleted a whole data file, so the reader stood before the oldest byte in the buffer. Its
/// place in the next file was computed as negative (a panic, or noise read as records).
#[test]
fn a_rewind_among_acknowledgements_steps_over_deleted_files() {
    let dir = temp_dir();
    let config = small(dir.path()).io(forebay::Io::Caller);
    let (writer, reader) = open(&config);
    for n in 1..=21 {
        writer.append(&payload(n, 100)).unwrap();
    }
    drop(reader);
    writer.close().unwrap();
    // The buffer is opened again, so that nothing is read from memory.
    let (writer, mut reader) = open(&config);
    let held: Vec<_> = (0..10).map(|_| record(reader.recv().unwrap())).collect();
    reader.rewind();
    for delivery in held {
        delivery.ack();
    }
    writer.flush().unwrap();
    assert!(!dir.path().join("buffer-data-0.dat").exists());
    assert_eq!(drain_ids(&mut reader), (11..=21).collect::<Vec<_>>());
    assert_eq!(writer.usage().lost.events, 0);
}
