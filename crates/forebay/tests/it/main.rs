//! Behaviour of the library through its public API, a module per subject.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

#[macro_use]
mod forward;

mod acks;
mod appending;
mod background_sync;
mod basic;
mod batches;
mod before_open;
mod caller;
mod crash;
mod damage;
mod docs;
mod examples;
mod failed_syncs;
mod faults;
mod find;
mod fuzz;
mod gate;
mod golden;
mod handles;
mod limits;
mod lives;
mod metrics;
mod mixtures;
mod recovery;
mod repair;
mod storage;
mod stress;
mod support;
mod time_limits;
mod tokio_edge;
mod typed;
mod unsynced_files;
mod usage;
mod user_code;
mod verify;
mod wakeups;
mod workload;
mod zeros;
