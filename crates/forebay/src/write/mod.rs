//! Appending: from the handle that producers hold, through the open batch, to the data files.
//!
//! The [`writer`] hands records to [`append`], which puts them into the intake. The [`io_thread`],
//! or with `Io::Caller` the calling thread, drives the write [`side`], which takes batches from the
//! intake and owns everything that changes data files.

pub(crate) mod append;
pub(crate) mod io_thread;
pub(crate) mod receipt;
pub(crate) mod side;
pub(crate) mod writer;
