//! Reports what was lost to damage.

use crate::buffer::opening::REPORTS_MAX;
use crate::output::{bytes, count};
use forebay::format::file_id::{FILE_ID_COUNT, MAX_FILE_ID, parse_file_name};
use forebay::{InspectOptions, Lost, LostReason, Usage};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::Display;
use std::path::Path;

/// The hint when nothing is wrong but steps in the ids.
pub(crate) const MAY_COUNT_EVENTS: &str = "if the program that fills the buffer counts several \
    events a record, nothing is lost: `forebay verify --count-events ids` tells";

/// The directory in a buffer's with what a repair has replaced, and the list of events that
/// were lost before it.
const REPAIR_DIRECTORY: &str = "repair";

/// What reading without opening has stepped over. A crash leaves such spans as well.
pub(crate) fn stepped_over(spans: u64, len: u64, events_lost: u64) -> String {
    let (spans, lost) = match events_lost {
        0 => (count(spans, "span"), "nothing is lost".to_owned()),
        events => (
            count(spans, "damaged span"),
            format!("{} lost", count(events, "event")),
        ),
    };
    format!(
        "stepped over {spans} ({}); {lost}; `forebay verify` tells where and what",
        bytes(len)
    )
}

/// What was lost so far.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    losses: u64,
    events: u64,
    steps: Steps,
    /// The id after the last event when the buffer was opened.
    end_id: u64,
}

impl Losses {
    /// No losses yet, of a buffer that was just opened.
    pub(crate) fn of(directory: &Path, usage: &Usage) -> Self {
        let mut losses = Self::default();
        losses.look(directory, usage);
        losses
    }

    /// Goes on with a buffer that was just opened again.
    pub(crate) fn look(&mut self, directory: &Path, usage: &Usage) {
        self.steps.look(directory);
        self.end_id = usage.next_record_id;
    }

    /// Notes that the losses cannot be events that the reader counts differently.
    pub(crate) fn are_no_counts(&mut self) {
        self.steps.are_losses();
    }

    /// No losses yet, of a buffer that another function is about to open.
    pub(crate) fn before_opening(directory: &Path) -> Self {
        let mut losses = Self {
            steps: Steps::of(directory),
            ..Self::default()
        };
        let look = InspectOptions::new().count_records(false);
        match look.inspect(directory) {
            Ok(inspection) => losses.end_id = inspection.next_record_id,
            Err(_) => losses.are_no_counts(),
        }
        losses
    }

    /// Reports losses in a line each, at most [`REPORTS_MAX`] lines in all.
    pub(crate) fn note(&mut self, lost: &[Lost], say: &dyn Fn(&dyn Display)) {
        for lost in lost {
            self.losses += 1;
            self.events += lost.events;
            match &lost.file {
                _ if lost.reason != LostReason::Gap || lost.bytes > 0 => self.steps.are_losses(),
                _ if lost.last_id + 1 >= self.end_id => self.steps.at_end(lost.events),
                Some(file) => self.steps.before_record(file, lost.offset, lost.events),
                None => self.steps.are_losses(),
            }
            if self.losses <= REPORTS_MAX {
                say(lost);
            }
        }
    }

    /// Reports the total if not every loss was listed; returns whether there was any.
    pub(crate) fn report(&self, say: &dyn Fn(&dyn Display)) -> bool {
        if self.losses > REPORTS_MAX {
            say(&format!(
                "{} lost in {}, of which the first {REPORTS_MAX} are listed",
                count(self.events, "event"),
                count(self.losses, "place"),
            ));
        }
        if self.losses > 0 && self.steps.may_be_counts() {
            // Once the records are acknowledged, `verify` can tell nothing any more.
            say(
                &"no byte was damaged; if the program that fills the buffer counts several events \
                  a record, nothing is lost: `forebay verify --count-events ids` tells, as long \
                  as the records are in the buffer",
            );
        }
        self.losses > 0
    }
}

/// Steps in the ids over events that are not there. They may be events that the program
/// which fills the buffer counts, if nothing else can explain them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps {
    /// The data files that hold anything.
    files: HashSet<u16>,
    /// The most events that one step goes over: between two records, and after the last.
    between: u64,
    at_end: u64,
    /// Something else is missing.
    is_loss: bool,
}

impl Steps {
    /// No steps yet, of the buffer in `directory` as it is now.
    pub(crate) fn of(directory: &Path) -> Self {
        let mut steps = Self::default();
        steps.look(directory);
        steps
    }

    /// Goes on with the buffer as it is now.
    fn look(&mut self, directory: &Path) {
        self.files = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() > 0))
            .filter_map(|entry| parse_file_name(&entry.file_name()))
            .collect();
        // What was lost before a repair leaves steps between whole records, too.
        self.is_loss |= directory.join(REPAIR_DIRECTORY).exists();
    }

    /// Notes a step over `events` events before a record at `offset` in a data file. It is a
    /// loss if that is the beginning of the file, and the file before is missing or empty, or
    /// the file itself is.
    pub(crate) fn before_record(&mut self, file: &str, offset: u64, events: u64) {
        let follow_directly = || {
            let id = parse_file_name(OsStr::new(file));
            let before = |id| ((u32::from(id) + u32::from(MAX_FILE_ID)) % FILE_ID_COUNT) as u16;
            let hold_records = |id| self.files.contains(&before(id)) && self.files.contains(&id);
            id.is_some_and(hold_records)
        };
        self.is_loss |= offset == 0 && !follow_directly();
        self.between = self.between.max(events);
    }

    /// Notes a step over `events` events after the last record.
    pub(crate) fn at_end(&mut self, events: u64) {
        self.at_end = self.at_end.max(events);
    }

    /// Notes that something is missing that no count explains.
    pub(crate) fn are_losses(&mut self) {
        self.is_loss = true;
    }

    /// Whether no step is known to be a loss.
    pub(crate) fn is_possible(&self) -> bool {
        !self.is_loss
    }

    /// Whether all steps may be events that are counted. A step at the end alone, or a
    /// larger one than between records, is rather what a power cut leaves.
    pub(crate) fn may_be_counts(&self) -> bool {
        !self.is_loss && self.between > 0 && self.at_end <= self.between
    }
}
