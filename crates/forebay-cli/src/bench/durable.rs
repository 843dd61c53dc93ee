//! Durable appends: each returns when its record is synced.
//!
//! Invariant: producers append one record at a time, the next when the one
//! before is synced, as a source does that acknowledges upstream; each appends
//! one at least.

use super::measure::{Clock, Measured, Times};
use super::payload::{number, stamp, template};
use super::scratch::Scratch;
use super::work::{config, panicked, runtime};
use crate::failure::{Failure, Result};
use forebay::tokio::AsyncWriter;
use forebay::{Reader, SyncPolicy, Writer};
use std::time::Instant;

/// From so many producers on they are tasks instead of threads.
const TASKS_FROM: u32 = 64;
/// A payload's number is the producer's, shifted by this, and a count.
const PRODUCER_SHIFT: u32 = 40;

/// Durable appends by so many producers, each waiting for its own.
///
/// # Errors
///
/// The buffer fails, something did not come back, or the stop is set.
pub(crate) fn append_synced(
    scratch: &Scratch,
    payload_len: usize,
    producers: u32,
) -> Result<Measured> {
    let dir = scratch.fresh("buffer")?;
    let config = config(&dir, scratch.size).sync(SyncPolicy::EveryBatch);
    let (writer, reader) = forebay::open(config)?;
    let clock = Clock::start();
    let end = Instant::now() + scratch.time;
    let times = match producers < TASKS_FROM {
        true => by_threads(&writer, payload_len, producers, end)?,
        false => by_tasks(&writer, payload_len, producers, end)?,
    };
    let mut measured = clock.measured(times.count());
    measured.quantiles = Some(times.quantiles());
    writer.close()?;
    check(reader, payload_len, producers, times.count())?;
    scratch.remove(&dir)?;
    Ok(measured)
}

fn by_threads(writer: &Writer, payload_len: usize, producers: u32, end: Instant) -> Result<Times> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|producer| scope.spawn(move || produce(writer, payload_len, producer, end)))
            .collect();
        let mut all = Times::new();
        for thread in threads {
            all.merge(&thread.join().unwrap_or_else(|_| Err(panicked()))?);
        }
        Ok(all)
    })
}

fn produce(writer: &Writer, payload_len: usize, producer: u32, end: Instant) -> Result<Times> {
    let mut payload = template(payload_len);
    let mut times = Times::new();
    let mut begun = Instant::now();
    loop {
        stamp(&mut payload, numbered(producer, times.count()));
        writer.append(&payload)?;
        let now = Instant::now();
        times.note(now - begun);
        if now >= end {
            return Ok(times);
        }
        begun = now;
    }
}

fn by_tasks(writer: &Writer, payload_len: usize, producers: u32, end: Instant) -> Result<Times> {
    let runtime = runtime()?;
    let times = runtime.block_on(async {
        let tasks: Vec<_> = (0..producers)
            .map(|producer| {
                let writer = AsyncWriter::new(writer.clone());
                tokio::spawn(produce_async(writer, payload_len, producer, end))
            })
            .collect();
        let mut all = Times::new();
        for task in tasks {
            all.merge(&task.await.map_err(|_| panicked())??);
        }
        Ok::<_, Failure>(all)
    })?;
    // The writers of the tasks are closed on the runtime's threads.
    drop(runtime);
    Ok(times)
}

async fn produce_async(
    writer: AsyncWriter,
    payload_len: usize,
    producer: u32,
    end: Instant,
) -> Result<Times> {
    let mut payload = template(payload_len);
    let mut times = Times::new();
    let mut begun = Instant::now();
    loop {
        stamp(&mut payload, numbered(producer, times.count()));
        writer.append(&payload).await?;
        let now = Instant::now();
        times.note(now - begun);
        if now >= end {
            return Ok(times);
        }
        begun = now;
    }
}

fn numbered(producer: u32, count: u64) -> u64 {
    u64::from(producer) << PRODUCER_SHIFT | count
}

/// Every producer's records have to be there, in its order.
fn check(mut reader: Reader, payload_len: usize, producers: u32, count: u64) -> Result<()> {
    let template = template(payload_len);
    let mut next = vec![0; producers as usize];
    while let Some(batch) = reader.next_batch(1_000, 1 << 20)? {
        for record in batch.iter() {
            let number = number(record.payload).unwrap_or(u64::MAX);
            let expected = next
                .get_mut((number >> PRODUCER_SHIFT) as usize)
                .filter(|next| **next == number & ((1 << PRODUCER_SHIFT) - 1))
                .filter(|_| record.payload[8..] == template[8..]);
            match expected {
                Some(next) => *next += 1,
                None => {
                    return Err(Failure::new(format!(
                        "record {} did not come back as it was appended; the measurement is void",
                        record.id
                    )));
                }
            }
        }
        batch.ack();
    }
    reader.close()?;
    let came_back: u64 = next.iter().sum();
    match came_back == count {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{count} records were synced and {came_back} came back; the measurement is void"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::Stop;
    use std::time::Duration;

    #[test]
    fn what_producers_and_tasks_appended_comes_back() {
        let parent = tempfile::tempdir().unwrap();
        let stop = Stop::on_signals().unwrap();
        let scratch =
            Scratch::new(parent.path(), 1 << 20, Duration::from_millis(20), stop).unwrap();
        for producers in [1, 3, 100] {
            let measured = append_synced(&scratch, 64, producers).unwrap();
            assert!(measured.records >= u64::from(producers), "{measured:?}");
        }
    }
}
