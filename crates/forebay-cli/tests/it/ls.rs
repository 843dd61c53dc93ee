//! `forebay ls`.

use crate::support::{
    Scratch, copy, finish, forebay, golden, kill, lines, run, run_with, snapshot,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

/// The rows of `ls --json`, by the names of the buffers' directories.
#[track_caller]
fn ls(paths: &[&Path], options: &[&str], status: i32) -> Vec<(String, Value)> {
    let mut command = forebay(["ls", "--json"]);
    command.args(paths).args(options);
    let text = run(command).expect(status).stdout_text();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let name = Path::new(row["directory"].as_str().unwrap())
            .file_name()
            .unwrap();
        (name.to_str().unwrap().to_owned(), row)
    };
    text.lines().map(row).collect()
}

fn names(rows: &[(String, Value)]) -> Vec<&str> {
    rows.iter().map(|(name, _)| name.as_str()).collect()
}

/// Every golden buffer is listed with its unread events, and the damaged ones are those that
/// `verify` calls damaged.
#[test]
fn every_golden_buffer_is_listed_and_the_damaged_ones_are_found() {
    let all = golden("");
    let before = snapshot(&all);
    let rows = ls(&[&all], &[], 1);
    assert_eq!(rows.len(), 68);
    let damaged: BTreeSet<String> = rows
        .iter()
        .filter(|(name, _)| {
            let mut verify = forebay(["verify"]);
            verify.arg(golden(name));
            run(verify).status == Some(1)
        })
        .map(|(name, _)| name.clone())
        .collect();
    assert!(damaged.len() > 30, "{damaged:?}");
    let found = ls(&[&all], &["--damaged"], 1);
    let found: BTreeSet<String> = found.into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, damaged);
    for (name, row) in &rows {
        let mut inspect = forebay(["inspect", "--quick", "--json"]);
        inspect.arg(golden(name));
        let inspected: Value = serde_json::from_slice(&run(inspect).expect(0).stdout).unwrap();
        for key in ["events", "bytes"] {
            assert_eq!(row["unread"][key], inspected["unread"][key], "{name}");
        }
        let orphaned = inspected["unread"]["events"] != 0;
        let state = if orphaned { "orphaned" } else { "empty" };
        assert_eq!(row["state"], state, "{name}");
        // What is seen at the ends is also seen when every byte is checked.
        assert!(row["damaged"] != true || damaged.contains(name), "{name}");
    }
    assert_eq!(snapshot(&all), before);
}

#[test]
fn orphans_stand_out_and_can_be_chosen_with_their_age() {
    let scratch = Scratch::new();
    for name in ["new", "old", "empty"] {
        let path = scratch.path(name);
        let mut push = forebay(["push"]);
        push.arg(&path);
        run_with(push, lines(1, 1_234).as_bytes()).expect(0);
        let file = fs::File::options()
            .write(true)
            .open(path.join("buffer-data-0.dat"))
            .unwrap();
        if name == "old" {
            let past = SystemTime::now() - Duration::from_secs(4 * 86_400);
            file.set_modified(past).unwrap();
        }
        if name == "empty" {
            let mut pull = forebay(["pull"]);
            pull.arg(&path);
            run(pull).expect(0);
        }
    }
    let root = scratch.root.path();
    assert_eq!(names(&ls(&[root], &[], 0)), ["empty", "new", "old"]);
    assert_eq!(names(&ls(&[root], &["--orphaned"], 0)), ["new", "old"]);
    let older = ls(&[root], &["--older-than", "3d"], 0);
    assert_eq!(names(&older), ["old"]);
    assert!(ls(&[root], &["--older-than", "5d"], 0).is_empty());
    assert!(ls(&[root], &["--damaged"], 0).is_empty());
    let mut table = forebay(["ls"]);
    table.arg(root);
    let text = run(table).expect(0).stdout_text();
    let row = |name| text.lines().find(|line| line.ends_with(name)).unwrap();
    assert!(row("/old").starts_with("ORPHAN"), "{text}");
    assert!(row("/old").contains("1,234"), "{text}");
    assert!(row("/old").contains(" 4d "), "{text}");
    assert!(row("/empty").starts_with("empty"), "{text}");
    assert!(!text.contains("FILL") && !text.contains('\x1b'), "{text}");
}

