//! One file per command.

pub(crate) mod pipe;
pub(crate) mod pull;
pub(crate) mod push;
