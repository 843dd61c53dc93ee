//! Zeros written ahead of the records, so that a small sync changes no file length.
//!
//! A sync is cheaper when it has no new length to make durable: on ext4 by a third.
//!
//! Invariants:
//! - The zeros stay within the data file's size and the buffer's.
//! - They are cut before the file is rolled over or closed. A crash before that leaves a zero tail,
//!   which recovery cuts.
//! - No span of the log covers them, so no reader sees them.

use super::files::Files;
use crate::config::LEDGER_ALLOWANCE;
use crate::state::shared::Shared;
use crate::sync::wake::lock;

/// At most this many zeros are preallocated at a time: so few that the sync that makes them durable
/// takes hardly longer, and enough that few syncs have to.
const LEN_MAX: u64 = 512 << 10;
/// In a short data file at most 1/`FILE_SHARE` of its size.
const FILE_SHARE: u64 = 2;
/// A sync counts as small if it makes at most 1/`SMALL_SHARE` of the preallocated length durable.
const SMALL_SHARE: u64 = 4;
/// Preallocation begins with the small sync that is this many in a row. Only syncs that a caller
/// waits for count.
const SMALL_SYNCS: u32 = 3;

/// Counts small syncs, to decide when zeros are worth writing. Changed only by the thread that
/// drives the write side.
#[derive(Debug, Default)]
pub(super) struct Preallocation {
    small_syncs: u32,
}

