//! Repairs a buffer: a clean one of everything that still checks out takes its place.
//!
//! Invariants:
//! - What is kept is what a reader would get from the damaged buffer: the walk and its rules are
//!   the same. Acknowledged records are left out of files that are written anew.
//! - A file without damage stays as it is; it may get another id, so that ids follow one another.
//! - The old files stay until the new ones are synced and read back (`directory/install.rs`).
//! - No id is given out again, except by renumbering.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::work::{Work, is_new_or_empty, move_original};
use crate::buffer::take_lock;
use crate::counter::EventCounter;
use crate::directory::findings::{Finding, Severity};
use crate::directory::install;
use crate::directory::options::{LookOptions, look_options};
use crate::directory::recovery::look;
use crate::directory::survey::Survey;
use crate::directory::verify::{Verification, VerifyOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ledger::LedgerState;
use crate::rescue::free_bytes;
use crate::storage::Storage;
use crate::write::side::synced_mark;

mod report;
mod work;

/// How to repair: options in the manner of [`std::fs::OpenOptions`], ended by
/// [`plan`](Self::plan) or [`repair`](Self::repair).
///
/// ```
/// use forebay::RepairOptions;
///
/// # let dir = tempfile::tempdir()?;
/// # drop(forebay::Config::new(dir.path()).open()?);
/// let plan = RepairOptions::new().plan(dir.path())?;
/// println!("{} events are lost", plan.verification.events_lost);
/// if plan.is_needed() {
///     RepairOptions::new().repair(dir.path())?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct RepairOptions<'p> {
    look: LookOptions,
    keep_original: Option<PathBuf>,
    in_place: bool,
    renumber: bool,
    progress: Option<Box<dyn FnMut(u64, u64) + 'p>>,
}

impl fmt::Debug for RepairOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepairOptions")
            .field("look", &self.look)
            .field("keep_original", &self.keep_original)
            .field("in_place", &self.in_place)
            .field("renumber", &self.renumber)
            .finish_non_exhaustive()
    }
}

/// What happens to a data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileAction {
    /// It has no damage, and stays.
    Keep,
    /// It has no damage, and gets another id.
    Rename,
    /// What checks out is written to a new file.
    Rewrite,
    /// It holds nothing that is still to be delivered, and goes.
    Remove,
}

impl FileAction {
    /// The name, in `snake_case`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Rename => "rename",
            Self::Rewrite => "rewrite",
            Self::Remove => "remove",
        }
    }
}

/// What a repair does with one data file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilePlan {
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub action: FileAction,
    /// Its name afterwards, unless it is removed.
    pub new_name: Option<String>,
    /// Its length in bytes.
    pub bytes: u64,
    /// The records of it that are kept and not yet acknowledged.
    pub records: u64,
    /// Their bytes, with their frames.
    pub kept_bytes: u64,
}

/// What a repair would do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairPlan {
    /// What was found.
    pub verification: Verification,
    /// The data files in the order of their records.
    pub files: Vec<FilePlan>,
    /// The records that are kept and not yet acknowledged, and their events.
    pub records: u64,
    /// Their events.
    pub events: u64,
    /// The ids of the unacknowledged events that are lost, each range half open.
    pub missing: Vec<Range<u64>>,
    /// The space that the repair needs while it works, in bytes.
    pub bytes_needed: u64,
    /// The space that there is, if the system says.
    pub bytes_free: Option<u64>,
    /// The ledger afterwards.
    ledger: LedgerState,
    renumber: bool,
}

impl RepairPlan {
    /// Whether there is anything to repair that an opening does not mend: damage, lost events,
    /// or data files whose ids do not follow one another.
    pub fn is_needed(&self) -> bool {
        let damage = |finding: &Finding| finding.severity == Severity::Damage;
        let renamed = |file: &FilePlan| file.action == FileAction::Rename;
        self.verification.findings.iter().any(damage)
            || self.verification.findings_omitted > 0
            || self.verification.events_lost > 0
            || self.files.iter().any(renamed)
            || self.renumber && !self.missing.is_empty()
    }
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// What was found and done.
    pub plan: RepairPlan,
    /// Where the original files and the report are; `None` if nothing was to be repaired.
    pub original: Option<PathBuf>,
}

impl Repair {
    /// Nothing but a plan.
    pub fn of_plan(plan: RepairPlan) -> Self {
        Self {
            plan,
            original: None,
        }
    }
}

impl<'p> RepairOptions<'p> {
    /// The defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    look_options!();

    /// Where the original files go: a directory that is new or empty, possibly on another file
    /// system. Default: `repair/N` in the buffer's directory, which no reader of the format looks
    /// at.
    #[must_use]
    pub fn keep_original(mut self, dir: impl Into<PathBuf>) -> Self {
        self.keep_original = Some(dir.into());
        self
    }

