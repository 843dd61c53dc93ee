//! Lists the records of a buffer without opening it.
//!
//! Invariants:
//! - Nothing is written, the lock is not taken.
//! - Records come in the order of their ids, each once, as a reader would get them.
//! - Memory is bounded: one chunk, or one record that is longer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::counter::EventCounter;
use crate::directory::options::{LookOptions, live_option, look_options};
use crate::directory::recovery::look;
use crate::directory::survey::walk::{IdTrack, Place, Step, Walk};
use crate::directory::survey::{LedgerStatus, Survey, acknowledged_id};
use crate::error::Result;
use crate::format::record::frame_len;
use crate::scan::{Damage, Found};
use crate::storage::Storage;

/// Which [`records`] to list: options in the manner of [`std::fs::OpenOptions`], ended by
/// [`records`](Self::records).
#[derive(Debug, Clone, Default)]
pub struct RecordsOptions {
    pub(super) look: LookOptions,
    all: bool,
    from: Option<u64>,
    live: bool,
}

impl RecordsOptions {
    /// The defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether acknowledged records that are still on disk are listed as well. Default: no.
    #[must_use]
    pub fn all(mut self, all: bool) -> Self {
        self.all = all;
        self
    }

    /// The event to begin with: the listing begins with the record that holds it. Default:
    /// the first one.
    #[must_use]
    pub fn from(mut self, id: u64) -> Self {
        self.from = Some(id);
        self
    }

    look_options!();

    live_option!();

    /// Lists the records of the buffer in `dir`, which may be open elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::NotABuffer`](crate::ErrorKind::NotABuffer) when there is no
    /// buffer in `dir`, otherwise those of the system. Damage is no error.
    pub fn records(&self, dir: impl AsRef<Path>) -> Result<Records> {
        let dir = dir.as_ref();
        let live = self.live || self.look.is_open_elsewhere(dir)?;
        list(self, dir, live)
    }
}

/// A record and where it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRecord {
    /// The id of its first event.
    pub id: u64,
    /// How many events it holds.
    pub events: u64,
    /// The producer's metadata.
    pub metadata: u32,
    /// The payload. It shares a buffer of up to 1 MiB with its neighbours: copy it
    /// to keep it for long.
    pub payload: Bytes,
    /// The data file it is in.
    pub file_id: u16,
    /// Where its frame begins in that file, in bytes.
    pub offset: u64,
}

/// What a listing skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// The events that the record ids prove lost.
    pub events: u64,
    /// The damaged spans between the records.
    pub spans: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The records of a buffer as they were when the listing began.
#[derive(Debug)]
pub struct Records {
    storage: Arc<dyn Storage>,
    survey: Survey,
    walk: Walk,
    ids: IdTrack,
    from: u64,
    live: bool,
    /// The id that the next record gets.
    next_id: u64,
    last_id: u64,
    /// The index of the file with the first record, and its offset there.
    begin: (usize, u64),
    skipped: Skipped,
    /// What was stepped over, each with the index of its file, if that is to be noted.
    stepped_over: Option<Vec<(usize, Damage)>>,
    ended: bool,
}

/// Lists the unread records of the buffer in `dir`, which may be open elsewhere, with the
/// defaults of [`RecordsOptions`].
///
/// # Errors
/// As [`RecordsOptions::records`].
pub fn records(dir: impl AsRef<Path>) -> Result<Records> {
    RecordsOptions::new().records(dir)
}

fn list(options: &RecordsOptions, dir: &Path, live: bool) -> Result<Records> {
    let storage = options.look.storage();
    let (counter, max_frame_len) = (&options.look.event_counter, options.look.max_frame_len);
    let survey = Survey::take_existing(&storage, dir, counter, max_frame_len)?;
    let facts = look(&storage, survey, counter, max_frame_len)?;
    let mut unread = facts.unread();
    let next_id = unread.limit;
    let mut ids = match options.all {
        true => IdTrack::new(Some(unread.last_id)),
        false => IdTrack::behind(unread.last_id),
    };
    let mut first = 0;
    if let Some(from) = options.from {
        let begins_before = |id: Option<u64>| id.is_some_and(|id| id <= from);
        let files = &facts.survey.files;
        let index = files.iter().rposition(|file| begins_before(file.first_id));
        first = index.unwrap_or(0);
        ids.skip_to(from.saturating_sub(1));
    }
    let with_acknowledged = options.all && (first, 0) < unread.at;
    unread.at = unread.at.max((first, 0));
    let mut walk = Walk::new(
        storage.clone(),
        &facts.survey,
        unread,
        counter,
        max_frame_len,
    );
    if with_acknowledged {
        walk = walk.with_acknowledged(first);
    }
    Ok(Records {
        storage,
        walk,
        ids,
        from: options.from.unwrap_or(0),
        live,
        next_id,
        last_id: unread.last_id,
        begin: match with_acknowledged {
            true => (first, 0),
            false => unread.at,
        },
        skipped: Skipped::default(),
        stepped_over: None,
        ended: false,
        survey: facts.survey,
    })
}

