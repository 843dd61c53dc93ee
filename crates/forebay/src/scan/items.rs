//! What a scan returns: records, and spans of damage.

use std::fmt;
use std::ops::Range;

/// What lies at one place of a data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// A record.
    Record(Found),
    /// Bytes that are not a record.
    Damage(Damage),
}

/// A record and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where its frame begins in the file.
    pub offset: u64,
    /// The length of its frame in bytes.
    pub frame_len: u64,
    /// The id of its first event.
    pub id: u64,
    /// The caller's metadata.
    pub metadata: u32,
    /// Where its payload lies within the scanner's chunk.
    pub payload: Range<usize>,
    /// The redundant field that was wrong, if any.
    pub mended: Option<Mended>,
}

impl Found {
    /// This record as damage: it is whole, but its id does not fit its place.
    pub(crate) fn misplaced(&self) -> Damage {
        Damage {
            offset: self.offset,
            len: self.frame_len,
            kind: DamageKind::BadRecord,
            claimed_id: None,
        }
    }
}

/// A redundant field of a record that was wrong. Nothing is lost, because the other fields
/// determine it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mended {
    /// The delimiter; the record was found through its root.
    Delimiter,
    /// The pointer to the payload.
    Pointer,
    /// The payload length; the checksum says which it was.
    Length,
    /// Bytes that should be zero.
    Padding,
}

/// A span of a data file that holds no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length in bytes. In a file that is shorter than it should be, the span may end
    /// after the end of the file.
    pub len: u64,
    /// What is wrong.
    pub kind: DamageKind,
    /// The id that the root of this one damaged record states; nothing proves it. `None`
    /// when no root states an id, or when the span may hold several records.
    pub claimed_id: Option<u64>,
}

/// What is wrong with a damaged span of a data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DamageKind {
    /// The file ends within its last frame, or the rest of that frame and of
    /// the file is zeros. A crash leaves this.
    TornTail,
    /// Only zeros up to the end of the file, where a frame should begin:
    /// the file grew and its contents were not written.
    ZeroTail,
    /// No frame can have the stated length, or frames found there contradict it.
    BadLength,
    /// A frame begins, but its parts disagree, or no record can have its id.
    BadRecord,
    /// A whole frame whose checksum does not hold.
    Checksum,
}

impl DamageKind {
    /// The kind as one word for programs: `torn_tail`, `zero_tail`,
    /// `bad_length`, `bad_record` or `checksum`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TornTail => "torn_tail",
            Self::ZeroTail => "zero_tail",
            Self::BadLength => "bad_length",
            Self::BadRecord => "bad_record",
            Self::Checksum => "checksum",
        }
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
