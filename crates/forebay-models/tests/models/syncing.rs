//! Receipts and flushes: every wait ends, and never too early.

use forebay::storage::fault::{Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{SyncPolicy, Writer};
use shuttle::thread;

use crate::busy::Busy;
use crate::check::check;
use crate::support::{config, holds, open, payload, record};

/// Runs a closure in three threads, each with a writer and a number of its own.
fn three(writer: Writer, work: impl Fn(&Writer, u8) + Clone + Send + 'static) {
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let (writer, work) = (writer.clone(), work.clone());
            thread::spawn(move || work(&writer, n))
        })
        .collect();
    drop(writer);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_written_receipt_is_true() {
    check("a_written_receipt_is_true", || {
        let sim = Sim::new();
        let (writer, _reader) = open(&sim, config().sync(SyncPolicy::Never));
        three(writer, move |writer, n| {
            let payload = payload(n, 0);
            writer.append(&payload).unwrap().wait_written().unwrap();
            assert!(holds(&sim.kill(), &payload));
        });
    });
}

#[test]
fn a_synced_receipt_is_true() {
    check("a_synced_receipt_is_true", || {
        let sim = Sim::new();
        let (writer, _reader) = open(&sim, config().sync(SyncPolicy::Never));
        three(writer, move |writer, n| {
            let payload = payload(n, 0);
            writer.append(&payload).unwrap().wait_synced().unwrap();
            assert!(holds(&sim.crash(0), &payload));
        });
    });
}

#[test]
fn appends_that_sync_each_batch_share_syncs() {
    check("appends_that_sync_each_batch_share_syncs", || {
        let sim = Sim::new();
        let fault = Fault::new(std::sync::Arc::new(sim.clone()));
        let config = config().sync(SyncPolicy::Always);
        let (writer, reader) = config
            .storage(std::sync::Arc::new(Busy(fault.clone())))
            .open()
            .unwrap();
        let before = fault.counts()[&Op::Sync];
        three(writer, move |writer, n| {
            let payload = vec![n; 100];
            writer.append(&payload).unwrap();
            assert!(holds(&sim.crash(0), &payload));
        });
        // Closing may have something of its own to sync.
        let syncs = fault.counts()[&Op::Sync] - before;
        assert!((1..=3).contains(&syncs), "{syncs} syncs for three appends");
        drop(reader);
    });
}

#[test]
fn a_flush_makes_records_and_acknowledgements_durable() {
    check("a_flush_makes_records_and_acknowledgements_durable", || {
        let sim = Sim::new();
        let (writer, mut reader) = open(&sim, config().sync(SyncPolicy::Never));
        writer.append(&payload(0, 0)).unwrap();
        let other = writer.clone();
        let appending = thread::spawn(move || {
            let payload = payload(1, 0);
            other.append(&payload).unwrap();
            other.flush().unwrap();
            payload
        });
        record(reader.recv().unwrap()).ack();
        writer.flush().unwrap();
        // The word of the ledger with the acknowledged id.
        let ledger = sim.crash(0).read_file("/buffer/buffer.db").unwrap();
        assert!(ledger[16] >= 1, "{ledger:?}");
        let payload = appending.join().unwrap();
        assert!(holds(&sim.crash(0), &payload));
        reader.sync_acks().unwrap();
    });
}
