//! Replaces files of a buffer by others so that a crash at any moment leaves the old ones, the
//! new ones, or a state that the next opening finishes.
//!
//! The new files are made under `repair/` in the buffer's directory, a name that no reader of the
//! format looks at. A list says what happens to the old ones, and its name says how far the
//! installation is:
//!
//! | list | the buffer is | what remains to be done |
//! | --- | --- | --- |
//! | none, or `list.new` | the old one | the new files are deleted |
//! | `list.out` | neither | old files go where the list says, then it becomes `list.in` |
//! | `list.in` | neither | new files move into the directory, then it becomes `N/list` |
//!
//! `repair/N` is the place of the N-th repair: the original files, the list, which also says which
//! ids are missing from then on, and a report for people. An installation that only adds files has
//! no such place; its list is deleted in the end.
//!
//! Invariants:
//! - Before `list.out` appears, the new files and the files that stay are synced.
//! - While it is there, every file of the buffer's own directory is an old one. While `list.in`
//!   is there, each that also lies under `repair/` is missing in the directory.
//! - Each step can be made again.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::directory::sealed;
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id::is_buffer_file;
use crate::storage::{Access, Storage, uninterrupted, write_all};

/// The name of the directory in the buffer's directory.
pub(crate) const REPAIR_DIR_NAME: &str = "repair";

const LIST_NEW: &str = "list.new";
const LIST_OUT: &str = "list.out";
const LIST_IN: &str = "list.in";
pub(crate) const LIST_DONE: &str = "list";
const REPORT: &str = "report.json";

/// A buffer's file that says which records were taken from other buffers, and its file that says
/// which buffer it is.
pub(crate) const TRANSFERS_FILE_NAME: &str = "transfers";
pub(crate) const IDENTITY_FILE_NAME: &str = "identity";

/// At most this many missing ranges of ids are noted.
pub(crate) const MISSING_MAX: usize = 1 << 20;

/// What happens to one old file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Out {
    /// It is moved to the directory of the original, `repair/N`.
    Keep { name: String },
    /// It is deleted: what is good of it was copied.
    Delete { name: String },
    /// It is part of the new buffer under another name.
    Rename { from: String, to: String },
}

/// What an installation does with the old files, and which ids are missing afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) out: Vec<Out>,
    pub(crate) missing: Vec<Range<u64>>,
}

/// The installation of one set of files.
#[derive(Debug)]
pub(crate) struct Installation<'s> {
    storage: &'s dyn Storage,
    dir: PathBuf,
    /// The number of the directory for the original, or [`NO_ORIGINAL`].
    number: u32,
}

/// The number of an installation that keeps no original.
const NO_ORIGINAL: u32 = 0;

impl<'s> Installation<'s> {
    /// Begins one: what an earlier one left unfinished is finished or undone, and a number is
    /// chosen. The caller holds the lock.
    ///
    /// # Errors
    /// Those of the storage, and a list that is damaged.
    pub(crate) fn begin(storage: &'s dyn Storage, dir: &Path) -> Result<Self> {
        finish(storage, dir)?;
        let repair = dir.join(REPAIR_DIR_NAME);
        uninterrupted(|| storage.create_dir(&repair))
            .map_err(|e| Error::io("create the directory", &repair, e))?;
        Self::resume(storage, dir)
    }

    /// The same one again, by the process that began it and holds the lock.
    ///
    /// # Errors
    /// Those of the storage.
    pub(crate) fn resume(storage: &'s dyn Storage, dir: &Path) -> Result<Self> {
        let names = names_in(storage, &dir.join(REPAIR_DIR_NAME))?;
        let number = (1..).find(|number| !names.contains(&number.to_string()));
        Ok(Self {
            storage,
            dir: dir.to_owned(),
            // There are not that many entries.
            number: number.unwrap_or(u32::MAX),
        })
    }

