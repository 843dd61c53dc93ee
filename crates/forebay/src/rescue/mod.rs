//! Mending buffers that are not open, and getting records out of what is left of them.

mod build;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod repair;
mod staged;
