//! Buffers whose records hold several events each.
//!
//! Regression: 20 records of a program that counts three events in each looked damaged:
//! "40 events lost", in 19 gaps of ids and a ledger that was ahead. No message mentioned
//! event counters, and no option chose one.

use crate::support::{Scratch, fill_counting_lines, lines, run, run_with, snapshot};
use std::fs;

fn of_twenty_records() -> Scratch {
    let scratch = Scratch::new();
    fill_counting_lines(&scratch.buffer, 20);
    scratch
}

#[test]
fn steps_between_whole_records_are_said_to_be_perhaps_no_loss() {
    let scratch = of_twenty_records();
    let json = scratch.json("verify", 1);
    assert_eq!(json["events_lost"], 40);
    assert_eq!(json["may_count_events"], true);
    let text = run(scratch.forebay("verify", &[])).expect(1).stdout_text();
    assert!(text.contains("40 events lost, or none"), "{text}");
    assert!(text.contains("--count-events ids"), "{text}");
    assert!(!text.contains("quarantine"), "{text}");
    run(scratch.forebay("cat", &[]))
        .expect(1)
        .says("ids step over 40 events between records that are whole")
        .says("--count-events ids");
    run(scratch.forebay("pull", &[]))
        .expect(1)
        .says("no byte was damaged")
        .says("--count-events ids");
}

/// Regression: a repair said nothing of event counters, and renumbered the records of such a buffer
/// so that the ids of their events overlapped. A move said only that events could not be read.
#[test]
fn a_repair_and_a_move_say_that_it_is_perhaps_no_loss() {
    let scratch = of_twenty_records();
    let json = scratch.json("repair", 1);
    assert_eq!(json["may_count_events"], true);
    run(scratch.forebay("repair", &[]))
        .expect(1)
        .says("--count-events ids");
    let before = snapshot(&scratch.buffer);
    run(scratch.forebay("repair", &["--apply", "--renumber"]))
        .expect(2)
        .says("whose ids would then overlap; nothing was changed");
    assert_eq!(snapshot(&scratch.buffer), before);
    let counted = ["--apply", "--renumber", "--count-events", "ids"];
    run(scratch.forebay("repair", &counted)).expect(0);
    // Whoever says that each record is one event has gaps, and closes them.
    let gaps = of_twenty_records();
    let counted = ["--apply", "--renumber", "--count-events", "one"];
    run(gaps.forebay("repair", &counted)).expect(0);
    assert_eq!(gaps.json("verify", 0)["findings"], serde_json::json!([]));
    let to = scratch.path("to").to_string_lossy().into_owned();
    run(scratch.forebay("move", &[&to, "--max", "3"]))
        .expect(1)
        .says("lost 2 events (ids 2 to 3)")
        .says("--count-events ids");
    run(scratch.forebay("skip", &["--max", "3", "--discard", "--yes"]))
        .expect(1)
        .says("lost 2 events")
        .says("--count-events ids");
    run(scratch.forebay("drain", &["--to", &to]))
        .expect(1)
        .says("lost 2 events")
        .says("--count-events ids");
    let other = of_twenty_records();
    run(other.forebay("repair", &["--apply"]))
        .expect(0)
        .says("--count-events ids");
}

/// Regression: `pull` and `cat` said that perhaps nothing was lost when a data file was
/// missing, and `verify` found nothing afterwards.
#[test]
fn a_missing_or_empty_file_is_not_said_to_be_perhaps_no_loss() {
    for is_missing in [true, false] {
        let scratch = Scratch::new();
        // Several data files, of 85 records each.
        let push = scratch.forebay("push", &["--max-size", "64KiB"]);
        run_with(push, lines(1, 400).as_bytes()).expect(0);
        let file = scratch.buffer.join("buffer-data-1.dat");
        match is_missing {
            true => fs::remove_file(&file).unwrap(),
            false => fs::write(&file, "").unwrap(),
        }
        for command in ["verify", "cat", "pull"] {
            let ran = run(scratch.forebay(command, &[])).expect(1);
            let said = format!("{}{}", ran.stderr, ran.stdout_text());
            assert!(said.contains("85 events"), "{command}: {said}");
            assert!(!said.contains("--count-events"), "{command}: {said}");
        }
    }
}

