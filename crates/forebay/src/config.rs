//! What a buffer is opened with: every limit with its unit, default and bounds.
//!
//! Invariant: a [`Limits`] exists only after validation; the core never checks a parameter again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::counter::EventCounter;
use crate::error::{Error, ErrorKind, Result};
use crate::format::record;
use crate::storage::Storage;
use crate::storage::os::Os;

/// The smallest maximum size: 4 KiB.
pub(crate) const MIN_MAX_SIZE: u64 = 4 << 10;
/// The largest maximum size: 128 TiB.
pub(crate) const MAX_MAX_SIZE: u64 = 1 << 47;
/// The smallest data file size: 256 bytes.
pub(crate) const MIN_DATA_FILE_SIZE: u64 = 256;
/// The largest default data file size: 128 MiB. Other implementations of the format allow no larger
/// one by default.
pub(crate) const DEFAULT_MAX_DATA_FILE_SIZE: u64 = 128 << 20;
/// The largest data file size that can be configured: 4 GiB.
pub(crate) const MAX_DATA_FILE_SIZE: u64 = 4 << 30;
/// `max_size` holds at most this many data files. There are 65,535 file ids; the rest is for files
/// that the writer leaves before they are full.
pub(crate) const MAX_DATA_FILES: u64 = 60_000;
/// At most this many data files hold unsynced bytes, also after the process was killed: the newest
/// ones.
pub(crate) const UNSYNCED_FILES_MAX: usize = 10;

/// What to do with damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnCorruption {
    /// Skips damage and counts the events that are lost.
    Skip,
    /// Skips damage, and keeps a copy of the damaged bytes in `quarantine/`, up to
    /// [`quarantine_max_size`](Config::quarantine_max_size). The default.
    #[default]
    Quarantine,
    /// Opening, or the reader when it meets damage, fails with
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), and nothing is changed. An ordinary power
    /// cut can cause that: it may leave a data file that is not the last one incomplete, or a
    /// ledger that counts records which never reached the disk.
    Refuse,
}

/// The part of `max_size` that is kept for the ledger (24 bytes) and the synced mark (8 bytes).
pub(crate) const LEDGER_ALLOWANCE: u64 = 32;

/// When written records are synced, so that they survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SyncPolicy {
    /// In the background, once per [`flush_interval`](Config::flush_interval) while anything is
    /// unsynced, earlier when several complete data files wait, and when a caller asks. A power
    /// cut takes at most the records of one interval and of the time of a sync. The default.
    #[default]
    Interval,
    /// An append returns when its record is synced. All appends that wait when a sync starts share
    /// that sync (group commit). On a full disk the wait for the sync ends as [`WhenFull`] says;
    /// see [`Writer::append`](crate::Writer::append).
    Always,
    /// Only when several complete data files wait for it (at most eight do), on request
    /// ([`Writer::flush`](crate::Writer::flush), a receipt's wait) and at close.
    Never,
}

/// Which records the reader gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReaderSees {
    /// Written records: they survive a killed process, but a power cut may take them. The default.
    #[default]
    Written,
    /// Synced records: they survive a power cut. They are delivered later by up to the flush
    /// interval; under [`SyncPolicy::Never`], a waiting reader requests a sync.
    ///
    /// For consumers that drop repeated events by record id. A power cut may take a record that was
    /// delivered unsynced. Its id then goes to another event, which such a consumer would drop. A
    /// synced record keeps its id.
    Synced,
}

/// What an append does when the buffer, or the disk, is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// Waits until there is space: until the consumer acknowledges more, or the disk has room
    /// again. The default.
    #[default]
    Block,
    /// Waits for at most this long, then fails with [`ErrorKind::Full`] or [`ErrorKind::DiskFull`].
    BlockFor(Duration),
    /// Fails with [`ErrorKind::Full`] or [`ErrorKind::DiskFull`] at once. The payload is only
    /// borrowed, so nothing needs to be handed back.
    Reject,
    /// Drops the record that does not fit and counts it as dropped. The receipt shows that
    /// ([`Receipt::accepted`](crate::Receipt::accepted)).
    DropNewest,
}

