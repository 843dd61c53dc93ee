//! Measures throughput: records into the buffer, out of it, and both at once.
//!
//! Invariant: a clock covers only calls of the buffer's public API, and the numbering and
//! checking of payloads.

use super::failure::{Failure, Result};
use super::measure::{Clock, Measured, Quantiles};
use super::payload::{Checker, stamp, template};
use super::scratch::Scratch;
use super::stop::Stop;
use super::threads::{panicked, spawn};
use forebay::aio::{AsyncReader, AsyncWriter};
use forebay::format::record;
use forebay::{Config, Io, Item, Reader, Receipt, Writer};
use std::path::Path;
use std::time::Instant;

/// Records of a batch.
pub(crate) const BATCH_RECORDS: usize = 1_000;
/// Batches of long records are shorter, but hold at least this many records.
const BATCH_RECORDS_MIN: usize = 16;
/// Payload bytes of a batch.
const BATCH_BYTES: u64 = 1 << 20;
/// Records between two checks of the stop.
const STRIDE: u64 = 4_096;
/// Bytes of records that a reader that keeps up finds at a time: less than the buffer
/// holds in memory for it.
const RECENT_BYTES: u64 = 2 << 20;
/// How often opening is measured on one buffer.
const OPENINGS: usize = 5;
/// How many times larger the buffer's maximum size is than what is written, so that the
/// buffer is never full.
const MAX_SIZE_FACTOR: u64 = 4;

/// How many records of this payload length make up the bytes that a measurement writes.
pub(crate) fn records(scratch: &Scratch, payload_len: usize) -> u64 {
    (scratch.size / record::frame_len(payload_len) as u64).max(BATCH_RECORDS_MIN as u64)
}

/// The default configuration, but with a maximum size that is not reached.
pub(crate) fn config(dir: &Path, size: u64) -> Config {
    let max_size = size.saturating_mul(MAX_SIZE_FACTOR).max(1 << 30);
    Config::new(dir).max_size(max_size)
}

/// The number of records in a batch of records with this payload length.
pub(crate) fn batch_records(payload_len: usize) -> usize {
    (BATCH_BYTES as usize / payload_len).clamp(BATCH_RECORDS_MIN, BATCH_RECORDS)
}

/// The results of a [`cycle`]: filling a buffer, opening it with all unread, draining it.
pub(crate) struct Cycle {
    pub(crate) append: Measured,
    pub(crate) open: Vec<Measured>,
    pub(crate) read_ack: Measured,
}

/// How a buffer is used in a [`cycle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Records are appended one by one and read in batches.
    Single,
    /// Records are appended in batches and read one by one.
    Batched,
    /// Records are appended and read in batches, and the calling thread does the I/O.
    Alone,
}

/// Fills a buffer, opens it a few times, reads and acknowledges everything.
///
/// # Errors
///
/// The buffer fails, something did not come back, or the stop is set.
pub(crate) fn cycle(scratch: &Scratch, payload_len: usize, life: Life) -> Result<Cycle> {
    scratch.warm()?;
    let dir = scratch.fresh("buffer")?;
    let io = match life {
        Life::Single | Life::Batched => Io::Thread,
        Life::Alone => Io::Caller,
    };
    let config = config(&dir, scratch.size).io(io);
    let count = records(scratch, payload_len);
    let (writer, reader) = config.clone().open()?;
    let append = match life {
        Life::Single => append_all(scratch, &writer, payload_len, count)?,
        Life::Batched | Life::Alone => append_batches(scratch, &writer, payload_len, count)?,
    };
    writer.close()?;
    reader.close()?;
    let mut open = Vec::new();
    for _ in 0..OPENINGS {
        let begun = Instant::now();
        let handles = config.clone().open()?;
        open.push(Measured {
            quantiles: Some(Quantiles::of_one(begun.elapsed())),
            seconds: begun.elapsed().as_secs_f64(),
            ..Measured::default()
        });
        drop(handles);
    }
    let (writer, mut reader) = config.open()?;
    // Without a writer the reader reports the end when the buffer is empty.
    writer.close()?;
    let mut checker = Checker::new(payload_len);
    let clock = Clock::start();
    match life {
        Life::Batched => read_single(scratch, &mut reader, &mut checker)?,
        Life::Single | Life::Alone => read_batches(scratch, &mut reader, &mut checker)?,
    }
    let read_ack = clock.measured(count);
    checker.finish(count)?;
    reader.close()?;
    scratch.remove(&dir)?;
    Ok(Cycle {
        append,
        open,
        read_ack,
    })
}

