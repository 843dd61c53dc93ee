//! The work of a repair: what is kept of each file, new files from it, and their installation.
//!
//! Invariants:
//! - A walk reads what a reader would get, by the facts of the last look. After a file was
//!   replaced, there is another look before the next walk.
//! - No file is replaced by fewer records than were planned.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::report;
use super::{FileAction, FilePlan, RepairPlan};
use crate::config::OnCorruption;
use crate::directory::enclosing::refuse_inside;
use crate::directory::findings::Finding;
use crate::directory::install::{self, Installation, List, Out};
use crate::directory::options::LookOptions;
use crate::directory::quarantine::{MAX_REPORTS, Quarantine};
use crate::directory::recovery::{Facts, create, look, plan as plan_opening};
use crate::directory::survey::walk::{IdTrack, Place, Step, Walk};
use crate::directory::survey::{Survey, open_data_file};
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id::{self, LEDGER_FILE_NAME, file_name};
use crate::format::ledger::LedgerState;
use crate::rescue::staged::StagedFile;
use crate::rescue::{SPARE_LEN, size};
use crate::scan::Found;
use crate::storage::{Access, Storage, read_full, uninterrupted, write_all};

const COPY_LEN: usize = 256 << 10;
/// How often progress is reported, in bytes of data files.
const PROGRESS_STEP: u64 = 8 << 20;

/// What the walk found in one file.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    records: u64,
    /// The bytes of the records that are kept.
    kept_len: u64,
    /// Where the records that were kept so far end, and whether anything else lies before that.
    end: u64,
    is_broken: bool,
}

/// A repair that is being made.
pub(super) struct Work<'p> {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) dir: PathBuf,
    pub(super) facts: Facts,
    pub(super) look: LookOptions,
    pub(super) progress: Box<dyn FnMut(u64, u64) + 'p>,
    pub(super) plan: RepairPlan,
}

