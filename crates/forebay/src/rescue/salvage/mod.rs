//! Salvages what is left of buffers: every record that checks out goes to a new buffer.
//!
//! Invariants:
//! - The sources are only read.
//! - The records come in the order of their ids, each once. Two records with the same id and
//!   different contents are both kept under new ids, or nothing is written.
//! - Acknowledged records are left out where a ledger says which these are.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::runs::{Copy, Known, Runs};
use crate::config::Config;
use crate::counter::EventCounter;
use crate::directory::install::{self, REPAIR_DIR_NAME};
use crate::directory::options::{LookOptions, look_options};
use crate::directory::quarantine::QUARANTINE_DIR_NAME;
use crate::directory::recovery;
use crate::directory::survey::Survey;
use crate::error::{Error, ErrorKind, Result};
use crate::rescue::pieces::may_hold_records;
use crate::rescue::target::Target;
use crate::rescue::{SPARE_LEN, free_bytes, is_same, size};
use crate::storage::{Access, Entry, Storage, uninterrupted};

mod runs;

/// At most this many conflicts are listed.
const LISTED_MAX: usize = 1 << 16;

/// How often progress is reported, in bytes.
const PROGRESS_STEP: u64 = 4 << 20;

/// How to salvage: options in the manner of [`std::fs::OpenOptions`], ended by
/// [`plan`](Self::plan) or [`salvage`](Self::salvage).
///
/// ```
/// use forebay::SalvageOptions;
///
/// # let scratch = tempfile::tempdir()?;
/// # let (old, new) = (scratch.path().join("old"), scratch.path().join("new"));
/// # let (writer, reader) = forebay::Config::new(&old).open()?;
/// # writer.append(b"a record")?;
/// # drop(writer);
/// # reader.close()?;
/// let salvage = SalvageOptions::new().salvage(&[&old], &new)?;
/// assert_eq!(salvage.records, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct SalvageOptions<'p> {
    look: LookOptions,
    acknowledged: bool,
    renumber: bool,
    data_file_size: Option<u64>,
    progress: Progress<'p>,
}

impl fmt::Debug for SalvageOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SalvageOptions")
            .field("look", &self.look)
            .field("acknowledged", &self.acknowledged)
            .field("renumber", &self.renumber)
            .field("data_file_size", &self.data_file_size)
            .finish_non_exhaustive()
    }
}

/// What was found in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvagedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// The records that check out and are not acknowledged.
    pub records: u64,
    /// The records that were left out because a ledger says that they are acknowledged.
    pub acknowledged: u64,
    /// Its bytes that are no record.
    pub damaged_bytes: u64,
}

/// Two records with the same id and different contents.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The id.
    pub id: u64,
    /// The files in which they are, and where their frames begin there.
    pub places: [(PathBuf, u64); 2],
}

/// What a salvage found, and wrote or would write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvage {
    /// The files that were read, in the order of the sources.
    pub files: Vec<SalvagedFile>,
    /// The records of the new buffer.
    pub records: u64,
    /// Their events.
    pub events: u64,
    /// Further copies of these records, which are left out.
    pub repeated: u64,
    /// How many records have the id of another one and different contents.
    pub conflicts: u64,
    /// The first of these.
    pub conflicts_listed: Vec<Conflict>,
    /// The ids that are missing between the records, each range half open; without renumbering.
    pub missing: Vec<Range<u64>>,
    /// The bytes of the new buffer's data files.
    pub bytes: u64,
    /// The id that the next record of the new buffer gets.
    pub next_id: u64,
    /// Whether the new buffer was there already, with the same records.
    pub was_there: bool,
    /// No record of the new buffer has this id or a lower one, and none is missing there.
    last_id: u64,
}

impl<'p> SalvageOptions<'p> {
    /// The defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    look_options!();

    /// Whether records that a ledger says are acknowledged are taken as well. Default: no.
    #[must_use]
    pub fn acknowledged(mut self, acknowledged: bool) -> Self {
        self.acknowledged = acknowledged;
        self
    }

    /// Gives all records new ids that follow one another. Two records with the same id and
    /// different contents are then both kept. Default: no.
    #[must_use]
    pub fn renumber(mut self, renumber: bool) -> Self {
        self.renumber = renumber;
        self
    }

    /// The most that one data file of the new buffer holds, in bytes, unless one record is longer.
    /// Default: [`Config::DEFAULT_MAX_DATA_FILE_SIZE`](crate::Config::DEFAULT_MAX_DATA_FILE_SIZE).
    #[must_use]
    pub fn data_file_size(mut self, bytes: u64) -> Self {
        self.data_file_size = Some(bytes);
        self
    }

