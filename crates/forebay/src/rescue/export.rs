//! Gives out the records of a buffer, with what is needed to make the same buffer of them again.
//!
//! Invariants:
//! - Nothing is written, the lock is not taken.
//! - Records come in the order of their ids, each once. What was salvaged fills gaps between the
//!   records that a reader would get, and never takes the place of one of them.
//! - Memory is bounded by one chunk, and by some bytes for each record that was salvaged.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::counter::EventCounter;
use crate::directory::options::{LookOptions, look_options};
use crate::directory::quarantine::QUARANTINE_DIR_NAME;
use crate::directory::records::{Records, RecordsOptions, Skipped, StoredRecord};
use crate::directory::survey::open_data_file;
use crate::error::{Error, Result};
use crate::format::file_id::parse_file_name;
use crate::rescue::pieces::{each_whole_frame, is_worth_searching, may_hold_records, whole_frame};
use crate::storage::{File, Storage, uninterrupted};
use crate::sync::pool::Pool;

/// The length of the chunks in which files are searched.
const CHUNK_LEN: usize = 1 << 20;

/// Which records to export: options in the manner of [`std::fs::OpenOptions`], ended by
/// [`export`](Self::export).
///
/// ```
/// use forebay::{ExportOptions, ImportOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let (from, to) = (dir.path().join("from"), dir.path().join("to"));
/// # let (writer, _reader) = forebay::Config::new(&from).open()?;
/// # writer.append(b"an event")?;
/// # writer.flush()?;
/// let export = ExportOptions::new().export(&from)?;
/// let next_record_id = export.next_record_id();
/// let mut import = ImportOptions::new().begin(&to, export.acknowledged_id())?;
/// for record in export {
///     let record = record?;
///     import.push(record.id, record.metadata, record.events, &record.payload)?;
/// }
/// import.finish(next_record_id)?;
/// assert!(forebay::verify(&to)?.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    look: LookOptions,
    all: bool,
    salvage: bool,
}

impl ExportOptions {
    /// The defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    look_options!();

    /// Whether acknowledged records that are still on disk are exported as well. Default: no.
    #[must_use]
    pub fn all(mut self, all: bool) -> Self {
        self.all = all;
        self
    }

