//! The steps that append, and the waits for durability.

use forebay::format::record::frame_len;
use forebay::{ErrorKind, SyncPolicy};

use super::known::Fact;
use super::{Check, Emphasis, Record, Run, must};

impl Run {
    /// A record to append at `id`.
    pub(super) fn draw_record(&mut self, id: u64) -> Record {
        let len = match self.rng.below(8) {
            _ if self.emphasis == Emphasis::Bulk => self.rng.below(1000),
            0 => 0,
            1 => self.rng.below(8),
            // Up to the largest that the smallest data file takes.
            2 => 150 + self.rng.below(67),
            _ => self.rng.below(120),
        };
        let payload: Vec<u8> = (0..len).map(|_| self.rng.below(256) as u8).collect();
        let metadata = match (len, self.limits.counts_events) {
            // A record counts no more events than it has bytes.
            (0..4, true) => 0,
            _ => self.rng.below(1000) as u32,
        };
        Record {
            id,
            events: self.limits.events(metadata, &payload),
            metadata,
            payload,
        }
    }

    /// Notes that all records below `end` are accepted.
    pub(super) fn accepted(&mut self, end: u64) {
        self.next_id = end;
        if self.limits.sync == SyncPolicy::Always {
            self.promise(Fact::Synced(end));
        }
    }

    /// Checks that an append may say that the buffer is full.
    pub(super) fn check_refusal(&mut self, kind: ErrorKind, frames: u64) -> Check {
        self.events.refused += 1;
        if !matches!(kind, ErrorKind::Full | ErrorKind::DiskFull) {
            return Err(format!("an append failed with {kind:?}"));
        }
        // Space is freed a data file at a time, and the rest of the last file may be too short
        // for the next record.
        let oldest = self.known.records.range(self.prefix()..);
        let unread: u64 = oldest.map(|(_, r)| frame_len(r.payload.len()) as u64).sum();
        let slack = 3 * self.limits.data_file_size.max(1 << 10) + frames;
        if unread + slack < self.limits.max_size {
            return Err(format!(
                "{frames} more bytes were refused with {unread} unread of {}",
                self.limits.max_size
            ));
        }
        Ok(())
    }

    pub(super) fn append(&mut self) -> Check {
        let record = self.draw_record(self.next_id);
        self.promise(Fact::Offered(record.clone()));
        let writer = self.writer();
        let result = writer.append_with(record.metadata, &record.payload);
        match result.map(|receipt| receipt.id()) {
            Ok(id) if id == Some(record.id) => self.accepted(record.end()),
            Ok(id) => return Err(format!("append gave id {id:?} instead of {}", record.id)),
            Err(e) => {
                self.check_refusal(e.kind(), frame_len(record.payload.len()) as u64)?;
                self.promise(Fact::Refused(record.id));
            }
        }
        Ok(())
    }

    pub(super) fn append_batch(&mut self) -> Check {
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
        let last = records.last().map(|record| record.id);
        let writer = self.writer();
        match writer
            .append_batch_with(&batch)
            .map(|appended| appended.receipt().id())
        {
            Ok(receipt) if receipt == last => self.accepted(id),
            Ok(receipt) => return Err(format!("a batch gave id {receipt:?} instead of {last:?}")),
            Err(e) => {
                let frames = records.iter().map(|r| frame_len(r.payload.len()) as u64);
                self.check_refusal(e.kind(), frames.sum())?;
                self.promise(Fact::Refused(self.next_id));
            }
        }
        Ok(())
    }

    pub(super) fn append_and_wait(&mut self) -> Check {
        let record = self.draw_record(self.next_id);
        self.promise(Fact::Offered(record.clone()));
        let writer = self.writer();
        let Ok(receipt) = writer.append_with(record.metadata, &record.payload) else {
            self.promise(Fact::Refused(record.id));
            return Ok(());
        };
        self.accepted(record.end());
        if self.rng.below(2) == 0 {
            must("wait_written", receipt.wait_written())?;
            self.promise(Fact::Written(record.end()));
        } else {
            must("wait_synced", receipt.wait_synced())?;
            self.promise(Fact::Synced(record.end()));
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Check {
        must("flush", self.writer().flush())?;
        self.promise(Fact::Synced(self.next_id));
        self.promise(Fact::AcksSynced(self.prefix()));
        Ok(())
    }

    pub(super) fn sync_acks(&mut self) -> Check {
        must("sync_acks", self.reader().sync_acks())?;
        self.promise(Fact::AcksSynced(self.prefix()));
        Ok(())
    }
}
