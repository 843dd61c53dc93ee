//! Records from a buffer into the standard input of a program, which is started again when it
//! fails.

pub(crate) mod acks;
pub(crate) mod backoff;
pub(crate) mod child;
pub(crate) mod dead_letters;
mod flight;
pub(crate) mod options;
pub(crate) mod pump;
mod suspects;
