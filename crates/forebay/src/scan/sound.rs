//! The hot paths of the scanner: frames within the chunk that pass every check.
//!
//! Invariant: only [`Scanner::pass_all`] changes the place of the scanner; every other
//! frame is left to the careful path.

use super::{Check, DELIMITER_LEN, Found, Scanner};
use crate::format::record::{ChecksumCache, Frame};

/// Where the frames that [`Scanner::sound_frames`] took end.
pub(crate) struct Passed {
    /// Id and offset of the last frame.
    last: (u64, u64),
    /// Where it ends within the chunk.
    at: usize,
}

impl Scanner {
    /// The frame at the current place, if it lies within the chunk and passes every
    /// check. The scanner does not move.
    #[inline]
    pub(crate) fn sound_frame(&self) -> Option<Found> {
        let frame = self.sound_frame_at(self.at)?;
        if self.check == Check::Checksums && !frame.is_intact() {
            return None;
        }
        Some(self.found(&frame.root, frame.len as u64, frame.payload.len(), None))
    }

    /// Calls `take` with at most `max` frames from the current place on: the frame, its
    /// offset in the file, and the offset of its payload in the chunk. Stops at a frame
    /// that does not lie within the chunk or fails a check, or for which `take` returns
    /// `false`. The scanner does not move; returns `None` if no frame was taken.
    #[inline]
    pub(crate) fn sound_frames(
        &self,
        max: usize,
        mut take: impl FnMut(&Frame<'_>, u64, usize) -> bool,
    ) -> Option<Passed> {
        let mut at = self.at;
        let mut last = None;
        let mut cache = None;
        for _ in 0..max {
            let Some(frame) = self.sound_frame_at(at) else {
                break;
            };
            let root = &frame.root;
            if self.check == Check::Checksums {
                let cache = cache.get_or_insert_with(|| ChecksumCache::new(root.id, root.metadata));
                if !root.matches_next(cache, frame.payload) {
                    break;
                }
            }
            let offset = self.base + at as u64;
            if !take(&frame, offset, at + DELIMITER_LEN) {
                break;
            }
            last = Some((root.id, offset));
            at += frame.len;
        }
        last.map(|last| Passed { last, at })
    }

    /// The id of the frame after a record of this chunk, if that frame lies within the chunk
    /// and passes every check.
    pub(crate) fn id_behind(&self, found: &Found) -> Option<u64> {
        let at = found.payload.start - DELIMITER_LEN + found.frame_len as usize;
        let frame = self.sound_frame_at(at)?;
        frame.is_intact().then_some(frame.root.id)
    }

    /// Moves past the frames that [`sound_frames`](Self::sound_frames) has just taken.
    pub(crate) fn pass_all(&mut self, passed: &Passed) {
        self.last = Some(passed.last);
        self.at = passed.at;
    }

    /// The frame at this place of the chunk, if it lies within the chunk and passes every
    /// check but the checksum.
    #[inline]
    fn sound_frame_at(&self, at: usize) -> Option<Frame<'_>> {
        Frame::first(self.chunk.get(at..)?, self.max_frame_len)
    }
}
