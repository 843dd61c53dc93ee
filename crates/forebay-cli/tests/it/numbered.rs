//! Numbered lines that are fed to a program and looked for in its output.

use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Feeds numbered lines to the child until it no longer reads, slowly enough for a kill to
/// fall between them. The thread returns the next number.
pub(crate) fn feed(child: &mut Child, mut next: u64) -> JoinHandle<u64> {
    let mut stdin = child.stdin.take().expect("a piped standard input");
    std::thread::spawn(move || {
        let mut text = String::new();
        for burst in 0_u64.. {
            text.clear();
            let end = next + 1 + burst * 37 % 500;
            text.extend((next..end).map(line));
            next = end;
            if stdin.write_all(text.as_bytes()).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        next
    })
}

/// Reads reports of how many lines are synced; the last number is what was promised.
pub(crate) fn promises(
    from: impl std::io::Read + Send + 'static,
    prefix: &'static str,
) -> (Arc<AtomicU64>, JoinHandle<()>) {
    let promised = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&promised);
    let reading = std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if let Some(count) = line.strip_prefix(prefix).and_then(|n| n.parse().ok()) {
                shared.store(count, Ordering::SeqCst);
            }
        }
    });
    (promised, reading)
}

/// A numbered line; some are longer than an atomic write.
pub(crate) fn line(n: u64) -> String {
    format!("{n} {}\n", "x".repeat(padding_len(n)))
}

fn padding_len(n: u64) -> usize {
    if n.is_multiple_of(97) {
        6000
    } else {
        (n % 40) as usize
    }
}

/// The number of a line; panics if the line is not whole.
pub(crate) fn line_number(line: &str) -> u64 {
    let (number, padding) = line.split_once(' ').expect("a whole line");
    let number = number.parse().expect("a number");
    assert_eq!(
        padding.len(),
        padding_len(number),
        "line {number} is not whole"
    );
    number
}
