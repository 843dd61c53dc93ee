//! What goes through a buffer, shown on a terminal while it does.
//!
//! Invariants: one line on standard error, drawn once a second, and only when standard
//! error is a terminal; messages do not tear it.

use crate::output::{bytes, note};
use forebay::Usage;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::fmt::Display;
use std::time::{Duration, Instant};

/// How often the line is drawn.
const INTERVAL: Duration = Duration::from_secs(1);

/// What has gone into a buffer since it was opened, what was taken out, and what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Events.
    came: u64,
    taken: u64,
    waiting: u64,
    waiting_bytes: u64,
}

impl Flow {
    /// The flow of a buffer that held `unread_at_open` events when it was opened.
    pub(crate) fn of(usage: &Usage, unread_at_open: u64) -> Self {
        let came = usage.received.events - usage.dropped.events;
        Self {
            came: came.saturating_sub(unread_at_open),
            taken: usage.acknowledged.events,
            waiting: usage.unread.events,
            waiting_bytes: usage.unread.bytes,
        }
    }

    /// One line, with the rates since `before`.
    fn line(&self, before: &Self, elapsed: Duration) -> String {
        let rate = |now: u64, before: u64| {
            // The fraction of an event says nothing.
            HumanCount((now.saturating_sub(before) as f64 / elapsed.as_secs_f64()) as u64)
        };
        format!(
            "in {} ({}/s), taken {} ({}/s), waiting {} ({})",
            HumanCount(self.came),
            rate(self.came, before.came),
            HumanCount(self.taken),
            rate(self.taken, before.taken),
            HumanCount(self.waiting),
            bytes(self.waiting_bytes),
        )
    }
}

/// The flow, on a terminal.
#[derive(Debug)]
pub(crate) struct FlowDisplay {
    bar: ProgressBar,
    shown: Flow,
    shown_at: Instant,
}

impl FlowDisplay {
    /// A display that begins with this flow; hidden when that is asked for, or when
    /// standard error is not a terminal.
    pub(crate) fn new(is_hidden: bool, flow: Flow) -> Self {
        let bar = match is_hidden {
            true => ProgressBar::hidden(),
            false => ProgressBar::new_spinner(),
        };
        // An unusable template only costs looks.
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            shown: flow,
            shown_at: Instant::now(),
        }
    }

    /// How long until the line is to be drawn again; `None` when nobody sees it.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        (!self.bar.is_hidden()).then(|| INTERVAL.saturating_sub(self.shown_at.elapsed()))
    }

    /// Draws the line if it is time.
    pub(crate) fn show(&mut self, flow: impl FnOnce() -> Flow) {
        if self.due_in().is_none_or(|due_in| !due_in.is_zero()) {
            return;
        }
        let flow = flow();
        if self.bar.is_finished() {
            self.bar.reset();
        }
        let line = flow.line(&self.shown, self.shown_at.elapsed());
        self.bar.set_message(line);
        self.bar.tick();
        self.shown = flow;
        self.shown_at = Instant::now();
    }

    /// Says something without tearing what is drawn.
    pub(crate) fn note(&self, text: impl Display) {
        self.bar.suspend(|| note(text));
    }

    /// Takes the line off the terminal, until it is shown again.
    pub(crate) fn clear(&self) {
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_came_what_was_taken_and_what_waits() {
        let before = Flow {
            came: 1_000,
            taken: 0,
            waiting: 1_500,
            waiting_bytes: 0,
        };
        let now = Flow {
            came: 21_000,
            taken: 5_001,
            waiting: 16_499,
            waiting_bytes: 1 << 20,
        };
        assert_eq!(
            now.line(&before, Duration::from_secs(2)),
            "in 21,000 (10,000/s), taken 5,001 (2,500/s), waiting 16,499 (1.00 MiB)"
        );
    }
}
