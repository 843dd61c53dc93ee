//! What a buffer remembers of the buffers from which records were moved or copied to it.
//!
//! `transfers` in its directory has a line for each of them: its identity, and the ids and checksums
//! of the last records that were taken. The last line is a checksum of the others. The file changes
//! together with the records (`rescue/addition.rs`), so it is exact after a kill and after a power
//! cut.
//!
//! A buffer's identity is a random number in its file `identity`, made when it is first needed. A
//! copy of the directory keeps it, so that taking from the copy goes on where it was.
//!
//! Identity and ids alone do not prove that a record was taken: a backup was put back, the files
//! were deleted and the identity stayed, several machines were made from one image. So records are
//! compared with the noted ones ([`Taken::judge`]).

use crate::sync::thread;
use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::directory::install::{IDENTITY_FILE_NAME, TRANSFERS_FILE_NAME};
use crate::directory::sealed;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Access, File, Storage, uninterrupted, write_all};

/// So many of the last records that were taken are noted, of the buffer that records are being
/// taken from and of every other one.
const NOTED_MAX: usize = 256;
const NOTED_OF_OTHERS_MAX: usize = 16;

/// The last records that were taken from one buffer: ids, which rise, and checksums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Taken(VecDeque<(u64, u32)>);

/// Whether a record was taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is one of those that are noted.
    Taken,
    /// It is not, although its id is among theirs: the history is another one from here on.
    Other,
    /// Its id is higher than theirs.
    New,
    /// Its id is lower than theirs. It was taken if all that come after it up to their last id are
    /// noted, because then both are of one history.
    Early,
}

impl Taken {
    pub(super) fn judge(&self, id: u64, checksum: u32) -> Judgement {
        let (Some((first, _)), Some((last, _))) = (self.0.front(), self.0.back()) else {
            return Judgement::New;
        };
        if id < *first {
            return Judgement::Early;
        }
        match id <= *last {
            false => Judgement::New,
            true if self.0.contains(&(id, checksum)) => Judgement::Taken,
            true => Judgement::Other,
        }
    }

    /// Notes a record that is taken. What is noted of another history is forgotten.
    pub(super) fn note(&mut self, id: u64, checksum: u32) {
        while self.0.back().is_some_and(|(last, _)| *last >= id) {
            self.0.pop_back();
        }
        self.0.push_back((id, checksum));
        self.keep(NOTED_MAX);
    }

    fn keep(&mut self, count: usize) {
        self.0.drain(..self.0.len().saturating_sub(count));
    }
}

/// What was taken from all buffers, by their identities.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<(String, Taken)>);

impl Notes {
    /// Reads those of the buffer in `dir`.
    ///
    /// # Errors
    /// Those of the storage; [`ErrorKind::Corrupt`] if the file is damaged.
    pub(super) fn read(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let path = dir.join(TRANSFERS_FILE_NAME);
        match sealed::read(storage, &path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            text => {
                let text = text.map_err(|e| Error::io("read", &path, e))?;
                Self::parse(&text).ok_or_else(|| damaged(&path))
            }
        }
    }

    /// What was taken from a buffer that is known by these identities.
    pub(super) fn of(&self, identities: &[String]) -> Taken {
        let notes = self.0.iter().filter(|(of, _)| identities.contains(of));
        let records: BTreeSet<_> = notes.flat_map(|(_, taken)| &taken.0).copied().collect();
        Taken(records.into_iter().collect())
    }

    /// The notes as text, with these of the buffer with these identities, under the first of them.
    pub(super) fn text_with(&self, identities: &[String], taken: &Taken) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut write = |identity: &str, taken: &Taken| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{identity}\t");
            for (at, (id, checksum)) in taken.0.iter().enumerate() {
                let separator = if at == 0 { "" } else { "," };
                let _ = write!(text, "{separator}{id}:{checksum:08x}");
            }
            text.push('\n');
        };
        for (other, taken) in self
            .0
            .iter()
            .filter(|(other, _)| !identities.contains(other))
        {
            let mut taken = taken.clone();
            taken.keep(NOTED_OF_OTHERS_MAX);
            write(other, &taken);
        }
        if let Some(identity) = identities.first() {
            write(identity, taken);
        }
        sealed::seal(text)
    }

    fn parse(text: &str) -> Option<Self> {
        let notes = sealed::unseal(text)?.lines().map(|line| {
            let (identity, records) = line.split_once('\t')?;
            let records = records.split(',').map(|record| {
                let (id, checksum) = record.split_once(':')?;
                let checksum = u32::from_str_radix(checksum, 16).ok()?;
                Some((id.parse().ok()?, checksum))
            });
            Some((identity.to_owned(), Taken(records.collect::<Option<_>>()?)))
        });
        notes.collect::<Option<_>>().map(Self)
    }
}

/// The identities under which what was taken from the buffer in `dir` may be noted; under the first
/// one it is noted from now on. That one is made if there is none. A directory that cannot be
/// written to is known by its path.
///
/// # Errors
/// Those of the storage; [`ErrorKind::Corrupt`] if the file is damaged.
pub(super) fn identities(storage: &dyn Storage, dir: &Path) -> Result<Vec<String>> {
    let path = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let by_path = format!("path:{}", path.to_string_lossy().replace(['\n', '\t'], "?"));
    Ok(match identity(storage, dir)? {
        Some(identity) => vec![identity, by_path],
        None => vec![by_path],
    })
}

/// The length of the file: sixteen bytes in hexadecimal digits, and the end of the line.
const IDENTITY_LEN: usize = 33;

/// How often a file is read that another process may just be writing, and how long to wait.
const READS: u32 = 40;
const READ_PAUSE: Duration = Duration::from_millis(25);

