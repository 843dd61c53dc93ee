//! `forebay generate`: man pages and completions.

use crate::support::{Scratch, forebay, run, run_with};
use std::fs;
use std::process::{Command, Stdio};

/// The names of all commands, as the help lists them.
fn commands() -> Vec<String> {
    let help = run(forebay(["--help"])).expect(0).stdout_text();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next());
    let names: Vec<_> = names.filter(|n| *n != "help").map(str::to_owned).collect();
    assert!(names.len() > 5, "{names:?}");
    names
}

/// A program that checks something, if it is installed.
fn checker(name: &str) -> Option<Command> {
    let mut which = Command::new(name);
    let found = which
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    found.status().ok().map(|_| Command::new(name))
}

#[test]
fn every_command_has_a_man_page_with_its_options_and_examples() {
    let scratch = Scratch::new();
    let man = scratch.path("man/man1");
    let mut command = forebay(["generate", "man"]);
    command.arg(&man);
    run(command).expect(0);
    let read = |name: &str| fs::read_to_string(man.join(format!("{name}.1"))).unwrap();
    let program = read("forebay");
    let commands = commands();
    assert!(
        !program.contains("forebay\\-help"),
        "a page that is not there"
    );
    read("forebay-generate-man");
    for command in commands {
        let page = read(&format!("forebay-{command}"));
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "EXAMPLES",
            "\"EXIT STATUS\"",
            "\"SEE ALSO\"",
        ] {
            assert!(
                page.contains(&format!(".SH {section}\n")),
                "{command}: {section}"
            );
        }
        assert!(
            program.contains(&format!("forebay\\-{command}")),
            "{command}"
        );
        let help = run(forebay([command.as_str(), "--help"])).expect(0);
        let help = help.stdout_text();
        let words = help.split(|c: char| c.is_whitespace() || "[],;`'.".contains(c));
        for option in words.filter(|word| word.starts_with("--") && word.len() > 2) {
            let option = option.split(['=', '<']).next().unwrap();
            let escaped = option.replace('-', "\\-");
            assert!(page.contains(&escaped), "{command}: {option}");
        }
        if let Some(mut lint) = checker("mandoc") {
            lint.args(["-T", "lint", "-W", "error"]);
            lint.arg(man.join(format!("forebay-{command}.1")));
            run_lint(lint);
        }
    }
}

#[track_caller]
fn run_lint(mut lint: Command) {
    let linted = run({
        lint.stdout(Stdio::piped()).stderr(Stdio::piped());
        lint
    });
    assert_eq!(linted.status, Some(0), "{linted:?}");
}

#[test]
fn completions_know_the_commands_and_their_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let completions = run(forebay(["generate", "completions", shell])).expect(0);
        let text = completions.stdout_text();
        for command in commands() {
            assert!(text.contains(&command), "{shell}: {command}");
        }
        assert!(text.contains("report-synced"), "{shell}");
        if matches!(shell, "bash" | "zsh" | "fish")
            && let Some(mut check) = checker(shell)
        {
            check.arg("-n");
            check.stdout(Stdio::piped()).stderr(Stdio::piped());
            run_with(check, text.as_bytes()).expect(0);
        }
    }
    run(forebay(["generate", "completions", "tcsh"])).expect(2);
}

#[test]
fn a_place_that_is_no_directory_is_an_error() {
    let scratch = Scratch::new();
    let file = scratch.path("file");
    fs::write(&file, "").unwrap();
    let mut command = forebay(["generate", "man"]);
    command.arg(&file);
    run(command).expect(2).says("make the directory");
}
