//! The hot paths of reading: the records of the current chunk, as long as they are sound and have
//! the expected ids.
//!
//! Invariant: anything else is left to [`Reader::advance_with_care`].

use super::{Batch, Found, Position, Reader, Stretch};

impl Reader {
    /// Whether no loss, damage, error or stashed record comes before the next record, and no
    /// acknowledgement has to be looked up for it.
    fn is_calm(&self) -> bool {
        self.stash.is_none()
            && self.damage.is_none()
            && self.refused.is_none()
            && self.at >= self.filter_until
    }

    /// The next record, if it is sound and has the expected id. The counter is called before
    /// anything changes, so a panic there leaves nothing to go back to.
    #[inline]
    pub(super) fn next_expected(&mut self) -> Option<(Found, u64, Stretch)> {
        if !self.is_calm() || self.unfinished.is_some() {
            return None;
        }
        let source = self.source.as_mut()?;
        let found = source.scanner.sound_frame()?;
        let payload = source.scanner.payload(&found);
        let events = self
            .shared
            .limits
            .event_counter
            .count(found.metadata, payload);
        if events > 1 && source.file.is_some() {
            // The count must be bounded by the id of the record after it.
            return None;
        }
        let end = source.base + found.offset + found.frame_len;
        let stretch = expected(self.tail, self.id_limit, found.id, events, end)?;
        source.scanner.pass(&found);
        self.at = stretch.to.offset;
        self.tail = stretch.to;
        self.last_id = found.id;
        Some((found, events, stretch))
    }

    /// Moves records into the batch as long as they are sound and have the expected ids. False if
    /// the batch has no room for another.
    pub(super) fn push_expected(
        &mut self,
        batch: &mut Batch,
        records_max: usize,
        room: &mut u64,
    ) -> bool {
        if !self.is_calm() {
            return true;
        }
        let Some(source) = &mut self.source else {
            return true;
        };
        let counter = &self.shared.limits.event_counter;
        let (base, id_limit) = (source.base, self.id_limit);
        let from_file = source.file.is_some();
        let mut tail = self.tail;
        let mut last_id = self.last_id;
        let mut has_room = true;
        let left = records_max - batch.len();
        let passed = source
            .scanner
            .sound_frames(left, |frame, offset, payload_at| {
                let root = &frame.root;
                let len = frame.payload.len();
                let events = counter.count(root.metadata, frame.payload);
                if events > 1 && from_file {
                    return false;
                }
                let end = base + offset + frame.len as u64;
                let Some(stretch) = expected(tail, id_limit, root.id, events, end) else {
                    return false;
                };
                if len as u64 > *room && !batch.is_empty() {
                    has_room = false;
                    return false;
                }
                *room = room.saturating_sub(len as u64);
                source.show_chunk(batch);
                let payload = payload_at..payload_at + len;
                batch.push(stretch, root.id, root.metadata, events, payload);
                tail = stretch.to;
                last_id = root.id;
                true
            });
        if let Some(passed) = passed {
            source.scanner.pass_all(&passed);
            self.at = tail.offset;
            self.tail = tail;
            self.last_id = last_id;
        }
        has_room && batch.len() < records_max
    }
}

/// The stretch of a record after `tail`, if that is where it belongs.
#[inline]
fn expected(tail: Position, id_limit: u64, id: u64, events: u64, end: u64) -> Option<Stretch> {
    let to = Position {
        next_id: id + events,
        offset: end,
    };
    let fits = id == tail.next_id && to.next_id <= id_limit;
    fits.then_some(Stretch { from: tail, to })
}
