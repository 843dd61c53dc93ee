//! Promises 7, 8 and 11: how much disk and memory a buffer takes, and what opening costs.
//!
//! Nothing here is timed: the cost of opening is counted in reads.

mod memory;
mod open_files;
pub(crate) mod watched;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay::storage::Storage;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{
    Config, Delivery, ErrorKind, Io, Item, Reader, TryRecv, VerifyOptions, WhenFull, Writer,
};

use crate::support::{Rng, drain_ids, payload, record, small, temp_dir};
use crate::usage::check_law;
use watched::Watched;

const DIR: &str = "/buffer";

fn open(config: Config, storage: &Watched) -> (Writer, Reader) {
    config.storage(Arc::new(storage.clone())).open().unwrap()
}

/// The bytes that the files of the directory occupy.
fn disk_bytes(sim: &Sim) -> u64 {
    sim.files(DIR).iter().map(|(_, len)| len).sum()
}

#[test]
fn disk_use_never_exceeds_the_maximum_size() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut rng = Rng(seed);
    for (max_size, data_file_size) in [(4 << 10, 256), (4 << 10, 2032), (32 << 10, 1 << 10)] {
        let sim = Sim::new();
        let storage = Watched::new(&sim, Arc::new(sim.clone()));
        let config = Config::new(DIR)
            .max_size(max_size)
            .data_file_size(data_file_size)
            .batch_size(4 << 10);
        let (longest, total) = (data_file_size - 48, 2000);
        let lens: Vec<usize> = (0..total).map(|_| rng.below(longest) as usize).collect();
        let (writer, mut reader) = open(config.clone(), &storage);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (n, len) in lens.iter().enumerate() {
                    writer.append(&payload(n as u64, *len)).unwrap();
                }
            });
            let mut held = Vec::new();
            for id in 1..=total {
                let delivery = record(reader.recv().unwrap());
                assert_eq!(delivery.id(), id);
                held.push(delivery);
                // Acknowledged late, so that the buffer is full most of the time, but early
                // enough for the writer to go on.
                let full = held.len() as u64 * (longest + 48) > max_size / 2;
                if full || id == total {
                    held.drain(..).for_each(Delivery::ack);
                }
            }
        });
        let seen = storage.seen();
        assert!(seen.bytes_max <= max_size, "{} on disk", seen.bytes_max);
        // The buffer filled up to over a quarter of its limit, so that the test shows something.
        assert!(seen.bytes_max > max_size / 4, "{} on disk", seen.bytes_max);
        drop(reader);
        writer.close().unwrap();
        assert!(disk_bytes(&sim) <= max_size);
    }
}

