//! `forebay top`.

use crate::support::{Scratch, finish, forebay, kill, lines, run, snapshot};
use crate::terminal::Terminal;
use std::process::Child;

/// Gives the terminal back: the other screen, and the cursor.
const GIVEN_BACK: [&str; 2] = ["\x1b[?1049l", "\x1b[?25h"];

fn start(scratch: &Scratch, terminal: &Terminal, options: &[&str]) -> Child {
    let mut command = forebay(["top"]);
    command
        .arg(scratch.root.path())
        .args(options)
        .env("TERM", "xterm")
        .env("LC_ALL", "C")
        .stdin(terminal.stdio())
        .stdout(terminal.stdio());
    command.spawn().unwrap()
}

#[track_caller]
fn assert_given_back(terminal: &Terminal) {
    for sequence in GIVEN_BACK {
        terminal.wait_for(sequence);
    }
}

#[test]
fn buffers_below_a_directory_are_shown_and_left_alone() {
    let mut scratch = Scratch::new();
    scratch.push(lines(1, 1_500));
    scratch.buffer = scratch.path("second");
    scratch.push(lines(1, 3));
    let before = snapshot(scratch.root.path());
    let terminal = Terminal::new();
    let top = start(&scratch, &terminal, &["--interval", "100ms"]);
    // The first look, and the first rates, which are of the second look.
    for shown in ["2 buffers", "2 orphans", "1.5k", "/second", "0/s 0B/s"] {
        terminal.wait_for_screen(shown);
    }
    terminal.press(b"p");
    terminal.wait_for_screen("paused");
    terminal.press(b"q");
    finish(top).expect(0);
    assert_given_back(&terminal);
    assert_eq!(snapshot(scratch.root.path()), before);
}

#[test]
fn an_open_buffer_is_shown_while_it_fills() {
    use std::io::Write;
    let scratch = Scratch::new();
    let (holder, mut stdin) = scratch.held(&lines(1, 5));
    let terminal = Terminal::new();
    let top = start(&scratch, &terminal, &["--interval", "100ms"]);
    terminal.wait_for_screen("5 events");
    if cfg!(target_os = "linux") {
        terminal.wait_for_screen(&format!("open in process {}", holder.id()));
    }
    stdin.write_all(lines(6, 77).as_bytes()).unwrap();
    terminal.wait_for_screen("77 events");
    terminal.press(b"q");
    finish(top).expect(0);
    drop(stdin);
    finish(holder).expect(0);
}

#[test]
fn ctrl_c_and_a_signal_end_it_and_give_the_terminal_back() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let terminal = Terminal::new();
    let top = start(&scratch, &terminal, &[]);
    terminal.wait_for_screen("1 orphan");
    terminal.press(b"\x03");
    finish(top).expect(130);
    assert_given_back(&terminal);
    let terminal = Terminal::new();
    let top = start(&scratch, &terminal, &[]);
    terminal.wait_for_screen("1 orphan");
    kill(top.id(), "TERM");
    finish(top).expect(143);
    assert_given_back(&terminal);
}

/// Regression: reading keys from a terminal that was closed never ended, took a processor, and no
/// signal was heard any more.
#[test]
fn a_terminal_that_is_closed_ends_it() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let terminal = Terminal::new();
    let top = start(&scratch, &terminal, &[]);
    terminal.wait_for_screen("1 orphan");
    terminal.hang_up();
    finish(top).expect(129);
}

#[test]
fn without_a_terminal_or_a_buffer_it_is_an_error() {
    let scratch = Scratch::new();
    run(scratch.forebay("top", &[]))
        .expect(2)
        .says("needs a terminal");
    let terminal = Terminal::new();
    let missing = |path: &std::path::Path| {
        let mut command = forebay(["top"]);
        command.arg(path).env("TERM", "xterm");
        command.stdin(terminal.stdio()).stdout(terminal.stdio());
        finish(command.spawn().unwrap()).expect(2)
    };
    missing(&scratch.buffer).says("no directory");
    missing(scratch.root.path()).says("there is no buffer in");
    assert!(
        !terminal.shown().contains("\x1b[?1049h"),
        "the terminal was taken"
    );
}
