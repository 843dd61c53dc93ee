//! `forebay doctor`.

use crate::support::{
    Scratch, copy, finish, forebay, golden, kill, lines, run, snapshot, wait_until,
};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

/// The answers about the one buffer below a path.
#[track_caller]
fn doctor(path: &Path, options: &[&str], status: i32) -> Vec<Value> {
    let mut command = forebay(["doctor", "--json"]);
    command.arg(path).args(options);
    let report: Value = serde_json::from_slice(&run(command).expect(status).stdout).unwrap();
    answers_of(&report)
}

/// The answers in a report.
#[track_caller]
fn answers_of(report: &Value) -> Vec<Value> {
    let answers = report["checks"].as_array().unwrap().clone();
    let problems = answers.iter().filter(|a| a["verdict"] == "problem");
    assert_eq!(report["problems"], problems.count(), "{report}");
    for answer in &answers {
        // Whoever reads of something to do is told how.
        assert_eq!(
            answer["command"].is_null(),
            answer["verdict"] == "ok",
            "{answer}"
        );
    }
    answers
}

/// The answers of a check.
fn of<'a>(answers: &'a [Value], check: &str) -> Vec<&'a Value> {
    answers.iter().filter(|a| a["check"] == check).collect()
}

/// The one answer of a check with a verdict; its text and its command.
#[track_caller]
fn one<'a>(answers: &'a [Value], check: &str, verdict: &str) -> (&'a str, &'a str) {
    let found: Vec<_> = of(answers, check)
        .into_iter()
        .filter(|answer| answer["verdict"] == verdict)
        .collect();
    assert_eq!(found.len(), 1, "{check} {verdict}: {answers:#?}");
    (
        found[0]["says"].as_str().unwrap(),
        found[0]["command"].as_str().unwrap_or_default(),
    )
}

/// Runs a command as the page shows it, in a directory of its own.
fn run_in_shell(command: &str, directory: &Path) -> Option<i32> {
    output_in_shell(command, directory).status.code()
}

fn output_in_shell(command: &str, directory: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_forebay")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = vec![program.to_owned()];
    paths.extend(std::env::split_paths(&path));
    Command::new("sh")
        .args(["-c", command])
        .env("PATH", std::env::join_paths(paths).unwrap())
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A process that has the buffer open, with five unread events.
fn holder(scratch: &Scratch) -> Child {
    let (mut holder, stdin) = scratch.held(&lines(1, 5));
    holder.stdin = Some(stdin);
    holder
}

/// Of each golden buffer, the damage is a problem, and every command that an answer gives exists
/// and can be run. One that opens the buffer is run last.
#[test]
fn every_golden_buffer_is_told_what_to_do_by_commands_that_exist() {
    let scratch = Scratch::new();
    let root = scratch.root.path();
    for entry in fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            copy(&path, &root.join(path.file_name().unwrap()));
        }
    }
    let before = snapshot(root);
    let mut command = forebay(["doctor", "--json"]);
    command.arg(root);
    let text = run(command).expect(1).stdout_text();
    assert_eq!(snapshot(root), before);
    assert_eq!(text.lines().count(), 68);
    let mut kinds = std::collections::BTreeSet::new();
    for report in text.lines() {
        let report: Value = serde_json::from_str(report).unwrap();
        let answers = answers_of(&report);
        let mut verify = forebay(["verify", "--json"]);
        verify.arg(report["directory"].as_str().unwrap());
        let verified = run(verify);
        let findings: Value = serde_json::from_slice(&verified.stdout).unwrap();
        kinds.extend(
            findings["findings"]
                .as_array()
                .unwrap()
                .iter()
                .map(|f| f["kind"].to_string()),
        );
        let is_damaged = of(&answers, "findings")
            .iter()
            .any(|a| a["verdict"] == "problem");
        assert_eq!(is_damaged, verified.status == Some(1), "{report:#}");
        let commands = answers
            .iter()
            .filter_map(|answer| answer["command"].as_str());
        let mut commands: Vec<&str> = commands.collect();
        let opens = |command: &&str| command.contains(" mend ") || command.contains(" pull ");
        commands.sort_by_key(opens);
        for command in commands {
            let program = command.split(' ').next().unwrap();
            assert_eq!(program, "forebay", "{command}");
            if !command.contains(" bench ") {
                let status = run_in_shell(command, root);
                assert!(matches!(status, Some(0 | 1)), "{command}: {status:?}");
            }
        }
    }
    assert!(kinds.len() >= 10, "{kinds:?}");
}

