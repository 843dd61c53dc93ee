//! `forebay metrics`.

use crate::support::{Scratch, finish, forebay, golden, kill, lines, read_line, run, snapshot};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// The values of a text in Prometheus' format, by name and labels.
fn values(text: &str) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    let mut described = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            described.insert(head.split(' ').next().unwrap().to_owned());
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(described.contains(name), "{name} has no type: {text}");
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(values.insert(series.to_owned(), value).is_none(), "{line}");
    }
    values
}

fn series(name: &str, directory: &Path) -> String {
    format!("{name}{{buffer_id=\"{}\"}}", directory.display())
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c| !is_of_name(c));
    let words = words.filter(|word| word.starts_with("buffer_") && *word != "buffer_id");
    words.map(str::to_owned).collect()
}

fn file_of_repository(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(name);
    fs::read_to_string(path).unwrap()
}

#[test]
fn one_look_says_what_ls_says() {
    let all = golden("");
    let before = snapshot(&all);
    let mut metrics = forebay(["metrics", "--max-size", "1MiB"]);
    metrics.arg(&all);
    let text = run(metrics).expect(0).stdout_text();
    let values = values(&text);
    let mut ls = forebay(["ls", "--json", "--max-size", "1MiB"]);
    ls.arg(&all);
    let rows = run(ls).stdout_text();
    assert_eq!(rows.lines().count(), 68);
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let directory = PathBuf::from(row["directory"].as_str().unwrap());
        let value = |name| values[&series(name, &directory)];
        for (name, expected) in [
            ("buffer_size_events", &row["unread"]["events"]),
            ("buffer_size_bytes", &row["unread"]["bytes"]),
            ("buffer_disk_bytes", &row["disk_bytes"]),
            ("buffer_max_size_bytes", &row["max_size_bytes"]),
            ("buffer_fill_ratio", &row["fill_ratio"]),
            ("buffer_sent_events_total", &row["last_acknowledged_id"]),
            ("buffer_findings_lost_events", &row["events_lost"]),
        ] {
            assert_eq!(Some(value(name)), expected.as_f64(), "{name}: {row}");
        }
        let received = row["next_record_id"].as_f64().unwrap() - 1.0;
        assert_eq!(value("buffer_received_events_total"), received);
        assert_eq!(value("buffer_up"), 1.0);
        assert_eq!(value("buffer_held"), 0.0);
        assert_eq!(value("buffer_orphaned") == 1.0, row["state"] == "orphaned");
        let damage = format!(
            "buffer_findings{{buffer_id=\"{}\",severity=\"damage\"}}",
            directory.display()
        );
        let is_damaged = values[&damage] > 0.0 || value("buffer_findings_lost_events") > 0.0;
        assert_eq!(is_damaged, row["damaged"] == true, "{row}");
    }
    // What one look cannot tell is left out.
    for name in ["since_progress", "to_full", "bytes_total"] {
        assert!(!text.contains(name), "{name}");
    }
    assert_eq!(snapshot(&all), before);
}

#[test]
fn without_a_buffer_it_is_an_error() {
    let scratch = Scratch::new();
    let metrics = |path: &Path| {
        let mut command = forebay(["metrics"]);
        command.arg(path);
        run(command)
    };
    metrics(scratch.root.path())
        .expect(2)
        .says("there is no buffer in or below");
    metrics(&scratch.path("missing"))
        .expect(2)
        .says("there is no directory");
}

#[test]
fn a_buffer_that_cannot_be_looked_at_is_not_up() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    fs::create_dir(scratch.buffer.join("repair")).unwrap();
    fs::write(scratch.buffer.join("repair/list.in"), "").unwrap();
    let ran = run(scratch.forebay("metrics", &[])).expect(2);
    let ran = ran.says("open the buffer, which finishes it");
    let values = values(&ran.stdout_text());
    assert_eq!(values[&series("buffer_up", &scratch.buffer)], 0.0);
    assert!(!values.contains_key(&series("buffer_size_events", &scratch.buffer)));
}

#[test]
fn a_file_is_replaced_as_a_whole_until_a_signal() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let directory = scratch.path("collector");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("forebay.prom");
    let mut once = scratch.forebay("metrics", &["--output"]);
    once.arg(&file);
    run(once).expect(0);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(
        values(&text)[&series("buffer_size_events", &scratch.buffer)],
        3.0
    );
    let often = ["--every", "1ms", "--max-size", "1MiB", "--output"];
    let mut often = scratch.forebay("metrics", &often);
    let often = often.arg(&file).spawn().unwrap();
    let mut reads = 0;
    crate::support::wait_until("rates", || {
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.ends_with('\n') && text.contains("buffer_up{"),
            "{text}"
        );
        reads += 1;
        reads > 50 && text.contains("buffer_seconds_since_progress")
    });
    let text = fs::read_to_string(&file).unwrap();
    let full = series("buffer_seconds_to_full", &scratch.buffer);
    assert!(text.contains(&format!("{full} +Inf\n")), "{text}");
    kill(often.id(), "TERM");
    finish(often).expect(128 + 15);
    let left: Vec<_> = fs::read_dir(&directory).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let to = |path: &Path| {
        let mut command = scratch.forebay("metrics", &["--output"]);
        command.arg(path);
        run(command)
    };
    to(&scratch.path("missing/file")).expect(2).says("missing");
    let before = snapshot(&scratch.buffer);
    to(&scratch.buffer.join("file.prom"))
        .expect(2)
        .says("nothing is written");
    assert_eq!(snapshot(&scratch.buffer), before);
    run(scratch.forebay("metrics", &["--every", "15s"])).expect(2);
}

