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
mod aside;
mod basic;
mod before_open;
mod bulk;
mod caller;
mod crash;
mod damage;
mod docs;
mod faults;
mod fuzz;
mod gate;
mod golden;
mod limits;
mod metrics;
mod recovery;
mod rolled;
mod storage;
mod stress;
mod support;
mod time_limits;
mod tokio_edge;
mod typed;
mod usage;
mod user_code;
mod verify;
mod wakeups;
mod workload;
mod zeros;
