//! Zeros written ahead of the records, so that a small sync changes no file length.
//!
//! A sync is cheaper when it has no new length to make durable: on ext4 by a third.
//!
//! Invariants:
//! - They stay within the data file's size and the buffer's.
//! - They are cut before the file is left or closed. A crash before that leaves a
//!   zero tail, which recovery cuts.
//! - No span of the log covers them, so no reader sees them.

use super::files::Files;
use crate::config::LEDGER_ALLOWANCE;
use crate::shared::Shared;
use crate::wake::lock;

/// At most this many zeros are preallocated: few enough that a sync takes hardly
/// longer for them, and many enough that few syncs do.
const LEN_MAX: u64 = 512 << 10;
/// In a short data file at most this part of it.
const FILE_SHARE: u64 = 2;
/// A sync counts as small if it makes durable at most this part of the preallocated
/// length.
const SMALL_SHARE: u64 = 4;
/// Zeros are preallocated after this many small syncs in a row that somebody waited
/// for.
const SMALL_SYNCS: u32 = 3;

/// See the head of this file. Changed by the thread that drives the write side.
#[derive(Debug, Default)]
pub(super) struct Preallocation {
    small_syncs: u32,
}

impl Preallocation {
    /// To be called before a sync that somebody waits for: preallocates if that is
    /// worth it.
    pub(super) fn before_sync(&mut self, shared: &Shared, files: &mut Files) {
        let outside = files.outside_bytes();
        let Some(current) = files.current_mut() else {
            return;
        };
        let ahead = LEN_MAX.min(shared.limits.data_file_size / FILE_SHARE);
        let to_sync = current.unsynced();
        if to_sync > ahead / SMALL_SHARE {
            self.small_syncs = 0;
            return;
        }
        self.small_syncs = self.small_syncs.saturating_add(1);
        if self.small_syncs < SMALL_SYNCS || current.zeros_left() > to_sync {
            return;
        }
        let room = {
            let log = lock(&shared.log);
            let on_disk = log.written.offset - log.head() + outside;
            (shared.limits.max_size - LEDGER_ALLOWANCE).saturating_sub(on_disk)
        };
        let to = (current.len() + ahead.min(room)).min(shared.limits.data_file_size);
        // Errors are ignored here: the write that follows meets them and reports them.
        let _ = current.write_zeros(to);
        lock(&shared.log).zeros_ahead = current.zeros_left();
    }
}
