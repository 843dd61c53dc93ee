//! `forebay pull`.

use crate::support::{Ran, Scratch, copy, finish, golden, lines, run};
use std::fs;
use std::io::Read;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

#[test]
fn a_pull_takes_everything_once() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10_000));
    assert_eq!(scratch.pull(), lines(1, 10_000));
    assert_eq!(scratch.pull(), "");
    assert_eq!(scratch.json("inspect", 0)["unread"]["events"], 0);
}

#[test]
fn a_limit_takes_so_many_records() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    for (from, to) in [(1, 4), (5, 8), (9, 10)] {
        let ran = run(scratch.forebay("pull", &["--max", "4"])).expect(0);
        assert_eq!(ran.stdout_text(), lines(from, to));
    }
    run(scratch.forebay("pull", &["--max", "0"])).expect(0);
}

#[test]
fn without_acknowledgement_everything_stays() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    for _ in 0..2 {
        let ran = run(scratch.forebay("pull", &["--no-ack"])).expect(0);
        assert_eq!(ran.stdout_text(), lines(1, 10));
    }
    assert_eq!(scratch.pull(), lines(1, 10));
}

#[test]
fn there_has_to_be_a_buffer() {
    let scratch = Scratch::new();
    run(scratch.forebay("pull", &[]))
        .expect(2)
        .says("no such directory");
    assert!(!scratch.buffer.exists());
    fs::create_dir(&scratch.buffer).unwrap();
    run(scratch.forebay("pull", &[]))
        .expect(2)
        .says("holds no buffer");
    assert_eq!(fs::read_dir(&scratch.buffer).unwrap().count(), 0);
}

#[test]
fn nobody_reading_is_no_error_and_nothing_is_lost() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10_000));
    let (nobody, stdout) = std::io::pipe().unwrap();
    drop(nobody);
    let mut pull = scratch.forebay("pull", &[]);
    pull.stdout(stdout);
    let ran = run(pull).expect(0);
    assert_eq!(ran.stderr, "");
    assert_eq!(scratch.pull(), lines(1, 10_000));
}

#[test]
fn what_a_dead_reader_left_in_the_pipe_is_the_only_loss() {
    let scratch = Scratch::new();
    // More than a pipe holds.
    scratch.push(lines(100_000, 200_000));
    let mut pull = scratch.forebay("pull", &["-v"]).spawn().unwrap();
    let mut stdout = pull.stdout.take().unwrap();
    assert_eq!(crate::support::read_line(&mut stdout), "100000");
    drop(stdout);
    // Regression: it counted and acknowledged whole batches only, so none here.
    let handed_over = delivered(&finish(pull).expect(0));
    assert!(handed_over > 0);
    assert_eq!(scratch.pull(), lines(100_000 + handed_over, 200_000));
}

/// The number in the message "N records (…) delivered".
fn delivered(ran: &Ran) -> u64 {
    let said = ran.stderr.replace(',', "");
    let number = said
        .lines()
        .filter(|line| line.contains(" delivered"))
        .find_map(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or_else(|| panic!("{ran:?}"))
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_fails_takes_nothing() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 100));
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut pull = scratch.forebay("pull", &[]);
    pull.stdout(full);
    run(pull).expect(2).says("cannot write to standard output");
    assert_eq!(scratch.pull(), lines(1, 100));
}

/// What docs/format.md says to do after a kill, before another implementation opens the
/// buffer: some of them lose records after preallocated zeros.
#[test]
fn a_pull_of_nothing_cuts_what_a_crash_left_and_takes_nothing_out() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let path = scratch.buffer.join("buffer-data-0.dat");
    let closed = fs::read(&path).unwrap();
    let mut killed = closed.clone();
    killed.resize(512 << 10, 0);
    fs::write(&path, killed).unwrap();
    assert_eq!(
        scratch.json("verify", 0)["findings"][0]["kind"],
        "zero_tail"
    );
    let ran = run(scratch.forebay("pull", &["--max", "0"])).expect(0);
    assert!(ran.stdout.is_empty());
    assert_eq!(fs::read(&path).unwrap(), closed);
    assert_eq!(scratch.json("verify", 0)["findings"], serde_json::json!([]));
    assert_eq!(scratch.pull(), lines(1, 10));
}

#[test]
fn losses_are_reported_and_everything_else_is_delivered() {
    let scratch = Scratch::new();
    copy(&golden("c-flip-payload-mid"), &scratch.buffer);
    let ran = run(scratch.forebay("pull", &["--framing", "length"]))
        .expect(1)
        .says("lost 1 event");
    let mut records = 0;
    let mut rest = &ran.stdout[..];
    while let Some((len, behind)) = rest.split_first_chunk() {
        rest = &behind[u32::from_be_bytes(*len) as usize..];
        records += 1;
    }
    assert_eq!(records, 99);
    run(scratch.forebay("pull", &[])).expect(0);
}

