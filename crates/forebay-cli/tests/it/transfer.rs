//! `forebay move`, `copy`, `redrive` and `skip`.

use crate::moments::Moments;
use crate::support::{
    Scratch, copy, fill_counting_lines, forebay, golden, kill, lines, run, run_with, snapshot,
};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// `forebay COMMAND BUFFER OTHER ARGS…`
fn between(scratch: &Scratch, command: &str, other: &str, args: &[&str]) -> Command {
    let mut forebay = forebay([command]);
    forebay
        .arg(&scratch.buffer)
        .arg(scratch.path(other))
        .args(args);
    forebay
}

fn cat(directory: &Path) -> String {
    let mut command = forebay(["cat"]);
    command.arg(directory);
    run(command).expect(0).stdout_text()
}

#[test]
fn what_is_moved_is_there_and_gone_here() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 100));
    let moved = run(between(&scratch, "move", "other", &["--max", "30"])).expect(0);
    let text = moved.stdout_text();
    assert!(text.contains("moved 30 records with 30 events"), "{text}");
    assert!(text.contains("may have more"), "{text}");
    assert_eq!(scratch.cat(), lines(31, 100));
    let before = ["--before", "51", "--rate", "1GiB/s", "--json"];
    let moved = run(between(&scratch, "move", "other", &before))
        .expect(0)
        .stdout_text();
    let moved: Value = serde_json::from_str(&moved).unwrap();
    assert_eq!(
        (&moved["records"], &moved["complete"]),
        (&json!(20), &json!(false))
    );
    let text = run(between(&scratch, "move", "other", &[]))
        .expect(0)
        .stdout_text();
    assert!(text.contains("is empty"), "{text}");
    assert_eq!(scratch.cat(), "");
    assert_eq!(cat(&scratch.path("other")), lines(1, 100));
}

#[test]
fn a_copy_goes_on_where_the_last_one_ended() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 100));
    run(between(&scratch, "copy", "other", &[])).expect(0);
    scratch.push(lines(101, 120));
    let text = run(between(&scratch, "copy", "other", &[]))
        .expect(0)
        .stdout_text();
    assert!(text.contains("copied 20 records"), "{text}");
    assert!(text.contains("100 records had been taken before"), "{text}");
    assert_eq!(scratch.cat(), lines(1, 120));
    assert_eq!(cat(&scratch.path("other")), lines(1, 120));
}

/// A move that is killed again and again, at any moment, while the target is also fed and read,
/// takes each record once.
#[test]
fn a_killed_move_loses_nothing_and_takes_nothing_twice() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 100_000));
    let other = scratch.path("other");
    let mut moments = Moments::new();
    let mut come = String::new();
    let args = ["--data-file-size", "64KiB"];
    for round in 0..12 {
        let mut command = between(&scratch, "move", "other", &args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        moments.pause(60);
        kill(child.id(), "KILL");
        child.wait().unwrap();
        if round % 3 == 1 && other.exists() {
            let mut pull = forebay(["pull"]);
            pull.arg(&other).args(["--max", "5000"]);
            come += &run(pull).expect(0).stdout_text();
        }
        if round % 4 == 2 {
            let mut push = forebay(["push"]);
            push.arg(&other);
            run_with(push, b"foreign\n").expect(0);
        }
    }
    run(between(&scratch, "move", "other", &args)).expect(0);
    let mut pull = forebay(["pull"]);
    pull.arg(&other);
    come += &run(pull).expect(0).stdout_text();
    let foreign = come.matches("foreign\n").count();
    assert_eq!(foreign, 3);
    assert!(
        come.replace("foreign\n", "") == lines(1, 100_000),
        "lost, twice, or out of order"
    );
}

