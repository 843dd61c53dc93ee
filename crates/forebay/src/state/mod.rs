//! What an open buffer is: the positions, and what its handles and the write side share.
//!
//! Invariant: nothing here depends on the modules that write, read, open or close.

pub(crate) mod acks;
pub(crate) mod intake;
pub(crate) mod ledger;
pub(crate) mod log;
pub(crate) mod lost;
pub(crate) mod meters;
pub(crate) mod shared;
pub(crate) mod stream;
