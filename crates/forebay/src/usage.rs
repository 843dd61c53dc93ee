//! What went through a buffer: one consistent snapshot, and the conservation
//! law `received = acknowledged + unread + dropped + lost`.
//!
//! Invariant: every part of the law is a difference of positions that are read under all three
//! locks at once. The few real counters (dropped, lost, delivered) only grow.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use crate::directory::findings::Recovery;
pub(crate) use crate::state::acks::Count;
use crate::state::lost::{DropReason, LostReason};
use crate::state::shared::Shared;
use crate::sync::atomic::Ordering;
use crate::sync::wake::lock;

/// A snapshot of what went through a buffer since it was opened, and what is
/// in it. Bytes are frames as on disk: a payload, its padding, and 40 bytes.
///
/// At every moment, in events and in bytes:
/// `received = acknowledged + unread + dropped + lost`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// What was unread at open, and every append since, dropped ones included.
    pub received: Count,
    /// The part of it that was unread at open.
    pub backlog: Count,
    /// Handed to the consumer. A redelivery counts again.
    pub delivered: Count,
    /// Acknowledged by the consumer, in any order, also after records that are not.
    pub acknowledged: Count,
    /// Accepted, and neither acknowledged nor known to be lost.
    pub unread: Count,
    /// Dropped by [`WhenFull::DropNewest`](crate::WhenFull::DropNewest).
    pub dropped: Count,
    /// The same by reason.
    pub dropped_by_reason: Vec<(DropReason, Count)>,
    /// Lost to damage or a power cut, as far as the reader has handed out the losses.
    pub lost: Count,
    /// The same by reason.
    pub lost_by_reason: Vec<(LostReason, Count)>,
    /// Records whose redundant fields were damaged and repaired; nothing was lost.
    pub mended_records: u64,
    /// Records that the typed layer could not decode. A redelivery does not count again.
    pub undecodable_records: u64,
    /// How long the oldest unread record has been in the buffer, by the time of its data file if
    /// nothing better is known.
    pub oldest_unread_age: Option<Duration>,
    /// Bytes that the data files occupy, preallocated zeros included.
    pub disk_bytes: u64,
    /// The configured maximum size.
    pub max_bytes: u64,
    /// Writes to data files.
    pub writes: u64,
    /// Syncs of data files.
    pub syncs: u64,
    /// The time these syncs took together.
    pub sync_time: Duration,
    /// How often a write or a sync of a data file failed, so that its unsynced bytes were written
    /// again.
    pub failed_files: u64,
    /// All events up to this id are acknowledged or lost; the next one is not.
    pub last_acknowledged_id: u64,
    /// All events up to this id survive a power cut; 0 if there was none yet.
    pub last_synced_id: u64,
    /// The id the next record gets.
    pub next_record_id: u64,
    /// Which handles are still open, and whether the buffer can still be written.
    pub state: BufferState,
}

/// What can still happen to an open buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BufferState {
    /// Writers and the reader are open.
    Open,
    /// All writers are closed: the reader reads what is there and then sees the end.
    Draining,
    /// The reader is closed: writers go on until the buffer is full.
    ReaderGone,
    /// All handles are closed: the buffer is closed, or is being closed.
    Closed,
    /// It accepts nothing more, because a write or a sync failed or the record ids are used up;
    /// what is there can be read.
    Poisoned,
}

impl BufferState {
    /// All states, in order of their declaration.
    pub const ALL: [Self; 5] = [
        Self::Open,
        Self::Draining,
        Self::ReaderGone,
        Self::Closed,
        Self::Poisoned,
    ];

    /// The state as one `snake_case` word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Draining => "draining",
            Self::ReaderGone => "reader_gone",
            Self::Closed => "closed",
            Self::Poisoned => "poisoned",
        }
    }
}

