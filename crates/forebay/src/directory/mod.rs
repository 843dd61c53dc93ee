//! A buffer's directory, read while the buffer is not open in this process or not yet open.
//!
//! The [`survey`] finds the files and their order. [`recovery`] decides what an opening does,
//! and does it; [`quarantine`] keeps the damaged bytes. [`inspect`], [`verify`] and [`records`]
//! only read; [`find`] looks for buffers. Recovery and verify report [`findings`]. [`install`]
//! replaces files of a buffer by others.

pub(crate) mod enclosing;
pub(crate) mod find;
pub(crate) mod findings;
pub(crate) mod inspect;
pub(crate) mod install;
mod newest;
pub(crate) mod options;
pub(crate) mod quarantine;
pub(crate) mod records;
pub(crate) mod recovery;
pub(crate) mod sealed;
pub(crate) mod survey;
pub(crate) mod verify;
