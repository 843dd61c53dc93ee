//! How fast a buffer fills and empties, from looks at it from outside.
//!
//! Invariants:
//! - Pure: the times of the looks are given, nothing is read or waited for.
//! - A rate that the looks cannot tell is `None`, never 0.

use forebay::Inspection;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What one look says about the flow through a buffer.
#[derive(Debug, Clone, PartialEq)]
struct Reading {
    at: Instant,
    next_record_id: u64,
    last_acknowledged_id: u64,
    unread_events: u64,
    unread_bytes: u64,
    disk_bytes: u64,
    /// The data files: id, id of the first record, bytes of records.
    files: Vec<(u16, Option<u64>, u64)>,
}

/// What goes through a buffer, a second. Bytes are those of whole records, as on disk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rates {
    pub(crate) events_in: f64,
    /// Acknowledged or lost.
    pub(crate) events_out: f64,
    pub(crate) bytes_in: f64,
    pub(crate) bytes_out: f64,
}

/// The looks at one buffer over the last while, and what they say together.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    /// Rates are those of this time.
    window: Duration,
    /// Of the window and the last one before it, the oldest first.
    readings: VecDeque<Reading>,
    /// When an acknowledgement was seen last, or nothing was unread.
    moved_at: Option<Instant>,
}

impl Meter {
    /// No looks yet. Rates will be those of the last `window`.
    pub(crate) fn over(window: Duration) -> Self {
        Self {
            window,
            readings: VecDeque::new(),
            moved_at: None,
        }
    }

    /// Takes note of a look that was made `at` this time.
    pub(crate) fn take(&mut self, at: Instant, inspection: &Inspection) {
        self.add(Reading {
            at,
            next_record_id: inspection.next_record_id,
            last_acknowledged_id: inspection.last_acknowledged_id,
            unread_events: inspection.unread.events,
            unread_bytes: inspection.unread.bytes,
            disk_bytes: inspection.disk_bytes(),
            files: inspection
                .files
                .iter()
                .filter(|file| !file.is_stale)
                .map(|file| (file.file_id, file.first_record_id, file.data_bytes))
                .collect(),
        });
    }