impl Work<'_> {
    /// Calls `each` with the unread records that a reader would get, in order, each with the
    /// index of its file, its events and its payload. Returns what was found in each file, and the
    /// missing ids.
    fn walk(
        &mut self,
        mut each: impl FnMut(usize, &Found, u64, &[u8]) -> Result<()>,
    ) -> Result<(Vec<Tally>, Vec<Range<u64>>)> {
        let survey = &self.facts.survey;
        let begin = self.facts.unread();
        let mut tallies = vec![Tally::default(); survey.files.len()];
        let mut missing = Vec::new();
        let mut ids = IdTrack::behind(begin.last_id);
        let (counter, max_frame_len) = (&self.look.event_counter, self.look.max_frame_len);
        let mut walk = Walk::new(self.storage.clone(), survey, begin, counter, max_frame_len);
        if let Some(first) = tallies.get_mut(begin.at.0) {
            // What was acknowledged need not be clean, so the file is written anew if anything is.
            first.is_broken = begin.at.1 > 0;
            first.end = begin.at.1;
        }
        let total: u64 = survey.files.iter().map(|file| file.len).sum();
        let (mut base, mut file, mut reported) = (0, None, 0);
        while let Some((index, step)) = walk.next()? {
            if file != Some(index) {
                base = survey.files[..index].iter().map(|file| file.len).sum();
                file = Some(index);
            }
            let tally = &mut tallies[index];
            let at = match step {
                Step::File | Step::Unread(_) => 0,
                Step::Gone => {
                    let path = survey.path(&survey.files[index]);
                    let message = format!(
                        "{} was deleted while the buffer was repaired, although it is locked; \
                         nothing was changed: find out which program writes there",
                        path.display()
                    );
                    return Err(Error::with_path(ErrorKind::Io, &path, message));
                }
                Step::Damage(damage) => {
                    tally.is_broken = true;
                    damage.offset
                }
                Step::Record(found) => {
                    let expected = ids.expected();
                    match ids.place(found.id, walk.events()) {
                        Place::Repeat => tally.is_broken = true,
                        Place::Next { gap } => {
                            if let Some(expected) = expected.filter(|_| gap > 0) {
                                missing.push(expected..found.id);
                            }
                            tally.is_broken |= found.mended.is_some() || found.offset != tally.end;
                            tally.end = found.offset + found.frame_len;
                            tally.records += 1;
                            tally.kept_len += found.frame_len;
                            each(index, &found, walk.events(), walk.payload(&found))?;
                        }
                    }
                    found.offset
                }
            };
            if base + at >= reported + PROGRESS_STEP {
                reported = base + at;
                (self.progress)(reported.min(total), total);
            }
        }
        (self.progress)(total, total);
        for (tally, file) in tallies.iter_mut().zip(&survey.files) {
            tally.is_broken |= tally.end != file.len;
        }
        let expected = ids.expected().unwrap_or(0);
        let next_id = plan_opening(&self.facts).recovered.next_id;
        if next_id > expected {
            missing.push(expected..next_id);
        }
        Ok((tallies, missing))
    }

    pub(super) fn decide(&mut self) -> Result<()> {
        let (mut records, mut events, mut first_id) = (0, 0, None);
        let (tallies, missing) = self.walk(|_, found, of, _| {
            records += 1;
            events += of;
            first_id.get_or_insert(found.id);
            Ok(())
        })?;
        let survey = &self.facts.survey;
        let renumber = self.plan.renumber;
        let ids = new_ids(survey, &tallies);
        let mut new_id_of = ids.iter();
        for (file, tally) in survey.files.iter().zip(&tallies) {
            let new_id = match tally.records {
                0 => None,
                _ => new_id_of.next(),
            };
            let action = match new_id {
                None => FileAction::Remove,
                Some(_) if tally.is_broken || renumber => FileAction::Rewrite,
                Some(id) if *id != file.file_id => FileAction::Rename,
                Some(_) => FileAction::Keep,
            };
            self.plan.files.push(FilePlan {
                name: file.name(),
                action,
                new_name: new_id.map(|id| file_name(*id)),
                bytes: file.len,
                records: tally.records,
                kept_bytes: tally.kept_len,
            });
        }
        for (file, _) in &survey.stale {
            self.plan.files.push(FilePlan {
                name: file.name(),
                action: FileAction::Remove,
                new_name: None,
                bytes: file.len,
                records: 0,
                kept_bytes: 0,
            });
        }
        let opened = plan_opening(&self.facts).recovered;
        let last_id = match first_id {
            // Events that are missing before the first record count as acknowledged: they are
            // reported, and a reader begins with the record.
            Some(id) if !renumber => id - 1,
            Some(_) => opened.last_id,
            None => opened.next_id - 1,
        };
        let first = ids.first().copied().unwrap_or(opened.next_file_id);
        let last = ids.last().copied().unwrap_or(opened.next_file_id);
        self.plan.ledger = LedgerState {
            writer_next_record_id: match renumber {
                true => last_id.saturating_add(events).saturating_add(1),
                false => opened.next_id,
            },
            writer_file_id: last,
            reader_file_id: first,
            reader_last_record_id: last_id,
        };
        self.plan.records = records;
        self.plan.events = events;
        self.plan.missing = missing;
        Ok(())
    }

    fn rewritten(&self) -> impl Iterator<Item = &FilePlan> {
        let files = self.plan.files.iter();
        files.filter(|file| file.action == FileAction::Rewrite)
    }

    pub(super) fn bytes_needed(&self, in_place: bool) -> u64 {
        let lens = self.rewritten().map(|file| file.kept_bytes);
        let bytes = match in_place {
            true => {
                let damaged: u64 = self
                    .damaged_spans()
                    .map(|(_, finding)| finding.length)
                    .sum();
                lens.max().unwrap_or(0) + damaged
            }
            false => lens.sum(),
        };
        bytes + SPARE_LEN
    }

    pub(super) fn refuse_without_space(&self, in_place: bool) -> Result<()> {
        let needed = self.plan.bytes_needed;
        let Some(free) = self.plan.bytes_free.filter(|free| *free < needed) else {
            return Ok(());
        };
        let remedy = match in_place {
            true => "free some space",
            false => "free some space, or repair in place, file by file",
        };
        let dir = self.dir.display();
        Err(Error::with_path(
            ErrorKind::DiskFull,
            &self.dir,
            format!(
                "the repair of {dir} needs {} and {} are free; nothing was written; {remedy}",
                size(needed),
                size(free)
            ),
        ))
    }

    /// Syncs the files as they are: an earlier process may have left bytes unsynced.
    pub(super) fn sync_files(&self) -> Result<()> {
        for file in &self.plan.files {
            let path = self.dir.join(&file.name);
            uninterrupted(|| self.storage.open(&path, Access::Write))
                .and_then(|file| uninterrupted(|| file.sync()))
                .map_err(|e| Error::io("sync", &path, e))?;
        }
        Ok(())
    }

    /// Looks again after a file was replaced: the next walk begins and ends elsewhere.
    fn look_again(&mut self) -> Result<()> {
        let (counter, max_frame_len) = (&self.look.event_counter, self.look.max_frame_len);
        let survey = Survey::take_existing(&self.storage, &self.dir, counter, max_frame_len)?;
        self.facts = look(&self.storage, survey, counter, max_frame_len)?;
        Ok(())
    }

    /// Writes the new files and installs them. Returns where the original files are.
    pub(super) fn apply(&mut self, in_place: bool) -> Result<PathBuf> {
        let storage = Arc::clone(&self.storage);
        let installation = Installation::begin(&*storage, &self.dir)?;
        if in_place {
            self.keep_damage()?;
            let rewritten: Vec<FilePlan> = self.rewritten().cloned().collect();
            for file in rewritten {
                // Under its own name: other files still have the other names.
                self.stage(
                    &installation,
                    |plan| plan.name == file.name,
                    |plan| &plan.name,
                )?;
                let name = file.name;
                installation.install(&List {
                    out: vec![Out::Delete { name }],
                    missing: Vec::new(),
                })?;
                self.look_again()?;
            }
        } else {
            self.stage(
                &installation,
                |_| true,
                |plan| plan.new_name.as_ref().unwrap_or(&plan.name),
            )?;
        }
        self.stage_ledger(&installation)?;
        self.stage_report(&installation)?;
        let mut out = vec![match in_place {
            true => Out::Delete {
                name: LEDGER_FILE_NAME.to_owned(),
            },
            false => Out::Keep {
                name: LEDGER_FILE_NAME.to_owned(),
            },
        }];
        for file in &self.plan.files {
            let (name, new_name) = (file.name.clone(), file.new_name.clone());
            match (file.action, new_name) {
                (FileAction::Keep, _) => {}
                (FileAction::Rewrite, Some(new_name)) if in_place => {
                    if new_name != name {
                        out.push(Out::Rename {
                            from: name,
                            to: new_name,
                        });
                    }
                }
                (FileAction::Rename, Some(new_name)) => out.push(Out::Rename {
                    from: name,
                    to: new_name,
                }),
                (FileAction::Remove, _) if in_place => out.push(Out::Delete { name }),
                _ => out.push(Out::Keep { name }),
            }
        }
        let missing = match self.plan.renumber {
            true => Vec::new(),
            false => self.plan.missing.clone(),
        };
        installation.install(&List { out, missing })?;
        Ok(installation.kept())
    }

    /// Writes the kept records of the files that `choose` takes and the plan rewrites.
    fn stage(
        &mut self,
        installation: &Installation<'_>,
        choose: impl Fn(&FilePlan) -> bool,
        name: impl Fn(&FilePlan) -> &String,
    ) -> Result<()> {
        let plans = self.plan.files.clone();
        let names: Vec<String> = self
            .facts
            .survey
            .files
            .iter()
            .map(|file| file.name())
            .collect();
        let (renumber, mut next_id) = (self.plan.renumber, self.plan.ledger.reader_last_record_id);
        let storage = Arc::clone(&self.storage);
        let mut staged: Option<(usize, StagedFile)> = None;
        let mut records = 0;
        let is_chosen = |plan: &FilePlan| plan.action == FileAction::Rewrite && choose(plan);
        self.walk(|index, found, events, payload| {
            let id = match renumber {
                true => next_id + 1,
                false => found.id,
            };
            next_id = next_id.saturating_add(events);
            let plan = plans.iter().find(|plan| plan.name == names[index]);
            let Some(plan) = plan.filter(|plan| is_chosen(plan)) else {
                return Ok(());
            };
            records += 1;
            if let Some((_, file)) = staged.take_if(|(of, _)| *of != index) {
                file.finish()?;
            }
            let (_, file) = match &mut staged {
                Some(staged) => staged,
                none => {
                    let path = installation.path_of_new(name(plan));
                    none.insert((index, StagedFile::create(&*storage, path)?))
                }
            };
            file.push(id, found.metadata, payload)
        })?;
        if let Some((_, file)) = staged {
            file.finish()?;
        }
        let planned = plans.iter().filter(|plan| is_chosen(plan));
        let planned: u64 = planned.map(|plan| plan.records).sum();
        if records == planned {
            return Ok(());
        }
        let dir = self.dir.display();
        Err(Error::with_path(
            ErrorKind::Io,
            &self.dir,
            format!(
                "{records} of {planned} records of {dir} were read the second time; no file was \
                 replaced by fewer records: look for errors of the device, and try again"
            ),
        ))
    }

    fn stage_ledger(&self, installation: &Installation<'_>) -> Result<()> {
        let path = installation.path_of_new(LEDGER_FILE_NAME);
        create(&*self.storage, &path, &self.plan.ledger.to_bytes())
    }

    /// The findings that are bytes of a file.
    fn damaged_spans(&self) -> impl Iterator<Item = (&String, &Finding)> {
        let findings = self.plan.verification.findings.iter();
        let with_bytes = findings.filter(|finding| finding.length > 0);
        with_bytes.filter_map(|finding| Some((finding.file.as_ref()?, finding)))
    }

    /// Keeps the damaged bytes in the quarantine.
    ///
    /// # Errors
    /// They cannot all be kept. Nothing was changed.
    fn keep_damage(&self) -> Result<()> {
        let refused = |kind, why: &str| {
            let dir = self.dir.display();
            let message = format!(
                "the damaged bytes of {dir} cannot be kept in the quarantine, {why}; nothing was \
                 changed: repair without in_place, which keeps the original files"
            );
            Err(Error::with_path(kind, &self.dir, message))
        };
        let omitted = self.plan.verification.findings_omitted;
        if self.damaged_spans().count() > MAX_REPORTS / 2 || omitted > 0 {
            return refused(ErrorKind::InvalidConfig, "because there are too many");
        }
        let policy = OnCorruption::Quarantine;
        let storage = Arc::clone(&self.storage);
        let quarantine = Quarantine::new(storage, &self.dir, policy, u64::MAX);
        for (name, finding) in self.damaged_spans() {
            if let Some(file) = open_data_file(&*self.storage, &self.dir.join(name))? {
                let kind = finding.kind.as_str();
                let (offset, len) = (finding.offset, finding.length);
                if !quarantine.keep_span(&*file, name, offset, len, kind, finding.events_lost) {
                    return refused(ErrorKind::Io, "because a call failed");
                }
            }
        }
        Ok(())
    }

    fn stage_report(&self, installation: &Installation<'_>) -> Result<()> {
        let path = installation.path_of_report();
        create(&*self.storage, &path, report(&self.plan).as_bytes())
    }
}

