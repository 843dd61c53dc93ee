//! Pictures of made-up states.

use super::*;
use crate::buffer::looks::NoLook;
use crate::buffer::rates::Rates;
use crate::commands::top::detail::sparkline;
use crate::commands::top::figures::{Limit, Shown};
use crate::commands::top::look::Look;
use crate::commands::top::state::Action;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

const BLOCKS: Look = Look {
    has_colours: true,
    has_blocks: true,
};
const ASCII: Look = Look {
    has_colours: false,
    has_blocks: false,
};

/// A buffer at rest that is open.
fn idle() -> Figures {
    Figures {
        is_open: true,
        holder_pid: Some(4711),
        unread_events: 0,
        unread_bytes: 0,
        next_record_id: 101,
        last_acknowledged_id: 100,
        oldest: None,
        disk_bytes: 9_600,
        limit: Some(Limit {
            bytes: 1 << 30,
            is_of_disk: false,
        }),
        files: vec![9_600],
        acknowledged_bytes: 9_600,
        found_at: Vec::new(),
        findings: 0,
        is_damaged: false,
        rates: Some(Rates {
            events_in: 0.0,
            events_out: 0.0,
            bytes_in: 0.0,
            bytes_out: 0.0,
        }),
        to_full: None,
        to_empty: None,
        since_progress: None,
    }
}

/// A busy buffer, one that nothing is taken from, an orphan, a damaged one, one at rest, and
/// one that cannot be read.
fn state(look: Look) -> State {
    let mut state = State::new(Duration::from_secs(1), Some(1 << 30), look);
    let busy = Figures {
        unread_events: 1_234_567,
        unread_bytes: 300 << 20,
        next_record_id: 3_234_568,
        last_acknowledged_id: 2_000_000,
        oldest: Some(Duration::from_secs(754)),
        disk_bytes: 400 << 20,
        files: vec![128 << 20, 128 << 20, 128 << 20, 16 << 20],
        acknowledged_bytes: 100 << 20,
        rates: Some(Rates {
            events_in: 12_345.0,
            events_out: 9_876.0,
            bytes_in: 3e6,
            bytes_out: 2.4e6,
        }),
        to_full: Some(Duration::from_secs(1_090)),
        ..idle()
    };
    let stuck = Figures {
        unread_events: 10,
        unread_bytes: 960,
        oldest: Some(Duration::from_secs(90_000)),
        acknowledged_bytes: 8_640,
        since_progress: Some(Duration::from_secs(61)),
        ..idle()
    };
    let orphan = Figures {
        is_open: false,
        holder_pid: None,
        unread_events: 100,
        unread_bytes: 9_600,
        oldest: Some(Duration::from_secs(864_000)),
        acknowledged_bytes: 0,
        ..idle()
    };
    let damaged = Figures {
        is_damaged: true,
        findings: 2,
        found_at: vec![0, 4_800],
        to_empty: Some(Duration::from_secs(7)),
        ..orphan.clone()
    };
    let closed = Figures {
        is_open: false,
        ..idle()
    };
    for (directory, shown) in [
        (
            "/var/lib/vector/buffer/v2/elastic",
            Shown::Figures(Box::new(busy)),
        ),
        (
            "/var/lib/vector/buffer/v2/loki",
            Shown::Figures(Box::new(stuck)),
        ),
        ("/var/spool/old", Shown::Figures(Box::new(orphan))),
        ("/var/spool/torn", Shown::Figures(Box::new(damaged))),
        ("/var/spool/done", Shown::Figures(Box::new(closed))),
        (
            "/var/spool/gone",
            Shown::NoLook(NoLook::Error(
                "there is no directory /var/spool/gone".into(),
            )),
        ),
    ] {
        let buffer = state.buffer(Path::new(directory));
        buffer.shown = shown;
        for look in 0..30 {
            buffer
                .history
                .add(f64::from(look % 10), f64::from(look / 10));
        }
    }
    state.arrange();
    state
}

fn drawn(state: &State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state)).unwrap();
    // The backend shows each line in quotes.
    let shown = terminal.backend().to_string();
    let lines = shown.lines().map(|line| line.trim_matches('"').trim_end());
    lines.map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn assert_drawn(state: &State, expected: &str) {
    let drawn = drawn(state, 80, 24);
    assert!(drawn == expected, "drawn:\n{drawn}expected:\n{expected}");
}