/// Ctrl-C ends a slow move; what was taken is in the target, and the rest stays.
#[test]
fn an_interrupted_move_keeps_what_it_took() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 100_000));
    let mut command = between(&scratch, "move", "other", &["--rate", "10KiB/s"]);
    command.stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    // The file that is being written says that the move has begun.
    let staged = scratch.path("other/repair/buffer-data-0.dat");
    crate::support::wait_until("the move begins", || staged.exists());
    kill(child.id(), "INT");
    let ran = crate::support::finish(child);
    assert_eq!(ran.status, Some(128 + 2), "{ran:?}");
    let taken = cat(&scratch.path("other"));
    assert_eq!(taken + &scratch.cat(), lines(1, 100_000));
}

#[test]
fn dead_letters_go_back_as_they_were() {
    let scratch = Scratch::new();
    let input: Vec<u8> = [
        &b"a line\n"[..],
        b"\xff\xfe not text\n",
        b"\n",
        b"\"quoted\"\n",
    ]
    .concat();
    scratch.push(&input);
    let dead = scratch.path("dead").to_string_lossy().into_owned();
    let args = [
        "--max",
        "4",
        "--to",
        &dead,
        "--yes",
        "--reason",
        "for a test",
    ];
    let text = run(scratch.forebay("skip", &args)).expect(0).stdout_text();
    assert!(text.contains("4 records with 4 events"), "{text}");
    let letters = cat(scratch.path("dead").as_path());
    let letter: Value = serde_json::from_str(letters.lines().next().unwrap()).unwrap();
    assert_eq!(letter["reason"], "for a test");
    assert_eq!((&letter["id"], &letter["attempts"]), (&json!(1), &json!(0)));
    let mut redrive = forebay(["redrive", &dead]);
    redrive.arg(&scratch.buffer);
    run(redrive).expect(0);
    assert_eq!(run(scratch.forebay("cat", &[])).expect(0).stdout, input);
    // What is no letter stays, and is named.
    let mut push = forebay(["push", &dead]);
    run_with(
        std::mem::replace(&mut push, forebay(["push", &dead])),
        b"no letter\n",
    )
    .expect(0);
    let mut redrive = forebay(["redrive", &dead]);
    redrive.arg(&scratch.buffer);
    run(redrive)
        .expect(2)
        .says("record 5 of")
        .says("no dead letter of `pipe` or `skip` (`move` takes any record)");
    assert_eq!(cat(scratch.path("dead").as_path()), "no letter\n");
}

/// What a program failed on goes back, and is tried as often as before.
#[test]
fn letters_of_a_pipe_can_be_sent_again() {
    let scratch = Scratch::new();
    let dead = scratch.path("dead").to_string_lossy().into_owned();
    let aside = ["--max-attempts", "1", "--dead-letters", &dead];
    let pipe = |command: &str| {
        let mut args = aside.to_vec();
        args.extend(["--", "sh", "-c", command]);
        scratch.forebay("pipe", &args)
    };
    run_with(pipe("read -r line; exit 1"), b"one\ntwo\n");
    assert_eq!(cat(scratch.path("dead").as_path()).lines().count(), 2);
    let mut redrive = forebay(["redrive", &dead]);
    redrive.arg(&scratch.buffer);
    run(redrive).expect(0);
    assert_eq!(run(pipe("cat")).expect(0).stdout_text(), "one\ntwo\n");
}

/// Regression: the help of `redrive` said "records of DEAD are lost", and has no such argument.
#[test]
fn the_help_of_a_redrive_names_its_own_arguments() {
    let help = run(forebay(["redrive", "--help"])).expect(0).stdout_text();
    assert!(help.contains("records of FROM are lost"), "{help}");
    assert!(!help.contains("DEAD"), "{help}");
}

