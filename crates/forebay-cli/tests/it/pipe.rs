//! `forebay pipe`: what a program gets, what counts as taken, and how it ends.

use crate::support::{Scratch, finish, kill, lines, read_line, run, run_with, wait_until};
use std::fs;
use std::io::{Seek, Write};
use std::process::{Command, Stdio};

/// `forebay pipe BUFFER OPTIONS… -- sh -c SCRIPT BESIDE`, where `$0` is a
/// directory for the script's own files.
pub(crate) fn pipe(scratch: &Scratch, options: &[&str], script: &str) -> Command {
    pipe_after(scratch, "1ms", options, script)
}

/// The same, without a delay between two starts.
pub(crate) fn pipe_at_once(scratch: &Scratch, options: &[&str], script: &str) -> Command {
    pipe_after(scratch, "0s", options, script)
}

fn pipe_after(scratch: &Scratch, delay: &str, options: &[&str], script: &str) -> Command {
    let mut command = scratch.forebay("pipe", options);
    command
        .args(["--restart-delay", delay, "--", "sh", "-c", script])
        .arg(scratch.root.path());
    command
}

/// The contents of a file of the script; empty if there is none.
pub(crate) fn read(scratch: &Scratch, name: &str) -> String {
    fs::read_to_string(scratch.path(name)).unwrap_or_default()
}

#[test]
fn a_program_gets_every_line_and_its_output_goes_through() {
    let scratch = Scratch::new();
    let mut command = scratch.forebay("pipe", &[]);
    command.args(["--", "wc", "-l"]);
    let ran = run_with(command, lines(1, 200_000).as_bytes()).expect(0);
    assert_eq!(ran.stdout_text().trim(), "200000");
    assert_eq!(ran.stderr, "");
    assert_eq!(scratch.pull(), "");
}

#[test]
fn bytes_pass_unchanged_through_a_small_buffer() {
    // More than the buffer and many data files hold.
    let input: Vec<u8> = (0..300_000_u32)
        .flat_map(|n| [b'\n', (n >> 8) as u8, n as u8, 0xff, b'\r'])
        .chain(*b"\n")
        .collect();
    let scratch = Scratch::new();
    let mut command = scratch.forebay("pipe", &["--max-size", "256KiB"]);
    command.args(["--", "cat"]);
    let ran = run_with(command, &input).expect(0);
    assert!(ran.stdout == input, "the bytes differ");
}

#[test]
fn other_framings_go_in_and_out() {
    for (options, input) in [
        (&["--delimiter", "nul"][..], &b"a\nb\0\0c\0"[..]),
        (&["--framing", "length"], b"\0\0\0\x03a\nb\0\0\0\0"),
    ] {
        let scratch = Scratch::new();
        let mut command = scratch.forebay("pipe", options);
        command.args(["--", "cat"]);
        assert_eq!(run_with(command, input).expect(0).stdout, input);
    }
}

#[test]
fn the_exit_status_is_the_programs() {
    for (script, status) in [
        ("cat > /dev/null; exit 0", 0),
        ("cat > /dev/null; exit 3", 3),
        ("grep -q nothing", 1),
    ] {
        let scratch = Scratch::new();
        run_with(pipe(&scratch, &[], script), b"a\nb\n").expect(status);
        // The program has read everything and ended by itself, so everything is taken.
        assert_eq!(scratch.pull(), "", "{script}");
    }
}

#[test]
fn a_program_that_cannot_be_started_ends_it_before_anything_is_read() {
    let scratch = Scratch::new();
    fs::write(scratch.path("input"), "a\nb\n").unwrap();
    fs::write(scratch.path("script"), "no program").unwrap();
    let script = scratch.path("script").to_string_lossy().into_owned();
    let directory = scratch.root.path().to_string_lossy().into_owned();
    for (program, status, says) in [
        ("no-such-program", 127, "cannot start no-such-program"),
        (script.as_str(), 126, "make it executable"),
        (directory.as_str(), 126, "it is a directory"),
    ] {
        let mut input = fs::File::open(scratch.path("input")).unwrap();
        let mut command = scratch.forebay("pipe", &["--", program]);
        command.stdin(input.try_clone().unwrap());
        run(command).expect(status).says(says);
        assert_eq!(input.stream_position().unwrap(), 0);
    }
}

