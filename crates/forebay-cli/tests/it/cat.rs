//! `forebay cat`.

use crate::support::{Scratch, copy, finish, golden, lines, run, run_with, snapshot};
use serde_json::{Value, json};

/// One JSON value a line.
fn values(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

#[test]
fn records_are_printed_and_stay() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 100));
    let before = snapshot(&scratch.buffer);
    assert_eq!(scratch.cat(), lines(1, 100));
    assert_eq!(snapshot(&scratch.buffer), before);
    assert_eq!(scratch.pull(), lines(1, 100));
}

#[test]
fn only_what_a_reader_would_get_unless_asked_for_all() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    run(scratch.forebay("pull", &["--max", "4"])).expect(0);
    assert_eq!(scratch.cat(), lines(5, 10));
    let all = run(scratch.forebay("cat", &["--all"])).expect(0);
    assert_eq!(all.stdout_text(), lines(1, 10));
    let some = run(scratch.forebay("cat", &["--all", "--from", "3", "--max", "2"])).expect(0);
    assert_eq!(some.stdout_text(), lines(3, 4));
    let from = run(scratch.forebay("cat", &["--from", "9"])).expect(0);
    assert_eq!(from.stdout_text(), lines(9, 10));
}

#[test]
fn json_marks_what_is_not_utf8() {
    let scratch = Scratch::new();
    run_with(
        scratch.forebay("push", &["--delimiter", "nul"]),
        "gr\u{fc}n \"q\"\n\0\0".as_bytes(),
    )
    .expect(0);
    run_with(scratch.forebay("push", &[]), b"\xff\xfe\n").expect(0);
    let ran = run(scratch.forebay("cat", &["--json"])).expect(0);
    assert_eq!(
        values(&ran.stdout_text()),
        [
            json!({"id": 1, "events": 1, "metadata": 0, "payload": "gr\u{fc}n \"q\"\n"}),
            json!({"id": 2, "events": 1, "metadata": 0, "payload": ""}),
            json!({"id": 3, "events": 1, "metadata": 0, "payload_base64": "//4="}),
        ]
    );
}

#[test]
fn nobody_reading_is_no_error() {
    let scratch = Scratch::new();
    scratch.push(lines(100_000, 200_000));
    let mut cat = scratch.forebay("cat", &["--json"]).spawn().unwrap();
    drop(cat.stdout.take());
    let ran = finish(cat).expect(0);
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_gap_is_reported() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    let ran = run(scratch.forebay("cat", &[]))
        .expect(1)
        .says("1 event lost");
    assert_eq!(
        ran.stdout_text(),
        format!("{}{}", lines(1, 4), lines(6, 10))
    );
}

#[cfg(unix)]
#[test]
fn following_shows_what_comes_even_if_it_is_consumed_at_once() {
    use crate::support::{kill, read_line};
    let scratch = Scratch::new();
    scratch.push(lines(1, 2));
    let mut cat = scratch.forebay("cat", &["--follow"]).spawn().unwrap();
    let mut stdout = cat.stdout.take().unwrap();
    for n in 1..=2 {
        assert_eq!(read_line(&mut stdout), n.to_string());
    }
    scratch.push(lines(3, 4));
    run(scratch.forebay("pull", &["--max", "3"])).expect(0);
    for n in 3..=4 {
        assert_eq!(read_line(&mut stdout), n.to_string());
    }
    kill(cat.id(), "INT");
    finish(cat).expect(130);
    assert_eq!(scratch.pull(), lines(4, 4));
}

#[test]
fn events_of_vector_are_decoded() {
    let scratch = Scratch::new();
    copy(&golden("vector-events"), &scratch.buffer);
    let time = "2023-11-14T22:13:20.123456789Z";
    let ran = run(scratch.forebay("cat", &["--decode"])).expect(0);
    let events = values(&ran.stdout_text());
    assert_eq!(events.len(), 13);
    assert_eq!(
        events[0],
        json!({"message": "hello", "timestamp": time, "none": null, "ok": true, "status": 200,
            "host": "web-1", "took": 1.5})
    );
    assert_eq!(
        events[1..4],
        [
            json!({"nested": {"a": {"b": [1, "x", null, {"c": false}]}}, "message": "two"}),
            json!("a bare string"),
            json!({"n": -9_007_199_254_740_993_i64,
                "message": {"$base64": "//4gbm90IHV0Zjg="}}),
        ]
    );
    assert_eq!(
        events[4],
        json!({"name": "requests", "namespace": "app", "kind": "incremental", "timestamp": time,
            "interval_ms": 10_000, "tags": {"code": "200", "host": "web-1"},
            "counter": {"value": 3.0}})
    );
    assert_eq!(
        events[5]["tags"],
        json!({"multi": ["a", "b"], "bare": null})
    );
    assert_eq!(events[5]["gauge"], json!({"value": -2.25}));
    assert_eq!(events[6]["set"], json!({"values": ["u1", "u2"]}));
    assert_eq!(
        events[7]["distribution"],
        json!({"samples": [{"value": 1.5, "rate": 2}, {"value": 9.0, "rate": 1}],
            "statistic": "summary"})
    );
    assert_eq!(
        events[8]["aggregated_histogram"],
        json!({"buckets": [{"upper_limit": 1.0, "count": 4},
            {"upper_limit": "Infinity", "count": 5}], "count": 9, "sum": 12.5})
    );
    assert_eq!(
        events[9]["aggregated_summary"]["quantiles"][1],
        json!({"quantile": 0.99, "value": 7.0})
    );
    assert_eq!(events[10]["sketch"]["k"], json!([-1, 1338]));
    assert_eq!(events[11]["trace_id"], "abc");
    assert_eq!(events[12]["message"], "written by an old version");

    let both = run(scratch.forebay("cat", &["--decode", "--json"])).expect(0);
    let records = values(&both.stdout_text());
    let ids: Vec<u64> = records.iter().map(|r| r["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 5, 8, 12, 13]);
    assert_eq!(records[1]["events"], 3);
    assert_eq!(records[1]["decoded"][1], "a bare string");

    let metadata = run(scratch.forebay("cat", &["--decode", "--with-metadata", "--max", "1"]));
    let event = &values(&metadata.expect(0).stdout_text())[0];
    assert_eq!(event["event"]["message"], "hello");
    assert_eq!(event["metadata"]["source_type"], "demo_logs");

    // Pulling counts the same events, so nothing looks lost.
    run(scratch.forebay("pull", &["--framing", "length"])).expect(0);
}

#[test]
fn other_records_are_shown_undecoded() {
    let scratch = Scratch::new();
    copy(&golden("three-meta1"), &scratch.buffer);
    let ran = run(scratch.forebay("cat", &["--decode"]))
        .expect(0)
        .says("3 records not decoded");
    assert_eq!(
        values(&ran.stdout_text())[2],
        json!({"id": 3, "events": 1, "metadata": 1, "payload": "]dk"})
    );
}
