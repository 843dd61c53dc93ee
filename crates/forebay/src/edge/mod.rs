//! What stands on the public API: typed records, metrics, futures.

pub(crate) mod codec;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "tokio")]
pub mod tokio;