impl Preallocation {
    /// To be called before a sync that a caller waits for: preallocates if that is worth it.
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
            let on_disk = log.written.offset - log.oldest_offset() + outside;
            (shared.limits.max_size - LEDGER_ALLOWANCE).saturating_sub(on_disk)
        };
        let to = (current.len() + ahead.min(room)).min(shared.limits.data_file_size);
        // Errors are ignored here: the write that follows meets them and reports them.
        let _ = current.write_zeros(to);
        lock(&shared.log).zeros_ahead = current.zeros_left();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{BEGIN, FRAME, Setting, frames};
    use super::*;
    use crate::storage::fault::{Errno, Op};

    /// Half of the data file size.
    const AHEAD: u64 = 2048;

    struct Case {
        setting: Setting,
        files: Files,
        zeros: Preallocation,
    }

    impl Case {
        fn of(setting: Setting) -> Self {
            let mut files = Files::new(None, BEGIN, 0);
            files.roll(&setting.shared).unwrap();
            Self {
                setting,
                files,
                zeros: Preallocation::default(),
            }
        }

        /// Writes this many records and does a sync that a caller waits for. Returns the zeros that
        /// are left.
        fn sync_after(&mut self, records: u64) -> u64 {
            self.setting.write(&mut self.files, records);
            self.zeros
                .before_sync(&self.setting.shared, &mut self.files);
            self.setting.sync(&mut self.files);
            let zeros_left = self.files.current().unwrap().zeros_left();
            // `Usage::disk_bytes` counts them.
            assert_eq!(lock(&self.setting.shared.log).zeros_ahead, zeros_left);
            zeros_left
        }

        /// The current file holds its records, and then these zeros.
        fn check_contents(&self, zeros: u64) {
            let current = self.files.current().unwrap();
            let mut begin = BEGIN;
            begin.offset = current.base();
            begin.next_id += current.base() / FRAME;
            let records = frames(begin, current.len() / FRAME);
            let contents = self.setting.contents(current.file_id()).unwrap();
            let (before, behind) = contents.split_at(records.len());
            assert_eq!(before, records.bytes);
            assert_eq!(behind, vec![0; zeros as usize]);
        }
    }

    #[test]
    fn zeros_are_written_before_the_third_small_sync_in_a_row() {
        let mut case = Case::of(Setting::new());
        // A sync of 512 bytes would be small, one of 528 is not.
        for (records, zeros_left) in [(1, 0), (10, 0), (11, 0), (1, 0), (1, 0), (10, AHEAD)] {
            assert_eq!(case.sync_after(records), zeros_left);
        }
        case.check_contents(AHEAD);
    }

    #[test]
    fn zeros_are_written_over_by_records_and_never_the_other_way_round() {
        let mut case = Case::of(Setting::new());
        for _ in 0..3 {
            case.sync_after(1);
        }
        let mut left = AHEAD;
        while left > 18 * FRAME {
            left -= 9 * FRAME;
            assert_eq!(case.sync_after(9), left, "they are not topped up");
            case.check_contents(left);
        }
        // Too few are left for the next sync.
        case.setting.write(&mut case.files, 9);
        // A write was cut short: a part of a record is after the others.
        let current = case.files.current_mut().unwrap();
        let next = frames(current.end(), 1);
        current.write(&next, 20).unwrap();
        case.zeros
            .before_sync(&case.setting.shared, &mut case.files);
        let current = case.files.current_mut().unwrap();
        let to = current.len() + AHEAD;
        assert_eq!(current.zeros_left(), to - current.len() - 20);
        current.write(&next, next.len()).unwrap();
        current.publish(next.end);
        case.check_contents(AHEAD - FRAME);
    }

    #[test]
    fn zeros_stay_within_the_data_file() {
        let mut case = Case::of(Setting::new());
        case.sync_after(70);
        for _ in 0..3 {
            case.sync_after(1);
        }
        assert_eq!(case.setting.contents(0).unwrap().len(), 4096);
        case.check_contents(4096 - 73 * FRAME);
        // No zeros are written in a file that is too long already.
        case.setting.write(&mut case.files, 20);
        assert_eq!(case.sync_after(1), 0);
        case.check_contents(0);
    }

    #[test]
    fn zeros_stay_within_the_buffer() {
        let limited = |config: crate::config::Config| config.max_size(8192).data_file_size(4080);
        let mut case = Case::of(Setting::with(limited));
        case.sync_after(30);
        case.files.roll(&case.setting.shared).unwrap();
        let free = 700;
        let records = 33 * FRAME;
        let outside = 8192 - LEDGER_ALLOWANCE - records - free;
        case.files.note_outside(&case.setting.shared, 9, outside);
        for _ in 0..3 {
            case.sync_after(1);
        }
        case.check_contents(free);
        // More than all free space is taken.
        case.files.note_outside(&case.setting.shared, 9, 2 * free);
        case.sync_after(10);
        case.check_contents(free - 10 * FRAME);
        assert_eq!(case.sync_after(8), 0);
        case.check_contents(0);
    }

    #[test]
    fn without_space_for_zeros_the_sync_goes_on_without_them() {
        for (op, errno) in [(Op::Write, Errno::Enospc), (Op::Write, Errno::Eio)] {
            let mut case = Case::of(Setting::new());
            case.sync_after(1);
            case.sync_after(1);
            let count = case.setting.count(op);
            // The first write is of the records.
            case.setting.fault.fail(op, count + 2, errno);
            assert_eq!(case.sync_after(1), 0, "{errno:?}");
            assert_eq!(case.setting.fault.failures(), 1);
            case.check_contents(0);
        }
        // The zeros that were written before the disk was full are counted.
        let mut case = Case::of(Setting::new());
        case.sync_after(1);
        case.sync_after(1);
        let used = case.setting.sim.used_bytes();
        case.setting.sim.set_capacity(Some(used + FRAME + 100));
        assert_eq!(case.sync_after(1), 100);
        case.check_contents(100);
    }

    #[test]
    fn without_a_current_file_there_is_nothing_to_prepare() {
        let setting = Setting::new();
        let mut files = Files::new(None, BEGIN, 0);
        let mut zeros = Preallocation::default();
        for _ in 0..5 {
            zeros.before_sync(&setting.shared, &mut files);
        }
        assert_eq!(zeros.small_syncs, 0);
    }
}
