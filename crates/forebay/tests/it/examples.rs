//! Runs the example programs as a user would run them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::temp_dir;

/// A time limit that no wait is expected to reach.
const LONG: Duration = Duration::from_secs(60);

/// The command of an example, which cargo builds next to the tests.
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let target = tests.ancestors().nth(2).unwrap();
    let program: PathBuf = target.join("examples").join(name);
    let program = program.with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        program.exists(),
        "{} is not built: run the tests without --test, or `cargo build -p forebay --examples`",
        program.display()
    );
    Command::new(program)
}

fn run<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = example(name).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_shape_that_changes_is_read_and_the_unknown_is_moved_aside() {
    let dir = temp_dir();
    let text = run("versions", [dir.path()]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..3], [1, 2, 3].map(|n| format!("order {n}: 250 EUR")));
    assert!(lines[3].starts_with("record 4 is moved aside"), "{text}");
    assert_eq!(lines[4], "order 4: 100 USD");
    let aside: Vec<_> = forebay::records(dir.path().join("orders-aside"))
        .unwrap()
        .map(|record| record.unwrap().metadata)
        .collect();
    assert_eq!(aside, [9]);
}

#[test]
fn the_figures_are_scraped_with_their_descriptions() {
    let dir = temp_dir();
    let text = run("prometheus", [dir.path()]);
    for line in [
        "# TYPE buffer_received_events_total counter",
        "buffer_received_events_total{buffer_id=\"orders\"} 10",
        "buffer_sent_events_total{buffer_id=\"orders\"} 3",
        "buffer_size_events{buffer_id=\"orders\"} 7",
        "buffer_state{buffer_id=\"orders\",state=\"open\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(
        text.contains("# HELP buffer_oldest_unread_age_seconds"),
        "{text}"
    );
}

#[test]
fn a_program_tests_its_own_crashes() {
    let text = run("crash_test", [] as [&str; 0]);
    assert!(text.contains("no confirmed transfer was lost"), "{text}");
}

/// Ctrl-C stops the program in the middle, and the next run continues: every accepted record is
/// printed by one run or another.
#[cfg(unix)]
#[test]
fn producers_that_are_stopped_lose_nothing() {
    let dir = temp_dir();
    let mut printed = BTreeSet::new();
    let mut accepted = 0;
    for life in 0..3 {
        let mut command = example("producers");
        command.arg(dir.path());
        if life == 2 {
            // The last life only drains.
            command.arg("0");
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for n in 0.. {
            let Some(line) = lines.next() else { break };
            printed.insert(line.unwrap());
            if life < 2 && n == 1000 {
                interrupt(&child);
            }
        }
        let mut errors = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        assert!(child.wait().unwrap().success(), "{errors}");
        let told = errors.lines().last().unwrap();
        let number = told.split(' ').next().unwrap();
        accepted += number.parse::<usize>().unwrap();
    }
    assert!(accepted > 2000, "{accepted}");
    assert_eq!(printed.len(), accepted);
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// The program is killed in each of four runs: every event that was answered with 200 reaches
/// the upstream.
#[test]
fn what_was_answered_with_200_is_forwarded_after_kills() {
    let dir = temp_dir();
    let upstream = dir.path().join("upstream");
    let mut confirmed = BTreeSet::new();
    for life in 0..4 {
        let (mut child, address) = serve(&dir.path().join("buffer"), &upstream);
        for n in 0..40 {
            let event = format!("{life}-{n}");
            assert_eq!(status_of(&address, &event), 200);
            confirmed.insert(event);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (mut child, address) = serve(&dir.path().join("buffer"), &upstream);
    let until = Instant::now() + LONG;
    loop {
        let text = std::fs::read_to_string(&upstream).unwrap_or_default();
        let forwarded: BTreeSet<_> = text.lines().map(str::to_owned).collect();
        if confirmed.is_subset(&forwarded) {
            break;
        }
        assert!(Instant::now() < until, "{} came", forwarded.len());
        std::thread::sleep(Duration::from_millis(10));
    }
    // Longer than axum takes by default, and longer than a record may be.
    assert_eq!(status_of(&address, &"x".repeat(3 << 20)), 200);
    assert_eq!(status_of(&address, &"x".repeat(6 << 20)), 413);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Without the upstream nothing is acknowledged, so the buffer fills up and the answer is 503.
#[test]
fn a_full_buffer_is_answered_with_503() {
    let dir = temp_dir();
    // A directory cannot be appended to.
    let (mut child, address) = serve(&dir.path().join("buffer"), dir.path());
    let event = "x".repeat(1 << 20);
    let answers: Vec<String> = (0..70).map(|_| post(&address, &event)).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(status(&answers[0]), 200);
    let last = &answers[69];
    assert_eq!(status(last), 503, "{last}");
    assert!(last.contains("\r\nretry-after: 1\r\n"), "{last}");
}

fn serve(buffer: &Path, upstream: &Path) -> (Child, String) {
    let mut child = example("ingest")
        .args([buffer, upstream])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut address).unwrap();
    let address = address.trim().strip_prefix("http://").unwrap();
    (child, address.strip_suffix("/events").unwrap().to_owned())
}

fn status_of(address: &str, event: &str) -> u16 {
    status(&post(address, event))
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    status.unwrap_or_else(|| panic!("{answer:?}"))
}

/// Posts an event; the answer.
fn post(address: &str, event: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let len = event.len();
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses the length may not read it all.
    let _ = stream.write_all(event.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}
