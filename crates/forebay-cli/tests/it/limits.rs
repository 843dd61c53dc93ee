//! Low limits on file descriptors and threads.

use crate::support::{Scratch, finish, kill, lines, wait_until};
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Starts the program under a limit that the shell sets, with a file as its standard input.
fn limited(scratch: &Scratch, limit: &str, arguments: &str, input: &str) -> Child {
    let file = scratch.path("input");
    std::fs::write(&file, input).unwrap();
    Command::new("sh")
        .args(["-c", &format!("{limit}; exec \"$0\" {arguments}")])
        .arg(env!("CARGO_BIN_EXE_forebay"))
        .arg(&scratch.buffer)
        .stdin(std::fs::File::open(&file).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

const PUSH: &str = "push \"$1\" --data-file-size 64KiB --max-size 200MiB";

/// Regression: data files that waited for their sync held all descriptors, and the sync
/// needed one more for the directory. It was retried for ever, 2,000 times a second.
#[test]
fn a_push_goes_on_where_its_files_exhaust_the_descriptors() {
    let scratch = Scratch::new();
    let input = lines(1, 100_000);
    finish(limited(&scratch, "ulimit -n 20", PUSH, &input)).expect(0);
    assert!(scratch.pull() == input);
}

/// Regression: the append waited for the thread that retried the sync for ever, and did not
/// notice the signal; after half a minute the program gave up.
#[test]
fn a_signal_ends_a_push_without_descriptors() {
    let scratch = Scratch::new();
    let push = limited(&scratch, "ulimit -n 20", PUSH, &lines(1, 3_000_000));
    wait_until("data files", || {
        scratch.buffer.join("buffer-data-3.dat").exists()
    });
    kill(push.id(), "TERM");
    let ran = finish(push);
    assert!(!ran.stderr.contains("giving up"), "{ran:?}");
    // The push may have finished before the signal came. A close does not wait for descriptors, and
    // says what is not synced.
    let is_told = ran.stderr.contains("Too many open files")
        && ran.stderr.contains("records perhaps not synced");
    let is_expected = match ran.status {
        Some(0 | 143) => true,
        Some(2) => is_told,
        _ => false,
    };
    assert!(is_expected, "{ran:?}");
}

/// Regression: it said that the file system was full, and waited for space.
#[test]
fn a_push_with_too_few_descriptors_goes_on_or_says_so() {
    for descriptors in 4..16 {
        let scratch = Scratch::new();
        let input = lines(1, 20_000);
        let limit = format!("ulimit -n {descriptors}");
        let ran = finish(limited(&scratch, &limit, PUSH, &input));
        if ran.status == Some(0) {
            assert!(scratch.pull() == input);
            continue;
        }
        let ran = ran.expect(2).says("open files");
        if scratch.buffer.join("buffer-data-0.dat").exists() {
            // The push may report fewer records than are stored: without a descriptor it
            // cannot look.
            let stored = scratch.cat();
            assert!(input.starts_with(&stored), "{stored:?}");
            let said = ran.stderr.replace(',', "");
            let said: usize = said
                .split_once(" records stored and synced")
                .and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok())
                .unwrap_or(0);
            assert!(said <= stored.lines().count(), "{ran:?}");
        }
    }
}

/// Regression: the program panicked when its first thread could not be started, and `pipe`
/// also for a later one.
#[test]
fn too_few_threads_are_an_error() {
    for processes in 1..5 {
        for arguments in [
            "push \"$1\"",
            "pull \"$1\"",
            "pipe \"$1\" -- cat",
            "bench --quick --size 1MiB --work append --dir \"$1\"",
        ] {
            let scratch = Scratch::new();
            scratch.push(lines(1, 3));
            let Some(child) = alone(&scratch, processes, arguments) else {
                return;
            };
            let ran = finish(child);
            if ran.status == Some(0) {
                continue;
            }
            // With one process less than it needs, `pipe` cannot start its program.
            let says_what_to_do = ran.stderr.contains("thread") && ran.stderr.contains("ulimit");
            assert!(
                says_what_to_do || ran.status == Some(126),
                "{processes}, {arguments}: {ran:?}"
            );
            assert!(!ran.stderr.contains("panicked"), "{ran:?}");
            assert_eq!(scratch.cat(), lines(1, 3), "{processes}, {arguments}");
        }
    }
}

/// Starts the program with at most `processes` processes and threads. The limit counts
/// everything that a user runs, so if the test runs as root, the program runs as a user of
/// its own. `None`, with a printed notice, if it cannot be started.
fn alone(scratch: &Scratch, processes: u32, arguments: &str) -> Option<Child> {
    // Some shells call this limit `-u`, others `-p`.
    let limit = format!("ulimit -u {processes} 2>/dev/null || ulimit -p {processes}");
    let program = scratch.path("forebay");
    std::fs::copy(env!("CARGO_BIN_EXE_forebay"), &program).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{limit}; exec \"$0\" {arguments}")])
        .arg(&program)
        .arg(&scratch.buffer)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if rustix::process::geteuid().is_root() {
        let user = 200_000 + std::process::id() % 100_000;
        for path in [scratch.root.path(), &scratch.buffer, &program] {
            std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        for entry in std::fs::read_dir(&scratch.buffer).unwrap() {
            chown(entry.unwrap().path(), Some(user), Some(user)).unwrap();
        }
        chown(&scratch.buffer, Some(user), Some(user)).unwrap();
        command.uid(user).gid(user);
    }
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            eprintln!("SKIPPED: no process of another user can be started: {error}");
            None
        }
    }
}
