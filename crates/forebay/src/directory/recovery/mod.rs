//! Opening: decides from the contents of the directory where writer and reader are, and
//! makes the files fit that. Three steps: *look* (only reads), *plan* (pure), *apply*.
//!
//! Invariants:
//! - Apply is idempotent: after a crash at any point of it, another recovery comes to the
//!   same result, because every step leaves a directory that is read like the one before it.
//! - A tail is cut durably before anything can be appended after it.
//! - Afterwards all bytes of the data files are synced, including those that an earlier
//!   process wrote and did not sync.
//! - Recovery writes nothing in a buffer that was closed; it only syncs. Opening then writes the
//!   ledger again, unchanged.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::OnCorruption;
use crate::config::UNSYNCED_FILES_MAX;
use crate::counter::EventCounter;
use crate::directory::enclosing::refuse_reserved;
use crate::directory::findings::{Finding, FindingKind, Recovery, Severity};
use crate::directory::quarantine::Quarantine;
use crate::directory::survey::{Listing, Survey, not_a_buffer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id::{LEDGER_FILE_NAME, file_name};
use crate::format::ledger::{LEDGER_LEN, LedgerState};
use crate::storage::{Access, File, Storage, uninterrupted, write_all};

mod believed;
mod look;
mod plan;
mod reach;
#[cfg(test)]
mod tests;

pub(crate) use look::{Facts, look};
use plan::{Cut, LedgerPlan, free_id};
pub(crate) use plan::{Plan, end_finding, plan};

/// The options of a recovery.
#[derive(Debug, Clone)]
pub(crate) struct RecoveryOptions {
    /// How many events a record holds.
    pub(crate) counter: EventCounter,
    /// The longest frame to accept, in bytes. Buffers may have been written
    /// with larger limits than they are opened with now.
    pub(crate) max_frame_len: u64,
    /// What to do with damage.
    pub(crate) on_corruption: OnCorruption,
    /// At most this many bytes are kept under `quarantine/`.
    pub(crate) quarantine_bytes: u64,
}

/// One data file that is part of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataFile {
    /// Its id.
    pub(crate) file_id: u16,
    /// Its length in bytes, after recovery.
    pub(crate) len: u64,
    /// When it was last modified, before recovery.
    pub(crate) modified: Option<SystemTime>,
}

/// The files and positions of a buffer after recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The data files that are part of the buffer, oldest first.
    pub(crate) files: Vec<DataFile>,
    /// The id of the last acknowledged event.
    pub(crate) last_id: u64,
    /// The frame boundary after the last acknowledged record: an index into
    /// `files` and an offset in that file. `(0, 0)` without files.
    pub(crate) acknowledged: (usize, u64),
    /// The id for the next record, never given out before.
    pub(crate) next_id: u64,
    /// The file to append to (the last of `files`) and its length; `None`: append to a new
    /// file, `next_file_id`.
    pub(crate) writer: Option<(u16, u64)>,
    /// An unused id for the next new file.
    pub(crate) next_file_id: u16,
    /// What was found.
    pub(crate) report: Recovery,
}

/// Makes sure that `dir` is a buffer's directory, or an empty one that can
/// become it; creates it if it is missing. Changes nothing in it, so the caller
/// need not hold the lock yet.
///
/// # Errors
/// [`ErrorKind::NotABuffer`] when it is not a directory or holds something else,
/// [`ErrorKind::InvalidConfig`] when it is where another buffer keeps what is its own,
/// otherwise those of the storage.
pub(crate) fn prepare(storage: &dyn Storage, dir: &Path) -> Result<()> {
    refuse_reserved(storage, dir)?;
    match uninterrupted(|| storage.create_dir(dir)) {
        Ok(()) => {}
        // Something else has the name; the listing below reports that.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory
            ) => {}
        Err(e) => return Err(Error::io("create the directory", dir, e)),
    }
    let listing = Listing::of(storage, dir)?;
    if listing.is_buffer || listing.has_repairs || listing.others.is_empty() {
        Ok(())
    } else {
        Err(not_a_buffer(dir, &listing.others))
    }
}

