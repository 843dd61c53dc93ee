//! Measures durable appends: each returns when its record is synced.
//!
//! Invariant: a producer appends one record at a time, the next when the one before is
//! synced, like a source that acknowledges upstream; each appends at least one.

use super::failure::{Failure, Result};
use super::measure::{Clock, Measured, Times};
use super::payload::{Checker, numbered, stamp, template};
use super::scratch::Scratch;
use super::threads::{panicked, spawn};
use super::work::{config, read_batches, runtime};
use forebay::aio::AsyncWriter;
use forebay::{Reader, SyncPolicy, Writer};
use std::time::Instant;

/// From this many producers on, producers are tasks instead of threads.
const TASKS_FROM: u32 = 64;

/// Measures durable appends by `producers` producers, each waiting for its own.
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
    let config = config(&dir, scratch.size).sync(SyncPolicy::Always);
    let (writer, reader) = config.open()?;
    let clock = Clock::start();
    let end = Instant::now() + scratch.time;
    let times = match producers < TASKS_FROM {
        true => by_threads(&writer, payload_len, producers, end)?,
        false => by_tasks(&writer, payload_len, producers, end)?,
    };
    let mut measured = clock.measured(times.count());
    measured.quantiles = Some(times.quantiles());
    writer.close()?;
    check(scratch, reader, payload_len, producers, times.count())?;
    scratch.remove(&dir)?;
    Ok(measured)
}

fn by_threads(writer: &Writer, payload_len: usize, producers: u32, end: Instant) -> Result<Times> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|producer| spawn(scope, move || produce(writer, payload_len, producer, end)))
            .collect();
        let mut all = Times::new();
        for thread in threads {
            all.merge(&thread?.join().unwrap_or_else(|_| Err(panicked()))?);
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

/// Checks that the records of every producer are there, in its order.
fn check(
    scratch: &Scratch,
    mut reader: Reader,
    payload_len: usize,
    producers: u32,
    count: u64,
) -> Result<()> {
    let mut checker = Checker::thorough(payload_len, producers, 1);
    read_batches(scratch, &mut reader, &mut checker)?;
    checker.finish(count)?;
    Ok(reader.close()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::Stop;
    use std::time::Duration;

    #[test]
    fn what_producers_and_tasks_appended_comes_back() {
        let parent = tempfile::tempdir().unwrap();
        let stop = Stop::never();
        let scratch =
            Scratch::new(parent.path(), 1 << 20, Duration::from_millis(20), stop).unwrap();
        for producers in [1, 3, 100] {
            let measured = append_synced(&scratch, 64, producers).unwrap();
            assert!(measured.records >= u64::from(producers), "{measured:?}");
        }
    }
}
