//! Keeps records that the buffer has accepted and may not have written yet, so that
//! they can be appended again.
//!
//! The library accepts records into memory. On a full disk they stay there, and are
//! lost when the buffer is closed. Invariants: records are in the order of their ids,
//! which are consecutive; none is forgotten before it is known to be written.

use std::collections::VecDeque;
use std::ops::Range;

/// Accepted records that may not be written yet.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    blocks: VecDeque<Block>,
    /// Bytes of memory that the blocks take.
    bytes: usize,
    /// A forgotten block, whose memory the next one reuses.
    spare: Option<Block>,
}

/// Records that were appended together.
#[derive(Debug, Default)]
struct Block {
    first_id: u64,
    bytes: Vec<u8>,
    /// Where each payload ends in `bytes`.
    ends: Vec<usize>,
}

impl Kept {
    /// Whether there is no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Bytes of memory that the records take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps records with ids from `first_id` on, which are the highest so far.
    pub(crate) fn keep(&mut self, first_id: u64, payloads: &[&[u8]]) {
        if payloads.is_empty() {
            return;
        }
        let mut block = self.spare.take().unwrap_or_default();
        block.first_id = first_id;
        block.bytes.clear();
        block.ends.clear();
        for payload in payloads {
            block.bytes.extend_from_slice(payload);
            block.ends.push(block.bytes.len());
        }
        self.bytes += block.memory();
        self.blocks.push_back(block);
    }

    /// Forgets blocks in which all ids are below `id`.
    pub(crate) fn forget_below(&mut self, id: u64) {
        while self
            .blocks
            .front()
            .is_some_and(|block| block.end_id() <= id)
        {
            self.spare = self.blocks.pop_front();
            self.bytes -= self.spare.as_ref().map_or(0, Block::memory);
        }
    }

    /// Takes the records with ids from `id` on, oldest first, and forgets the
    /// others.
    pub(crate) fn take_from(&mut self, id: u64) -> Vec<Vec<u8>> {
        self.bytes = 0;
        let blocks = std::mem::take(&mut self.blocks);
        let payloads = blocks.iter().flat_map(|block| {
            let skipped = id.saturating_sub(block.first_id);
            block.payloads_from(usize::try_from(skipped).unwrap_or(usize::MAX))
        });
        payloads.map(<[u8]>::to_vec).collect()
    }
}

impl Block {
    fn memory(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<usize>()
    }

    /// The id after the last record.
    fn end_id(&self) -> u64 {
        self.first_id + self.ends.len() as u64
    }

    fn payloads_from(&self, skipped: usize) -> impl Iterator<Item = &[u8]> {
        (skipped..self.ends.len()).map(|index| &self.bytes[self.range(index)])
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let mut kept = Kept::default();
        kept.keep(5, &[b"five", b"", b"seven"]);
        kept.keep(8, &[b"eight"]);
        kept.keep(9, &[]);
        kept.keep(9, &[b"nine", b"ten"]);
        kept
    }

    #[test]
    fn what_is_not_written_comes_back_in_order() {
        assert_eq!(
            kept().take_from(6),
            [&b""[..], b"seven", b"eight", b"nine", b"ten"]
        );
        assert_eq!(kept().take_from(0).len(), 6);
        assert_eq!(kept().take_from(10), [b"ten"]);
        assert!(kept().take_from(11).is_empty());
    }

    #[test]
    fn a_block_is_forgotten_once_all_of_it_is_written() {
        let mut kept = kept();
        let all = kept.bytes();
        kept.forget_below(7);
        assert_eq!(kept.bytes(), all);
        kept.forget_below(9);
        assert_eq!(kept.bytes(), 7 + 2 * size_of::<usize>());
        kept.keep(11, &[b"eleven"]);
        assert_eq!(kept.take_from(10), [&b"ten"[..], b"eleven"]);
        assert_eq!(kept.bytes(), 0);
        assert!(kept.take_from(0).is_empty());
    }
}
