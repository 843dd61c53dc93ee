//! Fuzzes a directory of any files; the body is shared with `cargo test`.
#![no_main]

#[path = "../../crates/forebay/tests/it/fuzz/bodies.rs"]
#[allow(dead_code, reason = "each target has one body")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::directory(bytes));
