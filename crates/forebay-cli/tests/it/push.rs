//! `forebay push`.

use crate::support::{Scratch, copy, finish, golden, kill, lines, read_line, run, run_with};
use crate::support::{snapshot, wait_until};
use std::io::Write;
use std::process::Stdio;

#[test]
fn lines_come_out_as_they_went_in() {
    let scratch = Scratch::new();
    let input = b"first\n\n\xff\xfe\x00binary\r\n  spaces  \nlast without newline";
    run_with(scratch.forebay("push", &[]), input).expect(0);
    let ran = run(scratch.forebay("pull", &[])).expect(0);
    assert_eq!(ran.stdout, [&input[..], b"\n"].concat());
}

#[test]
fn an_empty_input_makes_an_empty_buffer() {
    let scratch = Scratch::new();
    scratch.push("");
    assert_eq!(scratch.json("inspect", 0)["unread"]["records"], 0);
    assert_eq!(scratch.pull(), "");
}

#[test]
fn records_may_be_told_apart_by_zero_bytes_or_by_their_lengths() {
    for (options, input) in [
        (&["--delimiter", "nul"][..], &b"a\nb\0\0c\0"[..]),
        (
            &["--framing", "length"],
            b"\0\0\0\x03a\nb\0\0\0\0\0\0\0\x01\0",
        ),
    ] {
        let scratch = Scratch::new();
        run_with(scratch.forebay("push", options), input).expect(0);
        assert_eq!(scratch.json("inspect", 0)["unread"]["records"], 3);
        let ran = run(scratch.forebay("pull", options)).expect(0);
        assert_eq!(ran.stdout, input);
    }
}

#[test]
fn a_framing_without_delimiter_refuses_one() {
    let scratch = Scratch::new();
    let options = ["--framing", "length", "--delimiter", "nul"];
    run(scratch.forebay("push", &options))
        .expect(2)
        .says("leave --delimiter out");
    assert!(!scratch.buffer.exists());
}

#[test]
fn a_record_of_the_maximum_is_stored_and_one_byte_more_is_refused() {
    let scratch = Scratch::new();
    let options = ["--max-record-size", "100B"];
    let fits = format!("a\n{}\n", "x".repeat(100));
    run_with(scratch.forebay("push", &options), fits.as_bytes()).expect(0);
    let over = format!("b\n{}\nnever\n", "x".repeat(101));
    let ran = run_with(scratch.forebay("push", &options), over.as_bytes())
        .expect(2)
        .says("record 2 of the input, at byte 2,")
        .says("longest record allowed has 100")
        .says("--max-record-size")
        .says("1 record stored and synced");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert_eq!(scratch.pull(), format!("{fits}b\n"));
}

/// Regression: the advice was to raise `--max-record-size`, which then failed.
#[test]
fn a_record_too_long_for_a_data_file_names_the_option_that_helps() {
    let over = "x".repeat(40_000);
    for (options, says) in [
        (
            &["--max-size", "64KiB"][..],
            "raise --data-file-size or --max-size, or split",
        ),
        (
            &["--data-file-size", "32KiB"],
            "raise --data-file-size, or split",
        ),
    ] {
        let scratch = Scratch::new();
        run_with(scratch.forebay("push", options), over.as_bytes())
            .expect(2)
            .says(says);
    }
}

#[test]
fn an_endless_line_is_refused_while_it_comes() {
    let scratch = Scratch::new();
    let mut child = scratch
        .forebay("push", &["--max-record-size", "100KiB"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // The input is never closed: the refusal must not wait for the end of the line.
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        while stdin.write_all(&[b'x'; 4096]).is_ok() {}
        stdin
    });
    finish(child).expect(2).says("is longer than 102400 bytes");
    drop(feeding.join());
}

#[test]
fn a_length_that_is_cut_off_is_an_error() {
    let scratch = Scratch::new();
    let ran = run_with(
        scratch.forebay("push", &["--framing", "length"]),
        b"\0\0\0\x02ok\0\0\0\x09short",
    );
    ran.expect(2)
        .says("record 2 of the input, at byte 6, is cut off: the input ends after 5 of its 9");
    assert_eq!(scratch.pull(), "ok\n");
}

