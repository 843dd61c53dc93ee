//! Decides what a failure of the operating system leads to: a retry, or a poisoned buffer.
//!
//! Invariants:
//! - Space, descriptors and memory may come back: what needs them is retried, after pauses that
//!   grow, and everything else goes on meanwhile.
//! - After any other failure of a write or a sync, `write_again.rs` writes the file's bytes that no
//!   sync covers again, and they are synced before any further record is written. A second failure
//!   at the same length of the file poisons the buffer. Any other failure that ends a step poisons
//!   it at once.
//! - A poisoned buffer writes nothing more; what is in it can still be read.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::config::Io;
use crate::error::Error;
use crate::state::shared::Shared;
use crate::sync::Instant;
use crate::sync::wake::lock;

/// The pause before another try: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Why something could not be done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Space, or another resource that may come back, is missing.
    NoSpace(io::Error),
    /// The directory could not be synced because such a resource is missing.
    NoEntry(io::Error),
    /// A failure that poisons the buffer.
    Failed(Error),
}

/// When something is tried again.
#[derive(Debug, Default)]
struct Retry(Option<(Instant, Duration)>);

impl Retry {
    fn is_needed(&self) -> bool {
        self.0.is_some()
    }

    fn at(&self) -> Option<Instant> {
        self.0.map(|(at, _)| at)
    }

    /// Whether it is too early for another try.
    fn is_pausing(&self, shared: &Shared) -> bool {
        // With `Io::Caller` the caller decides when to try again.
        shared.limits.io == Io::Thread && self.at().is_some_and(|at| Instant::now() < at)
    }

    /// Notes a failure. True: it is the first since the last success.
    fn note_failure(&mut self) -> bool {
        let pause = self
            .0
            .map_or(PAUSE.0, |(_, pause)| (pause * 2).min(PAUSE.1));
        self.0.replace((Instant::now() + pause, pause)).is_none()
    }

    /// Makes the next try possible at once.
    fn hurry(&mut self) {
        self.0 = self.0.map(|(_, pause)| (Instant::now(), pause));
    }
}

/// What failed and when it is retried, and whether the buffer is poisoned.
#[derive(Debug, Default)]
pub(super) struct FailurePolicy {
    /// For writes that found no space.
    space: Retry,
    /// For syncs of the directory.
    entry: Retry,
    /// There was no space when the buffer closed: nothing more is written.
    gave_up: bool,
    is_poisoned: bool,
}

impl FailurePolicy {
    pub(super) fn is_poisoned(&self) -> bool {
        self.is_poisoned
    }

    /// Whether the last write found no space.
    pub(super) fn lacks_space(&self) -> bool {
        self.space.is_needed()
    }

    /// Whether nothing may be written now: it is too early to retry, or the buffer closed without
    /// space.
    pub(super) fn waits_for_space(&self, shared: &Shared) -> bool {
        self.lacks_space() && self.pauses_writing(shared, lock(&shared.intake).closing)
    }

    /// The same for a caller that knows whether the buffer is `closing`.
    pub(super) fn pauses_writing(&self, shared: &Shared, closing: bool) -> bool {
        self.gave_up || (self.space.is_pausing(shared) && !closing)
    }

    /// Whether there was no space when the buffer closed.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Whether it is too early to try to sync the directory again.
    pub(super) fn waits_for_entry(&self, shared: &Shared) -> bool {
        self.entry.is_pausing(shared)
    }

    /// When the next retry is due: of a write, of a sync of the directory, or of the sync that is
    /// due at `then` and has to wait for the directory.
    pub(super) fn retry_at(&self, then: Option<Instant>) -> Option<Instant> {
        let entry = self.entry.at();
        let then = then.map(|at| entry.map_or(at, |entry| at.max(entry)));
        // If that time has passed, it was tried just now.
        let entry = entry.filter(|at| *at > Instant::now());
        [self.space.at(), entry, then].into_iter().flatten().min()
    }

    /// Notes trouble that ended a step. True: the next step may find something to do at once. False:
    /// it would meet the same trouble, so the write side waits for the retry.
    pub(super) fn note(&mut self, shared: &Shared, trouble: Trouble) -> bool {
        match trouble {
            Trouble::NoSpace(error) => self.note_no_space(shared, &error),
            Trouble::NoEntry(error) => self.note_no_entry(shared, error),
            Trouble::Failed(error) => {
                self.poison(shared, &error);
                true
            }
        }
    }

    fn note_no_space(&mut self, shared: &Shared, error: &io::Error) -> bool {
        let is_news = self.space.note_failure();
        if is_news {
            tracing::warn!(error = %format_args!("{error:#}"), dir = %shared.dir.display(),
                "no space to write; appends follow the when-full policy until it returns");
            lock(&shared.intake).set_no_space(Some(format!("{error:#}")));
            shared.space.ring();
            self.tell(shared);
        }
        let closing = lock(&shared.intake).closing;
        let gives_up = closing && !std::mem::replace(&mut self.gave_up, closing);
        // On a full disk there may be something to sync or to delete, also something that was
        // requested just now. With a thread the next step does not write, because a pause begins.
        is_news || gives_up || (shared.limits.io == Io::Thread && !closing)
    }

