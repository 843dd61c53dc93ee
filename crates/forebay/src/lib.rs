//! Forebay: a durable disk buffer for event pipelines.
//!
//! Between whatever produces events and whatever consumes them, a buffer
//! guarantees that what was accepted is delivered, in order, at least once,
//! through crashes, power cuts, full disks, bad sectors and slow consumers.
//!
//! ```
//! use forebay::{Config, Item};
//!
//! # let dir = tempfile::tempdir()?;
//! let (writer, mut reader) = forebay::open(Config::new(dir.path()).max_size(64 << 20))?;
//! writer.append(b"an event")?;
//! writer.flush()?; // survives a power cut from here on
//! drop(writer); // the last writer: the reader sees the end after what is there
//!
//! while let Some(item) = reader.next()? {
//!     match item {
//!         Item::Record(delivery) => {
//!             assert_eq!(&delivery.payload()[..], b"an event");
//!             delivery.ack(); // from any thread, in any order
//!         }
//!         Item::Lost(lost) => eprintln!("{lost}"),
//!     }
//! }
//! reader.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to read on
//!
//! - [`Config`]: every limit, its unit, default and bounds.
//! - [`Writer`], [`Receipt`]: append, and wait until what was appended is
//!   *written* (survives a killed process) or *synced* (survives a power cut).
//! - [`Reader`], [`Delivery`], [`Batch`], [`Ack`], [`Lost`]: read, acknowledge,
//!   learn what damage took.
//! - [`Usage`]: what went through, in one consistent snapshot.
//! - [`Codec`], [`open_typed`]: values instead of bytes.
//! - [`tokio`] (feature `tokio`): the same as futures.
//! - [`inspect`], [`verify`], [`records`]: look at a buffer without opening it.
//! - [`mod@format`]: the bytes on disk. [`storage`]: the seam to the
//!   file system, with a simulated one (feature `sim`).
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `tokio` | [`tokio`]: async writer and reader |
//! | `serde_json` | `Json`: the codec of whatever `serde` can turn into JSON |
//! | `metrics` | `metrics::report`: usage through the `metrics` facade |
//! | `sim` | `storage::sim` and `storage::fault`: for tests |

// Pages about features link to what only those features bring.
#![cfg_attr(not(feature = "tokio"), allow(rustdoc::broken_intra_doc_links))]

mod buffer;
mod config;
mod counter;
mod directory;
mod edge;
mod error;
pub mod format;
mod read;
mod scan;
mod state;
pub mod storage;
#[cfg(not(forebay_shuttle))]
mod sync;
#[cfg(forebay_shuttle)]
#[doc(hidden)]
pub mod sync;
mod usage;
mod write;

pub use buffer::{open, open_with};
pub use config::{Config, Io, OnCorruption, ReaderSees, SyncPolicy, WhenFull};
pub use counter::EventCounter;
pub use directory::findings::{Finding, FindingKind, Recovery, Severity};
pub use directory::inspect::{
    FileReport, InspectOptions, Inspection, LedgerCondition, LedgerReport, Unread, inspect,
    inspect_with,
};
pub use directory::records::{
    Records, RecordsOptions, Skipped, StoredRecord, records, records_with,
};
pub use directory::verify::{Verification, VerifyOptions, verify, verify_with};
#[cfg(feature = "serde_json")]
pub use edge::codec::Json;
pub use edge::codec::{Codec, TypedItem, TypedReader, TypedWriter, open_typed};
#[cfg(feature = "metrics")]
pub use edge::metrics;
#[cfg(feature = "tokio")]
pub use edge::tokio;
pub use error::{Error, ErrorKind, Result};
pub use read::delivery::{Ack, Batch, Delivery, Item, Record};
pub use read::{Reader, TryBatch, TryNext};
pub use scan::DamageKind;
pub use state::acks::Count;
pub use state::lost::{Lost, LostReason};
pub use usage::Usage;
pub use write::writer::{Receipt, Writer};

/// The README, so that its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