    /// Whether to search what a reader steps over, and the quarantine, for records that check
    /// out: damaged spans, and data files whose records are in others as well. They fill gaps in
    /// the ids. The buffer is read twice. Default: no.
    #[must_use]
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Exports the records of the buffer in `dir`, which may be open elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::NotABuffer`](crate::ErrorKind::NotABuffer) when there is no
    /// buffer in `dir`, otherwise those of the system. Damage is no error.
    pub fn export(&self, dir: impl AsRef<Path>) -> Result<Export> {
        let dir = dir.as_ref();
        let storage = self.look.storage();
        let mut records = self.records(dir)?;
        let salvaged = match self.salvage {
            true => {
                let found = self.salvaged(&storage, dir, &mut records)?;
                records = self.records(dir)?;
                found
            }
            false => Vec::new(),
        };
        Ok(Export {
            storage,
            look: self.look.clone(),
            events_salvaged: salvaged.iter().map(|record| record.events).sum(),
            salvaged: salvaged.into_iter().peekable(),
            total: records.bytes(),
            done: 0,
            records,
            waiting: None,
            is_over: false,
        })
    }

    fn records(&self, dir: &Path) -> Result<Records> {
        let mut options = RecordsOptions::new()
            .all(self.all)
            .event_counter(self.look.event_counter.clone())
            .max_frame_len(self.look.max_frame_len);
        if let Some(storage) = &self.look.storage {
            options = options.storage(Arc::clone(storage));
        }
        options.records(dir)
    }

    /// Reads the buffer, and finds the records that its gaps lack.
    fn salvaged(
        &self,
        storage: &Arc<dyn Storage>,
        dir: &Path,
        records: &mut Records,
    ) -> Result<Vec<Salvaged>> {
        let first = match self.all {
            true => 1,
            false => records.acknowledged_id() + 1,
        };
        let mut gaps = Gaps::new(first);
        records.note_steps();
        for record in records.by_ref() {
            let record = record?;
            gaps.pass(record.id, record.events);
        }
        gaps.end(records.next_id());
        let mut search = Search {
            storage,
            look: &self.look,
            gaps,
            found: Vec::new(),
        };
        if search.gaps.is_empty() {
            return Ok(search.found);
        }
        for (path, damage) in records.stepped_over() {
            if is_worth_searching(damage.kind) {
                search.part(path, Some(damage.offset..damage.offset + damage.len))?;
            }
        }
        for path in records.stale() {
            search.part(path, None)?;
        }
        for path in quarantined(&**storage, dir)? {
            search.part(path, None)?;
        }
        search.found.sort_by_key(|record| record.id);
        Ok(search.found)
    }
}

/// The files in the quarantine that may hold records.
fn quarantined(storage: &dyn Storage, dir: &Path) -> Result<Vec<PathBuf>> {
    let dir = dir.join(QUARANTINE_DIR_NAME);
    let entries = match uninterrupted(|| storage.list(&dir)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io("list the directory", &dir, e))?,
    };
    let mut paths: Vec<PathBuf> = entries
        .into_iter()
        .filter(|entry| entry.is_file && may_hold_records(&entry.name))
        .map(|entry| dir.join(&entry.name))
        .collect();
    paths.sort();
    Ok(paths)
}

/// The ids that the records of a buffer leave out.
#[derive(Debug)]
struct Gaps {
    gaps: Vec<Range<u64>>,
    expected: u64,
}

impl Gaps {
    fn new(first: u64) -> Self {
        Self {
            gaps: Vec::new(),
            expected: first,
        }
    }

    fn pass(&mut self, id: u64, events: u64) {
        self.end(id);
        self.expected = self.expected.max(id.saturating_add(events));
    }

    fn end(&mut self, next_id: u64) {
        if self.expected < next_id {
            self.gaps.push(self.expected..next_id);
        }
    }

    fn is_empty(&self) -> bool {
        self.gaps.is_empty()
    }

    /// Takes the ids of a record out of the gap that holds them all; false if none does.
    fn fill(&mut self, id: u64, events: u64) -> bool {
        let end = id.saturating_add(events);
        let holds = |gap: &Range<u64>| gap.start <= id && end <= gap.end;
        let index = self.gaps.partition_point(|gap| gap.end <= id);
        let Some(gap) = self.gaps.get(index).filter(|gap| holds(gap)).cloned() else {
            return false;
        };
        let rest = [gap.start..id, end..gap.end];
        let rest = rest.into_iter().filter(|gap| !gap.is_empty());
        self.gaps.splice(index..=index, rest);
        true
    }
}

/// A record that was found in a place where no reader looks.
#[derive(Debug, Clone)]
struct Salvaged {
    id: u64,
    events: u64,
    path: Arc<PathBuf>,
    offset: u64,
    end: u64,
}

struct Search<'a> {
    storage: &'a Arc<dyn Storage>,
    look: &'a LookOptions,
    gaps: Gaps,
    found: Vec<Salvaged>,
}

impl Search<'_> {
    /// Searches a part of a file, or all of it.
    fn part(&mut self, path: PathBuf, span: Option<Range<u64>>) -> Result<()> {
        let Some(file) = open_data_file(&**self.storage, &path)? else {
            return Ok(());
        };
        let len = uninterrupted(|| file.len()).map_err(|e| Error::io("look at", &path, e))?;
        let span = span.map_or(0..len, |span| span.start..span.end.min(len));
        if span.is_empty() {
            return Ok(());
        }
        let path = Arc::new(path);
        let (max_frame_len, counter) = (self.look.max_frame_len, &self.look.event_counter);
        each_whole_frame(
            &file,
            span.clone(),
            max_frame_len,
            &pool(),
            |found, payload| {
                let events = counter.count(found.metadata, payload);
                if self.gaps.fill(found.id, events) {
                    self.found.push(Salvaged {
                        id: found.id,
                        events,
                        path: Arc::clone(&path),
                        offset: found.offset,
                        end: found.offset + found.frame_len,
                    });
                }
            },
        )
        .map_err(|e| Error::read(&path, span.start, e))
    }
}

fn pool() -> Pool {
    Pool::new(CHUNK_LEN, 2)
}

/// The record of the frame with which a part of a file begins.
fn read_record(
    file: &Arc<dyn File>,
    path: &Path,
    look: &LookOptions,
    part: Range<u64>,
) -> Result<Option<StoredRecord>> {
    let offset = part.start;
    let whole = whole_frame(file, part, look.max_frame_len, &pool());
    let whole = whole.map_err(|e| Error::read(path, offset, e))?;
    Ok(whole.map(|(scanner, found)| {
        let payload = scanner.slice(&found);
        let name = path.file_name().unwrap_or_default();
        StoredRecord {
            id: found.id,
            events: look.event_counter.count(found.metadata, &payload),
            metadata: found.metadata,
            payload,
            file_id: parse_file_name(name).unwrap_or(0),
            offset,
        }
    }))
}

/// The records of a buffer as they were when the export began. Each is a [`StoredRecord`]; of
/// one that was salvaged from the quarantine, `file_id` says nothing.
#[derive(Debug)]
pub struct Export {
    storage: Arc<dyn Storage>,
    look: LookOptions,
    records: Records,
    salvaged: std::iter::Peekable<std::vec::IntoIter<Salvaged>>,
    events_salvaged: u64,
    /// The next record of those that a reader gets, while salvaged ones come before it.
    waiting: Option<StoredRecord>,
    is_over: bool,
    done: u64,
    total: u64,
}

impl Export {
    /// The id of the last acknowledged event.
    pub fn acknowledged_id(&self) -> u64 {
        self.records.acknowledged_id()
    }

    /// The id that the next record of the buffer gets.
    pub fn next_record_id(&self) -> u64 {
        self.records.next_id()
    }

    /// The bytes of data files that were passed so far, and all that there are to pass.
    pub fn progress(&self) -> (u64, u64) {
        (self.done, self.total)
    }

    /// The events that were salvaged: each is missing to a reader.
    pub fn events_salvaged(&self) -> u64 {
        self.events_salvaged
    }

    /// What was skipped so far, as [`Records::lost`] says, less what was salvaged.
    pub fn lost(&self) -> Skipped {
        let mut lost = self.records.lost();
        lost.events = lost.events.saturating_sub(self.events_salvaged);
        lost
    }

    fn advance(&mut self) -> Result<Option<StoredRecord>> {
        if self.waiting.is_none() && !self.is_over {
            self.waiting = self.records.next().transpose()?;
            self.is_over = self.waiting.is_none();
        }
        let is_before = |salvaged: &Salvaged| {
            let waiting = self.waiting.as_ref();
            waiting.is_none_or(|record| salvaged.id < record.id)
        };
        if let Some(salvaged) = self.salvaged.next_if(is_before) {
            let path = &salvaged.path;
            let record = match open_data_file(&*self.storage, path)? {
                Some(file) => {
                    let part = salvaged.offset..salvaged.end;
                    read_record(&file, path, &self.look, part)?
                }
                None => None,
            };
            return match record.filter(|record| record.id == salvaged.id) {
                Some(record) => Ok(Some(record)),
                None => Err(Error::read(
                    path,
                    salvaged.offset,
                    std::io::Error::other("a record that was there is gone"),
                )),
            };
        }
        let record = self.waiting.take();
        if let Some(record) = &record {
            self.done = self.records.end_of(record);
        } else {
            self.done = self.total;
        }
        Ok(record)
    }
}

impl Iterator for Export {
    type Item = Result<StoredRecord>;

    /// The next record. The export ends with the first error.
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.is_over = true;
            self.waiting = None;
            self.salvaged = Vec::new().into_iter().peekable();
        }
        next
    }
}

impl std::iter::FusedIterator for Export {}
