//! How far a command has come, drawn on standard error while it works.
//!
//! Invariant: nothing is drawn when standard error is no terminal.

use crate::output::{bytes, note};
use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use std::fmt::{self, Display};

/// How far long work has come, on a terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work whose end is not known: counts records. Not drawn where it would
    /// be in the way of something else on the terminal.
    pub(crate) fn counting(in_the_way: bool) -> Self {
        let bar = match in_the_way {
            true => ProgressBar::hidden(),
            false => ProgressBar::new_spinner(),
        };
        Self::styled(bar, "{spinner} {human_pos} records, {msg} ({rate}/s)")
    }

    /// Work over bytes whose number is told later.
    pub(crate) fn over_bytes() -> Self {
        Self::styled(
            ProgressBar::new(0),
            "{bar:30} {bytes} of {total_bytes} ({bytes_per_sec}, {eta} left)",
        )
    }

    fn styled(bar: ProgressBar, template: &str) -> Self {
        // An unusable template only costs looks.
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, to: &mut dyn fmt::Write| {
                // The fraction of a record says nothing.
                let _ = write!(to, "{}", HumanCount(state.per_sec() as u64));
            };
            bar.set_style(style.with_key("rate", rate));
        }
        Self(bar)
    }

    /// So many records and payload bytes in all.
    pub(crate) fn records(&self, records: u64, payload_bytes: u64) {
        if !self.0.is_hidden() {
            self.0.set_message(bytes(payload_bytes));
            self.0.set_position(records);
        }
    }

    /// So many bytes of a total.
    pub(crate) fn bytes(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// Says something without tearing what is drawn.
    pub(crate) fn note(&self, text: impl Display) {
        self.0.suspend(|| note(text));
    }

    /// Takes it off the terminal.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