impl Records {
    /// What was skipped so far; at the end, also the events that are missing between
    /// the last record and the writer's next id, unless the buffer is open elsewhere.
    pub fn lost(&self) -> Skipped {
        self.skipped
    }

    /// The id of the last acknowledged event.
    pub(crate) fn acknowledged_id(&self) -> u64 {
        self.last_id
    }

    /// The id that the next record of the buffer gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// The bytes from where the listing began to the end of the data files.
    pub(crate) fn bytes(&self) -> u64 {
        let lens = self.survey.files.iter().map(|file| file.len);
        lens.skip(self.begin.0)
            .sum::<u64>()
            .saturating_sub(self.begin.1)
    }

    /// Where a record ends, in bytes from where the listing began.
    pub(crate) fn end_of(&self, record: &StoredRecord) -> u64 {
        let files = self.survey.files.iter().skip(self.begin.0);
        let before = files.take_while(|file| file.file_id != record.file_id);
        let base: u64 = before.map(|file| file.len).sum();
        let end = record.offset + frame_len(record.payload.len()) as u64;
        (base + end).saturating_sub(self.begin.1)
    }

    /// Has what is stepped over noted, for [`stepped_over`](Self::stepped_over).
    pub(crate) fn note_steps(&mut self) {
        self.stepped_over = Some(Vec::new());
    }

    /// The damaged spans and records without a place that were noted so far, each with the path
    /// of its file.
    pub(crate) fn stepped_over(&self) -> impl Iterator<Item = (PathBuf, Damage)> {
        let spans = self.stepped_over.iter().flatten();
        spans.map(|(index, damage)| {
            let file = &self.survey.files[*index];
            (self.survey.path(file), *damage)
        })
    }

    /// The paths of the data files all of whose records are in others as well.
    pub(crate) fn stale(&self) -> impl Iterator<Item = PathBuf> {
        let stale = self.survey.stale.iter();
        stale.map(|(file, _)| self.survey.path(file))
    }

    fn advance(&mut self) -> Result<Option<StoredRecord>> {
        while let Some((index, step)) = self.walk.next()? {
            match step {
                Step::File => {}
                Step::Unread(id) => self.ids.unread_after(id.max(self.from.saturating_sub(1))),
                Step::Gone => {
                    let ledger: &LedgerStatus = &self.survey.ledger;
                    let id = acknowledged_id(&*self.storage, &self.survey.dir, ledger)?;
                    if let Some(id) = id {
                        self.ids.skip_to(id);
                    }
                }
                Step::Damage(damage) => self.step_over(index, &damage),
                Step::Record(found) => {
                    if let Some(record) = self.deliver(index, &found) {
                        return Ok(Some(record));
                    }
                    if let Some(spans) = &mut self.stepped_over {
                        // Its id was passed, perhaps without a record.
                        spans.push((index, found.misplaced()));
                    }
                }
            }
        }
        // A process that has the buffer open may count records before it has written them.
        if let (Some(expected), false) = (self.ids.expected(), self.live) {
            self.lose(self.next_id.saturating_sub(expected));
        }
        Ok(None)
    }

    fn deliver(&mut self, index: usize, found: &Found) -> Option<StoredRecord> {
        let payload = self.walk.slice(found);
        let events = self.walk.events();
        let Place::Next { gap } = self.ids.place(found.id, events) else {
            return None;
        };
        self.lose(gap);
        (found.id.saturating_add(events) > self.from).then(|| StoredRecord {
            id: found.id,
            events,
            metadata: found.metadata,
            payload,
            file_id: self.survey.files[index].file_id,
            offset: found.offset,
        })
    }

    fn step_over(&mut self, index: usize, damage: &Damage) {
        if let Some(spans) = &mut self.stepped_over {
            spans.push((index, *damage));
        }
        let is_last = index + 1 == self.survey.files.len();
        let at_end = damage.offset + damage.len >= self.survey.files[index].len;
        if self.live && is_last && at_end {
            // The writer may still be writing here. The ids tell which events are lost.
            return;
        }
        self.skipped.spans += 1;
        self.skipped.bytes = self.skipped.bytes.saturating_add(damage.len);
    }

    fn lose(&mut self, events: u64) {
        self.skipped.events = self.skipped.events.saturating_add(events);
    }
}

impl Iterator for Records {
    type Item = Result<StoredRecord>;

    /// The next record. The listing ends with the first error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::iter::FusedIterator for Records {}
