//! `forebay bench`: what it prints, and that it cleans up. Speed is not tested.

use crate::support::{Ran, forebay, run};
use serde_json::Value;
use std::path::Path;

fn bench(dir: &Path, args: &[&str]) -> std::process::Command {
    let mut command = forebay(["bench", "--dir"]);
    command.arg(dir).args(args);
    command
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).expect("JSON")
}

#[test]
fn every_work_is_measured_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let plots = tempfile::tempdir().unwrap();
    let plot = plots.path().join("plot.svg");
    let mut command = bench(dir.path(), &["--quick", "--size", "1MiB", "--json"]);
    command.arg("--plot").arg(&plot);
    let report = json(&run(command).expect(0));
    assert!(is_empty(dir.path()));

    for key in [
        "write_1m_bytes_per_s",
        "write_256k_bytes_per_s",
        "write_fdatasync_bytes_per_s",
        "read_bytes_per_s",
        "crc32_bytes_per_s",
        "fdatasync_per_s",
        "hand_over_p50_us",
        "hand_over_p99_us",
    ] {
        assert!(report["raw"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    let rows = report["results"].as_array().unwrap();
    let of = |work: &'static str| rows.iter().filter(move |row| row["work"] == work);
    let works = [
        "append",
        "append_batch",
        "read_ack",
        "append_alone",
        "read_ack_alone",
        "concurrent",
    ];
    for work in works {
        let lens: Vec<_> = of(work).map(|row| &row["payload_bytes"]).collect();
        assert_eq!(lens, [64, 256, 1024, 4096, 65536], "{work}");
        assert!(of(work).all(|row| row["records_per_s"].as_f64() > Some(0.0)));
        assert!(of(work).all(|row| row["bytes_per_s"].as_f64() > Some(0.0)));
    }
    let producers: Vec<_> = of("append_synced").map(|row| &row["producers"]).collect();
    assert_eq!(producers, [1, 16, 1024]);
    for work in ["append_synced", "latency"] {
        for key in ["p50_us", "p99_us", "p999_us"] {
            assert!(of(work).all(|row| row[key].as_f64() > Some(0.0)), "{work}");
        }
    }
    assert!(of("open").all(|row| row["p50_us"].as_f64() > Some(0.0)));
    assert_eq!(of("open").count(), 1);

    let plot = std::fs::read_to_string(plot).unwrap();
    assert!(plot.starts_with("<svg ") && plot.ends_with("</svg>\n"));
    assert!(!plot.contains("NaN") && !plot.contains("inf"), "{plot}");
}

#[test]
fn filters_choose_work_and_payload() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "--quick",
        "--size",
        "256KiB",
        "--work",
        "append",
        "--payload",
        "100,1KiB",
        "--json",
    ];
    let report = json(&run(bench(dir.path(), &args)).expect(0));
    let rows = report["results"].as_array().unwrap();
    let cases: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["work"].as_str().unwrap(),
                row["payload_bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(cases, [("append", 100), ("append", 1024)]);
}

#[test]
fn a_table_is_printed_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "--quick",
        "--size",
        "256KiB",
        "--work",
        "append,latency",
        "--payload",
        "64",
    ];
    let text = run(bench(dir.path(), &args)).expect(0).stdout_text();
    for words in [
        "raw limits",
        "records per second",
        "append to delivery",
        "64 B",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    assert!(text.lines().all(|line| line == line.trim_end()));
}

// Outside Unix the free space is not known before a write fails.
#[cfg(unix)]
#[test]
fn too_little_space_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(bench(dir.path(), &["--size", "8000PiB"])).expect(2);
    ran.says("free").says("--size");
    assert!(is_empty(dir.path()));
}

#[test]
fn a_directory_that_cannot_be_and_odd_sizes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let below_file = file.path().join("below");
    run(bench(&below_file, &["--quick"]))
        .expect(2)
        .says("below");
    run(bench(dir.path(), &["--payload", "8"]))
        .expect(2)
        .says("from 16 bytes");
    run(bench(dir.path(), &["--work", "sleep"])).expect(2);
    assert!(is_empty(dir.path()));
}

/// Regression: it was refused, so a first try on a new disk failed.
#[test]
fn a_missing_directory_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("new/disk");
    let args = ["--quick", "--size", "256KiB", "--work", "append"];
    run(bench(&missing, &args)).expect(0);
    assert!(is_empty(&missing));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    use crate::support::{finish, kill, wait_until};

    for signal in ["INT", "TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let args = ["--size", "32MiB", "--rounds", "1000"];
        let child = bench(dir.path(), &args).spawn().unwrap();
        wait_until("a measurement", || !is_empty(dir.path()));
        kill(child.id(), signal);
        let status = if signal == "INT" { 130 } else { 143 };
        finish(child).expect(status);
        assert!(is_empty(dir.path()));
    }
}
