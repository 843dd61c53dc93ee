//! Makes a new buffer of records that are pushed in the order of their ids, which stay.
//!
//! Invariants:
//! - The directory holds no buffer of these records until [`NewBuffer::finish`] installs all of
//!   it at once: a crash leaves what was there before, the new buffer, or a state that the next
//!   opening finishes (`directory/install.rs`).
//! - Nothing is installed over a buffer that has unread events, and no id is given out again.
//! - Every file is synced and read back before it is installed. The lock is held all the time.
//! - The ledger fits the records so that every reader of the format meets each unread record:
//!   its last id ends an acknowledged record that is there, or lies right before the first record.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::staged::StagedFile;
use crate::buffer::take_lock;
use crate::counter::EventCounter;
use crate::directory::install::{self, Installation, List, MISSING_MAX, Out};
use crate::directory::recovery::{self, create, look, plan};
use crate::directory::survey::{DEFAULT_MAX_FRAME_LEN, Survey};
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id::{LEDGER_FILE_NAME, MAX_FILE_ID, file_name};
use crate::format::ledger::{LedgerState, RECORD_ID_LIMIT};
use crate::format::record::{MAX_RECORD_ID, frame_len};
use crate::storage::{Lock, Storage};
use crate::write::side::synced_mark;

/// A buffer that is being made.
#[derive(Debug)]
pub(crate) struct NewBuffer {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    data_file_size: u64,
    /// The events up to this id are acknowledged.
    acknowledged: u64,
    /// What was there before: files to move away, and the id that it would give out next.
    old: Vec<Out>,
    old_next_id: u64,
    /// The file that is written now, and its length.
    file: Option<(StagedFile, u64)>,
    built: Built,
    last_id: u64,
    /// The id after the events of the records so far.
    expected: Option<u64>,
    /// The id after the last acknowledged record of those that are here.
    acknowledged_next: Option<u64>,
    /// The first record that is not acknowledged.
    first_unread: Option<u64>,
    is_installed: bool,
    _lock: Box<dyn Lock>,
}

/// What a new buffer holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Built {
    /// The records, with those that are acknowledged.
    pub(crate) records: u64,
    /// Their events.
    pub(crate) events: u64,
    /// The bytes of the data files.
    pub(crate) bytes: u64,
    /// The data files.
    pub(crate) files: u32,
    /// The ids that no record covers, each range half open. They are noted as reported, so that
    /// `verify` does not report them again. At most about a million ranges.
    pub(crate) missing: Vec<Range<u64>>,
}

impl NewBuffer {
    /// Begins a buffer in `dir`, which is created if it is missing. The events up to the id
    /// `acknowledged` count as acknowledged. A data file gets at most `data_file_size` bytes, or
    /// one record that is longer.
    ///
    /// # Errors
    /// [`ErrorKind::NotABuffer`] if `dir` holds something else; [`ErrorKind::Locked`] if a buffer
    /// there is open; [`ErrorKind::InvalidConfig`] if it has unread events; those of the storage.
    pub(crate) fn create(
        storage: Arc<dyn Storage>,
        dir: &Path,
        data_file_size: u64,
        acknowledged: u64,
    ) -> Result<Self> {
        recovery::prepare(&*storage, dir)?;
        let lock = take_lock(&*storage, dir)?;
        install::finish(&*storage, dir)?;
        let (old, old_next_id) = empty_buffer(&storage, dir)?;
        // Deletes what an earlier attempt has left.
        Installation::begin(&*storage, dir)?;
        Ok(Self {
            storage,
            dir: dir.to_owned(),
            data_file_size,
            acknowledged,
            old,
            old_next_id,
            file: None,
            built: Built::default(),
            last_id: 0,
            expected: None,
            acknowledged_next: None,
            first_unread: None,
            is_installed: false,
            _lock: lock,
        })
    }

