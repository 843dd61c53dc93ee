//! The recovery table of the format, each case a test of its name: what is
//! listed and found before opening, what opening delivers and says, and that the
//! buffer works afterwards.

mod data_files;
mod in_records;
mod ledgers;
pub(crate) mod made;
