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

/// The events of Vector's own arrays, each in a record without an array.
#[test]
fn single_events_of_vector_are_decoded() {
    let (arrays, single) = (Scratch::new(), Scratch::new());
    copy(&golden("vector-events"), &arrays.buffer);
    let config = forebay::Config::new(&single.buffer);
    let (writer, _reader) = config.open().unwrap();
    let mut count = 0;
    for record in forebay::records(&arrays.buffer).unwrap() {
        let payload = record.unwrap().payload;
        // An array is one field with the events as its fields, each with a length.
        let (kind, array, rest) = first_field(&payload);
        assert!(rest.is_empty());
        let mut events = array;
        while !events.is_empty() {
            let (tag, event, rest) = first_field(events);
            assert_eq!(tag, 1 << 3 | 2);
            let encoded = [&[kind], &varint(event.len())[..], event].concat();
            writer.append_with(1, &encoded).unwrap();
            events = rest;
            count += 1;
        }
    }
    writer.close().unwrap();
    assert_eq!(count, 13);
    for args in [&["--decode"][..], &["--decode", "--with-metadata"]] {
        let expected = run(arrays.forebay("cat", args)).expect(0).stdout_text();
        let ran = run(single.forebay("cat", args)).expect(0);
        assert_eq!(ran.stdout_text(), expected);
        assert_eq!(ran.stderr, "");
    }
}

/// Tag, content and rest of bytes that begin with a field that has a length.
fn first_field(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (mut len, mut at) = (0, 1);
    loop {
        len |= usize::from(bytes[at] & 0x7f) << (7 * (at - 1));
        at += 1;
        if bytes[at - 1] < 0x80 {
            break;
        }
    }
    (bytes[0], &bytes[at..at + len], &bytes[at + len..])
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut encoded = Vec::new();
    while number >= 0x80 {
        encoded.push(number as u8 | 0x80);
        number >>= 7;
    }
    encoded.push(number as u8);
    encoded
}

#[cfg(unix)]
mod translating {
    use super::values;
    use crate::support::{Scratch, finish, kill, lines, run, run_with, wait_until};
    use serde_json::json;

    #[test]
    fn each_payload_goes_through_the_program_in_order() {
        let scratch = Scratch::new();
        scratch.push(lines(1, 50));
        // The later ones would be done first.
        let slow = "read n; [ $((n % 4)) = 0 ] && sleep 0.05; echo \"<$n>\"";
        let ran = run(scratch.forebay("cat", &["--translate", slow])).expect(0);
        let expected: String = (1..=50).map(|n| format!("<{n}>\n")).collect();
        assert_eq!(ran.stdout_text(), expected);
        assert_eq!(ran.stderr, "");
        let environment = "echo $FOREBAY_RECORD_ID $FOREBAY_METADATA";
        let args = [
            "--translate",
            environment,
            "--json",
            "--max",
            "1",
            "--from",
            "9",
        ];
        let ran = run(scratch.forebay("cat", &args)).expect(0);
        assert_eq!(
            values(&ran.stdout_text()),
            [json!({"id": 9, "events": 1, "metadata": 0, "payload": "9 0"})]
        );
        assert_eq!(scratch.pull(), lines(1, 50));
    }

    #[test]
    fn payloads_and_outputs_may_be_long() {
        let scratch = Scratch::new();
        let line = "x".repeat(3_000_000);
        scratch.push(format!("{line}\n\n"));
        let ran = run(scratch.forebay("cat", &["--translate", "cat"])).expect(0);
        assert_eq!(ran.stdout_text(), format!("{line}\n\n"));
        // A program need not read its input, and may print nothing.
        let ran = run(scratch.forebay("cat", &["--translate", "exit 0"])).expect(0);
        assert_eq!(ran.stdout_text(), "\n\n");
        let args = ["--translate", "printf 'a\\n\\n'", "--framing", "length"];
        let ran = run(scratch.forebay("cat", &args)).expect(0);
        assert_eq!(ran.stdout, b"\0\0\0\x03a\n\n\0\0\0\x03a\n\n");
    }

