//! Keeps records that the buffer has accepted and may not have written yet, so that
//! they can be appended again.
//!
//! The library accepts records into memory. On a full disk they stay there, and are
//! lost when the buffer is closed. Invariants: records are in the order of their ids,
//! which rise; none is forgotten before it is known to be written.

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
    bytes: Vec<u8>,
    /// The id of each record, and where its payload ends in `bytes`.
    ends: Vec<(u64, usize)>,
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

    /// Keeps records, each with its id; they are the highest so far.
    pub(crate) fn keep<'a>(&mut self, records: impl IntoIterator<Item = (u64, &'a [u8])>) {
        let mut block = self.spare.take().unwrap_or_default();
        block.bytes.clear();
        block.ends.clear();
        for (id, payload) in records {
            block.bytes.extend_from_slice(payload);
            block.ends.push((id, block.bytes.len()));
        }
        if block.ends.is_empty() {
            self.spare = Some(block);
            return;
        }
        self.bytes += block.memory();
        self.blocks.push_back(block);
    }

    /// Forgets blocks in which all ids are below `id`.
    pub(crate) fn forget_below(&mut self, id: u64) {
        while self
            .blocks
            .front()
            .is_some_and(|block| block.count_below(id) == block.ends.len())
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
        let payloads = blocks
            .iter()
            .flat_map(|block| block.payloads_from(block.count_below(id)));
        payloads.map(<[u8]>::to_vec).collect()
    }
}

impl Block {
    fn memory(&self) -> usize {
        self.bytes.len() + self.ends.len() * size_of::<(u64, usize)>()
    }

    /// How many ids are below `id`.
    fn count_below(&self, id: u64) -> usize {
        self.ends.partition_point(|(of, _)| *of < id)
    }

    fn payloads_from(&self, skipped: usize) -> impl Iterator<Item = &[u8]> {
        (skipped..self.ends.len()).map(|index| &self.bytes[self.range(index)])
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        start..self.ends[index].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let mut kept = Kept::default();
        kept.keep([(5, &b"five"[..]), (6, b""), (7, b"seven")]);
        kept.keep([(8, &b"eight"[..])]);
        kept.keep([]);
        kept.keep([(9, &b"nine"[..]), (10, b"ten")]);
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
    fn records_may_hold_several_events() {
        let mut kept = Kept::default();
        kept.keep([(1, &b"one to three"[..]), (4, b"four"), (5, b"five, six")]);
        assert_eq!(kept.take_from(4), [&b"four"[..], b"five, six"]);
        kept.keep([(7, &b"seven to nine"[..])]);
        kept.forget_below(7);
        assert!(!kept.is_empty());
        kept.forget_below(8);
        assert!(kept.is_empty());
    }

    #[test]
    fn a_block_is_forgotten_once_all_of_it_is_written() {
        let mut kept = kept();
        let all = kept.bytes();
        kept.forget_below(7);
        assert_eq!(kept.bytes(), all);
        kept.forget_below(9);
        assert_eq!(kept.bytes(), 7 + 2 * size_of::<(u64, usize)>());
        kept.keep([(11, &b"eleven"[..])]);
        assert_eq!(kept.take_from(10), [&b"ten"[..], b"eleven"]);
        assert_eq!(kept.bytes(), 0);
        assert!(kept.take_from(0).is_empty());
    }
}
