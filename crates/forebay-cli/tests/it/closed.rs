//! Standard descriptors that are closed when the program starts.
//!
//! Regression: Rust's runtime opens `/dev/null` in place of a closed descriptor, so
//! `pull BUFFER >&-` and `pipe BUFFER -- cat >&-` acknowledged 1,000 records that nobody
//! got, and ended with status 0.

use crate::support::{Ran, Scratch, finish, lines, snapshot};
use std::process::{Command, Stdio};

/// Runs the program in a shell that redirects its descriptors.
fn redirected(scratch: &Scratch, arguments: &str, redirections: &str) -> Ran {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("exec \"$0\" {arguments} {redirections}")])
        .arg(env!("CARGO_BIN_EXE_forebay"))
        .arg(&scratch.buffer)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    finish(shell.spawn().unwrap())
}

#[test]
fn nothing_is_acknowledged_that_a_closed_standard_output_would_lose() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 1000));
    let before = snapshot(&scratch.buffer);
    for arguments in ["pull \"$1\"", "pipe \"$1\" -- cat"] {
        redirected(&scratch, arguments, ">&-")
            .expect(2)
            .says("standard output is closed");
        assert_eq!(snapshot(&scratch.buffer), before, "{arguments}");
    }
    assert_eq!(scratch.pull(), lines(1, 1000));
}

#[test]
fn a_closed_standard_output_is_an_error_of_every_command_that_prints() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    for arguments in [
        "inspect \"$1\"",
        "verify \"$1\"",
        "cat \"$1\"",
        "bench --quick",
        "push \"$1\" --report-synced",
    ] {
        redirected(&scratch, arguments, ">&-")
            .expect(2)
            .says("standard output is closed");
    }
    // Without `--report-synced`, a push prints nothing.
    redirected(&scratch, "push \"$1\"", ">&-").expect(0);
}

#[test]
fn a_closed_standard_input_is_not_an_empty_one() {
    let scratch = Scratch::new();
    for arguments in ["push \"$1\"", "pipe \"$1\" -- cat"] {
        redirected(&scratch, arguments, "<&-")
            .expect(2)
            .says("standard input is closed");
        assert!(!scratch.buffer.exists(), "{arguments}");
        redirected(&scratch, arguments, "</dev/null").expect(0);
        std::fs::remove_dir_all(&scratch.buffer).unwrap();
    }
}

/// Programs start others with `/dev/null` opened for writing only, or for reading and
/// writing.
#[test]
fn records_may_be_discarded_on_purpose() {
    for redirection in [">/dev/null", "1<>/dev/null"] {
        for arguments in ["pull \"$1\"", "pipe \"$1\" -- cat"] {
            let scratch = Scratch::new();
            scratch.push(lines(1, 1000));
            redirected(&scratch, arguments, redirection).expect(0);
            assert_eq!(scratch.pull(), "", "{arguments} {redirection}");
        }
    }
}

#[test]
fn a_closed_standard_error_loses_messages_only() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let ran = redirected(&scratch, "pull \"$1\" --verbose", "2>&-").expect(0);
    assert_eq!(ran.stdout_text(), lines(1, 10));
}
