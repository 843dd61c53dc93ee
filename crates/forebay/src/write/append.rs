//! How records get into the intake: checked, in order, as far as there is room.
//!
//! Invariants:
//! - A record is checked, and its events are counted, once, before the intake is locked: a counter
//!   that is asked twice might give two answers.
//! - Under [`WhenFull::Reject`] a batch that was found to fit keeps its room while it waits for a
//!   free batch buffer, so that no other append can take it.
//! - A batch counts its accepted and its dropped records, also when it ends in an error.

use std::time::Duration;

use crate::config::{SyncPolicy, WhenFull};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record;
use crate::state::acks::Count;
use crate::state::intake::{Intake, NoRoom, Sleep};
use crate::state::lost::DropReason;
use crate::state::shared::Shared;
use crate::sync::atomic::Ordering;
use crate::sync::wake::{Woken, lock};
use crate::sync::{Instant, MutexGuard, deadline_after};

/// A record that may be appended, with the one answer of the event counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked<'p> {
    metadata: u32,
    payload: &'p [u8],
    events: u64,
}

impl Checked<'_> {
    fn frame_len(&self) -> usize {
        record::frame_len(self.payload.len())
    }
}

/// What an attempt to append found.
pub(crate) enum Attempt {
    /// Accepted: id and end offset of the last record.
    Accepted(u64, u64),
    /// Dropped, as the policy says.
    Dropped,
    /// No room, and waiting for it is not allowed or useless.
    Refused(NoRoom),
    /// No room now; the append may wait for it.
    NoRoom(NoRoom),
}

/// How one append waits: by the buffer's policy, or as its caller says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    when_full: WhenFull,
    /// Under [`WhenFull::BlockFor`], set when the wait for room begins, or at once if the time
    /// limits the wait for the sync as well.
    deadline: Option<Instant>,
    limits_sync: bool,
}

impl Waits {
    /// By this policy. Its time limits the wait for room.
    pub(crate) fn by(when_full: WhenFull) -> Self {
        Self {
            when_full,
            deadline: None,
            limits_sync: false,
        }
    }

    /// For at most this time, whatever the append waits for.
    pub(crate) fn at_most(timeout: Duration) -> Self {
        Self {
            when_full: WhenFull::BlockFor(timeout),
            deadline: deadline_after(timeout),
            limits_sync: true,
        }
    }

    pub(crate) fn when_full(&self) -> WhenFull {
        self.when_full
    }

    /// Whether the time of [`WhenFull::BlockFor`] limits the wait for the sync as well.
    #[cfg(feature = "tokio")]
    pub(crate) fn limits_sync(&self) -> bool {
        self.limits_sync
    }
}

/// How far a batch got.
pub(crate) enum Put {
    /// Every record is accepted, or dropped by policy.
    Done,
    /// There is no room for the next record now.
    NoRoom(NoRoom),
}

/// Records on their way into the intake; the first `done` of them are accepted or dropped.
pub(crate) struct Appending<'a> {
    shared: &'a Shared,
    records: &'a [Checked<'a>],
    when_full: WhenFull,
    done: usize,
    accepted: usize,
    /// Id and end offset of the last accepted record.
    last: Option<(u64, u64)>,
    /// The bytes that the remaining records take on disk.
    len_left: u64,
    /// The bytes that the intake reserves for them; 0 while `put` runs.
    reserved: u64,
}

