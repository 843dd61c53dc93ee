//! Waits until everything is synced, but not for ever.

use crate::failure::{Failure, no_descriptor};
use crate::output::count;
use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::format::ledger::{LEDGER_LEN, LedgerState};
use forebay::{ErrorKind, Writer};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a sync that must not wait for space may make no progress.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a sync may make no progress before that is reported.
pub(crate) const STUCK: Duration = Duration::from_secs(1);
/// How often the progress of a sync is checked.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Waits until everything is synced, and returns whether it is. A sync that makes no
/// progress for as long as `patience` returns is given up; `None` waits for ever. `stuck`
/// is called once, when a sync has made no progress for [`STUCK`].
///
/// # Errors
///
/// A sync has failed for good.
pub(crate) fn sync(
    writer: &Writer,
    patience: impl Fn() -> Option<Duration>,
    stuck: impl FnOnce(),
) -> forebay::Result<bool> {
    let mut stuck = Some(stuck);
    let mut seen = progress(writer);
    let mut since = Instant::now();
    loop {
        match writer.flush_timeout(LOOK_INTERVAL) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => return Err(error),
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

/// The message while records wait for space on the file system.
pub(crate) fn waiting_for_space(directory: &Path) -> String {
    format!(
        "the file system of {} is full, or has less space than --min-free-space; waiting for space",
        directory.display()
    )
}

/// The failure that a buffer, or its disk, has no room for a record. How many records it
/// took is said elsewhere: the library's error counts those of its last call only.
pub(crate) fn refused(error: &forebay::Error, directory: &Path) -> Failure {
    match error.kind() {
        // `ReaderGone`: a full buffer whose reader this process has closed.
        ErrorKind::Full | ErrorKind::ReaderGone => Failure::new(format!(
            "{} is full: it holds as much as --max-size allows; take records out, as with \
             `forebay pull`, or raise --max-size",
            directory.display()
        )),
        _ if is_out_of_descriptors(directory) => no_descriptor(directory),
        _ => no_space(directory),
    }
}

/// The failure to store everything for want of space.
pub(crate) fn no_space(directory: &Path) -> Failure {
    Failure::new(format!(
        "the file system of {} has no space left, or less than --min-free-space; free some space",
        directory.display()
    ))
}

/// The ledger of an open buffer, read to learn which records are written.
#[derive(Debug)]
pub(crate) struct Ledger(Option<File>);

impl Ledger {
    /// The ledger of a buffer that was just opened. It stays open, so that it can be
    /// read when no more files can be opened.
    pub(crate) fn of(directory: &Path) -> Self {
        Self(File::open(directory.join(LEDGER_FILE_NAME)).ok())
    }

    /// The id of the first record that is not written to a data file yet. All records
    /// before it are there when the buffer is opened again.
    pub(crate) fn first_unwritten(&self, writer: &Writer) -> u64 {
        let usage = writer.usage();
        let synced = usage.last_synced_id + 1;
        // If the ledger cannot be read, only synced records are known to be written.
        self.state().map_or(synced, |ledger| {
            ledger
                .writer_next_record_id
                .clamp(synced, usage.next_record_id)
        })
    }

    fn state(&self) -> Option<LedgerState> {
        let mut file = self.0.as_ref()?;
        let mut bytes = [0; LEDGER_LEN];
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        LedgerState::from_bytes(&bytes).ok()
    }
}

/// Whether this process may open no more files, which the library reports as a full disk.
#[cfg(unix)]
pub(crate) fn is_out_of_descriptors(directory: &Path) -> bool {
    use rustix::io::Errno;
    File::open(directory).is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::MFILE))
}

/// Whether this process may open no more files, which the library reports as a full disk.
#[cfg(not(unix))]
pub(crate) fn is_out_of_descriptors(_directory: &Path) -> bool {
    false
}

fn progress(writer: &Writer) -> (u64, u64) {
    let usage = writer.usage();
    (usage.last_synced_id, usage.disk_bytes)
}

/// Closes a writer that cannot store what it accepted, and returns the failure that says so.
pub(crate) fn abandon(writer: Writer, accepted: u64, directory: &Path) -> Failure {
    let usage = writer.usage();
    let unsynced = usage.next_record_id - 1 - usage.last_synced_id;
    // Closing tries once more to store the rest; the time limit is there because a disk that
    // hangs must not hold up the end. The failure below covers an error of closing.
    let _ = writer.close_timeout(PATIENCE);
    Failure::new(format!(
        "the file system of {} has no space left, or less than --min-free-space: {} stored and \
         synced, and {} accepted and perhaps not stored; free some space",
        directory.display(),
        count(accepted.saturating_sub(unsynced), "record"),
        count(unsynced, "more record"),
    ))
}
