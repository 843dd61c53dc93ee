//! Forebay: a durable disk buffer for event pipelines.

mod acks;
mod buffer;
mod codec;
mod config;
mod counter;
mod data_file;
mod error;
mod findings;
pub mod format;
mod inspect;
mod intake;
mod io_thread;
mod ledger;
mod log;
mod pool;
mod quarantine;
mod reader;
mod records;
#[allow(dead_code)]
mod recovery;
pub mod storage;
mod survey;
#[cfg(feature = "tokio")]
pub mod tokio;
mod usage;
mod verify;
mod writer;

pub use counter::EventCounter;
pub use data_file::DamageKind;
pub use error::{Error, ErrorKind, Result};
pub use findings::{Finding, FindingKind, Recovery, Severity};
pub use inspect::{
    FileReport, InspectOptions, Inspection, LedgerCondition, LedgerReport, Unread, inspect,
    inspect_with,
};
pub use quarantine::OnCorruption;
pub use records::{Records, RecordsOptions, Skipped, StoredRecord, records, records_with};
pub use verify::{Verification, VerifyOptions, verify, verify_with};
