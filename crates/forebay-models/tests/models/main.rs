//! Concurrency models: the whole buffer over the simulated file system, under a
//! scheduler that decides at every lock, wait, ring, atomic and storage call
//! which thread goes on.
//!
//! A model runs with a clock that stands still, so that a missing ring is a deadlock, and with
//! one that jumps, so that every time-out happens at every moment.
//! `FOREBAY_MODEL_SCHEDULES` sets the number of schedules for each of two schedulers and each
//! clock. `FOREBAY_SEED` repeats a run, and a failure says how to replay its one schedule.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a model that cannot go on fails"
)]

// The library under its own name, as its users write it.
extern crate forebay_models as forebay;

mod acknowledging;
mod bell;
mod busy;
mod check;
mod closing;
mod failing;
mod filling;
mod handing_over;
mod support;
mod syncing;
mod unsynced_files;

// The bell is no part of the public API, so its models include its sources.
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the library uses what the models do not"
)]
#[path = "../../../forebay/src/sync/model.rs"]
mod sync;
#[allow(dead_code, reason = "the library uses what the models do not")]
#[path = "../../../forebay/src/sync/wake.rs"]
mod wake;
