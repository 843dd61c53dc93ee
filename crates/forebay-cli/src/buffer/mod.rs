//! What several commands do with a buffer of the library: open it, wait for it, read
//! it, sync it, and report what was lost.

pub(crate) mod durability;
pub(crate) mod findings;
pub(crate) mod holder;
pub(crate) mod letters;
pub(crate) mod looks;
pub(crate) mod losses;
pub(crate) mod metadata;
pub(crate) mod opening;
pub(crate) mod pace;
pub(crate) mod patience;
pub(crate) mod rates;
pub(crate) mod steps;
pub(crate) mod transfer_progress;
pub(crate) mod verdict;
pub(crate) mod watch;
