//! Frames that were taken from the intake, on their way to the current file.
//!
//! Invariants:
//! - They are one stretch of the stream, in whole frames.
//! - They are of two batches at most: what is left of one, which waits to be
//!   written together with the next, and that.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::stream::Frames;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Unwritten {
    parts: VecDeque<Frames>,
    /// Nobody needs it yet: the next batch may come first.
    pub(super) waits: bool,
}

impl Unwritten {
    pub(super) fn new(batch: Frames) -> Self {
        Self {
            parts: VecDeque::from([batch]),
            waits: false,
        }
    }

    /// Adds the next batch.
    pub(super) fn push(&mut self, batch: Frames) {
        debug_assert_eq!(self.begin() + self.len() as u64, batch.begin());
        self.parts.push_back(batch);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(Frames::len).sum()
    }

    /// The stream offset of the first byte.
    pub(super) fn begin(&self) -> u64 {
        self.parts.front().map_or(0, Frames::begin)
    }

    /// The last boundary between frames at or below `len_max`, but behind one
    /// frame at least.
    pub(super) fn boundary(&self, len_max: u64) -> usize {
        let mut at = 0;
        for part in &self.parts {
            let room = len_max.saturating_sub(at as u64);
            let fits = part.boundary(room);
            if at > 0 && fits as u64 > room {
                break;
            }
            at += fits;
            if fits < part.len() {
                break;
            }
        }
        at
    }

    /// Where the last frame begins.
    pub(super) fn last_frame(&self) -> usize {
        self.len() - self.parts.back().map_or(0, Frames::last_len)
    }

    /// The bytes between two places.
    pub(super) fn slices(&self, from: usize, to: usize) -> Vec<IoSlice<'_>> {
        let mut begin = 0;
        let mut slices = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let within = |at: usize| at.saturating_sub(begin).min(part.len());
            let bytes = &part.bytes[within(from)..within(to)];
            if !bytes.is_empty() {
                slices.push(IoSlice::new(bytes));
            }
            begin += part.len();
        }
        slices
    }

    /// Takes what is before a boundary between frames.
    pub(super) fn take(&mut self, boundary: usize) -> Vec<Frames> {
        let mut left = boundary;
        let mut taken = Vec::with_capacity(self.parts.len());
        while left > 0
            && let Some(mut part) = self.parts.pop_front()
        {
            if left < part.len() {
                self.parts.push_front(part.split_off(left));
            }
            left -= part.len();
            taken.push(part);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record;
    use crate::stream::Position;
    use bytes::Bytes;

    /// Frames of payloads of these lengths, from an id and an offset on.
    fn frames(id: u64, offset: u64, lens: &[usize]) -> Frames {
        let mut bytes = Vec::new();
        for (id, len) in (id..).zip(lens) {
            let begin = bytes.len();
            bytes.resize(begin + record::frame_len(*len), 0);
            record::encode(&mut bytes[begin..], id, 0, &vec![id as u8; *len]);
        }
        let end = Position {
            next_id: id + lens.len() as u64,
            offset: offset + bytes.len() as u64,
        };
        Frames::new(Bytes::from(bytes), 1000, end)
    }

    fn two_batches() -> Unwritten {
        let mut unwritten = Unwritten::new(frames(10, 1000, &[8, 20, 100]));
        unwritten.push(frames(13, 1256, &[1, 16]));
        unwritten
    }

    /// Where their frames end.
    const BOUNDARIES: [usize; 5] = [48, 112, 256, 304, 360];

    fn bytes_of(unwritten: &Unwritten, from: usize, to: usize) -> Vec<u8> {
        let slices = unwritten.slices(from, to);
        slices.iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn boundaries_are_where_frames_end() {
        let both = two_batches();
        assert_eq!(
            (both.len(), both.last_frame(), both.begin()),
            (360, 304, 1000)
        );
        for len_max in 0..=400 {
            let fits = BOUNDARIES.into_iter().rev().find(|b| *b as u64 <= len_max);
            assert_eq!(both.boundary(len_max), fits.unwrap_or(48), "{len_max}");
        }
    }

    #[test]
    fn what_is_taken_and_what_is_left_are_the_whole() {
        let all = bytes_of(&two_batches(), 0, 360);
        for (id, boundary) in (11..).zip(BOUNDARIES) {
            let mut unwritten = two_batches();
            let taken = unwritten.take(boundary);
            let end = taken.last().unwrap().end;
            assert_eq!((end.next_id, end.offset), (id, 1000 + boundary as u64));
            let bytes: Vec<u8> = taken.iter().flat_map(|part| part.bytes.to_vec()).collect();
            assert_eq!(bytes, all[..boundary]);
            assert_eq!(unwritten.is_empty(), boundary == 360);
            let left = bytes_of(&unwritten, 0, unwritten.len());
            assert_eq!(left, all[boundary..]);
        }
    }

    #[test]
    fn slices_are_the_bytes_between_two_places() {
        let all = bytes_of(&two_batches(), 0, 360);
        for from in 0..360 {
            for to in from..=360 {
                assert_eq!(bytes_of(&two_batches(), from, to), all[from..to]);
            }
        }
    }
}
