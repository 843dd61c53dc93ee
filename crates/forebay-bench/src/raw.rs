//! Measures the limits of the machine: how fast files, memory, checksums and threads are
//! without a buffer.
//!
//! Invariant: the same bytes, block sizes and totals as in the buffer's measurements,
//! through the same system calls, one after another.

use super::failure::{Failure, Result};
use super::latency::hand_over;
use super::measure::median;
use super::payload::{stamp, template};
use super::scratch::Scratch;
use forebay::format::record;
use serde::Serialize;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// The largest block of the buffer's reads and writes.
const LARGE: usize = 1 << 20;
const SMALL: usize = 256 << 10;
/// Bytes that are appended before each sync.
const SYNCED_LEN: usize = 4 << 10;
/// The length at which the buffer at the latest begins another data file and syncs the
/// old one.
const DATA_FILE_LEN: u64 = 128 << 20;
/// Bytes of one copy, more than a cache holds.
const COPY_LEN: usize = 64 << 20;
/// Bytes that copies through memory are spread over.
const COPIES_LEN: usize = 128 << 20;

/// The results of one round, or the medians of several.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Raw {
    /// `write(2)` of 1 MiB blocks into the page cache.
    pub(crate) write_1m_bytes_per_s: f64,
    /// The same with blocks of 256 KiB.
    pub(crate) write_256k_bytes_per_s: f64,
    /// The 1 MiB blocks, and one `fdatasync` at the end.
    pub(crate) write_fdatasync_bytes_per_s: f64,
    /// The 1 MiB blocks in files of 128 MiB, with an `fdatasync` for each file but
    /// the last: the limit of a log of such files.
    pub(crate) write_files_bytes_per_s: f64,
    /// `read(2)` of 1 MiB blocks out of the page cache.
    pub(crate) read_bytes_per_s: f64,
    /// The format's checksum over 1 MiB.
    pub(crate) crc32_bytes_per_s: f64,
    /// A copy from memory to memory.
    pub(crate) memcpy_bytes_per_s: f64,
    /// Appends of 4 KiB, an `fdatasync` after each.
    pub(crate) fdatasync_per_s: f64,
    /// From one thread to a second and from there to a third, at the rate at which the
    /// buffer's latency is measured.
    pub(crate) hand_over_p50_us: f64,
    pub(crate) hand_over_p99_us: f64,
}

impl Raw {
    /// Measures one round.
    ///
    /// # Errors
    ///
    /// The file system fails, or the stop is set.
    pub(crate) fn measure(scratch: &Scratch) -> Result<Self> {
        let file_failure = |error: io::Error| {
            Failure::io(
                &format!("measure raw files in {}", scratch.dir().display()),
                &error,
            )
        };
        let block = template(LARGE);
        scratch.warm()?;
        let small = write_file(scratch, &block[..SMALL]).map_err(file_failure)?;
        scratch.remove(&path(scratch))?;
        scratch.warm()?;
        let large = write_file(scratch, &block).map_err(file_failure)?;
        let read = read_file(scratch).map_err(file_failure)?;
        scratch.remove(&path(scratch))?;
        scratch.warm()?;
        let files = write_files(scratch, &block).map_err(file_failure)?;
        scratch.check()?;
        let syncs = synced_appends(scratch).map_err(file_failure)?;
        let hand_over = hand_over(scratch)?;
        Ok(Self {
            write_1m_bytes_per_s: large.written,
            write_256k_bytes_per_s: small.written,
            write_fdatasync_bytes_per_s: large.synced,
            write_files_bytes_per_s: files,
            read_bytes_per_s: read,
            crc32_bytes_per_s: checksums(&block, scratch.time),
            memcpy_bytes_per_s: copies(scratch.time),
            fdatasync_per_s: syncs,
            hand_over_p50_us: hand_over.p50,
            hand_over_p99_us: hand_over.p99,
        })
    }

    /// The median of each field.
    pub(crate) fn medians(rounds: &[Self]) -> Self {
        let of = |field: fn(&Self) -> f64| median(rounds.iter().map(field)).unwrap_or_default();
        Self {
            write_1m_bytes_per_s: of(|raw| raw.write_1m_bytes_per_s),
            write_256k_bytes_per_s: of(|raw| raw.write_256k_bytes_per_s),
            write_fdatasync_bytes_per_s: of(|raw| raw.write_fdatasync_bytes_per_s),
            write_files_bytes_per_s: of(|raw| raw.write_files_bytes_per_s),
            read_bytes_per_s: of(|raw| raw.read_bytes_per_s),
            crc32_bytes_per_s: of(|raw| raw.crc32_bytes_per_s),
            memcpy_bytes_per_s: of(|raw| raw.memcpy_bytes_per_s),
            fdatasync_per_s: of(|raw| raw.fdatasync_per_s),
            hand_over_p50_us: of(|raw| raw.hand_over_p50_us),
            hand_over_p99_us: of(|raw| raw.hand_over_p99_us),
        }
    }
}

/// Bytes per second.
struct Written {
    written: f64,
    synced: f64,
}

