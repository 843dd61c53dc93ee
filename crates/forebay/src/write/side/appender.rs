//! From the intake to the current data file: the batch that was taken and is not
//! yet written.
//!
//! Invariants:
//! - There is at most one, of whole frames. [`OpenFile`](super::open_file::OpenFile) knows which of
//!   its bytes are in the file and not yet published.
//! - A batch is taken when it is full, when a caller needs it, or when it has waited for
//!   [`LINGER`]; [`Appender::readiness`] alone decides that.

use std::time::Duration;

use crate::config::Io;
use crate::state::intake::{Batch, Intake};
use crate::state::shared::Shared;
use crate::state::stream::Frames;
use crate::sync::Instant;
use crate::sync::atomic::Ordering;
use crate::sync::wake::lock;

/// How long the open batch may wait for more records when no caller waits for it. A killed process
/// loses at most the records of this time; a shorter time means more writes.
const LINGER: Duration = Duration::from_millis(20);

/// When there is a batch to take from the intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Now,
    /// At this time, unless a caller needs it before.
    At(Instant),
    /// Not before a record is appended.
    Never,
}

/// The batch that is being written. Changed only by the thread that drives the write side.
#[derive(Debug, Default)]
pub(super) struct Appender {
    taken: Option<Frames>,
    linger_until: Option<Instant>,
}

impl Appender {
    /// Whether nothing that was taken is still to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.taken.is_none()
    }

    /// What was taken and is not yet written.
    pub(super) fn taken(&self) -> Option<&Frames> {
        self.taken.as_ref()
    }

    /// When the next batch is to be taken.
    pub(super) fn readiness(&mut self, shared: &Shared, intake: &Intake) -> Readiness {
        let has_open = intake.open_len() > 0;
        if !intake.has_ready() && !has_open {
            return Readiness::Never;
        }
        let is_needed = || {
            intake.want_written.max(intake.want_synced) > intake.begin()
                || intake.writers == 0
                || intake.closing
                || shared.limits.io == Io::Caller
                || shared.reader_waits.load(Ordering::SeqCst)
        };
        if intake.has_ready() || is_needed() {
            return Readiness::Now;
        }
        let until = self.linger();
        if Instant::now() >= until {
            Readiness::Now
        } else {
            Readiness::At(until)
        }
    }

    /// Until when the open batch lingers; the time starts with the first call.
    pub(super) fn linger(&mut self) -> Instant {
        *self
            .linger_until
            .get_or_insert_with(|| Instant::now() + LINGER)
    }

    /// Takes the next batch if it is time. Returns whether there is something to write.
    pub(super) fn take(&mut self, shared: &Shared) -> bool {
        if self.taken.is_some() {
            return true;
        }
        let batch = {
            let mut intake = lock(&shared.intake);
            if self.readiness(shared, &intake) != Readiness::Now {
                return false;
            }
            intake.take()
        };
        self.linger_until = None;
        self.taken = batch.map(Batch::into_frames);
        shared.space.ring();
        self.taken.is_some()
    }

    /// Takes out the frames before this boundary, which are written, and returns them.
    pub(super) fn note_written(&mut self, boundary: usize) -> Option<Frames> {
        let mut written = self.taken.take()?;
        if boundary < written.len() {
            self.taken = Some(written.split_off(boundary));
        }
        Some(written)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::format::record;
    use crate::state::stream::Position;

    #[test]
    fn what_is_written_and_what_is_left_are_the_whole() {
        let mut bytes = Vec::new();
        for (id, len) in (10..).zip([8, 20, 100]) {
            let begin = bytes.len();
            bytes.resize(begin + record::frame_len(len), 0);
            record::encode(&mut bytes[begin..], id, 0, &vec![id as u8; len]);
        }
        let end = Position {
            next_id: 13,
            offset: 1000 + bytes.len() as u64,
        };
        for (written_to, next_id) in [(48, 11), (112, 12), (256, 13)] {
            let mut appender = Appender {
                taken: Some(Frames::new(Bytes::from(bytes.clone()), 1000, end)),
                linger_until: None,
            };
            let written = appender.note_written(written_to).unwrap();
            assert_eq!(written.bytes, bytes[..written_to]);
            assert_eq!(written.end.next_id, next_id);
            assert_eq!(written.end.offset, 1000 + written_to as u64);
            assert_eq!(appender.is_idle(), written_to == bytes.len());
            let left = appender.taken().map(|frames| frames.bytes.clone());
            assert_eq!(left.unwrap_or_default(), bytes[written_to..]);
        }
    }
}
