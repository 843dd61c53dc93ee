//! `forebay drain`: what is emptied, what stays, and how it ends.

use crate::moments::Moments;
use crate::support::{
    Ran, Scratch, copy, finish, forebay, golden, kill, lines, run, run_with, wait_until,
};
use prost::Message as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Directories in which buffers stand beside each other.
struct Orphans {
    scratch: Scratch,
    directories: Vec<PathBuf>,
}

impl Orphans {
    /// A buffer for each of the texts, filled with its lines.
    fn of(texts: &[String]) -> Self {
        let scratch = Scratch::new();
        let directories: Vec<_> = (0..texts.len())
            .map(|n| scratch.path(&format!("orphan-{n}")))
            .collect();
        let orphans = Self {
            scratch,
            directories,
        };
        for (n, text) in texts.iter().enumerate() {
            orphans.push(n, text);
        }
        orphans
    }

    fn push(&self, n: usize, text: &str) {
        let mut push = forebay(["push"]);
        push.arg(&self.directories[n]);
        run_with(push, text.as_bytes()).expect(0);
    }

    /// `forebay drain DIR… OPTIONS…`
    fn drain(&self, options: &[&str]) -> Command {
        let mut command = forebay(["drain"]);
        command.args(&self.directories).args(options);
        command
    }

    /// `forebay drain DIR… OPTIONS… -- sh -c SCRIPT BESIDE`, where `$0` is the directory of
    /// the buffers.
    fn drain_into(&self, options: &[&str], script: &str) -> Command {
        let mut command = self.drain(options);
        command
            .args(["--restart-delay", "1ms", "--", "sh", "-c", script])
            .arg(self.scratch.root.path());
        command
    }

    /// `forebay drain DIR… OPTIONS… --to TARGET`
    fn drain_to(&self, options: &[&str]) -> Command {
        let mut command = self.drain(options);
        command.arg("--to").arg(self.target());
        command
    }

    fn target(&self) -> PathBuf {
        self.scratch.path("target")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.scratch.path(name)).unwrap_or_default()
    }

    /// What the files of this beginning hold together.
    fn read_all(&self, beginning: &str) -> Vec<String> {
        let entries = fs::read_dir(self.scratch.root.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with(beginning)
            })
            .map(|path| fs::read_to_string(path).unwrap())
            .collect()
    }

    /// Asserts that nothing is unread in any of them.
    #[track_caller]
    fn are_empty(&self) {
        for n in 0..self.directories.len() {
            assert_eq!(self.left(n), "", "{n}");
        }
    }

    /// What is unread in one.
    #[track_caller]
    fn left(&self, n: usize) -> String {
        let mut cat = forebay(["cat"]);
        cat.arg(&self.directories[n]);
        run(cat).expect(0).stdout_text()
    }
}

/// Takes everything out of a buffer.
fn pull(directory: &std::path::Path, options: &[&str]) -> Ran {
    let mut pull = forebay(["pull"]);
    pull.arg(directory).args(options);
    run(pull)
}

/// The JSON of each line, by directory, without the directories before it.
fn reports(ran: &Ran) -> BTreeMap<String, Value> {
    let text = ran.stdout_text();
    let reports = text.lines().map(|line| {
        let report: Value = serde_json::from_str(line).unwrap();
        let directory = PathBuf::from(report["directory"].as_str().unwrap());
        let name = directory.file_name().unwrap().to_string_lossy();
        (name.into_owned(), report)
    });
    reports.collect()
}

#[test]
fn orphans_are_emptied_one_after_the_other_each_into_a_program_of_its_own() {
    let orphans = Orphans::of(&[lines(1, 3000), String::new(), lines(3001, 5000)]);
    let script = "cd \"$0\"; echo x >> starts; cat >> got";
    let ran = run(orphans.drain_into(&[], script)).expect(0);
    assert_eq!(ran.stderr, "");
    assert_eq!(orphans.read("got"), lines(1, 5000));
    // The empty buffer starts none.
    assert_eq!(orphans.read("starts").lines().count(), 2);
    orphans.are_empty();
    run(orphans.drain_into(&[], script)).expect(0);
    assert_eq!(orphans.read("starts").lines().count(), 2);
}

