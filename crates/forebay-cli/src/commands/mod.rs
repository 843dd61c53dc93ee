//! One file per command.

pub(crate) mod bench;
pub(crate) mod cat;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod mend;
pub(crate) mod metrics;
pub(crate) mod pipe;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod repair;
pub(crate) mod salvage;
pub(crate) mod skip;
pub(crate) mod top;
pub(crate) mod transfer;
pub(crate) mod verify;
