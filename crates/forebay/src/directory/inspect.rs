//! Describes a buffer without opening it.
//!
//! Invariants:
//! - Nothing is written, the lock is not taken.
//! - The description is what opening would find, because both make it from the same reads.
//! - What the process that has the buffer open is in the middle of is not a finding.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::counter::EventCounter;
use crate::directory::findings::{FindingKind, Recovery, Severity};
use crate::directory::options::{LOOK_PAUSE, LOOKS_AGAIN, LookOptions, look_options};
use crate::directory::recovery::{DataFile, Plan, look, plan};
use crate::directory::survey::walk::{IdTrack, Place, Step, Walk};
use crate::directory::survey::{LedgerStatus, Survey};
use crate::error::Result;
use crate::format::file_id::LOCK_FILE_NAME;
use crate::format::ledger::LedgerState;
use crate::storage::os;
use crate::storage::{Storage, uninterrupted};
use crate::sync::thread;

/// How to [`inspect`]: options in the manner of [`std::fs::OpenOptions`], ended by
/// [`inspect`](Self::inspect).
#[derive(Debug, Clone)]
pub struct InspectOptions {
    look: LookOptions,
    count_records: bool,
}

impl Default for InspectOptions {
    fn default() -> Self {
        Self {
            look: LookOptions::default(),
            count_records: true,
        }
    }
}

impl InspectOptions {
    /// The defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    look_options!();

    /// Whether to count the unread records, which reads all of them. Without it and without
    /// damage, the cost depends on the number of files, and on the length of the file with the
    /// last acknowledged record. Default: yes.
    #[must_use]
    pub fn count_records(mut self, count: bool) -> Self {
        self.count_records = count;
        self
    }

    /// Describes the buffer in `dir`, which may be open elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::NotABuffer`](crate::ErrorKind::NotABuffer) when there is no
    /// buffer in `dir`, otherwise those of the system. Damage is no error.
    pub fn inspect(&self, dir: impl AsRef<Path>) -> Result<Inspection> {
        let dir = dir.as_ref();
        let (mut inspection, mut is_live) = self.look_once(dir)?;
        for _ in 0..LOOKS_AGAIN {
            if !is_live || !inspection.is_damaged() {
                break;
            }
            thread::sleep(LOOK_PAUSE);
            let (again, is_live_again) = self.look_once(dir)?;
            is_live = is_live_again;
            // A process that has closed the buffer meanwhile has left what the last look found.
            inspection = match is_live {
                true => again.confirmed_by(&inspection),
                false => again,
            };
        }
        if self.look.is_of_the_system() {
            inspection.lock_holder_pid = os::lock_holder(&dir.join(LOCK_FILE_NAME));
        }
        Ok(inspection)
    }

    /// One look, and whether a process had the buffer open when it began or ended.
    fn look_once(&self, dir: &Path) -> Result<(Inspection, bool)> {
        let was_locked = self.look.is_open_elsewhere(dir)?;
        let mut inspection = describe(self, dir)?;
        inspection.locked = self.look.is_open_elsewhere(dir)?;
        let is_live = was_locked || inspection.locked;
        if is_live {
            inspection.leave_out_what_is_going_on();
        }
        Ok((inspection, is_live))
    }
}

/// What a buffer looks like.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Inspection {
    /// The directory, as it was given.
    pub directory: PathBuf,
    /// Whether the buffer is open somewhere.
    pub locked: bool,
    /// The process that has it open, if the system tells.
    pub lock_holder_pid: Option<u32>,
    /// The ledger.
    pub ledger: LedgerReport,
    /// The data files, oldest first; after them the files that only repeat others.
    pub files: Vec<FileReport>,
    /// The id that the next record gets, after what opening finds.
    pub next_record_id: u64,
    /// All events up to this id are acknowledged or lost; the next one is not.
    pub last_acknowledged_id: u64,
    /// What was not acknowledged.
    pub unread: Unread,
    /// What opening would find in the ledger and at the ends of the data;
    /// [`verify`](crate::verify) checks every byte. Of a buffer that is open elsewhere, without
    /// what its process is in the middle of.
    pub recovery: Recovery,
    /// The bytes free to this user on the file system, or `None` where the system does not say.
    pub free_bytes: Option<u64>,
    /// The age of the oldest unread record in seconds, taken from the time of its
    /// file's last change; `None` if nothing is unread.
    pub oldest_unread_age_seconds: Option<f64>,
}