#[test]
fn events_missing_at_the_end_only_are_not_said_to_be_perhaps_no_loss() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let path = scratch.buffer.join("buffer-data-0.dat");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..9 * 48]).unwrap();
    for command in ["cat", "pull"] {
        let ran = run(scratch.forebay(command, &[])).expect(1).says("1 event");
        assert!(!ran.stderr.contains("--count-events"), "{ran:?}");
    }
}

#[test]
fn steps_that_counting_by_ids_leaves_are_not_said_to_be_perhaps_no_loss() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let path = scratch.buffer.join("buffer-data-0.dat");
    let bytes = fs::read(&path).unwrap();
    // More events are missing after record 3 than its payload has bytes.
    fs::write(&path, [&bytes[..3 * 48], &bytes[7 * 48..]].concat()).unwrap();
    for command in ["verify", "cat", "pull"] {
        let ran = run(scratch.forebay(command, &["--count-events", "ids"])).expect(1);
        let said = format!("{}{}", ran.stderr, ran.stdout_text());
        assert!(said.contains("4 events"), "{command}: {said}");
        assert!(!said.contains("--count-events"), "{command}: {said}");
    }
}

#[test]
fn nothing_is_lost_where_events_are_counted_as_the_program_counts() {
    for how in ["ids", "lines"] {
        let scratch = of_twenty_records();
        let counted = ["--count-events", how];
        let verify = || scratch.forebay("verify", &["--count-events", how, "--json"]);
        let text = run(verify()).expect(0).stdout_text();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["records"], 20, "{how}");
        assert_eq!(json["events"], 60, "{how}");
        assert_eq!(json["may_count_events"], false, "{how}");
        let cat = run(scratch.forebay("cat", &["--count-events", how, "--json"])).expect(0);
        assert_eq!(cat.stdout_text().matches("\"events\":3").count(), 20);
        assert_eq!(cat.stderr, "");
        let pulled = run(scratch.forebay("pull", &counted)).expect(0);
        assert_eq!(pulled.stdout_text().lines().count(), 60, "{how}");
        assert_eq!(pulled.stderr, "");
        run(verify()).expect(0);
    }
}

/// With `ids`, the record before the damage counts as one event, because the record that
/// would show its step is missing. So two of its three events count as lost as well.
#[test]
fn a_damaged_record_is_a_loss_however_events_are_counted() {
    let scratch = of_twenty_records();
    let file = scratch.buffer.join("buffer-data-0.dat");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(7).position(|w| w == b"first 9").unwrap();
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    for (how, lost) in [("ids", 5), ("lines", 3)] {
        let ran = run(scratch.forebay("verify", &["--count-events", how])).expect(1);
        let text = ran.stdout_text();
        let damaged = format!("damaged; {lost} events lost");
        assert!(text.contains(&damaged), "{how}: {text}");
        assert!(text.contains("delivers all other records"), "{text}");
        assert!(text.contains("damaged bytes in quarantine/"), "{text}");
    }
    let json = scratch.json("verify", 1);
    assert_eq!(json["may_count_events"], false);
}

/// A payload counts as many events as the smallest step that follows it anywhere. Otherwise
/// one loss after one of its copies would make the ids of all copies overlap.
#[test]
fn a_payload_counts_the_same_wherever_it_stands() {
    let scratch = Scratch::new();
    scratch.push("same\n".repeat(9));
    let file = scratch.buffer.join("buffer-data-0.dat");
    let bytes = fs::read(&file).unwrap();
    let frame_len = bytes.len() / 9;
    // The fifth record is gone, and nothing of it is left.
    let cut = [&bytes[..4 * frame_len], &bytes[5 * frame_len..]].concat();
    fs::write(&file, cut).unwrap();
    for how in ["auto", "ids"] {
        let ran = run(scratch.forebay("verify", &["--count-events", how])).expect(1);
        let text = ran.stdout_text();
        assert!(text.contains("1 event lost"), "{how}: {text}");
        assert!(!text.contains("id_overlap"), "{how}: {text}");
    }
}

#[test]
fn who_writes_does_not_count_by_ids() {
    let scratch = Scratch::new();
    for command in ["push", "pipe"] {
        let options = match command {
            "pipe" => &["--count-events", "ids", "--", "cat"][..],
            _ => &["--count-events", "ids"],
        };
        run_with(scratch.forebay(command, options), lines(1, 3).as_bytes())
            .expect(2)
            .says("--count-events");
    }
}
