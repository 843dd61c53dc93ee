//! The memory of many buffers that are opened and closed.

use std::path::Path;

use forebay::Config;

use crate::support::{open, payload, temp_dir};

/// Tells a second process of this test program to open many buffers, and in how many rounds.
const ROUNDS: &str = "FOREBAY_TEST_MANY_BUFFERS";

const BUFFERS: usize = 200;

/// The resident memory of this process; `None` if the system does not tell.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// Regression: batch buffers of a megabyte came from the heap, which is no longer zero once
/// others were freed. So they were touched whole, and stayed with the process when all buffers
/// were closed (584 MB after three rounds of 500).
#[test]
fn buffers_take_the_memory_that_they_fill_and_give_it_back() {
    if std::env::var(ROUNDS).is_ok() {
        return open_and_close();
    }
    if resident_bytes().is_none() {
        eprintln!("SKIPPED: this system does not tell how much memory a process uses");
        return;
    }
    let name = "limits::memory::buffers_take_the_memory_that_they_fill_and_give_it_back";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ROUNDS, "3")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(output.status.success(), "{output:?}");
}

fn open_and_close() {
    let before = resident_bytes().unwrap();
    let rounds: u32 = std::env::var(ROUNDS).unwrap().parse().unwrap();
    let count = std::env::var("FOREBAY_TEST_BUFFERS");
    let count = count.map_or(BUFFERS, |count| count.parse().unwrap());
    let dir = temp_dir();
    for round in 1..=rounds {
        let buffers: Vec<_> = (0..count)
            .map(|n| fill(&dir.path().join(n.to_string())))
            .collect();
        let opened = resident_bytes().unwrap().saturating_sub(before);
        for (writer, reader) in buffers {
            drop(reader);
            writer.close().unwrap();
        }
        let closed = resident_bytes().unwrap().saturating_sub(before);
        println!("round {round}: {opened} bytes with {count} buffers open, {closed} when closed");
        // For thread stacks and what the allocator keeps: far less than a batch buffer each.
        let bound = 256 << 10;
        assert!(opened < count as u64 * bound && closed < count as u64 * bound);
    }
}

fn fill(dir: &Path) -> (forebay::Writer, forebay::Reader) {
    let (writer, mut reader) = open(&Config::new(dir).max_size(16 << 20));
    for n in 0..10 {
        writer.append(&payload(n, 200)).unwrap();
        if let Some(forebay::Item::Record(delivery)) = reader.recv().unwrap() {
            delivery.ack();
        }
    }
    (writer, reader)
}
