//! The buffer for records that a program fails on every time.
//!
//! Invariants: a record is synced here before it is acknowledged in the buffer that it
//! comes from, so that it is always in one of them; the buffer is open only while a
//! record is stored, so that other processes can take records out; a record that cannot
//! be stored is an error that says so, and no record is dropped.

use crate::args::sizes::Time;
use crate::buffer::durability::{PATIENCE, no_space, sync};
use crate::buffer::letters::{Failed, letter, require_place};
use crate::buffer::opening;
use crate::failure::{Failure, Result};
use crate::stop::Stop;
use forebay::{Config, Delivery, ErrorKind, WhenFull};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait at least while another process has the dead letters open.
const WAIT_MIN: Duration = Duration::from_secs(10);

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
        require_place(directory)?;
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
        let record = (delivery.id(), delivery.metadata(), &delivery.payload()[..]);
        let letter = letter(record, failed, None);
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
        Failure::new(format!("{error}; {remedy}"))
    }
}

/// Names the option of the dead letters where a message names that of the main buffer.
fn options(failure: Failure) -> Failure {
    match failure.message.contains("--max-size") {
        true => failure.but("for the dead letters that is --dead-letters-max-size"),
        false => failure,
    }
}

/// Whether two paths lead to one directory.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
