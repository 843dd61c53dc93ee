//! Mixed load in one process for hours: buffers that fill up, slow consumers, rewinds, ends at
//! any moment, reopenings. Memory, open files and disk use stay bounded, and every record is
//! accounted for (see `it/stress/life.rs`).
//!
//! `just soak SECONDS` runs it for long; `cargo test` for a moment.
//! `FOREBAY_SEED` repeats the plans.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

#[path = "it/stress/life.rs"]
mod life;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "it/support.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay::Config;
use life::{Account, Plan};
use support::{Rng, temp_dir};

/// The maximum size of each buffer; all are open at once.
const MAX_SIZES: [u64; 3] = [16 << 10, 256 << 10, 4 << 20];
/// How much the process may grow, however long it runs: by the batches and chunks of three
/// buffers, and some hundred deliveries that are held.
const MEMORY_GROWTH_MAX: u64 = 64 << 20;
const FILES_GROWTH_MAX: u64 = 40;
/// With longer payloads, the deliveries that are held would take most of the memory.
const PAYLOAD_LEN_MAX: u64 = 16 << 10;

#[test]
fn nothing_grows_and_everything_is_accounted_for() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seconds = number("FOREBAY_SOAK_SECONDS").unwrap_or(2);
    let seed = number("FOREBAY_SEED").unwrap_or(std::process::id().into());
    println!("FOREBAY_SEED={seed}, {seconds} s");
    let dir = temp_dir();
    let dirs: Vec<PathBuf> = (0..MAX_SIZES.len())
        .map(|n| dir.path().join(n.to_string()))
        .collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&dirs, &stop));
        let stations: Vec<_> = (0..)
            .zip(dirs.iter().zip(MAX_SIZES))
            .map(|(n, (dir, max_size))| {
                let mut rng = Rng(seed + n);
                scope.spawn(move || run(&mut rng, dir, max_size, end))
            })
            .collect();
        for station in stations {
            let said = station.join();
            stop.store(said.is_err(), Ordering::SeqCst);
            println!("{}", said.expect("a station fails"));
        }
        stop.store(true, Ordering::SeqCst);
        println!("{}", watching.join().expect("the watch fails"));
    });
}

/// Runs lives of one buffer, one after the other, until `end`.
fn run(rng: &mut Rng, dir: &Path, max_size: u64, end: Instant) -> String {
    let mut account = Account::default();
    let mut lives = 0;
    loop {
        let is_last = Instant::now() >= end;
        let mut plan = Plan::draw(rng, Config::new(dir), max_size);
        plan.payload_len = plan.payload_len.min(PAYLOAD_LEN_MAX);
        if is_last {
            plan.leaves_after = None;
        }
        account.live(&plan);
        lives += 1;
        if is_last {
            break;
        }
    }
    account.check_all_is_done();
    format!(
        "{max_size} bytes: {lives} lives, {} records, {} dropped, {} rewinds, {} redelivered",
        account.accepted(),
        account.dropped,
        account.rewinds,
        account.redelivered
    )
}

/// Measures what the process takes until `stop` is set.
fn watch(dirs: &[PathBuf], stop: &AtomicBool) -> String {
    let (memory_before, files_before) = (memory_bytes(), open_files());
    let (mut memory_max, mut files_max, mut disk_max) = (memory_before, files_before, 0);
    while !stop.load(Ordering::SeqCst) {
        memory_max = memory_max.max(memory_bytes());
        files_max = files_max.max(open_files());
        for (dir, max_size) in dirs.iter().zip(MAX_SIZES) {
            // Files come and go while they are listed, so a sum may mix two moments. If there
            // really is too much, all five sums show it.
            let bytes = (0..5).map(|_| disk_bytes(dir)).min().unwrap_or_default();
            assert!(bytes <= max_size, "{bytes} bytes, {max_size} allowed");
            disk_max = disk_max.max(bytes);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (memory, files) = (memory_max - memory_before, files_max - files_before);
    assert!(memory <= MEMORY_GROWTH_MAX, "{memory} bytes more memory");
    assert!(files <= FILES_GROWTH_MAX, "{files} more open files");
    format!("memory grew by {memory} bytes, open files by {files}; {disk_max} bytes on disk")
}

/// The memory of this process; 0 where the system does not tell.
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kib.unwrap_or(0_u64) << 10
}

/// The open files of this process; 0 where the system does not tell.
fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// The bytes that the files of a buffer occupy.
fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let lens = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    lens.sum()
}