impl fmt::Display for BufferState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads the figures of an open buffer without keeping it open; made by
/// [`Writer::monitor`](crate::Writer::monitor) or [`Reader::monitor`](crate::Reader::monitor).
///
/// For a thread that reports figures: a clone of the writer would keep the stream from ending.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let (writer, reader) = forebay::Config::new(dir.path()).open()?;
/// let monitor = writer.monitor();
/// let reporter = std::thread::spawn(move || {
///     while let Some(usage) = monitor.usage() {
///         println!("{} events wait", usage.unread.events);
///         std::thread::sleep(std::time::Duration::from_millis(10));
///     }
/// });
/// writer.close()?;
/// reader.close()?;
/// reporter.join().unwrap(); // the buffer is closed
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Monitor(Weak<Shared>);

impl Monitor {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// What went through the buffer, and what is in it; `None` once it is closed.
    pub fn usage(&self) -> Option<Usage> {
        self.open().map(|shared| snapshot(&shared))
    }

    /// What opening the buffer found and did; `None` once it is closed.
    pub fn recovery(&self) -> Option<Recovery> {
        self.open().map(|shared| shared.recovery.clone())
    }

    fn open(&self) -> Option<Arc<Shared>> {
        // A kept acknowledgement or receipt keeps the shared state alive, not the buffer open.
        self.0.upgrade().filter(|shared| shared.is_open())
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

pub(crate) fn snapshot(shared: &Shared) -> Usage {
    // Lock order: intake, log, acks.
    let intake = lock(&shared.intake);
    let log = lock(&shared.log);
    let acks = lock(&shared.acks);
    let meters = &shared.meters;
    let (accepted, done, opened) = (intake.accepted(), acks.done(), shared.opened_at);
    let lost_by_reason: Vec<_> = LostReason::ALL
        .iter()
        .map(|r| (*r, meters.lost[*r as usize].get()))
        .collect();
    let dropped_by_reason: Vec<_> = DropReason::ALL
        .iter()
        .map(|r| (*r, intake.dropped[*r as usize]))
        .collect();
    let lost = Count::sum(lost_by_reason.iter().map(|(_, count)| *count));
    let dropped = Count::sum(intake.dropped);
    let beyond = acks.beyond();
    let received = Count {
        events: accepted.next_id - opened.next_id + dropped.events,
        bytes: accepted.offset - opened.offset + dropped.bytes,
    };
    let acknowledged = Count {
        events: done.next_id - opened.next_id + beyond.events - lost.events,
        bytes: done.offset - opened.offset + beyond.bytes - lost.bytes,
    };
    let unread = Count {
        events: accepted.next_id - done.next_id - beyond.events,
        bytes: accepted.offset - done.offset - beyond.bytes,
    };
    let delivered = Count {
        events: meters.delivered_events.load(Ordering::Relaxed),
        bytes: meters.delivered_bytes.load(Ordering::Relaxed),
    };
    let now = SystemTime::now();
    let state = match (intake.writers > 0, intake.reader) {
        _ if intake.failed.is_some() || log.failed.is_some() => BufferState::Poisoned,
        (true, true) => BufferState::Open,
        (false, true) => BufferState::Draining,
        (true, false) => BufferState::ReaderGone,
        (false, false) => BufferState::Closed,
    };
    Usage {
        state,
        received,
        backlog: shared.backlog,
        delivered,
        acknowledged,
        unread,
        dropped,
        dropped_by_reason,
        lost,
        lost_by_reason,
        mended_records: meters.mended.load(Ordering::Relaxed),
        undecodable_records: meters.undecodable.load(Ordering::Relaxed),
        oldest_unread_age: (unread.events > 0)
            .then(|| log.age(done.offset, now).unwrap_or_default()),
        disk_bytes: log.written.offset - log.oldest_offset() + log.zeros_ahead + intake.extra(),
        max_bytes: shared.limits.max_size,
        writes: meters.writes.load(Ordering::Relaxed),
        syncs: meters.syncs.load(Ordering::Relaxed),
        sync_time: Duration::from_nanos(meters.sync_nanos.load(Ordering::Relaxed)),
        failed_files: meters.failed_files.load(Ordering::Relaxed),
        last_acknowledged_id: done.next_id - 1,
        last_synced_id: log.synced.next_id - 1,
        next_record_id: accepted.next_id,
    }
}
