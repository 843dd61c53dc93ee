//! Full batches, of several pages and many records each.

use std::path::Path;
use std::sync::Arc;

use forebay::storage::Storage;
use forebay::storage::fault::{Errno, Fault, Op};
use forebay::{Config, Io, VerifyOptions, Writer};

use crate::faults::{DIR, after_power_cut, faulty, next, open};
use crate::support::{check_law, drain_ids, payload, record};

const BATCH_SIZE: u64 = 4 << 10;

fn on_caller() -> Config {
    Config::new(Path::new(DIR))
        .max_size(256 << 10)
        .data_file_size(32 << 10)
        .batch_size(BATCH_SIZE)
        .io(Io::Caller)
}

fn append(writer: &Writer, ids: std::ops::RangeInclusive<u64>) {
    for id in ids {
        assert_eq!(writer.append(&payload(id, 300)).unwrap().id(), Some(id));
    }
}

/// Checks that nothing on disk is damaged.
fn verify(fault: &Fault) {
    let storage: Arc<dyn Storage> = Arc::new(fault.clone());
    let options = VerifyOptions::default();
    let verified = options.storage(storage.clone()).verify(DIR).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
}

/// Each write fails once, in a run of its own, while full batches are written.
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
                // The write before is cut short, as if half of it fitted.
                fault.fail(
                    Op::ShortWrite,
                    next(&fault, Op::ShortWrite) - 2 + nth,
                    errno,
                );
            }
            append(&writer, 1..=last / 2);
            let read = record(reader.recv().unwrap());
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
