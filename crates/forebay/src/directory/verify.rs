//! Checks every byte of a buffer without opening it.
//!
//! Invariants:
//! - Nothing is written, the lock is not taken.
//! - Memory is bounded: after [`MAX_FINDINGS`] findings, further ones are only counted.
//! - An event counts as lost if the ids prove it: its id lies between the last acknowledged
//!   one and the writer's next one, and no record there holds it. Each lost event belongs to
//!   one finding.
//! - Where the unread records begin, what is cut off after them, and which id comes next is
//!   taken from the plan of an opening, so that the reader then meets the same.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::counter::EventCounter;
use crate::directory::findings::{Finding, FindingKind, Severity, is_tail};
use crate::directory::options::{LOOK_PAUSE, LOOKS_AGAIN, LookOptions, live_option, look_options};
use crate::directory::recovery::{Facts, end_finding, look};
use crate::directory::survey::walk::{IdTrack, Place, Step, Walk};
use crate::directory::survey::{Survey, acknowledged_id};
use crate::error::Result;
use crate::format::file_id::{distance, file_name, next};
use crate::scan::{Damage, Found, Mended};
use crate::storage::Storage;
use crate::sync::thread;

/// At most this many findings are listed.
const MAX_FINDINGS: usize = 10_000;

/// The check reports its progress after at least this many bytes.
const PROGRESS_STEP: u64 = 1 << 20;

/// How to [`verify`]: options in the manner of [`std::fs::OpenOptions`], ended by
/// [`verify`](Self::verify).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # forebay::Config::new(dir.path()).open()?;
/// let verification = forebay::VerifyOptions::new()
///     .on_progress(|done, total| eprintln!("{done} of {total} bytes"))
///     .verify(dir.path())?;
/// assert!(verification.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct VerifyOptions<'p> {
    look: LookOptions,
    live: bool,
    progress: Option<Box<dyn FnMut(u64, u64) + 'p>>,
}

impl<'p> VerifyOptions<'p> {
    /// The defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    look_options!();

    live_option!();

    /// A function that the check calls from time to time with the bytes checked so far and
    /// their total. Default: none.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(u64, u64) + 'p) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Checks every byte of the buffer in `dir`, which may be open elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::NotABuffer`](crate::ErrorKind::NotABuffer) when there is no
    /// buffer in `dir`, otherwise those of the system. Damage is no error.
    pub fn verify(mut self, dir: impl AsRef<Path>) -> Result<Verification> {
        let dir = dir.as_ref();
        self.live |= self.look.is_open_elsewhere(dir)?;
        let progress = self.progress.take();
        let mut verification = check(&self, dir, progress.unwrap_or_else(|| Box::new(|_, _| {})))?;
        for _ in 0..LOOKS_AGAIN {
            if !self.live || verification.is_clean() {
                break;
            }
            thread::sleep(LOOK_PAUSE);
            let again = check(&self, dir, Box::new(|_, _| {}))?;
            verification = verification.confirmed_by(again);
        }
        Ok(verification)
    }
}

impl fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyOptions")
            .field("look", &self.look)
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The records that are there, including acknowledged ones, without repeats.
    pub records: u64,
    /// The events in them.
    pub events: u64,
    /// The bytes of the data files that were checked.
    pub bytes: u64,
    /// The findings, in the order of the data; at most 10,000.
    pub findings: Vec<Finding>,
    /// The number of findings that are not listed because there are too many.
    pub findings_omitted: u64,
    /// The events that the record ids prove lost, without those that a repair has reported.
    pub events_lost: u64,
}

impl Verification {
    /// Whether no event is lost, and nothing was found but what a crash leaves.
    pub fn is_clean(&self) -> bool {
        let damage = |finding: &Finding| finding.severity == Severity::Damage;
        self.events_lost == 0 && self.findings_omitted == 0 && !self.findings.iter().any(damage)
    }

    /// What a second look found, without what the first one did not find: the process that has
    /// the buffer open was in the middle of something.
    fn confirmed_by(self, mut again: Self) -> Self {
        again
            .findings
            .retain(|finding| self.findings.contains(finding));
        again.findings_omitted = again.findings_omitted.min(self.findings_omitted);
        again.events_lost = match again.findings.is_empty() && again.findings_omitted == 0 {
            true => 0,
            false => again.events_lost.min(self.events_lost),
        };
        again
    }
}

/// Checks every byte of the buffer in `dir`, which may be open elsewhere, with the defaults of
/// [`VerifyOptions`].
///
/// # Errors
/// As [`VerifyOptions::verify`].
pub fn verify(dir: impl AsRef<Path>) -> Result<Verification> {
    VerifyOptions::new().verify(dir)
}