/// Which thread writes, syncs and deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Io {
    /// A thread of the buffer's own. The default.
    #[default]
    Thread,
    /// The calling threads: a call that has to wait does the work itself, and the flush interval
    /// has no effect. Deterministic, for simulation and for programs without threads. A wait that
    /// could never end fails with [`ErrorKind::TimedOut`]. Calls that read without waiting write
    /// what was appended before they report that there is nothing. Async handles need
    /// [`Thread`](Self::Thread).
    Caller,
}

/// How to open a buffer: a directory, and limits that all have defaults.
///
/// ```
/// use forebay::{Config, SyncPolicy, WhenFull};
/// use std::time::Duration;
///
/// let config = Config::new("spool")
///     .max_size(64 << 20)
///     .sync(SyncPolicy::Interval)
///     .flush_interval(Duration::from_millis(200))
///     .when_full(WhenFull::Reject);
/// assert_eq!(config.directory(), std::path::Path::new("spool"));
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    storage: Option<Arc<dyn Storage>>,
    directory: PathBuf,
    max_size: u64,
    data_file_size: Option<u64>,
    max_record_size: Option<u64>,
    batch_size: Option<u64>,
    flush_interval: Duration,
    sync: SyncPolicy,
    reader_sees: ReaderSees,
    on_corruption: OnCorruption,
    quarantine_max_size: u64,
    min_free_space: u64,
    when_full: WhenFull,
    event_counter: EventCounter,
    io: Io,
}

impl Config {
    /// The default of [`max_size`](Self::max_size): 1 GiB.
    pub const DEFAULT_MAX_SIZE: u64 = 1 << 30;
    /// The greatest default of [`data_file_size`](Self::data_file_size): 128 MiB.
    pub const DEFAULT_MAX_DATA_FILE_SIZE: u64 = DEFAULT_MAX_DATA_FILE_SIZE;
    /// By default, so many data files of the same length make up [`max_size`](Self::max_size): 16,
    /// or more if they would be longer than
    /// [`DEFAULT_MAX_DATA_FILE_SIZE`](Self::DEFAULT_MAX_DATA_FILE_SIZE).
    pub const DEFAULT_DATA_FILES: u64 = 16;
    /// The default of [`quarantine_max_size`](Self::quarantine_max_size): 64 MiB.
    pub const DEFAULT_QUARANTINE_MAX_SIZE: u64 = 64 << 20;
    /// The default of [`min_free_space`](Self::min_free_space): none.
    pub const DEFAULT_MIN_FREE_SPACE: u64 = 0;
    /// The default of [`flush_interval`](Self::flush_interval): 500 ms.
    pub const DEFAULT_FLUSH_INTERVAL: Duration = Duration::from_millis(500);

    /// A buffer in `directory`, created if missing, with defaults: 1 GiB,
    /// synced every 500 ms, blocking when full.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            storage: None,
            directory: directory.into(),
            max_size: Self::DEFAULT_MAX_SIZE,
            data_file_size: None,
            max_record_size: None,
            batch_size: None,
            flush_interval: Self::DEFAULT_FLUSH_INTERVAL,
            sync: SyncPolicy::default(),
            reader_sees: ReaderSees::default(),
            on_corruption: OnCorruption::default(),
            quarantine_max_size: Self::DEFAULT_QUARANTINE_MAX_SIZE,
            min_free_space: Self::DEFAULT_MIN_FREE_SPACE,
            when_full: WhenFull::default(),
            event_counter: EventCounter::one(),
            io: Io::default(),
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The most that the data files and the ledger may occupy, in bytes. Default 1 GiB, from 4 KiB
    /// to 128 TiB. A buffer on disk that is larger can be opened and read.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// The most that one data file may hold, in bytes. A file is deleted once all of its records
    /// and all older ones are acknowledged. It limits [`max_record_size`](Self::max_record_size).
    /// Default: 1/16 of [`max_size`](Self::max_size), at most 128 MiB. At least 256 bytes; at most
    /// half of `max_size` (less 32 bytes), and at most 4 GiB.
    #[must_use]
    pub fn data_file_size(mut self, bytes: u64) -> Self {
        self.data_file_size = Some(bytes);
        self
    }

