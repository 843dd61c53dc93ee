//! Saying what damage took.

use crate::buffer::opening::REPORTS_MAX;
use crate::live::Progress;
use crate::output::{count, note};
use forebay::Lost;

/// What was lost so far.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    losses: u64,
    events: u64,
}

impl Losses {
    /// Reports losses, each in a line as long as there are few.
    pub(crate) fn note(&mut self, lost: &[Lost], progress: Option<&Progress>) {
        for lost in lost {
            self.losses += 1;
            self.events += lost.events;
            if self.losses <= REPORTS_MAX {
                match progress {
                    Some(progress) => progress.note(lost),
                    None => note(lost),
                }
            }
        }
    }

    /// Reports the total, and says whether there was any.
    pub(crate) fn report(&self) -> bool {
        if self.losses > REPORTS_MAX {
            note(format!(
                "{} lost in {}, of which the first {REPORTS_MAX} are listed",
                count(self.events, "event"),
                count(self.losses, "place"),
            ));
        }
        self.losses > 0
    }
}
