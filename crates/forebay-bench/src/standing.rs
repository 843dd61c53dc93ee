//! Measures what standing buffers cost: memory with a backlog, many buffers at once, idle
//! buffers.
//!
//! Memory is measured in a process of its own ([`hold_backlog`]), so that no
//! other measurement's memory counts.

use super::failure::{Failure, Result};
use super::machine::{status_bytes, threads};
use super::measure::{Clock, Measured, cpu_time, median};
use super::payload::{Checker, stamp, template};
use super::scratch::Scratch;
use super::threads::{panicked, spawn};
use super::work::{append_all, config, read_batches, records};
use forebay::format::record;
use forebay::{Reader, SyncPolicy, Writer};
use serde::Serialize;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Buffers open at once.
pub(crate) const MANY: usize = 64;
/// Records appended to one of many buffers before it is the next one's turn.
const TURN: u64 = 256;
/// Bytes appended to each buffer before the clock starts: the memory of its batches is
/// new, and slow at first touch.
const WARM_BYTES: u64 = 4 << 20;
/// The memory of a buffer's batches, which the page cache cannot use.
const BATCHES_BYTES: u64 = 8 << 20;
/// How long idle buffers get to sync what there was and to go to sleep.
const SETTLE: Duration = Duration::from_millis(700);
/// How often a child process is checked.
const CHILD_INTERVAL: Duration = Duration::from_millis(20);

/// Appends records with these numbers to each of the buffers, some at a time, until
/// all are written.
fn append_in_turns(
    scratch: &Scratch,
    buffers: &[(Writer, Reader)],
    payload_len: usize,
    numbers: Range<u64>,
) -> Result<()> {
    let mut payload = template(payload_len);
    let mut last = Vec::new();
    for first in numbers.clone().step_by(TURN as usize) {
        scratch.check()?;
        last.clear();
        for (writer, _) in buffers {
            for number in first..numbers.end.min(first + TURN) {
                stamp(&mut payload, number);
                let receipt = writer.append(&payload)?;
                if number + 1 == numbers.end {
                    last.push(receipt);
                }
            }
        }
    }
    for receipt in &last {
        receipt.wait_written()?;
    }
    Ok(())
}

/// Measures one thread that appends to `count` buffers in turns, all buffers together.
///
/// # Errors
///
/// A buffer fails, something did not come back, or the stop is set.
pub(crate) fn in_turns(scratch: &Scratch, payload_len: usize, count: usize) -> Result<Measured> {
    let dir = scratch.fresh("in-turns")?;
    std::fs::create_dir_all(&dir)
        .map_err(|error| Failure::io(&format!("make {}", dir.display()), &error))?;
    let per_buffer = records(scratch, payload_len) / count as u64;
    let warmed = WARM_BYTES / record::frame_len(payload_len) as u64;
    let mut buffers = Vec::new();
    for n in 0..count {
        // Without syncs: otherwise the device would be measured, because 64 buffers write
        // more in an interval than it can sync, and one buffer writes less.
        let config = config(&dir.join(n.to_string()), scratch.size).sync(SyncPolicy::Never);
        buffers.push(config.open()?);
    }
    scratch.warm_more((WARM_BYTES + BATCHES_BYTES) * MANY as u64)?;
    append_in_turns(scratch, &buffers, payload_len, 0..warmed)?;
    let clock = Clock::start();
    append_in_turns(scratch, &buffers, payload_len, warmed..warmed + per_buffer)?;
    let measured = clock.measured(per_buffer * count as u64);
    for (writer, mut reader) in buffers {
        writer.close()?;
        let mut checker = Checker::new(payload_len);
        read_batches(scratch, &mut reader, &mut checker)?;
        checker.finish(warmed + per_buffer)?;
        reader.close()?;
    }
    scratch.remove(&dir)?;
    Ok(measured)
}

/// The cost of idle buffers.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Idle {
    /// Open buffers, each used once and then left idle.
    pub(crate) buffers: usize,
    /// Threads of all these buffers together.
    pub(crate) threads: Option<u64>,
    /// Processor time of all these buffers together, in µs per second.
    pub(crate) cpu_us_per_s: Option<f64>,
}

impl Idle {
    /// The median of each figure; `None` if there are no rounds.
    pub(crate) fn medians(rounds: &[Self]) -> Option<Self> {
        let threads = median(rounds.iter().filter_map(|idle| Some(idle.threads? as f64)));
        Some(Self {
            buffers: rounds.first()?.buffers,
            threads: threads.map(|threads| threads as u64),
            cpu_us_per_s: median(rounds.iter().filter_map(|idle| idle.cpu_us_per_s)),
        })
    }
}

