//! What the page shows of a buffer, read without opening it.
//!
//! Invariants:
//! - Nothing is written, and no lock is taken.
//! - Payloads are measured and not kept: the page may go to people who must not see them.

use crate::args::counting::ReadCountingOptions;
use crate::buffer::steps;
use crate::failure::Result;
use crate::output::live::Progress;
use forebay::format::record::frame_len;
use forebay::{FileReport, InspectOptions, Inspection, RecordsOptions};
use forebay::{Verification, VerifyOptions};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::SystemTime;

/// At most this many values of metadata are told apart.
const METADATA_MAX: usize = 1000;

/// A buffer, as several looks one after the other found it.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) inspection: Inspection,
    pub(crate) verification: Verification,
    /// The data files, in the order of the inspection.
    pub(crate) files: Vec<FileFacts>,
    pub(crate) contents: Contents,
    /// Directories in the buffer's own that hold what was set aside.
    pub(crate) beside: Vec<Beside>,
    pub(crate) looked_at: SystemTime,
}

/// A data file, and the records in it.
#[derive(Debug)]
pub(crate) struct FileFacts {
    pub(crate) report: FileReport,
    /// The bytes before the first unread record.
    pub(crate) acknowledged_bytes: u64,
    pub(crate) records: u64,
    pub(crate) events: u64,
    /// The id of the last event, if there is a record.
    pub(crate) last_id: Option<u64>,
}

/// All records of the buffer.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    files: HashMap<u16, InFile>,
    /// How many records have a payload of so many bytes. Different lengths need files of
    /// different lengths: a buffer of 1 TiB has at most 1.5 million of them.
    pub(crate) lens: BTreeMap<u64, u64>,
    /// How many records have this metadata.
    pub(crate) metadata: BTreeMap<u32, u64>,
    /// Records with metadata that is not among those.
    pub(crate) other_metadata: u64,
}

#[derive(Debug, Default)]
struct InFile {
    records: u64,
    events: u64,
    last_id: u64,
}

/// A directory for what was set aside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    pub(crate) name: &'static str,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Facts {
    /// Reads the buffer twice, or more often if the steps of the ids tell the events of a
    /// record.
    ///
    /// # Errors
    ///
    /// There is no buffer, or it cannot be read. Damage is no error.
    pub(crate) fn collect(directory: &Path, counting: ReadCountingOptions) -> Result<Self> {
        let progress = Progress::over_bytes();
        let facts = Self::read(directory, counting, &progress);
        progress.clear();
        facts
    }

    fn read(directory: &Path, counting: ReadCountingOptions, progress: &Progress) -> Result<Self> {
        let looked_at = SystemTime::now();
        let counter = steps::counter(counting, directory)?;
        let verification = VerifyOptions::new()
            .event_counter(counter.clone())
            .on_progress(|done, total| progress.bytes(done, total.saturating_mul(2)))
            .verify(directory)?;
        let total = verification.bytes;
        let options = RecordsOptions::new().event_counter(counter.clone());
        let contents = Contents::read(&options.clone().all(true), directory, |done| {
            progress.bytes(total.saturating_add(done), total.saturating_mul(2));
        })?;
        let first_unread = options.records(directory)?.next().transpose()?;
        let first_unread = first_unread.map(|record| (record.file_id, record.offset));
        let inspection = InspectOptions::new()
            .event_counter(counter)
            .inspect(directory)?;
        let files = files(&inspection, &contents, first_unread);
        let beside = |name| beside(directory, name);
        Ok(Self {
            inspection,
            verification,
            files,
            contents,
            beside: ["quarantine", "repair"]
                .into_iter()
                .filter_map(beside)
                .collect(),
            looked_at,
        })
    }
}

impl Contents {
    fn read(options: &RecordsOptions, directory: &Path, progress: impl Fn(u64)) -> Result<Self> {
        let mut contents = Self::default();
        let mut done = 0;
        for record in options.records(directory)? {
            let record = record?;
            let len = record.payload.len();
            let file = contents.files.entry(record.file_id).or_default();
            file.records += 1;
            file.events = file.events.saturating_add(record.events);
            file.last_id = record.id.saturating_add(record.events.saturating_sub(1));
            *contents.lens.entry(len as u64).or_default() += 1;
            let known = contents.metadata.len() < METADATA_MAX;
            match contents.metadata.get_mut(&record.metadata) {
                Some(count) => *count += 1,
                None if known => _ = contents.metadata.insert(record.metadata, 1),
                None => contents.other_metadata += 1,
            }
            done += frame_len(len) as u64;
            progress(done);
        }
        Ok(contents)
    }
}

fn files(
    inspection: &Inspection,
    contents: &Contents,
    first_unread: Option<(u16, u64)>,
) -> Vec<FileFacts> {
    let mut is_acknowledged = true;
    let describe = |report: &FileReport| {
        let acknowledged_bytes = match first_unread {
            _ if report.is_stale => 0,
            Some((file_id, offset)) if file_id == report.file_id => {
                is_acknowledged = false;
                offset.min(report.data_bytes)
            }
            _ if is_acknowledged => report.data_bytes,
            _ => 0,
        };
        let found = contents.files.get(&report.file_id);
        FileFacts {
            report: *report,
            acknowledged_bytes,
            records: found.map_or(0, |file| file.records),
            events: found.map_or(0, |file| file.events),
            last_id: found.map(|file| file.last_id),
        }
    };
    inspection.files.iter().map(describe).collect()
}

/// What a directory in the buffer's own holds; `None` if there is none.
fn beside(directory: &Path, name: &'static str) -> Option<Beside> {
    let mut beside = Beside {
        name,
        files: 0,
        bytes: 0,
    };
    let mut pending = vec![directory.join(name)];
    if !pending[0].is_dir() {
        return None;
    }
    // What cannot be read is left out: the page is about the buffer.
    while let Some(path) = pending.pop() {
        for entry in path.read_dir().into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                Ok(metadata) => {
                    beside.files += 1;
                    beside.bytes = beside.bytes.saturating_add(metadata.len());
                }
                Err(_) => {}
            }
        }
    }
    Some(beside)
}
