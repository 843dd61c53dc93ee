//! The bytes on disk: pure functions over slices, no I/O.
//!
//! A buffer directory holds a [ledger], one lock file and
//! [data files](file_id) of [records](record) back to back. Every integer is
//! little endian except a frame's delimiter.

pub mod file_id;
pub mod ledger;
pub mod record;
