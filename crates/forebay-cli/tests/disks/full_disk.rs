//! Real processes are killed while their disk fills up: promise 8, and meanwhile
//! promises 1 and 3.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;

use forebay::storage::Storage as _;
use forebay::storage::os::Os;

use crate::moments::{Moments, number};
use crate::mounted::{self, Mounted};
use crate::numbered::{feed, line_number, promises};
use crate::support::{finish, forebay, kill, lines, read_line, wait_until};

const ROUNDS: u64 = 40;
const DISK_BYTES: u64 = 16 << 20;
/// With fewer free bytes than this, writes begin to fail.
const FULL_BYTES: u64 = 64 << 10;

fn free_bytes(dir: &Path) -> u64 {
    Os::new().free_bytes(dir).unwrap().unwrap()
}

/// A file system of [`DISK_BYTES`], mounted in a directory.
fn small_disk(dir: &Path) -> Mounted {
    let image = dir.join("image");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(DISK_BYTES).unwrap();
    mounted::make(&image);
    Mounted::new(&image, &dir.join("mounted"))
}

/// A buffer that may grow to 1 GiB on a disk of 16 MiB. `push` is killed while
/// the disk fills up or is full; then `pull` is killed while it frees space.
#[test]
#[ignore = "mounts file systems: just full-disk"]
fn a_killed_push_on_a_full_disk_loses_no_synced_record() {
    if !mounted::is_possible(&[]) {
        return;
    }
    let mut moments = Moments::new();
    let dir = tempfile::tempdir().unwrap();
    let disk = small_disk(dir.path());
    let buffer = disk.path().join("buffer");
    let command = |name: &str, options: &[&str]| {
        let mut command = forebay([name]);
        command.arg(&buffer).args(options);
        command
    };

    let (mut next, mut acknowledged_to, mut full_rounds) = (1, 0, 0);
    let (mut promised_numbers, mut seen) = (Vec::new(), BTreeSet::new());
    let rounds = number("FOREBAY_ROUNDS").unwrap_or(ROUNDS);
    for round in 0..rounds {
        let options = ["--report-synced", "--flush-interval", "2ms"];
        let mut push = command("push", &options)
            .args(["--max-size", "1GiB", "--data-file-size", "256KiB"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let first = next;
        let (promised, reading) = promises(push.stdout.take().unwrap(), "");
        let feeding = feed(&mut push, next);
        // Two of three rounds wait until the disk is full. The kill comes up to 60 ms later.
        let fills = moments.below(3) > 0;
        wait_until("a full disk", || {
            assert_eq!(push.try_wait().unwrap(), None, "push has ended");
            !fills || free_bytes(disk.path()) < FULL_BYTES
        });
        full_rounds += u64::from(fills);
        moments.pause(60);
        kill(push.id(), "KILL");
        push.wait().unwrap();
        next = feeding.join().unwrap();
        reading.join().unwrap();
        promised_numbers.extend(first..first + promised.load(Ordering::SeqCst));

        if !buffer.join("buffer.db").exists() {
            // The push was killed before it had made the buffer.
            assert!(promised_numbers.is_empty());
            continue;
        }
        // The first pull is killed. The second takes some records, or all of them in every
        // fourth round and in the last one.
        let most = moments.below(20_000).to_string();
        let some = ["--max", most.as_str()];
        let takes_all = round % 4 == 3 || round + 1 == rounds;
        for (options, is_killed) in [
            (&some[..], true),
            (if takes_all { &[] } else { &some[..] }, false),
        ] {
            let mut pull = command("pull", options).spawn().unwrap();
            let mut stdout = pull.stdout.take().unwrap();
            let reading = std::thread::spawn(move || {
                let mut text = String::new();
                stdout.read_to_string(&mut text).map(|_| text)
            });
            if is_killed {
                moments.pause(20);
                kill(pull.id(), "KILL");
                pull.wait().unwrap();
            } else {
                finish(pull).expect(0);
            }
            let mut last = acknowledged_to;
            for line in reading.join().unwrap().unwrap().split_inclusive('\n') {
                let Some(line) = line.strip_suffix('\n') else {
                    // The kill cut this line off, so its record was not acknowledged.
                    assert!(is_killed, "round {round}: {line:?} is not whole");
                    break;
                };
                let number = line_number(line);
                assert!(number > last, "round {round}: {number} after {last}");
                last = number;
                seen.insert(number);
            }
            if !is_killed {
                acknowledged_to = last;
            }
        }
    }
    let lost: Vec<_> = promised_numbers
        .iter()
        .filter(|n| !seen.contains(n))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {lost:?}",
        lost.len(),
        promised_numbers.len()
    );
    // The space of the records that were taken out is free again.
    assert!(free_bytes(disk.path()) > DISK_BYTES / 2);
    println!(
        "{rounds} rounds, the disk full in {full_rounds}: {} lines promised, {} taken out",
        promised_numbers.len(),
        seen.len()
    );
}

/// Regression: a push that waited for space for its accepted records kept the buffer open,
/// so no pull could free any space, and both waited for ever.
#[test]
#[ignore = "mounts file systems: just full-disk"]
fn a_push_into_a_full_disk_goes_on_as_pulls_make_space() {
    if !mounted::is_possible(&[]) {
        return;
    }
    const LINES: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let disk = small_disk(dir.path());
    let buffer = disk.path().join("buffer");
    let mut push = forebay(["push"])
        .arg(&buffer)
        .args(["--max-size", "1GiB", "--data-file-size", "256KiB"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = push.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || stdin.write_all(lines(1, LINES).as_bytes()));
    let said = read_line(push.stderr.as_mut().unwrap());
    assert!(said.contains("waiting for space"), "{said}");
    let (mut next, mut pulls) = (1, 0);
    while next <= LINES {
        let pull = forebay(["pull", "--wait", "1m"]).arg(&buffer).spawn();
        let taken = finish(pull.unwrap()).expect(0).stdout_text();
        pulls += 1;
        for line in taken.lines() {
            let number: u64 = line.parse().unwrap();
            // Closing may still write records that the push takes back and appends again.
            // They come twice then; none is missing.
            assert!(number <= next, "{number} instead of {next}");
            next = number + 1;
        }
    }
    feeding.join().unwrap().unwrap();
    finish(push).expect(0);
    println!("{LINES} lines through a disk of {DISK_BYTES} bytes in {pulls} pulls");
}