#[test]
fn what_a_dead_program_had_not_read_is_delivered_again_to_the_line() {
    let scratch = Scratch::new();
    // `read` takes no byte after its line. The first two runs die.
    let script = "
        cd \"$0\"
        if [ ! -e b ]; then
            [ -e a ] && touch b || touch a
            read one; read two
            echo \"$one $two\" >> early
            kill -9 $$
        fi
        cat > rest";
    run_with(
        pipe(&scratch, &["--redeliver", "0"], script),
        lines(1, 20).as_bytes(),
    )
    .expect(0)
    .says("killed by signal 9");
    assert_eq!(read(&scratch, "early"), "1 2\n3 4\n");
    assert_eq!(read(&scratch, "rest"), lines(5, 20));
    assert_eq!(scratch.pull(), "");
}

#[test]
fn half_a_line_read_is_the_line_delivered_again() {
    let scratch = Scratch::new();
    let script = "
        cd \"$0\"
        [ -e a ] && exec cat > rest
        dd bs=1 count=9 of=a 2> /dev/null
        kill -9 $$";
    run_with(
        pipe(&scratch, &["--redeliver", "0"], script),
        b"first\nsecond\nthird\n",
    )
    .expect(0);
    assert_eq!(read(&scratch, "a"), "first\nsec");
    assert_eq!(read(&scratch, "rest"), "second\nthird\n");
}

#[test]
fn a_margin_is_delivered_again_as_well() {
    // 1,000 lines of 10 bytes; the program dies after 5,005 bytes.
    let input: String = (1..=1000).map(|n| format!("{n:09}\n")).collect();
    for (margin, next) in [
        ("0", 501),
        ("5B", 501),
        ("6B", 500),
        ("1000B", 401),
        ("64KiB", 1),
    ] {
        let scratch = Scratch::new();
        let script = "
            cd \"$0\"
            [ -e a ] && exec cat > rest
            dd bs=1 count=5005 of=a 2> /dev/null
            kill -9 $$";
        run_with(
            pipe(&scratch, &["--redeliver", margin], script),
            input.as_bytes(),
        )
        .expect(0);
        assert_eq!(read(&scratch, "rest"), input[(next - 1) * 10..], "{margin}");
    }
}

#[test]
fn a_program_that_fails_before_the_end_is_started_again() {
    let scratch = Scratch::new();
    let script = "
        cd \"$0\"
        echo x >> starts
        [ $(wc -l < starts) = 4 ] && exec cat > rest
        read line
        exit 7";
    run_with(pipe(&scratch, &[], script), lines(1, 50_000).as_bytes())
        .expect(0)
        .says("ended with status 7; starting it again in 0.001 s")
        .says("starting it again in 0.004 s");
    assert_eq!(read(&scratch, "starts").lines().count(), 4);
    assert_eq!(read(&scratch, "rest"), lines(1, 50_000));
}

#[test]
fn a_program_killed_at_the_end_of_its_input_is_started_again() {
    let scratch = Scratch::new();
    let script = "
        cd \"$0\"
        cat >> got
        [ -e a ] || { touch a; kill -9 $$; }";
    run_with(pipe(&scratch, &[], script), lines(1, 3).as_bytes()).expect(0);
    assert_eq!(read(&scratch, "got"), [lines(1, 3), lines(1, 3)].concat());
    assert_eq!(scratch.pull(), "");
}

#[test]
fn restarts_may_be_limited_and_the_rest_stays() {
    let scratch = Scratch::new();
    let options = ["--max-restarts", "2", "--redeliver", "0"];
    let script = "cd \"$0\"; echo x >> starts; read line; exit 9";
    run_with(pipe(&scratch, &options, script), lines(1, 10).as_bytes())
        .expect(9)
        .says("after 2 restarts in a row");
    assert_eq!(read(&scratch, "starts").lines().count(), 3);
    assert_eq!(scratch.pull(), lines(4, 10));

    let scratch = Scratch::new();
    scratch.push("a\n");
    run(pipe(&scratch, &["--max-restarts", "0"], "kill -9 $$")).expect(137);
    assert_eq!(scratch.pull(), "a\n");
}

#[test]
fn a_program_that_wants_no_more_ends_it() {
    let scratch = Scratch::new();
    // The input stays open: the pipe must not wait for its end.
    let mut child = pipe(&scratch, &[], "read a; read b; echo $a $b")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(1, 10).as_bytes()).unwrap();
    let ran = finish(child).expect(0).says("ended before its input did");
    assert_eq!(ran.stdout_text(), "1 2\n");
    let rest = scratch.pull();
    let last: u64 = rest.lines().last().map_or(2, |line| line.parse().unwrap());
    assert_eq!(rest, lines(3, last));
    drop(stdin);
}

#[test]
fn what_an_earlier_run_left_comes_first() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let ran = run_with(pipe(&scratch, &[], "cat"), lines(4, 5).as_bytes()).expect(0);
    assert_eq!(ran.stdout_text(), lines(1, 5));
}

