//! The random steps of a life.

use forebay::{Delivery, Item, Lost, ReaderSees, SyncPolicy, TryRecv, WhenFull};

use super::claims::{Doubt, Fact, State};
use super::life::Life;
use super::panics::caught;
use crate::workload::{Check, Record};

impl Life {
    pub(super) fn step(&mut self) -> Check {
        match self.rng.below(64) {
            0..16 => self.append(),
            16..22 => self.append_batch(),
            22..26 => self.append_and_wait(),
            26..32 => self.flush(),
            32..40 => self.read(),
            40..44 => self.read_batch(),
            44..51 => self.acknowledge(),
            51 => {
                let kept = self.rng.below(1 + self.held.len() as u64) as usize;
                self.held.truncate(kept);
                Ok(())
            }
            52 => {
                self.rewind();
                Ok(())
            }
            53..55 => self.sync_acks(),
            _ => self.trouble(),
        }
    }

    fn draw_record(&mut self, id: u64) -> Record {
        let largest = (self.limits.data_file_size - 40) / 8 * 8;
        let len = match self.rng.below(16) {
            0 => 0,
            1 => self.rng.below(8),
            2..4 => self.rng.below(120),
            4..10 => self.rng.below(600),
            10..14 => self.rng.below(5000),
            14 => self.rng.below(20_000),
            _ => largest - self.rng.below(3).min(largest),
        };
        let len = len.min(largest) as usize;
        let metadata = match len {
            // A record counts no more events than it has bytes.
            0..4 => 0,
            _ => self.rng.below(1000) as u32,
        };
        // No two records are equal, not even with the same id.
        let mut payload = Vec::with_capacity(len + 8);
        payload.extend_from_slice(&(self.number << 32 | id).to_le_bytes());
        while payload.len() < len {
            payload.extend_from_slice(&self.rng.next().to_le_bytes());
        }
        payload.truncate(len);
        Record {
            id,
            events: self.limits.events(metadata),
            metadata,
            payload,
        }
    }

    /// Notes which of the offered records were accepted; `end` is the next id if all were.
    fn settle(&mut self, call: &str, end: u64, is_ok: bool) -> Check {
        let next_id = self.handles().writer.usage().next_record_id;
        if next_id > end || (is_ok && next_id != end) {
            return Err(format!(
                "NEXT: {call}: the next id is {next_id} instead of {end}"
            ));
        }
        if next_id < self.next_id {
            return Err(format!("NEXT: {call}: the next id went back to {next_id}"));
        }
        self.next_id = next_id;
        self.promise(Fact::Refused(next_id));
        if is_ok && self.limits.sync == SyncPolicy::Always {
            self.all_synced();
        }
        Ok(())
    }

    fn all_synced(&mut self) {
        self.synced = self.next_id;
        self.promise(Fact::Synced(self.next_id));
    }

    fn append(&mut self) -> Check {
        for _ in 0..1 + self.rng.below(4) {
            self.append_one()?;
        }
        Ok(())
    }

    fn append_one(&mut self) -> Check {
        let record = self.draw_record(self.next_id);
        self.promise(Fact::Offered(record.clone()));
        let writer = self.handles().writer.clone();
        let result = caught(|| {
            let receipt = writer.append_with(record.metadata, &record.payload)?;
            Ok(receipt.accepted().then(|| receipt.id()))
        });
        let call = format!("append {} ({} bytes)", record.id, record.payload.len());
        let given = self.outcome(&call, result)?.flatten();
        if given.is_some_and(|id| id != Some(record.id)) {
            return Err(format!("NEXT: {call} gave {given:?}"));
        }
        self.settle(&call, record.end(), given.is_some())
    }

    fn append_batch(&mut self) -> Check {
        if self.limits.when_full == WhenFull::DropNewest {
            // Only the ids show which records of a batch were dropped.
            return self.append();
        }
        let mut id = self.next_id;
        let records: Vec<Record> = (0..1 + self.rng.below(6))
            .map(|_| {
                let record = self.draw_record(id);
                id = record.end();
                record
            })
            .collect();
        for record in &records {
            self.promise(Fact::Offered(record.clone()));
        }
        let batch: Vec<_> = records.iter().map(|r| (r.metadata, &r.payload)).collect();
        let writer = self.handles().writer.clone();
        let result = caught(|| Ok(writer.append_batch_with(&batch).map(drop)?));
        let call = format!("append_batch {}..{id}", self.next_id);
        let is_ok = self.outcome(&call, result)?.is_some();
        self.settle(&call, id, is_ok)
    }

