//! Layers over the API: typed records, metrics, futures.

#[cfg(feature = "tokio")]
pub mod aio;
pub(crate) mod codec;
#[cfg(feature = "metrics")]
pub mod telemetry;
pub(crate) mod typed;