    /// As [`begin`](Self::begin), for an installation that keeps no original and has no report.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub(crate) fn begin_without_original(storage: &'s dyn Storage, dir: &Path) -> Result<Self> {
        Self::begin(storage, dir)?;
        Ok(Self::resume_without_original(storage, dir))
    }

    /// The same one again, by the process that began it and holds the lock.
    pub(crate) fn resume_without_original(storage: &'s dyn Storage, dir: &Path) -> Self {
        Self {
            storage,
            dir: dir.to_owned(),
            number: NO_ORIGINAL,
        }
    }

    /// Where a new file is made before it is installed under this name.
    pub(crate) fn path_of_new(&self, name: &str) -> PathBuf {
        self.dir.join(REPAIR_DIR_NAME).join(name)
    }

    /// Where the report is made before it is installed.
    pub(crate) fn path_of_report(&self) -> PathBuf {
        self.path_of_new(REPORT)
    }

    /// The directory for the original and for the report.
    pub(crate) fn kept(&self) -> PathBuf {
        kept(&self.dir, self.number)
    }

    /// Installs the new files, which are written and synced. If this fails after the list is
    /// there, the next opening finishes it.
    ///
    /// # Errors
    /// Those of the storage.
    pub(crate) fn install(&self, list: &List) -> Result<()> {
        let repair = self.dir.join(REPAIR_DIR_NAME);
        let (new, out) = (repair.join(LIST_NEW), repair.join(LIST_OUT));
        let text = text_of(self.number, list);
        let file = uninterrupted(|| self.storage.open(&new, Access::CreateNew))
            .map_err(|e| Error::io("create", &new, e))?;
        write_all(&*file, text.as_bytes(), 0)
            .and_then(|()| uninterrupted(|| file.sync()))
            .map_err(|e| Error::io("write to", &new, e))?;
        drop(file);
        sync_dir(self.storage, &repair)?;
        sync_dir(self.storage, &self.dir)?;
        rename(self.storage, &new, &out)?;
        finish(self.storage, &self.dir)
    }
}

/// Finishes or undoes an installation that was interrupted. The caller holds the lock.
///
/// # Errors
/// Those of the storage, and a list that is damaged.
pub(crate) fn finish(storage: &dyn Storage, dir: &Path) -> Result<()> {
    let repair = dir.join(REPAIR_DIR_NAME);
    let names = names_in(storage, &repair)?;
    if names.contains(LIST_OUT) || names.contains(LIST_IN) {
        // Nothing moves before the name of the list is durable. Who gave it may have been killed
        // before it was synced.
        sync_dir(storage, &repair)?;
    }
    if names.contains(LIST_OUT) && !names.contains(LIST_IN) {
        move_out(storage, dir)?;
    }
    if names.contains(LIST_OUT) || names.contains(LIST_IN) {
        move_in(storage, dir)?;
    }
    undo(storage, &repair)
}

/// Whether an installation was interrupted so that the buffer is neither the old nor the new one.
///
/// # Errors
/// Those of the storage.
pub(crate) fn is_unfinished(storage: &dyn Storage, dir: &Path) -> Result<bool> {
    let names = names_in(storage, &dir.join(REPAIR_DIR_NAME))?;
    Ok(names.contains(LIST_OUT) || names.contains(LIST_IN))
}