#[test]
fn a_full_buffer_that_rejects_says_how_many_records_it_took() {
    let scratch = Scratch::new();
    let options = ["--max-size", "64KiB", "--when-full", "reject"];
    let ran = run_with(scratch.forebay("push", &options), lines(1, 5000).as_bytes())
        .expect(2)
        .says("is full");
    let stored = scratch.cat().lines().count();
    assert!((1..5000).contains(&stored), "{stored} stored");
    assert_eq!(scratch.cat(), lines(1, stored as u64));
    let said = ran.stderr.replace(',', "");
    assert!(
        said.contains(&format!("{stored} records stored and synced")),
        "{said}"
    );
}

#[test]
fn a_full_buffer_that_drops_counts_what_it_dropped() {
    let scratch = Scratch::new();
    let options = ["--max-size", "64KiB", "--when-full", "drop-newest"];
    let ran = run_with(scratch.forebay("push", &options), lines(1, 5000).as_bytes()).expect(1);
    let stored = scratch.cat();
    let dropped = 5000 - stored.lines().count();
    assert!(dropped > 0 && dropped < 5000);
    assert_eq!(stored, lines(1, stored.lines().count() as u64));
    let said = ran.stderr.replace(',', "");
    assert!(
        said.contains(&format!("dropped {dropped} records")),
        "{said}"
    );
}

