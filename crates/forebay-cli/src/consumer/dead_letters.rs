//! The buffer for records that a program fails on every time.
//!
//! Invariants: a record is synced here before it is acknowledged in the buffer that it
//! comes from, so that it is always in one of them; the buffer is open only while a
//! record is stored, so that other processes can take records out; a record that cannot
//! be stored is an error that says so, and no record is dropped.

use crate::args::sizes::Time;
use crate::buffer::durability::{PATIENCE, no_space, sync};
use crate::buffer::opening;
use crate::failure::{Failure, Result};
use crate::output::json;
use crate::stop::Stop;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use forebay::{Config, Delivery, ErrorKind, WhenFull};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait at least while another process has the dead letters open.
const WAIT_MIN: Duration = Duration::from_secs(10);

/// How a program ended that failed on a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    pub(crate) attempts: u64,
    pub(crate) exit_status: Option<u8>,
    pub(crate) signal: Option<u8>,
}

/// A record of this buffer, for programs: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Letter<'a> {
    id: u64,
    attempts: u64,
    exit_status: Option<u8>,
    signal: Option<u8>,
    time: String,
    metadata: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

/// The buffer for records that a program fails on. Clones count their own records.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetters {
    config: Config,
    directory: PathBuf,
    wait: Time,
    stop: Stop,
    /// Records that were stored.
    count: u64,
}

impl DeadLetters {
    /// Opens dead letters in `directory` once, to see that it can be done, and makes them
    /// if there are none. While another process has them open, waits at most `wait`; `None`
    /// when the stop was set meanwhile.
    ///
    /// # Errors
    ///
    /// `directory` is one of the buffers `mains` that the records come from, or cannot be
    /// opened.
    pub(crate) fn new(
        directory: &Path,
        max_size: Option<u64>,
        mains: &[PathBuf],
        wait: Time,
        stop: &Stop,
    ) -> Result<Option<Self>> {
        if mains.iter().any(|main| is_same(directory, main)) {
            return Err(Failure::new(format!(
                "--dead-letters {} is the buffer itself, where the record would hold up the \
                 others again; give another directory",
                directory.display()
            )));
        }
        let mut config = Config::new(directory).when_full(WhenFull::Reject);
        if let Some(size) = max_size {
            config = config.max_size(size);
        }
        let this = Self {
            config,
            directory: directory.to_owned(),
            wait: Time(wait.0.max(WAIT_MIN)),
            stop: stop.clone(),
            count: 0,
        };
        let opened = opening::open(&this.config, wait.into(), false, stop);
        let Some((writer, reader)) = opened.map_err(options)? else {
            return Ok(None);
        };
        drop(writer);
        reader.close()?;
        Ok(Some(this))
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Records that were stored.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Stores a record and syncs it. False when the stop was set while another process had
    /// the directory open: nothing is stored.
    ///
    /// # Errors
    ///
    /// It cannot be stored.
    pub(crate) fn store(&mut self, delivery: &Delivery, failed: Failed) -> Result<bool> {
        let id = delivery.id();
        self.try_store(delivery, failed).map_err(|failure| {
            failure.but(format!(
                "record {id}, on which CMD fails, stays in its buffer"
            ))
        })
    }

    fn try_store(&mut self, delivery: &Delivery, failed: Failed) -> Result<bool> {
        let opened = opening::open(&self.config, self.wait.into(), false, &self.stop);
        let Some((writer, reader)) = opened.map_err(options)? else {
            return Ok(false);
        };
        let letter = letter(delivery, failed);
        writer
            .append(letter.as_bytes())
            .map_err(|error| self.refused(&error))?;
        if !sync(&writer, || Some(PATIENCE), || ())? {
            // Closing tries once more. That not all is stored is what is said here.
            drop(writer);
            let _ = reader.close_timeout(PATIENCE);
            return Err(no_space(&self.directory));
        }
        writer.close()?;
        reader.close()?;
        self.count += 1;
        Ok(true)
    }

    /// Why a record was not accepted.
    fn refused(&self, error: &forebay::Error) -> Failure {
        let directory = self.directory.display();
        let remedy = match error.kind() {
            ErrorKind::Full | ErrorKind::ReaderGone => format!(
                "take records out of the dead letters with `forebay pull {directory}`, or raise \
                 --dead-letters-max-size"
            ),
            ErrorKind::InvalidRecord => {
                "raise --dead-letters-max-size, a sixteenth of which one record may have".to_owned()
            }
            _ => return Failure::from(error.clone()),
        };
        let message = error
            .to_string()
            .replace("max_size", "--dead-letters-max-size");
        Failure::new(format!("{message}; {remedy}"))
    }
}

/// Replaces the option of the main buffer in a message by that of the dead letters.
fn options(mut failure: Failure) -> Failure {
    failure.message = failure
        .message
        .replace("--max-size", "--dead-letters-max-size");
    failure
}

fn letter(delivery: &Delivery, failed: Failed) -> String {
    let text = std::str::from_utf8(delivery.payload()).ok();
    json(&Letter {
        id: delivery.id(),
        attempts: failed.attempts,
        exit_status: failed.exit_status,
        signal: failed.signal,
        time: format!("{:.3}", jiff::Timestamp::now()),
        metadata: delivery.metadata(),
        payload: text,
        payload_base64: text
            .is_none()
            .then(|| BASE64_STANDARD.encode(delivery.payload())),
    })
}

/// Whether two paths lead to one directory.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
