//! Directories, options and file systems that cannot be used, and the messages about them.

use crate::full_disk::Mount;
use crate::support::{Scratch, forebay, lines, run, run_with, snapshot};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

/// A user other than root, because root may open files of any mode.
const NOBODY: u32 = 65534;

const READERS: [&str; 4] = ["pull", "inspect", "verify", "cat"];

#[test]
fn a_missing_directory_is_made_by_writers_and_an_error_for_readers() {
    for command in READERS {
        let scratch = Scratch::new();
        let ran = run(scratch.forebay(command, &[])).expect(2);
        let path = scratch.buffer.to_str().unwrap();
        assert!(ran.stderr.contains(path), "{command}: {ran:?}");
        assert!(!scratch.buffer.exists(), "{command}");
    }
    let scratch = Scratch::new();
    scratch.push("a\n");
    assert_eq!(scratch.pull(), "a\n");
    let mut pipe = forebay(["pipe"]);
    pipe.arg(scratch.path("other")).args(["--", "cat"]);
    run_with(pipe, b"b\n").expect(0);
}

#[test]
fn a_file_is_no_directory() {
    let scratch = Scratch::new();
    fs::write(&scratch.buffer, "precious").unwrap();
    for command in READERS {
        run(scratch.forebay(command, &[])).expect(2).says("buffer");
    }
    run(scratch.forebay("push", &[])).expect(2).says("buffer");
    run(scratch.forebay("pipe", &["--", "cat"])).expect(2);
    assert_eq!(fs::read(&scratch.buffer).unwrap(), b"precious");
}

#[test]
fn a_directory_that_holds_something_else_is_left_alone() {
    let scratch = Scratch::new();
    fs::create_dir(&scratch.buffer).unwrap();
    fs::write(scratch.buffer.join("thesis.txt"), "precious").unwrap();
    let before = snapshot(&scratch.buffer);
    for command in READERS {
        run(scratch.forebay(command, &[])).expect(2);
    }
    run_with(scratch.forebay("push", &[]), b"a\n").expect(2);
    run_with(scratch.forebay("pipe", &["--", "cat"]), b"a\n").expect(2);
    assert_eq!(snapshot(&scratch.buffer), before);
}

/// Regression: the message was "empty is not a buffer: it is empty, but no buffer.db".
#[test]
fn an_empty_directory_is_a_new_buffer_for_writers_and_none_for_readers() {
    let scratch = Scratch::new();
    fs::create_dir(&scratch.buffer).unwrap();
    for command in READERS {
        run(scratch.forebay(command, &[]))
            .expect(2)
            .says("check the path");
    }
    assert!(snapshot(&scratch.buffer).is_empty());
    scratch.push("a\n");
    assert_eq!(scratch.pull(), "a\n");
}

#[test]
fn bad_numbers_name_the_option_and_the_remedy() {
    for (command, option) in [
        ("pull", "--max"),
        ("cat", "--max"),
        ("cat", "--from"),
        ("pipe", "--max-restarts"),
    ] {
        for (value, says) in [
            ("-1", "not a whole number"),
            ("1.5", "not a whole number"),
            ("", "not a whole number"),
            ("18446744073709551616", "64 bits"),
        ] {
            let scratch = Scratch::new();
            let program: &[&str] = if command == "pipe" {
                &["--", "cat"]
            } else {
                &[]
            };
            let mut built = scratch.forebay(command, &[option, value]);
            built.args(program);
            run(built).expect(2).says(option).says(says);
        }
    }
}

#[test]
fn bad_sizes_and_durations_name_the_option_and_the_remedy() {
    for (option, value, says) in [
        ("--max-size", "12XB", "unknown unit \"XB\""),
        ("--max-size", "-1", "negative"),
        ("--max-size", "much", "write it as 256MiB"),
        ("--data-file-size", "99999999999TiB", "64 bits"),
        ("--flush-interval", "5", "needs a unit"),
        ("--flush-interval", "-5s", "negative"),
        ("--when-full", "explode", "drop-newest"),
        ("--sync", "perhaps", "interval"),
        ("--delimiter", "tab", "nul"),
    ] {
        let scratch = Scratch::new();
        let option_value = format!("{option}={value}");
        let ran = run(scratch.forebay("push", &[&option_value])).expect(2);
        assert!(ran.stderr.contains(option), "{option} {value}: {ran:?}");
        assert!(ran.stderr.contains(says), "{option} {value}: {ran:?}");
        assert!(!scratch.buffer.exists(), "{option} {value}");
    }
}