    /// A function that is called from time to time with the bytes read so far and their total.
    /// Default: none.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(u64, u64) + 'p) -> Self {
        self.progress.call = Some(Box::new(progress));
        self
    }

    /// Looks what a salvage would write, and writes nothing.
    ///
    /// A source is the directory of a buffer in any state (its data files, what an interrupted
    /// repair has left, and what lies in its quarantine), or a single file.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] if a buffer among the sources is open; otherwise those of reading.
    /// Damage is no error.
    pub fn plan<P: AsRef<Path>>(mut self, sources: &[P]) -> Result<Salvage> {
        self.look(sources).map(|(_, salvage)| salvage)
    }

    /// Writes everything that checks out to a new buffer in `to`: a directory that is missing or
    /// empty, or holds an empty buffer. A kill or a power cut leaves no buffer there, or the whole
    /// one, or a state that the next opening finishes. To salvage the same again is no error: if
    /// the buffer is there with the same records, nothing is changed.
    ///
    /// # Errors
    /// As [`plan`](Self::plan); before anything is written, [`ErrorKind::InvalidRecord`] if records
    /// have the same id and different contents, except with [`renumber`](Self::renumber), and
    /// [`ErrorKind::DiskFull`] if there is not enough space; those of the new buffer.
    pub fn salvage<P: AsRef<Path>>(
        mut self,
        sources: &[P],
        to: impl AsRef<Path>,
    ) -> Result<Salvage> {
        let to = to.as_ref();
        let storage = self.look.storage();
        let is_target = |source: &&P| is_same(&self.look, source.as_ref(), to);
        if let Some(source) = sources.iter().find(is_target) {
            return Err(is_a_source(source.as_ref()));
        }
        let (mut runs, mut salvage) = self.look(sources)?;
        if salvage.conflicts > 0 && !self.renumber {
            return Err(has_conflicts(&salvage, to));
        }
        let size = self.data_file_size;
        let size = size.unwrap_or(Config::DEFAULT_MAX_DATA_FILE_SIZE);
        let mut new = Target::create(&storage, to, size, salvage.last_id)?;
        if !new.is_there() {
            refuse_without_space(&*storage, to, salvage.bytes)?;
        }
        let mut track = Track::new(self.renumber, &self.look.event_counter);
        runs.merge(|_, copies| {
            track.each(copies, |id, copy, events| {
                new.push(id, copy.metadata, events, &copy.payload)
            })?;
            self.progress.at(track.bytes, salvage.bytes);
            Ok(())
        })?;
        salvage.was_there = new.finish(salvage.next_id)?.was_there;
        Ok(salvage)
    }

    /// Reads the sources, and decides what the new buffer holds.
    fn look<P: AsRef<Path>>(&mut self, sources: &[P]) -> Result<(Runs, Salvage)> {
        let storage = self.look.storage();
        let mut found = Sources::default();
        for source in sources {
            found.add(&storage, source.as_ref(), &self.look)?;
        }
        let counter = self.look.event_counter.clone();
        let mut runs = Runs::new(storage, counter.clone(), self.look.max_frame_len);
        let mut salvage = Salvage::default();
        let mut read = 0;
        for (path, mut known) in found.files {
            if self.acknowledged {
                known.acknowledged = 0;
            }
            let tally = runs.take(path.clone(), known, |at| {
                self.progress.at(read + at, found.bytes);
            })?;
            read += tally.bytes;
            salvage.files.push(SalvagedFile {
                path,
                bytes: tally.bytes,
                records: tally.records,
                acknowledged: tally.acknowledged,
                damaged_bytes: tally.damaged_bytes,
            });
        }
        let mut track = Track::new(self.renumber, &counter);
        if !self.renumber && !self.acknowledged {
            track.expected = found.last_id.map(|id| id.saturating_add(1));
        }
        runs.merge(|runs, copies| {
            let versions = versions(copies);
            salvage.repeated += (copies.len() - versions.len()) as u64;
            for version in &versions[1..] {
                salvage.conflicts += 1;
                if salvage.conflicts_listed.len() < LISTED_MAX {
                    let place = |copy: &Copy| (runs.path(copy.place.0).to_owned(), copy.place.1);
                    let (id, places) = (version.id, [place(versions[0]), place(version)]);
                    salvage.conflicts_listed.push(Conflict { id, places });
                }
            }
            track.each(copies, |_, _, _| Ok(()))?;
            salvage.missing.extend(track.gap.take());
            self.progress.at(track.bytes, found.bytes);
            Ok(())
        })?;
        let next_id = track.expected.unwrap_or(1);
        salvage.next_id = match self.renumber {
            true => next_id,
            false => next_id.max(found.next_id),
        };
        if salvage.next_id > next_id && found.last_id.is_some() {
            salvage.missing.push(next_id..salvage.next_id);
        }
        salvage.records = track.records;
        salvage.events = track.events;
        salvage.bytes = track.bytes;
        salvage.last_id = match track.first_id {
            Some(id) => found.last_id.unwrap_or(id).min(id - 1),
            None => salvage.next_id - 1,
        };
        Ok((runs, salvage))
    }
}

