//! Text for people and for programs, on standard output and standard error.
//!
//! Invariants: nothing here panics when the other side has gone away; a closed
//! standard output is no error; nothing is coloured when standard output is no
//! terminal or `NO_COLOR` is set.

use crate::failure::{Failure, Result};
use indicatif::{HumanBytes, HumanCount};
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

pub(crate) mod live;

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

/// A path as one word of a shell command.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    let text = match text.starts_with('-') {
        true => format!("./{text}"),
        false => text.into_owned(),
    };
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// `1 record`, `2,000 records`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", HumanCount(number))
}

/// `3d 4h`, `5m 2s`, `0s`: a time in seconds, in its largest unit and the next one.
pub(crate) fn age(seconds: f64) -> String {
    const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    // A negative time becomes 0, and one that is too long the longest.
    let seconds = seconds as u64;
    let largest = UNITS.iter().position(|(len, _)| seconds >= *len);
    let largest = largest.unwrap_or(UNITS.len() - 1);
    let (len, unit) = UNITS[largest];
    let first = format!("{}{unit}", seconds / len);
    match UNITS.get(largest + 1) {
        Some((next_len, next)) if seconds % len >= *next_len => {
            format!("{first} {}{next}", seconds % len / next_len)
        }
        _ => first,
    }
}

/// `1.50 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    HumanBytes(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_its_two_largest_units() {
        for (seconds, text) in [
            (-1.0, "0s"),
            (0.9, "0s"),
            (59.0, "59s"),
            (60.0, "1m"),
            (3_661.0, "1h 1m"),
            (7_205.0, "2h"),
            (4.0 * 86_400.0, "4d"),
            (400.0 * 86_400.0 + 3_600.0, "400d 1h"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn a_path_is_one_word_of_the_shell() {
        for (path, word) in [
            ("/var/lib/a-b", "/var/lib/a-b"),
            ("-rf", "./-rf"),
            ("/var/lib/spool", "/var/lib/spool"),
            ("my spool", "'my spool'"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(path)), word);
        }
    }
}
