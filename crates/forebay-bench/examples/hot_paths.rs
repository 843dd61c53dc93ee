//! The hot paths alone, for profilers and for counting instructions.
//!
//! ```text
//! cargo run --release -p forebay-bench --example hot_paths -- WORK PAYLOAD_BYTES RECORDS [DIR]
//! ```
//!
//! `WORK` is `append`, `append_batch`, `read_ack`, `read_ack_single`, `concurrent` (one thread
//! appends, another reads), or `append_synced` (by 16 threads, or as many as `FOREBAY_PRODUCERS`
//! says). The reading works fill the buffer first, so subtract a profile of `append` from theirs.
//! No thread is started (`Io::Caller`), so that the instructions of a run depend on its arguments
//! alone. With `FOREBAY_IO=thread`, and for `concurrent` and `append_synced`, the buffer has its
//! own thread as usual.

use std::error::Error;
use std::path::PathBuf;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use forebay::{Config, Io, Item, Reader, SyncPolicy, Writer};

/// Records that are appended or read at a time.
const BATCH: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [work, payload_len, records, dir @ ..] = &args[..] else {
        return Err("give WORK PAYLOAD_BYTES RECORDS [DIR]".into());
    };
    let payload = vec![b'x'; payload_len.parse()?];
    let records: usize = records.parse()?;
    let scratch = tempfile::tempdir()?;
    let dir = dir
        .first()
        .map_or(scratch.path().join("buffer"), PathBuf::from);
    let io = match std::env::var("FOREBAY_IO").as_deref() {
        Ok("thread") => Io::Thread,
        _ if work == "concurrent" || work == "append_synced" => Io::Thread,
        _ => Io::Caller,
    };
    let sync = match work.as_str() {
        "append_synced" => SyncPolicy::Always,
        _ => SyncPolicy::Never,
    };
    let config = Config::new(dir).max_size(64 << 30).sync(sync).io(io);
    let (writer, mut reader) = config.open()?;
    let begun = Instant::now();
    match work.as_str() {
        "append" | "read_ack" | "read_ack_single" => append(&writer, &payload, records)?,
        "append_batch" => append_batches(&writer, &payload, records)?,
        "append_synced" => {
            let producers: usize =
                std::env::var("FOREBAY_PRODUCERS").map_or(Ok(16), |n| n.parse())?;
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..producers)
                    .map(|_| scope.spawn(|| append(&writer, &payload, records / producers)))
                    .collect();
                threads.into_iter().try_for_each(join)
            })?;
        }
        "concurrent" => {
            let read = std::thread::scope(|scope| -> forebay::Result<usize> {
                let reading = scope.spawn(|| read_batches(&mut reader));
                append(&writer, &payload, records)?;
                writer.close()?;
                join(reading)
            })?;
            assert_eq!(read, records, "all records come back");
            say(work, records, begun);
            return Ok(());
        }
        _ => return Err(format!("there is no work {work:?}").into()),
    }
    let usage = writer.usage();
    println!(
        "{} writes, {} syncs in {:?}",
        usage.writes, usage.syncs, usage.sync_time
    );
    writer.close()?;
    if work.starts_with("read") {
        let filled = Instant::now();
        let read = match work.as_str() {
            "read_ack" => read_batches(&mut reader)?,
            _ => read_single(&mut reader)?,
        };
        assert_eq!(read, records, "all records come back");
        say(work, records, filled);
    } else {
        say(work, records, begun);
    }
    Ok(())
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn say(work: &str, records: usize, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    let (nanos, rate) = (seconds * 1e9 / records as f64, records as f64 / seconds);
    println!("{work}: {records} records, {nanos:.1} ns each, {rate:.0}/s");
}

fn append(writer: &Writer, payload: &[u8], records: usize) -> forebay::Result<()> {
    for _ in 0..records {
        writer.append(payload)?;
    }
    Ok(())
}

fn append_batches(writer: &Writer, payload: &[u8], records: usize) -> forebay::Result<()> {
    let batch = vec![payload; BATCH];
    let mut left = records;
    while left > 0 {
        let len = left.min(BATCH);
        writer.append_batch(&batch[..len])?;
        left -= len;
    }
    Ok(())
}

fn read_batches(reader: &mut Reader) -> forebay::Result<usize> {
    let mut count = 0;
    while let Some(batch) = reader.recv_batch(BATCH, u64::MAX)? {
        count += batch.len();
        for record in batch.records() {
            std::hint::black_box(record.payload);
        }
        batch.ack();
    }
    Ok(count)
}

fn read_single(reader: &mut Reader) -> forebay::Result<usize> {
    let mut count = 0;
    while let Some(item) = reader.recv()? {
        if let Item::Record(delivery) = item {
            std::hint::black_box(delivery.payload());
            delivery.ack();
            count += 1;
        }
    }
    Ok(count)
}
