//! Ending a reader's wait from another thread.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::state::shared::Shared;

/// A handle that ends a waiting [`Reader::recv`](crate::Reader::recv) from another thread; made by
/// [`Reader::stopper`](crate::Reader::stopper). It does not keep the buffer open.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let (writer, mut reader) = forebay::Config::new(dir.path()).open()?;
/// let stopper = reader.stopper();
/// let consumer = std::thread::spawn(move || {
///     while let Some(item) = reader.recv()? {
///         // Nothing is appended here: this waits until it is stopped.
///         drop(item);
///     }
///     reader.close()
/// });
/// stopper.stop(); // on Ctrl-C, say
/// consumer.join().unwrap()?;
/// # drop(writer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Stopper(Weak<Shared>);

impl Stopper {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }

    /// Stops the reader: a call that waits, and every later one, reports the end of the stream,
    /// even if there is more to read. What is unread stays in the buffer for the next opening.
    /// Delivered records can still be acknowledged.
    ///
    /// Call it from any thread, but not within a signal handler, because it takes locks.
    pub fn stop(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.stop_reader();
        }
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").finish_non_exhaustive()
    }
}