    /// Repairs one file after the other, and keeps of the original only the damaged bytes, in the
    /// quarantine: for a disk without space for a second copy. Default: no.
    #[must_use]
    pub fn in_place(mut self, in_place: bool) -> Self {
        self.in_place = in_place;
        self
    }

    /// Gives all records new ids that follow one another, for readers that count them. Ids then
    /// differ from those that were delivered before. Default: no; the gaps stay, and are noted as
    /// reported, so that [`verify`](crate::verify) does not report them again.
    #[must_use]
    pub fn renumber(mut self, renumber: bool) -> Self {
        self.renumber = renumber;
        self
    }

    /// A function that the repair calls from time to time with the bytes read so far and their
    /// total. Default: none.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(u64, u64) + 'p) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Looks what a repair of the buffer in `dir` would do, and changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] if the buffer is open; [`ErrorKind::NotABuffer`] if there is none in
    /// `dir`; otherwise those of the system. Damage is no error.
    pub fn plan(self, dir: impl AsRef<Path>) -> Result<RepairPlan> {
        let dir = dir.as_ref();
        if self.look.is_open_elsewhere(dir)? {
            return Err(Error::with_path(
                ErrorKind::Locked,
                dir,
                format!(
                    "the buffer in {} is open; close it first: a buffer in use cannot be repaired",
                    dir.display()
                ),
            ));
        }
        let (storage, in_place) = (self.look.storage(), self.in_place);
        let mut work = self.look(&storage, dir)?;
        work.plan.bytes_free = free_bytes(&*storage, dir)?;
        work.plan.bytes_needed = work.bytes_needed(in_place);
        Ok(work.plan)
    }

    /// Repairs the buffer in `dir`. If nothing is to be repaired, nothing is changed.
    ///
    /// A kill or a power cut at any moment leaves the old buffer, the new one, or a state that
    /// the next opening or repair finishes.
    ///
    /// # Errors
    /// As [`plan`](Self::plan); [`ErrorKind::DiskFull`], before anything is written, if there is
    /// not enough space for the new files; [`ErrorKind::InvalidConfig`] if the directory for the
    /// original is not empty.
    pub fn repair(mut self, dir: impl AsRef<Path>) -> Result<Repair> {
        let dir = dir.as_ref();
        let storage = self.look.storage();
        // Says that there is no buffer before a lock file is made.
        Survey::require(&*storage, dir)?;
        let _lock = take_lock(&*storage, dir)?;
        install::finish(&*storage, dir)?;
        let (in_place, keep) = (self.in_place, self.keep_original.take());
        synced_mark::rewrite_unsynced(&*storage, dir)?;
        let mut work = self.look(&storage, dir)?;
        work.plan.bytes_free = free_bytes(&*storage, dir)?;
        work.plan.bytes_needed = work.bytes_needed(in_place);
        if !work.plan.is_needed() {
            return Ok(Repair::of_plan(work.plan));
        }
        work.refuse_without_space(in_place)?;
        if let Some(keep) = &keep {
            is_new_or_empty(&*storage, keep)?;
        }
        work.sync_files()?;
        synced_mark::forget(&*storage, dir)?;
        let mut original = work.apply(in_place)?;
        if let Some(keep) = keep {
            move_original(&*storage, &original, &keep)?;
            original = keep;
        }
        Ok(Repair {
            plan: work.plan,
            original: Some(original),
        })
    }

    /// Verifies the buffer, and decides what happens to each file.
    fn look(self, storage: &Arc<dyn Storage>, dir: &Path) -> Result<Work<'p>> {
        let mut progress = self.progress.unwrap_or_else(|| Box::new(|_, _| {}));
        let (counter, max_frame_len) = (&self.look.event_counter, self.look.max_frame_len);
        let verification = VerifyOptions::new()
            .event_counter(counter.clone())
            .max_frame_len(max_frame_len)
            .storage(storage.clone())
            .on_progress(&mut progress)
            .verify(dir)?;
        let survey = Survey::take_existing(storage, dir, counter, max_frame_len)?;
        let facts = look(storage, survey, counter, max_frame_len)?;
        let mut work = Work {
            storage: Arc::clone(storage),
            dir: dir.to_owned(),
            facts,
            look: self.look,
            progress,
            plan: RepairPlan {
                verification,
                files: Vec::new(),
                records: 0,
                events: 0,
                missing: Vec::new(),
                bytes_needed: 0,
                bytes_free: None,
                ledger: LedgerState::INITIAL,
                renumber: self.renumber,
            },
        };
        work.decide()?;
        Ok(work)
    }
}
