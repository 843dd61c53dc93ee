//! Measures a machine: the limits of raw file access on it, and the buffer on it.
//!
//! These are the measurements of `forebay bench`, and what the comparison with other
//! crates shares with them. The crate is a part of the program `forebay-cli`; its API is
//! made for these two users and changes with them.
//!
//! [`plan`] says what is measured and in which order, [`rounds`] measures, [`report`]
//! and [`plot`] show the results. Below them, `raw` measures the limits; `work`, `durable`,
//! `latency` and [`standing`] measure the buffer. Invariants:
//! - all records that are read back are checked: number, order and, in samples, content;
//! - limits and buffer are measured in turns, round by round, so that a change of the
//!   machine's speed affects both;
//! - the scratch directory is removed with [`scratch::Scratch`], however a run ends.

mod durable;
pub mod failure;
pub mod figures;
mod latency;
pub mod machine;
pub mod measure;
pub mod payload;
pub mod plan;
pub mod plot;
mod raw;
pub mod report;
pub mod rounds;
pub mod scratch;
pub mod standing;
pub mod stop;
pub mod svg;
mod threads;
mod work;
