//! Progress, shown on a terminal while a command works.
//!
//! Invariants: one line on standard error, and only when that is a terminal; a message
//! does not break into that line; a command that ends within a second shows nothing.

use crate::output::{age, bytes, note};
use forebay::Usage;
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use std::fmt::{self, Display};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often the line is drawn.
const INTERVAL: Duration = Duration::from_secs(1);

/// What went into a buffer, what came out, and what waits in it; `None` is not shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Records that went in since the command began.
    pub(crate) came: Option<u64>,
    /// Records that came out.
    pub(crate) taken: Option<u64>,
    /// Unread events in the buffer, and their bytes.
    pub(crate) waiting: Option<(u64, u64)>,
    /// Why nothing moves.
    pub(crate) halt: Option<&'static str>,
}

impl Flow {
    /// The flow of an open buffer that held `unread_at_open` events when it was opened.
    pub(crate) fn of(usage: &Usage, unread_at_open: u64) -> Self {
        let came = usage.received.events - usage.dropped.events;
        Self {
            came: Some(came.saturating_sub(unread_at_open)),
            taken: Some(usage.acknowledged.events),
            waiting: Some((usage.unread.events, usage.unread.bytes)),
            halt: None,
        }
    }

    /// One line, with the rates since `before`.
    fn line(&self, before: &Self, elapsed: Duration) -> String {
        let mut parts = Vec::new();
        let mut flow = |name, now: Option<u64>, before: Option<u64>| {
            let Some(now) = now else { return };
            let moved = now.saturating_sub(before.unwrap_or(now));
            // Whole records: a fraction says nothing.
            let rate = (moved as f64 / elapsed.as_secs_f64()) as u64;
            parts.push(format!(
                "{name} {} ({}/s)",
                HumanCount(now),
                HumanCount(rate)
            ));
        };
        flow("in", self.came, before.came);
        flow("out", self.taken, before.taken);
        if let Some((events, len)) = self.waiting {
            parts.push(format!("waiting {} ({})", HumanCount(events), bytes(len)));
        }
        parts.extend(self.halt.map(str::to_owned));
        parts.join(", ")
    }
}

/// What the terminal shows of the [`Flow`] of one buffer.
#[derive(Debug)]
pub(crate) struct Live {
    bar: ProgressBar,
    shows: Shows,
    shown_at: Instant,
    /// Stands before each message.
    label: String,
}

#[derive(Debug)]
enum Shows {
    /// A line of its own, with the flow that was shown last.
    Line(Flow),
    /// A part of a [`Total`], with the bytes that waited when that was drawn last.
    Part(u64),
}

impl Live {
    /// A line whose first rates count from `flow`. It is hidden if `is_hidden`, or if
    /// standard error is no terminal.
    pub(crate) fn new(is_hidden: bool, flow: Flow) -> Self {
        let bar = match is_hidden {
            true => ProgressBar::hidden(),
            false => ProgressBar::new_spinner(),
        };
        Self {
            // The template is not as wide as the terminal: otherwise the `^C` that a terminal
            // echoes would begin another line.
            bar: styled(bar, "{msg}"),
            shows: Shows::Line(flow),
            shown_at: Instant::now(),
            label: String::new(),
        }
    }

    /// One of the buffers of `total`, in which `waiting` bytes were expected to wait. Messages
    /// begin with `label`.
    pub(crate) fn part(total: &Total, label: String, waiting: u64) -> Self {
        Self {
            bar: total.bar.clone(),
            shows: Shows::Part(waiting),
            shown_at: Instant::now(),
            label,
        }
    }

    /// How long until the line is to be drawn again; `None` when it is hidden.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        (!self.bar.is_hidden()).then(|| INTERVAL.saturating_sub(self.shown_at.elapsed()))
    }

    /// Draws the line if it is time.
    pub(crate) fn show(&mut self, flow: impl FnOnce() -> Flow) {
        if self.due_in().is_none_or(|due_in| !due_in.is_zero()) {
            return;
        }
        let flow = flow();
        match &mut self.shows {
            Shows::Line(shown) => {
                if self.bar.is_finished() {
                    self.bar.reset();
                }
                let line = flow.line(shown, self.shown_at.elapsed());
                self.bar.set_message(line);
                self.bar.tick();
                *shown = flow;
            }
            Shows::Part(_) => {
                self.leave_waiting(flow.waiting.map_or(0, |(_, bytes)| bytes));
                self.bar.tick();
            }
        }
        self.shown_at = Instant::now();
    }

    /// Notes, of a part of a total, that only so many bytes wait in it.
    pub(crate) fn leave_waiting(&mut self, bytes: u64) {
        if let Shows::Part(waiting) = &mut self.shows {
            self.bar.inc(waiting.saturating_sub(bytes));
            *waiting = bytes.min(*waiting);
        }
    }

    /// Prints a message on standard error, and draws the line again below it.
    pub(crate) fn note(&self, text: impl Display) {
        self.bar.suspend(|| note(format!("{}{text}", self.label)));
    }

    /// Takes a line of its own off the terminal, until it is shown again.
    pub(crate) fn clear(&self) {
        if matches!(self.shows, Shows::Line(_)) && !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}

