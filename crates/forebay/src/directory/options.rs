//! What all that only look at a directory can be told.

use std::path::Path;
use std::sync::Arc;

use crate::counter::EventCounter;
use crate::directory::survey::{DEFAULT_MAX_FRAME_LEN, is_open_elsewhere};
use crate::error::Result;
use crate::storage::Storage;
use crate::storage::os::Os;

/// How to look.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) event_counter: EventCounter,
    pub(super) max_frame_len: u64,
    /// `None`: the operating system's.
    pub(super) storage: Option<Arc<dyn Storage>>,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            event_counter: EventCounter::one(),
            max_frame_len: DEFAULT_MAX_FRAME_LEN,
            storage: None,
        }
    }
}

impl Look {
    pub(super) fn storage(&self) -> Arc<dyn Storage> {
        self.storage.clone().unwrap_or_else(|| Arc::new(Os::new()))
    }

    /// Whether the lock can be looked at: another storage does not tell about locks.
    pub(super) fn is_of_the_system(&self) -> bool {
        self.storage.is_none()
    }

    /// Whether a process has the buffer open, as far as that can be known.
    pub(super) fn is_open_elsewhere(&self, dir: &Path) -> Result<bool> {
        if self.is_of_the_system() {
            is_open_elsewhere(dir)
        } else {
            Ok(false)
        }
    }
}