impl Inspection {
    /// The bytes that the data files occupy together. The most that they may occupy is not
    /// stored in a buffer: only the program that writes to it knows its
    /// [`max_size`](crate::Config::max_size).
    pub fn disk_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether events wait although no process has the buffer open.
    pub fn is_orphaned(&self) -> bool {
        !self.locked && self.unread.events > 0
    }

    /// Whether the ledger or the recovery has something that a crash does not leave.
    fn is_damaged(&self) -> bool {
        self.ledger.status == LedgerCondition::Damaged
            || self.recovery.is_damaged()
            || self.recovery.events_lost > 0
    }

    /// Removes the findings that every running buffer may show: what a crash would leave, such as
    /// zeros that are allocated ahead, and a ledger that is updated after its records.
    fn leave_out_what_is_going_on(&mut self) {
        self.recovery.findings.retain(|finding| {
            finding.severity == Severity::Damage && finding.kind != FindingKind::LedgerBehind
        });
        self.count_lost();
    }

    /// A second look, without the findings that the first one did not have.
    fn confirmed_by(mut self, first: &Self) -> Self {
        let found = |finding: &_| first.recovery.findings.contains(finding);
        self.recovery.findings.retain(found);
        self.count_lost();
        self
    }

    fn count_lost(&mut self) {
        let lost = self.recovery.findings.iter().map(|f| f.events_lost);
        self.recovery.events_lost = lost.fold(0, u64::saturating_add);
    }
}

/// Whether a ledger is usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LedgerCondition {
    /// Its values are possible.
    Ok,
    /// There is none.
    Missing,
    /// It cannot be read, has the wrong length, or holds impossible values.
    Damaged,
}

impl LedgerCondition {
    /// The name, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
        }
    }
}

/// The ledger. The ids are `None` if it is missing or damaged, unless the damage is only a
/// next record id far beyond the data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerReport {
    /// Whether it is usable.
    pub status: LedgerCondition,
    /// Why it is damaged.
    pub damage: Option<String>,
    /// The id that the next appended record gets.
    pub writer_next_record_id: Option<u64>,
    /// The data file that is appended to.
    pub writer_file_id: Option<u16>,
    /// The data file that holds the first unacknowledged record.
    pub reader_file_id: Option<u16>,
    /// The id of the last acknowledged event.
    pub reader_last_record_id: Option<u64>,
}

/// A data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReport {
    /// Its id.
    pub file_id: u16,
    /// Its length in bytes.
    pub bytes: u64,
    /// The length without zeros and without the part of a record at the end of the last file,
    /// which opening would cut off. A running writer allocates zeros ahead.
    pub data_bytes: u64,
    /// The time of its last change, where the system knows it.
    pub modified: Option<SystemTime>,
    /// The id of its first record, if that can be read.
    pub first_record_id: Option<u64>,
    /// Whether another file has its records, so that it is not read.
    pub is_stale: bool,
}

/// What was not acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unread {
    /// The readable records; 0 unless [`count_records`](InspectOptions::count_records) is set.
    pub records: u64,
    /// The events with ids between the last acknowledged one and the next one to be
    /// appended, lost events included.
    pub events: u64,
    /// The bytes of the data files from the first unacknowledged record on.
    pub bytes: u64,
}

/// Describes the buffer in `dir`, which may be open elsewhere, with the defaults of
/// [`InspectOptions`].
///
/// # Errors
/// As [`InspectOptions::inspect`].
pub fn inspect(dir: impl AsRef<Path>) -> Result<Inspection> {
    InspectOptions::new().inspect(dir)
}