#[test]
fn only_what_is_named_is_skipped() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 20));
    let before = snapshot(&scratch.buffer);
    let discard = |args: &[&str]| {
        let mut all = args.to_vec();
        all.push("--discard");
        scratch.forebay("skip", &all)
    };
    run(discard(&["--max", "3"]))
        .expect(2)
        .says("3 records (ids 1 to 3")
        .says("--yes");
    run(discard(&["--id", "4", "--yes"]))
        .expect(2)
        .says("--before 5");
    run(discard(&["--yes"])).expect(2);
    run(scratch.forebay("skip", &["--max", "1", "--yes"])).expect(2);
    assert_eq!(snapshot(&scratch.buffer), before);
    run(discard(&["--id", "1", "--yes"])).expect(0);
    run(discard(&["--id", "1", "--yes"]))
        .expect(2)
        .says("it was acknowledged");
    run(discard(&["--max", "4", "--yes"])).expect(0);
    let json = run(discard(&["--before", "11", "--yes", "--json"]))
        .expect(0)
        .stdout_text();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["records"], 5);
    assert_eq!(scratch.cat(), lines(11, 20));
    // The only file is new.
    let text = run(discard(&["--older-than", "1h", "--yes"]))
        .expect(0)
        .stdout_text();
    assert!(
        text.contains("0 records") && text.contains("carry no time"),
        "{text}"
    );
    run(discard(&["--older-than", "0s", "--yes"])).expect(0);
    assert_eq!(scratch.cat(), "");
}

/// Files that were last written to before the time go; the first younger one, and all after it,
/// stay.
#[test]
fn old_files_are_skipped() {
    let scratch = Scratch::new();
    let push = scratch.forebay("push", &["--data-file-size", "64KiB"]);
    run_with(push, lines(1, 5000).as_bytes()).expect(0);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(100_000);
    for file in [
        "buffer-data-0.dat",
        "buffer-data-1.dat",
        "buffer-data-3.dat",
    ] {
        let file = fs::File::options()
            .write(true)
            .open(scratch.buffer.join(file))
            .unwrap();
        file.set_modified(old).unwrap();
    }
    let args = ["--older-than", "1d", "--discard", "--yes", "--json"];
    let json = run(scratch.forebay("skip", &args)).expect(0).stdout_text();
    let json: Value = serde_json::from_str(&json).unwrap();
    let skipped = json["records"].as_u64().unwrap();
    assert!((2000..3000).contains(&skipped), "{skipped}");
    assert_eq!(scratch.cat(), lines(skipped + 1, 5000));
}

#[test]
fn transfers_refuse_what_they_cannot_do() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let mut nothing = forebay(["move"]);
    nothing
        .arg(scratch.path("missing"))
        .arg(scratch.path("other"));
    run(nothing).expect(2).says("there is no buffer at");
    let mut itself = forebay(["move"]);
    itself.args([&scratch.buffer, &scratch.buffer]);
    run(itself).expect(2).says("the same directory");
    fs::create_dir(scratch.path("docs")).unwrap();
    fs::write(scratch.path("docs/page.md"), "text").unwrap();
    run(between(&scratch, "move", "docs", &[]))
        .expect(2)
        .says("is not a buffer");
    run(between(&scratch, "move", "other", &["--rate", "0"])).expect(2);
    run(between(&scratch, "move", "other", &["--max-size", "300"]))
        .expect(2)
        .says("--max-size");
    assert_eq!(cat(&scratch.path("other")) + &scratch.cat(), lines(1, 10));
}

/// The target counts as every command reads it, however the source counted. Regression: it counted
/// like the source, and seemed to have lost events.
#[test]
fn a_target_counts_as_it_will_be_read() {
    let scratch = Scratch::new();
    fill_counting_lines(&scratch.buffer, 10);
    for (how, name) in [("lines", "a"), ("ids", "b")] {
        run(between(&scratch, "copy", name, &["--count-events", how])).expect(0);
        let mut verify = forebay(["verify"]);
        verify.arg(scratch.path(name));
        run(verify).expect(0);
    }
}

