//! Ends a measurement early.
//!
//! Invariant: measurements check the stop so often that they end within a few seconds.
//! The caller sees to it that a stop stays set.

use std::fmt;
use std::sync::Arc;

/// Tells whether the measurement is to end now.
#[derive(Clone)]
pub struct Stop(Arc<dyn Fn() -> bool + Send + Sync>);

impl Stop {
    /// A stop that is set once `asked` returns true.
    pub fn new(asked: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(asked))
    }

    /// A stop that is never set.
    pub fn never() -> Self {
        Self::new(|| false)
    }

    /// Whether it is time to end.
    pub fn is_set(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stop").field(&self.is_set()).finish()
    }
}