#[test]
fn a_negative_size_is_understood_without_an_equals_sign() {
    let scratch = Scratch::new();
    run(scratch.forebay("push", &["--max-size", "-1"]))
        .expect(2)
        .says("negative");
}

#[test]
fn limits_out_of_bounds_name_the_option_and_the_bound() {
    for (options, name) in [
        (&["--max-size", "0"][..], "max_size is 0 bytes"),
        (&["--max-size", "1B"], "max_size is 1 bytes"),
        (&["--max-record-size", "0"], "max_record_size is 0 bytes"),
        (
            &["--max-size", "1MiB", "--data-file-size", "1MiB"],
            "data_file_size is 1048576 bytes",
        ),
        (
            &["--max-size", "1MiB", "--max-record-size", "1MiB"],
            "max_record_size is 1048576 bytes",
        ),
        (&["--flush-interval", "5h"], "flush_interval is"),
    ] {
        let scratch = Scratch::new();
        run(scratch.forebay("push", options))
            .expect(2)
            .says("it must be from")
            .says(name)
            .says("the options of their names, such as --max-size");
        assert!(!scratch.buffer.exists());
    }
}

#[test]
fn what_is_missing_on_the_command_line_is_named() {
    run(forebay(["push"])).expect(2).says("<DIR>");
    run(forebay(["pipe", "dir"])).expect(2).says("<CMD>");
    run(forebay(["explode"])).expect(2).says("explode");
    let no_command: [&str; 0] = [];
    run(forebay(no_command)).expect(2).says("Usage");
}

#[test]
fn help_has_examples_and_a_closed_pipe_does_not_matter() {
    for command in ["push", "pull", "pipe", "inspect", "verify", "cat"] {
        let help = run(forebay([command, "--help"])).expect(0).stdout_text();
        assert!(help.contains("Examples:"), "{command}");
        assert!(help.contains("exit status"), "{command}");
        let mut child = forebay([command, "--help"]).spawn().unwrap();
        drop(child.stdout.take());
        crate::support::finish(child).expect(0);
    }
}

#[test]
fn without_permission_nothing_is_done() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let closed = |command: &str| {
        let mut built = scratch.forebay(command, &[]);
        if rustix::process::geteuid().is_root() {
            built.uid(NOBODY).gid(NOBODY);
        }
        built
    };
    // The user without permission must still be able to reach the program.
    let reachable = Path::new(env!("CARGO_BIN_EXE_forebay"))
        .ancestors()
        .chain(scratch.root.path().ancestors().skip(1))
        .all(|path| fs::metadata(path).is_ok_and(|m| m.mode() & 0o001 != 0));
    if rustix::process::geteuid().is_root() && !reachable {
        eprintln!("SKIPPED: nobody but root can reach the program");
        return;
    }
    fs::set_permissions(scratch.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&scratch.buffer, fs::Permissions::from_mode(0o000)).unwrap();
    for command in ["push", "pull", "inspect", "verify", "cat"] {
        let ran = run(closed(command)).expect(2);
        assert!(
            ran.stderr.to_lowercase().contains("permission denied"),
            "{command}: {ran:?}"
        );
        assert!(ran.stderr.contains("buffer"), "{command}: {ran:?}");
    }
    fs::set_permissions(&scratch.buffer, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(scratch.pull(), lines(1, 3));
}

#[test]
fn a_read_only_file_system_can_be_looked_at_and_not_written() {
    let scratch = Scratch::new();
    let Some(mount) = Mount::tmpfs(&scratch.buffer, "size=16m") else {
        return;
    };
    scratch.push(lines(1, 3));
    mount.remount("ro");
    for command in ["push", "pull"] {
        let ran = run(scratch.forebay(command, &[])).expect(2);
        assert!(ran.stderr.contains("read-only"), "{command}: {ran:?}");
    }
    assert_eq!(scratch.cat(), lines(1, 3));
    assert_eq!(scratch.json("inspect", 0)["locked"], false);
    assert_eq!(scratch.json("verify", 0)["records"], 3);
}
