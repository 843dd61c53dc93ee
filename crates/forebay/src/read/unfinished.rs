//! Calls that user code ended by a panic.
//!
//! Invariants:
//! - A reading call notes where it begins before it moves. If that note is still there when the
//!   next call begins, that call reads again from there.
//! - A loss is acknowledged when it is found. It is kept until a call has handed it out.

#[cfg(feature = "tokio")]
use std::collections::VecDeque;

use super::Reader;
#[cfg(feature = "tokio")]
use crate::read::delivery::Item;
use crate::state::lost::Lost;
use crate::state::stream::Position;

/// Where a reader stands.
#[derive(Clone, Copy)]
pub(super) struct ReadPosition {
    pub(super) at: u64,
    pub(super) tail: Position,
    pub(super) last_id: u64,
}

impl ReadPosition {
    /// The next item is the first one after this position.
    pub(super) fn at(position: Position) -> Self {
        Self {
            at: position.offset,
            tail: position,
            last_id: position.next_id - 1,
        }
    }
}

impl Reader {
    /// A reading call begins. If user code ended the call before it by a panic, it begins where
    /// that call began.
    pub(super) fn begin(&mut self) {
        if let Some(position) = self.unfinished.take() {
            self.go_to(position);
        }
        self.losses_given = 0;
        self.unfinished = Some(ReadPosition {
            at: self.at,
            tail: self.tail,
            last_id: self.last_id,
        });
    }

    /// The call ends: what it hands out reaches the caller.
    pub(super) fn finish(&mut self) {
        self.unfinished = None;
        self.losses.drain(..self.losses_given);
        self.losses_given = 0;
    }

    /// Goes on reading from there.
    pub(super) fn go_to(&mut self, position: ReadPosition) {
        self.unfinished = None;
        self.source = None;
        self.stash = None;
        self.damage = None;
        self.at = position.at;
        self.tail = position.tail;
        self.last_id = position.last_id;
    }

    /// Takes back the items that were read last and not given to the caller: they are delivered
    /// next.
    #[cfg(feature = "tokio")]
    pub(crate) fn take_back(&mut self, items: impl IntoIterator<Item = Item>) {
        let mut first = None;
        let mut lost = VecDeque::new();
        for item in items {
            match item {
                Item::Record(delivery) => _ = first.get_or_insert(delivery.begin()),
                Item::Lost(loss) => lost.push_back(loss),
            }
        }
        if let Some(first) = first {
            self.go_to(ReadPosition::at(first));
        }
        lost.append(&mut self.losses);
        self.losses = lost;
    }

    /// A loss that an unfinished call found, if the reader has come to the place where it lies.
    pub(super) fn due_loss(&mut self) -> Option<Lost> {
        let lost = self.losses.get(self.losses_given)?;
        if lost.first_id > self.tail.next_id {
            return None;
        }
        self.losses_given += 1;
        Some(lost.clone())
    }
}
