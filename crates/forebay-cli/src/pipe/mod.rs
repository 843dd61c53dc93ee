//! A buffer between standard input and a program: the consuming side.
//!
//! [`pump`] decides, [`child`] holds the program, [`outgoing`] cuts what is
//! written to it, [`backoff`] says when it is started again.

pub(crate) mod backoff;
pub(crate) mod child;
pub(crate) mod outgoing;
pub(crate) mod pump;