/// Tells the caller how far the work is.
#[derive(Default)]
struct Progress<'p> {
    call: Option<Box<dyn FnMut(u64, u64) + 'p>>,
    /// The bytes at the last call.
    reported: u64,
}

impl Progress<'_> {
    fn at(&mut self, done: u64, total: u64) {
        let Some(call) = &mut self.call else {
            return;
        };
        if done < self.reported || done >= self.reported + PROGRESS_STEP {
            self.reported = done;
            call(done.min(total), total);
        }
    }
}

/// The files of the sources, with what is known of their records.
#[derive(Default)]
struct Sources {
    files: Vec<(PathBuf, Known)>,
    bytes: u64,
    /// The lowest id that a ledger says is the last acknowledged one.
    last_id: Option<u64>,
    /// The highest id that a ledger says is the next one.
    next_id: u64,
}

impl Sources {
    fn add(&mut self, storage: &Arc<dyn Storage>, source: &Path, look: &LookOptions) -> Result<()> {
        let before = self.files.len();
        let entries = match uninterrupted(|| storage.list(source)) {
            Err(e) if is_no_directory(&e) => {
                return self.add_file(storage, source.to_owned(), Known::default());
            }
            entries => entries.map_err(|e| Error::io("list the directory", source, e))?,
        };
        if look.is_open_elsewhere(source)? {
            return Err(Error::with_path(
                ErrorKind::Locked,
                source,
                format!(
                    "the buffer in {} is open; close it first, because what it delivers while it \
                     is salvaged would be delivered twice",
                    source.display()
                ),
            ));
        }
        let is_unfinished = install::is_unfinished(&**storage, source)?;
        if is_unfinished && install::can_be_finished(&**storage, source)? {
            return Err(Error::with_path(
                ErrorKind::Locked,
                source,
                format!(
                    "files of the buffer in {} were being replaced, by a repair or a move to it, and \
                     that was interrupted; open the buffer (or a copy of the directory), which \
                     finishes it, and salvage then; or give its data files and the directories \
                     in its repair/ as sources",
                    source.display()
                ),
            ));
        }
        let ledger = match is_unfinished {
            // The ledger may be on its way.
            true => None,
            false => Ledger::of(storage, source, look)?,
        };
        let known = ledger.map_or_else(Known::default, |ledger| ledger.known);
        if let Some(ledger) = ledger {
            let last_id = known.acknowledged;
            self.last_id = Some(self.last_id.map_or(last_id, |id| id.min(last_id)));
            self.next_id = self.next_id.max(ledger.next_id);
        }
        self.add_data_files(storage, source, &entries, known)?;
        for entry in &entries {
            let dir = source.join(&entry.name);
            match entry.name.to_str() {
                Some(QUARANTINE_DIR_NAME) => self.add_files_of(storage, &dir, known)?,
                // What a damaged list does not tell: some files are there, and some in the place
                // of the last original.
                Some(REPAIR_DIR_NAME) if is_unfinished => {
                    let numbers = list(storage, &dir)?.into_iter();
                    let numbers = numbers.filter_map(|entry| entry.name.to_str()?.parse().ok());
                    if let Some(number) = numbers.max() {
                        let number: u32 = number;
                        self.add_files_of(storage, &dir.join(number.to_string()), known)?;
                    }
                    self.add_files_of(storage, &dir, known)?;
                }
                _ => {}
            }
        }
        if self.files.len() > before || ledger.is_some() {
            return Ok(());
        }
        Err(Error::with_path(
            ErrorKind::NotABuffer,
            source,
            format!(
                "{} holds no data file, and no piece of one; check the path: give the directory \
                 of a buffer, or a file",
                source.display()
            ),
        ))
    }

    fn add_files_of(&mut self, storage: &Arc<dyn Storage>, dir: &Path, known: Known) -> Result<()> {
        let entries = list(storage, dir)?;
        self.add_data_files(storage, dir, &entries, known)
    }

    /// Adds the data files and the pieces of data files of a directory.
    fn add_data_files(
        &mut self,
        storage: &Arc<dyn Storage>,
        dir: &Path,
        entries: &[Entry],
        known: Known,
    ) -> Result<()> {
        let is_data = |entry: &&Entry| entry.is_file && may_hold_records(&entry.name);
        for entry in entries.iter().filter(is_data) {
            self.add_file(storage, dir.join(&entry.name), known)?;
        }
        Ok(())
    }

    fn add_file(&mut self, storage: &Arc<dyn Storage>, path: PathBuf, known: Known) -> Result<()> {
        let file = uninterrupted(|| storage.open(&path, Access::Read));
        let file = file.map_err(|e| Error::io("open", &path, e))?;
        let len = uninterrupted(|| file.len()).map_err(|e| Error::io("look at", &path, e))?;
        self.bytes += len;
        self.files.push((path, known));
        Ok(())
    }
}

