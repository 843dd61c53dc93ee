//! One file per command.

pub(crate) mod bench;
pub(crate) mod cat;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod mend;
pub(crate) mod pipe;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod repair;
pub(crate) mod top;
pub(crate) mod verify;
