//! SIGKILL at random moments, with real processes.
//!
//! Lines are numbered upwards over all rounds, so the numbers show whether a line is out of
//! order, repeated or missing. `FOREBAY_SEED` replays the moments of the kills (not how far
//! the processes are by then), and `FOREBAY_ROUNDS` sets the number of rounds.

use crate::moments::{Moments, number};
use crate::numbered::{feed, line, line_number, promises};
use crate::support::{Scratch, finish, kill, run};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

/// The number of rounds of each test, unless `FOREBAY_ROUNDS` is set.
const ROUNDS: u64 = 150;

fn rounds() -> u64 {
    number("FOREBAY_ROUNDS").unwrap_or(ROUNDS)
}

#[test]
fn a_killed_push_loses_no_synced_record_and_a_pull_gets_each_once() {
    let mut moments = Moments::new();
    let scratch = Scratch::new();
    let (mut next, mut last) = (1, 0);
    for round in 0..rounds() {
        let policy = ["interval", "batch", "never"][(round % 3) as usize];
        let options = [
            "--report-synced",
            "--flush-interval",
            "2ms",
            "--data-file-size",
            "64KiB",
            "--sync",
            policy,
        ];
        let mut push = scratch
            .forebay("push", &options)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let first = next;
        let stdout = push.stdout.take().unwrap();
        let (promised, reading) = promises(stdout, "");
        let feeding = feed(&mut push, next);
        moments.pause(60);
        kill(push.id(), "KILL");
        push.wait().unwrap();
        next = feeding.join().unwrap();
        reading.join().unwrap();
        let promised = promised.load(Ordering::SeqCst);

        // Two pulls that are not killed. The first acknowledges what it takes, so the
        // second must not get those records again.
        let some = moments.below(2000).to_string();
        let mut got = BTreeSet::new();
        for options in [&["--max", some.as_str()][..], &[]] {
            if !scratch.buffer.join("buffer.db").exists() {
                assert_eq!(promised, 0);
                continue;
            }
            for line in run(scratch.forebay("pull", options))
                .expect(0)
                .stdout_text()
                .lines()
            {
                let number = line_number(line);
                assert!(number > last, "round {round}: {number} after {last}");
                last = number;
                got.insert(number);
            }
        }
        for number in first..first + promised {
            assert!(got.contains(&number), "round {round}: {number} is lost");
        }
    }
}

#[test]
fn a_killed_pull_loses_nothing_and_repeats_only_what_was_not_acknowledged() {
    let mut moments = Moments::new();
    let scratch = Scratch::new();
    const TOTAL: u64 = 40_000;
    let stored: String = (1..=TOTAL).map(line).collect();
    scratch.push(stored);
    // The first line that no pull has printed so far.
    let mut next = 1;
    for round in 0..rounds() {
        let acknowledged = scratch.json("inspect", 0)["ledger"]["reader_last_record_id"]
            .as_u64()
            .unwrap();
        assert!(
            acknowledged < next,
            "round {round}: {acknowledged} was never seen"
        );
        let most = moments.below(TOTAL / 50).to_string();
        let mut pull = scratch.forebay("pull", &["--max", &most]).spawn().unwrap();
        let stdout = pull.stdout.take().unwrap();
        let reading = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).split(b'\n');
            let lines: Vec<Vec<u8>> = lines.map_while(Result::ok).collect();
            lines
        });
        moments.pause(20);
        kill_if_alive(&mut pull);
        let mut expected = acknowledged + 1;
        for line in reading.join().unwrap() {
            let text = String::from_utf8(line).unwrap();
            // The last line may be cut off.
            let Some((number, _)) = text.split_once(' ') else {
                break;
            };
            assert_eq!(number.parse(), Ok(expected), "round {round}");
            expected += 1;
        }
        next = next.max(expected);
    }
    let rest = scratch.pull();
    let acknowledged = TOTAL - rest.lines().count() as u64;
    assert!(acknowledged < next);
    for (line, number) in rest.lines().zip(acknowledged + 1..) {
        assert_eq!(line_number(line), number);
    }
}

