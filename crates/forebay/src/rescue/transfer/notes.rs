//! What a buffer remembers of the buffers from which records were moved or copied to it.
//!
//! `transfers` in its directory has a line for each of them: its identity, the id of the last record
//! that was taken, and that record's checksum. The last line is a checksum of the others. The file changes together with the records
//! (`rescue/addition.rs`), so it is exact after a kill and after a power cut.
//!
//! A buffer's identity is a random number in its file `identity`, made when it is first needed. A
//! copy of the directory keeps it, so that taking from the copy goes on where it was.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::path::Path;

use crate::directory::install::{IDENTITY_FILE_NAME, TRANSFERS_FILE_NAME};
use crate::directory::recovery::create;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Access, Storage, read_full, uninterrupted};

/// A longer file is damaged.
const LEN_MAX: u64 = 16 << 20;

/// The last record that was taken from one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) last_id: u64,
    pub(super) checksum: u32,
}

/// What was taken from all buffers, by their identities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

    pub(super) fn of(&self, identity: &str) -> Option<Taken> {
        let mut notes = self.0.iter();
        let note = notes.find(|(of, _)| of == identity);
        note.map(|(_, taken)| *taken)
    }

    pub(super) fn set(&mut self, identity: &str, taken: Taken) {
        self.0.retain(|(of, _)| of != identity);
        self.0.push((identity.to_owned(), taken));
    }

    pub(super) fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (identity, taken) in &self.0 {
            let Taken { last_id, checksum } = taken;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{identity} {last_id} {checksum:08x}");
        }
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
            // An identity may hold spaces.
            let mut words = line.rsplitn(3, ' ');
            let checksum = u32::from_str_radix(words.next()?, 16).ok()?;
            let last_id = words.next()?.parse().ok()?;
            let taken = Taken { last_id, checksum };
            Some((words.next()?.to_owned(), taken))
        });
        notes.collect::<Option<_>>().map(Self)
    }
}

/// The identity of the buffer in `dir`, made if there is none. A directory that cannot be written
/// to is known by its path.
///
/// # Errors
/// Those of the storage; [`ErrorKind::Corrupt`] if the file is damaged.
pub(super) fn identity(storage: &dyn Storage, dir: &Path) -> Result<String> {
    let path = dir.join(IDENTITY_FILE_NAME);
    match read_text(storage, &path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        text => {
            let text = text.map_err(|e| Error::io("read", &path, e))?;
            let text = text.trim_end();
            let is_one = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            return is_one
                .then(|| text.to_owned())
                .ok_or_else(|| damaged(&path));
        }
    }
    let identity = format!("{:016x}{:016x}", random(), random());
    let new = dir.join(format!("{IDENTITY_FILE_NAME}.new"));
    let made = match uninterrupted(|| storage.delete(&new)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("delete", &new, e)),
        _ => create(storage, &new, format!("{identity}\n").as_bytes()),
    };
    let made = made.and_then(|()| {
        uninterrupted(|| storage.rename(&new, &path)).map_err(|e| Error::io("make", &path, e))?;
        uninterrupted(|| storage.sync_dir(dir)).map_err(|e| Error::io("sync the directory", dir, e))
    });
    match made {
        Ok(()) => Ok(identity),
        Err(error) if is_read_only(&error) => {
            let path = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
            Ok(format!(
                "path:{}",
                path.to_string_lossy().replace('\n', "?")
            ))
        }
        Err(error) => Err(error),
    }
}

fn is_read_only(error: &Error) -> bool {
    use std::error::Error as _;
    let source = error.source().and_then(|source| source.downcast_ref());
    source.is_some_and(|e: &io::Error| {
        matches!(
            e.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
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
        assert_eq!(Notes::parse(&notes.text()), Some(notes.clone()));
        for (identity, last_id) in [("0123", 8), ("path:/a dir/b", 9), ("0123", 10)] {
            let checksum = 7;
            let taken = Taken { last_id, checksum };
            notes.set(identity, taken);
        }
        assert_eq!(notes.of("0123").map(|taken| taken.last_id), Some(10));
        let text = notes.text();
        assert_eq!(Notes::parse(&text), Some(notes));
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
}
