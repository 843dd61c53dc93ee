//! How fast a buffer fills and empties, from looks at it from outside.
//!
//! Invariants:
//! - Pure: the times of the looks are given, nothing is read or waited for.
//! - A rate that the looks cannot tell is `None`, never 0.

use forebay::Inspection;
use std::collections::{HashMap, VecDeque};
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
    /// The bytes that went in since the first look.
    bytes_in: u64,
}

/// The data files of a look.
#[derive(Debug, Clone, Default)]
struct Files {
    /// By their ids: the id of the first record, and the bytes of records.
    by_id: HashMap<u16, (Option<u64>, u64)>,
    /// The newest one.
    last: Option<u16>,
    /// The bytes of an event, on average, if there is any.
    bytes_of_event: Option<f64>,
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
    /// Of the last look.
    files: Files,
    /// What was unread at the first look.
    unread_bytes_at_first: u64,
    /// When an acknowledgement was seen last, or nothing was unread.
    moved_at: Option<Instant>,
}

impl Meter {
    /// No looks yet. Rates will be those of the last `window`.
    pub(crate) fn over(window: Duration) -> Self {
        Self {
            window,
            readings: VecDeque::new(),
            files: Files::default(),
            unread_bytes_at_first: 0,
            moved_at: None,
        }
    }

    /// Takes note of a look that was made `at` this time.
    pub(crate) fn take(&mut self, at: Instant, inspection: &Inspection) {
        let reading = Reading {
            at,
            next_record_id: inspection.next_record_id,
            last_acknowledged_id: inspection.last_acknowledged_id,
            unread_events: inspection.unread.events,
            unread_bytes: inspection.unread.bytes,
            disk_bytes: inspection.disk_bytes(),
            bytes_in: 0,
        };
        let files = inspection.files.iter().filter(|file| !file.is_stale);
        let files = files.map(|file| (file.file_id, file.first_record_id, file.data_bytes));
        self.add(reading, Files::new(files, inspection.next_record_id));
    }

