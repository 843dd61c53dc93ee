//! What became of a buffer, for people and for programs.

use crate::failure::Failure;
use crate::output::{self, count};
use forebay::InspectOptions;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What became of a buffer.
#[derive(Debug)]
pub(super) struct Drained {
    pub(super) directory: PathBuf,
    pub(super) state: State,
    /// Records that were taken, and events that left the buffer.
    pub(super) records: u64,
    pub(super) events: u64,
    /// Events that were lost to damage, and whether there were losses at all: how many events
    /// damage has taken is not always known.
    pub(super) events_lost: u64,
    pub(super) has_losses: bool,
    /// Records that are in the dead letters.
    pub(super) set_aside: u64,
}

/// How the draining of a buffer ended.
#[derive(Debug)]
pub(super) enum State {
    Empty,
    /// The program wanted no more.
    Left,
    /// The stop was set.
    Stopped,
    Failed(Failure),
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    directory: &'a Path,
    state: &'static str,
    records: u64,
    events: u64,
    events_lost: u64,
    set_aside: u64,
    unread_events: Option<u64>,
    error: Option<&'a str>,
}

impl Drained {
    /// Of a buffer out of which nothing was taken.
    pub(super) fn new(directory: &Path, state: State) -> Self {
        Self {
            directory: directory.to_owned(),
            state,
            records: 0,
            events: 0,
            events_lost: 0,
            has_losses: false,
            set_aside: 0,
        }
    }

    /// Whether the other buffers would fail as well: the program cannot be started.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(&self.state, State::Failed(failure) if failure.status != 2)
    }

    /// Whether there is something that was reported and is no error.
    pub(super) fn has_findings(&self) -> bool {
        self.has_losses || self.set_aside > 0 || !matches!(self.state, State::Empty)
    }

    /// One line.
    pub(super) fn text(&self) -> String {
        let state = match self.state {
            State::Empty => "empty",
            State::Left => "not empty",
            State::Stopped => "stopped",
            State::Failed(_) => "failed",
        };
        let mut text = format!(
            "{}: {state}, {} taken",
            self.directory.display(),
            count(self.records, "record")
        );
        if self.set_aside > 0 {
            text += &format!(", {} set aside", count(self.set_aside, "record"));
        }
        if self.has_losses {
            text += &format!(", {} lost", count(self.events_lost, "event"));
        }
        text
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        output::json(&Report {
            directory: &self.directory,
            state: match self.state {
                State::Empty => "empty",
                State::Left => "left",
                State::Stopped => "stopped",
                State::Failed(_) => "failed",
            },
            records: self.records,
            events: self.events,
            events_lost: self.events_lost,
            set_aside: self.set_aside,
            unread_events: self.unread_events(),
            error: match &self.state {
                State::Failed(failure) => Some(&failure.message),
                _ => None,
            },
        })
    }

    /// The events that are still in the buffer; `None` if that cannot be known.
    fn unread_events(&self) -> Option<u64> {
        if let State::Empty = self.state {
            return Some(0);
        }
        let options = InspectOptions::new().count_records(false);
        let inspection = options.inspect(&self.directory).ok()?;
        Some(inspection.unread.events)
    }
}