fn is_no_directory(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::NotADirectory | io::ErrorKind::NotFound
    )
}

/// What a believed ledger says.
#[derive(Debug, Clone, Copy)]
struct Ledger {
    known: Known,
    next_id: u64,
}

impl Ledger {
    fn of(storage: &Arc<dyn Storage>, dir: &Path, look: &LookOptions) -> Result<Option<Self>> {
        let (counter, max_frame_len) = (&look.event_counter, look.max_frame_len);
        let survey = Survey::take(storage, dir, counter, max_frame_len)?;
        let facts = recovery::look(storage, survey, counter, max_frame_len)?;
        if facts.believed_ledger().is_none() {
            return Ok(None);
        }
        let unread = facts.unread();
        Ok(Some(Self {
            known: Known {
                written_to: unread.written_to,
                acknowledged: unread.last_id,
            },
            next_id: unread.limit,
        }))
    }
}

/// The entries of a directory; none if it is something else.
fn list(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Vec<Entry>> {
    match uninterrupted(|| storage.list(dir)) {
        Err(e) if is_no_directory(&e) => Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io("list the directory", dir, e)),
    }
}

/// Gives each record its id, and counts.
struct Track<'c> {
    renumber: bool,
    counter: &'c EventCounter,
    /// The id after the events of the records so far; `None` until something says where they begin.
    expected: Option<u64>,
    first_id: Option<u64>,
    records: u64,
    events: u64,
    bytes: u64,
    /// The ids that are missing before the last record.
    gap: Option<Range<u64>>,
}

impl<'c> Track<'c> {
    fn new(renumber: bool, counter: &'c EventCounter) -> Self {
        Self {
            renumber,
            counter,
            expected: renumber.then_some(1),
            first_id: None,
            records: 0,
            events: 0,
            bytes: 0,
            gap: None,
        }
    }

    /// Calls `take` with what the new buffer gets of these copies of one record: its id, the copy
    /// and its events.
    fn each(
        &mut self,
        copies: &[Copy],
        mut take: impl FnMut(u64, &Copy, u64) -> Result<()>,
    ) -> Result<()> {
        for copy in versions(copies) {
            let events = self.counter.count(copy.metadata, &copy.payload);
            let expected = self.expected.unwrap_or(copy.id);
            let id = if self.renumber { expected } else { copy.id };
            self.gap = (expected < id).then_some(expected..id);
            self.expected = Some(expected.max(id.saturating_add(events)));
            self.first_id.get_or_insert(id);
            self.records += 1;
            self.events += events;
            self.bytes += copy.frame_len;
            take(id, copy, events)?;
            if !self.renumber {
                break;
            }
        }
        Ok(())
    }
}

/// The different contents among the copies of a record, in the order of the sources; at least one.
fn versions(copies: &[Copy]) -> Vec<&Copy> {
    let mut versions: Vec<&Copy> = Vec::new();
    for copy in copies {
        if !versions.iter().any(|version| version.is_same_as(copy)) {
            versions.push(copy);
        }
    }
    versions
}

fn has_conflicts(salvage: &Salvage, to: &Path) -> Error {
    let first = salvage.conflicts_listed.first();
    let first = first.map_or_else(String::new, |conflict| {
        let [(one, at), (other, other_at)] = &conflict.places;
        format!(
            ", the first with the id {} in {} at {at} and in {} at {other_at}",
            conflict.id,
            one.display(),
            other.display()
        )
    });
    Error::with_path(
        ErrorKind::InvalidRecord,
        to,
        format!(
            "{} the id of another record and different contents{first}; nothing was written: give \
             all records new ids, or salvage sources of different buffers one by one",
            match salvage.conflicts {
                1 => "1 record has".to_owned(),
                records => format!("{records} records have"),
            }
        ),
    )
}

fn is_a_source(dir: &Path) -> Error {
    let message = format!(
        "{} is a source and cannot be the new buffer as well; give another directory, or repair \
         the buffer instead",
        dir.display()
    );
    Error::with_path(ErrorKind::InvalidConfig, dir, message)
}

fn refuse_without_space(storage: &dyn Storage, to: &Path, bytes: u64) -> Result<()> {
    let needed = bytes + SPARE_LEN;
    let Some(free) = free_bytes(storage, to)?.filter(|free| *free < needed) else {
        return Ok(());
    };
    Err(Error::with_path(
        ErrorKind::DiskFull,
        to,
        format!(
            "the new buffer in {} needs {} and {} are free; nothing was written; free some space, \
             or give a directory on another disk",
            to.display(),
            size(needed),
            size(free)
        ),
    ))
}