/// Measures appending one by one, until all is written, and until all is synced.
pub(crate) fn append_all(
    scratch: &Scratch,
    writer: &Writer,
    payload_len: usize,
    count: u64,
) -> Result<Measured> {
    let mut payload = template(payload_len);
    let clock = Clock::start();
    let mut last = None;
    for first in (0..count).step_by(STRIDE as usize) {
        scratch.check()?;
        for number in first..count.min(first + STRIDE) {
            stamp(&mut payload, number);
            last = Some(writer.append(&payload)?);
        }
    }
    measured_until_synced(&clock, writer, last, count)
}

/// Waits until `count` records are written, the last of which is `last`, and then until
/// they are synced; returns both times.
fn measured_until_synced(
    clock: &Clock,
    writer: &Writer,
    last: Option<Receipt<'_>>,
    count: u64,
) -> Result<Measured> {
    if let Some(last) = last {
        last.wait_written()?;
    }
    let mut measured = clock.measured(count);
    writer.flush()?;
    measured.synced_seconds = Some(clock.seconds());
    Ok(measured)
}

fn append_batches(
    scratch: &Scratch,
    writer: &Writer,
    payload_len: usize,
    count: u64,
) -> Result<Measured> {
    let mut payloads = vec![template(payload_len); batch_records(payload_len)];
    let clock = Clock::start();
    let mut last = None;
    let mut number = 0;
    while number < count {
        scratch.check()?;
        let len = payloads.len().min((count - number) as usize);
        for payload in &mut payloads[..len] {
            stamp(payload, number);
            number += 1;
        }
        last = Some(writer.append_batch(&payloads[..len])?.receipt());
    }
    measured_until_synced(&clock, writer, last, count)
}

/// Reads and acknowledges in batches until the end.
pub(crate) fn read_batches(
    scratch: &Scratch,
    reader: &mut Reader,
    checker: &mut Checker,
) -> Result<()> {
    while let Some(batch) = reader.recv_batch(BATCH_RECORDS, BATCH_BYTES)? {
        scratch.check()?;
        if let Some(lost) = batch.lost().first() {
            return Err(Failure::new(lost.to_string()));
        }
        for record in batch.records() {
            checker.check(record.payload)?;
        }
        batch.ack();
    }
    Ok(())
}

fn read_single(scratch: &Scratch, reader: &mut Reader, checker: &mut Checker) -> Result<()> {
    let mut count = 0_u64;
    while let Some(item) = reader.recv()? {
        check_item(item, checker)?;
        count += 1;
        if count.is_multiple_of(STRIDE) {
            scratch.check()?;
        }
    }
    Ok(())
}

/// Checks a record and acknowledges it.
#[inline]
fn check_item(item: Item, checker: &mut Checker) -> Result<()> {
    match item {
        Item::Record(delivery) => {
            checker.check(delivery.payload())?;
            delivery.ack();
            Ok(())
        }
        Item::Lost(lost) => Err(Failure::new(lost.to_string())),
    }
}