/// The identity of a buffer; `None` if there is none and none can be made. One that is there and
/// cannot be read is an error: without it, records could be taken again.
fn identity(storage: &dyn Storage, dir: &Path) -> Result<Option<String>> {
    let path = dir.join(IDENTITY_FILE_NAME);
    let new = format!("{:016x}{:016x}\n", random(), random());
    for read in 0..READS {
        let text = match sealed::read(storage, &path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => match make(storage, &path, &new) {
                Ok(()) => return Ok(parse_identity(&new)),
                // Another process was faster.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) if cannot_be_made(&e) => return Ok(None),
                Err(e) => return Err(Error::io("make", &path, e)),
            },
            text => text.map_err(|e| Error::io("read", &path, e))?,
        };
        match parse_identity(&text) {
            Some(identity) => {
                settle(storage, &path).map_err(|e| Error::io("sync", &path, e))?;
                return Ok(Some(identity));
            }
            // A process is writing it, or was killed or lost power while it did.
            None if is_unfinished(&text) && read + 1 < READS => thread::sleep(READ_PAUSE),
            None if is_unfinished(&text) => {
                uninterrupted(|| storage.delete(&path))
                    .map_err(|e| Error::io("delete", &path, e))?;
                return identity(storage, dir);
            }
            None => break,
        }
    }
    Err(damaged(&path))
}

fn make(storage: &dyn Storage, path: &Path, text: &str) -> io::Result<()> {
    let file = uninterrupted(|| storage.open(path, Access::CreateNew))?;
    let made = write_all(&*file, text.as_bytes(), 0).and_then(|()| sync(storage, path, &*file));
    if made.is_err() {
        // Otherwise the next attempt waits for a part of it to become whole.
        let _ = storage.delete(path);
    }
    made
}

/// Syncs an identity that another process may have made and not synced, because it was killed. One
/// that this process may not write is not of such a process.
fn settle(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match uninterrupted(|| storage.open(path, Access::Write)) {
        Err(e) if cannot_be_made(&e) => Ok(()),
        file => sync(storage, path, &*file?),
    }
}

fn sync(storage: &dyn Storage, path: &Path, file: &dyn File) -> io::Result<()> {
    uninterrupted(|| file.sync())?;
    match path.parent() {
        Some(dir) => uninterrupted(|| storage.sync_dir(dir)),
        None => Ok(()),
    }
}

fn parse_identity(text: &str) -> Option<String> {
    let identity = text.trim_end();
    let is_one =
        identity.len() + 1 == IDENTITY_LEN && identity.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| identity.to_owned())
}

/// Whether it was not written to its end. After a power cut a file may have its length, and zeros
/// for bytes. Nothing was noted under such an identity: it is synced before it is used.
fn is_unfinished(text: &str) -> bool {
    text.len() < IDENTITY_LEN || text.contains('\0')
}

/// Whether the file system is read-only or full.
fn cannot_be_made(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
    )
}

/// A number that no other process gets: each of these hashers has random keys.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn damaged(path: &Path) -> Error {
    Error::with_path(
        ErrorKind::Corrupt,
        path,
        format!(
            "{} is damaged, so nothing tells which records were taken already; nothing was \
             changed: delete it, and what was taken may be taken again",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_back_exactly_and_not_at_all_when_they_are_damaged() {
        let mut notes = Notes::default();
        for (identity, last_id) in [("0123", 8), ("path:/a dir/b", 9), ("0123", 300)] {
            let identities = [identity.to_owned()];
            let mut taken = notes.of(&identities);
            for id in last_id - 5..=last_id {
                taken.note(id, 7 * id as u32);
            }
            let text = notes.text_with(&identities, &taken);
            notes = Notes::parse(&text).unwrap();
            assert_eq!(notes.of(&identities), taken);
            for at in 0..text.len() {
                let cut = Notes::parse(&text[..at]);
                assert_eq!(cut.is_some(), at + 1 == text.len(), "cut at {at}");
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                let is_end = at + 1 == text.len();
                let flipped = Notes::parse(&String::from_utf8_lossy(&bytes));
                assert!(is_end || flipped.is_none(), "bit at {at}");
            }
        }
        assert_eq!(notes.0.len(), 2);
    }

    /// Regression: the older note of a buffer that had been known by its path was found first, and
    /// what had been taken since was taken again.
    #[test]
    fn a_buffer_has_one_note_whatever_it_was_known_by() {
        let mut taken = Taken::default();
        taken.note(1, 1);
        let by_path = ["path:/from".to_owned()];
        let notes = Notes::parse(&Notes::default().text_with(&by_path, &taken)).unwrap();
        let both = ["0123".to_owned(), "path:/from".to_owned()];
        let mut taken = notes.of(&both);
        taken.note(2, 2);
        let notes = Notes::parse(&notes.text_with(&both, &taken)).unwrap();
        assert_eq!(notes.of(&both), taken);
        assert_eq!(notes.0.len(), 1);
    }

    #[test]
    fn a_record_is_judged_by_what_is_noted() {
        let mut taken = Taken::default();
        assert_eq!(taken.judge(1, 1), Judgement::New);
        for id in 1..=400 {
            taken.note(id, id as u32);
        }
        assert_eq!(taken.judge(400, 400), Judgement::Taken);
        assert_eq!(taken.judge(400, 1), Judgement::Other);
        assert_eq!(taken.judge(401, 401), Judgement::New);
        assert_eq!(taken.judge(144, 144), Judgement::Early);
        // Another history goes on from 300.
        taken.note(300, 7);
        assert_eq!(taken.judge(300, 7), Judgement::Taken);
        assert_eq!(taken.judge(301, 301), Judgement::New);
        assert_eq!(taken.judge(299, 299), Judgement::Taken);
    }
}