#[test]
fn orphans_are_moved_to_the_end_of_another_buffer() {
    let orphans = Orphans::of(&[lines(1, 300), String::new(), lines(301, 500)]);
    let ran = run(orphans.drain_to(&["--json"])).expect(0);
    let reports = reports(&ran);
    assert_eq!(reports["orphan-0"]["records"], 300);
    assert_eq!(reports["orphan-1"]["state"], "empty");
    assert_eq!(reports["orphan-2"]["unread_events"], 0);
    orphans.are_empty();
    orphans.push(0, &lines(501, 510));
    run(orphans.drain_to(&[])).expect(0);
    let pulled = pull(&orphans.target(), &[]).expect(0);
    assert_eq!(pulled.stdout_text(), lines(1, 510));
}

#[test]
fn with_json_the_programs_output_goes_elsewhere() {
    let orphans = Orphans::of(&[lines(1, 3)]);
    let ran = run(orphans.drain_into(&["--json"], "cat")).expect(0);
    assert_eq!(reports(&ran)["orphan-0"]["events"], 3);
    assert_eq!(ran.stderr, lines(1, 3));
}

#[test]
fn programs_run_side_by_side() {
    let orphans = Orphans::of(&[lines(1, 100), lines(101, 200), lines(201, 300)]);
    // None goes on before there are two.
    let script = "cd \"$0\"; touch started.$$
        while [ \"$(ls started.* | wc -l)\" -lt 2 ]; do sleep 0.01; done
        while read -r line; do echo \"$line\" >> got.$$; echo >&3; done";
    run(orphans.drain_into(&["--parallel", "2", "--ack"], script)).expect(0);
    let mut got = orphans.read_all("got.");
    got.sort();
    assert_eq!(got, [lines(1, 100), lines(101, 200), lines(201, 300)]);
    orphans.are_empty();
}

#[test]
fn a_rate_changes_nothing_but_the_time() {
    let orphans = Orphans::of(&[lines(1, 200), lines(201, 400)]);
    let options = ["--rate", "2KiB/s", "--parallel", "2"];
    run(orphans.drain_into(&options, "cat > \"$0/got.$$\"")).expect(0);
    let mut got = orphans.read_all("got.");
    got.sort();
    assert_eq!(got, [lines(1, 200), lines(201, 400)]);
    orphans.are_empty();
    orphans.push(0, &lines(1, 200));
    run(orphans.drain_to(&["--rate", "2KiB/s"])).expect(0);
    let pulled = pull(&orphans.target(), &[]).expect(0);
    assert_eq!(pulled.stdout_text(), lines(1, 200));
}

/// Unlike `pipe`, whose program may end with any status once it has read everything.
#[test]
fn only_success_takes_the_last_records() {
    let orphans = Orphans::of(&[lines(1, 100)]);
    let failing = "cat > /dev/null; exit 3";
    run(orphans.drain_into(&["--max-restarts", "1"], failing))
        .expect(2)
        .says("ended with status 3, after 1 restart in a row");
    assert_eq!(orphans.left(0), lines(1, 100));
    // It took them by acknowledging them, but something is wrong with it.
    let acknowledging = "while read -r line; do echo >&3; done; exit 3";
    run(orphans.drain_into(&["--ack"], acknowledging))
        .expect(2)
        .says("ended with status 3, but after it had taken everything");
    orphans.are_empty();
}

#[test]
fn a_program_that_wants_no_more_leaves_the_rest() {
    let orphans = Orphans::of(&[lines(1, 3), lines(4, 6)]);
    let script = "read -r line; echo \"$line\" >> \"$0/got\"; echo >&3";
    let ran = run(orphans.drain_into(&["--ack", "--json"], script))
        .expect(1)
        .says("ended before its input did");
    assert_eq!(orphans.read("got"), "1\n4\n");
    assert_eq!(reports(&ran)["orphan-1"]["state"], "left");
    assert_eq!(reports(&ran)["orphan-1"]["unread_events"], 2);
    assert_eq!(orphans.left(0), lines(2, 3));
}

#[test]
fn what_cannot_be_drained_keeps_nothing_else_from_it() {
    let mut orphans = Orphans::of(&[lines(1, 3), lines(4, 6), lines(7, 9)]);
    for name in ["no-buffer", "missing"] {
        orphans.directories.push(orphans.scratch.path(name));
    }
    fs::create_dir(orphans.scratch.path("no-buffer")).unwrap();
    let held = forebay::Config::new(&orphans.directories[0])
        .open()
        .unwrap();
    // It fails on the second buffer each time.
    let script = "read -r line; [ $line = 4 ] && exit 5; cat > /dev/null";
    let ran = run(orphans.drain_into(&["--json", "--max-restarts", "1"], script)).expect(2);
    let found = reports(&ran);
    let states = found.iter().map(|(name, report)| {
        let state = report["state"].as_str().unwrap();
        (name.as_str(), state, report["error"].is_string())
    });
    assert_eq!(
        states.collect::<Vec<_>>(),
        [
            ("missing", "failed", true),
            ("no-buffer", "failed", true),
            ("orphan-0", "failed", true),
            ("orphan-1", "failed", true),
            ("orphan-2", "empty", false),
        ]
    );
    let ran = ran
        .says("--wait 1m waits for it")
        .says("ended with status 5, after 1 restart in a row")
        .says("no such directory")
        .says("holds no buffer");
    let last = ran.stderr.lines().last().unwrap();
    assert!(last.contains("4 of 5 buffers not drained: "), "{last}");
    for name in ["orphan-0", "orphan-1", "no-buffer", "missing"] {
        assert!(last.contains(name), "{last}");
    }
    run(orphans.drain_to(&[]))
        .expect(2)
        .says("3 of 5 buffers not drained");
    drop(held);
    assert_eq!(orphans.left(0), lines(1, 3));
    let pulled = pull(&orphans.target(), &[]).expect(0);
    assert_eq!(pulled.stdout_text(), lines(4, 6));
}

#[test]
fn a_program_that_cannot_be_started_ends_everything() {
    let orphans = Orphans::of(&[lines(1, 3), lines(4, 6)]);
    let ran = run(orphans.drain(&["--json", "--", "no-such-program"]))
        .expect(127)
        .says("cannot start no-such-program");
    assert_eq!(reports(&ran)["orphan-1"]["state"], "stopped");
    assert_eq!(orphans.left(0), lines(1, 3));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_taken() {
    let orphans = Orphans::of(&[lines(1, 3)]);
    let directory = orphans.directories[0].to_str().unwrap();
    for (options, says) in [
        (&[directory, "--", "cat"][..], "is given twice"),
        (&["--to", directory], "cannot be drained into itself"),
        (&[], "required arguments"),
        (&["--to", "x", "--redeliver", "1"], "cannot be used with"),
        (&["--to", "x", "--", "cat"], "cannot be used with"),
        (&["--parallel", "0", "--", "cat"], "at least 1"),
        (&["--rate", "0", "--", "cat"], "nothing would ever be taken"),
    ] {
        run(orphans.drain(options)).expect(2).says(says);
    }
    assert_eq!(orphans.left(0), lines(1, 3));
}

#[test]
fn damage_is_reported_and_the_rest_is_drained() {
    let expected = [lines(1, 4), lines(6, 10)].concat();
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    let other = Scratch::new();
    copy(&scratch.buffer, &other.buffer);
    let ran = run(scratch.forebay("drain", &["--", "cat"]))
        .expect(1)
        .says("lost 1 event (id 5)");
    assert_eq!(ran.stdout_text(), expected);
    let target = other.path("target");
    let ran = run(other.forebay("drain", &["--json", "--to", target.to_str().unwrap()]))
        .expect(1)
        .says("lost 1 event (id 5)");
    assert_eq!(reports(&ran)["buffer"]["events_lost"], 1);
    assert_eq!(pull(&target, &[]).expect(0).stdout_text(), expected);
}

#[test]
fn records_that_programs_fail_on_are_set_aside_together() {
    let texts = [1, 4].map(|n| format!("{n}\nbad\n{}\n", n + 1));
    let orphans = Orphans::of(&texts);
    let dead = orphans.scratch.path("dead");
    let options = [
        "--parallel",
        "2",
        "--json",
        "--max-attempts",
        "2",
        "--dead-letters",
        dead.to_str().unwrap(),
    ];
    let script = "while read -r line; do
            [ \"$line\" = bad ] && exit 1
            echo \"$line\" >> \"$0/got\"
        done";
    let ran = run(orphans.drain_into(&options, script)).expect(1);
    assert_eq!(reports(&ran)["orphan-0"]["set_aside"], 1);
    orphans.are_empty();
    let got = orphans.read("got");
    let got: BTreeSet<&str> = got.lines().collect();
    assert_eq!(got.into_iter().collect::<Vec<_>>(), ["1", "2", "4", "5"]);
    let dead = pull(&dead, &[]).expect(0).stdout_text();
    assert_eq!(dead.matches("\"payload\":\"bad\"").count(), 2, "{dead}");
}

#[test]
fn a_signal_ends_it_and_the_next_run_goes_on() {
    let orphans = Orphans::of(&[lines(1, 1000), lines(1001, 2000)]);
    let script = "cat >> \"$0/got\"";
    let child = orphans
        .drain_into(&["--rate", "1KiB/s"], script)
        .spawn()
        .unwrap();
    wait_until("a record", || !orphans.read("got").is_empty());
    kill(child.id(), "INT");
    finish(child).expect(130);
    assert_eq!(orphans.left(1), lines(1001, 2000));
    run(orphans.drain_into(&[], script)).expect(0);
    // The program ended well, so it had taken what it had read.
    assert_eq!(orphans.read("got"), lines(1, 2000));

    orphans.push(0, &lines(1, 1000));
    orphans.push(1, &lines(1001, 2000));
    let child = orphans.drain_to(&["--rate", "1KiB/s"]).spawn().unwrap();
    wait_until("a target", || orphans.target().exists());
    kill(child.id(), "INT");
    finish(child).expect(130);
    run(orphans.drain_to(&[])).expect(0);
    let pulled = pull(&orphans.target(), &[]).expect(0);
    assert_eq!(pulled.stdout_text(), lines(1, 2000));
}

/// SIGKILL at random moments, and again: each record is delivered.
#[test]
fn a_drain_that_is_killed_loses_nothing() {
    let orphans = Orphans::of(&[lines(1, 20_000), lines(20_001, 40_000)]);
    let script = "cat >> \"$0/got\"";
    let mut moments = Moments::new();
    for round in 0..10 {
        // Slow, so that most kills come in the middle.
        let options = [
            "--rate",
            "100KiB/s",
            "--redeliver",
            ["0", "4KiB"][round % 2],
        ];
        let mut child = orphans.drain_into(&options, script).spawn().unwrap();
        moments.pause(60);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run(orphans.drain_into(&[], script)).expect(0);
    let expected: BTreeSet<String> = lines(1, 40_000).lines().map(str::to_owned).collect();
    // Programs of killed drains may still be writing.
    wait_until("every record", || {
        let got = orphans.read("got");
        expected.iter().all({
            let got: BTreeSet<&str> = got.lines().collect();
            move |line| got.contains(line.as_str())
        })
    });
    orphans.are_empty();
}

/// The same into a buffer: each record comes once.
#[test]
fn a_drain_into_a_buffer_that_is_killed_takes_nothing_twice() {
    let texts: Vec<String> = (0..4)
        .map(|n| lines(n * 5000 + 1, (n + 1) * 5000))
        .collect();
    let mut moments = Moments::new();
    for round in 0..5 {
        let orphans = Orphans::of(&texts);
        for _ in 0..4 {
            let mut child = orphans.drain_to(&[]).spawn().unwrap();
            moments.pause(80);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        run(orphans.drain_to(&[])).expect(0);
        let pulled = pull(&orphans.target(), &[]).expect(0).stdout_text();
        assert!(
            pulled == texts.concat(),
            "round {round}: {} bytes",
            pulled.len()
        );
    }
}

/// What `pull` gets out of each golden buffer, healthy and damaged, and its status.
#[test]
fn every_golden_buffer_is_drained_like_pulled() {
    let framed = ["--framing", "length"];
    for entry in fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() || path.to_string_lossy().contains("multi-event") {
            continue;
        }
        let name = path.display();
        let [pulled, drained, moved] = [(); 3].map(|()| Scratch::new());
        for scratch in [&pulled, &drained, &moved] {
            copy(&path, &scratch.buffer);
        }
        let expected = pull(&pulled.buffer, &framed);
        let ran = run(drained.forebay("drain", &["--framing", "length", "--", "cat"]));
        assert_eq!(ran.status, expected.status, "{name}: {}", ran.stderr);
        assert!(ran.stdout == expected.stdout, "{name}: {}", ran.stderr);
        let target = moved.path("target");
        let ran = run(moved.forebay("drain", &["--to", target.to_str().unwrap()]));
        assert_eq!(ran.status, expected.status, "{name}: {}", ran.stderr);
        let ran = pull(&target, &framed).expect(0);
        assert!(ran.stdout == expected.stdout, "{name}: {}", ran.stderr);
    }
}

/// The parts of Vector's public schema that the golden events use, declared here once more,
/// so that the frames are decoded by other code than the program's.
mod schema {
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct EventArray {
        #[prost(oneof = "Events", tags = "1, 2, 3")]
        pub(super) events: Option<Events>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Events {
        #[prost(message, tag = "1")]
        Logs(Logs),
        #[prost(message, tag = "2")]
        Metrics(Metrics),
        #[prost(message, tag = "3")]
        Traces(Traces),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Logs {
        #[prost(message, repeated, tag = "1")]
        pub(super) logs: Vec<Log>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metrics {
        #[prost(message, repeated, tag = "1")]
        pub(super) metrics: Vec<Metric>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Traces {
        #[prost(message, repeated, tag = "1")]
        pub(super) traces: Vec<Trace>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Log {
        #[prost(btree_map = "string, message", tag = "1")]
        pub(super) fields: BTreeMap<String, Value>,
        #[prost(message, optional, tag = "2")]
        pub(super) value: Option<Value>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metric {
        #[prost(string, tag = "1")]
        pub(super) name: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Trace {
        #[prost(btree_map = "string, message", tag = "1")]
        pub(super) fields: BTreeMap<String, Value>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Value {
        #[prost(oneof = "Kind", tags = "1, 4, 7")]
        pub(super) kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Kind {
        #[prost(bytes = "vec", tag = "1")]
        RawBytes(Vec<u8>),
        #[prost(int64, tag = "4")]
        Integer(i64),
        #[prost(message, tag = "7")]
        Map(Map),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Map {
        #[prost(btree_map = "string, message", tag = "1")]
        pub(super) fields: BTreeMap<String, Value>,
    }
}

/// One word for each event of an array: the text of a log, the name of a metric, the id of a
/// trace.
fn words(array: schema::EventArray) -> Vec<String> {
    use schema::{Events, Kind, Value};
    let text = |value: &Value| match value.kind.as_ref() {
        Some(Kind::RawBytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    };
    match array.events.expect("an array of events") {
        Events::Logs(array) => array
            .logs
            .iter()
            .map(|log| match &log.value {
                Some(Value {
                    kind: Some(Kind::Map(map)),
                }) => text(&map.fields["message"]),
                Some(value) => text(value),
                None => text(&log.fields["message"]),
            })
            .collect(),
        Events::Metrics(array) => array
            .metrics
            .into_iter()
            .map(|metric| metric.name)
            .collect(),
        Events::Traces(array) => array
            .traces
            .iter()
            .map(|trace| text(&trace.fields["trace_id"]))
            .collect(),
    }
}

/// docs/drain-into-vector.md: what Vector's `length_delimited` framing and its `native` codec
/// expect. The offsets and lengths of the payloads are those of expected.json.
#[test]
fn vectors_payloads_are_framed_as_vector_reads_them() {
    let scratch = Scratch::new();
    copy(&golden("vector-events"), &scratch.buffer);
    let expected = fs::read(golden("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let records = expected["vector-events"]["records"].as_array().unwrap();
    let data = fs::read(scratch.buffer.join("buffer-data-0.dat")).unwrap();
    let ran = run(scratch.forebay("drain", &["--framing", "length", "--", "cat"])).expect(0);
    let mut frames = &ran.stdout[..];
    let mut decoded = Vec::new();
    for record in records {
        let (prefix, rest) = frames.split_first_chunk::<4>().unwrap();
        let payload_len = u32::from_be_bytes(*prefix) as usize;
        assert_eq!(payload_len as u64, record["length"].as_u64().unwrap());
        let (payload, rest) = rest.split_at(payload_len);
        frames = rest;
        let is_stored = data.windows(payload_len).any(|bytes| bytes == payload);
        assert!(is_stored, "other bytes than record {}", record["id"]);
        decoded.extend(words(schema::EventArray::decode(payload).unwrap()));
    }
    assert_eq!(frames, b"");
    assert_eq!(
        decoded,
        [
            "hello",
            "two",
            "a bare string",
            "\u{fffd}\u{fffd} not utf8",
            "requests",
            "temp",
            "users",
            "lat",
            "hist",
            "summ",
            "sk",
            "abc",
            "written by an old version",
        ]
    );
}
