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
use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::directory::install::{IDENTITY_FILE_NAME, TRANSFERS_FILE_NAME};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Access, Storage, read_full, uninterrupted, write_all};

/// A longer file is damaged.
const LEN_MAX: u64 = 16 << 20;

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
    /// It is not, although its id is among theirs or higher.
    New,
    /// Its id is lower than theirs. It was taken if a noted record comes after it, because then
    /// both are of one history.
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
        match id <= *last && self.0.contains(&(id, checksum)) {
            true => Judgement::Taken,
            false => Judgement::New,
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
        match read_text(storage, &path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            text => {
                let text = text.map_err(|e| Error::io("read", &path, e))?;
                Self::parse(&text).ok_or_else(|| damaged(&path))
            }
        }
    }

    /// What was taken from a buffer with one of these identities.
    pub(super) fn of(&self, identities: &[String]) -> Taken {
        let mut notes = self.0.iter();
        let note = notes.find(|(identity, _)| identities.contains(identity));
        note.map(|(_, taken)| taken.clone()).unwrap_or_default()
    }

    /// The notes as text, with these of the buffer with this identity.
    pub(super) fn text_with(&self, identity: &str, taken: &Taken) -> String {
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
        for (other, taken) in self.0.iter().filter(|(other, _)| other != identity) {
            let mut taken = taken.clone();
            taken.keep(NOTED_OF_OTHERS_MAX);
            write(other, &taken);
        }
        write(identity, taken);
        let sum = crc32fast::hash(text.as_bytes());
        let _ = writeln!(text, "end {sum:08x}");
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, end) = text.split_at(text.trim_end().rfind('\n').map_or(0, |at| at + 1));
        let sum = end.strip_prefix("end ")?.trim_end();
        if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(body.as_bytes()) {
            return None;
        }
        let notes = body.lines().map(|line| {
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
    match identity(storage, dir) {
        Ok(identity) => Ok(vec![identity, by_path]),
        Err(error) if cannot_be_made(&error) => Ok(vec![by_path]),
        Err(error) => Err(error),
    }
}

/// How often a file is read that another process may just be writing, and how long to wait.
const READS: u32 = 40;
const READ_PAUSE: Duration = Duration::from_millis(25);

fn identity(storage: &dyn Storage, dir: &Path) -> Result<String> {
    let path = dir.join(IDENTITY_FILE_NAME);
    let new = format!("{:016x}{:016x}\n", random(), random());
    for read in 0..READS {
        match uninterrupted(|| storage.open(&path, Access::CreateNew)) {
            Ok(file) => {
                let made = write_all(&*file, new.as_bytes(), 0)
                    .and_then(|()| uninterrupted(|| file.sync()))
                    .and_then(|()| uninterrupted(|| storage.sync_dir(dir)));
                if let Err(e) = made {
                    // Otherwise the next attempt waits for a part of it to become whole.
                    let _ = storage.delete(&path);
                    return Err(Error::io("make", &path, e));
                }
                return Ok(new.trim_end().to_owned());
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // Where nothing can be created there may be one all the same.
            Err(e) => {
                let error = Error::io("make", &path, e);
                let there = read_text(storage, &path).ok();
                return there.and_then(|text| parse_identity(&text)).ok_or(error);
            }
        }
        let text = read_text(storage, &path).map_err(|e| Error::io("read", &path, e))?;
        match parse_identity(&text) {
            Some(identity) => return Ok(identity),
            // A process is writing it, or was killed or lost power while it did.
            None if text.len() < new.len() && read + 1 < READS => thread::sleep(READ_PAUSE),
            None if new.len() >= text.len() => {
                uninterrupted(|| storage.delete(&path))
                    .map_err(|e| Error::io("delete", &path, e))?;
                return identity(storage, dir);
            }
            None => break,
        }
    }
    Err(damaged(&path))
}

fn parse_identity(text: &str) -> Option<String> {
    let identity = text.trim_end();
    let is_one = identity.len() == 32 && identity.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| identity.to_owned())
}

fn cannot_be_made(error: &Error) -> bool {
    use std::error::Error as _;
    let source = error.source().and_then(|source| source.downcast_ref());
    source.is_some_and(|e: &io::Error| {
        matches!(
            e.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
        )
    })
}

/// A number that no other process gets: each of these hashers has random keys.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn read_text(storage: &dyn Storage, path: &Path) -> io::Result<String> {
    let file = uninterrupted(|| storage.open(path, Access::Read))?;
    let len = uninterrupted(|| file.len())?.min(LEN_MAX);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let read = read_full(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
            let mut taken = notes.of(&[identity.to_owned()]);
            for id in last_id - 5..=last_id {
                taken.note(id, 7 * id as u32);
            }
            let text = notes.text_with(identity, &taken);
            notes = Notes::parse(&text).unwrap();
            assert_eq!(notes.of(&[identity.to_owned()]), taken);
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

    #[test]
    fn a_record_is_judged_by_what_is_noted() {
        let mut taken = Taken::default();
        assert_eq!(taken.judge(1, 1), Judgement::New);
        for id in 1..=400 {
            taken.note(id, id as u32);
        }
        assert_eq!(taken.judge(400, 400), Judgement::Taken);
        assert_eq!(taken.judge(400, 1), Judgement::New);
        assert_eq!(taken.judge(401, 401), Judgement::New);
        assert_eq!(taken.judge(144, 144), Judgement::Early);
        // Another history goes on from 300.
        taken.note(300, 7);
        assert_eq!(taken.judge(300, 7), Judgement::Taken);
        assert_eq!(taken.judge(301, 301), Judgement::New);
        assert_eq!(taken.judge(299, 299), Judgement::Taken);
    }
}
