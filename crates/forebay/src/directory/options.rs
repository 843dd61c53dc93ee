//! The options that `inspect`, `verify`, `records` and the repairs have in common.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::counter::EventCounter;
use crate::directory::survey::{DEFAULT_MAX_FRAME_LEN, is_open_elsewhere};
use crate::error::Result;
use crate::storage::Storage;
use crate::storage::os::Os;

/// A buffer that is open elsewhere is looked at up to this many times more, after pauses, before
/// a finding is reported. Another implementation moves the ledger before it writes the record, and
/// acknowledges more than it has written, for a moment.
pub(super) const LOOKS_AGAIN: usize = 4;
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(25);

/// The methods that the options of `inspect`, `verify` and `records` share. The options
/// have a field `look`.
macro_rules! look_options {
    () => {
        /// How many events a record holds. Default: one.
        #[must_use]
        pub fn event_counter(mut self, counter: EventCounter) -> Self {
            self.look.event_counter = counter;
            self
        }

        /// The longest frame to accept, in bytes. Default: as long as the format allows and
        /// the file can hold.
        #[must_use]
        pub fn max_frame_len(mut self, bytes: u64) -> Self {
            self.look.max_frame_len = bytes;
            self
        }

        /// The file system. Default: the operating system's. In another one it is not known
        /// whether the buffer is open.
        #[must_use]
        pub fn storage(mut self, storage: Arc<dyn Storage>) -> Self {
            self.look.storage = Some(storage);
            self
        }
    };
}

/// The method of the options that also read the last record of a buffer while it is written.
macro_rules! live_option {
    () => {
        /// Says that the buffer is open elsewhere, so its last data file may end in a record
        /// that is being written. In the operating system's file system this is detected.
        #[must_use]
        pub fn live(mut self, live: bool) -> Self {
            self.live = live;
            self
        }
    };
}

pub(crate) use {live_option, look_options};

/// The values of the shared options.
#[derive(Debug, Clone)]
pub(crate) struct LookOptions {
    pub(crate) event_counter: EventCounter,
    pub(crate) max_frame_len: u64,
    /// `None`: the operating system's file system.
    pub(crate) storage: Option<Arc<dyn Storage>>,
}

impl Default for LookOptions {
    fn default() -> Self {
        Self {
            event_counter: EventCounter::one(),
            max_frame_len: DEFAULT_MAX_FRAME_LEN,
            storage: None,
        }
    }
}

impl LookOptions {
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        self.storage.clone().unwrap_or_else(|| Arc::new(Os::new()))
    }

    /// Whether the storage is the operating system's. Only there the lock can be checked.
    pub(crate) fn is_of_the_system(&self) -> bool {
        self.storage.is_none()
    }

    /// Whether a process has the buffer open; `false` if that cannot be known.
    pub(crate) fn is_open_elsewhere(&self, dir: &Path) -> Result<bool> {
        if self.is_of_the_system() {
            is_open_elsewhere(dir)
        } else {
            Ok(false)
        }
    }
}