fn kill_if_alive(child: &mut Child) {
    if child.try_wait().unwrap().is_none() {
        child.kill().unwrap();
    }
    child.wait().unwrap();
}

/// What a pipe did before it was killed.
pub(crate) struct Killed {
    /// The numbers that it was fed are `first..next`.
    pub(crate) first: u64,
    pub(crate) next: u64,
    /// How many of them it reported as synced.
    pub(crate) promised: u64,
}

/// Runs `pipe` into a shell script that gets the path `out`, feeds it numbers from `next` on, and
/// kills it after `pause`. Returns once the program, which reads what is left in its pipe, has
/// ended as well.
pub(crate) fn run_and_kill(
    mut command: Command,
    script: &str,
    out: &Path,
    next: u64,
    pause: impl FnOnce(),
) -> Killed {
    let mut pipe = command
        .args(["--", "sh", "-c", script])
        .arg(out)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (promised, reading) = promises(pipe.stderr.take().unwrap(), "synced ");
    let feeding = feed(&mut pipe, next);
    pause();
    kill(pipe.id(), "KILL");
    // The program has inherited standard output and standard error, so they reach their end
    // only when it has ended.
    let stdout = pipe.stdout.take().unwrap();
    pipe.wait().unwrap();
    let first = next;
    let next = feeding.join().unwrap();
    reading.join().unwrap();
    assert_eq!(BufReader::new(stdout).lines().count(), 0);
    let promised = promised.load(Ordering::SeqCst);
    Killed {
        first,
        next,
        promised,
    }
}

#[test]
fn a_killed_pipe_loses_no_synced_record_and_goes_on_where_it_was() {
    let mut moments = Moments::new();
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let script = "cat >> \"$0\"";
    let mut next = 1;
    let mut promised_numbers = Vec::new();
    let mut read_to = 0_usize;
    let mut last = 0;
    for round in 0..rounds() {
        // What was acknowledged is not delivered again.
        let first_unread = match scratch.buffer.join("buffer.db").exists() {
            true => run(scratch.forebay("cat", &["--max", "1"])).stdout_text(),
            false => String::new(),
        };
        let options = [
            "--report-synced",
            "--flush-interval",
            "2ms",
            "--data-file-size",
            "64KiB",
            "--redeliver",
            ["0", "4KiB", "64KiB"][(round % 3) as usize],
        ];
        let command = scratch.forebay("pipe", &options);
        let killed = run_and_kill(command, script, &out, next, || moments.pause(60));
        next = killed.next;
        promised_numbers.extend(killed.first..killed.first + killed.promised);

        let written = std::fs::read(&out).unwrap_or_default();
        let new = String::from_utf8(written[read_to..].to_vec()).unwrap();
        read_to = written.len();
        let mut expected_first = first_unread.lines().next().map(line_number);
        for line in new.split_inclusive('\n') {
            if !line.ends_with('\n') {
                // The kill can cut off only a line that is longer than one atomic write,
                // but at any byte: the pipe may have had room for a few bytes only.
                if let Some((number, _)) = line.split_once(' ') {
                    let whole = crate::numbered::line(number.parse().unwrap());
                    assert!(whole.len() > 4096, "round {round}: {line:?}");
                }
                std::fs::write(&out, &written[..read_to - line.len()]).unwrap();
                read_to -= line.len();
                break;
            }
            let number = line_number(line.trim_end_matches('\n'));
            if let Some(first) = expected_first.take() {
                assert_eq!(number, first, "round {round} begins elsewhere");
                last = number - 1;
            }
            assert!(number > last, "round {round}: {number} after {last}");
            last = number;
        }
    }
    let mut command = scratch.forebay("pipe", &[]);
    command.args(["--", "sh", "-c", script]).arg(&out);
    finish(command.spawn().unwrap()).expect(0);
    let written = std::fs::read_to_string(&out).unwrap();
    let delivered: BTreeSet<u64> = written.lines().map(line_number).collect();
    for number in promised_numbers {
        assert!(delivered.contains(&number), "{number} is lost");
    }
}