#[test]
fn damage_may_be_refused() {
    let scratch = Scratch::new();
    copy(&golden("c-flip-payload-mid"), &scratch.buffer);
    run(scratch.forebay("pull", &["--on-corruption", "refuse"]))
        .expect(2)
        .says("buffer-data-0.dat");
    // The damage is still there: nothing was skipped.
    let verification = scratch.json("verify", 1);
    assert_eq!(verification["findings"][0]["kind"], "checksum");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_wait_for_a_sleeping_reader() {
    let scratch = Scratch::new();
    scratch.push(lines(100_000, 200_000));
    let mut pull = scratch.forebay("pull", &["-v"]).spawn().unwrap();
    let mut stdout = pull.stdout.take().unwrap();
    assert_eq!(crate::support::read_line(&mut stdout), "100000");
    // Usually long enough for the pipe to fill; the test holds also if it is not full.
    std::thread::sleep(Duration::from_millis(100));
    crate::support::kill(pull.id(), "TERM");
    let handed_over = delivered(&finish(pull).expect(143));
    // Regression: the stream ended inside a record, and records that had come out whole came
    // out again: only whole batches were acknowledged.
    let mut rest_of_pipe = String::new();
    stdout.read_to_string(&mut rest_of_pipe).unwrap();
    let next = 100_000 + handed_over;
    assert_eq!(rest_of_pipe, lines(100_001, next - 1));
    assert_eq!(scratch.pull(), lines(next, 200_000));
}

/// Records of which the second is longer than a pipe holds.
#[cfg(unix)]
const LONG: usize = 1 << 20;

/// A pull whose reader has read the first record and the beginning of the second, long one.
#[cfg(unix)]
fn inside_the_long_record(scratch: &Scratch) -> (Child, ChildStdout) {
    let long = "x".repeat(LONG);
    scratch.push(format!("first\n{long}\nthird\n"));
    let mut pull = scratch.forebay("pull", &["-v"]).spawn().unwrap();
    let mut stdout = pull.stdout.take().unwrap();
    let mut begin = [0; 8];
    stdout.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"first\nxx");
    (pull, stdout)
}

#[cfg(unix)]
#[test]
fn a_signal_does_not_cut_a_record_that_is_read_on() {
    let scratch = Scratch::new();
    let (pull, mut stdout) = inside_the_long_record(&scratch);
    crate::support::kill(pull.id(), "TERM");
    let mut rest_of_pipe = String::new();
    stdout.read_to_string(&mut rest_of_pipe).unwrap();
    assert_eq!(rest_of_pipe.len(), LONG - 2 + 1);
    assert!(rest_of_pipe.ends_with("x\n"));
    assert_eq!(delivered(&finish(pull).expect(143)), 2);
    assert_eq!(scratch.pull(), "third\n");
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_wait_for_a_reader_inside_a_record() {
    let scratch = Scratch::new();
    let (pull, stdout) = inside_the_long_record(&scratch);
    // Two signals of one kind could arrive as one.
    crate::support::kill(pull.id(), "TERM");
    crate::support::kill(pull.id(), "INT");
    let ran = finish(pull);
    drop(stdout);
    assert!(matches!(ran.status, Some(130 | 143)), "{ran:?}");
    let ran = ran.says("record 2 was written in part and stays in the buffer: a second signal");
    assert_eq!(delivered(&ran), 1);
    assert_eq!(scratch.pull().len(), LONG + 1 + "third\n".len());
}

#[cfg(unix)]
#[test]
fn following_gets_what_is_pushed_later() {
    use crate::support::{kill, read_line, run_with};
    let scratch = Scratch::new();
    scratch.push(lines(1, 2));
    let mut pull = scratch
        .forebay("pull", &["--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = pull.stdout.take().unwrap();
    for n in 1..=2 {
        assert_eq!(read_line(&mut stdout), n.to_string());
    }
    for n in 3..=5 {
        let push = scratch.forebay("push", &["--wait", "1m"]);
        run_with(push, lines(n, n).as_bytes()).expect(0);
        assert_eq!(read_line(&mut stdout), n.to_string());
    }
    kill(pull.id(), "TERM");
    finish(pull).expect(143);
    assert_eq!(scratch.pull(), "");
}

#[cfg(unix)]
#[test]
fn following_ends_when_nobody_reads_any_more() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 2));
    let mut pull = scratch.forebay("pull", &["--follow"]).spawn().unwrap();
    let mut stdout = pull.stdout.take().unwrap();
    assert_eq!(crate::support::read_line(&mut stdout), "1");
    drop(stdout);
    finish(pull).expect(0);
}

/// Regression: a loss was reported when opening found it and again when the reader came to
/// it, and it was "1 events".
#[test]
fn a_loss_is_reported_once_and_in_the_singular() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let path = scratch.buffer.join("buffer-data-0.dat");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..9 * 48]).unwrap();
    for options in [&["--no-ack"][..], &["--verbose"]] {
        let ran = run(scratch.forebay("pull", options))
            .expect(1)
            .says("lost 1 event (id 10): gap");
        assert_eq!(ran.stdout_text(), lines(1, 9));
        let losses = ran.stderr.lines().filter(|line| line.contains("lost 1"));
        assert_eq!(losses.count(), 1, "{ran:?}");
    }
}

/// A push does not read, so it reports a loss when it opens the buffer.
#[test]
fn a_push_says_what_opening_found_lost() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let path = scratch.buffer.join("buffer-data-0.dat");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..9 * 48]).unwrap();
    run(scratch.forebay("push", &[]))
        .expect(0)
        .says("while opening: ledger_ahead")
        .says("1 event lost");
}
