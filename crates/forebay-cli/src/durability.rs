//! Making sure that everything is synced, without waiting for ever.

use crate::failure::{Failure, Result};
use crate::output::count;
use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::format::ledger::LedgerState;
use forebay::{ErrorKind, Writer};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a sync may make no progress when it must not wait for space.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may make no progress before that is told.
pub(crate) const STUCK: Duration = Duration::from_secs(1);
/// How often its progress is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Waits until everything is synced. While `patience` says so, a sync that makes
/// no progress for that long is given up; whether everything is synced. `stuck`
/// is called once, if for a while it makes none.
///
/// # Errors
///
/// A sync has failed for good.
pub(crate) fn sync(
    writer: &Writer,
    patience: impl Fn() -> Option<Duration>,
    stuck: impl FnOnce(),
) -> Result<bool> {
    let mut stuck = Some(stuck);
    let mut seen = progress(writer);
    let mut since = Instant::now();
    loop {
        match writer.flush_timeout(LOOK_INTERVAL) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => return Err(error.into()),
        }
        let now = progress(writer);
        if now != seen {
            seen = now;
            since = Instant::now();
        }
        if since.elapsed() >= STUCK
            && let Some(stuck) = stuck.take()
        {
            stuck();
        }
        if patience().is_some_and(|patience| since.elapsed() >= patience) {
            return Ok(false);
        }
    }
}

/// What is said when nothing can be stored for want of space.
pub(crate) fn waiting_for_space(directory: &Path) -> String {
    format!(
        "the file system of {} is full, or has less space than --min-free-space; waiting for space",
        directory.display()
    )
}

/// That not all can be stored for want of space.
pub(crate) fn no_space(directory: &Path) -> Failure {
    Failure::new(format!(
        "the file system of {} has no space left, or less than --min-free-space; free some space",
        directory.display()
    ))
}

/// The id of the first record that is not written to a data file yet. All before it
/// are there when the buffer is opened again.
pub(crate) fn first_unwritten(writer: &Writer, directory: &Path) -> u64 {
    let usage = writer.usage();
    let synced = usage.last_synced_id + 1;
    // The ledger says so while the buffer is open, as soon as something is written.
    let written = std::fs::read(directory.join(LEDGER_FILE_NAME)).ok();
    let written = written.and_then(|bytes| LedgerState::from_bytes(&bytes).ok());
    written.map_or(synced, |ledger| {
        ledger
            .writer_next_record_id
            .clamp(synced, usage.next_record_id)
    })
}

fn progress(writer: &Writer) -> (u64, u64) {
    let usage = writer.usage();
    (usage.last_synced_id, usage.disk_bytes)
}

/// Lets go of a writer that cannot store what it accepted, and says so.
/// Closing would wait for space.
pub(crate) fn abandon(writer: Writer, accepted: u64, directory: &Path) -> Failure {
    let usage = writer.usage();
    let unsynced = usage.next_record_id - 1 - usage.last_synced_id;
    std::mem::forget(writer);
    Failure::new(format!(
        "the file system of {} has no space left, or less than --min-free-space: {} stored and \
         synced, and {} accepted but not stored; free some space",
        directory.display(),
        count(accepted.saturating_sub(unsynced), "record"),
        count(unsynced, "more record"),
    ))
}