fn check(
    options: &VerifyOptions<'_>,
    dir: &Path,
    mut progress: Box<dyn FnMut(u64, u64) + '_>,
) -> Result<Verification> {
    let storage = &options.look.storage();
    let (counter, max_frame_len) = (&options.look.event_counter, options.look.max_frame_len);
    let survey = Survey::take_existing(storage, dir, counter, max_frame_len)?;
    let facts = look(storage, survey, counter, max_frame_len)?.with_reported(&**storage)?;
    let mut verifier = Verifier::new(&facts, options);
    verifier.before();
    let survey = &facts.survey;
    let unread = facts.unread();
    let walk = Walk::new(storage.clone(), survey, unread, counter, max_frame_len);
    let mut walk = walk.with_acknowledged(0);
    let total = survey.files.iter().map(|file| file.len).sum();
    // The total length of the files before the current one.
    let (mut base, mut current, mut reported) = (0, 0, 0);
    progress(0, total);
    while let Some((index, step)) = walk.next()? {
        while current < index {
            base += survey.files[current].len;
            current += 1;
        }
        let done = match step {
            Step::File => {
                verifier.file(index);
                base
            }
            Step::Gone => {
                let acknowledged = acknowledged_id(&**storage, &survey.dir, &survey.ledger)?;
                verifier.gone(acknowledged);
                base
            }
            Step::Unread(after) => {
                verifier.unread(after);
                base
            }
            Step::Record(found) => {
                verifier.record(index, &found, walk.events(), walk.overlaps());
                base + found.offset + found.frame_len
            }
            Step::Damage(damage) => {
                verifier.damage(index, &damage);
                base + damage.offset + damage.len
            }
        };
        if done >= reported + PROGRESS_STEP {
            reported = done;
            progress(done.min(total), total);
        }
    }
    progress(total, total);
    let mut verification = verifier.end();
    verification.bytes = total;
    Ok(verification)
}

/// Ids that are missing at a place where no byte is.
fn gap_at(kind: FindingKind, file: String, offset: u64, events_lost: u64) -> Finding {
    Finding {
        kind,
        severity: Severity::Damage,
        file: Some(file),
        offset,
        length: 0,
        events_lost,
    }
}

/// What may explain the next gap in the ids.
enum Suspect {
    /// A damaged span. `finding` is its index in the findings, if it is listed.
    Damage {
        finding: Option<usize>,
        claimed_id: Option<u64>,
        /// It is the tail that opening cuts off. What looks like a tail before that place is
        /// none: the reader reports it as damage.
        is_cut: bool,
    },
    /// The first one of consecutive file ids that no file has.
    Missing(u16),
    /// A file of 0 bytes.
    Empty(u16),
}

/// Makes findings from the steps of a walk. Pure.
struct Verifier<'a> {
    facts: &'a Facts,
    options: &'a VerifyOptions<'a>,
    ids: IdTrack,
    /// The id that the next record gets.
    next_id: u64,
    /// The writer's next id according to the ledger, if that is believed.
    counted_to: Option<u64>,
    /// Where opening cuts off the end of the last file.
    cut_at: Option<u64>,
    /// The last file that is not empty.
    last_with_data: Option<usize>,
    suspects: Vec<Suspect>,
    /// Consecutive records that repeat earlier ones: index of their file, begin and end.
    repeats: Option<(usize, u64, u64)>,
    /// The index of the last finding of overlapping ids, if it is listed.
    overlap: Option<usize>,
    result: Verification,
}

impl<'a> Verifier<'a> {
    fn new(facts: &'a Facts, options: &'a VerifyOptions<'a>) -> Self {
        let ledger = facts.believed_ledger();
        let files = &facts.survey.files;
        let unread = facts.unread();
        Self {
            facts,
            options,
            ids: IdTrack::new(Some(unread.last_id)),
            next_id: unread.limit,
            counted_to: ledger.map(|ledger| ledger.writer_next_record_id),
            cut_at: unread.cut.map(|cut| cut.offset),
            last_with_data: files.iter().rposition(|file| file.len > 0),
            suspects: Vec::new(),
            repeats: None,
            overlap: None,
            result: Verification::default(),
        }
    }

    /// Adds the findings about the ledger and about stale files, which need no walk.
    fn before(&mut self) {
        let ledger = self.facts.ledger_finding();
        // A running writer updates the ledger after it has written the records.
        let ledger = ledger
            .filter(|finding| !(self.options.live && finding.kind == FindingKind::LedgerBehind));
        if let Some(finding) = ledger {
            self.add(finding);
        }
        for (file, _) in &self.facts.survey.stale {
            self.add(Finding {
                kind: FindingKind::StaleFile,
                severity: Severity::Damage,
                file: Some(file.name()),
                offset: 0,
                length: file.len,
                events_lost: 0,
            });
        }
    }

