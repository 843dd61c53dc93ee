//! `forebay salvage`.

use crate::moments::Moments;
use crate::support::{Scratch, forebay, kill, lines, run, run_with, snapshot, wait_for_program};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};

fn salvage(scratch: &Scratch, to: Option<&str>, args: &[&str]) -> Command {
    let mut command = scratch.forebay("salvage", args);
    if let Some(to) = to {
        command.arg("--to").arg(scratch.path(to));
    }
    command
}

fn cat(scratch: &Scratch, name: &str) -> String {
    let mut command = forebay(["cat"]);
    command.arg(scratch.path(name));
    run(command).stdout_text()
}

#[test]
fn a_plan_says_what_checks_out_and_writes_nothing() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    let before = snapshot(&scratch.buffer);
    let text = run(salvage(&scratch, None, &[])).expect(1).stdout_text();
    for said in [
        "buffer-data-0.dat: 9 records, 48 B of 480 B are no record",
        "missing: 1 event, id 5",
        "to salvage: 9 records with 9 events",
        "nothing was written; --to does it",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(snapshot(&scratch.buffer), before);
}

#[test]
fn what_checks_out_comes_to_a_new_buffer_without_a_ledger() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    fs::remove_file(scratch.buffer.join("buffer.db")).unwrap();
    let before = snapshot(&scratch.buffer);
    let json = run(salvage(&scratch, Some("new"), &["--json"]))
        .expect(1)
        .stdout_text();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["records"], 9);
    assert_eq!(json["missing"], json!([{"first_id": 5, "last_id": 5}]));
    assert_eq!(snapshot(&scratch.buffer), before);
    let mut verify = forebay(["verify"]);
    verify.arg(scratch.path("new"));
    run(verify).expect(0);
    assert_eq!(cat(&scratch, "new"), lines(1, 4) + &lines(6, 10));
    // Once more, as after a kill.
    let again = run(salvage(&scratch, Some("new"), &[]))
        .expect(1)
        .stdout_text();
    assert!(again.contains("holds them already: 9 records"), "{again}");
    // A buffer with other records is not written over.
    let mut push = forebay(["push"]);
    push.arg(scratch.path("new"));
    run_with(push, b"another\n").expect(0);
    run(salvage(&scratch, Some("new"), &[]))
        .expect(2)
        .says("unread events");
}

#[test]
fn different_buffers_are_put_together_with_new_ids() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let mut push = forebay(["push"]);
    push.arg(scratch.path("other"));
    run_with(push, lines(11, 12).as_bytes()).expect(0);
    let other = scratch.path("other").to_string_lossy().into_owned();
    run(salvage(&scratch, Some("new"), &[&other]))
        .expect(2)
        .says("2 records have the id of another record")
        .says("--renumber");
    assert!(!scratch.path("new").exists());
    let renumbered = run(salvage(&scratch, Some("new"), &[&other, "--renumber"])).expect(1);
    assert!(
        renumbered.stdout_text().contains("all are kept"),
        "{renumbered:?}"
    );
    let new = cat(&scratch, "new");
    let mut come: Vec<u64> = new.lines().map(|line| line.parse().unwrap()).collect();
    come.sort_unstable();
    assert_eq!(come, (1..=12).collect::<Vec<_>>());
}

/// Regression: "1 records have the id of another record".
#[test]
fn one_record_with_the_id_of_another_is_one_record() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let mut push = forebay(["push"]);
    push.arg(scratch.path("other"));
    run_with(push, b"another\n").expect(0);
    let other = scratch.path("other").to_string_lossy().into_owned();
    let ran = run(salvage(&scratch, Some("new"), &[&other])).expect(2);
    assert!(
        ran.stderr
            .starts_with("forebay: 1 record has the id of another record and"),
        "{ran:?}"
    );
}

/// Regression: the help of `repair` and `salvage` did not say that a signal ends them, and what
/// is there afterwards.
#[test]
fn a_signal_ends_a_salvage_and_a_repair_at_once_as_their_help_says() {
    use std::os::unix::process::ExitStatusExt;
    let scratch = Scratch::new();
    let push = scratch.forebay("push", &["--data-file-size", "512KiB"]);
    run_with(push, lines(1, 200_000).as_bytes()).expect(0);
    scratch.damage_fifth_record();
    let kept = lines(1, 4) + &lines(6, 200_000);
    for mut command in [
        scratch.forebay("repair", &["--apply"]),
        salvage(&scratch, Some("new"), &[]),
    ] {
        command.stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        wait_for_program(&child);
        kill(child.id(), "INT");
        assert_eq!(child.wait().unwrap().signal(), Some(2));
    }
    for command in ["repair", "salvage"] {
        let help = run(forebay([command, "--help"])).expect(0).stdout_text();
        assert!(
            help.contains("128 + n  after signal n, which ends the"),
            "{help}"
        );
    }
    run(salvage(&scratch, Some("new"), &[]));
    assert!(cat(&scratch, "new") == kept);
    run(scratch.forebay("repair", &["--apply"])).expect(0);
    assert!(run(scratch.forebay("cat", &[])).stdout_text() == kept);
}

/// Killed at any moment, a salvage leaves no buffer or all of it, and can be made again.
#[test]
fn a_killed_salvage_can_be_made_again() {
    let scratch = Scratch::new();
    let push = scratch.forebay("push", &["--data-file-size", "512KiB"]);
    run_with(push, lines(1, 100_000).as_bytes()).expect(0);
    let before = snapshot(&scratch.buffer);
    let mut moments = Moments::new();
    for round in 0..10 {
        let to = format!("new-{round}");
        let mut command = salvage(&scratch, Some(&to), &["--data-file-size", "256KiB"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        moments.pause(150);
        kill(child.id(), "KILL");
        child.wait().unwrap();
        assert!(snapshot(&scratch.buffer) == before);
        let again = run(salvage(&scratch, Some(&to), &[]));
        if again.status == Some(2) {
            again.says("unread events");
        }
        assert!(cat(&scratch, &to) == lines(1, 100_000), "round {round}");
        fs::remove_dir_all(scratch.path(&to)).unwrap();
    }
}
