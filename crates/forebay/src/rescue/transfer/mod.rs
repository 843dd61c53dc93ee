//! Takes records from one buffer to another: moves them, or copies them.
//!
//! Invariants:
//! - A record is acknowledged in the one buffer only after it is synced in the other.
//! - The other buffer gets records and the note of what was taken at once (`rescue/addition.rs`).
//!   So after a kill or a power cut at any moment, and whatever other processes do with it before
//!   the next attempt, no record is lost and none is taken twice.
//! - Only synced records are moved: what a power cut takes back is not taken yet.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use self::notes::{Judgement, Notes, identities};
use self::source::{Record, Source};
use super::addition::Addition;
use super::{SPARE_LEN, free_bytes, is_same, size};
use crate::buffer::take_lock;
use crate::config::{Config, OnCorruption};
use crate::counter::EventCounter;
use crate::directory::install::{self, IDENTITY_FILE_NAME, TRANSFERS_FILE_NAME};
use crate::directory::options::{LookOptions, look_options};
use crate::directory::recovery::prepare;
use crate::directory::survey::Survey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id::is_buffer_file;
use crate::format::record::frame_len;
use crate::read::delivery::Ack;
use crate::state::lost::Lost;
use crate::storage::{Lock, Storage, uninterrupted};

mod notes;
mod source;

/// At most this many records are taken before they are synced and acknowledged together.
const WINDOW_RECORDS: u64 = 1 << 17;

/// Makes another record of one: gets id, metadata and payload, and gives metadata and payload, or
/// says what is wrong.
type Change<'p> = Box<dyn FnMut(u64, u32, &Bytes) -> Result<(u32, Bytes), String> + 'p>;

/// Is told what was done so far, and says whether to go on.
type Watch<'p> = Box<dyn FnMut(&Transfer) -> ControlFlow<()> + 'p>;

/// Is told of each loss.
type TellLost<'p> = Box<dyn FnMut(&Lost) + 'p>;

/// How to move, copy or discard records: options in the manner of [`std::fs::OpenOptions`], ended by
/// [`move_records`](Self::move_records), [`copy_records`](Self::copy_records) or
/// [`discard_records`](Self::discard_records).
///
/// Records get new ids in the buffer that they are taken to, after those that are there. That
/// buffer notes what was taken from which other buffer, so an interrupted transfer goes on where it
/// was when it is made again.
///
/// ```
/// use forebay::{Config, TransferOptions};
///
/// # let scratch = tempfile::tempdir()?;
/// # let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
/// # let (writer, reader) = Config::new(&from).open()?;
/// # writer.append(b"a record")?;
/// # drop(writer);
/// # reader.close()?;
/// let transfer = TransferOptions::new().move_records(&from, &to)?;
/// assert_eq!(transfer.records, 1);
/// assert_eq!(TransferOptions::new().move_records(&from, &to)?.records, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TransferOptions<'p> {
    look: LookOptions,
    to_counter: Option<EventCounter>,
    on_corruption: OnCorruption,
    max_records: u64,
    before: u64,
    max_size: u64,
    data_file_size: u64,
    change: Option<Change<'p>>,
    watch: Option<Watch<'p>>,
    tell_lost: TellLost<'p>,
}

impl fmt::Debug for TransferOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransferOptions")
            .field("look", &self.look)
            .field("to_counter", &self.to_counter)
            .field("on_corruption", &self.on_corruption)
            .field("max_records", &self.max_records)
            .field("before", &self.before)
            .field("max_size", &self.max_size)
            .field("data_file_size", &self.data_file_size)
            .finish_non_exhaustive()
    }
}

impl Default for TransferOptions<'_> {
    fn default() -> Self {
        Self {
            look: LookOptions::default(),
            to_counter: None,
            on_corruption: OnCorruption::Quarantine,
            max_records: u64::MAX,
            before: u64::MAX,
            max_size: u64::MAX,
            data_file_size: Config::DEFAULT_MAX_DATA_FILE_SIZE,
            change: None,
            watch: None,
            tell_lost: Box::new(|_| ()),
        }
    }
}