fn describe(options: &InspectOptions, dir: &Path) -> Result<Inspection> {
    let storage = &options.look.storage();
    let (counter, max_frame_len) = (&options.look.event_counter, options.look.max_frame_len);
    let survey = Survey::take_existing(storage, dir, counter, max_frame_len)?;
    let facts = look(storage, survey, counter, max_frame_len)?;
    let believed = facts.believed_ledger();
    let Plan { recovered, .. } = plan(&facts);
    let survey = &facts.survey;
    let (at, offset) = recovered.acknowledged;
    let unread_files = || recovered.files.iter().enumerate().skip(at);
    let unread_len =
        |(index, len): (usize, u64)| len.saturating_sub(if index == at { offset } else { 0 });
    let mut unread = Unread {
        records: 0,
        events: recovered
            .next_id
            .saturating_sub(recovered.last_id)
            .saturating_sub(1),
        bytes: unread_files()
            .map(|(index, file)| unread_len((index, file.len)))
            .sum(),
    };
    if options.count_records {
        let walk = Walk::new(
            storage.clone(),
            survey,
            facts.unread(),
            counter,
            max_frame_len,
        );
        unread.records = count(walk, recovered.last_id)?;
    }
    let oldest = unread_files()
        .find(|(index, file)| unread_len((*index, file.len)) > 0)
        .and_then(|(_, file)| file.modified);
    let age = oldest.map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
    Ok(Inspection {
        directory: dir.to_owned(),
        locked: false,
        lock_holder_pid: None,
        ledger: ledger_report(&survey.ledger, believed),
        files: file_reports(survey, &recovered.files),
        next_record_id: recovered.next_id,
        last_acknowledged_id: recovered.last_id,
        unread,
        recovery: recovered.report,
        free_bytes: uninterrupted(|| storage.free_bytes(dir)).ok().flatten(),
        oldest_unread_age_seconds: age.map(|age| age.as_secs_f64()),
    })
}

fn count(mut walk: Walk, last_id: u64) -> Result<u64> {
    let mut ids = IdTrack::behind(last_id);
    let mut records = 0;
    while let Some((_, step)) = walk.next()? {
        if let Step::Record(found) = step
            && ids.place(found.id, 1) != Place::Repeat
        {
            records += 1;
        }
    }
    Ok(records)
}

fn ledger_report(status: &LedgerStatus, believed: Option<LedgerState>) -> LedgerReport {
    let (condition, damage) = match (status, believed) {
        (LedgerStatus::Missing, _) => (LedgerCondition::Missing, None),
        (LedgerStatus::Damaged { why, .. }, _) => (LedgerCondition::Damaged, Some(why.clone())),
        (LedgerStatus::Ok(_), Some(_)) => (LedgerCondition::Ok, None),
        (LedgerStatus::Ok(_), None) => {
            let why = "its next record id is far beyond the data".to_owned();
            (LedgerCondition::Damaged, Some(why))
        }
    };
    let state = status.state();
    LedgerReport {
        status: condition,
        damage,
        writer_next_record_id: state.map(|state| state.writer_next_record_id),
        writer_file_id: state.map(|state| state.writer_file_id),
        reader_file_id: state.map(|state| state.reader_file_id),
        reader_last_record_id: state.map(|state| state.reader_last_record_id),
    }
}

/// `recovered` are the files of the survey with the lengths that opening gives them.
fn file_reports(survey: &Survey, recovered: &[DataFile]) -> Vec<FileReport> {
    let data_bytes = recovered.iter().map(|file| file.len);
    let live = survey.files.iter().zip(data_bytes);
    let live = live.map(|(file, data_bytes)| (file, data_bytes, false));
    let stale = survey.stale.iter().map(|(file, _)| (file, file.len, true));
    live.chain(stale)
        .map(|(file, data_bytes, is_stale)| FileReport {
            file_id: file.file_id,
            bytes: file.len,
            data_bytes,
            modified: file.modified,
            first_record_id: file.first_id,
            is_stale,
        })
        .collect()
}