    /// Adds a record. Ids rise; a gap is noted as missing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`] for an id that is not above the one before, that the buffer
    /// which was here has given out already, or that no record can have; those of the storage.
    pub(crate) fn push(
        &mut self,
        id: u64,
        metadata: u32,
        events: u64,
        payload: &[u8],
    ) -> Result<()> {
        let least = self.old_next_id.max(self.last_id + 1);
        if !(least..=MAX_RECORD_ID).contains(&id) {
            return Err(self.wrong_id(id, least));
        }
        let next_id = id.saturating_add(events.max(1)).min(RECORD_ID_LIMIT - 1);
        self.note_gap_before(id);
        if next_id > self.acknowledged.saturating_add(1) {
            self.first_unread.get_or_insert(id);
        } else {
            self.acknowledged_next = Some(next_id);
        }
        let len = frame_len(payload.len()) as u64;
        if let Some((file, _)) = self
            .file
            .take_if(|(_, file_len)| *file_len + len > self.data_file_size)
        {
            file.finish()?;
        }
        let (file, file_len) = match self.file.take() {
            Some(file) => self.file.insert(file),
            None => {
                let file = self.new_file()?;
                self.file.insert((file, 0))
            }
        };
        file.push(id, metadata, payload)?;
        *file_len += len;
        self.last_id = id;
        self.expected = Some(self.expected.unwrap_or(0).max(next_id));
        self.built.records += 1;
        self.built.events += events;
        self.built.bytes += len;
        Ok(())
    }

    /// Whether the buffer that was here before has given out this id.
    pub(crate) fn was_given_out(&self, id: u64) -> bool {
        id < self.old_next_id
    }

    /// Installs the buffer. Its next record gets the id `next_id`, or a higher one that follows
    /// the records. If this fails after the installation began, the next opening finishes it.
    ///
    /// # Errors
    /// Those of the storage.
    pub(crate) fn finish(mut self, next_id: u64) -> Result<Built> {
        if next_id > MAX_RECORD_ID {
            let message = format!(
                "the next record id is said to be {next_id}, and ids end at {MAX_RECORD_ID}; nothing \
                 was changed"
            );
            let kind = ErrorKind::InvalidRecord;
            return Err(Error::with_path(kind, &self.dir, message));
        }
        let next_id = next_id
            .max(self.old_next_id)
            .max(self.expected.unwrap_or(1))
            .min(RECORD_ID_LIMIT - 1);
        self.note_gap_before(next_id);
        let file = match self.file.take() {
            Some((file, _)) => file,
            None => self.new_file()?,
        };
        file.finish()?;
        // Readers of the format that have not read a record up to the last id go on to read one
        // and take it for acknowledged. So the last id ends a record that is there, or no record
        // comes before it. They begin at the first file, because nobody else deletes it.
        let last_id = self
            .acknowledged_next
            .or(self.first_unread)
            .unwrap_or(next_id)
            - 1;
        let ledger = LedgerState {
            writer_next_record_id: next_id,
            // At least one file was made.
            writer_file_id: u16::try_from(self.built.files - 1).unwrap_or(MAX_FILE_ID),
            reader_file_id: 0,
            reader_last_record_id: last_id,
        };
        let storage = Arc::clone(&self.storage);
        let installation = Installation::resume(&*storage, &self.dir)?;
        let path = installation.path_of_new(LEDGER_FILE_NAME);
        create(&*storage, &path, &ledger.to_bytes())?;
        synced_mark::forget(&*storage, &self.dir)?;
        self.is_installed = true;
        installation.install(&List {
            out: std::mem::take(&mut self.old),
            missing: self.built.missing.clone(),
        })?;
        Ok(std::mem::take(&mut self.built))
    }

    fn new_file(&mut self) -> Result<StagedFile> {
        let id = u16::try_from(self.built.files).ok();
        let Some(id) = id.filter(|id| *id <= MAX_FILE_ID) else {
            let message = format!(
                "{} would get more than {} data files of {} bytes; nothing was changed: allow \
                 larger data files",
                self.dir.display(),
                u32::from(MAX_FILE_ID) + 1,
                self.data_file_size
            );
            let kind = ErrorKind::InvalidConfig;
            return Err(Error::with_path(kind, &self.dir, message));
        };
        self.built.files += 1;
        let installation = Installation::resume(&*self.storage, &self.dir)?;
        StagedFile::create(&*self.storage, installation.path_of_new(&file_name(id)))
    }

    fn note_gap_before(&mut self, id: u64) {
        let acknowledged = self.acknowledged.saturating_add(1);
        let expected = self.expected.unwrap_or(acknowledged.min(id));
        if expected < id && self.built.missing.len() < MISSING_MAX {
            self.built.missing.push(expected..id);
        }
    }

    fn wrong_id(&self, id: u64, least: u64) -> Error {
        let why = match (id <= self.last_id, id < self.old_next_id) {
            (true, _) => format!(
                "ids rise, and the record before has the id {}",
                self.last_id
            ),
            (false, true) => format!(
                "the buffer in {} has given out the ids below {least}; use a new directory",
                self.dir.display()
            ),
            (false, false) => format!("ids are 1 to {MAX_RECORD_ID}"),
        };
        let message = format!("a record with the id {id} cannot be added: {why}");
        Error::with_path(ErrorKind::InvalidRecord, &self.dir, message)
    }
}