/// What a transfer did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transfer {
    /// The records that were taken.
    pub records: u64,
    /// Their events.
    pub events: u64,
    /// The bytes of their payloads, as they were taken.
    pub bytes: u64,
    /// The records that an earlier, interrupted transfer had taken.
    pub taken_before: u64,
    /// The events that are lost in the buffer they should have come from.
    pub events_lost: u64,
    /// Of the records above, those that are synced in the other buffer; all of them in the end.
    pub synced: u64,
    /// Whether all records were taken, not only some because of a limit or a request to stop.
    pub is_complete: bool,
}

impl<'p> TransferOptions<'p> {
    /// The defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    look_options!();

    /// How many events a record holds in the buffer that the records are taken to. Default: as in
    /// the one that they come from.
    #[must_use]
    pub fn event_counter_of_target(mut self, counter: EventCounter) -> Self {
        self.to_counter = Some(counter);
        self
    }

    /// What to do with damage in the buffer that records are moved out of. Default:
    /// [`OnCorruption::Quarantine`].
    #[must_use]
    pub fn on_corruption(mut self, policy: OnCorruption) -> Self {
        self.on_corruption = policy;
        self
    }

    /// The most records to take. Default: all.
    #[must_use]
    pub fn max_records(mut self, records: u64) -> Self {
        self.max_records = records;
        self
    }

    /// Takes only the records with ids below this one. Default: all.
    #[must_use]
    pub fn before(mut self, id: u64) -> Self {
        self.before = id;
        self
    }

    /// The most bytes that the data files of the buffer may have to which the records are taken.
    /// Default: no limit.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// The most that one data file holds, in bytes, unless one record is longer. Default:
    /// [`Config::DEFAULT_MAX_DATA_FILE_SIZE`].
    #[must_use]
    pub fn data_file_size(mut self, bytes: u64) -> Self {
        self.data_file_size = bytes;
        self
    }

    /// A function that makes another record of each one: it gets id, metadata and payload, and
    /// gives metadata and payload, or says what is wrong, which ends the transfer before that
    /// record. It may be called again for the same record after an interruption. Default: none.
    #[must_use]
    pub fn change(
        mut self,
        change: impl FnMut(u64, u32, &Bytes) -> Result<(u32, Bytes), String> + 'p,
    ) -> Self {
        self.change = Some(Box::new(change));
        self
    }