/// Opens [`MANY`] buffers, uses each once, and measures them while they are idle.
///
/// # Errors
///
/// A buffer fails, or the stop is set.
pub(crate) fn idle(scratch: &Scratch) -> Result<Idle> {
    let dir = scratch.fresh("idle")?;
    std::fs::create_dir_all(&dir)
        .map_err(|error| Failure::io(&format!("make {}", dir.display()), &error))?;
    let threads_before = threads();
    let mut buffers = Vec::new();
    for n in 0..MANY {
        let (writer, mut reader) = config(&dir.join(n.to_string()), 0).open()?;
        writer.append(b"one")?;
        if let Some(forebay::Item::Record(delivery)) = reader.recv()? {
            delivery.ack();
        }
        buffers.push((writer, reader));
    }
    std::thread::sleep(SETTLE);
    let before = cpu_time();
    // One sleep: waking up to check the stop would take processor time as well.
    std::thread::sleep(scratch.time * 2);
    let used = before.and_then(|before| Some(cpu_time()? - before));
    scratch.check()?;
    let idle = Idle {
        buffers: MANY,
        threads: threads()
            .zip(threads_before)
            .map(|(now, before)| now.saturating_sub(before)),
        cpu_us_per_s: used.map(|used| used.as_secs_f64() * 1e6 / (scratch.time * 2).as_secs_f64()),
    };
    drop(buffers);
    scratch.remove(&dir)?;
    Ok(idle)
}

/// Measures the memory that a buffer takes in addition to its process, while a backlog is
/// written, and then read and written at once. `None` if the system does not tell it.
///
/// # Errors
///
/// The child process fails, or the stop is set.
pub(crate) fn memory(
    scratch: &Scratch,
    payload_len: usize,
    holder: Holder,
) -> Result<Option<Measured>> {
    let dir = scratch.fresh("buffer")?;
    let backlog = Backlog {
        dir: &dir,
        size: scratch.size,
        payload_len,
    };
    let mut child = holder(&backlog)
        .map_err(|error| Failure::io("find this program to run it again", &error))?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::io("run this program again", &error))?;
    let status = loop {
        let polled = child
            .try_wait()
            .map_err(|error| Failure::io("wait for a child process", &error))?;
        if let Some(status) = polled {
            break status;
        }
        if let Err(stopped) = scratch.check() {
            // The child may have been ended by the same signal.
            let _ = child.kill();
            let _ = child.wait();
            return Err(stopped);
        }
        std::thread::sleep(CHILD_INTERVAL);
    };
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout
            .read_to_string(&mut text)
            .map_err(|error| Failure::io("read from a child process", &error))?;
    }
    if !status.success() {
        return Err(Failure::new(format!(
            "the measurement of memory failed ({status})"
        )));
    }
    scratch.remove(&dir)?;
    Ok(text.trim().parse().ok().map(|bytes| Measured {
        memory_bytes: Some(bytes),
        records: records(scratch, payload_len),
        ..Measured::default()
    }))
}

/// What the process whose memory is measured does.
#[derive(Debug, Clone, Copy)]
pub struct Backlog<'a> {
    /// The buffer's directory.
    pub dir: &'a Path,
    /// Bytes to append.
    pub size: u64,
    /// The length of each payload.
    pub payload_len: usize,
}

/// Returns the command of a process that calls [`hold_backlog`], and prints what that
/// returns and nothing else.
pub type Holder = fn(&Backlog<'_>) -> io::Result<Command>;

/// The child's part: holds a backlog and returns the peak of memory in addition to what
/// the process had before it opened the buffer, if the system tells it.
///
/// # Errors
///
/// The buffer fails, or something did not come back.
pub fn hold_backlog(scratch: &Scratch, dir: &Path, len: usize) -> Result<Option<u64>> {
    let config = config(dir, scratch.size);
    let count = records(scratch, len);
    // First, so that the checker's memory does not count.
    let mut checker = Checker::new(len);
    reset_peak();
    let before = status_bytes("VmRSS");
    let (writer, reader) = config.clone().open()?;
    append_all(scratch, &writer, len, count)?;
    writer.close()?;
    reader.close()?;
    let (writer, mut reader) = config.open()?;
    let mut payload = template(len);
    std::thread::scope(|scope| {
        let producer = spawn(scope, move || -> Result<()> {
            for number in count..count + count / 2 {
                stamp(&mut payload, number);
                writer.append(&payload)?;
            }
            Ok(writer.close()?)
        })?;
        read_batches(scratch, &mut reader, &mut checker)?;
        producer.join().unwrap_or_else(|_| Err(panicked()))
    })?;
    checker.finish(count + count / 2)?;
    reader.close()?;
    Ok(status_bytes("VmHWM")
        .zip(before)
        .map(|(peak, before)| peak.saturating_sub(before)))
}

/// Resets the peak of memory, if the system can do that.
fn reset_peak() {
    // If this fails, the peak includes what the program needed to start: a larger figure,
    // not a smaller one.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
