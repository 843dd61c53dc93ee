//! Micro-benchmarks of the format and of acknowledging: `just micro`.
//!
//! For comparing two versions of one function on one machine; `forebay bench` measures a buffer as
//! a whole.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use forebay::format::ledger::LedgerState;
use forebay::format::record::{Root, checksum, encode, frame_len};
use forebay::storage::sim::Sim;
use forebay::{Config, Delivery, Io, Reader, Writer};

const PAYLOADS: [usize; 5] = [64, 256, 1 << 10, 4 << 10, 64 << 10];
/// This many records are acknowledged per measurement.
const RECORDS: usize = 1_000;

fn main() {
    divan::main();
}

#[divan::bench(args = PAYLOADS)]
fn encode_record(bencher: Bencher<'_, '_>, len: usize) {
    let payload = vec![b'x'; len];
    let mut frame = vec![0; frame_len(len)];
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        encode(black_box(&mut frame), 7, 3, black_box(&payload));
    });
}

#[divan::bench(args = PAYLOADS)]
fn check_record(bencher: Bencher<'_, '_>, len: usize) {
    let payload = vec![b'x'; len];
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| checksum(black_box(7), 3, black_box(&payload)));
}

#[divan::bench]
fn decode_root(bencher: Bencher<'_, '_>) {
    let mut frame = vec![0; frame_len(64)];
    encode(&mut frame, 7, 3, &[0; 64]);
    let Some(root) = frame.last_chunk() else {
        return;
    };
    bencher.bench_local(|| Root::from_bytes(black_box(root)).agreed_len());
}

#[divan::bench]
fn decode_ledger(bencher: Bencher<'_, '_>) {
    let bytes = LedgerState::INITIAL.to_bytes();
    bencher.bench_local(|| LedgerState::from_bytes(black_box(&bytes)));
}

/// Deliveries that are not acknowledged, with the handles that keep their buffer open.
fn delivered() -> ((Writer, Reader), Vec<Delivery>) {
    let config = Config::new("/buffer").io(Io::Caller);
    let storage = Arc::new(Sim::new());
    let opened = config
        .storage(storage)
        .open()
        .and_then(|(writer, mut reader)| {
            writer.append_batch(&vec![[b'x'; 64]; RECORDS])?;
            let batch = reader.recv_batch(RECORDS, u64::MAX)?;
            let deliveries = batch
                .into_iter()
                .flat_map(|b| b.into_deliveries())
                .collect();
            Ok(((writer, reader), deliveries))
        });
    match opened {
        Ok(delivered) => delivered,
        Err(error) => panic!("the simulated storage does not fail: {error}"),
    }
}

fn acknowledge(bencher: Bencher<'_, '_>, order: impl Fn(usize) -> usize + Sync) {
    bencher
        .counter(ItemsCount::new(RECORDS))
        .with_inputs(|| {
            let (buffer, deliveries) = delivered();
            let mut slots: Vec<_> = deliveries.into_iter().map(Some).collect();
            let ordered: Vec<_> = (0..RECORDS)
                .filter_map(|i| slots[order(i)].take())
                .collect();
            (buffer, ordered)
        })
        .bench_local_values(|(buffer, deliveries)| {
            deliveries.into_iter().for_each(Delivery::ack);
            buffer
        });
}

#[divan::bench]
fn acknowledge_in_order(bencher: Bencher<'_, '_>) {
    acknowledge(bencher, |i| i);
}

#[divan::bench]
fn acknowledge_backwards(bencher: Bencher<'_, '_>) {
    acknowledge(bencher, |i| RECORDS - 1 - i);
}

/// Each acknowledgement is far from the one before, so that there are as many holes as possible.
#[divan::bench]
fn acknowledge_scattered(bencher: Bencher<'_, '_>) {
    const STEP: usize = 377;
    acknowledge(bencher, |i| i * STEP % RECORDS);
}
