//! `--count-events`: how many events a record holds.
//!
//! Invariant: a command that writes counts in a way that every reader can repeat, and so
//! not by the steps of the ids.

use crate::vector;
use clap::{Args, ValueEnum};
use forebay::EventCounter;

/// For commands that write.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CountingOptions {
    /// How many events a record holds
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Counting::Auto)]
    count_events: Counting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Counting {
    /// As Vector counts, if Vector wrote the payload; else one
    Auto,
    /// One event a record
    One,
}

/// For commands that only read.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ReadCountingOptions {
    /// How the program that filled the buffer counts the events of a record
    #[arg(long, value_name = "HOW", value_enum, default_value_t = ReadCounting::Auto)]
    count_events: ReadCounting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReadCounting {
    /// As Vector counts, if Vector wrote the payload; else one
    Auto,
    /// One event a record
    One,
    /// One event a line of the payload
    Lines,
    /// As many as the ids step to the next record, if that follows directly; else
    /// one. Records missing between the two go unnoticed; the buffer is read three
    /// times
    Ids,
}

impl CountingOptions {
    /// The event counter of the buffer.
    pub(crate) fn counter(self) -> EventCounter {
        match self.count_events {
            Counting::Auto => auto(),
            Counting::One => EventCounter::one(),
        }
    }
}

impl ReadCountingOptions {
    /// The event counter of a buffer that this program fills with what it read: one that every
    /// command can repeat.
    pub(crate) fn counter_to_write(self) -> EventCounter {
        match self.count_events {
            ReadCounting::One => EventCounter::one(),
            ReadCounting::Auto | ReadCounting::Lines | ReadCounting::Ids => auto(),
        }
    }

    /// By the steps of the ids.
    pub(crate) fn by_ids() -> Self {
        Self {
            count_events: ReadCounting::Ids,
        }
    }

    /// Whether the steps of the ids tell the count.
    pub(crate) fn is_by_ids(self) -> bool {
        self.count_events == ReadCounting::Ids
    }

    /// Whether the count was chosen, and is not the default.
    pub(crate) fn is_chosen(self) -> bool {
        self.count_events != ReadCounting::Auto
    }

    /// What was chosen, as `--count-events` names it.
    pub(crate) fn name(self) -> String {
        let value = self.count_events.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The option with a space before it, to append to a command; empty for the default.
    pub(crate) fn suffix(self) -> String {
        match self.count_events {
            ReadCounting::Auto => String::new(),
            _ => format!(" --count-events {}", self.name()),
        }
    }

    /// The event counter of the buffer; `None` if the steps of the ids tell the count.
    pub(crate) fn counter(self) -> Option<EventCounter> {
        Some(match self.count_events {
            ReadCounting::Auto => auto(),
            ReadCounting::One => EventCounter::one(),
            ReadCounting::Lines => EventCounter::new(|_metadata, payload| lines(payload)),
            ReadCounting::Ids => return None,
        })
    }
}

/// As Vector counts, where a payload is Vector's; else one.
pub(crate) fn auto() -> EventCounter {
    EventCounter::new(|metadata, payload| vector::count_events(metadata, payload).unwrap_or(1))
}

/// Lines, of which the last may lack its newline; at least one.
fn lines(payload: &[u8]) -> u64 {
    let newlines = memchr::memchr_iter(b'\n', payload).count() as u64;
    let is_unfinished = payload.last().is_none_or(|last| *last != b'\n');
    newlines + u64::from(is_unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_line_may_lack_its_newline() {
        for (payload, count) in [
            (&b""[..], 1),
            (b"a", 1),
            (b"a\n", 1),
            (b"a\nb", 2),
            (b"a\n\nb\n", 3),
            (b"\n", 1),
        ] {
            assert_eq!(lines(payload), count, "{payload:?}");
        }
    }
}