    #[test]
    fn a_record_that_the_program_fails_on_is_named_and_left_out() {
        let scratch = Scratch::new();
        scratch.push(lines(1, 5));
        let failing = "read n; echo $n; [ $n != 3 ] || exit 7";
        let ran = run(scratch.forebay("cat", &["--translate", failing]))
            .expect(1)
            .says("record 3: the program failed on it: exit status: 7")
            .says("failed on 1 record");
        assert_eq!(ran.stdout_text(), "1\n2\n4\n5\n");
        let killed = "read n; [ $n != 3 ] || kill -9 $$";
        run(scratch.forebay("cat", &["--translate", killed]))
            .expect(1)
            .says("record 3: the program failed on it: signal: 9");
        let ran = run(scratch.forebay("cat", &["--translate", "no-such-program"]))
            .expect(2)
            .says("cannot run \"no-such-program\"");
        assert_eq!(ran.stdout_text(), "");
        run_with(
            scratch.forebay("cat", &["--translate", "cat", "--decode"]),
            b"",
        )
        .expect(2);
    }

    #[test]
    fn a_signal_ends_the_programs() {
        let scratch = Scratch::new();
        scratch.push(lines(1, 5));
        let mark = scratch.path("pid");
        let program = format!("echo $$ >> {}; exec sleep 1000", mark.display());
        let cat = scratch.forebay("cat", &["--translate", &program]);
        let child = { cat }.spawn().unwrap();
        let pids = || std::fs::read_to_string(&mark).unwrap_or_default();
        wait_until("a program starts", || pids().ends_with('\n'));
        kill(child.id(), "INT");
        let ran = finish(child).expect(130);
        assert_eq!((ran.stdout_text().as_str(), ran.stderr.as_str()), ("", ""));
        for pid in pids().lines() {
            wait_until("the program ends", || !sleeps(pid));
        }
    }

    /// Whether a process with this id is a `sleep`.
    fn sleeps(pid: &str) -> bool {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
        line.is_ok_and(|line| line.contains("sleep"))
    }

    /// Regression: only the shell was killed. After `cat --translate 'sleep 17; true'` and a
    /// signal, the `sleep` lived on with process 1 as its parent.
    #[test]
    fn a_signal_ends_what_the_programs_have_started() {
        for (signal, status) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
            let scratch = Scratch::new();
            scratch.push(lines(1, 5));
            let mark = scratch.path("pid");
            let program = format!(
                "sleep 1000 2> /dev/null & echo $! >> {}; wait",
                mark.display()
            );
            let cat = scratch.forebay("cat", &["--translate", &program]);
            let child = { cat }.spawn().unwrap();
            let pids = || std::fs::read_to_string(&mark).unwrap_or_default();
            wait_until("a program starts", || pids().ends_with('\n'));
            kill(child.id(), signal);
            finish(child).expect(status);
            for pid in pids().lines() {
                wait_until("the program ends", || !sleeps(pid));
            }
        }
    }

    /// Regression: the same when nobody read the output any more.
    #[test]
    fn a_closed_output_ends_what_the_programs_have_started() {
        let scratch = Scratch::new();
        scratch.push(lines(1, 5));
        let mark = scratch.path("pid");
        // With one processor, no other program is started before the first has ended.
        let program = format!(
            "read n; if [ $n = 1 ]; then \
             i=0; until [ -s {0} ] || [ $i = 50 ]; do sleep 0.1; i=$((i+1)); done; \
             else sleep 1000 2> /dev/null & echo $! >> {0}; wait; fi",
            mark.display()
        );
        let cat = scratch.forebay("cat", &["--translate", &program]);
        let mut child = { cat }.spawn().unwrap();
        drop(child.stdout.take());
        finish(child).expect(0);
        for pid in std::fs::read_to_string(&mark).unwrap_or_default().lines() {
            wait_until("the program ends", || !sleeps(pid));
        }
    }

    /// Ctrl-C on a terminal reaches only `cat`, because the programs are in groups of their own.
    /// They get the signal from `cat`, with time to tidy up.
    #[test]
    fn a_signal_is_passed_on_to_the_programs() {
        let scratch = Scratch::new();
        scratch.push("one\n");
        let (mark, tidied) = (scratch.path("mark"), scratch.path("tidied"));
        let program = format!(
            "trap 'echo INT > {}; exit' INT; echo > {}; while :; do sleep 0.02; done",
            tidied.display(),
            mark.display()
        );
        let cat = scratch.forebay("cat", &["--translate", &program]);
        let child = { cat }.spawn().unwrap();
        wait_until("the program starts", || mark.exists());
        kill(child.id(), "INT");
        finish(child).expect(130);
        assert_eq!(std::fs::read_to_string(tidied).unwrap(), "INT\n");
    }
}
