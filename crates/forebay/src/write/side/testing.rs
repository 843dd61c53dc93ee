//! Shared by the tests of the write side's parts: an open buffer without handles and without a
//! thread, over a simulated file system that fails on request.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;

use super::files::Files;
use super::open_file::Outcome;
use crate::config::Config;
use crate::directory::findings::Recovery;
use crate::directory::quarantine::Quarantine;
use crate::format::file_id;
use crate::format::ledger::LedgerState;
use crate::format::record;
use crate::state::acks::{Acks, Stretch};
use crate::state::intake::Intake;
use crate::state::ledger::Ledger;
use crate::state::log::Log;
use crate::state::meters::Meters;
use crate::state::shared::Shared;
use crate::state::stream::{Frames, Position};
use crate::storage::fault::{Errno, Fault, Op};
use crate::storage::os::process_id;
use crate::storage::sim::Sim;
use crate::storage::{File, Map, Storage};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::pool::Pool;
use crate::sync::wake::{Bell, lock};
use crate::sync::{Instant, Mutex};

/// The length of each record's frame.
pub(super) const FRAME: u64 = 48;
/// Where the stream begins.
pub(super) const BEGIN: Position = Position {
    next_id: 1,
    offset: 0,
};

/// An empty buffer.
pub(super) struct Setting {
    pub(super) sim: Sim,
    pub(super) fault: Fault,
    pub(super) shared: Arc<Shared>,
}

impl Setting {
    /// The flush interval is one hour, so that nothing becomes due by time.
    pub(super) fn new() -> Self {
        Self::with(|config| config)
    }

