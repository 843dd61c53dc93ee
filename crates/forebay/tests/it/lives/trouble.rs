//! What happens to a life from outside: calls of the system that fail, pages that
//! the kernel forgets, disks that fill up.

use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::storage::fault::{Errno, Op};

use super::Lean;
use super::claims::Fact;
use super::damage::touched;
use super::life::Life;
use crate::workload::{Check, DIR};

/// Calls that the write side makes; those around a failed sync are here more than once.
const WRITING: [Op; 14] = [
    Op::Sync,
    Op::Sync,
    Op::Sync,
    Op::Write,
    Op::Write,
    Op::ShortWrite,
    Op::Truncate,
    Op::Truncate,
    Op::Create,
    Op::Rename,
    Op::Delete,
    Op::DirSync,
    Op::MapSync,
    Op::Len,
];

impl Life {
    /// Plans faults for the opening of one in four lives.
    pub(super) fn before_opening(&mut self) {
        if self.lean == Lean::Panics {
            self.limits.fuse.set(self.rng.below(12));
        }
        if self.lean != Lean::Calm && self.rng.below(4) == 0 {
            for _ in 0..1 + self.rng.below(2) {
                let op = Op::ALL[self.rng.below(Op::ALL.len() as u64) as usize];
                self.plan(op);
            }
        }
    }

    /// Causes or plans a fault, or clears all faults.
    pub(super) fn trouble(&mut self) -> Check {
        match (self.lean, self.rng.below(16)) {
            (Lean::Calm, _) => {}
            (Lean::Panics, 0..=7) => {
                let nth = 1 + self.rng.below(12);
                self.trace
                    .note(|| format!("  plan: the {nth}. call of the counter panics"));
                self.limits.fuse.set(nth);
            }
            (Lean::Space, 0..=7) | (_, 15) => self.resize_disk(),
            (_, 0) => self.run_out_of_descriptors(),
            (_, 1..=5) => self.plan_sync_and_aftermath(),
            (Lean::All, 6..=7) => {
                let op = Op::ALL[self.rng.below(Op::ALL.len() as u64) as usize];
                self.plan(op);
            }
            (_, 6..=8) => {
                let op = WRITING[self.rng.below(WRITING.len() as u64) as usize];
                self.plan(op);
            }
            (_, 9..=10) => self.clear_faults(),
            (_, 11) => self.fail_write_back(),
            (_, 12..) => self.evict(),
        }
        Ok(())
    }

    /// Plans that the next sync fails, and with it some of the calls that it leads to.
    fn plan_sync_and_aftermath(&mut self) {
        self.plan_nth(Op::Sync, 1, 1);
        for _ in 0..self.rng.below(4) {
            let op = WRITING[self.rng.below(WRITING.len() as u64) as usize];
            self.plan(op);
        }
    }

    /// For a while the directory cannot be opened to sync it, and half of the time no new file
    /// can be opened either.
    fn run_out_of_descriptors(&mut self) {
        for op in [Op::Create, Op::DirSync] {
            if op == Op::DirSync || self.rng.below(2) == 0 {
                let times = 1 + self.rng.below(8);
                self.plan_errno(op, Errno::Emfile, 1, times);
            }
        }
    }

    fn plan(&mut self, op: Op) {
        let nth = 1 + self.rng.below(4);
        let times = match self.rng.below(4) {
            0 => 1 + self.rng.below(6),
            _ => 1,
        };
        self.plan_nth(op, nth, times);
    }

    /// Plans that the `nth` call from now on and those after it fail, `times` in all.
    fn plan_nth(&mut self, op: Op, nth: u64, times: u64) {
        let errno = match self.rng.below(2) {
            0 => Errno::Eio,
            _ => Errno::ALL[self.rng.below(Errno::ALL.len() as u64) as usize],
        };
        self.plan_errno(op, errno, nth, times);
    }

    fn plan_errno(&mut self, op: Op, errno: Errno, nth: u64, times: u64) {
        let first = self.fault.counts()[&op] + nth;
        for nth in first..first + times {
            self.fault.fail(op, nth, errno);
        }
        self.trace.note(|| {
            format!("  plan: {op:?} fails with {errno:?}, {times} times from the {nth}. on")
        });
        if op == Op::Sync {
            self.promise(Fact::SyncsMayFail);
        }
        if op == Op::MapSync {
            self.promise(Fact::LedgerMayFail);
        }
    }

    pub(super) fn clear_faults(&mut self) {
        self.trace.note(|| "  the faults are over".to_owned());
        self.fault.clear();
        self.limits.fuse.set(0);
        self.sim.set_capacity(None);
    }

    /// The device fails while the kernel writes a data file back by itself.
    fn fail_write_back(&mut self) {
        let mut files = self.sim.files(DIR);
        files.retain(|(name, _)| name.ends_with(".dat"));
        if files.is_empty() {
            return;
        }
        // The last file by name is mostly the one being written.
        let index = match self.rng.below(2) {
            0 => files.len() - 1,
            _ => self.rng.below(files.len() as u64) as usize,
        };
        let name = &files[index].0;
        self.trace.note(|| format!("  write-back of {name} fails"));
        let seed = self.rng.below(4);
        let seed = if seed == 0 {
            0
        } else {
            1 + self.rng.below(1 << 40)
        };
        if self
            .sim
            .fail_write_back(format!("{DIR}/{name}"), seed)
            .is_ok()
        {
            self.promise(Fact::SyncsMayFail);
        }
    }

    /// The kernel is short of memory and forgets clean pages of one file.
    fn evict(&mut self) {
        let files = self.sim.files(DIR);
        if files.is_empty() {
            return;
        }
        let (name, _) = &files[self.rng.below(files.len() as u64) as usize];
        // A ledger that is mapped and in use stays.
        if name == LEDGER_FILE_NAME || !self.claims.syncs_failed {
            return;
        }
        let path = format!("{DIR}/{name}");
        let before = self.sim.read_file(&path).unwrap_or_default();
        if self.sim.evict(&path).is_err() {
            return;
        }
        let after = self.sim.read_file(&path).unwrap_or_default();
        if after != before {
            let gone = touched(&before, &after, &self.claims);
            self.trace
                .note(|| format!("  {name} is evicted, and with it {gone:?}"));
            self.promise(Fact::Evicted(gone));
        }
    }

    /// The disk gets small, or has room again.
    fn resize_disk(&mut self) {
        self.was_small = true;
        let room = match self.rng.below(3) {
            0 => None,
            1 => Some(self.rng.below(512)),
            _ => Some(self.rng.below(20_000)),
        };
        self.trace.note(|| format!("  room on the disk: {room:?}"));
        let used = self.sim.used_bytes();
        self.sim.set_capacity(room.map(|room| used + room));
    }
}
