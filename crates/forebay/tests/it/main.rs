//! Behaviour of the library through its public API, a module per subject.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

mod docs;
mod golden;
mod storage;