    pub(super) fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let config = Config::new("/buffer")
            .max_size(1 << 20)
            .data_file_size(4096)
            .batch_size(4096)
            .flush_interval(Duration::from_secs(3600));
        let config = change(config);
        let sim = Sim::new();
        let fault = Fault::of_sim(&sim, 0);
        let dir = config.directory().to_owned();
        let ledger_path = dir.join(file_id::LEDGER_FILE_NAME);
        let state = LedgerState::INITIAL;
        sim.write_file(&ledger_path, &state.to_bytes()).unwrap();
        let limits = config.limits().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(fault.clone());
        let pool = Pool::new(limits.batch_len, 2);
        let shared = Shared {
            ledger: Ledger::open(&fault, &ledger_path, state).unwrap(),
            quarantine: Quarantine::new(Arc::clone(&storage), &dir, limits.on_corruption, 0),
            intake: Mutex::new(Intake::new(pool.clone(), limits.max_size, BEGIN)),
            log: Mutex::new(Log::new(VecDeque::new(), BEGIN, 1 << 20)),
            dir,
            storage,
            pool,
            work: Bell::default(),
            space: Bell::default(),
            data: Bell::default(),
            written: Bell::default(),
            synced: Bell::default(),
            ledger_synced: Bell::default(),
            acks: Mutex::new(Acks::new(BEGIN)),
            head_end: AtomicU64::new(u64::MAX),
            reader_waits: AtomicBool::new(false),
            reader_stopped: AtomicBool::new(false),
            meters: Meters::default(),
            recovery: Recovery::default(),
            opened_at: BEGIN,
            backlog: crate::state::acks::Count::default(),
            side: Mutex::new(None),
            progress: AtomicU64::new(0),
            thread: Mutex::new(None),
            closes_itself: AtomicBool::new(false),
            lock: Mutex::new(None),
            process: process_id(),
            limits,
        };
        Self {
            sim,
            fault,
            shared: Arc::new(shared),
        }
    }

    /// Only before the shared part was cloned.
    pub(super) fn shared_mut(&mut self) -> &mut Shared {
        Arc::get_mut(&mut self.shared).unwrap()
    }

    pub(super) fn path_of(&self, file_id: u16) -> PathBuf {
        self.shared.dir.join(file_id::file_name(file_id))
    }

    /// The contents of a data file, if it is there.
    pub(super) fn contents(&self, file_id: u16) -> Option<Vec<u8>> {
        self.sim.read_file(self.path_of(file_id))
    }

    pub(super) fn is_there(&self, file_id: u16) -> bool {
        self.contents(file_id).is_some()
    }

    pub(super) fn ledger_path(&self) -> PathBuf {
        self.shared.dir.join(file_id::LEDGER_FILE_NAME)
    }

    /// How many calls of this kind there were.
    pub(super) fn count(&self, op: Op) -> u64 {
        self.fault.counts()[&op]
    }

    /// The next call of this kind fails.
    pub(super) fn fail_next(&self, op: Op, errno: Errno) {
        self.fault.fail(op, self.count(op) + 1, errno);
    }

    /// All calls of this kind fail from now on.
    pub(super) fn fail_all(&self, op: Op, errno: Errno) {
        self.fault.fail_from(op, self.count(op) + 1, errno);
    }

    /// Writes this many records to the current file.
    pub(super) fn write(&self, files: &mut Files, count: u64) {
        let current = files.current_mut().unwrap();
        let frames = frames(current.end(), count);
        let end = frames.end;
        current.write(&frames, frames.len()).unwrap();
        current.publish(end);
        self.shared.ledger.set_next_record_id(end.next_id);
        self.shared.publish_written(frames);
    }

    /// Creates this many new files, with one record each.
    pub(super) fn roll_and_write(&self, files: &mut Files, count: usize) {
        for _ in 0..count {
            files.roll(&self.shared).unwrap();
            self.write(files, 1);
        }
    }

    /// Syncs the oldest file with a change that no sync covers.
    pub(super) fn sync(&self, files: &mut Files) -> Outcome {
        let outcome = files.begin_sync().unwrap().run(&self.shared);
        assert!(outcome.result.is_ok());
        files.note_synced(&outcome.covered);
        outcome
    }

    /// Acknowledges all records up to this many.
    pub(super) fn acknowledge(&self, count: u64) {
        let to = Position {
            next_id: 1 + count,
            offset: count * FRAME,
        };
        self.shared.acknowledge(Stretch { from: BEGIN, to });
    }

    /// Requests the sync of everything up to this offset.
    pub(super) fn want_synced(&self, end: u64) {
        lock(&self.shared.intake).want_synced = end;
    }
}

/// Longer than anything here takes; a test that waits this long fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn wait_until(mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// This many records from this place of the stream on.
pub(super) fn frames(begin: Position, count: u64) -> Frames {
    let mut bytes = Vec::new();
    for id in begin.next_id..begin.next_id + count {
        let begin = bytes.len();
        bytes.resize(begin + FRAME as usize, 0);
        record::encode(&mut bytes[begin..], id, 0, b"payload");
    }
    let end = Position {
        next_id: begin.next_id + count,
        offset: begin.offset + bytes.len() as u64,
    };
    Frames::new(Bytes::from(bytes), 0, end)
}

type Hook = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// A file, or the mapped ledger, that does something before each sync.
pub(super) struct BeforeSync<T: ?Sized> {
    inner: Box<T>,
    hook: Hook,
}

impl<T: ?Sized> BeforeSync<T> {
    pub(super) fn new(
        inner: Box<T>,
        hook: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let hook = Box::new(hook);
        Self { inner, hook }
    }
}

impl<T: ?Sized> fmt::Debug for BeforeSync<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BeforeSync")
    }
}

impl File for BeforeSync<dyn File> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.inner.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn sync(&self) -> io::Result<()> {
        (self.hook)()?;
        self.inner.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }
}

impl Map for BeforeSync<dyn Map> {
    fn words(&self) -> &[std::sync::atomic::AtomicU64; 3] {
        self.inner.words()
    }

    fn sync(&self) -> io::Result<()> {
        (self.hook)()?;
        self.inner.sync()
    }
}