/// Ids for the files that keep records, one after the other, from the id of the first such file
/// on where that is possible.
fn new_ids(survey: &Survey, tallies: &[Tally]) -> Vec<u16> {
    let kept = || {
        let files = survey.files.iter().zip(tallies);
        files
            .filter(|(_, tally)| tally.records > 0)
            .map(|(file, _)| file.file_id)
    };
    let blocked: BTreeSet<u16> = survey.blocked.iter().copied().collect();
    let count = kept().count();
    let mut first = kept().next().unwrap_or(0);
    // A name that belongs to something else is rare; the ids begin after it.
    for _ in 0..=blocked.len() {
        let mut ids = std::iter::successors(Some(first), |id| Some(file_id::next(*id))).take(count);
        match ids.find(|id| blocked.contains(id)) {
            Some(id) => first = file_id::next(id),
            None => break,
        }
    }
    std::iter::successors(Some(first), |id| Some(file_id::next(*id)))
        .take(count)
        .collect()
}

pub(super) fn is_new_or_empty(storage: &dyn Storage, dir: &Path) -> Result<()> {
    refuse_inside(storage, dir)?;
    uninterrupted(|| storage.create_dir(dir))
        .map_err(|e| Error::io("create the directory", dir, e))?;
    let entries =
        uninterrupted(|| storage.list(dir)).map_err(|e| Error::io("list the directory", dir, e))?;
    if entries.is_empty() {
        return Ok(());
    }
    Err(Error::with_path(
        ErrorKind::InvalidConfig,
        dir,
        format!(
            "{} is not empty; nothing was changed: give a new or empty directory for the original",
            dir.display()
        ),
    ))
}

