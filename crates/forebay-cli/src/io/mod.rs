//! Records as bytes: standard input, standard output, and the framing of records.

pub(crate) mod archive;
pub(crate) mod framing;
pub(crate) mod input;
pub(crate) mod outgoing;
pub(crate) mod process_group;
pub(crate) mod replace;
pub(crate) mod sink;
pub(crate) mod standard;
pub(crate) mod translator;
