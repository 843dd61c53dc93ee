//! The charts: how long payloads are, and when their files were last changed.
//!
//! Invariant: the number of bars is bounded.

use super::facts::{Contents, FileFacts};
use super::words;
use crate::output::{bytes, count};
use forebay::FileReport;
use indicatif::HumanCount;
use std::time::{Duration, SystemTime};

/// At most this many bars over time.
const BARS_MAX: usize = 200;

/// How long payloads are.
#[derive(Debug)]
pub(crate) struct Sizes {
    pub(crate) shortest: String,
    pub(crate) median: String,
    pub(crate) p99: String,
    pub(crate) longest: String,
    pub(crate) mean: String,
    /// A bar for each power of two from the shortest to the longest.
    pub(crate) bars: Vec<SizeBar>,
}

/// The records whose payload lengths begin with the same power of two.
#[derive(Debug, PartialEq)]
pub(crate) struct SizeBar {
    pub(crate) label: String,
    pub(crate) records: String,
    pub(crate) bytes: String,
    /// In percent of the longest bar.
    pub(crate) width: f64,
}

/// Describes the lengths of all payloads; `None` if there is no record.
pub(crate) fn sizes(contents: &Contents) -> Option<Sizes> {
    let lens = &contents.lens;
    let (shortest, longest) = (*lens.keys().next()?, *lens.keys().next_back()?);
    let records: u64 = lens.values().sum();
    let total = lens
        .iter()
        .map(|(len, n)| u128::from(*len) * u128::from(*n));
    let total: u128 = total.sum();
    let mean = u64::try_from(total / u128::from(records)).unwrap_or(u64::MAX);
    let in_bucket = |bucket: u32| {
        let of_bucket = lens.iter().filter(move |(len, _)| bits(**len) == bucket);
        of_bucket.fold((0, 0_u64), |(records, bytes), (len, n)| {
            (records + n, bytes.saturating_add(len * n))
        })
    };
    let buckets: Vec<_> = (bits(shortest)..=bits(longest))
        .map(|bucket| (bucket, in_bucket(bucket)))
        .collect();
    let most = buckets.iter().map(|(_, (records, _))| *records).max()?;
    let bars = buckets.iter().map(|(bucket, (records, len))| SizeBar {
        label: match bucket {
            0 => "empty".to_owned(),
            _ => format!("from {}", bytes(1 << (bucket - 1))),
        },
        records: HumanCount(*records).to_string(),
        bytes: bytes(*len),
        width: *records as f64 * 100.0 / most.max(1) as f64,
    });
    Some(Sizes {
        shortest: bytes(shortest),
        median: bytes(quantile(contents, records.div_ceil(2))),
        p99: bytes(quantile(contents, records - records / 100)),
        longest: bytes(longest),
        mean: bytes(mean),
        bars: bars.collect(),
    })
}

/// 0 for 0, and one more for each power of two.
fn bits(len: u64) -> u32 {
    u64::BITS - len.leading_zeros()
}

/// The length that `rank` records do not exceed.
fn quantile(contents: &Contents, rank: u64) -> u64 {
    let mut seen = 0;
    let reached = contents.lens.iter().find(|(_, n)| {
        seen += **n;
        seen >= rank
    });
    reached.map_or(0, |(len, _)| *len)
}

/// Events by the times of their data files.
#[derive(Debug)]
pub(crate) struct Times {
    pub(crate) bars: Vec<TimeBar>,
    pub(crate) highest: String,
    pub(crate) from: String,
    pub(crate) to: String,
}

/// Events that came between two times. All figures are in percent of the chart.
#[derive(Debug, PartialEq)]
pub(crate) struct TimeBar {
    /// `acknowledged`, or `unread` if any of them is.
    pub(crate) class: &'static str,
    pub(crate) x: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) title: String,
}

impl TimeBar {
    /// Where it begins, from the top of the chart.
    pub(crate) fn top(&self) -> f64 {
        (100.0 - self.height).max(0.0)
    }
}

/// A data file is filled from the last change of the one before to its own.
struct Filled {
    from: SystemTime,
    to: SystemTime,
    events: u64,
    is_acknowledged: bool,
}

impl Filled {
    fn seconds(&self) -> f64 {
        seconds(self.from, self.to)
    }

    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds()
    }
}

fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64()
}

/// Describes when the events came; `None` if the times of the files do not tell.
pub(crate) fn times(files: &[FileFacts]) -> Option<Times> {
    let live: Vec<_> = files.iter().filter(|f| !f.report.is_stale).collect();
    let filled: Vec<_> = live
        .windows(2)
        .filter_map(|pair| {
            let (from, to) = (pair[0].report.modified?, pair[1].report.modified?);
            let file: &FileReport = &pair[1].report;
            (to > from).then_some(Filled {
                from,
                to,
                events: pair[1].events,
                is_acknowledged: pair[1].acknowledged_bytes == file.data_bytes,
            })
        })
        .collect();
    let bars = filled.chunks(filled.len().div_ceil(BARS_MAX).max(1));
    let bars: Vec<_> = bars.filter_map(joined).collect();
    let (from, to) = (bars.first()?.from, bars.last()?.to);
    let span = seconds(from, to);
    let highest = bars.iter().map(Filled::rate).fold(0.0, f64::max);
    if span <= 0.0 || highest <= 0.0 {
        return None;
    }
    let bar = |bar: &Filled| TimeBar {
        class: match bar.is_acknowledged {
            true => "acknowledged",
            false => "unread",
        },
        x: seconds(from, bar.from) * 100.0 / span,
        width: bar.seconds() * 100.0 / span,
        height: bar.rate() * 100.0 / highest,
        title: format!(
            "{} from {} to {}",
            count(bar.events, "event"),
            words::time(bar.from),
            words::time(bar.to)
        ),
    };
    Some(Times {
        highest: rate(highest),
        from: words::time(from),
        to: words::time(to),
        bars: bars.iter().map(bar).collect(),
    })
}

fn joined(files: &[Filled]) -> Option<Filled> {
    Some(Filled {
        from: files.first()?.from,
        to: files.last()?.to,
        events: files.iter().map(|file| file.events).sum(),
        is_acknowledged: files.iter().all(|file| file.is_acknowledged),
    })
}

fn rate(events_a_second: f64) -> String {
    match events_a_second {
        many if many >= 10.0 => format!("{} events/s", HumanCount(many.round() as u64)),
        few => format!("{few:.2} events/s"),
    }
}

/// How long a time has been, in its two largest units: `2h 3m`.
pub(crate) fn age(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.floor()).unwrap_or_default();
    let unit = match whole.as_secs() {
        0 => return "under 1s".to_owned(),
        86_400.. => 3_600,
        3_600.. => 60,
        _ => 1,
    };
    let rounded = Duration::from_secs(whole.as_secs() / unit * unit);
    humantime::format_duration(rounded).to_string()
}
