//! `forebay inspect`.

use crate::support::{Scratch, copy, finish, golden, lines, run, snapshot};
use serde_json::{Value, json};
use std::fs;

#[test]
fn the_json_has_the_keys_that_programs_rely_on() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    run(scratch.forebay("pull", &["--max", "3"])).expect(0);
    let json = scratch.json("inspect", 0);
    assert_eq!(json["directory"], scratch.buffer.to_str().unwrap());
    assert_eq!(json["locked"], false);
    assert_eq!(json["lock_holder_pid"], Value::Null);
    let ledger = &json["ledger"];
    assert_eq!(ledger["status"], "ok");
    assert_eq!(ledger["writer_next_record_id"], 11);
    assert_eq!(ledger["writer_file_id"], 0);
    assert_eq!(ledger["reader_file_id"], 0);
    assert_eq!(ledger["reader_last_record_id"], 3);
    assert_eq!(json["files"].as_array().unwrap().len(), 1);
    assert_eq!(json["files"][0]["file_id"], 0);
    assert_eq!(json["files"][0]["bytes"], 480);
    assert_eq!(
        json["unread"],
        json!({"records": 7, "events": 7, "bytes": 336})
    );
    assert!(json["oldest_unread_age_seconds"].as_f64().unwrap() >= 0.0);
}

#[test]
fn an_emptied_buffer_has_no_oldest_record() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    scratch.pull();
    let json = scratch.json("inspect", 0);
    assert_eq!(
        json["unread"],
        json!({"records": 0, "events": 0, "bytes": 0})
    );
    assert_eq!(json["oldest_unread_age_seconds"], Value::Null);
    let text = run(scratch.forebay("inspect", &[])).expect(0).stdout_text();
    assert!(text.contains("unread   nothing"), "{text}");
}

/// Regression: it said "the oldest for 0s".
#[test]
fn the_age_of_the_oldest_record_is_told_in_words() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let file = fs::File::options()
        .write(true)
        .open(scratch.buffer.join("buffer-data-0.dat"))
        .unwrap();
    let said = || run(scratch.forebay("inspect", &[])).expect(0).stdout_text();
    // As if the clock had been an hour ahead when the file was written.
    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    file.set_modified(future).unwrap();
    let text = said();
    assert!(text.contains("the oldest for less than a second"), "{text}");
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(7230);
    file.set_modified(past).unwrap();
    let text = said();
    assert!(text.contains("the oldest for 2h "), "{text}");
}

#[test]
fn an_open_buffer_is_described_with_its_holder() {
    let scratch = Scratch::new();
    let (holder, stdin) = scratch.held(&lines(1, 5));
    let before = snapshot(&scratch.buffer);
    let json = scratch.json("inspect", 0);
    assert_eq!(json["locked"], true);
    if cfg!(target_os = "linux") {
        assert_eq!(json["lock_holder_pid"], holder.id());
        let text = run(scratch.forebay("inspect", &[])).expect(0).stdout_text();
        assert!(text.contains(&format!("open in process {}", holder.id())));
    }
    assert_eq!(json["unread"]["records"], 5);
    assert_eq!(snapshot(&scratch.buffer), before);
    drop(stdin);
    finish(holder).expect(0);
}

#[test]
fn a_missing_and_a_damaged_ledger_are_said_to_be_so() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let ledger = scratch.buffer.join("buffer.db");
    fs::write(&ledger, [0xff; 24]).unwrap();
    assert_eq!(scratch.json("inspect", 0)["ledger"]["status"], "damaged");
    let text = run(scratch.forebay("inspect", &[])).expect(0).stdout_text();
    assert!(text.contains("rebuilds it from the data files"), "{text}");
    fs::remove_file(&ledger).unwrap();
    let json = scratch.json("inspect", 0);
    assert_eq!(json["ledger"]["status"], "missing");
    assert_eq!(json["ledger"]["writer_next_record_id"], Value::Null);
    assert_eq!(json["unread"]["records"], 3);
    assert!(!ledger.exists());
}

#[test]
fn a_quick_look_does_not_count_records() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let ran = run(scratch.forebay("inspect", &["--quick", "--json"])).expect(0);
    let json: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(json["unread"]["records"], Value::Null);
    assert_eq!(json["unread"]["events"], 3);
}

#[test]
fn every_golden_buffer_is_described_as_expected_and_left_alone() {
    let expected: Value =
        serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    for (name, expected) in expected.as_object().unwrap() {
        let scratch = Scratch::new();
        copy(&golden(name), &scratch.buffer);
        let before = snapshot(&scratch.buffer);
        let json = scratch.json("inspect", 0);
        run(scratch.forebay("verify", &[]));
        run(scratch.forebay("cat", &["--all"]));
        assert_eq!(snapshot(&scratch.buffer), before, "{name}");
        if name == "c-ledger-garbage" {
            // Each field is a possible value, but they do not fit the data files.
            assert_ne!(json["ledger"]["status"], "missing");
        } else {
            assert_eq!(
                json["ledger"]["status"], expected["ledger_status"],
                "{name}"
            );
        }
        for file in expected["files"].as_array().unwrap() {
            let found = json["files"].as_array().unwrap().iter();
            let mut found = found.filter(|f| f["file_id"] == file["file_id"]);
            assert_eq!(found.next().unwrap()["bytes"], file["bytes"], "{name}");
        }
    }
}