impl<'a> Appending<'a> {
    pub(crate) fn new(shared: &'a Shared, records: &'a [Checked<'a>], when_full: WhenFull) -> Self {
        Self {
            shared,
            records,
            when_full,
            done: 0,
            accepted: 0,
            last: None,
            len_left: records.iter().map(|r| r.frame_len() as u64).sum(),
            reserved: 0,
        }
    }

    /// Puts in as many records as there is room for.
    ///
    /// # Errors
    /// The next record is refused; the records before it stay accepted.
    pub(crate) fn put(&mut self, intake: &mut Intake) -> Result<Put> {
        intake.reserved -= std::mem::take(&mut self.reserved);
        let rejects = self.when_full == WhenFull::Reject;
        if self.done == 0 {
            self.shared.check_open(intake)?;
        }
        if rejects && self.done == 0 && !intake.fits(self.len_left) {
            return Err(self.shared.refusal(intake, intake.lack()));
        }
        while let Some(record) = self.records.get(self.done) {
            match self.shared.accept(intake, record, || self.when_full)? {
                Attempt::Accepted(id, end) => {
                    self.last = Some((id, end));
                    self.accepted += 1;
                }
                Attempt::Dropped => {}
                Attempt::Refused(why) => {
                    return Err(self.shared.refusal(intake, why));
                }
                Attempt::NoRoom(why) => {
                    if rejects {
                        self.reserved = self.len_left;
                        intake.reserved += self.reserved;
                    }
                    return Ok(Put::NoRoom(why));
                }
            }
            self.done += 1;
            self.len_left -= record.frame_len() as u64;
        }
        Ok(Put::Done)
    }

    /// How many records were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted
    }

    /// How many records were dropped by policy so far.
    pub(crate) fn dropped(&self) -> usize {
        self.done - self.accepted
    }

    /// Id and end offset of the last record that was accepted.
    pub(crate) fn last(&self) -> Option<(u64, u64)> {
        self.last
    }

    /// The offset up to which records were accepted; 0 if none was.
    pub(crate) fn end(&self) -> u64 {
        self.last.map_or(0, |(_, end)| end)
    }
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        if self.reserved > 0 {
            lock(&self.shared.intake).reserved -= self.reserved;
            self.shared.space.ring();
        }
    }
}

