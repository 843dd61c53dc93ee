//! Full batches: they end at multiples of the batch size in the data file, and the
//! record that crosses such an end is written in two parts.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::storage::Storage;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{Config, Io, VerifyOptions, Writer};

use crate::faults::{DIR, after_power_cut, faulty, next, open};
use crate::limits::watched::Watched;
use crate::support::{check_law, drain_ids, payload, record, temp_dir};

const BATCH_SIZE: u64 = 4 << 10;
/// Of a frame of a record of 300 bytes.
const FRAME_LEN: u64 = 344;

fn config(dir: &Path) -> Config {
    Config::new(dir)
        .max_size(256 << 10)
        .data_file_size(32 << 10)
        .batch_size(BATCH_SIZE)
}

fn append(writer: &Writer, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        assert_eq!(writer.append(&payload(id, 300)).unwrap().id(), id);
    }
}

fn on_caller() -> Config {
    config(Path::new(DIR)).io(Io::Caller)
}

/// Nothing on disk is damaged.
fn verify(fault: &Fault) {
    let storage: Arc<dyn Storage> = Arc::new(fault.clone());
    let options = VerifyOptions::default();
    let verified = forebay::verify_with(&storage, DIR, &options, &mut |_, _| {}).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
}

#[test]
fn full_batches_are_written_where_the_last_one_ended() {
    let sim = Sim::new();
    let watched = Watched::new(&sim, Arc::new(sim.clone()));
    let (writer, mut reader) = forebay::open_with(on_caller(), Arc::new(watched.clone())).unwrap();
    // The ledger was made.
    let before = watched.seen().writes.len();
    let writes = || watched.seen().writes[before..].to_vec();
    append(&writer, 1..=80);
    let of_full = writes();
    let full = (0..).map(|n| (n * BATCH_SIZE, BATCH_SIZE));
    assert!(of_full.len() >= 3, "{of_full:?}");
    assert_eq!(of_full, full.take(of_full.len()).collect::<Vec<_>>());
    // The record that crosses the end was accepted, and is not to be read yet.
    let written = of_full.len() as u64 * BATCH_SIZE;
    let torn = written / FRAME_LEN + 1;
    assert_eq!(writer.usage().unread.events, 80);
    for id in 1..torn {
        assert_eq!(record(reader.next().unwrap()).id(), id);
    }
    writer.flush().unwrap();
    let rest = writes()[of_full.len()..].to_vec();
    assert_eq!(rest.first().unwrap().0, written);
    assert_eq!(
        rest.iter().map(|(_, len)| len).sum::<u64>() + written,
        80 * FRAME_LEN
    );
    assert_eq!(drain_ids(&mut reader), (torn..=80).collect::<Vec<_>>());
    check_law(&writer.usage());
}

#[test]
fn the_rest_of_a_record_is_written_soon_if_nothing_follows() {
    let dir = temp_dir();
    let config = config(dir.path()).flush_interval(Duration::from_secs(3600));
    let (writer, _reader) = crate::support::open(&config);
    let begun = Instant::now();
    for last in [12, 36, 50, 84] {
        let first = writer.usage().next_record_id;
        append(&writer, first..=last);
        let path = dir.path().join("buffer-data-0.dat");
        while std::fs::metadata(&path).unwrap().len() < last * FRAME_LEN {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "it is not written"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Everything that is written while full batches are, fails once, or for a while.
#[test]
fn whichever_write_fails_the_records_are_whole() {
    let last = 120;
    let faults = [
        (Op::Write, Errno::Eio),
        (Op::Write, Errno::Enospc),
        (Op::ShortWrite, Errno::Eio),
    ];
    for (op, errno) in faults {
        let mut nth = 0;
        loop {
            let (sim, fault) = faulty();
            let (writer, mut reader) = open(&fault, on_caller()).unwrap();
            nth += 1;
            fault.fail(op, next(&fault, op) - 1 + nth, errno);
            if op == Op::Write && errno == Errno::Enospc {
                // Half of it fits.
                fault.fail(
                    Op::ShortWrite,
                    next(&fault, Op::ShortWrite) - 2 + nth,
                    errno,
                );
            }
            append(&writer, 1..=last / 2);
            let read = record(reader.next().unwrap());
            append(&writer, last / 2 + 1..=last);
            writer.flush().unwrap();
            assert_eq!(
                after_power_cut(&sim),
                (1..=last).collect::<Vec<_>>(),
                "{op:?} {nth}"
            );
            assert_eq!(read.id(), 1);
            assert_eq!(drain_ids(&mut reader), (2..=last).collect::<Vec<_>>());
            assert_eq!(writer.usage().lost.events, 0);
            check_law(&writer.usage());
            drop((writer, reader));
            verify(&fault);
            if fault.failures() == 0 {
                break;
            }
        }
        assert!(nth > 10, "{op:?} failed {nth} times");
    }
}

/// Their full batches end at different places, so that their threads do not all have
/// to write at the same moment; what they hold is the same.
#[test]
fn buffers_that_are_open_together_come_full_at_different_places() {
    let last = 200;
    let mut buffers = Vec::new();
    for _ in 0..17 {
        let sim = Sim::new();
        let watched = Watched::new(&sim, Arc::new(sim.clone()));
        let storage: Arc<dyn Storage> = Arc::new(watched.clone());
        let (writer, reader) =
            forebay::open_with(config(Path::new(DIR)), Arc::clone(&storage)).unwrap();
        let made = watched.seen().writes.len();
        buffers.push((writer, reader, watched, storage, made));
    }
    for id in 1..=last {
        for (writer, ..) in &buffers {
            append(writer, id..=id);
        }
    }
    let mut ends = std::collections::BTreeSet::new();
    for (writer, mut reader, watched, storage, made) in buffers {
        writer.flush().unwrap();
        let (at, len) = watched.seen().writes[made];
        ends.insert(at + len);
        check_law(&writer.usage());
        writer.close().unwrap();
        assert_eq!(drain_ids(&mut reader), (1..=last).collect::<Vec<_>>());
        reader.close().unwrap();
        let options = VerifyOptions::default();
        let verified = forebay::verify_with(&storage, DIR, &options, &mut |_, _| {}).unwrap();
        assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    }
    assert!(ends.len() > 4, "{ends:?}");
}
