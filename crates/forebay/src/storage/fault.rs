//! A storage that fails on request: it wraps another storage, with a plan of which call of which
//! kind fails, with what error, once or from then on.
//!
//! These faults are modelled:
//!
//! 1. A call of any kind fails with an error of the operating system and does
//!    nothing.
//! 2. A write is cut short ([`Op::ShortWrite`]): it writes half of the bytes and returns their
//!    number, without an error.
//! 3. A sync fails. Over a simulated file system ([`Fault::of_sim`]) the kernel then counts the
//!    unsynced contents as clean, whether they reached the disk or not, so that another sync
//!    succeeds but does not write them ([`Sim::fail_sync`]); an interrupted sync loses nothing.
//!
//! Not modelled: a call that fails although it was done, a call that hangs, and
//! bytes that come back changed.
//!
//! Invariants:
//! - Without a plan every call goes through unchanged, and is counted.
//! - The same calls from one thread with the same plan fail in the same places.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::sim::Sim;
use super::{Access, Entry, File, Lock, Map, Storage};

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Op {
    /// [`Storage::create_dir`].
    CreateDir,
    /// [`Storage::list`].
    List,
    /// [`Storage::open`] of an existing file.
    Open,
    /// [`Storage::open`] of a new file.
    Create,
    /// [`Storage::rename`].
    Rename,
    /// [`Storage::delete`].
    Delete,
    /// [`Storage::sync_dir`].
    DirSync,
    /// [`Storage::lock`].
    Lock,
    /// [`Storage::map`].
    Map,
    /// [`Storage::free_bytes`].
    FreeBytes,
    /// [`File::read_at`].
    Read,
    /// [`File::write_at`].
    Write,
    /// [`File::write_at`] of two bytes or more: cut to half of them. The planned
    /// error is not used.
    ShortWrite,
    /// [`File::len`].
    Len,
    /// [`File::sync`].
    Sync,
    /// [`File::truncate`].
    Truncate,
    /// [`Map::sync`].
    MapSync,
}

impl Op {
    /// Every kind, in order.
    pub const ALL: [Self; 17] = [
        Self::CreateDir,
        Self::List,
        Self::Open,
        Self::Create,
        Self::Rename,
        Self::Delete,
        Self::DirSync,
        Self::Lock,
        Self::Map,
        Self::FreeBytes,
        Self::Read,
        Self::Write,
        Self::ShortWrite,
        Self::Len,
        Self::Sync,
        Self::Truncate,
        Self::MapSync,
    ];
}

/// An error of the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Errno {
    /// `EIO`: the device failed.
    Eio,
    /// `ENOSPC`: the file system is full.
    Enospc,
    /// `EDQUOT`: the user's share of it is full.
    Edquot,
    /// `EINTR`: a signal came in between.
    Eintr,
    /// `EMFILE`: the process has too many open files.
    Emfile,
}

impl Errno {
    /// Every error, in order.
    pub const ALL: [Self; 5] = [
        Self::Eio,
        Self::Enospc,
        Self::Edquot,
        Self::Eintr,
        Self::Emfile,
    ];

    /// The error as the standard library reports it.
    #[cfg(unix)]
    pub fn error(self) -> io::Error {
        match self {
            Self::Eio => rustix::io::Errno::IO,
            Self::Enospc => rustix::io::Errno::NOSPC,
            Self::Edquot => rustix::io::Errno::DQUOT,
            Self::Eintr => rustix::io::Errno::INTR,
            Self::Emfile => rustix::io::Errno::MFILE,
        }
        .into()
    }

    /// The error as the standard library reports it.
    #[cfg(windows)]
    pub fn error(self) -> io::Error {
        match self {
            // ERROR_IO_DEVICE.
            Self::Eio => io::Error::from_raw_os_error(1117),
            Self::Enospc => io::ErrorKind::StorageFull.into(),
            Self::Edquot => io::ErrorKind::QuotaExceeded.into(),
            Self::Eintr => io::ErrorKind::Interrupted.into(),
            // ERROR_TOO_MANY_OPEN_FILES.
            Self::Emfile => io::Error::from_raw_os_error(4),
        }
    }
}

/// A storage that fails as planned; clones are handles to the same one.
///
/// # Example
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use forebay::storage::fault::{Errno, Fault, Op};
/// use forebay::storage::{Access, Storage, sim::Sim};
///
/// let fault = Fault::new(Arc::new(Sim::new()));
/// fault.fail(Op::Write, 2, Errno::Enospc);
/// let file = fault.open(Path::new("/file"), Access::CreateNew)?;
/// file.write_at(b"first", 0)?;
/// assert!(file.write_at(b"second", 5).is_err());
/// file.write_at(b"third", 5)?;
/// assert_eq!(fault.failures(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fault(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn Storage>,
    /// The simulated file system in which a failed sync takes effect, and the seed for that.
    sim: Option<(Sim, u64)>,
    plan: Mutex<Plan>,
}

#[derive(Debug)]
struct Plan {
    rules: Vec<Rule>,
    counts: BTreeMap<Op, u64>,
    failures: u64,
}

#[derive(Debug)]
struct Rule {
    op: Op,
    nth: u64,
    lasts: bool,
    errno: Errno,
}

