//! The ledger: 24 bytes that say where the writer and the reader are.
//!
//! | offset | type | field |
//! | --- | --- | --- |
//! | 0 | u64 | writer's next record id |
//! | 8 | u16 | writer's data file |
//! | 10 | u16 | reader's (acknowledged) data file |
//! | 12 | 4 bytes | padding, zero |
//! | 16 | u64 | reader's last (acknowledged) record id |
//!
//! Invariants:
//! - There is no checksum: a ledger that passes the checks here may still be wrong. Where
//!   it disagrees with the data files, the data files are believed.
//! - Padding is written as zero and ignored when read.

use std::fmt;

use super::file_id::MAX_FILE_ID;

/// The length of the ledger in bytes.
pub const LEDGER_LEN: usize = 24;

/// Record ids stay below this, so that sums of ids and counts cannot overflow.
pub const RECORD_ID_LIMIT: u64 = 1 << 63;

/// The values of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LedgerState {
    /// The id that the next appended record gets; the first ever is 1.
    pub writer_next_record_id: u64,
    /// The data file that is appended to.
    pub writer_file_id: u16,
    /// The data file that holds the first unacknowledged record.
    pub reader_file_id: u16,
    /// The id of the last acknowledged event; 0 before the first.
    pub reader_last_record_id: u64,
}

/// Why bytes cannot be a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerDamage {
    /// The file has this many bytes instead of [`LEDGER_LEN`].
    Length(u64),
    /// The next record id is 0 or not below [`RECORD_ID_LIMIT`].
    NextRecordId(u64),
    /// The reader's last record id is not below the writer's next one.
    ReaderAheadOfWriter {
        /// The reader's last record id.
        reader_last: u64,
        /// The writer's next record id.
        writer_next: u64,
    },
    /// A file id is 65535, which does not exist.
    FileId(u16),
}

impl LedgerState {
    /// The ledger of a new buffer.
    pub const INITIAL: Self = Self {
        writer_next_record_id: 1,
        writer_file_id: 0,
        reader_file_id: 0,
        reader_last_record_id: 0,
    };

    /// Reads a ledger from the whole contents of its file.
    ///
    /// # Errors
    /// [`LedgerDamage`] when the length is wrong or a value is impossible.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LedgerDamage> {
        let (words, rest) = bytes.as_chunks::<8>();
        let &[next, files, last] = words else {
            return Err(LedgerDamage::Length(bytes.len() as u64));
        };
        if !rest.is_empty() {
            return Err(LedgerDamage::Length(bytes.len() as u64));
        }
        let state = Self::from_words([next, files, last].map(u64::from_le_bytes));
        state.check()?;
        Ok(state)
    }

    /// The contents of the ledger's file.
    pub fn to_bytes(self) -> [u8; LEDGER_LEN] {
        let mut bytes = [0; LEDGER_LEN];
        for (word, to) in self.to_words().iter().zip(bytes.chunks_exact_mut(8)) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The state in the three words of the mapped file, as numbers (converted from
    /// little endian). The values are not checked; see [`check`](Self::check).
    pub const fn from_words(words: [u64; 3]) -> Self {
        Self {
            writer_next_record_id: words[0],
            writer_file_id: words[1] as u16,
            reader_file_id: (words[1] >> 16) as u16,
            reader_last_record_id: words[2],
        }
    }

    /// The three words of the mapped file, as numbers: the next record id; the writer's
    /// file id in the low 16 bits and the reader's in the next 16; the reader's last
    /// record id.
    pub const fn to_words(self) -> [u64; 3] {
        let files = self.writer_file_id as u64 | (self.reader_file_id as u64) << 16;
        [
            self.writer_next_record_id,
            files,
            self.reader_last_record_id,
        ]
    }

    /// Checks that a buffer can be in this state.
    ///
    /// # Errors
    /// [`LedgerDamage`] with the first impossible value.
    pub const fn check(&self) -> Result<(), LedgerDamage> {
        let writer_next = self.writer_next_record_id;
        let reader_last = self.reader_last_record_id;
        if writer_next == 0 || writer_next >= RECORD_ID_LIMIT {
            return Err(LedgerDamage::NextRecordId(writer_next));
        }
        if reader_last >= writer_next {
            return Err(LedgerDamage::ReaderAheadOfWriter {
                reader_last,
                writer_next,
            });
        }
        if self.writer_file_id > MAX_FILE_ID {
            return Err(LedgerDamage::FileId(self.writer_file_id));
        }
        if self.reader_file_id > MAX_FILE_ID {
            return Err(LedgerDamage::FileId(self.reader_file_id));
        }
        Ok(())
    }
}

impl fmt::Display for LedgerDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "{len} bytes instead of {LEDGER_LEN}"),
            Self::NextRecordId(id) => {
                write!(f, "the writer's next record id is {id}")
            }
            Self::ReaderAheadOfWriter {
                reader_last,
                writer_next,
            } => write!(
                f,
                "the reader's last record id {reader_last} is not below the writer's next one, {writer_next}"
            ),
            Self::FileId(id) => write!(f, "{id} is no file id"),
        }
    }
}

