//! The thread that drives the write side.
//!
//! Invariants:
//! - It sleeps only after it has looked at the intake under its lock and found
//!   nothing to do, so no wake-up is missed.
//! - It wakes by itself only while something waits for a time: a batch for
//!   company, data or acknowledgements for their sync, a full disk for another
//!   try. After work it does so once more, so that the next record need not wake it.

use std::sync::Arc;

use crate::intake::Sleep;
use crate::shared::{Shared, Step};
use crate::wake::lock;
use crate::write_side::WriteSide;

/// Drives the write side until the buffer closes.
pub(crate) fn run(mut side: WriteSide, shared: &Arc<Shared>) {
    side.sync_aside(Arc::clone(shared));
    let mut closing = false;
    let mut has_worked = false;
    loop {
        let until = match side.step(shared) {
            Step::Progress => {
                has_worked = true;
                continue;
            }
            Step::Idle(until) => until,
        };
        let mut intake = lock(&shared.intake);
        if intake.closing {
            if closing && (side.is_clean(shared) || intake.disk_full) {
                break;
            }
            // The step may have looked before the last handle went: once more.
            closing = true;
            continue;
        }
        let urgent = side.is_needed(shared, &intake);
        let takes_more = side.takes_more();
        let holds_something = side.holds_something(&intake);
        if intake.poked || (takes_more && (intake.has_ready() || (urgent && holds_something))) {
            intake.poked = false;
            continue;
        }
        let lingers = takes_more && (holds_something || has_worked);
        let linger = lingers.then(|| side.linger());
        let until = [until, linger].into_iter().flatten().min();
        intake.asleep = match linger {
            Some(_) => Sleep::Lingering,
            None => Sleep::Idle,
        };
        has_worked = false;
        shared.work.wait(intake, 0, until);
        let mut intake = lock(&shared.intake);
        intake.asleep = Sleep::Awake;
        intake.poked = false;
    }
}
