//! The bytes on disk: pure functions, no I/O.

pub mod file_id;
pub mod ledger;
pub mod record;