    fn append_and_wait(&mut self) -> Check {
        let record = self.draw_record(self.next_id);
        self.promise(Fact::Offered(record.clone()));
        let writer = self.handles().writer.clone();
        let for_sync = self.rng.below(2) == 0;
        let was_poisoned = self.is_poisoned;
        let call = match for_sync {
            true => format!("append {} and wait_synced", record.id),
            false => format!("append {} and wait_written", record.id),
        };
        let receipt = match caught(|| writer.append_with(record.metadata, &record.payload)) {
            Ok(receipt) if receipt.accepted() => receipt,
            result => {
                self.outcome(&call, result.map(drop))?;
                return self.settle(&call, record.end(), false);
            }
        };
        self.settle(&call, record.end(), true)?;
        let waited = caught(|| match for_sync {
            true => receipt.wait_synced(),
            false => receipt.wait_written(),
        });
        if self.outcome(&call, waited)?.is_some() {
            match for_sync {
                true if was_poisoned => return Err("POISON: a poisoned buffer syncs".to_owned()),
                true => self.all_synced(),
                false => self.promise(Fact::Written(self.next_id)),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Check {
        let was_poisoned = self.is_poisoned;
        let result = caught(|| self.handles().writer.flush());
        if self.outcome("flush", result)?.is_some() {
            if was_poisoned {
                return Err("POISON: a poisoned buffer flushes".to_owned());
            }
            self.all_synced();
            self.promise(Fact::AcksSynced);
        }
        Ok(())
    }

    fn sync_acks(&mut self) -> Check {
        let result = caught(|| self.handles().reader.sync_acks());
        if self.outcome("sync_acks", result)?.is_some() {
            self.promise(Fact::AcksSynced);
        }
        Ok(())
    }

    fn delivered(&mut self, delivery: Delivery) -> Check {
        let seen = Record::from(&delivery);
        let expected = self.expected();
        let known = expected.and_then(|(id, _)| self.claims.records.get(&id));
        if known.map(|known| &known.record) != Some(&seen) {
            let known = known.map(|known| &known.record);
            return Err(format!("ORDER: {seen:?} came instead of {known:?}"));
        }
        self.cursor = seen.end();
        self.promise(Fact::Written(seen.end()));
        if self.limits.sees == ReaderSees::Synced {
            self.promise(Fact::Synced(seen.end()));
            self.synced = self.synced.max(seen.end());
        }
        self.held.push(delivery);
        Ok(())
    }

    /// Checks a loss: the check before this life found it, or the kernel forgot those records
    /// after a failed sync.
    fn lost(&mut self, lost: &Lost) -> Check {
        let ids = lost.first_id..lost.last_id + 1;
        self.trace.note(|| format!("    {lost:?}"));
        let gone = |id: u64| {
            let mut before = self.claims.records.range(..=id);
            match before.next_back() {
                Some((_, known)) if known.record.end() > id => {
                    let may_be_gone = known.doubt != Doubt::None && known.state == State::Accepted;
                    // A record that was acknowledged before a rewind may be gone.
                    may_be_gone || self.claims.acking.contains(&known.record.id)
                }
                _ => true,
            }
        };
        let wrong = ids.clone().find(|&id| !gone(id));
        if wrong.is_some() || ids.start < self.cursor || ids.end > self.next_id {
            let cursor = self.cursor;
            return Err(format!(
                "LIVE: {lost:?}, but {wrong:?} is there; read up to {cursor}"
            ));
        }
        self.cursor = ids.end;
        self.promise(Fact::Lost(ids));
        Ok(())
    }

    fn read(&mut self) -> Check {
        for _ in 0..1 + self.rng.below(8) {
            let found = caught(|| self.handles().reader.try_recv());
            match self.outcome("try_recv", found)? {
                Some(TryRecv::Ready(Item::Record(delivery))) => self.delivered(delivery)?,
                Some(TryRecv::Ready(Item::Lost(lost))) => self.lost(&lost)?,
                Some(TryRecv::Empty) => return self.check_visible(),
                Some(TryRecv::End) => return Err("END: the end, with writers open".to_owned()),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn read_batch(&mut self) -> Check {
        let (records, bytes) = (1 + self.rng.below(12), 1 + self.rng.below(20_000));
        let reader = &mut self.handles().reader;
        let found = caught(|| reader.try_recv_batch(records as usize, bytes));
        match self.outcome("try_recv_batch", found)? {
            Some(TryRecv::Ready(batch)) => {
                let mut lost: Vec<Lost> = batch.lost().to_vec();
                for delivery in batch.into_deliveries() {
                    let is_before = |lost: &Lost| lost.first_id < delivery.id();
                    while lost.first().is_some_and(is_before) {
                        self.lost(&lost.remove(0))?;
                    }
                    self.delivered(delivery)?;
                }
                lost.iter().try_for_each(|lost| self.lost(lost))
            }
            Some(TryRecv::Empty) => self.check_visible(),
            Some(TryRecv::End) => Err("END: the end, with writers open".to_owned()),
            None => Ok(()),
        }
    }

    /// Checks, after a read that found nothing, that no visible record is left.
    fn check_visible(&self) -> Check {
        let Some((id, state)) = self.expected() else {
            return Ok(());
        };
        let is_visible = match self.limits.sees {
            ReaderSees::Synced => id < self.synced,
            _ => state >= State::Written,
        };
        match is_visible {
            true => Err(format!("EMPTY: record {id} ({state:?}) is not delivered")),
            false => Ok(()),
        }
    }

    fn acknowledge(&mut self) -> Check {
        for _ in 0..1 + self.rng.below(8) {
            if self.held.is_empty() {
                break;
            }
            // Mostly the oldest, so that files are deleted.
            let index = match self.rng.below(4) {
                0 => self.rng.below(self.held.len() as u64) as usize,
                _ => 0,
            };
            let delivery = self.held.remove(index);
            let id = delivery.id();
            self.promise(Fact::Acking(id));
            delivery.ack();
            self.promise(Fact::Acked);
            self.trace.note(|| format!("  ack {id}"));
        }
        Ok(())
    }

    fn rewind(&mut self) {
        self.trace.note(|| "  rewind".to_owned());
        self.handles().reader.rewind();
        self.cursor = self.claims.prefix();
        self.held.clear();
    }
}
