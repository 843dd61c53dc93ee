//! Acknowledgements in any order, reduced to one contiguous position. Pure.
//!
//! Invariants:
//! - everything before `done` is acknowledged or lost; nothing in `ranges`
//!   touches `done` or another range;
//! - `beyond` is the sum of the ranges; a range is counted once, however often it is acknowledged;
//! - memory is bounded: with [`MAX_RANGES`] ranges the reader reads no further ([`Acks::is_full`]).

use std::collections::BTreeMap;

use crate::state::stream::Position;

/// The reader reads no further while this many separate stretches of records are acknowledged after
/// the first unacknowledged one (each takes about 50 bytes).
pub(crate) const MAX_RANGES: usize = 65_536;

/// A stretch of the stream in ids and offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub from: Position,
    pub to: Position,
}

impl Stretch {
    fn count(&self) -> Count {
        Count {
            events: self.to.next_id - self.from.next_id,
            bytes: self.to.offset - self.from.offset,
        }
    }
}

/// Events and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Events.
    pub events: u64,
    /// Bytes, as framed on disk (for dropped records: as they would have been).
    pub bytes: u64,
}

impl Count {
    pub(crate) fn sum(counts: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = Self::default();
        counts.into_iter().for_each(|count| sum.add(count));
        sum
    }

    pub(crate) fn add(&mut self, other: Count) {
        self.events += other.events;
        self.bytes += other.bytes;
    }

    fn sub(&mut self, other: Count) {
        self.events -= other.events;
        self.bytes -= other.bytes;
    }
}

#[derive(Debug)]
pub(crate) struct Acks {
    done: Position,
    ranges: BTreeMap<u64, Stretch>,
    /// Bytes without events (damage that held none, stale records), by the id
    /// before which they lie.
    skips: BTreeMap<u64, u64>,
    beyond: Count,
    closed: bool,
}

impl Acks {
    pub(crate) fn new(done: Position) -> Self {
        Self {
            done,
            ranges: BTreeMap::new(),
            skips: BTreeMap::new(),
            beyond: Count::default(),
            closed: false,
        }
    }

    /// The position after the contiguous acknowledged prefix.
    pub(crate) fn done(&self) -> Position {
        self.done
    }

    /// What is acknowledged after the prefix and a gap.
    pub(crate) fn beyond(&self) -> Count {
        self.beyond
    }

    /// Whether there are so many ranges that the reader may not read on.
    pub(crate) fn is_full(&self) -> bool {
        self.ranges.len() >= MAX_RANGES
    }

    /// From now on acknowledgements have no effect.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Acknowledges a stretch; returns whether the prefix advanced and how
    /// much is newly acknowledged.
    pub(crate) fn acknowledge(&mut self, stretch: Stretch) -> (bool, Count) {
        let mut new = stretch;
        if self.closed || new.to.next_id <= self.done.next_id {
            return (false, Count::default());
        }
        if self.ranges.is_empty() && new.from.next_id <= self.done.next_id {
            let before = self.done;
            self.advance(new.to);
            return (
                true,
                Stretch {
                    from: before,
                    to: self.done,
                }
                .count(),
            );
        }
        let before = self.total();
        new.from = new.from.max(self.done);
        self.merge(new);
        let advanced = self.absorb();
        let after = self.total();
        let newly = Count {
            events: after.events - before.events,
            bytes: after.bytes - before.bytes,
        };
        (advanced, newly)
    }

    /// The bytes up to `offset`, which lie before record `id`, need no acknowledgement. Returns
    /// whether the prefix advanced.
    pub(crate) fn skip(&mut self, id: u64, offset: u64) -> bool {
        if self.closed {
            return false;
        }
        if id <= self.done.next_id {
            let advanced = offset > self.done.offset;
            self.done.offset = self.done.offset.max(offset);
            return advanced;
        }
        let known = self.skips.entry(id).or_insert(offset);
        *known = (*known).max(offset);
        false
    }

    /// Whether the events `from..to` (ids) are all acknowledged already.
    pub(crate) fn holds(&self, from: u64, to: u64) -> bool {
        to <= self.done.next_id
            || self
                .ranges
                .range(..=from)
                .next_back()
                .is_some_and(|(_, r)| to <= r.to.next_id)
    }

    /// How many of the events `from..to` (ids) are not acknowledged.
    pub(crate) fn missing(&self, from: u64, to: u64) -> u64 {
        let from = from.max(self.done.next_id);
        let ranges = self.ranges.range(..to).rev().map(|(_, range)| range);
        let held: u64 = ranges
            .take_while(|range| range.to.next_id > from)
            .map(|range| range.to.next_id.min(to) - range.from.next_id.max(from))
            .sum();
        to.saturating_sub(from) - held
    }

