//! The keys of all JSON that is printed are those that docs/command-line.md names.

use crate::support::{Scratch, copy, forebay, golden, lines, run, run_with};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The keys that the page gives for a command: the first column of its table.
fn documented(command: &str) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/command-line.md");
    let page = fs::read_to_string(page).unwrap();
    let head = format!("| key of `{command}` |");
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with(&head))
        .skip(2);
    let keys = rows
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.split('`').nth(1));
    let keys: BTreeSet<String> = keys.map(str::to_owned).collect();
    assert!(!keys.is_empty(), "no table of keys of {command}");
    keys
}

/// The keys of a value, as the page writes them.
fn collect(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                collect(value, &format!("{path}{dot}{key}"), into);
            }
        }
        Value::Array(values) if values.first().is_some_and(Value::is_object) => {
            for value in values {
                collect(value, &format!("{path}[]"), into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

/// The keys that commands print, line by line.
fn printed(commands: impl IntoIterator<Item = Command>) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for command in commands {
        for line in run(command).stdout_text().lines() {
            collect(&serde_json::from_str(line).unwrap(), "", &mut keys);
        }
    }
    keys
}

#[test]
fn inspect_and_verify_print_the_keys_of_the_page() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    for command in ["inspect", "verify"] {
        let keys = printed([scratch.forebay(command, &["--json"])]);
        assert_eq!(keys, documented(command), "{command}");
    }
}

#[test]
fn transfers_and_salvages_print_the_keys_of_the_page() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let other = scratch.path("other").to_string_lossy().into_owned();
    let keys = printed([scratch.forebay("move", &[&other, "--max", "3", "--json"])]);
    assert_eq!(keys, documented("move"));
    let keys = printed([scratch.forebay("copy", &[&other, "--json"])]);
    assert_eq!(keys, documented("move"));
    let dead = scratch.path("dead").to_string_lossy().into_owned();
    let args = ["--max", "2", "--to", &dead, "--yes", "--json"];
    let keys = printed([scratch.forebay("skip", &args)]);
    assert_eq!(keys, documented("skip"));
    // Ids are in both buffers, and what is left has a gap.
    scratch.damage_fifth_record();
    let third = scratch.path("third").to_string_lossy().into_owned();
    run_with(forebay(["push", &third]), lines(100, 110).as_bytes()).expect(0);
    let args = [&third, "--acknowledged", "--json"];
    let mut keys = printed([scratch.forebay("salvage", &args)]);
    fs::remove_file(scratch.buffer.join("buffer.db")).unwrap();
    keys.extend(printed([scratch.forebay("salvage", &["--json"])]));
    // Where nothing is listed the lists have no keys.
    keys.retain(|key| key != "conflicts_listed" && key != "missing");
    assert_eq!(keys, documented("salvage"));
}

/// The keys in a file of JSON.
fn stored(file: &Path) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    collect(&value, "", &mut keys);
    keys
}

/// Reports that stay beside what was set aside.
#[test]
fn reports_in_files_have_the_keys_of_the_page() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    run(scratch.forebay("pull", &["--max", "7"])).expect(1);
    let quarantine = fs::read_dir(scratch.buffer.join("quarantine")).unwrap();
    let mut names = quarantine.map(|entry| entry.unwrap().path());
    let report = names.find(|path| path.extension().is_some_and(|e| e == "json"));
    assert_eq!(stored(&report.unwrap()), documented("quarantine/*.json"));
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    run(scratch.forebay("repair", &["--apply"])).expect(0);
    let report = scratch.buffer.join("repair/1/report.json");
    assert_eq!(stored(&report), documented("report.json"));
}

#[test]
fn ls_and_doctor_print_the_keys_of_the_page() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    for (command, options) in [("ls", &["--json", "--verify"][..]), ("doctor", &["--json"])] {
        let keys = printed([scratch.forebay(command, options)]);
        assert_eq!(keys, documented(command), "{command}");
    }
}

#[test]
fn repair_and_mend_print_the_keys_of_the_page() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    let keys = printed([scratch.forebay("repair", &["--json"])]);
    assert_eq!(keys, documented("repair"));
    fs::remove_file(scratch.buffer.join("buffer.db")).unwrap();
    let keys = printed([scratch.forebay("mend", &["--json"])]);
    assert_eq!(keys, documented("mend"));
}

#[cfg(unix)]
#[test]
fn drain_prints_the_keys_of_the_page() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let keys = printed([scratch.forebay("drain", &["--json", "--", "wc"])]);
    assert_eq!(keys, documented("drain"));
}

#[test]
fn cat_prints_the_keys_of_the_page() {
    let scratch = Scratch::new();
    scratch.push(b"text\n\xff\n");
    let of_vector = Scratch::new();
    copy(&golden("vector-events"), &of_vector.buffer);
    let decoded = of_vector.forebay("cat", &["--all", "--json", "--decode"]);
    let mut keys = printed([scratch.forebay("cat", &["--json"]), decoded]);
    // The keys inside a decoded event are Vector's, so the page does not name them.
    let all = keys.len();
    keys.retain(|key| !key.starts_with("decoded"));
    assert!(keys.len() < all, "nothing was decoded");
    keys.insert("decoded".to_owned());
    assert_eq!(keys, documented("cat"));
}

#[test]
fn export_and_import_print_the_keys_of_the_page() {
    let scratch = Scratch::new();
    scratch.push(b"text\n\xff\nmore\nlast\nends\nhere\n");
    scratch.damage_fifth_record();
    let of_vector = Scratch::new();
    copy(&golden("vector-events"), &of_vector.buffer);
    let lines = [
        scratch.forebay("export", &[]),
        of_vector.forebay("export", &["--decode"]),
    ];
    let mut keys = printed(lines);
    keys.retain(|key| !key.starts_with("decoded[]"));
    assert_eq!(keys, documented("export"));
    let path = scratch.path("export");
    let output = path.to_str().unwrap();
    let summary = scratch.forebay("export", &["--output", output, "--json"]);
    assert_eq!(printed([summary]), documented("export --json"));
    let mut import = crate::support::forebay(["import", "--json", "--input", output]);
    import.arg(scratch.path("to"));
    assert_eq!(printed([import]), documented("import"));
}

#[cfg(target_os = "linux")]
#[test]
fn bench_prints_the_keys_of_the_page() {
    let scratch = Scratch::new();
    let works = "append,read_ack,append_synced,open,memory,many_buffers";
    let mut command = crate::support::forebay(["bench", "--quick", "--json", "--dir"]);
    command
        .arg(scratch.root.path())
        .args(["--size", "1MiB", "--payload", "64", "--work", works]);
    assert_eq!(printed([command]), documented("bench"));
}
