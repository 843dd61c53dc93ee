//! Opening: prepare the directory, take the lock, finish or undo an interrupted installation of
//! files (a repair, a transfer), write again what the previous process left unsynced, recover,
//! delete its synced mark, build the parts and start the I/O thread.
//!
//! Invariants:
//! - An interrupted installation is finished first, because until then the directory may lack
//!   data files.
//! - The lock is held from before the first read of a data file until after the last write.
//! - What the synced mark calls unsynced is written again before recovery syncs it, because a sync
//!   by this process alone would prove nothing after a failed sync of the previous one. The mark
//!   is deleted only after recovery has succeeded.
//! - No handle and no thread exists before recovery has decided where writer and reader stand.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Config, Io, Limits};
use crate::directory::install;
use crate::directory::quarantine::Quarantine;
use crate::directory::recovery::{self, Recovered, RecoveryOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id;
use crate::format::ledger::LedgerState;
use crate::format::record::MAX_RECORD_ID;
use crate::read::Reader;
use crate::state::acks::{Acks, Count};
use crate::state::intake::Intake;
use crate::state::ledger::Ledger;
use crate::state::log::{Log, Span};
use crate::state::meters::Meters;
use crate::state::shared::Shared;
use crate::state::stream::Position;
use crate::storage::os::{lock_holder, process_id};
use crate::storage::{Access, File, Lock, Storage, uninterrupted};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::pool::Pool;
use crate::sync::thread;
use crate::sync::wake::{Bell, lock};
use crate::write::io_thread;
use crate::write::side::{WriteSide, synced_mark};
use crate::write::writer::Writer;

/// At most this many free batch buffers are kept: as many as the intake (3), the write side (1) and
/// recent batches (4) use at a time.
const POOL_BUFFERS_MAX: usize = 8;
/// Batches with the memory of this many full ones are kept after they are written, for a reader
/// that keeps up.
const RECENT_BATCHES: usize = 4;

impl Config {
    /// Opens the buffer that this describes, and creates it if there is none.
    ///
    /// Damaged content never keeps a buffer from opening, unless
    /// [`OnCorruption::Refuse`](crate::OnCorruption::Refuse) is set; [`Writer::recovery`] says what
    /// was found.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`]; [`ErrorKind::Locked`] if the buffer is open elsewhere;
    /// [`ErrorKind::NotABuffer`] if the path is no directory or holds something else;
    /// [`ErrorKind::Corrupt`] if there is damage and it is to be refused;
    /// [`ErrorKind::PermissionDenied`], [`ErrorKind::DiskFull`] and [`ErrorKind::Io`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let config = forebay::Config::new(dir.path()).max_size(1 << 20);
    /// let (writer, mut reader) = config.open()?;
    /// writer.append(b"hello")?;
    /// writer.flush()?; // survives a power cut from here on
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(self) -> Result<(Writer, Reader)> {
        let limits = self.limits()?;
        let storage = self.storage_or_system();
        let dir = self.directory().to_owned();
        recovery::prepare(&*storage, &dir)?;
        let guard = take_lock(&*storage, &dir)?;
        let options = RecoveryOptions {
            counter: limits.event_counter.clone(),
            max_frame_len: u64::MAX,
            on_corruption: limits.on_corruption,
            quarantine_bytes: limits.quarantine_max_size,
        };
        install::finish(&*storage, &dir)?;
        synced_mark::rewrite_unsynced(&*storage, &dir)?;
        let recovered = recovery::recover(&storage, &dir, &options)?;
        synced_mark::forget(&*storage, &dir)?;
        let (shared, side, done) = wire(limits, dir, storage, guard, recovered)?;
        let shared = Arc::new(shared);
        match shared.limits.io {
            Io::Caller => *lock(&shared.side) = Some(Box::new(side)),
            Io::Thread => {
                let for_thread = Arc::clone(&shared);
                let thread = thread::Builder::new()
                    .name("forebay-io".to_owned())
                    .spawn(move || {
                        io_thread::run(side, &for_thread);
                        for_thread.thread_has_ended();
                    })
                    .map_err(|e| Error::io("start the I/O thread for", &shared.dir, e))?;
                *lock(&shared.thread) = Some(thread);
            }
        }
        Ok((Writer::new(Arc::clone(&shared)), Reader::new(shared, done)))
    }
}

pub(crate) fn take_lock(storage: &dyn Storage, dir: &Path) -> Result<Box<dyn Lock>> {
    let path = dir.join(file_id::LOCK_FILE_NAME);
    uninterrupted(|| storage.lock(&path)).map_err(|e| {
        if e.kind() != std::io::ErrorKind::WouldBlock {
            return Error::io("lock", &path, e);
        }
        let holder = match lock_holder(&path) {
            Some(process) if process == process_id() => " by this process".to_owned(),
            Some(process) => format!(" by process {process}"),
            None => String::new(),
        };
        Error::with_path(
            ErrorKind::Locked,
            &path,
            format!(
                "the buffer is in use{holder}: its lock file {} is held, and one process at a time \
                 can open a buffer; stop that process first (to look at the buffer, or to copy \
                 from it, needs no lock)",
                path.display()
            ),
        )
    })
}

/// A buffer accepts records only if at least this many ids are left when it is opened: more than a
/// process can use.
const IDS_PER_OPENING: u64 = 1 << 60;

/// Ids do not wrap. The last ones are never given out, because a record with an id above
/// [`MAX_RECORD_ID`] is taken for damage when it is read.
fn ids_used_up(dir: &Path, next_id: u64) -> Error {
    Error::with_path(
        ErrorKind::Poisoned,
        dir,
        format!(
            "the next record id of the buffer in {} is {next_id}, and ids end at {MAX_RECORD_ID}; \
             nothing was accepted; read what is there and begin a new buffer",
            dir.display()
        ),
    )
}

/// Builds the parts of an open buffer from what recovery found.
fn wire(
    limits: Limits,
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    guard: Box<dyn Lock>,
    recovered: Recovered,
) -> Result<(Shared, WriteSide, Position)> {
    let mut spans = VecDeque::new();
    let mut base = 0;
    for file in &recovered.files {
        let (len, modified) = (file.len, file.modified);
        spans.push_back(Span {
            file_id: file.file_id,
            base,
            len,
            modified,
        });
        base += len;
    }
    let end = Position {
        next_id: recovered.next_id,
        offset: base,
    };
    let (index, offset) = recovered.acknowledged;
    let done = Position {
        next_id: recovered.last_id + 1,
        offset: spans.get(index).map_or(0, |span| span.base) + offset,
    };
    let writer_file_id = spans
        .back()
        .map_or(recovered.next_file_id, |span| span.file_id);
    let state = LedgerState {
        writer_next_record_id: recovered.next_id,
        writer_file_id,
        reader_file_id: spans.get(index).map_or(writer_file_id, |span| span.file_id),
        reader_last_record_id: recovered.last_id,
    };
    let ledger = Ledger::open(&*storage, &dir.join(file_id::LEDGER_FILE_NAME), state)?;
    let current = match (recovered.writer, spans.back()) {
        (Some((id, len)), Some(span)) => {
            debug_assert_eq!((span.file_id, span.len), (id, len));
            let path = dir.join(file_id::file_name(id));
            let file = uninterrupted(|| storage.open(&path, Access::Write))
                .map_err(|e| Error::io("open", &path, e))?;
            Some((Arc::<dyn File>::from(file), path, *span))
        }
        _ => None,
    };
    let current_id = current.as_ref().map(|(_, _, span)| span.file_id);
    let pool = Pool::new(limits.batch_len, POOL_BUFFERS_MAX);
    let log = Log::new(spans, end, RECENT_BATCHES * limits.batch_len);
    let mut intake = Intake::new(pool.clone(), limits.max_size, end);
    intake.file_base = current.as_ref().map_or(0, |(_, _, span)| span.base);
    if recovered.next_id > MAX_RECORD_ID - IDS_PER_OPENING {
        intake.failed = Some(ids_used_up(&dir, recovered.next_id));
    }
    let quarantine = Quarantine::new(
        Arc::clone(&storage),
        &dir,
        limits.on_corruption,
        limits.quarantine_max_size,
    );
    let shared = Shared {
        dir,
        storage,
        pool,
        intake: Mutex::new(intake),
        work: Bell::default(),
        space: Bell::default(),
        data: Bell::default(),
        written: Bell::default(),
        synced: Bell::default(),
        ledger_synced: Bell::default(),
        acks: Mutex::new(Acks::new(done)),
        ledger,
        head_end: AtomicU64::new(u64::MAX),
        reader_waits: AtomicBool::new(false),
        reader_stopped: AtomicBool::new(false),
        meters: Meters::default(),
        quarantine,
        recovery: recovered.report,
        opened_at: done,
        backlog: Count {
            events: end.next_id - done.next_id,
            bytes: end.offset - done.offset,
        },
        side: Mutex::new(None),
        progress: AtomicU64::new(0),
        thread: Mutex::new(None),
        closes_itself: AtomicBool::new(false),
        process: process_id(),
        lock: Mutex::new(Some(guard)),
        log: Mutex::new(log),
        limits,
    };
    shared.set_head_end(&lock(&shared.log), current_id);
    let side = WriteSide::new(current, end, recovered.next_file_id);
    Ok((shared, side, done))
}
