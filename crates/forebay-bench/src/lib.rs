//! Measuring a machine: what raw file access reaches on it, and what the buffer
//! makes of that.
//!
//! The measurements of `forebay bench`, and what the comparison with other crates
//! shares with them. A part of the program `forebay-cli` that is a crate of its own;
//! its API is made for these two and changes with them.
//!
//! [`plan`] says what is measured and in which order, [`rounds`] measures, [`report`]
//! and [`plot`] show what came out. Below them, `raw` measures the limits, `work` and
//! the modules beside it the buffer. Invariants:
//! - whatever is read back is checked: number, order and, in samples, content;
//! - limits and buffer are measured in turns, round by round, so that a machine
//!   whose speed changes changes it for both;
//! - the scratch directory goes with [`scratch::Scratch`], however a run ends.

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