    fn add(&mut self, reading: Reading) {
        if let Some(last) = self.readings.back() {
            // Ids only grow. Otherwise another buffer has taken the place of this one.
            if reading.next_record_id < last.next_record_id
                || reading.last_acknowledged_id < last.last_acknowledged_id
            {
                self.readings.clear();
                self.moved_at = None;
            }
        }
        let has_moved = self.readings.back().is_none_or(|last| {
            reading.last_acknowledged_id > last.last_acknowledged_id
                || last.unread_events == 0
                || reading.unread_events == 0
        });
        if has_moved {
            self.moved_at = Some(reading.at);
        }
        let begin = reading.at.checked_sub(self.window);
        while let (Some(second), Some(begin)) = (self.readings.get(1), begin) {
            if second.at > begin {
                break;
            }
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
    }

    /// The rates; `None` before the second look.
    pub(crate) fn rates(&self) -> Option<Rates> {
        let (first, last) = (self.readings.front()?, self.readings.back()?);
        let elapsed = last.at.checked_duration_since(first.at)?.as_secs_f64();
        if elapsed <= 0.0 {
            return None;
        }
        let pairs = self.readings.iter().zip(self.readings.iter().skip(1));
        let bytes_in: u64 = pairs.map(|(before, now)| grown(before, now)).sum();
        // What came and did not stay went.
        let bytes_out = (first.unread_bytes + bytes_in).saturating_sub(last.unread_bytes);
        let events = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed;
        Some(Rates {
            events_in: events(last.next_record_id, first.next_record_id),
            events_out: events(last.last_acknowledged_id, first.last_acknowledged_id),
            bytes_in: bytes_in as f64 / elapsed,
            bytes_out: bytes_out as f64 / elapsed,
        })
    }

    /// How long until the buffer has `max_size` bytes, if it goes on as in the window; `None` if
    /// it does not grow.
    pub(crate) fn time_to_full(&self, max_size: u64) -> Option<Duration> {
        let left = max_size.saturating_sub(self.readings.back()?.disk_bytes);
        after(left, self.growth()?)
    }

    /// How long until nothing is unread, if it goes on as in the window; `None` if what is unread
    /// does not shrink, or is nothing.
    pub(crate) fn time_to_empty(&self) -> Option<Duration> {
        let unread = self.readings.back()?.unread_bytes;
        (unread > 0).then(|| after(unread, -self.growth()?))?
    }

    /// How long no acknowledgement was seen although events are unread; `None` if nothing is
    /// unread. Counts from the first look at the earliest.
    pub(crate) fn since_progress(&self) -> Option<Duration> {
        let last = self.readings.back()?;
        (last.unread_events > 0).then(|| last.at.checked_duration_since(self.moved_at?))?
    }

    /// The bytes by which the unread records grow, a second.
    fn growth(&self) -> Option<f64> {
        let rates = self.rates()?;
        Some(rates.bytes_in - rates.bytes_out)
    }
}

/// The bytes of records that were added between two looks. A data file that was made and deleted
/// in between is not counted: it came and went.
fn grown(before: &Reading, now: &Reading) -> u64 {
    let added = |(file_id, first_id, bytes): &(u16, Option<u64>, u64)| {
        let same = before
            .files
            .iter()
            .find(|(id, first, _)| id == file_id && (first.is_none() || first == first_id));
        bytes.saturating_sub(same.map_or(0, |(_, _, bytes)| *bytes))
    };
    now.files.iter().map(added).sum()
}

/// The time in which `rate` a second makes `amount`; `None` if it never does, or in more than a
/// hundred years.
fn after(amount: u64, rate: f64) -> Option<Duration> {
    const HUNDRED_YEARS: f64 = 100.0 * 365.25 * 86_400.0;
    let seconds = amount as f64 / rate;
    (rate > 0.0 && seconds < HUNDRED_YEARS).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events of 100 bytes: `next` was written last, up to `acknowledged` they are read. All are
    /// in one file.
    fn reading(begin: Instant, seconds: u64, next: u64, acknowledged: u64) -> Reading {
        Reading {
            at: begin + Duration::from_secs(seconds),
            next_record_id: next + 1,
            last_acknowledged_id: acknowledged,
            unread_events: next - acknowledged,
            unread_bytes: (next - acknowledged) * 100,
            disk_bytes: next * 100,
            files: vec![(0, Some(1), next * 100)],
        }
    }

    fn meter(readings: impl IntoIterator<Item = Reading>) -> Meter {
        let mut meter = Meter::over(Duration::from_secs(10));
        readings.into_iter().for_each(|reading| meter.add(reading));
        meter
    }

    #[test]
    fn one_look_tells_no_rates() {
        let meter = meter([reading(Instant::now(), 0, 10, 5)]);
        assert_eq!(meter.rates(), None);
        assert_eq!(meter.time_to_full(1 << 20), None);
        assert_eq!(meter.time_to_empty(), None);
        assert_eq!(meter.since_progress(), Some(Duration::ZERO));
        assert_eq!(Meter::over(Duration::ZERO).since_progress(), None);
    }

    #[test]
    fn two_looks_tell_what_went_in_and_out() {
        let begin = Instant::now();
        let filling = meter([reading(begin, 0, 100, 50), reading(begin, 2, 140, 60)]);
        let rates = Rates {
            events_in: 20.0,
            events_out: 5.0,
            bytes_in: 2000.0,
            bytes_out: 500.0,
        };
        assert_eq!(filling.rates(), Some(rates));
        // 14,000 bytes are there, and 1,500 more every second.
        let full = filling.time_to_full(14_000 + 3_000);
        assert_eq!(full, Some(Duration::from_secs(2)));
        assert_eq!(filling.time_to_full(10), Some(Duration::ZERO));
        assert_eq!(filling.time_to_empty(), None);
        let emptying = meter([reading(begin, 0, 100, 50), reading(begin, 2, 110, 80)]);
        assert_eq!(emptying.time_to_full(1 << 20), None);
        // 3,000 bytes are unread, and 1,000 fewer every second.
        assert_eq!(emptying.time_to_empty(), Some(Duration::from_secs(3)));
        let still = meter([reading(begin, 0, 100, 50), reading(begin, 2, 100, 50)]);
        assert_eq!(still.time_to_full(1 << 20), None);
        assert_eq!(still.time_to_empty(), None);
    }

    /// A file was completed, another begun, and the oldest deleted.
    #[test]
    fn bytes_are_counted_across_files() {
        let begin = Instant::now();
        let before = Reading {
            unread_bytes: 1_500,
            files: vec![(6, Some(1), 1_000), (7, Some(11), 500)],
            ..reading(begin, 0, 15, 0)
        };
        let now = Reading {
            unread_bytes: 1_200,
            files: vec![(7, Some(11), 1_000), (8, Some(21), 200)],
            ..reading(begin, 1, 22, 10)
        };
        let rates = meter([before, now]).rates().unwrap();
        assert_eq!((rates.bytes_in, rates.bytes_out), (700.0, 1_000.0));
    }

    /// The ids of files go round: the name of a file that was deleted comes again.
    #[test]
    fn a_file_with_the_name_of_an_earlier_one_counts_in_full() {
        let begin = Instant::now();
        let before = Reading {
            files: vec![(0, Some(1), 1_000)],
            ..reading(begin, 0, 10, 10)
        };
        let now = Reading {
            files: vec![(0, Some(91), 300)],
            ..reading(begin, 1, 93, 93)
        };
        assert_eq!(meter([before, now]).rates().unwrap().bytes_in, 300.0);
        // A file that was empty is the same one with its first record.
        let empty = Reading {
            files: vec![(0, None, 0)],
            ..reading(begin, 0, 0, 0)
        };
        let now = reading(begin, 1, 3, 0);
        assert_eq!(meter([empty, now]).rates().unwrap().bytes_in, 300.0);
    }

    #[test]
    fn rates_are_those_of_the_window() {
        let begin = Instant::now();
        let at = |seconds, next| reading(begin, seconds, next, 0);
        let meter = meter([at(0, 1_000), at(5, 2_000), at(20, 2_000), at(25, 2_050)]);
        // From 5 s on, the last look before the window, to 25 s.
        assert_eq!(meter.readings.len(), 3);
        assert_eq!(meter.rates().unwrap().events_in, 2.5);
    }

    #[test]
    fn progress_is_an_acknowledgement_while_something_is_unread() {
        let begin = Instant::now();
        let at = |seconds, next, acknowledged| reading(begin, seconds, next, acknowledged);
        let since = |readings: &[Reading]| meter(readings.iter().cloned()).since_progress();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(since(&[at(0, 10, 5), at(3, 20, 5)]), seconds(3));
        // Also beyond the window.
        let stuck: Vec<_> = (0..100).map(|second| at(second, 10, 5)).collect();
        assert_eq!(since(&stuck), seconds(99));
        assert_eq!(
            since(&[at(0, 10, 5), at(3, 20, 6), at(4, 20, 6)]),
            seconds(1)
        );
        assert_eq!(since(&[at(0, 10, 5), at(3, 10, 10)]), None);
        // After an idle time, the first new event has not waited since then.
        assert_eq!(since(&[at(0, 10, 10), at(99, 11, 10)]), seconds(0));
    }

    #[test]
    fn another_buffer_under_the_same_path_begins_anew() {
        let begin = Instant::now();
        let meter = meter([reading(begin, 0, 100, 50), reading(begin, 1, 10, 0)]);
        assert_eq!(meter.rates(), None);
        assert_eq!(meter.since_progress(), Some(Duration::ZERO));
    }
}