impl Fault {
    /// A storage that does what `inner` does until something is planned.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self::build(inner, None)
    }

    /// The same over a simulated file system, where a failed sync also marks pages clean, as a
    /// kernel may do. The seed decides which of them reached the disk; with 0 none has.
    pub fn of_sim(sim: &Sim, seed: u64) -> Self {
        Self::build(Arc::new(sim.clone()), Some((sim.clone(), seed)))
    }

    fn build(inner: Arc<dyn Storage>, sim: Option<(Sim, u64)>) -> Self {
        let plan = Plan {
            rules: Vec::new(),
            counts: Op::ALL.into_iter().map(|op| (op, 0)).collect(),
            failures: 0,
        };
        Self(Arc::new(Shared {
            inner,
            sim,
            plan: Mutex::new(plan),
        }))
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // After a panic while the guard was held, a test can still look.
        self.0.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans that the `nth` call of this kind fails, and only that one. The first
    /// call after the storage was made is number 1.
    pub fn fail(&self, op: Op, nth: u64, errno: Errno) {
        self.plan().rules.push(Rule {
            op,
            nth,
            lasts: false,
            errno,
        });
    }

    /// Plans that the `nth` call of this kind and all later ones fail.
    pub fn fail_from(&self, op: Op, nth: u64, errno: Errno) {
        self.plan().rules.push(Rule {
            op,
            nth,
            lasts: true,
            errno,
        });
    }

    /// Forgets what was planned. The counts go on.
    pub fn clear(&self) {
        self.plan().rules.clear();
    }

    /// The number of calls of each kind so far, failed ones included.
    pub fn counts(&self) -> BTreeMap<Op, u64> {
        self.plan().counts.clone()
    }

    /// The number of calls that failed (or were cut short) as planned.
    pub fn failures(&self) -> u64 {
        self.plan().failures
    }

    /// Counts a call. Returns the planned error, if there is one.
    fn call(&self, op: Op) -> Result<(), Errno> {
        let mut plan = self.plan();
        let count = plan.counts.entry(op).or_default();
        *count += 1;
        let count = *count;
        let planned = plan
            .rules
            .iter()
            .find(|rule| rule.op == op && (rule.nth == count || (rule.lasts && rule.nth < count)));
        match planned.map(|rule| rule.errno) {
            Some(errno) => {
                plan.failures += 1;
                Err(errno)
            }
            None => Ok(()),
        }
    }

    fn gate(&self, op: Op) -> io::Result<()> {
        self.call(op).map_err(Errno::error)
    }

    /// As [`gate`](Self::gate), for a sync of the file with this number.
    fn gate_sync(&self, op: Op, file: Option<u64>) -> io::Result<()> {
        self.call(op).map_err(|errno| {
            if let (Some((sim, seed)), Some(file)) = (&self.0.sim, file)
                && errno != Errno::Eintr
            {
                let seed = match *seed {
                    0 => 0,
                    seed => seed.wrapping_add(self.failures()).max(1),
                };
                sim.fail_sync_of(file, seed);
            }
            errno.error()
        })
    }

    /// The file's number on the simulated machine, which stays when its name changes.
    fn number(&self, path: &Path) -> Option<u64> {
        let (sim, _) = self.0.sim.as_ref()?;
        sim.file_number(path).ok()
    }
}

impl Storage for Fault {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.gate(Op::CreateDir)?;
        self.0.inner.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.gate(Op::List)?;
        self.0.inner.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        self.gate(match access {
            Access::Read | Access::Write => Op::Open,
            Access::CreateNew => Op::Create,
        })?;
        Ok(Box::new(FaultFile {
            inner: self.0.inner.open(path, access)?,
            fault: self.clone(),
            number: self.number(path),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate(Op::Rename)?;
        self.0.inner.rename(from, to)
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        self.gate(Op::Delete)?;
        self.0.inner.delete(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.gate(Op::DirSync)?;
        self.0.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.gate(Op::Lock)?;
        self.0.inner.lock(path)
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        self.gate(Op::Map)?;
        Ok(Box::new(FaultMap {
            inner: self.0.inner.map(path)?,
            fault: self.clone(),
            number: self.number(path),
        }))
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.gate(Op::FreeBytes)?;
        self.0.inner.free_bytes(dir)
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Box<dyn File>,
    fault: Fault,
    number: Option<u64>,
}

impl File for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fault.gate(Op::Read)?;
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.fault.gate(Op::Write)?;
        let is_cut = buf.len() > 1 && self.fault.call(Op::ShortWrite).is_err();
        let len = if is_cut { buf.len() / 2 } else { buf.len() };
        self.inner.write_at(&buf[..len], offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.fault.gate(Op::Len)?;
        self.inner.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.fault.gate_sync(Op::Sync, self.number)?;
        self.inner.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.fault.gate(Op::Truncate)?;
        self.inner.truncate(len)
    }
}

#[derive(Debug)]
struct FaultMap {
    inner: Box<dyn Map>,
    fault: Fault,
    number: Option<u64>,
}

impl Map for FaultMap {
    fn words(&self) -> &[AtomicU64; 3] {
        self.inner.words()
    }

    fn sync(&self) -> io::Result<()> {
        self.fault.gate_sync(Op::MapSync, self.number)?;
        self.inner.sync()
    }
}