    fn file(&mut self, index: usize) {
        self.end_repeats();
        let files = &self.facts.survey.files;
        let file_id = files[index].file_id;
        if let Some(before) = index.checked_sub(1).map(|before| files[before].file_id)
            && distance(before, file_id) > 1
        {
            self.suspect(Suspect::Missing(next(before)));
        }
        if files[index].len == 0 {
            self.suspect(Suspect::Empty(file_id));
        }
    }

    /// Takes note of a file that was deleted since the survey: all its records were
    /// acknowledged.
    fn gone(&mut self, acknowledged_id: Option<u64>) {
        self.end_repeats();
        if let Some(id) = acknowledged_id {
            self.ids.skip_to(id);
        }
    }

    /// The unread records begin, after this id. What was found before explains no loss.
    fn unread(&mut self, after: u64) {
        self.end_repeats();
        self.suspects.clear();
        self.ids.unread_after(after);
    }

    fn record(&mut self, index: usize, found: &Found, events: u64, overlaps: bool) {
        let expected = self.ids.expected();
        match self.ids.place(found.id, events) {
            Place::Repeat => {
                let end = found.offset + found.frame_len;
                match &mut self.repeats {
                    Some((file, _, until)) if *file == index => *until = end,
                    _ => self.repeats = Some((index, found.offset, end)),
                }
                return;
            }
            Place::Next { gap } => {
                self.end_repeats();
                self.settle(expected, gap, Some((index, found.offset)));
            }
        }
        if overlaps {
            self.note_overlap(index, found);
        }
        self.result.records += 1;
        self.result.events = self.result.events.saturating_add(events);
        if let Some(mended) = found.mended {
            let kind = match mended {
                Mended::Delimiter | Mended::Length => FindingKind::BadLength,
                Mended::Pointer | Mended::Padding => FindingKind::BadRecord,
            };
            self.add(Finding {
                kind,
                severity: Severity::Damage,
                file: Some(self.facts.survey.files[index].name()),
                offset: found.offset,
                length: found.frame_len,
                events_lost: 0,
            });
        }
    }

    /// Adds the overlap to the file's finding, so that a file has one for all its overlaps.
    fn note_overlap(&mut self, index: usize, found: &Found) {
        let file = self.facts.survey.files[index].name();
        let end = found.offset + found.frame_len;
        if let Some(at) = self.overlap
            && let Some(finding) = self.result.findings.get_mut(at)
            && finding.file.as_ref() == Some(&file)
        {
            finding.length = end - finding.offset;
            return;
        }
        self.overlap = self.add(Finding {
            kind: FindingKind::IdOverlap,
            severity: Severity::Damage,
            file: Some(file),
            offset: found.offset,
            length: found.frame_len,
            events_lost: 0,
        });
    }

    fn damage(&mut self, index: usize, damage: &Damage) {
        self.end_repeats();
        let file = &self.facts.survey.files[index];
        let in_last = self.last_with_data == Some(index);
        if self.options.live
            && in_last
            && damage.offset + damage.len >= file.len
            && self.counted_to.is_none_or(|counted_to| {
                self.ids
                    .expected()
                    .is_some_and(|expected| expected >= counted_to)
            })
        {
            // The writer may still be writing here, and no event that the ledger counts is
            // missing.
            return;
        }
        let is_tail = is_tail(damage.kind);
        let finding = self.add(Finding {
            kind: damage.kind.into(),
            severity: if is_tail {
                Severity::Normal
            } else {
                Severity::Damage
            },
            file: Some(file.name()),
            offset: damage.offset,
            length: damage.len,
            events_lost: 0,
        });
        self.suspect(Suspect::Damage {
            finding,
            claimed_id: damage.claimed_id,
            is_cut: in_last && self.cut_at == Some(damage.offset),
        });
    }

    fn suspect(&mut self, suspect: Suspect) {
        // The last suspect that is kept is blamed for the events of further ones as well.
        if self.suspects.len() < MAX_FINDINGS {
            self.suspects.push(suspect);
        }
    }

    fn end_repeats(&mut self) {
        let Some((index, begin, end)) = self.repeats.take() else {
            return;
        };
        // Older versions moved records after a failed sync, so a file may begin with records
        // that the file before it holds as well.
        let severity = if begin == 0 && index > 0 {
            Severity::Normal
        } else {
            Severity::Damage
        };
        self.add(Finding {
            kind: FindingKind::StaleFile,
            severity,
            file: Some(self.facts.survey.files[index].name()),
            offset: begin,
            length: end - begin,
            events_lost: 0,
        });
    }

