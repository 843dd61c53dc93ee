//! The recovery table of `docs/format.md`, each case in a test of its name: what is listed and
//! found before opening, what opening delivers and reports, and that the buffer works
//! afterwards.

mod data_files;
mod in_records;
mod ledgers;
pub(crate) mod made;
