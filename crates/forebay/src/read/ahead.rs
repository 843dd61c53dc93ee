//! From what was read to what the caller gets.
//!
//! Invariant: acknowledgements and counts change when an item is handed out, never when it is read.
//! An async reader reads far ahead of its caller. What it has read and not handed out when it is
//! closed, dropped, stopped or rewound is therefore still unread, losses included.

#[cfg(feature = "tokio")]
use std::vec;

use super::Reader;
use super::delivery::Batch;
#[cfg(feature = "tokio")]
use super::delivery::{BatchItems, Item};
#[cfg(feature = "tokio")]
use super::unfinished::ReadPosition;
use crate::state::acks::Stretch;
use crate::state::lost::Lost;
#[cfg(feature = "tokio")]
use crate::state::stream::Position;
use crate::sync::wake::lock;

/// A loss that was found and not yet handed out.
pub(crate) struct FoundLoss {
    lost: Lost,
    stretch: Stretch,
}

impl FoundLoss {
    pub(super) fn new(lost: Lost, stretch: Stretch) -> Self {
        Self { lost, stretch }
    }
}

/// Consecutive records and losses that were read and not yet handed out.
pub(crate) struct Ahead {
    records: Batch,
    losses: Vec<FoundLoss>,
}

impl Ahead {
    pub(super) fn new(records: Batch, losses: Vec<FoundLoss>) -> Self {
        Self { records, losses }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn records(&self) -> &Batch {
        &self.records
    }
}

/// An [`Ahead`] that is handed out item by item.
#[cfg(feature = "tokio")]
pub(crate) struct AheadItems {
    records: BatchItems,
    losses: vec::IntoIter<FoundLoss>,
}

#[cfg(feature = "tokio")]
impl AheadItems {
    /// How many items are left.
    pub(crate) fn len(&self) -> usize {
        self.records.len() + self.losses.len()
    }

    /// Takes the next loss, if it lies before the next record.
    fn next_loss(&mut self) -> Option<FoundLoss> {
        let id = self.losses.as_slice().first()?.lost.first_id;
        let is_next = self.records.begin().is_none_or(|begin| id < begin.next_id);
        is_next.then(|| self.losses.next()).flatten()
    }

    /// Where the next item begins.
    fn begin(&self) -> Option<Position> {
        let loss = self.losses.as_slice().first().map(|loss| loss.stretch.from);
        [loss, self.records.begin()].into_iter().flatten().min()
    }
}

#[cfg(feature = "tokio")]
impl From<Ahead> for AheadItems {
    fn from(ahead: Ahead) -> Self {
        Self {
            records: ahead.records.into_iter(),
            losses: ahead.losses.into_iter(),
        }
    }
}

impl Reader {
    /// Acknowledges a loss, which no consumer can acknowledge, and hands it out. `None` if
    /// everything in it was acknowledged since it was found.
    pub(super) fn hand_out_loss(&self, loss: FoundLoss) -> Option<Lost> {
        let FoundLoss { mut lost, stretch } = loss;
        let newly = self.shared.acknowledge_lost(stretch, lost.reason);
        lost.events = newly.events;
        lost.bytes = newly.bytes;
        (newly.events > 0).then_some(lost)
    }

    /// Hands out all of it, without records that were acknowledged since they were read. `None` if
    /// nothing is left.
    pub(crate) fn hand_out(&self, ahead: Ahead) -> Option<Batch> {
        let Ahead {
            records: mut batch,
            losses,
        } = ahead;
        if batch
            .begin()
            .is_some_and(|begin| begin.offset < self.filter_until)
        {
            let acks = lock(&self.shared.acks);
            batch.retain(|from, to| !acks.holds(from, to));
        }
        let losses = losses.into_iter();
        batch.set_lost(losses.filter_map(|loss| self.hand_out_loss(loss)).collect());
        self.shared.meters.note_delivered(batch.count());
        (!batch.holds_nothing()).then_some(batch)
    }

    /// Hands out the next item, by the same rules.
    #[cfg(feature = "tokio")]
    pub(crate) fn hand_out_next(&self, ahead: &mut AheadItems) -> Option<Item> {
        loop {
            if let Some(loss) = ahead.next_loss() {
                match self.hand_out_loss(loss) {
                    Some(lost) => return Some(Item::Lost(lost)),
                    None => continue,
                }
            }
            let delivery = ahead.records.next_record()?;
            let Stretch { from, to } = delivery.stretch();
            if from.offset < self.filter_until
                && lock(&self.shared.acks).holds(delivery.id(), to.next_id)
            {
                continue;
            }
            self.shared.meters.note_delivered(delivery.count());
            return Some(Item::Record(delivery));
        }
    }

    /// Takes back what was read last and not handed out: it is read again next.
    #[cfg(feature = "tokio")]
    pub(crate) fn take_back(&mut self, ahead: &AheadItems) {
        if let Some(begin) = ahead.begin() {
            self.go_to(ReadPosition::at(begin));
        }
    }
}