#[test]
fn fill_is_told_for_the_maximum_size_that_was_given() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let size = format!("{}=960", scratch.buffer.display());
    let rows = ls(
        &[scratch.root.path()],
        &["--max-size", &size, "--max-size", "1GiB"],
        0,
    );
    assert_eq!(rows[0].1["max_size_bytes"], 960);
    assert_eq!(rows[0].1["fill_ratio"], 0.5);
    let table = run(scratch.forebay("ls", &["--max-size", "960"])).expect(0);
    assert!(table.stdout_text().contains(" 50 % "), "{table:?}");
    run(scratch.forebay("ls", &["--max-size", "0"]))
        .expect(2)
        .says("256MiB");
}

#[test]
fn an_open_buffer_names_its_process_and_is_healthy() {
    let scratch = Scratch::new();
    let (holder, _stdin) = scratch.held(&lines(1, 5));
    let before = snapshot(&scratch.buffer);
    for options in [&[][..], &["--verify"]] {
        let rows = ls(&[scratch.root.path()], options, 0);
        let row = &rows[0].1;
        assert_eq!(row["state"], "open");
        assert_eq!(row["unread"]["events"], 5);
        assert_eq!(row["next_record_id"], 6);
        assert_eq!(row["last_acknowledged_id"], 0);
        assert_eq!(row["findings"], serde_json::json!([]));
        if cfg!(target_os = "linux") {
            assert_eq!(row["lock_holder_pid"], holder.id());
            assert_eq!(row["lock_holder_program"], "forebay");
        }
    }
    assert_eq!(snapshot(&scratch.buffer), before);
    assert!(ls(&[scratch.root.path()], &["--orphaned"], 0).is_empty());
    // What a killed process leaves is an orphan.
    kill(holder.id(), "KILL");
    finish(holder);
    let rows = ls(&[scratch.root.path()], &["--orphaned", "--verify"], 0);
    assert_eq!(rows[0].1["state"], "orphaned");
}

/// Looks while another process writes and acknowledges as fast as it can.
#[test]
fn a_busy_buffer_is_never_called_damaged() {
    let scratch = Scratch::new();
    let mut busy = scratch
        .forebay(
            "pipe",
            &["--max-size", "64MiB", "--", "sh", "-c", "cat > /dev/null"],
        )
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = busy.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        let block = lines(1, 10_000);
        // Ends when the process is killed.
        while stdin.write_all(block.as_bytes()).is_ok() {}
    });
    crate::support::wait_until("the buffer", || scratch.buffer.join("buffer.db").exists());
    for look in 0..30 {
        let options: &[&str] = if look % 10 == 0 { &["--verify"] } else { &[] };
        let rows = ls(&[&scratch.buffer], options, 0);
        assert_eq!(rows[0].1["state"], "open");
        assert_eq!(rows[0].1["damaged"], false, "{}", rows[0].1);
    }
    kill(busy.id(), "KILL");
    finish(busy);
    feeding.join().unwrap();
}

#[test]
fn a_path_without_a_buffer_is_an_error_and_does_not_hide_others() {
    let scratch = Scratch::new();
    let root = scratch.root.path();
    let run_ls = |paths: &[&Path]| {
        let mut command = forebay(["ls"]);
        command.args(paths);
        run(command)
    };
    run_ls(&[root])
        .expect(2)
        .says("there is no buffer in or below");
    let missing = scratch.path("missing");
    let ran = run_ls(&[&missing]).expect(2).says("there is no directory");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    scratch.push(lines(1, 3));
    let ran = run_ls(&[&missing, root])
        .expect(2)
        .says("there is no directory");
    assert!(ran.stdout_text().contains("ORPHAN"), "{ran:?}");
    let file = scratch.path("file");
    fs::write(&file, "").unwrap();
    run_ls(&[&file]).expect(2).says("directories");
}

#[test]
fn an_interrupted_repair_is_a_state() {
    let scratch = Scratch::new();
    copy(&golden("hundred"), &scratch.buffer);
    fs::create_dir(scratch.buffer.join("repair")).unwrap();
    fs::write(scratch.buffer.join("repair/list.out"), "").unwrap();
    let rows = ls(&[scratch.root.path()], &["--damaged"], 1);
    assert_eq!(rows[0].1["state"], "repair");
    let error = rows[0].1["error"].as_str().unwrap();
    assert!(
        error.contains("open the buffer, which finishes it"),
        "{error}"
    );
    assert_eq!(rows[0].1["unread"]["events"], Value::Null);
}
