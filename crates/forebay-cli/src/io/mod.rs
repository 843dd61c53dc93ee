//! Records as bytes: standard input, standard output, and what tells records apart.

pub(crate) mod framing;
pub(crate) mod input;
pub(crate) mod sink;
pub(crate) mod standard;
