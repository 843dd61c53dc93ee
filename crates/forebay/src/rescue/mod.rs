//! Mending buffers that are not open, and getting records out of what is left of them.

pub(crate) mod repair;
mod staged;
