//! Describes a buffer without opening it.
//!
//! Invariants:
//! - Nothing is written, the lock is not taken.
//! - The description is what opening would find, because both make it from the same reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::counter::EventCounter;
use crate::directory::options::{LOOK_PAUSE, LOOKS_AGAIN, LookOptions, look_options};
use crate::directory::recovery::{Plan, look, plan};
use crate::directory::survey::walk::{IdTrack, Place, Step, Walk};
use crate::directory::survey::{LedgerStatus, Survey};
use crate::error::Result;
use crate::format::file_id::LOCK_FILE_NAME;
use crate::format::ledger::LedgerState;
use crate::storage::Storage;
use crate::storage::os;
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
        let mut inspection = describe(self, dir)?;
        if self.look.is_of_the_system() {
            inspection.locked = self.look.is_open_elsewhere(dir)?;
            for _ in 0..LOOKS_AGAIN {
                if !inspection.locked || inspection.ledger.status != LedgerCondition::Damaged {
                    break;
                }
                thread::sleep(LOOK_PAUSE);
                inspection = describe(self, dir)?;
                inspection.locked = self.look.is_open_elsewhere(dir)?;
            }
            inspection.lock_holder_pid = os::lock_holder(&dir.join(LOCK_FILE_NAME));
        }
        Ok(inspection)
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
    /// What was not acknowledged.
    pub unread: Unread,
    /// The age of the oldest unread record in seconds, taken from the time of its
    /// file's last change; `None` if nothing is unread.
    pub oldest_unread_age_seconds: Option<f64>,
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
        files: file_reports(survey),
        unread,
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

fn file_reports(survey: &Survey) -> Vec<FileReport> {
    let live = survey.files.iter().map(|file| (file, false));
    let stale = survey.stale.iter().map(|(file, _)| (file, true));
    live.chain(stale)
        .map(|(file, is_stale)| FileReport {
            file_id: file.file_id,
            bytes: file.len,
            first_record_id: file.first_id,
            is_stale,
        })
        .collect()
}