/// Whoever does what the first answer about the data says, again and again, is soon done, and no
/// intact record is gone.
#[test]
fn following_the_commands_of_every_golden_buffer_comes_to_rest() {
    const STEPS_MAX: usize = 5;
    let records = |directory: &Path| {
        let mut cat = forebay(["cat", "--json"]);
        cat.arg(directory);
        run(cat).stdout_text()
    };
    let mut followed = 0;
    for entry in fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let scratch = Scratch::new();
        copy(&path, &scratch.buffer);
        let before = records(&scratch.buffer);
        let mut look = format!("forebay doctor {}", scratch.buffer.display());
        let mut commands = Vec::new();
        loop {
            let looked = output_in_shell(&format!("{look} --json"), scratch.root.path());
            let report: Value = serde_json::from_slice(&looked.stdout).unwrap();
            let answers = answers_of(&report);
            let findings = of(&answers, "findings");
            let first = ["problem", "note"].iter().find_map(|verdict| {
                let mut findings = findings.iter();
                let found = findings.find(|answer| answer["verdict"] == *verdict)?;
                Some(found["command"].as_str().unwrap().to_owned())
            });
            let Some(command) = first else {
                break;
            };
            commands.push(command.clone());
            assert!(commands.len() <= STEPS_MAX, "{path:?}: {commands:#?}");
            if command.contains(" doctor ") {
                look = command;
                continue;
            }
            let applied = match command.contains(" repair ") {
                true => format!("{command} --apply"),
                false => command,
            };
            let status = run_in_shell(&applied, scratch.root.path());
            assert!(matches!(status, Some(0 | 1)), "{applied}: {status:?}");
        }
        followed += usize::from(!commands.is_empty());
        assert_eq!(records(&scratch.buffer), before, "{path:?}");
    }
    assert!(followed >= 40, "{followed}");
}

/// If the steps of the ids explain everything, the answer says at once how to look; else a loss
/// is accepted by a repair.
#[test]
fn steps_in_the_ids_are_counted_or_repaired() {
    for (name, command) in [
        ("multi-event", "forebay doctor DIR --count-events ids"),
        ("c-gap-in-ids", "forebay doctor DIR --count-events ids"),
        ("c-empty-middle", "forebay repair DIR"),
        ("c-missing-middle", "forebay repair DIR"),
        ("c-trunc-at-boundary", "forebay repair DIR"),
        ("c-duplicate-record", "forebay repair DIR"),
        ("c-ledger-missing", "forebay mend DIR"),
    ] {
        let scratch = Scratch::new();
        copy(&golden(name), &scratch.buffer);
        let expected = command.replace("DIR", &scratch.buffer.display().to_string());
        let answers = doctor(&scratch.buffer, &[], 1);
        let (says, command) = one(&answers, "findings", "problem");
        assert_eq!(command, expected, "{says}");
        let is_plan = command.contains(" repair ");
        assert_eq!(says.contains("; --apply does it"), is_plan, "{says}");
    }
    let scratch = Scratch::new();
    copy(&golden("multi-event"), &scratch.buffer);
    let answers = doctor(&scratch.buffer, &["--quick"], 1);
    let (says, command) = one(&answers, "findings", "problem");
    assert!(says.contains("without --quick"), "{says}");
    let full = format!("forebay doctor {}", scratch.buffer.display());
    assert_eq!(command, full);
}

/// The commands count as the user said.
#[test]
fn the_count_is_part_of_the_commands() {
    let scratch = Scratch::new();
    copy(&golden("c-empty-middle"), &scratch.buffer);
    let answers = doctor(&scratch.buffer, &["--count-events", "ids"], 1);
    let (_, command) = one(&answers, "findings", "problem");
    assert!(command.ends_with(" --count-events ids"), "{command}");
}

/// What the answer says helps: afterwards there is nothing left to say.
#[test]
fn a_broken_ledger_is_mended_by_what_the_answer_says() {
    for name in ["c-ledger-missing", "c-ledger-garbage", "c-ledger-zero"] {
        let scratch = Scratch::new();
        copy(&golden(name), &scratch.buffer);
        let answers = doctor(&scratch.buffer, &[], 1);
        let (says, command) = one(&answers, "findings", "problem");
        assert!(says.contains("the ledger, buffer.db, is "), "{says}");
        run_in_shell(command, scratch.root.path());
        let answers = doctor(&scratch.buffer, &[], 1);
        one(&answers, "findings", "ok");
        let (says, command) = one(&answers, "holder", "problem");
        assert!(says.contains("100 events wait in it"), "{says}");
        assert_eq!(run_in_shell(command, scratch.root.path()), Some(0));
        let answers = doctor(&scratch.buffer, &[], 0);
        one(&answers, "holder", "ok");
    }
}