/// Whether an opening would finish an installation that was interrupted; false if its list is
/// damaged.
///
/// # Errors
/// Those of the storage.
pub(crate) fn can_be_finished(storage: &dyn Storage, dir: &Path) -> Result<bool> {
    let repair = dir.join(REPAIR_DIR_NAME);
    for name in [LIST_IN, LIST_OUT] {
        match read_list(storage, &repair.join(name)) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == ErrorKind::Corrupt || is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// The ids that repairs have reported missing, in order; no range touches the next one.
///
/// # Errors
/// Those of the storage. A list that is damaged says nothing.
pub(crate) fn missing(storage: &dyn Storage, dir: &Path) -> Result<Vec<Range<u64>>> {
    let repair = dir.join(REPAIR_DIR_NAME);
    let mut missing = Vec::new();
    for name in names_in(storage, &repair)? {
        let path = repair.join(name).join(LIST_DONE);
        match read_list(storage, &path) {
            Ok((_, list)) => missing.extend(list.missing),
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    missing.sort_by_key(|range| range.start);
    missing.dedup_by(|next, range| {
        let touches = next.start <= range.end;
        if touches {
            range.end = range.end.max(next.end);
        }
        touches
    });
    Ok(missing)
}

/// Whether a directory is the place of the original that a repair has replaced.
pub(crate) fn is_original(storage: &dyn Storage, dir: &Path) -> bool {
    read_list(storage, &dir.join(LIST_DONE)).is_ok()
}

fn is_absent(error: &Error) -> bool {
    use std::error::Error as _;
    let source = error.source().and_then(|source| source.downcast_ref());
    source.is_some_and(|e: &io::Error| {
        matches!(
            e.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    })
}

fn kept(dir: &Path, number: u32) -> PathBuf {
    dir.join(REPAIR_DIR_NAME).join(number.to_string())
}

/// Deletes what lies there without a list.
fn undo(storage: &dyn Storage, repair: &Path) -> Result<()> {
    let names = names_in(storage, repair)?;
    let is_ours = |name: &str| name == LIST_NEW || name == REPORT || is_of_a_buffer(name);
    for name in names.iter().filter(|name| is_ours(name)) {
        delete(storage, &repair.join(name))?;
    }
    Ok(())
}

fn move_out(storage: &dyn Storage, dir: &Path) -> Result<()> {
    let repair = dir.join(REPAIR_DIR_NAME);
    let list = repair.join(LIST_OUT);
    let (number, List { out, .. }) = read_list(storage, &list)?;
    let kept = kept(dir, number);
    if number != NO_ORIGINAL {
        uninterrupted(|| storage.create_dir(&kept))
            .map_err(|e| Error::io("create the directory", &kept, e))?;
    }
    let there = names_in(storage, dir)?;
    for step in &out {
        match step {
            Out::Keep { name } if there.contains(name) => {
                rename(storage, &dir.join(name), &kept.join(name))?;
            }
            Out::Delete { name } if there.contains(name) => {
                delete(storage, &dir.join(name))?;
            }
            Out::Rename { from, to } if there.contains(from) => {
                rename(storage, &dir.join(from), &repair.join(to))?;
            }
            _ => {}
        }
    }
    // Where a file has come to first, so that no power cut takes its only name.
    if number != NO_ORIGINAL {
        sync_dir(storage, &kept)?;
    }
    sync_dir(storage, &repair)?;
    sync_dir(storage, dir)?;
    rename(storage, &list, &repair.join(LIST_IN))?;
    sync_dir(storage, &repair)
}

fn move_in(storage: &dyn Storage, dir: &Path) -> Result<()> {
    let repair = dir.join(REPAIR_DIR_NAME);
    let names = names_in(storage, &repair)?;
    if names.contains(LIST_OUT) {
        // A power cut has left both names of the list.
        delete(storage, &repair.join(LIST_OUT))?;
        sync_dir(storage, &repair)?;
    }
    for name in names.iter().filter(|name| is_of_a_buffer(name)) {
        rename(storage, &repair.join(name), &dir.join(name))?;
    }
    sync_dir(storage, dir)?;
    sync_dir(storage, &repair)?;
    let list = repair.join(LIST_IN);
    let number = read_list(storage, &list)?.0;
    if number == NO_ORIGINAL {
        delete(storage, &list)?;
        return sync_dir(storage, &repair);
    }
    let kept = kept(dir, number);
    if names.contains(REPORT) {
        rename(storage, &repair.join(REPORT), &kept.join(REPORT))?;
    }
    rename(storage, &list, &kept.join(LIST_DONE))?;
    sync_dir(storage, &kept)?;
    sync_dir(storage, &repair)
}

fn is_of_a_buffer(name: &str) -> bool {
    name == TRANSFERS_FILE_NAME || is_buffer_file(name.as_ref())
}

/// The names in a directory; none if it is not there.
fn names_in(storage: &dyn Storage, dir: &Path) -> Result<BTreeSet<String>> {
    match uninterrupted(|| storage.list(dir)) {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(BTreeSet::new())
        }
        entries => Ok(entries
            .map_err(|e| Error::io("list the directory", dir, e))?
            .into_iter()
            .map(|entry| entry.name.to_string_lossy().into_owned())
            .collect()),
    }
}

fn rename(storage: &dyn Storage, from: &Path, to: &Path) -> Result<()> {
    uninterrupted(|| storage.rename(from, to))
        .map_err(|e| Error::io(&format!("move to {} the file", to.display()), from, e))?;
    // A power cut during an earlier attempt may have left both names of the one file. Then a
    // rename does nothing.
    match uninterrupted(|| storage.delete(from)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("delete", from, e)),
        _ => Ok(()),
    }
}

fn delete(storage: &dyn Storage, path: &Path) -> Result<()> {
    uninterrupted(|| storage.delete(path)).map_err(|e| Error::io("delete", path, e))
}

fn sync_dir(storage: &dyn Storage, dir: &Path) -> Result<()> {
    uninterrupted(|| storage.sync_dir(dir)).map_err(|e| Error::io("sync the directory", dir, e))
}

/// The list as text: a line for the number, one for each file, and a checksum of them.
fn text_of(number: u32, list: &List) -> String {
    use std::fmt::Write as _;
    let mut text = format!("original {number}\n");
    for step in &list.out {
        // Writing to a string cannot fail.
        let _ = match step {
            Out::Keep { name } => writeln!(text, "keep {name}"),
            Out::Delete { name } => writeln!(text, "delete {name}"),
            Out::Rename { from, to } => writeln!(text, "rename {from} {to}"),
        };
    }
    for ids in list.missing.iter().take(MISSING_MAX) {
        let _ = writeln!(text, "missing {} {}", ids.start, ids.end);
    }
    sealed::seal(text)
}

fn read_list(storage: &dyn Storage, path: &Path) -> Result<(u32, List)> {
    let text = sealed::read(storage, path).map_err(|e| Error::io("read", path, e))?;
    parse(&text).ok_or_else(|| {
        Error::with_path(
            ErrorKind::Corrupt,
            path,
            format!(
                "{} is damaged, so an interrupted repair cannot be finished; nothing was changed: \
                 the files of the buffer are in its directory and in {REPAIR_DIR_NAME}/ below it, \
                 and salvage reads both",
                path.display()
            ),
        )
    })
}

fn parse(text: &str) -> Option<(u32, List)> {
    let mut lines = sealed::unseal(text)?.lines();
    let number = lines.next()?.strip_prefix("original ")?.parse().ok()?;
    let mut list = List::default();
    for line in lines {
        let mut words = line.split(' ').map(str::to_owned);
        match (words.next()?.as_str(), words.next()?, words.next()) {
            ("keep", name, None) => list.out.push(Out::Keep { name }),
            ("delete", name, None) => list.out.push(Out::Delete { name }),
            ("rename", from, Some(to)) => list.out.push(Out::Rename { from, to }),
            ("missing", start, Some(end)) => {
                list.missing.push(start.parse().ok()?..end.parse().ok()?);
            }
            _ => return None,
        }
    }
    Some((number, list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_back_exactly_and_not_at_all_when_it_is_damaged() {
        let out = vec![
            Out::Keep {
                name: "buffer-data-3.dat".to_owned(),
            },
            Out::Rename {
                from: "buffer-data-5.dat".to_owned(),
                to: "buffer-data-4.dat".to_owned(),
            },
            Out::Delete {
                name: "buffer.db".to_owned(),
            },
        ];
        let missing = vec![4..9, 12..13];
        let list = List { out, missing };
        let text = text_of(7, &list);
        assert_eq!(parse(&text), Some((7, list)));
        for at in 0..text.len() {
            assert_eq!(
                parse(&text[..at]).is_some(),
                at + 1 == text.len(),
                "cut at {at}"
            );
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let is_end = at + 1 == text.len();
            assert!(
                is_end || parse(&String::from_utf8_lossy(&bytes)).is_none(),
                "bit at {at}"
            );
        }
    }
}