    /// The largest payload, in bytes. Default and upper bound: what fits into one data file (its
    /// size less 40 bytes, rounded down to a multiple of 8). So a small
    /// [`max_size`](Self::max_size) also limits the payloads.
    #[must_use]
    pub fn max_record_size(mut self, bytes: u64) -> Self {
        self.max_record_size = Some(bytes);
        self
    }

    /// How many bytes are collected in memory before they are written with one call. A batch ends
    /// with a whole record. Default: the data file size, at least 64 KiB, at most 1 MiB. From 4 KiB
    /// to 64 MiB.
    #[must_use]
    pub fn batch_size(mut self, bytes: u64) -> Self {
        self.batch_size = Some(bytes);
        self
    }

    /// How long data and acknowledgements may stay unsynced under
    /// [`SyncPolicy::Interval`]. Default 500 ms, from 1 ms to 1 h.
    #[must_use]
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// When data is synced. Default [`SyncPolicy::Interval`].
    #[must_use]
    pub fn sync(mut self, policy: SyncPolicy) -> Self {
        self.sync = policy;
        self
    }

    /// Which records the reader gets. Default [`ReaderSees::Written`].
    #[must_use]
    pub fn reader_sees(mut self, sees: ReaderSees) -> Self {
        self.reader_sees = sees;
        self
    }

    /// What happens to damaged bytes. Default [`OnCorruption::Quarantine`].
    #[must_use]
    pub fn on_corruption(mut self, policy: OnCorruption) -> Self {
        self.on_corruption = policy;
        self
    }

    /// The most that `quarantine/` may hold, in bytes. Once it is full, only reports are written.
    /// Default 64 MiB. Not part of the maximum size.
    #[must_use]
    pub fn quarantine_max_size(mut self, bytes: u64) -> Self {
        self.quarantine_max_size = bytes;
        self
    }

    /// The free-space floor, in bytes: while the file system has less free space than this, the
    /// buffer counts as full. Default 0, no floor.
    #[must_use]
    pub fn min_free_space(mut self, bytes: u64) -> Self {
        self.min_free_space = bytes;
        self
    }

    /// What an append does when the buffer or the disk is full. Default
    /// [`WhenFull::Block`].
    #[must_use]
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// How many events a record holds. Default one. Always open a buffer with the counter it was
    /// written with: with another one, steps between ids look like lost events.
    #[must_use]
    pub fn event_counter(mut self, counter: EventCounter) -> Self {
        self.event_counter = counter;
        self
    }

    /// Which thread does the writing. Default [`Io::Thread`].
    #[must_use]
    pub fn io(mut self, io: Io) -> Self {
        self.io = io;
        self
    }

    /// The file system. Default: the operating system's. Others are for tests: see
    /// [`storage`](mod@crate::storage).
    #[must_use]
    pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// The file system that was set, or the operating system's.
    pub(crate) fn storage_or_system(&self) -> Arc<dyn Storage> {
        self.storage.clone().unwrap_or_else(|| Arc::new(Os::new()))
    }

    /// Checks every parameter.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], naming the parameter, its value and the
    /// bound.
    pub fn validate(&self) -> Result<()> {
        self.limits().map(drop)
    }