#[test]
fn a_slow_program_does_not_slow_the_input() {
    let scratch = Scratch::new();
    // The program reads only after all of the input was taken. That is more than a pipe
    // holds, so the rest has to be in the buffer.
    let mut child = pipe(
        &scratch,
        &[],
        "while [ ! -e \"$0/go\" ]; do sleep 0.01; done; wc -l",
    )
    .stdin(Stdio::piped())
    .spawn()
    .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(100_000, 299_999).as_bytes()).unwrap();
    drop(stdin);
    fs::write(scratch.path("go"), "").unwrap();
    assert_eq!(finish(child).expect(0).stdout_text().trim(), "200000");
}

#[test]
fn a_line_reaches_an_idle_program_without_waiting_for_the_next() {
    let scratch = Scratch::new();
    let mut child = pipe(&scratch, &[], "cat")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    for n in 1..=3 {
        writeln!(stdin, "{n}").unwrap();
        assert_eq!(read_line(&mut stdout), n.to_string());
    }
    drop(stdin);
    finish(child).expect(0);
}

#[test]
fn a_signal_leaves_the_rest_for_the_next_run() {
    for (signal, status) in [("TERM", 143), ("INT", 130)] {
        let scratch = Scratch::new();
        // The first run takes three lines and then sleeps.
        let script = "
            cd \"$0\"
            [ -e got ] && exec cat > rest
            for i in 1 2 3; do read line; echo $line >> part; done
            mv part got
            exec sleep 100";
        let options = ["--redeliver", "0", "--grace", "50ms"];
        let mut child = pipe(&scratch, &options, script)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines(1, 10).as_bytes()).unwrap();
        wait_until("three lines arrive", || scratch.path("got").exists());
        kill(child.id(), signal);
        finish(child).expect(status);
        drop(stdin);
        assert_eq!(read(&scratch, "got"), lines(1, 3));
        run_with(pipe(&scratch, &[], script), lines(11, 12).as_bytes()).expect(0);
        assert_eq!(read(&scratch, "rest"), lines(4, 12));
    }
}

#[test]
fn a_signal_lets_the_program_finish_what_it_has() {
    let scratch = Scratch::new();
    let script = "cd \"$0\"; touch up; cat > got; echo done >> got";
    let mut child = pipe(
        &scratch,
        &["--report-synced", "--flush-interval", "1ms"],
        script,
    )
    .stdin(Stdio::piped())
    .spawn()
    .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(1, 3).as_bytes()).unwrap();
    let mut stderr = child.stderr.take().unwrap();
    while read_line(&mut stderr) != "synced 3" {}
    wait_until("the lines arrive", || read(&scratch, "got") == lines(1, 3));
    kill(child.id(), "TERM");
    finish(child).expect(143);
    drop(stdin);
    assert_eq!(read(&scratch, "got"), lines(1, 3) + "done\n");
    // The program ended with status 0, so everything counts as taken.
    assert_eq!(scratch.pull(), "");
}

#[test]
fn a_program_that_does_not_end_after_a_signal_is_killed() {
    let scratch = Scratch::new();
    let script = "trap '' TERM; touch \"$0/up\"; while :; do sleep 1; done";
    let mut child = pipe(&scratch, &["--grace", "50ms"], script)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(1, 3).as_bytes()).unwrap();
    wait_until("the program starts", || scratch.path("up").exists());
    kill(child.id(), "TERM");
    finish(child).expect(143).says("killing it");
    drop(stdin);
    let rest = scratch.pull();
    assert_eq!(rest, lines(1, rest.lines().count() as u64));
}

#[test]
fn a_signal_does_not_cut_a_line_in_the_middle() {
    let scratch = Scratch::new();
    // A line is longer than a pipe holds, so the signal comes while one is partly delivered.
    let line = "x".repeat(200_000) + "\n";
    let script = "
        cd \"$0\"
        dd bs=1 count=1 of=a 2> /dev/null
        while [ ! -e go ]; do sleep 0.01; done
        cat > b";
    let mut child = pipe(&scratch, &["--max-record-size", "1MiB"], script)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(line.repeat(3).as_bytes()).unwrap();
    wait_until("the first byte arrives", || read(&scratch, "a").len() == 1);
    // The signal would cut off the input, so the last line has to be in the buffer before.
    let data = scratch.buffer.join("buffer-data-0.dat");
    let len = || fs::metadata(&data).map_or(0, |data| data.len());
    wait_until("all lines are in the buffer", || len() >= 600_000);
    kill(child.id(), "TERM");
    // `pipe` has to see the signal before the program reads on.
    std::thread::sleep(std::time::Duration::from_millis(300));
    fs::write(scratch.path("go"), "").unwrap();
    finish(child).expect(143);
    drop(stdin);
    let got = read(&scratch, "a") + &read(&scratch, "b");
    assert!(got == line, "{} bytes arrived", got.len());
    assert!(scratch.pull() == line.repeat(2));
}