impl std::error::Error for LedgerDamage {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEW: [u8; LEDGER_LEN] = [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    const USED: [u8; LEDGER_LEN] = [
        0x29, 0, 0, 0, 0, 0, 0, 0, 5, 0, 2, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0, 0, 0,
    ];
    const USED_STATE: LedgerState = LedgerState {
        writer_next_record_id: 41,
        writer_file_id: 5,
        reader_file_id: 2,
        reader_last_record_id: 17,
    };

    #[test]
    fn the_worked_examples_read_and_write() {
        assert_eq!(LedgerState::from_bytes(&NEW), Ok(LedgerState::INITIAL));
        assert_eq!(LedgerState::INITIAL.to_bytes(), NEW);
        assert_eq!(LedgerState::from_bytes(&USED), Ok(USED_STATE));
        assert_eq!(USED_STATE.to_bytes(), USED);
        assert_eq!(USED_STATE.to_words(), [41, 0x0002_0005, 17]);
    }

    #[test]
    fn padding_is_not_looked_at() {
        let mut bytes = USED;
        bytes[12..16].fill(0xff);
        assert_eq!(LedgerState::from_bytes(&bytes), Ok(USED_STATE));
        assert_eq!(
            LedgerState::from_words([41, 0xffff_ffff_0002_0005, 17]),
            USED_STATE
        );
    }

    #[test]
    fn every_other_length_is_damage() {
        let long = [0u8; 64];
        for len in (0..long.len()).filter(|len| *len != LEDGER_LEN) {
            assert_eq!(
                LedgerState::from_bytes(&long[..len]),
                Err(LedgerDamage::Length(len as u64))
            );
        }
    }

    #[test]
    fn values_that_cannot_be_are_damage() {
        let check = |change: fn(&mut LedgerState)| {
            let mut state = USED_STATE;
            change(&mut state);
            LedgerState::from_bytes(&state.to_bytes()).map(drop)
        };
        assert_eq!(
            check(|s| s.writer_next_record_id = 0),
            Err(LedgerDamage::NextRecordId(0))
        );
        assert_eq!(
            check(|s| s.writer_next_record_id = RECORD_ID_LIMIT),
            Err(LedgerDamage::NextRecordId(RECORD_ID_LIMIT))
        );
        assert_eq!(
            check(|s| s.writer_next_record_id = RECORD_ID_LIMIT - 1),
            Ok(())
        );
        assert_eq!(
            check(|s| s.reader_last_record_id = 41),
            Err(LedgerDamage::ReaderAheadOfWriter {
                reader_last: 41,
                writer_next: 41
            })
        );
        assert_eq!(check(|s| s.reader_last_record_id = 40), Ok(()));
        for change in [
            (|s| s.writer_file_id = u16::MAX) as fn(&mut LedgerState),
            |s| s.reader_file_id = u16::MAX,
        ] {
            assert_eq!(check(change), Err(LedgerDamage::FileId(u16::MAX)));
        }
        assert_eq!(check(|s| s.writer_file_id = MAX_FILE_ID), Ok(()));
        assert_eq!(check(|s| s.reader_file_id = MAX_FILE_ID), Ok(()));
    }

    proptest! {
        #[test]
        fn any_24_bytes_read_as_what_they_are_written_from_or_are_damage(
            bytes in any::<[u8; LEDGER_LEN]>(),
        ) {
            if let Ok(state) = LedgerState::from_bytes(&bytes) {
                let mut unpadded = bytes;
                unpadded[12..16].fill(0);
                prop_assert_eq!(state.to_bytes(), unpadded);
                prop_assert_eq!(LedgerState::from_words(state.to_words()), state);
            }
        }
    }
}
