//! Forebay: a durable disk buffer for event pipelines.

mod acks;
mod buffer;
mod codec;
mod config;
mod counter;
mod data_file;
mod delivery;
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
mod recovery;
pub mod storage;
mod survey;
#[cfg(feature = "tokio")]
pub mod tokio;
mod usage;
mod verify;
mod wake;
mod writer;

pub use acks::Count;
pub use buffer::{open, open_with};
#[cfg(feature = "serde_json")]
pub use codec::Json;
pub use codec::{Codec, TypedItem, TypedReader, TypedWriter, open_typed};
pub use config::{Config, Io, ReaderSees, SyncPolicy, WhenFull};
pub use counter::EventCounter;
pub use data_file::DamageKind;
pub use error::{Error, ErrorKind, Result};
pub use findings::{Finding, FindingKind, Recovery, Severity};
pub use inspect::{
    FileReport, InspectOptions, Inspection, LedgerCondition, LedgerReport, Unread, inspect,
    inspect_with,
};
pub use quarantine::OnCorruption;
pub use reader::{Ack, Batch, Delivery, Item, Lost, LostReason, Reader, Record, TryBatch, TryNext};
pub use records::{Records, RecordsOptions, Skipped, StoredRecord, records, records_with};
pub use usage::Usage;
pub use verify::{Verification, VerifyOptions, verify, verify_with};
pub use writer::{Receipt, Writer};

/// The README, so that its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
