//! Measures the time from append to delivery, at a rate that leaves the buffer mostly
//! idle; and the time of the same way from thread to thread without a buffer.
//!
//! Invariants: the reader waits in `recv`, and notes the time before anything else; the
//! producer sleeps between appends, and catches up when it slept too long, so that the
//! offered rate holds; a record's time begins directly before its append.

use super::failure::{Failure, Result};
use super::measure::{Clock, Measured, Quantiles, Times};
use super::payload::{Checker, stamp, template};
use super::scratch::Scratch;
use super::threads::{panicked, spawn};
use super::work::config;
use forebay::{Item, Writer};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Records offered per second.
pub(crate) const RATE: u64 = 10_000;
/// Where a payload holds the time of its append.
const TIME: std::ops::Range<usize> = 8..16;

/// Measures the latency at [`RATE`] records a second.
///
/// # Errors
///
/// The buffer fails, something did not come back, or the stop is set.
pub(crate) fn latency(scratch: &Scratch, payload_len: usize) -> Result<Measured> {
    let dir = scratch.fresh("buffer")?;
    let (writer, mut reader) = config(&dir, scratch.size).open()?;
    // Twice the time, so that there are enough records for p99.9.
    let count = (RATE as f64 * scratch.time.as_secs_f64() * 2.0) as u64;
    let base = Instant::now();
    let clock = Clock::start();
    let mut checker = Checker::new(payload_len);
    let template = template(payload_len);
    let (times, measured) = std::thread::scope(|scope| {
        let producer = spawn(scope, move || {
            produce(scratch, writer, payload_len, count, base)
        })?;
        let mut times = Times::new();
        while let Some(item) = reader.recv()? {
            let now = base.elapsed();
            let Item::Record(delivery) = item else {
                return Err(Failure::new("records were lost; the measurement is void"));
            };
            let mut payload = delivery.payload().to_vec();
            delivery.ack();
            let appended = payload.get(TIME).and_then(|time| time.try_into().ok());
            let appended = u64::from_le_bytes(appended.unwrap_or_default());
            times.note(now.saturating_sub(Duration::from_nanos(appended)));
            if let Some(time) = payload.get_mut(TIME) {
                time.copy_from_slice(&template[TIME]);
            }
            checker.check(&payload)?;
        }
        let measured = clock.measured(count);
        producer.join().unwrap_or_else(|_| Err(panicked()))?;
        Ok((times, measured))
    })?;
    checker.finish(count)?;
    reader.close()?;
    scratch.remove(&dir)?;
    Ok(Measured {
        quantiles: Some(times.quantiles()),
        ..measured
    })
}

fn produce(
    scratch: &Scratch,
    writer: Writer,
    payload_len: usize,
    count: u64,
    base: Instant,
) -> Result<()> {
    let mut payload = template(payload_len);
    at_rate(scratch, count, |number| {
        stamp(&mut payload, number);
        let now = u64::try_from(base.elapsed().as_nanos()).unwrap_or(u64::MAX);
        payload[TIME].copy_from_slice(&now.to_le_bytes());
        writer.append(&payload)?;
        Ok(())
    })?;
    Ok(writer.close()?)
}

/// Calls `offer` with the numbers below `count`, [`RATE`] times a second.
fn at_rate(scratch: &Scratch, count: u64, mut offer: impl FnMut(u64) -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    for number in 0..count {
        let due = begun + Duration::from_nanos(number * (1_000_000_000 / RATE));
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        if number.is_multiple_of(1_024) {
            scratch.check()?;
        }
        offer(number)?;
    }
    Ok(())
}

/// Measures what the machine needs for the way of a record without the record: [`RATE`]
/// times a second one thread wakes a second, and that one wakes a third.
///
/// # Errors
///
/// The stop is set.
pub(crate) fn hand_over(scratch: &Scratch) -> Result<Quantiles> {
    let count = (RATE as f64 * scratch.time.as_secs_f64()) as u64;
    let (first, first_end) = mpsc::channel::<Instant>();
    let (second, second_end) = mpsc::channel();
    let mut times = Times::new();
    std::thread::scope(|scope| {
        // The thread ends when the other end of a channel is gone.
        spawn(scope, move || {
            first_end.iter().all(|begun| second.send(begun).is_ok())
        })?;
        let producer = spawn(scope, move || {
            at_rate(scratch, count, |_| {
                let _ = first.send(Instant::now());
                Ok(())
            })
        })?;
        for begun in second_end {
            times.note(begun.elapsed());
        }
        producer.join().unwrap_or_else(|_| Err(panicked()))
    })?;
    Ok(times.quantiles())
}