    fn note_no_entry(&mut self, shared: &Shared, error: io::Error) -> bool {
        if lock(&shared.intake).closing {
            // A closing buffer does not wait for a retry.
            let error = Error::io("sync the directory", &shared.dir, error);
            self.poison(shared, &error);
            return true;
        }
        if self.entry.note_failure() {
            tracing::warn!(error = %format_args!("{error:#}"), dir = %shared.dir.display(),
                "a new data file cannot be made durable yet");
            self.tell(shared);
        }
        false
    }

    /// A write succeeded, or nothing is left to write that would show whether there is space.
    pub(super) fn space_came_back(&mut self, shared: &Shared) {
        if self.space.0.take().is_some() {
            tracing::info!(dir = %shared.dir.display(), "there is space to write again");
            lock(&shared.intake).set_no_space(None);
            shared.space.ring();
            self.tell(shared);
        }
    }

    /// Tells callers that wait for a sync whether a resource is missing for it.
    fn tell(&self, shared: &Shared) {
        {
            let mut log = lock(&shared.log);
            log.stuck_from = if self.entry.is_needed() {
                Some(log.synced.offset)
            } else {
                self.space.is_needed().then_some(log.written.offset)
            };
        }
        shared.synced.ring();
    }

    /// Something was deleted: there may be space.
    pub(super) fn try_for_space_now(&mut self) {
        self.space.hurry();
    }

    /// A sync of the directory succeeded, or none was needed.
    pub(super) fn entry_came_back(&mut self, shared: &Shared) {
        if self.entry.0.take().is_some() {
            self.tell(shared);
        }
    }

    pub(super) fn poison(&mut self, shared: &Shared, cause: &Error) {
        self.is_poisoned = true;
        let error = cause.poisoned();
        lock(&shared.intake).failed = Some(error.clone());
        shared.space.ring();
        shared.publish_failed(error.clone());
        tracing::error!(error = %format_args!("{error:#}"), "the buffer accepts nothing more until it is opened again");
    }
}

pub(super) fn trouble(what: &str, path: &Path, e: io::Error) -> Trouble {
    if is_no_space(&e) {
        Trouble::NoSpace(e)
    } else {
        Trouble::Failed(Error::io(what, path, e))
    }
}

/// Whether an error says that a resource is used up that may come back: disk space, a quota, file
/// descriptors, memory.
pub(super) fn is_no_space(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::WouldBlock
    ) || is_no_descriptor(e)
}

/// Whether an error says that no file descriptor is left.
pub(super) fn is_no_descriptor(e: &io::Error) -> bool {
    // ENFILE and EMFILE; on Windows ERROR_TOO_MANY_OPEN_FILES.
    const CODES: &[i32] = if cfg!(windows) { &[4] } else { &[23, 24] };
    e.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

/// How much may be written before the free-space floor is reached.
pub(super) fn above_floor(shared: &Shared) -> Result<u64, Trouble> {
    match shared.limits.min_free_bytes {
        0 => Ok(u64::MAX),
        floor => match shared.storage.free_bytes(&shared.dir) {
            Ok(Some(free)) if free <= floor => Err(floor_reached(shared)),
            Ok(Some(free)) => Ok(free - floor),
            // If the free space is unknown, the write itself meets the limit of the disk.
            Ok(None) | Err(_) => Ok(u64::MAX),
        },
    }
}

pub(super) fn floor_reached(shared: &Shared) -> Trouble {
    Trouble::NoSpace(io::Error::other(format!(
        "the file system would have less than the floor of {} bytes free",
        shared.limits.min_free_bytes
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_begin_anew() {
        let mut retry = Retry::default();
        assert!(!retry.is_needed());
        assert!(retry.note_failure(), "it is news");
        let mut pauses = vec![retry.0.unwrap().1];
        for _ in 0..9 {
            assert!(!retry.note_failure());
            pauses.push(retry.0.unwrap().1);
        }
        assert_eq!((pauses[0], pauses[9]), PAUSE);
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        retry.hurry();
        assert!(retry.at().is_some_and(|at| at <= Instant::now()));
        assert_eq!(retry.0.unwrap().1, PAUSE.1);
    }

    #[test]
    #[cfg(unix)]
    fn what_comes_back_is_told_from_what_does_not() {
        let of = io::Error::from_raw_os_error;
        for (errno, comes_back, is_descriptor) in [
            (28, true, false),  // ENOSPC
            (12, true, false),  // ENOMEM
            (23, true, true),   // ENFILE
            (24, true, true),   // EMFILE
            (5, false, false),  // EIO
            (30, false, false), // EROFS
        ] {
            assert_eq!(is_no_space(&of(errno)), comes_back, "{errno}");
            assert_eq!(is_no_descriptor(&of(errno)), is_descriptor, "{errno}");
        }
    }
}
