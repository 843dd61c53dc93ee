//! A buffer between standard input and a program: the consuming side.
//!
//! [`pump`] decides, [`child`] holds the program, [`outgoing`] cuts what is
//! written to it, [`flight`] knows what it has and has not taken, [`acks`] reads
//! what it acknowledges, [`backoff`] says when it is started again, [`suspects`]
//! finds the record that it fails on, and [`dead_letters`] sets that aside.

pub(crate) mod acks;
pub(crate) mod backoff;
pub(crate) mod child;
pub(crate) mod dead_letters;
pub(crate) mod flight;
pub(crate) mod outgoing;
pub(crate) mod pump;
pub(crate) mod suspects;