/// Measures reading and acknowledging what was written a moment ago: the clock is stopped
/// while more is appended.
///
/// # Errors
///
/// As [`cycle`].
pub(crate) fn recent(scratch: &Scratch, payload_len: usize) -> Result<Measured> {
    scratch.warm()?;
    let dir = scratch.fresh("buffer")?;
    let (writer, mut reader) = config(&dir, scratch.size).open()?;
    let count = records(scratch, payload_len);
    let at_a_time = (RECENT_BYTES / record::frame_len(payload_len) as u64).max(1);
    let mut payload = template(payload_len);
    let mut checker = Checker::new(payload_len);
    let (mut seconds, mut cpu_seconds) = (0.0, 0.0);
    for first in (0..count).step_by(at_a_time as usize) {
        scratch.check()?;
        let end = count.min(first + at_a_time);
        let mut last = None;
        for number in first..end {
            stamp(&mut payload, number);
            last = Some(writer.append(&payload)?);
        }
        if let Some(last) = last {
            last.wait_written()?;
        }
        let clock = Clock::start();
        let mut left = (end - first) as usize;
        while left > 0
            && let Some(batch) = reader.recv_batch(BATCH_RECORDS.min(left), BATCH_BYTES)?
        {
            for record in batch.records() {
                checker.check(record.payload)?;
            }
            left -= batch.len();
            batch.ack();
        }
        let measured = clock.measured(end - first);
        seconds += measured.seconds;
        cpu_seconds += measured.cpu_seconds.unwrap_or_default();
    }
    checker.finish(count)?;
    drop((writer, reader));
    scratch.remove(&dir)?;
    Ok(Measured {
        records: count,
        seconds,
        cpu_seconds: Some(cpu_seconds).filter(|cpu| *cpu > 0.0),
        ..Measured::default()
    })
}

/// Measures one thread that appends while another reads and acknowledges.
///
/// # Errors
///
/// As [`cycle`].
pub(crate) fn concurrent(scratch: &Scratch, payload_len: usize) -> Result<Measured> {
    scratch.warm()?;
    let dir = scratch.fresh("buffer")?;
    let (writer, mut reader) = config(&dir, scratch.size).open()?;
    let count = records(scratch, payload_len);
    let mut checker = Checker::new(payload_len);
    let clock = Clock::start();
    let measured = std::thread::scope(|scope| {
        let producer = spawn(scope, move || -> Result<()> {
            let mut payload = template(payload_len);
            for first in (0..count).step_by(STRIDE as usize) {
                scratch.check()?;
                for number in first..count.min(first + STRIDE) {
                    stamp(&mut payload, number);
                    writer.append(&payload)?;
                }
            }
            Ok(writer.close()?)
        })?;
        let read = read_batches(scratch, &mut reader, &mut checker);
        let measured = clock.measured(count);
        producer.join().unwrap_or_else(|_| Err(panicked()))?;
        read.map(|()| measured)
    })?;
    checker.finish(count)?;
    reader.close()?;
    scratch.remove(&dir)?;
    Ok(measured)
}

/// A runtime with two workers.
///
/// # Errors
///
/// The operating system has no threads left.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .map_err(|error| Failure::io("start the tokio runtime", &error))
}

/// Like [`concurrent`], but with two tokio tasks, record by record.
///
/// # Errors
///
/// As [`cycle`].
pub(crate) fn concurrent_tokio(scratch: &Scratch, payload_len: usize) -> Result<Measured> {
    scratch.warm()?;
    let dir = scratch.fresh("buffer")?;
    let config = config(&dir, scratch.size);
    let count = records(scratch, payload_len);
    let stop = scratch.stop.clone();
    let runtime = runtime()?;
    let measured = runtime.block_on(async move {
        let (writer, reader) = config.open_async().await?;
        let clock = Clock::start();
        let producer = tokio::spawn(produce(writer, payload_len, count, stop));
        let consumer = tokio::spawn(consume(reader, payload_len));
        let (reader, checker) = consumer.await.map_err(|_| panicked())??;
        let measured = clock.measured(count);
        producer.await.map_err(|_| panicked())??;
        checker.finish(count)?;
        reader.close().await?;
        Ok::<_, Failure>(measured)
    })?;
    // Closing runs on the runtime's threads.
    drop(runtime);
    scratch.remove(&dir)?;
    Ok(measured)
}

async fn produce(writer: AsyncWriter, payload_len: usize, count: u64, stop: Stop) -> Result<()> {
    let mut payload = template(payload_len);
    for number in 0..count {
        if number.is_multiple_of(STRIDE) && stop.is_set() {
            break;
        }
        stamp(&mut payload, number);
        writer.append(&payload).await?;
    }
    Ok(writer.close().await?)
}

async fn consume(mut reader: AsyncReader, payload_len: usize) -> Result<(AsyncReader, Checker)> {
    let mut checker = Checker::new(payload_len);
    while let Some(item) = reader.recv().await? {
        check_item(item, &mut checker)?;
    }
    Ok((reader, checker))
}
