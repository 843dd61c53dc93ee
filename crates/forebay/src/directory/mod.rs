//! A buffer's directory, looked at without opening the buffer, or before it is open.
//!
//! The [`survey`] finds the files and their order. [`recovery`] decides what an opening does,
//! and does it; [`quarantine`] keeps what it cuts. [`inspect`], [`verify`] and [`records`] only
//! look. All of them speak in [`findings`].

pub(crate) mod findings;
pub(crate) mod inspect;
mod options;
pub(crate) mod quarantine;
pub(crate) mod records;
pub(crate) mod recovery;
pub(crate) mod survey;
pub(crate) mod verify;