/// Asks a server for a path; returns the head and the body.
fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Serves the buffers below a directory, on a free port; returns the address.
fn serve(root: &Path) -> (Child, String) {
    let mut command = forebay(["metrics", "--listen", "127.0.0.1:0", "--max-size", "1MiB"]);
    let mut server = command.arg(root).spawn().unwrap();
    let line = read_line(server.stderr.as_mut().unwrap());
    let address = line
        .strip_prefix("forebay: serving http://")
        .and_then(|rest| rest.strip_suffix("/metrics"));
    let address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
    (server, address)
}

#[test]
fn a_live_buffer_is_served_with_what_several_looks_tell() {
    let scratch = Scratch::new();
    let mut holder = scratch
        .forebay("push", &["--report-synced", "--flush-interval", "1ms"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = holder.stdin.take().unwrap();
    let mut push = |from, to: u64, synced: &mut Child| {
        stdin.write_all(lines(from, to).as_bytes()).unwrap();
        while read_line(synced.stdout.as_mut().unwrap()) != to.to_string() {}
    };
    push(1, 5, &mut holder);
    let root = scratch.root.path().to_owned();
    let (server, address) = serve(&root);
    let value = |text: &str, name| values(text).get(&series(name, &scratch.buffer)).copied();
    let (head, first) = get(&address, "/metrics");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert_eq!(value(&first, "buffer_received_events_total"), Some(5.0));
    assert_eq!(value(&first, "buffer_seconds_to_full"), None);
    push(6, 15, &mut holder);
    let (_, second) = get(&address, "/metrics");
    assert_eq!(value(&second, "buffer_received_events_total"), Some(15.0));
    // Ten frames of 48 bytes.
    assert_eq!(value(&second, "buffer_received_bytes_total"), Some(480.0));
    assert_eq!(value(&second, "buffer_sent_bytes_total"), Some(0.0));
    assert!(value(&second, "buffer_seconds_since_progress").unwrap() > 0.0);
    assert!(
        value(&second, "buffer_seconds_to_full")
            .unwrap()
            .is_finite()
    );
    assert_eq!(value(&second, "buffer_held"), Some(1.0));
    assert_eq!(value(&second, "buffer_orphaned"), Some(0.0));
    if cfg!(target_os = "linux") {
        let info = format!("pid=\"{}\",program=\"forebay\"}} 1", holder.id());
        assert!(second.contains(&info), "{second}");
    }
    let (head, _) = get(&address, "/");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(get(&address, "/other").0.starts_with("HTTP/1.1 404"));
    // The address is taken.
    let mut other = forebay(["metrics", "--listen", &address]);
    other.arg(&root);
    run(other).expect(2).says(&address);
    // A buffer that is gone leaves nothing behind, and another one is found.
    drop(stdin);
    finish(holder).expect(0);
    fs::rename(&scratch.buffer, root.join("moved")).unwrap();
    let (_, third) = get(&address, "/metrics");
    assert!(!third.contains("/buffer\""), "{third}");
    assert_eq!(
        values(&third)[&series("buffer_orphaned", &root.join("moved"))],
        1.0
    );
    kill(server.id(), "INT");
    finish(server).expect(128 + 2);
}

/// A directory without a buffer may get one later; that a path is missing is said once.
#[test]
fn a_server_waits_for_its_first_buffer() {
    let scratch = Scratch::new();
    let (server, address) = serve(&scratch.buffer);
    for _ in 0..3 {
        let (_, text) = get(&address, "/metrics");
        assert_eq!(values(&text)["buffer_search_errors"], 1.0);
    }
    scratch.push(lines(1, 3));
    let (_, text) = get(&address, "/metrics");
    assert_eq!(
        values(&text)[&series("buffer_size_events", &scratch.buffer)],
        3.0
    );
    kill(server.id(), "TERM");
    let ran = finish(server).expect(128 + 15);
    assert_eq!(ran.stderr.matches("there is no directory").count(), 1);
}

/// The rules, the dashboard and the page name only values that there are, and the page names all.
#[test]
fn rules_dashboard_and_page_name_values_that_exist() {
    let scratch = Scratch::new();
    let (holder, stdin) = scratch.held("a\n");
    let (server, address) = serve(&scratch.buffer);
    get(&address, "/metrics");
    let text = get(&address, "/metrics").1;
    let printed: BTreeSet<String> = values(&text).keys().flat_map(|name| names(name)).collect();
    let printed: BTreeSet<String> = printed
        .into_iter()
        .filter(|name| text.contains(&format!("# TYPE {name} ")))
        .collect();
    assert_eq!(printed.len(), 20, "{printed:?}");
    let of_library = forebay::telemetry::COUNTERS
        .iter()
        .chain(&forebay::telemetry::GAUGES)
        .map(|metric| metric.name.to_owned());
    let all: BTreeSet<String> = printed.iter().cloned().chain(of_library).collect();
    for file in [
        "ops/prometheus-alerts.yml",
        "ops/prometheus-alerts-test.yml",
        "ops/grafana-dashboard.json",
        "docs/monitoring.md",
    ] {
        let named = names(&file_of_repository(file));
        let unknown: Vec<_> = named.difference(&all).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
        assert!(named.len() > 5, "{file}");
    }
    let page = names(&file_of_repository("docs/monitoring.md"));
    let unnamed: Vec<_> = printed.difference(&page).collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
    kill(server.id(), "TERM");
    finish(server);
    drop(stdin);
    finish(holder).expect(0);
}