#[test]
fn a_terminal_of_80_by_24_shows_list_and_selected_buffer() {
    assert_drawn(&state(BLOCKS), include_str!("../pictures/blocks.txt"));
}

#[test]
fn a_terminal_without_utf_8_and_colours_shows_the_same_in_ascii() {
    let mut state = state(ASCII);
    state.act(Action::Sort);
    state.act(Action::Select(isize::MAX));
    state.act(Action::Select(-2));
    state.act(Action::Pause);
    let expected = include_str!("../pictures/ascii.txt");
    assert!(expected.is_ascii());
    assert_drawn(&state, expected);
}

#[test]
fn without_colours_no_cell_has_one() {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw(frame, &state(ASCII))).unwrap();
    let cells = &terminal.backend().buffer().content;
    assert!(
        cells
            .iter()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    );
}

#[test]
fn a_terminal_of_any_size_is_drawn_on() {
    let state = state(BLOCKS);
    for width in 1..130 {
        for height in [1, 2, 5, 12, 24, 50] {
            drawn(&state, width, height);
        }
    }
    // Half as wide, the names are still there.
    assert!(drawn(&state, 40, 24).contains("/old"));
    let empty = State::new(Duration::from_secs(1), None, BLOCKS);
    assert!(drawn(&empty, 80, 24).contains("0 buffers"));
}

/// Regression: at 80 columns the line ended at "1 finding: see forebay ver".
#[test]
fn the_advice_of_a_finding_is_read_to_its_end() {
    for width in [60, 80, 100] {
        let mut state = state(BLOCKS);
        let figures = Figures {
            is_open: false,
            holder_pid: None,
            unread_events: 100,
            last_acknowledged_id: 1_234_567,
            is_damaged: true,
            findings: 1,
            found_at: vec![0],
            ..idle()
        };
        let buffer = state.buffer(Path::new("/var/spool/aaa"));
        buffer.shown = Shown::Figures(Box::new(figures));
        state
            .buffers
            .retain(|buffer| buffer.directory.ends_with("aaa"));
        let drawn = drawn(&state, width, 24);
        for shown in [
            "acknowledged up to 1,234,567",
            "1 finding: see forebay verify\n",
            "! finding",
        ] {
            assert!(drawn.contains(shown), "{shown}: {drawn}");
        }
    }
}

/// What an interrupted repair needs is read to its end, and it is no error.
#[test]
fn an_interrupted_repair_says_what_to_do() {
    let mut state = State::new(Duration::from_secs(1), None, BLOCKS);
    let says = "files of the buffer in /var/spool/torn were being replaced, by a repair or a move \
                to it, and that was interrupted; `forebay mend` finishes it";
    let buffer = state.buffer(Path::new("/var/spool/torn"));
    buffer.shown = Shown::NoLook(NoLook::Repair(says.to_owned()));
    let drawn = drawn(&state, 80, 24);
    assert!(
        drawn.contains("torn") && drawn.contains(" repair\n"),
        "{drawn}"
    );
    assert!(drawn.contains("`forebay mend` finishes it"), "{drawn}");
    assert!(!drawn.contains("error"), "{drawn}");
}

#[test]
fn a_late_look_is_said_to_be_late() {
    let mut state = state(BLOCKS);
    state.last_look = Some(Duration::from_secs(3));
    assert!(!drawn(&state, 80, 24).contains("last look"));
    state.last_look = Some(Duration::from_secs(75));
    assert!(drawn(&state, 80, 24).contains("last look 75s ago"));
}

#[test]
fn something_is_never_drawn_as_nothing() {
    let history = VecDeque::from([0.0, 0.01, 50.0, 100.0]);
    assert_eq!(sparkline(&history, 100.0, 6, ASCII), "   .=#");
    assert_eq!(sparkline(&history, 100.0, 2, ASCII), "=#");
    let still = VecDeque::from([0.0, 0.0]);
    assert_eq!(sparkline(&still, 0.0, 2, ASCII), "  ");
}