/// Vector opens no buffer that holds a record with another number than its own.
#[test]
fn a_buffer_of_vectors_takes_only_records_like_its_own() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    copy(&golden("vector-events"), &scratch.path("vector"));
    let before = snapshot(&scratch.path("vector"));
    run(between(&scratch, "move", "vector", &[]))
        .expect(2)
        .says("record 1 of")
        .says("a buffer of Vector's");
    assert_eq!(scratch.cat(), lines(1, 3));
    for (path, bytes) in before {
        if path.to_string_lossy().ends_with(".dat") {
            assert!(fs::read(&path).unwrap() == bytes, "{}", path.display());
        }
    }
    let mut moved = forebay(["move", "--json"]);
    moved.arg(scratch.path("vector")).arg(scratch.path("other"));
    run(moved).expect(0);
    copy(&golden("vector-events"), &scratch.path("vector-2"));
    let mut moved = forebay(["move", "--json"]);
    moved
        .arg(scratch.path("vector-2"))
        .arg(scratch.path("other"));
    run(moved).expect(0);
}

/// What a reader would get of each golden buffer is moved, and losses are reported.
#[test]
fn golden_buffers_are_moved() {
    for entry in fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() || path.to_string_lossy().contains("multi") {
            continue;
        }
        let scratch = Scratch::new();
        copy(&path, &scratch.buffer);
        let expected = run(scratch.forebay("cat", &["--framing", "length"])).stdout;
        let moved = run(between(&scratch, "move", "other", &["--json"]));
        assert!(
            matches!(moved.status, Some(0 | 1)),
            "{}: {moved:?}",
            path.display()
        );
        let moved: Value = serde_json::from_str(&moved.stdout_text()).unwrap();
        assert_eq!(moved["complete"], true, "{}", path.display());
        let mut cat = forebay(["cat", "--framing", "length"]);
        cat.arg(scratch.path("other"));
        assert!(run(cat).expect(0).stdout == expected, "{}", path.display());
    }
}

/// A buffer in use is refused with what can be done, and nothing is made where its records were to
/// go.
#[test]
fn a_move_from_a_buffer_in_use_makes_nothing() {
    let scratch = Scratch::new();
    let (mut holder, stdin) = scratch.held("one\n");
    let to = scratch.path("to");
    for command in ["move", "drain"] {
        let mut refused = scratch.forebay(command, &[]);
        if command == "drain" {
            refused.arg("--to");
        }
        refused.arg(&to);
        run(refused).expect(2).says("stop that process first");
        assert!(!to.exists(), "{command}");
    }
    let mut copy = scratch.forebay("copy", &[]);
    copy.arg(&to);
    run(copy).expect(0);
    drop(stdin);
    holder.wait().unwrap();
    assert_eq!(cat(&to), "one\n");
}

/// Regression: events that were lost after the last record stayed unread for ever, and `skip` said
/// that all was well.
#[test]
fn a_skip_of_everything_goes_past_what_is_lost_at_the_end() {
    for which in [&["--max", "100"][..], &["--before", "11"]] {
        let scratch = Scratch::new();
        scratch.push(lines(1, 10));
        let file = scratch.buffer.join("buffer-data-0.dat");
        let mut bytes = fs::read(&file).unwrap();
        let len = bytes.len();
        bytes[len - 40..].fill(b'?');
        fs::write(&file, bytes).unwrap();
        let options = [which, &["--discard", "--yes"]].concat();
        run(scratch.forebay("skip", &options))
            .expect(1)
            .says("lost 1 event (id 10)");
        let unread = scratch.json("inspect", 0)["unread"].clone();
        assert_eq!(
            (&unread["records"], &unread["events"]),
            (&json!(0), &json!(0))
        );
        run(scratch.forebay("skip", &options)).expect(0);
    }
    // Nothing is skipped that was not named.
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    run(scratch.forebay("skip", &["--before", "4", "--discard", "--yes"])).expect(0);
    assert_eq!(scratch.cat(), lines(4, 10));
}