/// If nothing is read, a buffer fills up to its limit, to the byte, and stops there.
#[test]
fn a_buffer_fills_up_to_its_maximum_size() {
    let sim = Sim::new();
    let storage = Watched::new(&sim, Arc::new(sim.clone()));
    // The ledger counts 32 bytes, a record of 104 bytes 144: 28 fit.
    let max_size = 32 + 28 * 144 + 64;
    let config = Config::new(DIR)
        .max_size(max_size)
        .data_file_size(1 << 10)
        .when_full(WhenFull::Reject);
    let (writer, _reader) = open(config, &storage);
    for n in 1..=28 {
        writer.append(&payload(n, 104)).unwrap();
    }
    let error = writer.append(&payload(29, 104)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    // A smaller record still fits and is accepted.
    writer.append(&payload(29, 24)).unwrap();
    writer.flush().unwrap();
    assert_eq!(storage.seen().bytes_max, max_size);
}

#[test]
fn a_failed_sync_takes_no_more_than_the_maximum_size() {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    let storage = Watched::new(&sim, Arc::new(fault.clone()));
    let max_size = 4096;
    let config = Config::new(DIR)
        .max_size(max_size)
        .data_file_size(1 << 10)
        .when_full(WhenFull::Reject)
        .io(Io::Caller);
    let (writer, mut reader) = open(config, &storage);
    for n in 1..=24 {
        writer.append(&payload(n, 104)).unwrap();
    }
    writer.flush().unwrap();
    let mut unsynced = 0;
    while let Ok(receipt) = writer.append(&payload(unsynced, 104)) {
        receipt.wait_written().unwrap();
        unsynced += 1;
    }
    assert_eq!(unsynced, 4);
    fault.fail(Op::Sync, fault.counts()[&Op::Sync] + 1, Errno::Eio);
    writer.flush().unwrap();
    assert_eq!(writer.usage().failed_files, 1);
    assert!(storage.seen().bytes_max <= max_size);
    assert_eq!(drain_ids(&mut reader), (1..=28).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_is_a_full_buffer_and_resumes() {
    // Three ways to free space: another program deletes something, the floor is no longer
    // reached, the consumer acknowledges a data file.
    for freed_by in ["another program", "the floor", "the consumer"] {
        let (floor, capacity) = match freed_by {
            "the floor" => (1 << 20, (1 << 20) + 4096),
            _ => (0, 4096),
        };
        let free = |sim: &Sim| sim.set_capacity(Some(capacity + (64 << 10)));
        let config = || small(Path::new(DIR)).min_free_space(floor);
        let sim = Sim::new();
        let storage = Watched::new(&sim, Arc::new(sim.clone()));
        sim.set_capacity(Some(capacity));

        // Policies that refuse at once, and after a time limit.
        let patience = Duration::from_millis(1);
        for policy in [WhenFull::Reject, WhenFull::BlockFor(patience)] {
            let (writer, mut reader) = open(config().when_full(policy), &storage);
            let error = loop {
                match writer.append(&payload(0, 104)) {
                    Ok(receipt) => drop(receipt.wait_synced_timeout(patience)),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{freed_by}: {error}");
            assert!(disk_bytes(&sim) <= 4096, "{freed_by}");
            // Readers go on meanwhile, and the space that they free is used again.
            loop {
                while let Ok(TryRecv::Ready(item)) = reader.recv_timeout(patience) {
                    record(Some(item)).ack();
                }
                let Err(error) = writer.append(b"x") else {
                    break;
                };
                // What was accepted before is written first.
                let is_full = matches!(error.kind(), ErrorKind::Full | ErrorKind::DiskFull);
                assert!(is_full, "{freed_by}: {error}");
            }
            writer.flush().unwrap();
            check_law(&writer.usage());
            drain_and_acknowledge(&mut reader);
        }

        // The policy that drops records and counts them.
        let (writer, mut reader) = open(config().when_full(WhenFull::DropNewest), &storage);
        while writer.append(&payload(0, 104)).unwrap().accepted() {
            std::thread::yield_now();
        }
        assert!(writer.usage().dropped.events > 0, "{freed_by}");
        check_law(&writer.usage());
        drain_and_acknowledge(&mut reader);
        drop(reader);
        writer.close().unwrap();

        // The policy that waits until there is space.
        let (writer, mut reader) = open(config(), &storage);
        let total = 100;
        let first = writer.usage().next_record_id;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..total {
                    writer.append(&payload(n, 104)).unwrap();
                }
                writer.flush().unwrap();
            });
            let mut held = Vec::new();
            if freed_by != "the consumer" {
                // Nothing is acknowledged until most of the space is taken.
                while disk_bytes(&sim) < 3 << 10 {
                    std::thread::yield_now();
                }
                free(&sim);
            }
            for id in first..first + total {
                let delivery = record(reader.recv().unwrap());
                assert_eq!(delivery.id(), id, "{freed_by}");
                match freed_by {
                    "the consumer" => delivery.ack(),
                    _ => held.push(delivery),
                }
            }
        });
        check_law(&writer.usage());
    }
}

/// Regression: the file being written is not deleted before it is full. A disk that was full of
/// this file stayed full for ever, with everything in it acknowledged.
#[test]
fn a_disk_that_is_full_of_acknowledged_records_gets_space_again() {
    for floor in [0, 1 << 20] {
        let sim = Sim::new();
        sim.set_capacity(Some(floor + 4096));
        let storage = Watched::new(&sim, Arc::new(sim.clone()));
        let config = Config::new(DIR)
            .min_free_space(floor)
            .when_full(WhenFull::Reject)
            .io(Io::Caller);
        let (writer, mut reader) = open(config, &storage);
        // One batch, of which the disk takes 28 records and a part of the next.
        for n in 1..=100 {
            writer.append(&payload(n, 104)).unwrap();
        }
        for id in 1..=100 {
            let delivery = record(reader.recv().unwrap());
            assert_eq!((delivery.id(), delivery.payload().len()), (id, 104));
            delivery.ack();
        }
        writer.flush().unwrap();
        check_law(&writer.usage());
        assert!(storage.seen().bytes_max <= 4096, "{:?}", storage.seen());
        drop(reader);
        writer.close().unwrap();
        let sim: Arc<dyn Storage> = Arc::new(sim);
        let found = VerifyOptions::default().storage(sim.clone()).verify(DIR);
        assert!(found.unwrap().findings.is_empty());
    }
}

/// Acknowledges records until none is unread.
fn drain_and_acknowledge(reader: &mut Reader) {
    while reader.usage().unread.events > 0 {
        if let TryRecv::Ready(item) = reader.recv_timeout(Duration::from_millis(1)).unwrap() {
            record(Some(item)).ack();
        }
    }
}

#[test]
fn opening_reads_only_the_boundary_files() {
    let mut boundary = Vec::new();
    for files in [4, 40, 400] {
        let sim = Sim::new();
        let storage = Watched::new(&sim, Arc::new(sim.clone()));
        let config = Config::new(DIR)
            .max_size(64 << 20)
            .data_file_size(64 << 10)
            .io(Io::Caller);
        let (writer, mut reader) = open(config.clone(), &storage);
        // 31 records a file.
        for n in 0..files * 31 - 10 {
            writer.append(&payload(n, 2048)).unwrap();
        }
        writer.flush().unwrap();
        for _ in 0..10 {
            record(reader.recv().unwrap()).ack();
        }
        drop(reader);
        writer.close().unwrap();
        assert_eq!(sim.files(DIR).len() as u64, files + 2);

        // A closed buffer, and a killed one with records that the ledger does not count yet.
        for killed in [false, true] {
            let sim = sim.kill();
            if killed {
                let path = Path::new(DIR).join("buffer.db");
                let mut ledger = sim.read_file(&path).unwrap();
                let next = u64::from_le_bytes(ledger[..8].try_into().unwrap());
                ledger[..8].copy_from_slice(&(next - 5).to_le_bytes());
                sim.write_file(&path, &ledger).unwrap();
            }
            let storage = Watched::new(&sim, Arc::new(sim.clone()));
            let (writer, _reader) = open(config.clone(), &storage);
            assert_eq!(writer.usage().unread.events, files * 31 - 20);
            let seen = storage.seen();
            // The oldest file, and the two newest: older versions moved records after a failed
            // sync, so the newest file may repeat records of which the one before holds more.
            let boundary_names = [0, files - 2, files - 1].map(|n| format!("buffer-data-{n}.dat"));
            let mut cost = (0, 0);
            for (name, (calls, bytes)) in &seen.reads {
                let name = name.to_string_lossy();
                if boundary_names.contains(&name.to_string()) || name == "buffer.db" {
                    cost = (cost.0 + calls, cost.1 + bytes);
                } else {
                    assert!(
                        (*calls, *bytes) <= (1, 4096),
                        "{files} files: {name} was read {calls} times, {bytes} bytes"
                    );
                }
            }
            boundary.push((killed, cost));
        }
    }
    // The cost is the same for every backlog.
    for (killed, cost) in &boundary {
        let same = boundary.iter().find(|(other, _)| other == killed);
        assert_eq!(Some(cost), same.map(|(_, cost)| cost), "{boundary:?}");
    }
}

/// Regression: the last frames of a file were read one by one, with two calls each, until they
/// came to more than a page. If nothing was acknowledged, the file was searched for the
/// acknowledged position.
#[test]
fn opening_a_closed_buffer_of_small_records_takes_few_reads() {
    for acknowledged in [0, 1, 500, 1000] {
        let sim = Sim::new();
        let storage = Watched::new(&sim, Arc::new(sim.clone()));
        let config = Config::new(DIR).max_size(64 << 20).io(Io::Caller);
        let (writer, mut reader) = open(config.clone(), &storage);
        for n in 0..1000 {
            writer.append(&payload(n, 8)).unwrap();
        }
        writer.flush().unwrap();
        for _ in 0..acknowledged {
            record(reader.recv().unwrap()).ack();
        }
        drop(reader);
        writer.close().unwrap();
        let storage = Watched::new(&sim, Arc::new(sim.clone()));
        let (writer, _reader) = open(config, &storage);
        assert_eq!(writer.usage().unread.events, 1000 - acknowledged);
        let calls: u64 = storage.seen().reads.values().map(|(calls, _)| calls).sum();
        assert!(calls <= 16, "{acknowledged} acknowledged: {calls} reads");
    }
}

/// Tells a second process of this test program how many bytes to hold. Set it to see the peak
/// with any backlog.
const BACKLOG: &str = "FOREBAY_TEST_BACKLOG_BYTES";

#[test]
fn memory_does_not_grow_with_the_backlog() {
    if let Ok(bytes) = std::env::var(BACKLOG) {
        return hold_backlog(bytes.parse().unwrap());
    }
    if peak_bytes().is_none() {
        eprintln!("SKIPPED: this system does not tell how much memory a process has used");
        return;
    }
    let peak = |backlog: u64| -> u64 {
        let name = "limits::memory_does_not_grow_with_the_backlog";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(BACKLOG, backlog.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let peak = text.split("peak ").nth(1).and_then(|s| s.split(' ').next());
        let peak = peak.unwrap_or_else(|| panic!("{output:?}"));
        peak.parse().unwrap()
    };
    let (small, large) = (peak(1 << 20), peak(96 << 20));
    // The allocator's noise is far below this bound. A byte kept for each of the 1.4 million
    // more records would be above it.
    assert!(
        large < small + (1 << 20),
        "{small} bytes with a backlog of 1 MiB, {large} with one of 96 MiB"
    );
}

/// Writes a backlog, opens the buffer with it, and reads it while more is written. Prints the
/// peak of the process's memory.
fn hold_backlog(bytes: u64) {
    let dir = temp_dir();
    let max_size = (2 * bytes).max(256 << 20);
    let config = Config::new(dir.path())
        .max_size(max_size)
        .data_file_size(max_size / 1024)
        .batch_size(64 << 10);
    let count = bytes / 72;
    let (writer, reader) = crate::support::open(&config);
    for _ in 0..count {
        writer.append(&[7; 32]).unwrap();
    }
    drop(reader);
    writer.close().unwrap();
    let (writer, mut reader) = crate::support::open(&config);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..10_000 {
                writer.append(&[8; 32]).unwrap();
            }
        });
        let mut read = 0;
        while let Some(Item::Record(delivery)) = reader.recv().unwrap() {
            read += 1;
            delivery.ack();
        }
        assert_eq!(read, count + 10_000);
    });
    println!("peak {} bytes", peak_bytes().unwrap());
}

/// The peak memory of this process; `None` if the system does not tell.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}