#[test]
fn text_is_for_people_and_wraps() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    let text = run(scratch.forebay("doctor", &[])).expect(1).stdout_text();
    assert!(text.contains(": 2 problems\n"), "{text}");
    let repair = format!("$ forebay repair {}\n", scratch.buffer.display());
    assert!(text.contains(&repair), "{text}");
    let is_short = |line: &str| line.chars().count() <= 80 || line.contains("$ forebay");
    assert!(text.lines().all(is_short), "{text}");
    let ranks: Vec<_> = ["PROBLEM", "ok "].map(|word| text.find(word)).into();
    assert!(ranks[0] < ranks[1], "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_holder_that_is_stopped_is_found_and_goes_on() {
    let scratch = Scratch::new();
    let mut holder = holder(&scratch);
    let pid = holder.id();
    let answers = doctor(&scratch.buffer, &["--quick"], 0);
    let (says, _) = one(&answers, "holder", "ok");
    assert!(says.contains(&format!("forebay ({pid})")), "{says}");
    let (says, command) = one(&answers, "progress", "note");
    assert!(says.contains("nothing was acknowledged"), "{says}");
    assert_eq!(run_in_shell(command, scratch.root.path()), Some(0));
    kill(pid, "STOP");
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.contains(") T ")
    };
    wait_until("the stop", is_stopped);
    let answers = doctor(&scratch.buffer, &["--quick"], 1);
    let (says, command) = one(&answers, "holder", "problem");
    assert!(says.contains("is stopped by a signal"), "{says}");
    assert_eq!(run_in_shell(command, scratch.root.path()), Some(0));
    wait_until("the start", || !is_stopped());
    let answers = doctor(&scratch.buffer, &["--quick"], 0);
    one(&answers, "holder", "ok");
    drop(holder.stdin.take());
    finish(holder).expect(0);
}

#[test]
fn damage_in_an_open_buffer_says_to_close_it_first() {
    let scratch = Scratch::new();
    let mut holder = holder(&scratch);
    scratch.damage_fifth_record();
    let answers = doctor(&scratch.buffer, &[], 1);
    let (says, command) = one(&answers, "findings", "problem");
    assert!(says.contains("has closed the buffer"), "{says}");
    assert!(command.starts_with("forebay repair "), "{command}");
    drop(holder.stdin.take());
    finish(holder);
}

#[test]
fn the_maximum_size_is_compared_with_fill_and_free_space() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let said = |max_size| {
        let mut command = scratch.forebay("doctor", &["--json", "--quick", "--max-size"]);
        command.arg(max_size);
        let report: Value = serde_json::from_slice(&run(command).expect(1).stdout).unwrap();
        report["checks"].as_array().unwrap().clone()
    };
    let answers = said("480");
    let (says, _) = one(&answers, "space", "problem");
    assert!(says.contains("100 % full"), "{says}");
    let answers = said("600");
    let (says, _) = one(&answers, "space", "note");
    assert!(says.contains("80 % full"), "{says}");
    if cfg!(unix) {
        let answers = said("1000PiB");
        let (says, command) = one(&answers, "space", "problem");
        assert!(
            says.contains("the disk is full before the buffer is"),
            "{says}"
        );
        assert!(command.starts_with("df -h "), "{command}");
    }
}

#[test]
fn a_file_from_the_future_is_a_problem_of_the_clock() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    scratch.pull();
    let answers = doctor(&scratch.buffer, &["--quick"], 0);
    one(&answers, "clock", "ok");
    let file = fs::File::options()
        .write(true)
        .open(scratch.buffer.join("buffer-data-0.dat"))
        .unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(7_260))
        .unwrap();
    let answers = doctor(&scratch.buffer, &["--quick"], 1);
    let (says, command) = one(&answers, "clock", "problem");
    assert!(says.contains("was changed 2h "), "{says}");
    assert_eq!(command, "timedatectl");
}