/// Recovers the buffer in `dir`. Afterwards the ledger is a file of 24 bytes, and the data
/// files in `Recovered` are synced. The caller holds the lock, and sets the ledger's fields.
///
/// # Errors
/// Those of the storage, and [`ErrorKind::Corrupt`] when there is damage and
/// the options refuse it; then nothing was changed.
pub(crate) fn recover(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    options: &RecoveryOptions,
) -> Result<Recovered> {
    let survey = Survey::take(storage, dir, &options.counter, options.max_frame_len)?;
    let facts = look(storage, survey, &options.counter, options.max_frame_len)?;
    let plan = plan(&facts);
    if options.on_corruption == OnCorruption::Refuse {
        refuse(dir, &plan.recovered.report)?;
    }
    for finding in &plan.recovered.report.findings {
        trace(dir, finding);
    }
    apply(storage, dir, plan, options)
}

fn refuse(dir: &Path, report: &Recovery) -> Result<()> {
    let is_loss = |finding: &&Finding| report.events_lost > 0 && finding.events_lost > 0;
    let damage = |finding: &&Finding| finding.severity == Severity::Damage || is_loss(finding);
    let Some(finding) = report.findings.iter().find(damage) else {
        return Ok(());
    };
    let path = dir.join(finding.file.as_deref().unwrap_or_default());
    let lost = match finding.events_lost {
        0 => "nothing is lost".to_owned(),
        1 => "1 event is lost".to_owned(),
        events => format!("{events} events are lost"),
    };
    let message = format!(
        "{} is damaged at offset {} (finding {}; {lost}) and the configuration refuses damage; \
         verify the buffer, or open it with another on_corruption, which steps over damage",
        path.display(),
        finding.offset,
        finding.kind,
    );
    Err(Error::with_path(ErrorKind::Corrupt, &path, message).at(finding.offset))
}

fn trace(dir: &Path, finding: &Finding) {
    let file = finding.file.as_deref().unwrap_or_default();
    let (offset, length, lost) = (finding.offset, finding.length, finding.events_lost);
    let dir = dir.display();
    if finding.severity == Severity::Damage || lost > 0 {
        tracing::warn!(%dir, file, offset, length, lost, "found {}", finding.kind);
    } else {
        tracing::info!(%dir, file, offset, length, lost, "found {}", finding.kind);
    }
}

/// Makes the files fit the plan.
fn apply(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    plan: Plan,
    options: &RecoveryOptions,
) -> Result<Recovered> {
    let quarantine = Quarantine::new(
        storage.clone(),
        dir,
        options.on_corruption,
        options.quarantine_bytes,
    );
    let storage = &**storage;
    let mut recovered = plan.recovered;
    if let Some(last) = recovered.files.last() {
        let name = file_name(last.file_id);
        let path = dir.join(&name);
        if plan.is_new {
            create(storage, &path, &[])?;
        } else {
            let is_certain = plan.ledger == LedgerPlan::Keep;
            cut_and_sync(storage, &path, &name, plan.cut, is_certain, &quarantine)?;
        }
    }
    for file in recovered
        .files
        .iter()
        .rev()
        .skip(1)
        .take(UNSYNCED_FILES_MAX - 1)
    {
        let path = dir.join(file_name(file.file_id));
        uninterrupted(|| storage.open(&path, Access::Write))
            .map_err(|e| Error::io("open", &path, e))
            .and_then(|file| sync(&*file, &path))?;
    }
    put_aside(&quarantine, &plan.stale, &mut recovered);
    recovered.next_file_id = free_id(recovered.next_file_id, &recovered.files, &plan.blocked);
    let ledger_path = dir.join(LEDGER_FILE_NAME);
    match plan.ledger {
        LedgerPlan::Keep => {}
        LedgerPlan::Create => create(storage, &ledger_path, &ledger_of(&recovered))?,
        LedgerPlan::Replace { is_blank } => {
            let kind = FindingKind::LedgerDamaged.as_str();
            if is_blank || !quarantine.keep_file(LEDGER_FILE_NAME, kind) {
                uninterrupted(|| storage.delete(&ledger_path))
                    .map_err(|e| Error::io("replace", &ledger_path, e))?;
            }
            create(storage, &ledger_path, &ledger_of(&recovered))?;
        }
    }
    uninterrupted(|| storage.sync_dir(dir)).map_err(|e| Error::io("sync the directory", dir, e))?;
    Ok(recovered)
}

