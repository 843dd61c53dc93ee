//! docs/rescue.md: its commands are run, and its output is what they print.
//!
//! - ` ```console ` blocks hold commands after `$ `, each followed by its output.
//! - `<!-- golden NAME as DIR -->` begins a case: a new directory, with a golden buffer in it.
//! - `<!-- run: COMMAND -->` begins one with a command that the page does not show, and
//!   `<!-- also: COMMAND -->` runs one in the same case.
//!
//! `FOREBAY_UPDATE_PAGES=1` writes the output into the page.

use crate::support::{Scratch, copy, finish, golden};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rescue.md")
}

/// Runs a command line in a directory; what it prints, on both streams.
fn shell(directory: &Path, command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_forebay")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let child = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .current_dir(directory)
        .env("PATH", format!("{}:{path}", program.display()))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    finish(child).stdout_text()
}

/// What differs from run to run: what is before it, what is after it, and what stands for it.
const VARYING: [(&str, &str, &str); 3] = [
    ("the oldest for ", "\n", "3 hours"),
    ("needed, ", " are free", "12.00 GiB"),
    ("\"time\":\"", "\"", "2026-01-31T10:20:30.123Z"),
];

fn without_varying(printed: &str) -> String {
    let mut text = printed.to_owned();
    for (before, after, fixed) in VARYING {
        let parts: Vec<&str> = text.split(before).collect();
        let rest = parts[1..].iter().map(|part| {
            let rest = part.find(after).map_or("", |at| &part[at..]);
            format!("{before}{fixed}{rest}")
        });
        text = std::iter::once(parts[0].to_owned()).chain(rest).collect();
    }
    // The age of what was made a moment ago.
    for seconds in 1..10 {
        text = text.replace(&format!(" {seconds}s "), " 0s ");
    }
    text.trim_end().to_owned()
}

/// The page with the output that its commands print now.
fn played(page: &str) -> String {
    let mut case = Scratch::new();
    let mut played = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        played.push(line.to_owned());
        let directive = line
            .strip_prefix("<!-- ")
            .and_then(|rest| rest.strip_suffix(" -->"));
        if let Some(directive) = directive {
            if let Some(command) = directive.strip_prefix("also: ") {
                shell(&case.path(""), command);
                continue;
            }
            case = Scratch::new();
            if let Some(command) = directive.strip_prefix("run: ") {
                shell(&case.path(""), command);
            } else {
                let (name, directory) = directive
                    .strip_prefix("golden ")
                    .and_then(|rest| rest.split_once(" as "))
                    .unwrap();
                fs::create_dir_all(case.path(directory).parent().unwrap()).unwrap();
                copy(&golden(name), &case.path(directory));
            }
        }
        if line != "```console" {
            continue;
        }
        for line in lines.by_ref() {
            if let Some(command) = line.strip_prefix("$ ") {
                played.push(line.to_owned());
                let printed = without_varying(&shell(&case.path(""), command));
                if !printed.is_empty() {
                    played.push(printed);
                }
            } else if line == "```" {
                played.push(line.to_owned());
                break;
            }
        }
    }
    played.join("\n") + "\n"
}

#[test]
fn the_guide_shows_what_its_commands_print() {
    let shown = fs::read_to_string(page()).unwrap();
    let printed = played(&shown);
    if std::env::var_os("FOREBAY_UPDATE_PAGES").is_some() {
        fs::write(page(), printed).unwrap();
        return;
    }
    for (number, (shown, printed)) in shown.lines().zip(printed.lines()).enumerate() {
        assert_eq!(
            shown,
            printed,
            "docs/rescue.md, line {}; FOREBAY_UPDATE_PAGES=1 writes it",
            number + 1
        );
    }
    assert_eq!(shown.lines().count(), printed.lines().count());
    assert!(printed.matches("\n$ forebay").count() > 15);
}