    fn total(&self) -> Count {
        let mut total = self.beyond;
        total.add(Count {
            events: self.done.next_id,
            bytes: self.done.offset,
        });
        total
    }

    fn merge(&mut self, mut new: Stretch) {
        // Every range that touches or overlaps the new one becomes part of it.
        while let Some((&key, &old)) = self.ranges.range(..=new.to.next_id).next_back() {
            if old.to.next_id < new.from.next_id {
                break;
            }
            new.from = new.from.min(old.from);
            new.to = new.to.max(old.to);
            self.ranges.remove(&key);
            self.beyond.sub(old.count());
        }
        self.beyond.add(new.count());
        self.ranges.insert(new.from.next_id, new);
    }

    fn absorb(&mut self) -> bool {
        let Some((&key, &first)) = self.ranges.first_key_value() else {
            return false;
        };
        if key > self.done.next_id {
            return false;
        }
        self.ranges.remove(&key);
        self.beyond.sub(first.count());
        self.advance(first.to);
        true
    }

    fn advance(&mut self, to: Position) {
        self.done.next_id = self.done.next_id.max(to.next_id);
        self.done.offset = self.done.offset.max(to.offset);
        while let Some((&id, &offset)) = self.skips.first_key_value() {
            if id > self.done.next_id {
                break;
            }
            self.done.offset = self.done.offset.max(offset);
            self.skips.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Records of one event and ten bytes: id i covers offsets 10(i-1)..10i.
    fn stretch(from: u64, to: u64) -> Stretch {
        Stretch {
            from: at(from),
            to: at(to),
        }
    }

    fn at(id: u64) -> Position {
        Position {
            offset: 10 * (id - 1),
            next_id: id,
        }
    }

    #[test]
    fn in_order_acknowledgements_advance_the_prefix() {
        let mut acks = Acks::new(at(1));
        assert_eq!(
            acks.acknowledge(stretch(1, 2)),
            (
                true,
                Count {
                    events: 1,
                    bytes: 10
                }
            )
        );
        assert_eq!(
            acks.acknowledge(stretch(2, 5)),
            (
                true,
                Count {
                    events: 3,
                    bytes: 30
                }
            )
        );
        assert_eq!(acks.done(), at(5));
        assert_eq!(acks.beyond(), Count::default());
    }

    #[test]
    fn a_hole_holds_the_prefix_until_it_is_filled() {
        let mut acks = Acks::new(at(1));
        assert_eq!(
            acks.acknowledge(stretch(3, 5)),
            (
                false,
                Count {
                    events: 2,
                    bytes: 20
                }
            )
        );
        assert_eq!(acks.acknowledge(stretch(3, 4)), (false, Count::default()));
        assert!(acks.holds(3, 5) && !acks.holds(2, 3) && !acks.holds(4, 6));
        assert_eq!(
            acks.acknowledge(stretch(1, 3)),
            (
                true,
                Count {
                    events: 2,
                    bytes: 20
                }
            )
        );
        assert_eq!(acks.done(), at(5));
    }

    #[test]
    fn skipped_bytes_count_once_the_records_before_them_are_done() {
        let mut acks = Acks::new(at(1));
        assert!(!acks.skip(3, 100));
        acks.acknowledge(stretch(1, 3));
        assert_eq!(
            acks.done(),
            Position {
                offset: 100,
                next_id: 3
            }
        );
        assert!(acks.skip(3, 120));
        assert_eq!(acks.done().offset, 120);
    }

    #[test]
    fn nothing_counts_after_close() {
        let mut acks = Acks::new(at(1));
        acks.close();
        assert_eq!(acks.acknowledge(stretch(1, 2)), (false, Count::default()));
        assert_eq!(acks.done(), at(1));
    }

    proptest! {
        #[test]
        fn any_order_with_repeats_matches_a_set_of_ids(
            ranges in prop::collection::vec((1u64..60, 1u64..8), 1..60)
        ) {
            let mut acks = Acks::new(at(1));
            let mut set = std::collections::BTreeSet::new();
            for (from, len) in ranges {
                let before = set.len() as u64;
                set.extend(from..from + len);
                let missing = acks.missing(from, from + len);
                let (_, newly) = acks.acknowledge(stretch(from, from + len));
                prop_assert_eq!(newly.events, missing);
                prop_assert_eq!(newly.events, set.len() as u64 - before);
                prop_assert_eq!(newly.bytes, 10 * newly.events);
                let mut prefix = 1;
                while set.contains(&prefix) { prefix += 1; }
                prop_assert_eq!(acks.done(), at(prefix));
                let beyond = set.range(prefix..).count() as u64;
                prop_assert_eq!(acks.beyond(), Count { events: beyond, bytes: 10 * beyond });
                for id in 1..70 {
                    prop_assert_eq!(acks.holds(id, id + 1), set.contains(&id));
                }
            }
        }
    }
}
