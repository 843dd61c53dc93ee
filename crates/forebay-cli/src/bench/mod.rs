//! Measuring a machine: what raw file access reaches on it, and what the buffer
//! makes of that.
//!
//! [`plan`] says what is measured and in which order, [`raw`] measures the
//! limits, [`work`] and the files beside it the buffer, [`report`] and [`plot`]
//! show what came out. Invariants:
//! - whatever is read back is checked: number, order and, in samples, content;
//! - limits and buffer are measured in turns, round by round, so that a machine
//!   whose speed changes changes it for both;
//! - the scratch directory goes with [`scratch::Scratch`], however a run ends.

pub(crate) mod durable;
pub(crate) mod latency;
pub(crate) mod machine;
pub(crate) mod measure;
pub(crate) mod payload;
pub(crate) mod plan;
pub(crate) mod plot;
pub(crate) mod raw;
pub(crate) mod report;
pub(crate) mod scratch;
pub(crate) mod standing;
mod svg;
pub(crate) mod work;