    /// The validated parameters.
    pub(crate) fn limits(&self) -> Result<Limits> {
        check("max_size", self.max_size, MIN_MAX_SIZE, MAX_MAX_SIZE, "")?;
        let largest_file = ((self.max_size - LEDGER_ALLOWANCE) / 2).min(MAX_DATA_FILE_SIZE);
        let smallest_file = MIN_DATA_FILE_SIZE.max(self.max_size / MAX_DATA_FILES);
        let data_file_size = self.data_file_size.unwrap_or_else(|| {
            let share = (self.max_size / Self::DEFAULT_DATA_FILES)
                .clamp(MIN_DATA_FILE_SIZE, DEFAULT_MAX_DATA_FILE_SIZE);
            share.max(smallest_file)
        });
        check(
            "data_file_size",
            data_file_size,
            smallest_file,
            largest_file,
            " (from max_size: at most half of it, and at most 60000 files)",
        )?;
        let largest_record = (data_file_size - record::FRAME_OVERHEAD as u64) / 8 * 8;
        let largest_record = largest_record.min(record::MAX_PAYLOAD_LEN as u64);
        let max_record_size = self.max_record_size.unwrap_or(largest_record);
        check(
            "max_record_size",
            max_record_size,
            1,
            largest_record,
            " (from data_file_size less 40 bytes)",
        )?;
        let batch_size = self
            .batch_size
            .unwrap_or_else(|| data_file_size.clamp(64 << 10, 1 << 20));
        check("batch_size", batch_size, 4 << 10, 64 << 20, "")?;
        let (lower, upper) = (Duration::from_millis(1), Duration::from_secs(3600));
        if self.flush_interval < lower || self.flush_interval > upper {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "flush_interval is {:?}; it must be from 1 ms to 1 h",
                    self.flush_interval
                ),
            ));
        }
        Ok(Limits {
            max_size: self.max_size,
            data_file_size,
            max_record_len: max_record_size as usize,
            batch_len: batch_size as usize,
            flush_interval: self.flush_interval,
            sync: self.sync,
            reader_sees: self.reader_sees,
            on_corruption: self.on_corruption,
            quarantine_max_size: self.quarantine_max_size,
            min_free_bytes: self.min_free_space,
            when_full: self.when_full,
            event_counter: self.event_counter.clone(),
            io: self.io,
        })
    }
}

/// Parameters that passed validation.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub max_size: u64,
    pub data_file_size: u64,
    pub max_record_len: usize,
    pub batch_len: usize,
    pub flush_interval: Duration,
    pub sync: SyncPolicy,
    pub reader_sees: ReaderSees,
    pub on_corruption: OnCorruption,
    pub quarantine_max_size: u64,
    pub min_free_bytes: u64,
    pub when_full: WhenFull,
    pub event_counter: EventCounter,
    pub io: Io,
}

fn check(name: &str, value: u64, lower: u64, upper: u64, why: &str) -> Result<()> {
    if (lower..=upper).contains(&value) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidConfig,
        format!("{name} is {value} bytes; it must be from {lower} to {upper}{why}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_suit_every_size() {
        for shift in 12..=47 {
            let limits = Config::new("x").max_size(1 << shift).limits();
            let limits = limits.unwrap_or_else(|e| panic!("1 << {shift}: {e}"));
            assert!(limits.data_file_size * 2 + LEDGER_ALLOWANCE <= limits.max_size);
            assert!(limits.max_size / limits.data_file_size <= MAX_DATA_FILES);
        }
        let limits = Config::new("x").max_size(1 << 40).limits().unwrap();
        assert_eq!(limits.data_file_size, 128 << 20);
    }

    #[test]
    fn an_error_names_parameter_value_and_bound() {
        let cases = [
            (
                Config::new("x").max_size(0),
                "max_size is 0 bytes; it must be from 4096",
            ),
            (
                Config::new("x").data_file_size(1),
                "data_file_size is 1 bytes",
            ),
            (
                Config::new("x").max_record_size(0),
                "max_record_size is 0 bytes; it must be from 1",
            ),
            (
                Config::new("x").max_record_size(1 << 40),
                "max_record_size is 1099511627776 bytes",
            ),
            (
                Config::new("x").batch_size(1),
                "batch_size is 1 bytes; it must be from 4096",
            ),
            (
                Config::new("x").flush_interval(Duration::ZERO),
                "flush_interval is 0ns",
            ),
        ];
        for (config, start) in cases {
            let error = config.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.to_string().starts_with(start), "{error}");
        }
    }
}
