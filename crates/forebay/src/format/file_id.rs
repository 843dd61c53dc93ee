//! File ids and the names in a buffer directory.
//!
//! Invariants:
//! - A file id is at most [`MAX_FILE_ID`]; 65535 does not exist. Ids wrap:
//!   0, 1, …, 65534, 0, ….
//! - One id has one name: decimal, no sign, no leading zeros.

use std::ffi::OsStr;

/// The largest file id; the next one is 0.
pub const MAX_FILE_ID: u16 = 65534;

/// How many file ids there are.
pub const FILE_ID_COUNT: u32 = MAX_FILE_ID as u32 + 1;

/// The name of the ledger.
pub const LEDGER_FILE_NAME: &str = "buffer.db";

/// The name of the lock file.
pub const LOCK_FILE_NAME: &str = "buffer.lock";

/// The name of a file that only Forebay writes; it is not part of the format. It says how
/// far the process that has the buffer open, or was killed with it open, synced the data files.
pub const SYNCED_MARK_FILE_NAME: &str = "buffer.synced";

const PREFIX: &str = "buffer-data-";
const SUFFIX: &str = ".dat";

/// The file id that follows `id`: one more, or 0 after [`MAX_FILE_ID`].
///
/// ```
/// use forebay::format::file_id::next;
///
/// assert_eq!(next(7), 8);
/// assert_eq!(next(65534), 0);
/// ```
pub const fn next(id: u16) -> u16 {
    if id >= MAX_FILE_ID { 0 } else { id + 1 }
}

/// The file id that was given out `count` ids before this one.
pub(crate) const fn back(id: u16, count: u16) -> u16 {
    ((id as u32 + FILE_ID_COUNT - count as u32) % FILE_ID_COUNT) as u16
}

/// How many times [`next`] leads from `from` to `to`: 0 ..= 65534.
///
/// Both must be file ids, that is at most [`MAX_FILE_ID`].
///
/// ```
/// use forebay::format::file_id::distance;
///
/// assert_eq!(distance(65533, 1), 3);
/// ```
pub const fn distance(from: u16, to: u16) -> u16 {
    debug_assert!(from <= MAX_FILE_ID && to <= MAX_FILE_ID);
    // The remainder is below 65535, so it fits.
    ((to as u32 + FILE_ID_COUNT - from as u32) % FILE_ID_COUNT) as u16
}

/// The name of the data file with this id: `buffer-data-{id}.dat`.
pub fn file_name(id: u16) -> String {
    format!("{PREFIX}{id}{SUFFIX}")
}

/// The id in the name of a data file; `None` for a name that [`file_name`] does not
/// make (leading zeros, a sign, 65535, anything else).
///
/// ```
/// use forebay::format::file_id::parse_file_name;
///
/// assert_eq!(parse_file_name("buffer-data-12.dat".as_ref()), Some(12));
/// assert_eq!(parse_file_name("buffer-data-012.dat".as_ref()), None);
/// ```
pub fn parse_file_name(name: &OsStr) -> Option<u16> {
    let digits = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let canonical = digits.bytes().all(|b| b.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'));
    let id = digits.parse().ok()?;
    (canonical && id <= MAX_FILE_ID).then_some(id)
}

/// Whether a name is that of the ledger or of a data file: what makes a directory a buffer.
///
/// ```
/// # use forebay::format::file_id::is_buffer_file;
/// assert!(is_buffer_file("buffer.db".as_ref()));
/// assert!(is_buffer_file("buffer-data-7.dat".as_ref()));
/// assert!(!is_buffer_file("buffer.lock".as_ref()));
/// ```
pub fn is_buffer_file(name: &OsStr) -> bool {
    name == LEDGER_FILE_NAME || parse_file_name(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_one_name_that_leads_back_to_it() {
        for id in 0..=MAX_FILE_ID {
            assert_eq!(parse_file_name(file_name(id).as_ref()), Some(id));
        }
    }

    #[test]
    fn names_that_no_id_has_are_refused() {
        for name in [
            "buffer-data-.dat",
            "buffer-data-00.dat",
            "buffer-data-01.dat",
            "buffer-data-+1.dat",
            "buffer-data--1.dat",
            "buffer-data- 1.dat",
            "buffer-data-65535.dat",
            "buffer-data-65536.dat",
            "buffer-data-99999999999999999999.dat",
            "buffer-data-1.dat.bak",
            "xbuffer-data-1.dat",
            "buffer-data-1",
            "buffer-data-١.dat",
            "",
            LEDGER_FILE_NAME,
            LOCK_FILE_NAME,
            SYNCED_MARK_FILE_NAME,
        ] {
            assert_eq!(parse_file_name(name.as_ref()), None, "{name:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let name = OsStr::from_bytes(b"buffer-data-1\xff.dat");
        assert_eq!(parse_file_name(name), None);
    }

    #[test]
    fn next_goes_through_every_id_and_round() {
        let mut id = 0;
        for step in 0..FILE_ID_COUNT {
            assert_eq!(u32::from(id), step);
            id = next(id);
        }
        assert_eq!(id, 0);
    }

    #[test]
    fn distance_counts_the_steps_also_round_the_end() {
        assert_eq!(distance(5, 5), 0);
        assert_eq!(distance(2, 5), 3);
        assert_eq!(distance(5, 4), MAX_FILE_ID);
        assert_eq!(distance(MAX_FILE_ID, 0), 1);
        for from in [0, 1, 40_000, MAX_FILE_ID] {
            let mut id = from;
            for steps in 0..=MAX_FILE_ID {
                assert_eq!(distance(from, id), steps);
                id = next(id);
            }
        }
    }
}
