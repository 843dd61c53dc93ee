//! Calls that user code ended by a panic.
//!
//! Invariant: a reading call notes where it begins before it moves. If that note is still there
//! when the next call begins, that call reads again from there.

use super::Reader;
use crate::state::stream::Position;

/// Where a reader stands: after the last item that it has read.
#[derive(Clone, Copy)]
pub(super) struct ReadPosition {
    tail: Position,
    last_id: u64,
}

impl ReadPosition {
    /// The next item is the first one after this position.
    pub(super) fn at(position: Position) -> Self {
        Self {
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
        self.unfinished = Some(ReadPosition {
            tail: self.tail,
            last_id: self.last_id,
        });
    }

    /// The call ends: what it has read reaches the caller.
    pub(super) fn finish(&mut self) {
        self.unfinished = None;
    }

    /// Moves the reader to this position. It reads what lies after it again, and finds the damage
    /// there again.
    pub(super) fn go_to(&mut self, position: ReadPosition) {
        self.unfinished = None;
        self.source = None;
        self.stash = None;
        self.damage = None;
        self.at = position.tail.offset;
        self.tail = position.tail;
        self.last_id = position.last_id;
    }
}