impl Drop for Live {
    /// Takes the line away. What still waits in a part of a total is not waited for any more.
    fn drop(&mut self) {
        match self.shows {
            Shows::Line(_) => self.bar.finish_and_clear(),
            Shows::Part(waiting) => self.bar.dec_length(waiting),
        }
    }
}

/// The bar over the bytes of several buffers, which are emptied one after the other or at
/// once.
#[derive(Debug)]
pub(crate) struct Total {
    bar: ProgressBar,
    buffers: usize,
    done: AtomicUsize,
}

impl Total {
    /// A bar over `bytes` in `buffers` buffers. It is hidden if `is_hidden`, or if standard
    /// error is no terminal.
    pub(crate) fn new(is_hidden: bool, bytes: u64, buffers: usize) -> Self {
        let bar = match is_hidden {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(bytes),
        };
        let template = format!("{OVER_BYTES}{{msg}}");
        Self {
            bar: styled(bar, &template),
            buffers,
            done: AtomicUsize::new(0),
        }
    }

    /// Notes that nothing more comes out of one of the buffers.
    pub(crate) fn count_done(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if self.buffers > 1 && !self.bar.is_hidden() {
            let message = format!(", {done} of {} buffers done", self.buffers);
            self.bar.set_message(message);
        }
    }

    /// Prints a message on standard error, and draws the bar again below it.
    pub(crate) fn note(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    /// Takes the bar off the terminal.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// How progress over bytes is shown.
const OVER_BYTES: &str = "{bar:30} {bytes} of {total_bytes} ({bytes_per_sec}{left})";

/// A progress bar over bytes, whose total [`bytes`](Self::bytes) sets.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn over_bytes() -> Self {
        Self(styled(ProgressBar::new(0), OVER_BYTES))
    }

    /// Shows `done` of `total` bytes.
    pub(crate) fn bytes(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// Prints a message on standard error, and draws the bar again below it.
    pub(crate) fn note(&self, text: impl Display) {
        self.0.suspend(|| note(text));
    }

    /// Takes it off the terminal.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// How many buffers were found and looked at, from a second after the beginning.
#[derive(Debug)]
pub(crate) struct Counter {
    bar: ProgressBar,
    begun: Instant,
}

impl Counter {
    pub(crate) fn of_buffers() -> Self {
        Self {
            bar: styled(ProgressBar::new(0), "{msg}"),
            begun: Instant::now(),
        }
    }

    /// So many were found.
    pub(crate) fn found(&self, buffers: u64) {
        self.show(|_| format!("searching: {} found", HumanCount(buffers)));
    }

    /// So many of all were looked at.
    pub(crate) fn done(&self, done: u64, all: u64) {
        self.show(|rate| {
            let left = (all.saturating_sub(done)) as f64 / rate(done);
            let left = match left.is_finite() {
                true => format!(", {} left", age(left)),
                false => String::new(),
            };
            format!(
                "{} of {} buffers ({:.1}/s{left})",
                HumanCount(done),
                HumanCount(all),
                rate(done)
            )
        });
    }

    /// Shows a text, made from a function that gives the rate of a number since the beginning.
    fn show(&self, text: impl FnOnce(&dyn Fn(u64) -> f64) -> String) {
        let elapsed = self.begun.elapsed();
        if self.bar.is_hidden() || elapsed < INTERVAL {
            return;
        }
        if self.bar.is_finished() {
            self.bar.reset();
        }
        let rate = |number| number as f64 / elapsed.as_secs_f64();
        self.bar.set_message(text(&rate));
        self.bar.tick();
    }

    /// Takes it off the terminal, until it is shown again.
    pub(crate) fn clear(&self) {
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}

/// The time left, once something has moved: before that it is not known.
fn left(state: &ProgressState, text: &mut dyn fmt::Write) {
    if state.per_sec() > 0.0 {
        // Writing to a string cannot fail.
        let _ = write!(text, ", {:#} left", HumanDuration(state.eta()));
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // With a bad template the bar keeps its default style.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.with_key("left", left)),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_came_what_was_taken_and_what_waits() {
        let before = Flow {
            came: Some(1_000),
            taken: Some(0),
            ..Flow::default()
        };
        let now = Flow {
            came: Some(21_000),
            taken: Some(5_001),
            waiting: Some((16_499, 1 << 20)),
            halt: None,
        };
        assert_eq!(
            now.line(&before, Duration::from_secs(2)),
            "in 21,000 (10,000/s), out 5,001 (2,500/s), waiting 16,499 (1.00 MiB)"
        );
        let full = Flow {
            came: Some(7),
            halt: Some("full"),
            ..Flow::default()
        };
        assert_eq!(full.line(&full, Duration::from_secs(1)), "in 7 (0/s), full");
    }
}
