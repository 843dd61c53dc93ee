//! The steps that read and acknowledge, and the checks of what they return.

use forebay::{Delivery, Item, ReaderSees, TryRecv};

use super::known::Fact;
use super::{Check, Record, Run, must};

impl Run {
    /// The record that has to come next, if it was accepted.
    pub(super) fn expected(&self) -> Option<&Record> {
        let mut rest = self.known.records.range(self.cursor..self.next_id);
        let next = rest.find(|(id, _)| !self.known.acking.contains(id));
        next.map(|(_, record)| record)
    }

    pub(super) fn delivered(&mut self, delivery: Delivery) -> Check {
        let seen = Record::from(&delivery);
        match self.expected() {
            Some(expected) if *expected == seen => {}
            expected => return Err(format!("{seen:?} came instead of {expected:?}")),
        }
        self.cursor = seen.end();
        self.events.redelivered += u64::from(seen.id < self.fresh);
        self.fresh = self.fresh.max(seen.end());
        self.promise(match self.limits.sees {
            ReaderSees::Synced => Fact::Synced(seen.end()),
            _ => Fact::Written(seen.end()),
        });
        self.held.push(delivery);
        Ok(())
    }

    pub(super) fn recv(&mut self) -> Check {
        for _ in 0..1 + self.rng.below(4) {
            let found = if self.rng.below(2) == 0 {
                must("try_recv", self.reader().try_recv())?
            } else if self
                .expected()
                .is_some_and(|record| record.id < self.visible_soon())
            {
                // The last event does not wait for another one.
                let item = must("recv with an event to come", self.reader().recv())?;
                item.map_or(TryRecv::End, TryRecv::Ready)
            } else {
                return Ok(());
            };
            match found {
                TryRecv::Ready(Item::Record(delivery)) => self.delivered(delivery)?,
                TryRecv::Ready(Item::Lost(lost)) => return Err(format!("{lost:?} without damage")),
                TryRecv::Empty => return self.check_visible(),
                TryRecv::End => return Err("the end, with writers open".to_owned()),
            }
        }
        Ok(())
    }

    pub(super) fn recv_batch(&mut self) -> Check {
        let (records, bytes) = (1 + self.rng.below(5), 1 + self.rng.below(400));
        let found = self.reader().try_recv_batch(records as usize, bytes);
        match must("try_recv_batch", found)? {
            TryRecv::Ready(batch) => {
                if batch.len() > records as usize || !batch.lost().is_empty() {
                    return Err(format!("{batch:?} for {records} records"));
                }
                batch.into_deliveries().try_for_each(|d| self.delivered(d))
            }
            TryRecv::Empty => self.check_visible(),
            TryRecv::End => Err("the end, with writers open".to_owned()),
        }
    }

    /// A wait for a record below this id ends by itself. A reader of synced records would wait
    /// for a sync, and here no time passes that makes one due.
    pub(super) fn visible_soon(&self) -> u64 {
        match self.limits.sees {
            ReaderSees::Synced => self.known.synced,
            _ => self.next_id,
        }
    }

    /// Checks, after a read that found nothing, that no visible record is left.
    pub(super) fn check_visible(&self) -> Check {
        let visible = match self.limits.sees {
            ReaderSees::Synced => self.known.synced,
            _ => self.known.written,
        };
        match self.expected() {
            Some(record) if record.id < visible => Err(format!("{record:?} was not delivered")),
            _ => Ok(()),
        }
    }

    pub(super) fn acknowledge(&mut self) -> Check {
        for _ in 0..1 + self.rng.below(6) {
            if self.held.is_empty() {
                break;
            }
            // Mostly the oldest, so that files are deleted.
            let index = match self.rng.below(3) {
                0 => self.rng.below(self.held.len() as u64) as usize,
                _ => 0,
            };
            let delivery = self.held.remove(index);
            self.promise(Fact::Acking(delivery.id()));
            self.events.out_of_order += u64::from(self.prefix() < delivery.id());
            delivery.ack();
            self.promise(Fact::Acked(self.prefix()));
        }
        Ok(())
    }

    /// Drops deliveries without acknowledging them: they come again only after a
    /// rewind.
    pub(super) fn let_go(&mut self) -> Check {
        let count = self.rng.below(1 + self.held.len() as u64) as usize;
        self.held.truncate(count);
        Ok(())
    }

    pub(super) fn rewind(&mut self) -> Check {
        self.reader().rewind();
        self.cursor = self.prefix();
        // Either of two deliveries of a record acknowledges it, so only the later one is kept.
        self.held.clear();
        Ok(())
    }
}