    fn add(&mut self, mut reading: Reading, mut files: Files) {
        if let Some(last) = self.readings.back() {
            // Ids only grow. Otherwise another buffer has taken the place of this one.
            if reading.next_record_id < last.next_record_id
                || reading.last_acknowledged_id < last.last_acknowledged_id
            {
                self.readings.clear();
                self.moved_at = None;
            }
        }
        match self.readings.back() {
            Some(last) => {
                let events = reading.next_record_id.saturating_sub(last.next_record_id);
                reading.bytes_in = last.bytes_in + files.added_since(&self.files, events);
            }
            None => self.unread_bytes_at_first = reading.unread_bytes,
        }
        files.bytes_of_event = files.bytes_of_event.or(self.files.bytes_of_event);
        self.files = files;
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
        let bytes_in = last.bytes_in - first.bytes_in;
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

    /// The bytes that went in and out since the first look.
    pub(crate) fn bytes_in_and_out(&self) -> (u64, u64) {
        self.readings.back().map_or((0, 0), |last| {
            let came = self.unread_bytes_at_first + last.bytes_in;
            (last.bytes_in, came.saturating_sub(last.unread_bytes))
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

impl Files {
    /// From id, id of the first record, and bytes of each, the oldest first.
    fn new(files: impl Iterator<Item = (u16, Option<u64>, u64)>, next_record_id: u64) -> Self {
        let mut new = Self::default();
        let (mut first_id, mut bytes) = (None, 0);
        for (file_id, of_file, of_records) in files {
            first_id = first_id.or(of_file);
            bytes += of_records;
            new.by_id.insert(file_id, (of_file, of_records));
            new.last = Some(file_id);
        }
        let events = next_record_id.saturating_sub(first_id.unwrap_or(next_record_id));
        new.bytes_of_event = (events > 0).then(|| bytes as f64 / events as f64);
        new
    }

    /// The bytes of records that were added since an earlier look, with which `events` came.
    fn added_since(&self, before: &Self, events: u64) -> u64 {
        // If the newest file of then is gone, files may have come and gone since, so that only
        // the events tell.
        let is_seen = |file_id| self.same_as_in(before, file_id).is_some();
        if before.last.is_some_and(|last| !is_seen(last)) {
            let bytes = self.bytes_of_event.or(before.bytes_of_event);
            return (events as f64 * bytes.unwrap_or(0.0)) as u64;
        }
        let added = |(file_id, (_, bytes)): (&u16, &(Option<u64>, u64))| {
            bytes.saturating_sub(self.same_as_in(before, *file_id).unwrap_or(0))
        };
        self.by_id.iter().map(added).sum()
    }

    /// The bytes that a file of this look had in an earlier one. File ids go round: a file of
    /// the same id is another one if its first record is.
    fn same_as_in(&self, before: &Self, file_id: u16) -> Option<u64> {
        let (first_id, _) = self.by_id.get(&file_id)?;
        let (first_before, bytes) = before.by_id.get(&file_id)?;
        (first_before.is_none() || first_before == first_id).then_some(*bytes)
    }
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
    fn reading(begin: Instant, seconds: u64, next: u64, acknowledged: u64) -> (Reading, Files) {
        let reading = Reading {
            at: begin + Duration::from_secs(seconds),
            next_record_id: next + 1,
            last_acknowledged_id: acknowledged,
            unread_events: next - acknowledged,
            unread_bytes: (next - acknowledged) * 100,
            disk_bytes: next * 100,
            bytes_in: 0,
        };
        (reading, files(&[(0, Some(1), next * 100)], next + 1))
    }

    fn files(files: &[(u16, Option<u64>, u64)], next_record_id: u64) -> Files {
        Files::new(files.iter().copied(), next_record_id)
    }

    fn meter(readings: impl IntoIterator<Item = (Reading, Files)>) -> Meter {
        let mut meter = Meter::over(Duration::from_secs(10));
        for (reading, files) in readings {
            meter.add(reading, files);
        }
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
        let (mut before, _) = reading(begin, 0, 15, 0);
        before.unread_bytes = 1_500;
        let files_before = files(&[(6, Some(1), 1_000), (7, Some(11), 500)], 16);
        let (mut now, _) = reading(begin, 1, 22, 10);
        now.unread_bytes = 1_200;
        let files_now = files(&[(7, Some(11), 1_000), (8, Some(21), 200)], 23);
        let meter = meter([(before, files_before), (now, files_now)]);
        let rates = meter.rates().unwrap();
        assert_eq!(meter.bytes_in_and_out(), (700, 1_000));
        assert_eq!((rates.bytes_in, rates.bytes_out), (700.0, 1_000.0));
    }

    /// Regression: a buffer through which a data file went each second seemed to get almost
    /// nothing.
    #[test]
    fn files_that_came_and_went_between_two_looks_count_by_their_events() {
        let begin = Instant::now();
        let at = |seconds, next: u64, files_now| {
            let (mut reading, _) = reading(begin, seconds, next, next);
            reading.unread_bytes = 0;
            (reading, files_now)
        };
        let passed = meter([
            at(0, 10, files(&[(0, Some(1), 1_000)], 11)),
            // 990 events of 100 bytes, as the last ones are.
            at(1, 1_000, files(&[(50, Some(996), 500)], 1_001)),
            // Nothing is there to measure: as long as those before.
            at(2, 1_100, files(&[(51, None, 0)], 1_101)),
        ]);
        assert_eq!(passed.bytes_in_and_out(), (109_000, 109_000));
    }

    /// File ids go round: the name of a file that was deleted comes again.
    #[test]
    fn a_file_with_the_name_of_an_earlier_one_is_another_one() {
        let one = |first_id, bytes, next| files(&[(0, first_id, bytes)], next);
        // 83 events of 100 bytes.
        let other = one(Some(91), 300, 94);
        assert_eq!(other.added_since(&one(Some(1), 1_000, 11), 83), 8_300);
        // A file that was empty is the same one with its first record.
        let first = one(Some(1), 300, 4);
        assert_eq!(first.added_since(&one(None, 0, 1), 3), 300);
        assert_eq!(
            one(Some(1), 1_300, 14).added_since(&one(Some(1), 1_000, 11), 3),
            300
        );
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
        let since =
            |readings: &[(Reading, Files)]| meter(readings.iter().cloned()).since_progress();
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