    /// Divides a gap in the ids among the suspects. Each one but the last is blamed for the
    /// events up to the id that the next suspect claims, or for one event if that claims none
    /// in the gap. The last one is blamed for the rest.
    fn settle(&mut self, expected: Option<u64>, gap: u64, behind: Option<(usize, u64)>) {
        let suspects = std::mem::take(&mut self.suspects);
        let Some(expected) = expected.filter(|_| gap > 0) else {
            return;
        };
        let end = expected.saturating_add(gap);
        if suspects.is_empty() {
            if let Some((index, offset)) = behind {
                let file = self.facts.survey.files[index].name();
                let finding = gap_at(FindingKind::IdGap, file, offset, gap);
                match self.facts.is_reported(expected..end) {
                    true => self.list(finding.reported()),
                    false => self.add(finding),
                };
            }
            return;
        }
        let mut begin = expected;
        for (i, suspect) in suspects.iter().enumerate() {
            let until = match suspects.get(i + 1) {
                None => end,
                Some(Suspect::Damage {
                    claimed_id: Some(id),
                    ..
                }) if *id > begin && *id < end => *id,
                Some(_) => begin.saturating_add(1).min(end),
            };
            self.blame(suspect, until - begin);
            begin = until;
        }
    }

    fn blame(&mut self, suspect: &Suspect, events: u64) {
        if events == 0 {
            return;
        }
        match suspect {
            Suspect::Damage {
                finding, is_cut, ..
            } => {
                self.lose(events);
                if let Some(finding) = finding.and_then(|at| self.result.findings.get_mut(at)) {
                    finding.events_lost = events;
                    if !is_cut {
                        finding.severity = Severity::Damage;
                    }
                }
            }
            Suspect::Missing(file_id) => {
                self.add_gap(FindingKind::MissingFile, file_name(*file_id), 0, events);
            }
            Suspect::Empty(file_id) => {
                self.add_gap(FindingKind::IdGap, file_name(*file_id), 0, events);
            }
        }
    }

    fn add_gap(&mut self, kind: FindingKind, file: String, offset: u64, events_lost: u64) {
        self.add(gap_at(kind, file, offset, events_lost));
    }

    /// Adds a finding; returns its index, if it is listed.
    fn add(&mut self, finding: Finding) -> Option<usize> {
        self.lose(finding.events_lost);
        self.list(finding)
    }

    /// Adds a finding whose events do not count as lost, or are counted already.
    fn list(&mut self, finding: Finding) -> Option<usize> {
        if self.result.findings.len() < MAX_FINDINGS {
            self.result.findings.push(finding);
            Some(self.result.findings.len() - 1)
        } else {
            self.result.findings_omitted += 1;
            None
        }
    }

    fn lose(&mut self, events: u64) {
        self.result.events_lost = self.result.events_lost.saturating_add(events);
    }

    /// Adds what is missing between the last record and the writer's next id.
    fn end(mut self) -> Verification {
        self.end_repeats();
        let expected = self.ids.expected();
        let ids_end = expected.unwrap_or(0);
        let lost = self.next_id.saturating_sub(ids_end);
        self.suspects
            .retain(|suspect| !matches!(suspect, Suspect::Empty(_)));
        if lost > 0 && !self.suspects.is_empty() {
            self.settle(expected, lost, None);
        } else if !self.options.live || lost > 0 {
            let files = &self.facts.survey.files;
            let is_there = |file_id| files.iter().any(|file| file.file_id == file_id);
            let mut ledger = self.facts.believed_ledger();
            if let Some(ledger) = ledger.as_mut().filter(|_| lost > 0) {
                // Records that are not believed may say that there were more.
                ledger.writer_next_record_id = self.next_id;
            }
            let finding = ledger.and_then(|ledger| end_finding(&ledger, ids_end, is_there));
            let is_reported = lost > 0 && self.facts.is_reported(ids_end..self.next_id);
            match (finding, files.last()) {
                (Some(finding), _) if is_reported && finding.kind == FindingKind::LedgerAhead => {
                    self.list(finding.reported());
                }
                (Some(finding), _) => _ = self.add(finding),
                // Only the records themselves say that there were more.
                (None, Some(last)) if lost > 0 => {
                    self.add_gap(FindingKind::IdGap, last.name(), last.len, lost);
                }
                _ => {}
            }
        }
        self.result
    }
}
