//! What all that only look at a directory can be told.

use std::path::Path;
use std::sync::Arc;

use crate::counter::EventCounter;
use crate::directory::survey::{DEFAULT_MAX_FRAME_LEN, is_open_elsewhere};
use crate::error::Result;
use crate::storage::Storage;
use crate::storage::os::Os;

/// The methods of the options of those who look, which have a field `look`.
macro_rules! look_options {
    () => {
        /// How many events a record holds. Default: one.
        #[must_use]
        pub fn event_counter(mut self, counter: EventCounter) -> Self {
            self.look.event_counter = counter;
            self
        }

        /// The longest frame to believe, in bytes. Default: whatever the format allows and
        /// its file can hold.
        #[must_use]
        pub fn max_frame_len(mut self, bytes: u64) -> Self {
            self.look.max_frame_len = bytes;
            self
        }

        /// The file system. Default: the operating system's. Another one does not tell about
        /// locks.
        #[must_use]
        pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
            self.look.storage = Some(storage);
            self
        }
    };
}

/// The method of those who also look at the last record of a buffer that is written to.
macro_rules! live_option {
    () => {
        /// Says that the buffer is open elsewhere, so its last data file may end in a record
        /// that is being written. On the operating system's file system this is found out.
        #[must_use]
        pub fn live(mut self, live: bool) -> Self {
            self.live = live;
            self
        }
    };
}

pub(super) use {live_option, look_options};

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