/// What is not finished is deleted, as well as that is possible; an opening deletes the rest.
impl Drop for NewBuffer {
    fn drop(&mut self) {
        if !self.is_installed {
            self.file = None;
            let _ = install::finish(&*self.storage, &self.dir);
        }
    }
}

/// The files of a buffer without unread events, which are to be moved away, and its next id.
fn empty_buffer(storage: &Arc<dyn Storage>, dir: &Path) -> Result<(Vec<Out>, u64)> {
    let counter = EventCounter::one();
    let survey = Survey::take(storage, dir, &counter, DEFAULT_MAX_FRAME_LEN)?;
    let facts = look(storage, survey, &counter, DEFAULT_MAX_FRAME_LEN)?;
    let opened = plan(&facts).recovered;
    let unread = opened.next_id.saturating_sub(opened.last_id + 1);
    if unread > 0 {
        let message = format!(
            "the buffer in {} holds {unread} unread events; nothing was changed: give a new \
             directory, or one whose buffer is empty",
            dir.display()
        );
        return Err(Error::with_path(ErrorKind::InvalidConfig, dir, message));
    }
    if let Some(id) = facts.survey.blocked.first() {
        let path = dir.join(file_name(*id));
        let message = format!(
            "{} is not a file, so no data file can have this name; nothing was changed: move it away, \
             or give another directory",
            path.display()
        );
        return Err(Error::with_path(ErrorKind::NotABuffer, &path, message));
    }
    let files = facts.survey.files.iter();
    let stale = facts.survey.stale.iter().map(|(file, _)| file);
    let out = |file: &crate::directory::survey::SurveyedFile| match file.len {
        0 => Out::Delete { name: file.name() },
        _ => Out::Keep { name: file.name() },
    };
    let mut old: Vec<Out> = files.chain(stale).map(out).collect();
    old.push(Out::Delete {
        name: LEDGER_FILE_NAME.to_owned(),
    });
    Ok((old, opened.next_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::directory::records::{RecordsOptions, StoredRecord};
    use crate::directory::verify::{Verification, VerifyOptions};
    use crate::read::delivery::Item;
    use crate::storage::sim::Sim;

    const DIR: &str = "/buffer";
    const FILE_SIZE: u64 = 256;

    /// Id, metadata, events and payload.
    type Pushed = (u64, u32, u64, &'static [u8]);

    /// Gaps before, between and after; one record longer than a file; an empty payload.
    const RECORDS: [Pushed; 6] = [
        (3, 0, 1, b"three"),
        (4, 7, 1, b""),
        (9, 1, 3, b"nine, ten, eleven"),
        (12, 0, 1, &[7; 400]),
        (13, 0, 1, &[8; 100]),
        (20, 0, 1, &[9; 100]),
    ];
    const NEXT_ID: u64 = 24;

    fn counter() -> EventCounter {
        EventCounter::new(|metadata, _| if metadata == 1 { 3 } else { 1 })
    }

    fn build(sim: &Sim, acknowledged: u64) -> Result<Built> {
        let storage = Arc::new(sim.clone());
        let mut new = NewBuffer::create(storage, Path::new(DIR), FILE_SIZE, acknowledged)?;
        for (id, metadata, events, payload) in RECORDS {
            new.push(id, metadata, events, payload)?;
        }
        new.finish(NEXT_ID)
    }

    fn records(sim: &Sim, all: bool) -> Vec<Pushed> {
        let options = RecordsOptions::new().all(all).event_counter(counter());
        let records = options.storage(Arc::new(sim.clone())).records(DIR).unwrap();
        let of = |record: StoredRecord| {
            let pushed = RECORDS.iter().find(|pushed| pushed.0 == record.id).unwrap();
            assert_eq!(record.payload, pushed.3);
            (record.id, record.metadata, record.events, pushed.3)
        };
        records.map(|record| of(record.unwrap())).collect()
    }

    fn verify(sim: &Sim) -> Verification {
        let options = VerifyOptions::new().event_counter(counter());
        options.storage(Arc::new(sim.clone())).verify(DIR).unwrap()
    }

    #[test]
    fn records_keep_their_ids_and_the_gaps_are_normal() {
        for acknowledged in [0, 1, 2, 3, 4, 6, 11, 13, 15, 20, 23] {
            let sim = Sim::new();
            let built = build(&sim, acknowledged).unwrap();
            assert_eq!((built.records, built.events), (6, 8));
            assert_eq!(records(&sim, true), RECORDS, "{acknowledged}");
            let unread = RECORDS.into_iter().filter(|pushed| pushed.0 > acknowledged);
            let unread: Vec<Pushed> = unread.collect();
            assert_eq!(records(&sim, false), unread, "{acknowledged}");
            let verification = verify(&sim);
            assert!(verification.is_clean(), "{acknowledged}: {verification:?}");
            let ledger = sim.read_file(format!("{DIR}/buffer.db")).unwrap();
            let ledger = LedgerState::from_bytes(&ledger).unwrap();
            assert_eq!(ledger.writer_next_record_id, NEXT_ID);
            assert_eq!(ledger.reader_file_id, 0);
            assert_eq!(u32::from(ledger.writer_file_id) + 1, built.files);
            // It ends a record that is there, or lies right before the first one.
            let ends = RECORDS.map(|(id, _, events, _)| id + events - 1);
            let last = ledger.reader_last_record_id;
            assert!(ends.contains(&last) || last == 2, "{acknowledged}: {last}");
        }
    }

    #[test]
    fn a_buffer_without_records_gives_out_the_next_id() {
        let sim = Sim::new();
        let new = NewBuffer::create(Arc::new(sim.clone()), Path::new(DIR), FILE_SIZE, 5).unwrap();
        new.finish(9).unwrap();
        assert!(verify(&sim).is_clean());
        let config = Config::new(DIR).storage(Arc::new(sim));
        let (writer, _reader) = config.open().unwrap();
        let receipt = writer.append(b"next").unwrap();
        assert_eq!(receipt.id(), Some(9));
    }

    /// After a stop at any moment the directory holds nothing, and the buffer can be made, or it
    /// holds all of it once an opening has finished what was begun.
    #[test]
    fn a_crash_leaves_nothing_or_all_of_it() {
        let sim = Sim::new();
        sim.keep_history();
        build(&sim, 4).unwrap();
        let (mut without, mut with) = (0, 0);
        for operations in 0..=sim.operations() {
            for seed in 0..5 {
                let stopped = sim.at(operations).unwrap();
                let stopped = match seed {
                    0 => stopped.kill(),
                    seed => stopped.crash(seed - 1),
                };
                match build(&stopped, 4) {
                    Ok(_) => without += 1,
                    // The installation went on, or had ended.
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error:#}");
                        with += 1;
                    }
                }
                assert_eq!(records(&stopped, true), RECORDS, "{operations} {seed}");
                assert!(verify(&stopped).is_clean(), "{operations} {seed}");
            }
        }
        assert!(without > 50 && with > 20, "{without} {with}");
    }

    #[test]
    fn what_is_not_finished_leaves_no_records_and_no_files() {
        let sim = Sim::new();
        let storage = Arc::new(sim.clone());
        let mut new = NewBuffer::create(storage, Path::new(DIR), FILE_SIZE, 0).unwrap();
        new.push(5, 0, 1, &[1; 300]).unwrap();
        new.push(6, 0, 1, &[1; 300]).unwrap();
        let error = new.push(6, 0, 1, b"again").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRecord);
        drop(new);
        assert_eq!(sim.files(DIR), [("buffer.lock".to_owned(), 0)]);
        assert_eq!(sim.files(format!("{DIR}/repair")), []);
        build(&sim, 0).unwrap();
    }

    #[test]
    fn a_buffer_with_unread_events_is_refused_and_an_empty_one_filled_with_higher_ids() {
        let sim = Sim::new();
        let config = || Config::new(DIR).storage(Arc::new(sim.clone()));
        let (writer, mut reader) = config().open().unwrap();
        writer.append(b"one").unwrap();
        writer.append(b"two").unwrap();
        writer.close().unwrap();
        drop(reader.recv());
        reader.close().unwrap();
        let error = build(&sim, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let (writer, mut reader) = config().open().unwrap();
        drop(writer);
        while let Some(Item::Record(delivery)) = reader.recv().unwrap() {
            delivery.ack();
        }
        reader.close().unwrap();
        let before = sim.read_file(format!("{DIR}/buffer-data-0.dat")).unwrap();
        let storage = Arc::new(sim.clone());
        let mut new = NewBuffer::create(storage, Path::new(DIR), FILE_SIZE, 0).unwrap();
        let error = new.push(2, 0, 1, b"an id that was given out").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRecord);
        drop(new);
        let after = sim.read_file(format!("{DIR}/buffer-data-0.dat")).unwrap();
        assert_eq!(after, before);
        build(&sim, 0).unwrap();
        assert_eq!(records(&sim, false), RECORDS);
        assert!(verify(&sim).is_clean());
    }
}
