//! The stream of records: positions in it, and frames of it in memory, from the batch they were
//! encoded in to their last user.
//!
//! Invariants:
//! - Frames are whole and were encoded by this process, so the lengths in them are right.
//! - Once written, the frames of one [`Frames`] lie in one data file.

use bytes::Bytes;

use crate::format::record::{self, Root};

/// A place in the stream between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// The id of the next record.
    pub next_id: u64,
    /// Bytes of all data files before this place, laid end to end since open.
    pub offset: u64,
}

impl Position {
    /// The same place, with a next id of at most `id`.
    pub(crate) fn min_id(self, id: u64) -> Self {
        Self {
            next_id: self.next_id.min(id),
            ..self
        }
    }
}

/// Consecutive frames in memory that do not change any more: on their way to the data file, and
/// after that for a reader that keeps up.
#[derive(Debug)]
pub(crate) struct Frames {
    pub bytes: Bytes,
    /// The memory that they keep, in bytes.
    pub memory: usize,
    pub end: Position,
}

impl Frames {
    /// Frames up to `end`, in a buffer of `buffer_len` bytes.
    pub(crate) fn new(bytes: Bytes, buffer_len: usize, end: Position) -> Self {
        if bytes.len() < buffer_len / 16 {
            // A few frames must not keep a large buffer from being reused.
            let (bytes, memory) = (Bytes::copy_from_slice(&bytes), bytes.len());
            return Self { bytes, memory, end };
        }
        Self {
            bytes,
            memory: buffer_len,
            end,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The stream offset of the first byte.
    pub(crate) fn begin(&self) -> u64 {
        self.end.offset - self.len() as u64
    }

    /// The last frame boundary that is at most `len_max`, but at least the end of the first frame.
    pub(crate) fn boundary(&self, len_max: u64) -> usize {
        if self.len() as u64 <= len_max {
            return self.len();
        }
        let mut end = 0;
        while end < self.len() {
            let next = end + frame_len_at(&self.bytes[end..]);
            if end > 0 && next as u64 > len_max {
                break;
            }
            end = next;
        }
        end
    }

    /// Keeps the first `at` bytes, up to a frame boundary, and returns the rest.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        let offset = self.begin() + at as u64;
        let rest = self.bytes.split_off(at);
        let root = rest[..frame_len_at(&rest)].last_chunk();
        let middle = Position {
            next_id: root.map_or(0, |root| Root::from_bytes(root).id),
            offset,
        };
        let end = std::mem::replace(&mut self.end, middle);
        Self::new(rest, self.memory, end)
    }
}

fn frame_len_at(frame: &[u8]) -> usize {
    let mut delimiter = [0; record::DELIMITER_LEN];
    delimiter.copy_from_slice(&frame[..record::DELIMITER_LEN]);
    record::DELIMITER_LEN + u64::from_be_bytes(delimiter) as usize
}