fn path(scratch: &Scratch) -> std::path::PathBuf {
    scratch.dir().join("raw")
}

fn blocks(bytes: u64, block: &[u8]) -> u64 {
    (bytes / block.len() as u64).max(1)
}

fn rate(count: u64, each: usize, begun: Instant) -> f64 {
    count as f64 * each as f64 / begun.elapsed().as_secs_f64().max(1e-9)
}

fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::create_new(path)
}

fn write_file(scratch: &Scratch, block: &[u8]) -> io::Result<Written> {
    let mut file = create(&path(scratch))?;
    let count = blocks(scratch.size, block);
    let begun = Instant::now();
    for _ in 0..count {
        file.write_all(block)?;
    }
    let written = rate(count, block.len(), begun);
    file.sync_data()?;
    let synced = rate(count, block.len(), begun);
    Ok(Written { written, synced })
}

/// Reads what [`write_file`] left.
fn read_file(scratch: &Scratch) -> io::Result<f64> {
    let mut file = File::open(path(scratch))?;
    let mut block = vec![0; LARGE];
    let count = blocks(scratch.size, &block);
    let begun = Instant::now();
    for _ in 0..count {
        file.read_exact(&mut block)?;
        black_box(&block);
    }
    Ok(rate(count, block.len(), begun))
}

fn write_files(scratch: &Scratch, block: &[u8]) -> io::Result<f64> {
    let path = |n: u64| scratch.dir().join(format!("raw-{n}"));
    let count = blocks(scratch.size, block);
    let per_file = DATA_FILE_LEN / block.len() as u64;
    let begun = Instant::now();
    let mut file = create(&path(0))?;
    for n in 0..count {
        if n > 0 && n % per_file == 0 {
            file.sync_data()?;
            file = create(&path(n / per_file))?;
        }
        file.write_all(block)?;
    }
    let rate = rate(count, block.len(), begun);
    for n in 0..count.div_ceil(per_file) {
        std::fs::remove_file(path(n))?;
    }
    Ok(rate)
}

fn synced_appends(scratch: &Scratch) -> io::Result<f64> {
    let path = path(scratch);
    let mut file = create(&path)?;
    let block = template(SYNCED_LEN);
    let mut count = 0_u64;
    let begun = Instant::now();
    while begun.elapsed() < scratch.time {
        file.write_all(&block)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = rate(count, 1, begun);
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// A shorter time, for measurements with steady results.
fn short(time: Duration) -> Duration {
    time / 8
}

fn checksums(block: &[u8], time: Duration) -> f64 {
    let mut count = 0;
    let begun = Instant::now();
    while begun.elapsed() < short(time) {
        black_box(record::checksum(count, 0, black_box(block)));
        count += 1;
    }
    rate(count, block.len(), begun)
}

fn copies(time: Duration) -> f64 {
    let from = template(COPY_LEN);
    let mut to = vec![1; COPY_LEN];
    let mut count = 0;
    let begun = Instant::now();
    while count == 0 || begun.elapsed() < short(time) {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        count += 1;
    }
    rate(count, COPY_LEN, begun)
}

/// The least time a record takes: its frame is encoded and summed, and copied twice, as by
/// a write and a read. In seconds of one processor per record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    /// With copies that stay in the processor's cache.
    pub(crate) in_cache: f64,
    /// With copies that go through memory, like the contents of a page cache.
    pub(crate) through_memory: f64,
}

impl Floor {
    pub(crate) fn measure(payload_len: usize, time: Duration) -> Self {
        Self {
            in_cache: encoded_and_copied(payload_len, 1, time),
            through_memory: encoded_and_copied(payload_len, COPIES_LEN / LARGE, time),
        }
    }

    /// The median of each.
    pub(crate) fn medians(rounds: &[Self]) -> Option<Self> {
        Some(Self {
            in_cache: median(rounds.iter().map(|floor| floor.in_cache))?,
            through_memory: median(rounds.iter().map(|floor| floor.through_memory))?,
        })
    }
}

/// Seconds per record. Each batch is copied to the next of `places` places in turn, and
/// read back from there after half of the other places were written.
fn encoded_and_copied(payload_len: usize, places: usize, time: Duration) -> f64 {
    let frame_len = record::frame_len(payload_len);
    let per_batch = (LARGE / frame_len).max(1);
    let mut payload = template(payload_len);
    let mut batch = vec![1; per_batch * frame_len];
    let mut written = vec![1; places * batch.len()];
    let mut read = vec![1; batch.len()];
    let mut id = 0;
    let begun = Instant::now();
    for n in 0.. {
        for frame in batch.chunks_exact_mut(frame_len) {
            stamp(&mut payload, id);
            record::encode(frame, id, 0, black_box(&payload));
            id += 1;
        }
        let place = |n: usize| (n % places) * batch.len()..(n % places + 1) * batch.len();
        written[place(n)].copy_from_slice(black_box(&batch));
        read.copy_from_slice(black_box(&written[place(n + places / 2)]));
        black_box(&mut read);
        if begun.elapsed() >= short(time) {
            break;
        }
    }
    begun.elapsed().as_secs_f64() / id as f64
}
