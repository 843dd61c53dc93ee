//! Reports what was lost to damage.

use crate::buffer::opening::REPORTS_MAX;
use crate::live::Live;
use crate::output::{count, note};
use forebay::{Lost, LostReason};

/// The hint when nothing is wrong but steps in the ids.
pub(crate) const MAY_COUNT_EVENTS: &str = "if the program that fills the buffer counts several \
    events a record, nothing is lost: `forebay verify --count-events ids` tells";

/// What was lost so far.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    losses: u64,
    events: u64,
    /// Losses that are more than a step in the ids: bytes are left, or a file is gone.
    proven: u64,
}

impl Losses {
    /// Reports losses in a line each, at most [`REPORTS_MAX`] lines in all.
    pub(crate) fn note(&mut self, lost: &[Lost], live: Option<&Live>) {
        for lost in lost {
            self.losses += 1;
            self.events += lost.events;
            self.proven += u64::from(lost.reason != LostReason::Gap || lost.bytes > 0);
            if self.losses <= REPORTS_MAX {
                match live {
                    Some(live) => live.note(lost),
                    None => note(lost),
                }
            }
        }
    }

    /// Reports the total if not every loss was listed; returns whether there was any.
    pub(crate) fn report(&self) -> bool {
        if self.losses > REPORTS_MAX {
            note(format!(
                "{} lost in {}, of which the first {REPORTS_MAX} are listed",
                count(self.events, "event"),
                count(self.losses, "place"),
            ));
        }
        if self.losses > 0 && self.proven == 0 {
            note(format!("no byte was damaged; {MAY_COUNT_EVENTS}"));
        }
        self.losses > 0
    }
}