    /// A function that is called after each record. If it breaks, what was taken so far is synced,
    /// and the transfer ends. Default: none.
    #[must_use]
    pub fn on_progress(mut self, watch: impl FnMut(&Transfer) -> ControlFlow<()> + 'p) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// A function that is called with each loss that is met in the buffer out of which records are
    /// moved or discarded. Nothing tells of it afterwards. Default: none.
    #[must_use]
    pub fn on_lost(mut self, tell: impl FnMut(&Lost) + 'p) -> Self {
        self.tell_lost = Box::new(tell);
        self
    }

    /// Moves the unread records of the buffer in `from` to the end of the one in `to`, which is
    /// made if it is missing. They are acknowledged in `from` once they are synced in `to`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] if both are one directory; [`ErrorKind::Locked`] if one of the
    /// buffers is open; [`ErrorKind::NotABuffer`] if there is
    /// none in `from`, or something else in `to`; [`ErrorKind::Full`] and [`ErrorKind::DiskFull`]
    /// if `to` has no room for all; [`ErrorKind::InvalidRecord`] if a record cannot be changed;
    /// [`ErrorKind::Corrupt`] if records that were taken are not those of `from`. After an error,
    /// what was taken is synced and acknowledged or still unread in `from`, and the transfer can be
    /// made again.
    pub fn move_records(self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Transfer> {
        let from = from.as_ref();
        let storage = self.look.storage();
        Survey::require(&*storage, from)?;
        if is_same(&self.look, from, to.as_ref()) {
            return Err(is_the_same(from));
        }
        // A buffer in use is refused before anything is made in `to`.
        drop(take_lock(&*storage, from)?);
        let to = Target::lock(&storage, to.as_ref())?;
        let source = Source::to_move(self.config(from))?;
        // Under the lock of the buffer.
        let identities = identities(&*storage, from)?;
        self.run(from, source, &identities, &to)
    }

    /// Copies the unread records of the buffer in `from`, which may be open elsewhere, to the end of
    /// the one in `to`, which is made if it is missing. What was copied before is not copied again.
    ///
    /// # Errors
    /// As [`move_records`](Self::move_records), but `from` is not locked.
    pub fn copy_records(self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Transfer> {
        let from = from.as_ref();
        let storage = self.look.storage();
        Survey::require(&*storage, from)?;
        if is_same(&self.look, from, to.as_ref()) {
            return Err(is_the_same(from));
        }
        let to = Target::lock(&storage, to.as_ref())?;
        let identities = identities(&*storage, from)?;
        let source = Source::to_copy(&self.look, from)?;
        self.run(from, source, &identities, &to)
    }

    /// Acknowledges the unread records of the buffer in `from` without taking them anywhere: they
    /// are gone. Give a limit, unless all are to go.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] if the buffer is open; [`ErrorKind::NotABuffer`] if there is none;
    /// those of opening and reading it.
    pub fn discard_records(mut self, from: impl AsRef<Path>) -> Result<Transfer> {
        let from = from.as_ref();
        Survey::require(&*self.look.storage(), from)?;
        let mut source = Source::to_move(self.config(from))?;
        let mut transfer = Transfer::default();
        let result = self.discard(&mut source, &mut transfer);
        transfer.synced = transfer.records;
        source.close()?;
        result.map(|()| transfer)
    }

    fn discard(&mut self, source: &mut Source, transfer: &mut Transfer) -> Result<()> {
        let mut acks = Vec::new();
        while transfer.records < self.max_records {
            let Some(record) = source.next(&mut transfer.events_lost, &mut self.tell_lost)? else {
                transfer.is_complete = true;
                break;
            };
            if record.id >= self.before {
                break;
            }
            transfer.records += 1;
            transfer.events += record.events;
            transfer.bytes += record.payload.len() as u64;
            acks.extend(record.ack);
            if acks.len() as u64 == WINDOW_RECORDS {
                source.acknowledge(std::mem::take(&mut acks))?;
            }
            if self.is_told_to_stop(transfer) {
                break;
            }
        }
        source.acknowledge(acks)
    }

    fn config(&self, from: &Path) -> Config {
        Config::new(from)
            .storage(self.look.storage())
            .event_counter(self.look.event_counter.clone())
            .on_corruption(self.on_corruption)
    }

    fn is_told_to_stop(&mut self, transfer: &Transfer) -> bool {
        let watch = self.watch.as_mut();
        watch.is_some_and(|watch| watch(transfer).is_break())
    }

    fn run(
        mut self,
        from: &Path,
        mut source: Source,
        identities: &[String],
        to: &Target<'_>,
    ) -> Result<Transfer> {
        let counter = self.to_counter.clone();
        let counter = counter.unwrap_or_else(|| self.look.event_counter.clone());
        let notes = Notes::read(&*to.storage, to.dir)?;
        // What was taken before this transfer; nothing else writes there meanwhile.
        let before = notes.of(identities);
        let mut taken = before.clone();
        let mut doubtful = Doubtful::default();
        // Whether a record was met that the source did not have when the notes were made.
        let mut is_another = false;
        let mut transfer = Transfer::default();
        let mut next = None;
        loop {
            let window_len = self.data_file_size.min(to.room()?);
            let mut addition = Addition::begin(&to.storage, to.dir, &counter)?;
            let (mut records, mut acks) = (0, Vec::new());
            let end = loop {
                if transfer.records >= self.max_records {
                    break End::Limit;
                }
                let record = match next.take() {
                    Some(record) => record,
                    None => match source.next(&mut transfer.events_lost, &mut self.tell_lost) {
                        Ok(Some(record)) => record,
                        Ok(None) => break End::Complete,
                        Err(error) => break End::Error(error),
                    },
                };
                if record.id >= self.before {
                    break End::Limit;
                }
                let judgement = match is_another {
                    true => Judgement::New,
                    false => before.judge(record.id, record.checksum()),
                };
                match judgement {
                    Judgement::Early => {
                        doubtful.early += 1;
                        doubtful.acks.extend(record.ack);
                        continue;
                    }
                    Judgement::Taken if doubtful.early > 0 => {
                        doubtful.noted += 1;
                        doubtful.acks.extend(record.ack);
                        continue;
                    }
                    Judgement::Taken => {
                        transfer.taken_before += 1;
                        acks.extend(record.ack);
                        continue;
                    }
                    Judgement::Other if doubtful.early > 0 => {
                        break End::Error(is_of_another_history(from, record.id));
                    }
                    Judgement::New if doubtful.early > 0 && doubtful.noted == 0 => {
                        break End::Error(is_of_another_history(from, record.id));
                    }
                    Judgement::Other => is_another = true,
                    Judgement::New => {}
                }
                transfer.taken_before += doubtful.settle(&mut acks);
                let (metadata, payload) = match self.changed(&record, from) {
                    Ok(changed) => changed,
                    Err(error) => break End::Error(error),
                };
                let len = addition.len + frame_len(payload.len()) as u64;
                if records > 0 && (len > window_len || records == WINDOW_RECORDS) {
                    next = Some(record);
                    break End::Window;
                }
                if addition.len_before + len > self.max_size {
                    break End::Error(is_full(to.dir, self.max_size));
                }
                let events = counter.count(metadata, &payload);
                addition.push(metadata, events, &payload)?;
                records += 1;
                taken.note(record.id, record.checksum());
                transfer.records += 1;
                transfer.events += record.events;
                transfer.bytes += record.payload.len() as u64;
                acks.extend(record.ack);
                if self.is_told_to_stop(&transfer) {
                    break End::Limit;
                }
            };
            let end = match end {
                End::Complete if doubtful.early > 0 && doubtful.noted == 0 => {
                    End::Error(ends_too_early(from))
                }
                End::Complete => {
                    transfer.taken_before += doubtful.settle(&mut acks);
                    End::Complete
                }
                end => end,
            };
            if records > 0 {
                addition.commit(notes.text_with(identities, &taken).as_bytes())?;
                transfer.synced = transfer.records;
            }
            source.acknowledge(acks)?;
            match end {
                End::Window => {}
                End::Limit | End::Complete => {
                    transfer.is_complete = matches!(end, End::Complete);
                    source.close()?;
                    return Ok(transfer);
                }
                End::Error(error) => {
                    source.close()?;
                    return Err(error);
                }
            }
        }
    }

    /// Metadata and payload under which a record is taken.
    fn changed(&mut self, record: &Record, from: &Path) -> Result<(u32, Bytes)> {
        let Some(change) = &mut self.change else {
            return Ok((record.metadata, record.payload.clone()));
        };
        change(record.id, record.metadata, &record.payload).map_err(|why| {
            let message = format!(
                "record {} of {} cannot be taken: {why}; it stays, and so do those after it",
                record.id,
                from.display()
            );
            Error::with_path(ErrorKind::InvalidRecord, from, message)
        })
    }
}

/// Why no more records are added to the ones that are committed together.
enum End {
    /// There are enough of them.
    Window,
    /// A limit of the caller, or its request to stop.
    Limit,
    Complete,
    Error(Error),
}

/// The buffer that records are taken to, locked.
struct Target<'d> {
    storage: Arc<dyn Storage>,
    dir: &'d Path,
    _lock: Box<dyn Lock>,
}

impl<'d> Target<'d> {
    fn lock(storage: &Arc<dyn Storage>, dir: &'d Path) -> Result<Self> {
        prepare(&**storage, dir)?;
        let lock = take_lock(&**storage, dir)?;
        // What was noted is there only once an interrupted transfer is finished.
        install::finish(&**storage, dir)?;
        forget_without_buffer(&**storage, dir)?;
        Ok(Self {
            storage: Arc::clone(storage),
            dir,
            _lock: lock,
        })
    }

    /// The bytes that a data file may have so that it fits on the disk.
    fn room(&self) -> Result<u64> {
        let free = free_bytes(&*self.storage, self.dir)?;
        let Some(free) = free else {
            return Ok(u64::MAX);
        };
        if free > SPARE_LEN {
            return Ok(free - SPARE_LEN);
        }
        let dir = self.dir.display();
        let message = format!(
            "{dir} has {} of free space, which is too little to go on; what was taken before is \
             synced there; free some space, and begin again",
            size(free)
        );
        Err(Error::with_path(ErrorKind::DiskFull, self.dir, message))
    }
}

/// Deletes the notes of a buffer whose files were deleted: nothing of what was taken is there.
fn forget_without_buffer(storage: &dyn Storage, dir: &Path) -> Result<()> {
    let names = uninterrupted(|| storage.list(dir));
    let names = names.map_err(|e| Error::io("list the directory", dir, e))?;
    if names.iter().any(|entry| is_buffer_file(&entry.name)) {
        return Ok(());
    }
    let path = dir.join(TRANSFERS_FILE_NAME);
    match uninterrupted(|| storage.delete(&path)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        deleted => deleted
            .and_then(|()| uninterrupted(|| storage.sync_dir(dir)))
            .map_err(|e| Error::io("delete", &path, e)),
    }
}

fn is_the_same(dir: &Path) -> Error {
    let message = format!(
        "records cannot be taken from {} to the same directory; give another one",
        dir.display()
    );
    Error::with_path(ErrorKind::InvalidConfig, dir, message)
}

fn is_full(dir: &Path, max_size: u64) -> Error {
    let message = format!(
        "the buffer in {} would have more than {max_size} bytes; what was taken before is synced \
         there; take records out of it, or raise max_size, and begin again",
        dir.display()
    );
    Error::with_path(ErrorKind::Full, dir, message)
}

/// The notes and the buffer tell different stories, and records of which nothing tells whether they
/// were taken come before the first difference.
/// Records that were taken before, if what comes next shows the same history.
#[derive(Debug, Default)]
struct Doubtful {
    /// So many come before all that is noted.
    early: u64,
    /// So many after these are noted.
    noted: u64,
    acks: Vec<Ack>,
}

impl Doubtful {
    /// They were taken before: moves what acknowledges them, and returns how many they are.
    fn settle(&mut self, acks: &mut Vec<Ack>) -> u64 {
        acks.append(&mut self.acks);
        std::mem::take(&mut self.early) + std::mem::take(&mut self.noted)
    }
}

fn is_of_another_history(from: &Path, id: u64) -> Error {
    unknown_history(
        from,
        &format!("record {id} is not the one that was taken under this id before"),
    )
}

fn ends_too_early(from: &Path) -> Error {
    unknown_history(
        from,
        "the last records that were taken from it are not there",
    )
}

fn unknown_history(from: &Path, why: &str) -> Error {
    let dir = from.display();
    let message = format!(
        "nothing tells which records of {dir} were taken before: {why}; an older copy of it may have \
         been put back, or it was made from a copy of another buffer; nothing was acknowledged that \
         is not known to be taken; to take all of it, delete {IDENTITY_FILE_NAME} there, or take it to \
         another buffer"
    );
    Error::with_path(ErrorKind::Corrupt, from, message)
}
