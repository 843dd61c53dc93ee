//! The options of commands that give records to a program, and what they become.

use super::acks::{AckStream, Acks};
use super::backoff::Backoff;
use super::dead_letters::DeadLetters;
use crate::args::sizes::{self, Size, Time};
use crate::failure::{Failure, Result};
use crate::stop::Stop;
use clap::ValueHint;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// The most that `--redeliver` allows, because records in that range are held in memory.
const REDELIVER_MAX: u64 = 64 << 20;

/// How a program is run, and what becomes of records that it fails on.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Program")]
pub(crate) struct ProgramOptions {
    /// How much CMD may have read but not processed when it dies; at most 64MiB
    ///
    /// A record that CMD has read stays in the buffer until CMD has read this
    /// much more. 0 suits programs that do not read ahead; programs that send
    /// what they read over a network may need several MiB.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = redeliver,
        allow_hyphen_values = true)]
    pub(crate) redeliver: u64,

    /// CMD writes a line for each record that it has finished, to descriptor 3 or to
    /// standard output
    ///
    /// Nothing but such a line takes a record, whatever --redeliver says, and what
    /// was acknowledged does not come again.
    #[arg(long, value_name = "STREAM", value_enum, num_args = 0..=1, require_equals = true,
        default_missing_value = "fd3")]
    pub(crate) ack: Option<AckStream>,

    /// Set a record aside when CMD has failed on it N times [default: never]
    ///
    /// Needs --dead-letters. CMD gets the records that it may have failed on one by
    /// one, each with a start of its own.
    #[arg(long, value_name = "N", value_parser = attempts, allow_hyphen_values = true,
        requires = "dead_letters")]
    pub(crate) max_attempts: Option<NonZeroU64>,

    /// The buffer for records that are set aside; made if there is none
    #[arg(long, value_name = "DIR", requires = "max_attempts", value_hint = ValueHint::DirPath)]
    dead_letters: Option<PathBuf>,

    /// The most the --dead-letters buffer may occupy on disk [default: 1GiB]
    #[arg(
        long,
        value_name = "SIZE",
        allow_hyphen_values = true,
        requires = "dead_letters"
    )]
    dead_letters_max_size: Option<Size>,

    /// Give up after N restarts in a row [default: never]
    #[arg(long, value_name = "N", value_parser = sizes::number, allow_hyphen_values = true)]
    pub(crate) max_restarts: Option<u64>,

    /// How long to wait before the first restart of CMD; it doubles up to 30s
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "100ms",
        allow_hyphen_values = true
    )]
    restart_delay: Time,

    /// How long CMD may take to end after a signal, before it is killed
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        allow_hyphen_values = true
    )]
    pub(crate) grace: Time,
}

fn redeliver(text: &str) -> Result<u64, String> {
    match sizes::size_or_zero(text)? {
        size if size > REDELIVER_MAX => Err("at most 64MiB; it is held in memory".to_owned()),
        size => Ok(size),
    }
}

fn attempts(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(sizes::number(text)?).ok_or_else(|| "at least 1".to_owned())
}

impl ProgramOptions {
    /// Refuses options that contradict each other.
    ///
    /// # Errors
    ///
    /// They do.
    pub(crate) fn check(&self) -> Result<()> {
        if self.max_attempts.is_some() && self.ack.is_none() && self.redeliver == 0 {
            return Err(Failure::new(
                "with --redeliver 0 a record is gone once it is read, before CMD can fail on it; \
                 leave --redeliver out, or use --ack, with --max-attempts",
            ));
        }
        Ok(())
    }

    /// Starts programs that acknowledge, if the program is to. Must be called before any file
    /// is opened, because that could get descriptor 3.
    ///
    /// # Errors
    ///
    /// Descriptor 3 is needed and in use.
    pub(crate) fn acks(&self) -> Result<Option<Acks>> {
        self.ack.map(Acks::new).transpose()
    }

    /// The dead letters of the buffers `mains`, if there are to be any. None either when the
    /// stop was set meanwhile.
    ///
    /// # Errors
    ///
    /// As [`DeadLetters::new`].
    pub(crate) fn dead_letters(
        &self,
        mains: &[PathBuf],
        wait: Time,
        stop: &Stop,
    ) -> Result<Option<DeadLetters>> {
        let Some(directory) = self.dead_letters_directory() else {
            return Ok(None);
        };
        let max_size = self.dead_letters_max_size.map(|Size(bytes)| bytes);
        DeadLetters::new(directory, max_size, mains, wait, stop)
    }

    /// The directory of the dead letters.
    pub(crate) fn dead_letters_directory(&self) -> Option<&Path> {
        self.dead_letters.as_deref()
    }

    /// When a program that has failed is started again.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.restart_delay.0, self.max_restarts)
    }
}
