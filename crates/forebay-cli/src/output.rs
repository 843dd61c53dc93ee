//! Text for people and for programs, on standard output and standard error.
//!
//! Invariants: nothing here panics when the other side has gone away; a closed
//! standard output is no error; nothing is coloured when standard output is no
//! terminal or `NO_COLOR` is set.

use crate::failure::{Failure, Result};
use indicatif::{HumanBytes, HumanCount};
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// Prints a message on standard error.
pub(crate) fn note(text: impl Display) {
    // A failure to write to standard error cannot be reported anywhere.
    let _ = writeln!(io::stderr(), "forebay: {text}");
}

/// Prints a text on standard output; a closed standard output is no error.
///
/// # Errors
///
/// Standard output cannot be written to.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(write_failure(&error)),
        _ => Ok(()),
    }
}

/// The failure to write to standard output.
pub(crate) fn write_failure(error: &io::Error) -> Failure {
    Failure::io("write to standard output", error)
}

/// A value of this program's own types as JSON on one line.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    #[expect(clippy::expect_used, reason = "maps with string keys always serialize")]
    serde_json::to_string(value).expect("a value without failing parts serializes")
}

/// Whether text on standard output may be coloured.
pub(crate) fn colours() -> bool {
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    io::stdout().is_terminal()
        && unset("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard error is a terminal.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// `1 record`, `2,000 records`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", HumanCount(number))
}

/// `3d 4h`, `5m 2s`, `0s`: the two largest units of a time in seconds.
pub(crate) fn age(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0).floor()).unwrap_or(Duration::MAX);
    let text = humantime::format_duration(whole).to_string();
    let units: Vec<_> = text.split(' ').take(2).collect();
    units.join(" ")
}

/// `1.50 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    HumanBytes(number).to_string()
}
