//! `forebay verify`.

use crate::support::{Scratch, copy, golden, lines, run, snapshot};
use serde_json::{Value, json};
use std::fs;

#[test]
fn a_healthy_buffer_has_no_findings() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let before = snapshot(&scratch.buffer);
    let json = scratch.json("verify", 0);
    assert_eq!(json["records"], 10);
    assert_eq!(json["events"], 10);
    assert_eq!(json["bytes"], 480);
    assert_eq!(json["findings"], json!([]));
    assert_eq!(json["events_lost"], 0);
    let text = run(scratch.forebay("verify", &[])).expect(0).stdout_text();
    assert!(text.contains("no damage; nothing is lost"), "{text}");
    assert_eq!(snapshot(&scratch.buffer), before);
}

#[test]
fn a_damaged_record_is_one_finding_with_its_place() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    let json = scratch.json("verify", 1);
    assert_eq!(json["records"], 9);
    assert_eq!(json["events_lost"], 1);
    assert_eq!(
        json["findings"],
        json!([{
            "kind": "checksum",
            "severity": "damage",
            "file": "buffer-data-0.dat",
            "offset": 192,
            "length": 48,
            "events_lost": 1,
        }])
    );
    let text = run(scratch.forebay("verify", &[])).expect(1).stdout_text();
    assert!(text.contains("damaged; 1 event lost"), "{text}");
    assert!(!text.contains('\x1b'), "colours on no terminal: {text:?}");
}

/// Regression: it promised to keep the damaged bytes whatever was wrong, also if no bytes
/// were damaged.
#[test]
fn only_damaged_bytes_are_said_to_be_kept() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let path = scratch.buffer.join("buffer-data-0.dat");
    let whole = fs::read(&path).unwrap();
    let said = || run(scratch.forebay("verify", &[])).expect(1).stdout_text();

    // The last record is not there.
    fs::write(&path, &whole[..9 * 48]).unwrap();
    let text = said();
    assert!(text.contains("damaged; 1 event lost"), "{text}");
    assert!(text.contains("delivers all other records\n"), "{text}");

    // Damaged padding, which the reader corrects.
    let mut mended = whole.clone();
    mended[2 * 48 + 9] ^= 1;
    fs::write(&path, &mended).unwrap();
    let text = said();
    assert!(text.contains("damaged; nothing is lost"), "{text}");
    assert!(!text.contains("quarantine"), "{text}");
    run(scratch.forebay("pull", &["--no-ack"])).expect(0);
    assert!(!scratch.buffer.join("quarantine").exists());

    // The payload of the fifth record.
    let mut damaged = whole;
    damaged[4 * 48 + 8] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let text = said();
    assert!(
        text.contains("and keeps the damaged bytes in quarantine/"),
        "{text}"
    );
    run(scratch.forebay("pull", &[])).expect(1);
    assert!(scratch.buffer.join("quarantine").exists());
}

/// Regression: it said that nothing was lost, although only the ledger tells that.
#[test]
fn without_a_usable_ledger_nothing_is_said_to_be_whole() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let path = scratch.buffer.join("buffer-data-0.dat");
    let whole = fs::read(&path).unwrap();
    // The last record is cut off inside.
    fs::write(&path, &whole[..10 * 48 - 5]).unwrap();
    for ledger in [None, Some(&[0; 7][..])] {
        for name in ["buffer.db", "buffer.synced"] {
            let _ = fs::remove_file(scratch.buffer.join(name));
        }
        if let Some(bytes) = ledger {
            fs::write(scratch.buffer.join("buffer.db"), bytes).unwrap();
        }
        let text = run(scratch.forebay("verify", &[])).expect(1).stdout_text();
        assert!(text.contains("damaged; no loss is proved"), "{text}");
        assert!(!text.contains("nothing is lost"), "{text}");
    }
}

#[test]
fn a_torn_tail_is_normal() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let path = scratch.buffer.join("buffer-data-0.dat");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 40, b'x']);
    fs::write(&path, bytes).unwrap();
    let json = scratch.json("verify", 0);
    assert_eq!(json["findings"][0]["kind"], "torn_tail");
    assert_eq!(json["findings"][0]["severity"], "normal");
    assert_eq!(json["events_lost"], 0);
}

#[test]
fn every_golden_buffer_is_judged_as_expected() {
    let expected: Value =
        serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    for (name, expected) in expected.as_object().unwrap() {
        // The program cannot know how their payloads count events.
        if name.contains("multi") || name.contains("mid-multievent") {
            continue;
        }
        let scratch = Scratch::new();
        copy(&golden(name), &scratch.buffer);
        let ran = run(scratch.forebay("verify", &["--json"]));
        let json: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let findings = json["findings"].as_array().unwrap();
        let damaged = findings.iter().any(|f| f["severity"] == "damage");
        let lost = json["events_lost"].as_u64().unwrap();
        assert_eq!(ran.status, Some(i32::from(damaged || lost > 0)), "{name}");
        if !name.starts_with("c-") {
            assert_eq!(findings.len(), 0, "{name}: {json}");
        }
        // `verify` counts Vector's events; `expected.json` counts one event a record.
        if name != "vector-events"
            && let Some(expected) = expected["events_lost"].as_u64()
        {
            assert_eq!(lost, expected, "{name}: {json}");
        }
    }
}
