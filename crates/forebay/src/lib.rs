//! Forebay: a durable disk buffer for event pipelines.
//!
//! A buffer stands between a program that produces events and a program that consumes them. An
//! event that was accepted and synced is delivered, in order and at least once, through crashes,
//! power cuts, full disks, bad sectors and slow consumers. Its directories are those of Vector's
//! disk buffer, byte for byte.
//!
//! ```
//! use forebay::{Config, Item};
//!
//! # let dir = tempfile::tempdir()?;
//! let (writer, mut reader) = Config::new(dir.path()).max_size(64 << 20).open()?;
//! writer.append(b"an event")?;
//! writer.flush()?; // survives a power cut from here on
//! drop(writer); // the last writer: the reader sees the end after what is there
//!
//! while let Some(item) = reader.recv()? {
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
//! # Reading path
//!
//! 1. **Embed, blocking.** [`Config::open`] gives a [`Writer`] and a [`Reader`]. [`Writer::append`]
//!    gives a [`Receipt`], on which the caller can wait until the record is *written* (survives a
//!    killed process) or *synced* (survives a power cut). [`Reader::recv`] gives [`Item`]s: a
//!    [`Delivery`] to acknowledge, or what is [`Lost`]. [`Batch`]es are faster.
//! 2. **Embed, async.** [`aio`] (feature `tokio`): the same as futures, a stream and a sink.
//!    [`Receipt::detach`] gives a receipt that moves into a task, to acknowledge upstream once
//!    the record is synced.
//! 3. **Values instead of bytes.** [`Config::open_typed`] with a [`Codec`]: `Json`, `JsonLines`,
//!    [`Text`], [`Versioned`], or your own.
//! 4. **Tune.** [`Config`]: every limit, its unit, default and bounds. [`SyncPolicy`] decides what
//!    a power cut may take, [`WhenFull`] what an append to a full buffer does, [`OnCorruption`]
//!    what happens to damaged bytes.
//! 5. **Observe.** [`Usage`]: what went through, in one consistent snapshot; [`Monitor`] reads it
//!    from another thread, `metrics` (feature) reports it. [`inspect`], [`verify`] and [`records`]
//!    look at a buffer without opening it, and [`find_buffers`] finds those below a directory.
//!    [`mod@format`]: the bytes on disk.
//! 6. **Rescue.** [`RepairOptions`], [`SalvageOptions`], [`TransferOptions`], [`ExportOptions`] and
//!    [`ImportOptions`]: a damaged buffer made clean, what is left of others in a new one, records
//!    from one to another.
//! 7. **Test.** [`storage`]: the file system interface, with a simulated file system that can lose
//!    power and one that fails on request (feature `sim`), for a program's own crash tests.
//!
//! Whole programs are in the package's `examples/`.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `tokio` | [`aio`]: async writer and reader |
//! | `serde_json` | `Json`, `JsonLines`: codecs for types that implement `serde`'s traits |
//! | `metrics` | `telemetry::report`: usage through the `metrics` facade |
//! | `sim` | `storage::sim` and `storage::fault`: for tests |

// Documentation of features links to items that exist only with the feature.
#![cfg_attr(not(feature = "tokio"), allow(rustdoc::broken_intra_doc_links))]

mod buffer;
mod config;
mod counter;
mod directory;
mod edge;
mod error;
pub mod format;
mod read;
mod rescue;
mod scan;
mod state;
pub mod storage;
#[cfg(not(forebay_models))]
mod sync;
#[cfg(forebay_models)]
#[doc(hidden)]
pub mod sync;
mod usage;
mod write;

pub use config::{Config, Io, OnCorruption, ReaderSees, SyncPolicy, WhenFull};
pub use counter::EventCounter;
pub use directory::enclosing::buffer_around;
pub use directory::find::{FoundBuffers, find_buffers};
pub use directory::findings::{Finding, FindingKind, Recovery, Severity};
pub use directory::inspect::{
    FileReport, InspectOptions, Inspection, LedgerCondition, LedgerReport, Unread, inspect,
};
pub use directory::records::{Records, RecordsOptions, Skipped, StoredRecord, records};
pub use directory::verify::{Verification, VerifyOptions, verify};
#[cfg(feature = "tokio")]
pub use edge::aio;
pub use edge::codec::{Codec, Raw, Text, Versioned};
#[cfg(feature = "serde_json")]
pub use edge::codec::{Json, JsonLines};
#[cfg(feature = "metrics")]
pub use edge::telemetry;
pub use edge::typed::{TypedItem, TypedReader, TypedWriter};
pub use error::{Error, ErrorKind, Result};
pub use read::delivery::{Ack, Batch, BatchItems, Delivery, Item, Record};
pub use read::stopper::Stopper;
pub use read::{Reader, TryRecv};
pub use rescue::export::{Export, ExportOptions};
pub use rescue::import::{Import, ImportOptions, Imported};
pub use rescue::repair::{FileAction, FilePlan, Repair, RepairOptions, RepairPlan};
pub use rescue::salvage::{Conflict, Salvage, SalvageOptions, SalvagedFile};
pub use rescue::transfer::{Transfer, TransferOptions};
pub use scan::DamageKind;
pub use state::acks::Count;
pub use state::lost::{DropReason, Lost, LostReason};
pub use usage::{BufferState, Monitor, Usage};
pub use write::receipt::{Appended, BatchError, DetachedReceipt, Receipt};
pub use write::writer::Writer;

/// The README, so that its examples are compiled; one of them needs a feature.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