/// Cuts and syncs the last data file. `is_certain`: the ledger confirms that the cut removes
/// no events but those that the report counts.
fn cut_and_sync(
    storage: &dyn Storage,
    path: &Path,
    name: &str,
    cut: Option<Cut>,
    is_certain: bool,
    quarantine: &Quarantine,
) -> Result<()> {
    let file = uninterrupted(|| storage.open(path, Access::Write))
        .map_err(|e| Error::io("open", path, e))?;
    if let Some(cut) = cut {
        // The rest of an incomplete record is not worth keeping, a record that may be whole is.
        if cut.events_lost > 0 || cut.holds_unread || !is_certain {
            let kind = FindingKind::from(cut.kind).as_str();
            quarantine.keep_span(&*file, name, cut.offset, cut.len, kind, cut.events_lost);
        }
        uninterrupted(|| file.truncate(cut.offset))
            .map_err(|e| Error::io("cut the tail of", path, e))?;
    }
    sync(&*file, path)
}

fn sync(file: &dyn File, path: &Path) -> Result<()> {
    uninterrupted(|| file.sync()).map_err(|e| Error::io("sync", path, e))
}

/// Moves stale files to the quarantine. A file that cannot be moved is listed right after the
/// file that has its records: the reader skips its records as repeats, and the file is deleted
/// once the reader has passed it.
fn put_aside(quarantine: &Quarantine, stale: &[(u16, usize)], recovered: &mut Recovered) {
    for (file_id, live) in stale.iter().rev() {
        let name = file_name(*file_id);
        if quarantine.keep_file(&name, FindingKind::StaleFile.as_str()) {
            continue;
        }
        let finding = recovered
            .report
            .findings
            .iter()
            .find(|f| f.file.as_ref() == Some(&name));
        let len = finding.map_or(0, |finding| finding.length);
        recovered.files.insert(
            live + 1,
            DataFile {
                file_id: *file_id,
                len,
                modified: None,
            },
        );
        if recovered.acknowledged.0 > *live {
            recovered.acknowledged.0 += 1;
        }
    }
    let last = recovered.files.last().map(|file| file.file_id);
    recovered.writer = recovered
        .writer
        .filter(|(file_id, _)| Some(*file_id) == last);
}

/// Makes a new file with these bytes and syncs it, but not its directory entry.
pub(crate) fn create(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<()> {
    let file = uninterrupted(|| storage.open(path, Access::CreateNew))
        .map_err(|e| Error::io("create", path, e))?;
    write_all(&*file, bytes, 0)
        .and_then(|()| uninterrupted(|| file.sync()))
        .map_err(|e| Error::io("write to", path, e))
}

/// The ledger of a recovered buffer.
fn ledger_of(recovered: &Recovered) -> [u8; LEDGER_LEN] {
    let reader = recovered.files.get(recovered.acknowledged.0);
    let writer = recovered.writer.map(|(file_id, _)| file_id);
    let writer = writer.or(recovered.files.last().map(|file| file.file_id));
    LedgerState {
        writer_next_record_id: recovered.next_id,
        writer_file_id: writer.unwrap_or(recovered.next_file_id),
        reader_file_id: reader.map_or(recovered.next_file_id, |file| file.file_id),
        reader_last_record_id: recovered.last_id,
    }
    .to_bytes()
}
