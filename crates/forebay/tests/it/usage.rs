//! Promise 6: nothing is double-counted.

use forebay::{Count, WhenFull};

pub(crate) use crate::support::check_law;
use crate::support::{Rng, open, payload, record, small, temp_dir};

#[test]
fn the_conservation_law_holds_at_every_step() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut rng = Rng(seed);
    let dir = temp_dir();
    let config = small(dir.path())
        .max_size(8192)
        .when_full(WhenFull::DropNewest);
    for _ in 0..5 {
        let (writer, mut reader) = open(&config);
        let mut held = Vec::new();
        for _ in 0..400 {
            match rng.below(10) {
                0..=3 => drop(
                    writer
                        .append(&payload(rng.next(), rng.below(150) as usize))
                        .unwrap(),
                ),
                4..=6 => held.extend(crate::support::drain(&mut reader)),
                7 if !held.is_empty() => {
                    let index = rng.below(held.len() as u64) as usize;
                    record(Some(held.swap_remove(index))).ack();
                }
                8 => held.drain(..).for_each(|item| record(Some(item)).ack()),
                9 if rng.below(5) == 0 => {
                    held.clear();
                    reader.rewind();
                }
                _ => {}
            }
            check_law(&writer.usage());
        }
        assert!(writer.usage().dropped.events > 0 || rng.0 > 0);
    }
}

#[test]
fn a_snapshot_tells_what_happened() {
    let dir = temp_dir();
    let (writer, mut reader) = open(
        &small(dir.path())
            .max_size(4096)
            .when_full(WhenFull::DropNewest),
    );
    for n in 1..=40 {
        let receipt = writer.append(&payload(n, 100)).unwrap();
        assert_eq!(receipt.accepted(), n <= 28);
        receipt.wait_synced().unwrap();
    }
    let usage = writer.usage();
    assert_eq!(
        usage.received,
        Count {
            events: 40,
            bytes: 40 * 144
        }
    );
    assert_eq!(
        usage.dropped,
        Count {
            events: 12,
            bytes: 12 * 144
        }
    );
    assert_eq!(
        usage.unread,
        Count {
            events: 28,
            bytes: 28 * 144
        }
    );
    assert_eq!(usage.disk_bytes, 28 * 144);
    assert_eq!(usage.max_bytes, 4096);
    assert!(usage.oldest_unread_age.is_some());
    assert!(usage.syncs >= 28 && usage.writes >= 28);
    for _ in 0..10 {
        record(reader.recv().unwrap()).ack();
    }
    record(reader.recv().unwrap());
    let usage = writer.usage();
    assert_eq!(
        usage.acknowledged,
        Count {
            events: 10,
            bytes: 10 * 144
        }
    );
    assert_eq!(
        usage.delivered,
        Count {
            events: 11,
            bytes: 11 * 144
        }
    );
    assert_eq!(usage.last_acknowledged_id, 10);
    assert_eq!(usage.next_record_id, 29);
}

/// Regression: a record that a batch has no room for is put back. If a redundant field of it was
/// damaged, it was counted as mended again when it came with the next batch, and after every
/// rewind.
#[test]
fn a_mended_record_counts_once() {
    let sim = forebay::storage::sim::Sim::new();
    let config = forebay::Config::new("/buffer")
        .max_size(16 << 20)
        .io(forebay::Io::Caller);
    let open = || {
        config
            .clone()
            .storage(std::sync::Arc::new(sim.clone()))
            .open()
            .unwrap()
    };
    let (writer, reader) = open();
    for n in 1..=3 {
        writer.append(&payload(n, 100)).unwrap();
    }
    drop(reader);
    writer.close().unwrap();
    // Damages the pointer of the second record; frames have 144 bytes.
    let path = "/buffer/buffer-data-0.dat";
    let mut bytes = sim.read_file(path).unwrap();
    bytes[144 + 8 + 104 + 20] ^= 8;
    sim.write_file(path, &bytes).unwrap();

    let (writer, mut reader) = open();
    assert_eq!(reader.recv_batch(10, 150).unwrap().unwrap().len(), 1);
    assert_eq!(reader.recv_batch(10, 1000).unwrap().unwrap().len(), 2);
    assert_eq!(writer.usage().mended_records, 1);
    reader.rewind();
    assert_eq!(reader.recv_batch(10, 1000).unwrap().unwrap().len(), 3);
    assert_eq!(writer.usage().mended_records, 1);
}
