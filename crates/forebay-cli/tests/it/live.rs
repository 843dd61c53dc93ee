//! The status line on a terminal while records go through.

use crate::support::{Scratch, finish, lines, wait_until};
use crate::terminal::Terminal;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A command whose standard error is the terminal, with pipes for the rest.
fn start(scratch: &Scratch, terminal: &Terminal, command: &str, options: &[&str]) -> Child {
    scratch
        .forebay(command, options)
        .stdin(Stdio::piped())
        .stderr(terminal.stdio())
        .spawn()
        .unwrap()
}

#[test]
fn a_push_shows_what_goes_in_and_what_waits() {
    let scratch = Scratch::new();
    let terminal = Terminal::new();
    let mut push = start(&scratch, &terminal, "push", &[]);
    let mut stdin = push.stdin.take().unwrap();
    stdin.write_all(lines(1, 5).as_bytes()).unwrap();
    // The line is also drawn while no input comes.
    terminal.wait_for("in 5 (0/s), waiting 5 (240 B)");
    drop(stdin);
    finish(push).expect(0);
    terminal.wait_for("5 records stored and synced");
}

#[test]
fn a_push_to_a_full_buffer_shows_that() {
    let scratch = Scratch::new();
    let terminal = Terminal::new();
    let mut push = start(&scratch, &terminal, "push", &["--max-size", "64KiB"]);
    let mut stdin = push.stdin.take().unwrap();
    stdin.write_all(lines(1, 5000).as_bytes()).unwrap();
    terminal.wait_for("(0/s), full");
    push.kill().unwrap();
    finish(push);
    drop(stdin);
}

/// Regression: it showed nothing when its records went into a pipe.
#[test]
fn a_pull_shows_what_comes_out_and_what_waits() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 50_000));
    let terminal = Terminal::new();
    let mut pull = start(&scratch, &terminal, "pull", &["--follow"]);
    let mut stdout = pull.stdout.take().unwrap();
    // By then the pipe is full. The line is drawn once the pipe has room again.
    std::thread::sleep(Duration::from_millis(1100));
    let mut records = vec![0; lines(1, 50_000).len()];
    stdout.read_exact(&mut records).unwrap();
    terminal.wait_for(", waiting ");
    terminal.wait_for("out 50,000 (0/s), waiting for more");
    push_more(&scratch);
    wait_until("the new record", || {
        let mut record = [0; 4];
        stdout
            .read_exact(&mut record)
            .is_ok_and(|()| &record == b"new\n")
    });
    pull.kill().unwrap();
    finish(pull);
}

fn push_more(scratch: &Scratch) {
    let push = scratch.forebay("push", &["--wait", "1m"]);
    crate::support::run_with(push, b"new\n").expect(0);
}

#[test]
fn a_drain_shows_the_rate_and_the_time_left() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 1000));
    let terminal = Terminal::new();
    // Some seconds, of which the first shows nothing.
    let options = ["--rate", "512/s", "--redeliver", "0", "--", "cat"];
    let drain = start(&scratch, &terminal, "drain", &options);
    terminal.wait_for(" of 46.88 KiB (");
    terminal.wait_for(" left)");
    assert_eq!(finish(drain).expect(0).stdout_text(), lines(1, 1000));
    terminal.wait_for("buffer: empty, 1,000 records taken");
}

/// Regression: seconds of work showed nothing but the last line. `move` had a bar.
#[test]
fn a_skip_shows_the_same_progress_as_a_move() {
    let scratch = Scratch::new();
    let line = "x".repeat(1000) + "\n";
    for (command, options) in [
        ("move", &["TO"][..]),
        ("skip", &["--before", "9999999", "--discard", "--yes"]),
        ("skip", &["--before", "9999999", "--yes", "--to", "TO"]),
    ] {
        scratch.push(line.repeat(30_000));
        let terminal = Terminal::new();
        let to = scratch.path(command).to_string_lossy().into_owned();
        let options = options.iter().map(|option| match *option {
            "TO" => to.as_str(),
            other => other,
        });
        let options: Vec<&str> = options.collect();
        let child = start(&scratch, &terminal, command, &options);
        finish(child).expect(0);
        terminal.wait_for(" of 29.");
        terminal.wait_for(" MiB (");
    }
}

/// Regression: the line with counts of six digits was longer than 80 columns, so the terminal
/// broke `[y/N]`.
#[test]
fn the_question_of_a_skip_is_not_broken() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 120_000));
    let terminal = Terminal::new();
    let options = ["--max", "110000", "--discard"];
    let mut skip = scratch.forebay("skip", &options);
    skip.stdin(terminal.stdio()).stderr(terminal.stdio());
    let skip = skip.spawn().unwrap();
    terminal.wait_for("110,000 records (ids 1 to 110000, ");
    terminal.wait_for("\nGo on? [y/N] ");
    terminal.press(b"n\n");
    finish(skip).expect(2);
    terminal.wait_for("nothing was skipped");
}

#[test]
fn nothing_is_shown_where_that_is_asked_for() {
    let scratch = Scratch::new();
    let terminal = Terminal::new();
    let mut push = start(&scratch, &terminal, "push", &["--quiet"]);
    let mut stdin = push.stdin.take().unwrap();
    stdin.write_all(lines(1, 5).as_bytes()).unwrap();
    // Longer than the interval between two lines, which is a second.
    std::thread::sleep(Duration::from_millis(1300));
    drop(stdin);
    finish(push).expect(0);
    let pull = start(&scratch, &terminal, "pull", &["--quiet"]);
    assert_eq!(finish(pull).expect(0).stdout_text(), lines(1, 5));
    (&terminal.end).write_all(b"end").unwrap();
    terminal.wait_for("end");
    assert_eq!(terminal.shown(), "end");
}

#[test]
fn a_cat_from_beyond_the_end_says_why_it_prints_nothing() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let terminal = Terminal::new();
    let cat = start(&scratch, &terminal, "cat", &["--from", "4"]);
    assert!(finish(cat).expect(0).stdout.is_empty());
    terminal.wait_for("holds no unread record with event 4 or a later one");
    // A script is not told.
    let ran = crate::support::run(scratch.forebay("cat", &["--from", "4"])).expect(0);
    assert_eq!(ran.stderr, "");
}

/// A status line would appear in the middle of records that are printed on the terminal.
#[test]
fn a_pull_to_the_terminal_shows_its_records_only() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let terminal = Terminal::new();
    let pull = scratch
        .forebay("pull", &[])
        .stdout(terminal.stdio())
        .stderr(terminal.stdio())
        .spawn()
        .unwrap();
    finish(pull).expect(0);
    (&terminal.end).write_all(b"end").unwrap();
    terminal.wait_for("end");
    assert_eq!(terminal.shown(), "1\r\n2\r\n3\r\nend");
}
