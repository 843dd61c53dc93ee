//! The progress of records that leave a buffer.

use crate::output::live::Progress;
use forebay::Transfer;
use forebay::format::record::frame_len;
use std::fmt::Display;

/// A bar over the bytes that records take in the data files of a buffer.
#[derive(Debug)]
pub(crate) struct TransferProgress {
    bar: Progress,
    total: u64,
}

impl TransferProgress {
    /// A bar over `total` bytes of data files.
    pub(crate) fn over(total: u64) -> Self {
        Self {
            bar: Progress::over_bytes(),
            total,
        }
    }

    /// Shows what was taken so far.
    pub(crate) fn show(&self, transfer: &Transfer) {
        self.show_records(transfer.records, transfer.bytes);
    }

    /// Shows that so many records are done, with so many bytes of payload.
    pub(crate) fn show_records(&self, records: u64, payload_bytes: u64) {
        let done = payload_bytes + records * frame_len(0) as u64;
        self.bar.bytes(done.min(self.total), self.total);
    }

    /// Prints a message on standard error, and draws the bar again below it.
    pub(crate) fn note(&self, text: impl Display) {
        self.bar.note(text);
    }

    /// Takes it off the terminal.
    pub(crate) fn clear(&self) {
        self.bar.clear();
    }
}
