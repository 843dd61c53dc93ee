//! The thread that drives the write side.
//!
//! Invariants:
//! - It sleeps only after it has looked at the intake under its lock and found
//!   nothing to do, so no wake-up is missed.
//! - If it panics (in a storage or a waker, which are not this crate's code), the buffer is
//!   poisoned and every waiting caller is woken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::state::shared::{Shared, Step};
use crate::sync::wake::lock;
use crate::write::side::WriteSide;

/// Drives the write side until the buffer closes.
pub(crate) fn run(side: WriteSide, shared: &Arc<Shared>) {
    if catch_unwind(AssertUnwindSafe(|| drive(side, shared))).is_err() {
        shared.publish_panic();
    }
}

fn drive(mut side: WriteSide, shared: &Arc<Shared>) {
    side.use_threads(Arc::clone(shared));
    let mut closing = false;
    let mut has_worked = false;
    loop {
        let due = match side.step(shared) {
            Step::Progress => {
                has_worked = true;
                continue;
            }
            Step::Idle(due) => due,
        };
        let mut intake = lock(&shared.intake);
        if intake.closing {
            drop(intake);
            if closing && side.has_closed(shared) {
                break;
            }
            // The step may have looked before the last handle was closed, so one more is done.
            closing = true;
            continue;
        }
        let Some((sleep, until)) = side.how_to_sleep(shared, &intake, due, has_worked) else {
            intake.note_look();
            continue;
        };
        intake.fall_asleep(sleep);
        has_worked = false;
        shared.work.wait(intake, 0, until);
        lock(&shared.intake).note_look();
    }
    side.remove_mark(shared);
}