impl Shared {
    /// Refuses a record that could never be appended.
    #[inline]
    pub(crate) fn check_record<'p>(&self, metadata: u32, payload: &'p [u8]) -> Result<Checked<'p>> {
        if payload.len() > self.limits.max_record_len {
            return Err(self.too_long(payload));
        }
        let events = self.limits.event_counter.count_unbounded(metadata, payload);
        if events == 0 || (events > 1 && events > payload.len() as u64) {
            return Err(Self::wrongly_counted(payload, events));
        }
        Ok(Checked {
            metadata,
            payload,
            events,
        })
    }

    #[cold]
    fn too_long(&self, payload: &[u8]) -> Error {
        Error::new(
            ErrorKind::InvalidRecord,
            format!(
                "the record has {} bytes; max_record_size is {} bytes",
                payload.len(),
                self.limits.max_record_len
            ),
        )
    }

    #[cold]
    fn wrongly_counted(payload: &[u8], events: u64) -> Error {
        Error::new(
            ErrorKind::InvalidRecord,
            format!(
                "the record of {} bytes counts {events} events; a record counts at least \
                 one, and no more than its payload has bytes",
                payload.len()
            ),
        )
    }

    /// Refuses a batch in which a record could never be appended.
    pub(crate) fn check_batch<'p>(
        &self,
        records: impl Iterator<Item = (u32, &'p [u8])>,
    ) -> Result<Vec<Checked<'p>>> {
        // Collecting into a `Result` would lose the number of records, and copy them as the vector
        // grows.
        let mut checked = Vec::with_capacity(records.size_hint().0);
        for (metadata, payload) in records {
            checked.push(self.check_record(metadata, payload)?);
        }
        Ok(checked)
    }

    pub(crate) fn check_open(&self, intake: &Intake) -> Result<()> {
        match &intake.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Accepts the record if there is room. Otherwise it drops it if the policy says so, which it
    /// asks for only then.
    #[inline]
    pub(crate) fn accept(
        &self,
        intake: &mut Intake,
        record: &Checked<'_>,
        when_full: impl FnOnce() -> WhenFull,
    ) -> Result<Attempt> {
        self.check_open(intake)?;
        match intake.make_room(record.frame_len()) {
            Ok(()) => {
                let id = intake.put(record.metadata, record.payload, record.events);
                Ok(Attempt::Accepted(id, intake.accepted().offset))
            }
            Err(why) => Ok(Self::without_room(intake, record, when_full(), why)),
        }
    }

    #[cold]
    fn without_room(
        intake: &mut Intake,
        record: &Checked<'_>,
        when_full: WhenFull,
        why: NoRoom,
    ) -> Attempt {
        match when_full {
            // It takes only moments, so the append waits under every policy, unless the disk hangs.
            _ if why == NoRoom::Busy && !intake.is_stalled() => Attempt::NoRoom(why),
            WhenFull::DropNewest => {
                let reason = match why {
                    NoRoom::DiskFull | NoRoom::Busy => DropReason::DiskFull,
                    NoRoom::Full => DropReason::Full,
                };
                intake.dropped[reason as usize].add(Count {
                    events: record.events,
                    bytes: record.frame_len() as u64,
                });
                Attempt::Dropped
            }
            WhenFull::Reject => Attempt::Refused(why),
            // The reader is closed, so nothing makes room any more.
            _ if why == NoRoom::Full && !intake.reader => Attempt::Refused(why),
            WhenFull::Block | WhenFull::BlockFor(_) => Attempt::NoRoom(why),
        }
    }

    /// Puts in all records of a batch, waiting for room where that is allowed.
    ///
    /// # Errors
    /// There is no room for the next record; the records before it stay accepted.
    pub(crate) fn put_all(
        &self,
        batch: &mut Appending<'_>,
        wait: &mut Waits,
    ) -> Result<MutexGuard<'_, Intake>> {
        let mut intake = lock(&self.intake);
        loop {
            match batch.put(&mut intake)? {
                Put::Done => return Ok(intake),
                Put::NoRoom(why) => {
                    intake = self.wait_for_room(intake, why, wait)?;
                }
            }
        }
    }

    /// Unlocks the intake after records up to `end` were put into it, and wakes the write side if
    /// it must act now.
    #[inline]
    pub(crate) fn notify_write_side_of(&self, mut intake: MutexGuard<'_, Intake>, end: u64) {
        if self.limits.sync == SyncPolicy::Always {
            intake.want_synced = intake.want_synced.max(end);
            self.wake_write_side(intake);
        } else {
            self.notify_write_side(intake);
        }
    }

    /// Unlocks the intake and wakes the write side if it must act now.
    #[inline]
    pub(crate) fn notify_write_side(&self, intake: MutexGuard<'_, Intake>) {
        let is_needed = match intake.asleep() {
            Sleep::Awake => false,
            Sleep::Idle => true,
            Sleep::Lingering => intake.has_ready() || self.reader_waits.load(Ordering::SeqCst),
        };
        if is_needed {
            self.wake_write_side(intake);
        }
    }

    /// Waits until there may be room; under [`WhenFull::BlockFor`] until the deadline, which
    /// begins to count with the first wait for space. Without a deadline, and except under
    /// [`WhenFull::Block`], only until the disk counts as hanging.
    ///
    /// # Errors
    /// There is no room in time.
    pub(crate) fn wait_for_room<'a>(
        &'a self,
        mut intake: MutexGuard<'a, Intake>,
        why: NoRoom,
        wait: &mut Waits,
    ) -> Result<MutexGuard<'a, Intake>> {
        if let (WhenFull::BlockFor(time), NoRoom::Full | NoRoom::DiskFull, None) =
            (wait.when_full, why, wait.deadline)
        {
            wait.deadline = deadline_after(time);
        }
        let deadline = match wait.when_full {
            WhenFull::Block => None,
            WhenFull::BlockFor(_) if wait.deadline.is_some() => wait.deadline,
            _ => intake.stalls_at(),
        };
        // The accepted records of the batch have to be written, so that the consumer can
        // acknowledge them.
        if intake.rouse() {
            self.work.ring();
        }
        let woken = self.wait(intake, &self.space, 0, deadline);
        let intake = lock(&self.intake);
        match woken {
            Some(_) => Ok(intake),
            // The next attempt does what the policy says of a disk that hangs.
            None if wait.when_full == WhenFull::DropNewest && intake.is_stalled() => Ok(intake),
            None => Err(self.refusal(&intake, why)),
        }
    }

    /// Under [`SyncPolicy::Always`], waits until everything that an append has put in, up to `end`,
    /// is synced. While nothing can be made durable it waits no longer than [`WhenFull`] allows, and
    /// never longer than its caller allows.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]: the records are accepted, and their sync is pending.
    pub(crate) fn wait_durable(&self, end: u64, wait: Waits) -> Result<()> {
        let limit = match wait.when_full {
            WhenFull::Block => None,
            WhenFull::BlockFor(time) => wait.deadline.or_else(|| deadline_after(time)),
            WhenFull::Reject | WhenFull::DropNewest => Some(Instant::now()),
        };
        loop {
            let log = lock(&self.log);
            if log.synced.offset >= end {
                return Ok(());
            }
            if let Some(error) = &log.failed {
                return Err(error.clone());
            }
            let is_stuck = log.is_stuck(end);
            let limit = limit.filter(|_| is_stuck || wait.limits_sync);
            match self.wait(log, &self.synced, end, limit) {
                Some(Woken::Reached) => return Ok(()),
                Some(Woken::Look) => {}
                // With `Io::Caller` this is not the deadline: nothing is left to do.
                None => return Err(self.sync_pending(is_stuck)),
            }
        }
    }

    /// Whether the records before `end` cannot be made durable for now.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_stuck(&self, end: u64) -> bool {
        lock(&self.log).is_stuck(end)
    }

    /// The error of an append whose records are accepted but not durable in time: because nothing
    /// can be made durable for now, or because the sync takes longer.
    #[cold]
    pub(crate) fn sync_pending(&self, is_stuck: bool) -> Error {
        if !is_stuck {
            let message = format!(
                "what was appended is accepted, but was not synced in {} within the time limit; \
                 the sync goes on: do not append it again",
                self.dir.display()
            );
            return Error::with_path(ErrorKind::TimedOut, &self.dir, message);
        }
        let why = lock(&self.intake).no_space.clone();
        let why = why.unwrap_or_else(|| "the directory cannot be synced".to_owned());
        Error::with_path(
            ErrorKind::TimedOut,
            &self.dir,
            format!(
                "what was appended is accepted, but nothing can be made durable in {} for now \
                 ({why}), so a power cut or a killed process would lose it; it is synced once that \
                 is fixed: do not append it again",
                self.dir.display()
            ),
        )
    }

    /// Why the next record is not accepted.
    #[cold]
    pub(crate) fn refusal(&self, intake: &Intake, why: NoRoom) -> Error {
        let (dir, max_size) = (self.dir.display(), self.limits.max_size);
        let (kind, message) = match why {
            NoRoom::DiskFull => (
                ErrorKind::DiskFull,
                format!(
                    "nothing can be written to {dir} for now ({}), and the record was not \
                     accepted; free what is missing, or acknowledge more",
                    intake.no_space.as_deref().unwrap_or("there is no space")
                ),
            ),
            NoRoom::Full if !intake.reader => (
                ErrorKind::ReaderGone,
                format!(
                    "the buffer in {dir} is full (max_size is {max_size} bytes), its reader is \
                     closed, so that nothing makes room any more, and the record was not \
                     accepted; close the buffer, open it again and read it, or raise max_size"
                ),
            ),
            NoRoom::Busy => (
                ErrorKind::DiskFull,
                format!(
                    "the disk of {dir} has not taken the records before this one, memory holds no \
                     more of them, and the record was not accepted; try again later, and see \
                     whether the disk hangs"
                ),
            ),
            NoRoom::Full => (
                ErrorKind::Full,
                format!(
                    "the buffer in {dir} is full (max_size is {max_size} bytes), and the record \
                     was not accepted; acknowledge more, or raise max_size"
                ),
            ),
        };
        Error::with_path(kind, &self.dir, message)
    }
}
