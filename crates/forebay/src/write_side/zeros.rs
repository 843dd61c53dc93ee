//! Zeros written ahead of the records, where small syncs follow one another.
//!
//! A sync is cheaper when it has no new length to make durable: on ext4 by a
//! third.
//!
//! Invariants:
//! - They stay within the data file's size and the buffer's.
//! - They are cut before the file is left: rolled, given up or closed. A crash
//!   before that leaves a zero tail, which recovery cuts.
//! - No span of the log covers them, so no reader sees them.

use std::io;

use super::WriteSide;
use super::files::OpenFile;
use crate::config::LEDGER_ALLOWANCE;
use crate::error::Error;
use crate::shared::Shared;
use crate::sync::Instant;
use crate::wake::lock;

/// How many bytes of zeros are written ahead, at most: so little that a sync
/// takes hardly longer for them, and so much that few syncs do.
const AHEAD: u64 = 512 << 10;
/// In a short data file it is this part of it.
const FILE_SHARE: u64 = 2;
/// A sync is small if it has no more than this part of that to make durable.
const SMALL_SHARE: u64 = 4;
/// So many small syncs that somebody waited for, one after the other, and zeros
/// are written ahead.
const SMALL_SYNCS: u32 = 3;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl WriteSide {
    /// Before a sync that somebody waits for: writes zeros ahead if that is
    /// worth it. What goes wrong here goes wrong again where it is told.
    pub(super) fn write_zeros_ahead(&mut self, shared: &Shared) {
        let extra = self.extra_bytes();
        let Some(current) = &mut self.current else {
            return;
        };
        let ahead = AHEAD.min(shared.limits.data_file_size / FILE_SHARE);
        let to_sync = current.len - current.synced_len;
        if to_sync > ahead / SMALL_SHARE {
            self.small_syncs = 0;
            return;
        }
        self.small_syncs = self.small_syncs.saturating_add(1);
        let left = current.zeros_to.saturating_sub(current.len);
        if self.small_syncs < SMALL_SYNCS || left > to_sync {
            return;
        }
        let from = current.written_len().max(current.zeros_to);
        let room = {
            let log = lock(&shared.log);
            let on_disk = log.written.offset - log.head() + extra;
            (shared.limits.max_size - LEDGER_ALLOWANCE).saturating_sub(on_disk)
        };
        let to = (current.len + ahead.min(room)).min(shared.limits.data_file_size);
        let _ = current.write_zeros(from, to);
        lock(&shared.log).zeros_ahead = current.zeros_to.saturating_sub(current.len);
    }

    /// Cuts the zeros behind the records of the current file; a sync makes that
    /// durable. Whether there were any.
    pub(super) fn cut_zeros(&mut self, shared: &Shared) -> bool {
        let Some(current) = &mut self.current else {
            return false;
        };
        let written_len = current.written_len();
        if current.zeros_to <= written_len {
            return false;
        }
        let mut left = None;
        if let Err(e) = current.file.truncate(written_len) {
            let error = Error::io("cut", &current.path, e);
            tracing::warn!(%error, "a data file keeps zeros behind its records");
            left = Some((current.file_id, current.zeros_to - written_len));
        }
        current.zeros_to = 0;
        lock(&shared.log).zeros_ahead = 0;
        if let Some((file_id, zeros)) = left {
            self.note_extra(shared, file_id, zeros);
        }
        self.dirty_since.get_or_insert_with(Instant::now);
        true
    }

    /// At the end, nothing but records stays.
    pub(super) fn cut_zeros_if_closing(&mut self, shared: &Shared) {
        if self.current.as_ref().is_some_and(|c| c.zeros_to > c.len) && lock(&shared.intake).closing
        {
            self.cut_zeros(shared);
        }
    }
}

impl OpenFile {
    fn write_zeros(&mut self, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        while at < to {
            let len = (to - at).min(ZEROS.len() as u64) as usize;
            match self.file.write_at(&ZEROS[..len], at) {
                Ok(0) => break,
                Ok(n) => at += n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            self.zeros_to = at;
        }
        Ok(())
    }
}