#[test]
fn a_full_buffer_that_blocks_lets_a_pull_make_room() {
    let scratch = Scratch::new();
    let mut push = scratch
        .forebay("push", &["--max-size", "64KiB"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = push.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || stdin.write_all(lines(1, 5000).as_bytes()));
    let mut stderr = push.stderr.take().unwrap();
    assert!(read_line(&mut stderr).contains("is full; waiting"));
    let mut pulled = String::new();
    while pulled.lines().count() < 5000 {
        let ran = run(scratch.forebay("pull", &["--wait", "10s"])).expect(0);
        pulled.push_str(&ran.stdout_text());
    }
    feeding.join().unwrap().unwrap();
    finish(push).expect(0);
    assert_eq!(pulled, lines(1, 5000));
    // The buffer is full again and again; the push says so once.
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn synced_records_are_reported_as_they_become_so() {
    let scratch = Scratch::new();
    let mut push = scratch
        .forebay("push", &["--report-synced", "--flush-interval", "1ms"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = push.stdin.take().unwrap();
    let mut stdout = push.stdout.take().unwrap();
    for n in 1..=3_u64 {
        writeln!(stdin, "{n}").unwrap();
        // Reported without waiting for more input.
        assert_eq!(read_line(&mut stdout), n.to_string());
    }
    stdin.write_all(lines(4, 1000).as_bytes()).unwrap();
    drop(stdin);
    let mut last = 3;
    loop {
        match read_line(&mut stdout).as_str() {
            "" => break,
            number => {
                let number = number.parse().unwrap();
                assert!(number > last);
                last = number;
            }
        }
    }
    assert_eq!(last, 1000);
    finish(push).expect(0);
}

#[test]
fn every_sync_policy_keeps_the_records() {
    for policy in ["interval", "batch", "never"] {
        let scratch = Scratch::new();
        run_with(
            scratch.forebay("push", &["--sync", policy]),
            lines(1, 100).as_bytes(),
        )
        .expect(0);
        assert_eq!(scratch.pull(), lines(1, 100));
    }
}

#[test]
fn pushes_are_appended_to_what_is_there() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    scratch.push(lines(4, 5));
    assert_eq!(scratch.pull(), lines(1, 5));
    scratch.push(lines(6, 7));
    assert_eq!(scratch.pull(), lines(6, 7));
}

#[cfg(unix)]
#[test]
fn a_signal_syncs_what_was_read_and_leaves_an_unfinished_line() {
    for (signal, status) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let scratch = Scratch::new();
        let mut push = scratch
            .forebay("push", &["--report-synced", "--flush-interval", "1ms"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = push.stdin.take().unwrap();
        stdin.write_all(b"one\ntwo\nunfin").unwrap();
        let mut stdout = push.stdout.take().unwrap();
        while read_line(&mut stdout) != "2" {}
        kill(push.id(), signal);
        finish(push)
            .expect(status)
            .says("5 bytes of an unfinished record read but not stored");
        drop(stdin);
        assert_eq!(scratch.pull(), "one\ntwo\n");
    }
}

/// Regression: after a signal the last number was not printed, so the sender of the records
/// did not learn that they were synced.
#[cfg(unix)]
#[test]
fn the_last_report_comes_after_a_signal() {
    let scratch = Scratch::new();
    // With this interval the first report would come after an hour.
    let mut push = scratch
        .forebay("push", &["--report-synced", "--flush-interval", "1h"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = push.stdin.take().unwrap();
    stdin.write_all(lines(1, 7).as_bytes()).unwrap();
    wait_until("the records are written", || {
        scratch.buffer.join("buffer.db").is_file() && scratch.cat() == lines(1, 7)
    });
    kill(push.id(), "TERM");
    let ran = finish(push).expect(143);
    drop(stdin);
    assert_eq!(ran.stdout_text(), "7\n");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_wait_of_a_full_buffer() {
    let scratch = Scratch::new();
    let mut push = scratch
        .forebay("push", &["--max-size", "64KiB"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = push.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        let _ = stdin.write_all(lines(1, 5000).as_bytes());
        stdin
    });
    let mut stderr = push.stderr.take().unwrap();
    assert!(read_line(&mut stderr).contains("is full; waiting"));
    kill(push.id(), "TERM");
    finish(push).expect(143);
    drop(feeding.join());
    let stored = scratch.cat();
    assert_eq!(stored, lines(1, stored.lines().count() as u64));
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_from_the_start_stays_ignored() {
    let scratch = Scratch::new();
    let mut shell = std::process::Command::new("sh");
    let mut push = shell
        .args([
            "-c",
            "trap '' HUP; exec \"$0\" push \"$1\" --report-synced --flush-interval 1ms",
        ])
        .arg(env!("CARGO_BIN_EXE_forebay"))
        .arg(&scratch.buffer)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = push.stdin.take().unwrap();
    let mut stdout = push.stdout.take().unwrap();
    stdin.write_all(b"before\n").unwrap();
    assert_eq!(read_line(&mut stdout), "1");
    kill(push.id(), "HUP");
    stdin.write_all(b"behind\n").unwrap();
    assert_eq!(read_line(&mut stdout), "2");
    drop(stdin);
    finish(push).expect(0);
    assert_eq!(scratch.pull(), "before\nbehind\n");
}

#[test]
fn a_buffer_in_use_is_an_error_or_waited_for() {
    let scratch = Scratch::new();
    let (holder, stdin) = scratch.held("1\n");

    let ran = run_with(scratch.forebay("push", &[]), b"2\n")
        .expect(2)
        .says("buffer.lock")
        .says("--wait");
    if cfg!(target_os = "linux") {
        let holder = format!("process {}", holder.id());
        assert!(ran.stderr.contains(&holder), "{ran:?}");
    }

    let waiting = scratch.forebay("push", &["--wait", "1m"]);
    let waiting = std::thread::spawn(move || run_with(waiting, b"2\n"));
    // It must not open the buffer while the holder has the lock.
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!waiting.is_finished());
    drop(stdin);
    finish(holder).expect(0);
    waiting.join().unwrap().expect(0);
    assert_eq!(scratch.pull(), "1\n2\n");
}

/// Regression: it ended with status 0, which says that everything is synced, although the
/// files no longer had names.
#[cfg(unix)]
#[test]
fn a_buffer_that_was_removed_meanwhile_is_an_error() {
    let scratch = Scratch::new();
    let (push, mut stdin) = scratch.held("1\n");
    std::fs::remove_dir_all(&scratch.buffer).unwrap();
    stdin.write_all(b"2\n").unwrap();
    drop(stdin);
    finish(push)
        .expect(2)
        .says("was removed while it was open")
        .says("0 records stored and synced");
}

#[test]
fn a_closed_report_does_not_stop_the_push() {
    let scratch = Scratch::new();
    let mut push = scratch
        .forebay("push", &["--report-synced", "--flush-interval", "1ms"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    drop(push.stdout.take());
    let mut stdin = push.stdin.take().unwrap();
    for n in 1..=3 {
        writeln!(stdin, "{n}").unwrap();
        wait_until("the record is stored", || {
            scratch.buffer.join("buffer.db").is_file() && scratch.cat() == lines(1, n)
        });
    }
    drop(stdin);
    finish(push).expect(0);
    assert_eq!(scratch.pull(), lines(1, 3));
}

/// Regression: under `SyncPolicy::Never` the sync of the ledger was always due, and the
/// buffer's thread checked it without a pause.
#[cfg(target_os = "linux")]
#[test]
fn nothing_wakes_up_where_nothing_is_due() {
    let scratch = Scratch::new();
    let mut command = scratch.forebay("push", &["--sync", "never"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"alone\n").unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    let sleeps = || -> u64 {
        let tasks = std::fs::read_dir(&tasks).unwrap();
        let of = |task: std::io::Result<std::fs::DirEntry>| -> u64 {
            let status = std::fs::read_to_string(task.unwrap().path().join("status"));
            let status = status.unwrap_or_default();
            let line = |line: &str| {
                line.strip_prefix("voluntary_ctxt_switches:")?
                    .trim()
                    .parse()
                    .ok()
            };
            status.lines().find_map(line).unwrap_or(0)
        };
        tasks.map(of).sum()
    };
    // Longer than the flush interval, so anything that was due is done by then.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let before = sleeps();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let more = sleeps() - before;
    assert!(more < 100, "woken {more} times");
    drop(input);
    finish(child).expect(0);
}

/// Vector opens a buffer only if each record has the metadata 1.
#[test]
fn a_buffer_of_vector_takes_records_only_with_metadata() {
    for name in ["vector-events", "three-meta1"] {
        let scratch = Scratch::new();
        copy(&golden(name), &scratch.buffer);
        let before = snapshot(&scratch.buffer);
        let refused = "is a buffer of Vector's";
        run_with(scratch.forebay("push", &[]), b"plain\n")
            .expect(2)
            .says(refused)
            .says("--metadata 1");
        run_with(scratch.forebay("pipe", &["--", "cat"]), b"plain\n")
            .expect(2)
            .says(refused);
        assert_eq!(snapshot(&scratch.buffer), before, "{name}");
        run_with(scratch.forebay("push", &["--metadata", "1"]), b"told\n").expect(0);
        let newest = forebay::RecordsOptions::new().newest(&scratch.buffer);
        let newest = newest.unwrap().unwrap();
        assert_eq!((newest.metadata, &newest.payload[..]), (1, &b"told"[..]));
        // Also when all is acknowledged and still on disk.
        run(scratch.forebay("pull", &["--framing", "length"])).expect(0);
        run_with(scratch.forebay("push", &[]), b"plain\n")
            .expect(2)
            .says(refused);
        run_with(scratch.forebay("push", &["--metadata", "0"]), b"plain\n").expect(0);
        run_with(scratch.forebay("push", &["--metadata", "x"]), b"").expect(2);
    }
}

#[test]
fn other_buffers_need_no_metadata() {
    for name in ["empty", "hundred", "hundred-meta5", "multi-event"] {
        let scratch = Scratch::new();
        copy(&golden(name), &scratch.buffer);
        run_with(scratch.forebay("push", &[]), b"plain\n").expect(0);
        let newest = forebay::RecordsOptions::new().newest(&scratch.buffer);
        assert_eq!(newest.unwrap().unwrap().metadata, 0, "{name}");
    }
    // The oldest unread record may be Vector's, too.
    let scratch = Scratch::new();
    run_with(scratch.forebay("push", &["--metadata", "1"]), b"one\n").expect(0);
    run_with(scratch.forebay("push", &["--metadata", "9"]), b"two\n").expect(0);
    run_with(scratch.forebay("push", &[]), b"three\n")
        .expect(2)
        .says("its record 1");
    // And payloads of Vector's under another number.
    let (from, to) = (Scratch::new(), Scratch::new());
    copy(&golden("vector-events"), &from.buffer);
    let events = run(from.forebay("pull", &["--framing", "length"]))
        .expect(0)
        .stdout;
    let length = ["--framing", "length"];
    run_with(to.forebay("push", &length), &events).expect(0);
    run_with(to.forebay("push", &[]), b"plain\n")
        .expect(2)
        .says("in Vector's encoding, with the metadata 0");
}

/// Records that hold several events get the ids that Vector would give them.
#[test]
fn events_of_vector_are_counted_when_they_are_stored() {
    let (from, to) = (Scratch::new(), Scratch::new());
    copy(&golden("vector-events"), &from.buffer);
    let expected = run(from.forebay("cat", &["--json"]))
        .expect(0)
        .stdout_text();
    let events = run(from.forebay("pull", &["--framing", "length"]))
        .expect(0)
        .stdout;
    let args = ["--framing", "length", "--metadata", "1"];
    run_with(to.forebay("push", &args), &events).expect(0);
    let stored = run(to.forebay("cat", &["--json"])).expect(0).stdout_text();
    assert_eq!(stored, expected);
}