#[test]
fn a_grandchild_that_keeps_the_pipe_open_is_not_waited_for() {
    let scratch = Scratch::new();
    let script = "cat > \"$0/got\"; (sleep 5; touch \"$0/late\") <&0 >&- 2>&- & exit 0";
    run_with(pipe(&scratch, &[], script), lines(1, 3).as_bytes()).expect(0);
    assert!(!scratch.path("late").exists());
    assert_eq!(read(&scratch, "got"), lines(1, 3));
}

#[test]
fn a_program_that_closes_its_input_is_waited_for() {
    let scratch = Scratch::new();
    let script = "read a; exec <&-; sleep 0.1; echo $a; exit 0";
    let ran = run_with(pipe(&scratch, &[], script), lines(1, 100_000).as_bytes()).expect(0);
    assert_eq!(ran.stdout_text(), "1\n");
    let rest = scratch.pull();
    assert!(rest.starts_with("2\n3\n"), "{:?}", rest.get(..20));
}

#[test]
fn a_record_too_long_is_an_error_and_those_before_it_are_delivered() {
    let scratch = Scratch::new();
    let options = ["--max-record-size", "10B"];
    let ran = run_with(
        pipe(&scratch, &options, "cat"),
        b"one\nfar too long a line\nthree\n",
    )
    .expect(2)
    .says("record 2 of the input, at byte 4,")
    .says("1 record stored and synced");
    assert_eq!(ran.stdout_text(), "one\n");
    assert_eq!(scratch.pull(), "");
}

#[test]
fn a_full_buffer_that_rejects_is_an_error_and_what_it_took_is_delivered() {
    let scratch = Scratch::new();
    let options = ["--max-size", "64KiB", "--when-full", "reject"];
    let script = "while [ ! -e \"$0/go\" ]; do sleep 0.01; done; cat > \"$0/got\"";
    let mut child = pipe(&scratch, &options, script)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than the buffer and the pipe hold together.
    let feeding = std::thread::spawn(move || {
        let _ = stdin.write_all(lines(1, 50_000).as_bytes());
    });
    wait_until("the buffer is full", || {
        let ran = run(scratch.forebay("inspect", &["--quick", "--json"]));
        serde_json::from_slice::<serde_json::Value>(&ran.stdout)
            .is_ok_and(|json| json["unread"]["bytes"].as_u64() > Some(64_000))
    });
    fs::write(scratch.path("go"), "").unwrap();
    // Regression: it named parameters of the library instead of options.
    let ran = finish(child)
        .expect(2)
        .says("is full: it holds as much as --max-size allows");
    assert!(!ran.stderr.contains("max_size"), "{ran:?}");
    feeding.join().unwrap();
    let got = read(&scratch, "got");
    let count = got.lines().count() as u64;
    assert_eq!(got, lines(1, count));
    let said = ran.stderr.replace(',', "");
    assert!(said.contains(&format!("{count} records stored")), "{said}");
}

#[test]
fn a_full_buffer_that_drops_never_holds_the_input_up() {
    let scratch = Scratch::new();
    let options = ["--max-size", "64KiB", "--when-full", "drop-newest"];
    let script = "while [ ! -e \"$0/go\" ]; do sleep 0.01; done; cat > \"$0/got\"";
    let mut child = pipe(&scratch, &options, script)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // `pipe` takes all of it, although its program reads nothing.
    stdin.write_all(lines(1, 50_000).as_bytes()).unwrap();
    drop(stdin);
    fs::write(scratch.path("go"), "").unwrap();
    let ran = finish(child).expect(1);
    let got: Vec<u64> = read(&scratch, "got")
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert!(got.is_sorted_by(|a, b| a < b));
    let said = ran.stderr.replace(',', "");
    let dropped = format!("dropped {} records", 50_000 - got.len());
    assert!(said.contains(&dropped), "{dropped}: {said}");
}

#[test]
fn losses_are_reported_and_change_only_a_status_of_zero() {
    for (script, status) in [("cat", 1), ("cat; exit 4", 4)] {
        let scratch = Scratch::new();
        scratch.push(lines(1, 10));
        scratch.damage_fifth_record();
        let ran = run(pipe(&scratch, &[], script))
            .expect(status)
            .says("lost 1 event");
        assert_eq!(
            ran.stdout_text(),
            format!("{}{}", lines(1, 4), lines(6, 10))
        );
    }
}
