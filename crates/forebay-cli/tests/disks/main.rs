//! Real file systems on disks that fill up or lose their power.
//!
//! These tests mount file systems, which needs root and loop devices, so they are ignored
//! unless asked for: `just full-disk`, `just power-cut`. Where mounting does not work, they
//! print `SKIPPED` and the reason.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets an error has failed"
)]

mod device;
mod full_disk;
mod mounted;
mod power_cut;

#[path = "../it/moments.rs"]
mod moments;
#[path = "../it/numbered.rs"]
mod numbered;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../it/support.rs"]
mod support;