#[test]
fn what_damage_and_repairs_left_is_noted() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    run(scratch.forebay("repair", &["--apply"])).expect(0);
    run(scratch.forebay("pull", &[])).expect(1);
    let answers = doctor(&scratch.buffer, &["--quick"], 0);
    let (says, _) = one(&answers, "leftovers", "note");
    assert!(
        says.starts_with("the numbered directories in repair/ hold what earlier repairs"),
        "{says}"
    );
    fs::write(scratch.buffer.join("repair/buffer-data-0.dat"), "new").unwrap();
    let answers = doctor(&scratch.buffer, &["--quick"], 0);
    let leftovers: Vec<_> = of(&answers, "leftovers")
        .iter()
        .map(|answer| answer["says"].to_string())
        .collect();
    assert_eq!(leftovers.len(), 2, "{leftovers:?}");
    let unfinished =
        "new files of a repair that was stopped before it changed anything: 1 file, 3 B";
    assert!(leftovers[0].contains(unfinished), "{leftovers:?}");
    assert!(leftovers[1].contains("original files"), "{leftovers:?}");
    fs::write(scratch.buffer.join("repair/list.out"), "").unwrap();
    let answers = doctor(&scratch.buffer, &["--quick"], 1);
    let (says, command) = one(&answers, "state", "problem");
    assert!(says.contains("was interrupted"), "{says}");
    assert!(command.starts_with("forebay mend "), "{command}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_buffer_in_memory_is_on_a_file_system_that_loses_it() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let shm = Path::new("/dev/shm");
    let is_in_memory = mounts.lines().any(|line| line.contains(" /dev/shm tmpfs "));
    let Some(root) = is_in_memory
        .then(|| tempfile::tempdir_in(shm).ok())
        .flatten()
    else {
        eprintln!("skipped: there is no tmpfs at /dev/shm");
        return;
    };
    copy(&golden("empty"), &root.path().join("buffer"));
    let answers = doctor(root.path(), &[], 1);
    let (says, _) = one(&answers, "file system", "problem");
    assert!(says.contains("tmpfs at /dev/shm is in memory"), "{says}");
    assert!(of(&answers, "syncs").is_empty());
}

#[cfg(unix)]
#[test]
fn files_of_another_owner_are_found() {
    use std::os::unix::fs::chown;
    let scratch = Scratch::new();
    copy(&golden("empty"), &scratch.buffer);
    let ledger = scratch.buffer.join("buffer.db");
    if chown(&ledger, Some(12_345), None).is_err() {
        eprintln!("skipped: this user may not give files away");
        return;
    }
    let answers = doctor(&scratch.buffer, &["--quick"], 1);
    let (says, command) = one(&answers, "permissions", "problem");
    assert!(says.starts_with("buffer.db does not belong to"), "{says}");
    assert_eq!(run_in_shell(command, scratch.root.path()), Some(0));
    let answers = doctor(&scratch.buffer, &["--quick"], 0);
    one(&answers, "permissions", "ok");
}

/// A data file that this user may not read is a problem with a way on, and no error.
#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_a_problem_of_permissions() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let scratch = Scratch::new();
    copy(&golden("multi-file"), &scratch.buffer);
    let file = scratch.buffer.join("buffer-data-2.dat");
    set_mode(&file, 0o000);
    let is_root = fs::File::open(&file).is_ok();
    let looked = |options: &[&str]| {
        let mut command = forebay(["doctor", "--json"]);
        if is_root {
            command = Command::new("setpriv");
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(env!("CARGO_BIN_EXE_forebay"))
                .args(["doctor", "--json"])
                .stdin(Stdio::null());
        }
        command.arg(&scratch.buffer).args(options);
        command.output()
    };
    if is_root {
        // The other user gets at the buffer, but not at the file.
        set_mode(scratch.root.path(), 0o755);
        set_mode(&scratch.buffer, 0o755);
        for entry in fs::read_dir(&scratch.buffer).unwrap() {
            let path = entry.unwrap().path();
            if path != file {
                set_mode(&path, 0o644);
            }
        }
        let starts = |output: &Output| !output.stdout.is_empty();
        if !looked(&["--help"]).is_ok_and(|output| starts(&output)) {
            eprintln!("skipped: root cannot run the program as another user with setpriv");
            return;
        }
    }
    let problem = || {
        let output = looked(&[]).unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let answers = answers_of(&report);
        assert!(!of(&answers, "file system").is_empty(), "{answers:?}");
        let found = of(&answers, "permissions");
        let first = found
            .into_iter()
            .find(|a| a["verdict"] == "problem")
            .unwrap();
        let says = first["says"].as_str().unwrap().to_owned();
        assert!(says.contains("may not read buffer-data-2.dat,"), "{says}");
        (says, first["command"].as_str().unwrap().to_owned())
    };
    let (says, command) = problem();
    assert!(says.contains("even its owner"), "{says}");
    assert_eq!(command, format!("chmod u+rw {}", file.display()));
    assert_eq!(run_in_shell(&command, scratch.root.path()), Some(0));
    if is_root {
        let (_, command) = problem();
        let directory = scratch.buffer.display();
        assert_eq!(command, format!("sudo -u '#0' forebay doctor {directory}"));
        chown(&file, Some(12_345), None).unwrap();
        let (says, command) = problem();
        assert!(says.contains("does not belong to the owner"), "{says}");
        assert_eq!(run_in_shell(&command, scratch.root.path()), Some(0));
    }
}

#[test]
fn without_a_buffer_it_is_an_error() {
    let scratch = Scratch::new();
    run(scratch.forebay("doctor", &[]))
        .expect(2)
        .says("there is no directory");
    let mut command = forebay(["doctor"]);
    command.arg(scratch.root.path());
    run(command)
        .expect(2)
        .says("there is no buffer in or below");
}