/// Copies the original files to another directory, syncs them, and deletes them here.
pub(super) fn move_original(storage: &dyn Storage, from: &Path, to: &Path) -> Result<()> {
    let entries = uninterrupted(|| storage.list(from))
        .map_err(|e| Error::io("list the directory", from, e))?;
    let mut buf = vec![0; COPY_LEN];
    for entry in &entries {
        let (source, target) = (from.join(&entry.name), to.join(&entry.name));
        let input = uninterrupted(|| storage.open(&source, Access::Read))
            .map_err(|e| Error::io("open", &source, e))?;
        let output = uninterrupted(|| storage.open(&target, Access::CreateNew))
            .map_err(|e| Error::io("create", &target, e))?;
        let mut done = 0;
        loop {
            let read =
                read_full(&*input, &mut buf, done).map_err(|e| Error::read(&source, done, e))?;
            if read == 0 {
                break;
            }
            write_all(&*output, &buf[..read], done)
                .map_err(|e| Error::io("write to", &target, e))?;
            done += read as u64;
        }
        uninterrupted(|| output.sync()).map_err(|e| Error::io("sync", &target, e))?;
    }
    uninterrupted(|| storage.sync_dir(to)).map_err(|e| Error::io("sync the directory", to, e))?;
    for entry in &entries {
        // The list stays: it says which ids are missing.
        if entry.name != install::LIST_DONE {
            let path = from.join(&entry.name);
            uninterrupted(|| storage.delete(&path)).map_err(|e| Error::io("delete", &path, e))?;
        }
    }
    Ok(())
}
