//! Making sure that everything is synced, without waiting for ever.

use crate::failure::Failure;
use crate::output::count;
use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::format::ledger::{LEDGER_LEN, LedgerState};
use forebay::{ErrorKind, Writer};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
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

/// The ledger of a buffer that is open, which tells at once what is written.
#[derive(Debug)]
pub(crate) struct Ledger(Option<File>);

impl Ledger {
    /// The ledger of a buffer that was just opened. It stays open, so that it can be
    /// read when no more files can be opened.
    pub(crate) fn of(directory: &Path) -> Self {
        Self(File::open(directory.join(LEDGER_FILE_NAME)).ok())
    }

    /// The id of the first record that is not written to a data file yet. All before
    /// it are there when the buffer is opened again.
    pub(crate) fn first_unwritten(&self, writer: &Writer) -> u64 {
        let usage = writer.usage();
        let synced = usage.last_synced_id + 1;
        // Where it cannot be read, only what is synced is known to be written.
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

/// Whether what looks like a full disk is that this process may open no more files.
#[cfg(unix)]
pub(crate) fn is_out_of_descriptors(directory: &Path) -> bool {
    use rustix::io::Errno;
    File::open(directory).is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::MFILE))
}

/// Whether what looks like a full disk is that this process may open no more files.
#[cfg(not(unix))]
pub(crate) fn is_out_of_descriptors(_directory: &Path) -> bool {
    false
}

fn progress(writer: &Writer) -> (u64, u64) {
    let usage = writer.usage();
    (usage.last_synced_id, usage.disk_bytes)
}

/// Lets go of a writer that cannot store what it accepted, and says so.
pub(crate) fn abandon(writer: Writer, accepted: u64, directory: &Path) -> Failure {
    let usage = writer.usage();
    let unsynced = usage.next_record_id - 1 - usage.last_synced_id;
    // Closing tries once more to store what is left; a disk that hangs must not hold up the
    // end. That it could not store everything is what is said here.
    let _ = writer.close_timeout(PATIENCE);
    Failure::new(format!(
        "the file system of {} has no space left, or less than --min-free-space: {} stored and \
         synced, and {} accepted and perhaps not stored; free some space",
        directory.display(),
        count(accepted.saturating_sub(unsynced), "record"),
        count(unsynced, "more record"),
    ))
}
