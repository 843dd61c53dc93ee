//! What `top` shows of one buffer: the figures of a look at it, and of the looks before.
//!
//! Invariant: plain values, so that a picture can be drawn of any.

use crate::buffer::looks::NoLook;
use crate::buffer::rates::{Meter, Rates};
use forebay::format::file_id::file_name;
use forebay::{Inspection, LedgerCondition};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The time of which rates are shown.
const WINDOW: Duration = Duration::from_secs(10);
/// Without an acknowledgement for this long, events that wait are said to be stuck.
pub(super) const STUCK: Duration = Duration::from_secs(10);
/// How many looks back the sparklines go.
pub(super) const HISTORY_LEN: usize = 240;

/// A buffer that is watched.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) directory: PathBuf,
    pub(super) shown: Shown,
    pub(super) history: History,
    meters: Meters,
}

/// What is known of a buffer.
#[derive(Debug)]
pub(super) enum Shown {
    /// Nothing yet.
    Nothing,
    Figures(Box<Figures>),
    /// The last look failed.
    NoLook(NoLook),
}

/// The figures of one look.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    pub(super) is_open: bool,
    pub(super) holder_pid: Option<u32>,
    pub(super) unread_events: u64,
    pub(super) unread_bytes: u64,
    pub(super) next_record_id: u64,
    pub(super) last_acknowledged_id: u64,
    pub(super) oldest: Option<Duration>,
    pub(super) disk_bytes: u64,
    /// The most that the data files can occupy.
    pub(super) limit: Option<Limit>,
    /// Lengths of the data files, the oldest first.
    pub(super) files: Vec<u64>,
    /// The bytes of them before the first unread record.
    pub(super) acknowledged_bytes: u64,
    /// Where findings begin, in bytes of all files.
    pub(super) found_at: Vec<u64>,
    pub(super) findings: usize,
    pub(super) is_damaged: bool,
    pub(super) rates: Option<Rates>,
    pub(super) to_full: Option<Duration>,
    pub(super) to_empty: Option<Duration>,
    pub(super) since_progress: Option<Duration>,
}

/// What limits the size of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) bytes: u64,
    /// It is the free space, and not the given maximum size.
    pub(super) is_of_disk: bool,
}

/// Events a second at each look, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) events_in: VecDeque<f64>,
    pub(super) events_out: VecDeque<f64>,
}

/// What measures the rates.
#[derive(Debug)]
struct Meters {
    window: Meter,
    /// From one look to the next.
    step: Meter,
}

impl Buffer {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            shown: Shown::Nothing,
            history: History::default(),
            meters: Meters {
                window: Meter::over(WINDOW),
                step: Meter::over(Duration::ZERO),
            },
        }
    }

    /// Takes note of a look. `max_size` is what was given on the command line.
    pub(super) fn take(
        &mut self,
        at: Instant,
        look: Result<Box<Inspection>, NoLook>,
        max_size: Option<u64>,
    ) {
        let inspection = match look {
            Ok(inspection) => inspection,
            Err(why) => {
                self.shown = Shown::NoLook(why);
                return;
            }
        };
        self.meters.window.take(at, &inspection);
        self.meters.step.take(at, &inspection);
        if let Some(rates) = self.meters.step.rates() {
            self.history.add(rates.events_in, rates.events_out);
        }
        let figures = Figures::of(&inspection, &self.meters.window, max_size);
        self.shown = Shown::Figures(Box::new(figures));
    }

    /// The figures, if the last look succeeded.
    pub(super) fn figures(&self) -> Option<&Figures> {
        match &self.shown {
            Shown::Figures(figures) => Some(figures),
            Shown::Nothing | Shown::NoLook(_) => None,
        }
    }
}

impl History {
    pub(super) fn add(&mut self, events_in: f64, events_out: f64) {
        for (history, rate) in [
            (&mut self.events_in, events_in),
            (&mut self.events_out, events_out),
        ] {
            if history.len() == HISTORY_LEN {
                history.pop_front();
            }
            history.push_back(rate);
        }
    }
}

impl Figures {
    fn of(inspection: &Inspection, meter: &Meter, max_size: Option<u64>) -> Self {
        let live = || inspection.files.iter().filter(|file| !file.is_stale);
        let files: Vec<u64> = live().map(|file| file.data_bytes).collect();
        let disk_bytes = inspection.disk_bytes();
        let limit = limit(max_size, disk_bytes, inspection.free_bytes);
        let mut found_at = Vec::new();
        let findings = &inspection.recovery.findings;
        let mut base = 0;
        for file in live() {
            let name = file_name(file.file_id);
            let of_file = |finding: &&_| is_in(finding, &name);
            let places = findings.iter().filter(of_file).map(|f| base + f.offset);
            found_at.extend(places);
            base += file.data_bytes;
        }
        Self {
            is_open: inspection.locked,
            holder_pid: inspection.lock_holder_pid,
            unread_events: inspection.unread.events,
            unread_bytes: inspection.unread.bytes,
            next_record_id: inspection.next_record_id,
            last_acknowledged_id: inspection.last_acknowledged_id,
            oldest: inspection
                .oldest_unread_age_seconds
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            disk_bytes,
            limit,
            acknowledged_bytes: base.saturating_sub(inspection.unread.bytes),
            files,
            found_at,
            findings: findings.len(),
            is_damaged: inspection.recovery.is_damaged()
                || inspection.ledger.status == LedgerCondition::Damaged,
            rates: meter.rates(),
            to_full: limit.and_then(|limit| meter.time_to_full(limit.bytes)),
            to_empty: meter.time_to_empty(),
            since_progress: meter.since_progress(),
        }
    }

    /// Events wait, and no process has the buffer open.
    pub(super) fn is_orphaned(&self) -> bool {
        !self.is_open && self.unread_events > 0
    }

    /// How much of the limit is used, from 0 to 1.
    pub(super) fn fill(&self) -> Option<f64> {
        let limit = self.limit?.bytes;
        (limit > 0).then(|| (self.disk_bytes as f64 / limit as f64).min(1.0))
    }
}

fn is_in(finding: &forebay::Finding, name: &str) -> bool {
    finding.file.as_deref() == Some(name)
}

/// What is reached first: the maximum size, if it is known, or the end of the disk.
fn limit(max_size: Option<u64>, disk_bytes: u64, free: Option<u64>) -> Option<Limit> {
    let of_disk = free.map(|free| Limit {
        bytes: disk_bytes.saturating_add(free),
        is_of_disk: true,
    });
    let given = max_size.map(|bytes| Limit {
        bytes,
        is_of_disk: false,
    });
    given
        .into_iter()
        .chain(of_disk)
        .min_by_key(|limit| limit.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_is_reached_first() {
        let bytes = |limit: Option<Limit>| limit.map(|limit| (limit.bytes, limit.is_of_disk));
        assert_eq!(bytes(limit(Some(100), 50, Some(1000))), Some((100, false)));
        assert_eq!(bytes(limit(Some(100), 50, Some(10))), Some((60, true)));
        assert_eq!(bytes(limit(None, 50, Some(10))), Some((60, true)));
        assert_eq!(bytes(limit(None, 50, None)), None);
    }

    #[test]
    fn the_history_forgets_the_oldest() {
        let mut history = History::default();
        for look in 0..=HISTORY_LEN {
            history.add(look as f64, 0.0);
        }
        assert_eq!(history.events_in.len(), HISTORY_LEN);
        assert_eq!(history.events_in.front(), Some(&1.0));
    }
}
