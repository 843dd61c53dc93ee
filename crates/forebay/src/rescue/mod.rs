//! Mending buffers that are not open, and getting records out of what is left of them.

// Used by what makes new buffers.
#[allow(dead_code)]
pub(crate) mod build;
pub(crate) mod repair;
mod staged;
