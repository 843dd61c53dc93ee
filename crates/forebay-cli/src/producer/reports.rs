//! Reports how many records are synced (`--report-synced`).
//!
//! Invariant: a number is reported only after a sync that covers that many
//! records has succeeded.

use crate::failure::Result;
use crate::io::sink::{Sink, Written};
use crate::stop::Stop;
use forebay::{ErrorKind, Writer};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Reports, at most one per interval.
#[derive(Debug)]
pub(crate) struct Reports {
    interval: Duration,
    to: To,
    reported: u64,
    reported_at: Instant,
}

#[derive(Debug)]
enum To {
    /// The number alone.
    Stdout(Sink),
    /// `synced` and the number.
    Stderr,
    /// No process reads the reports any more.
    Nobody,
}

impl Reports {
    /// Reports on standard output.
    pub(crate) fn on_stdout(interval: Duration, stop: Stop) -> Self {
        Self::to(To::Stdout(Sink::stdout(stop)), interval)
    }

    /// Reports on standard error.
    pub(crate) fn on_stderr(interval: Duration) -> Self {
        Self::to(To::Stderr, interval)
    }

    fn to(to: To, interval: Duration) -> Self {
        Self {
            interval,
            to,
            reported: 0,
            reported_at: Instant::now(),
        }
    }

    /// How long a report may be delayed.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Syncs and reports, if there is news and the last report is old enough.
    ///
    /// # Errors
    ///
    /// The sync fails, or the report cannot be written.
    pub(crate) fn report_when_due(&mut self, writer: &Writer, accepted: u64) -> Result<()> {
        if accepted == self.reported || self.reported_at.elapsed() < self.interval {
            return Ok(());
        }
        match writer.flush_timeout(self.interval) {
            Ok(()) => self.report(accepted),
            // The disk is slow or full; the next call tries again.
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reports that `synced` records are synced, which the caller has made sure of.
    ///
    /// # Errors
    ///
    /// The report cannot be written; a closed standard output is no error.
    pub(crate) fn report(&mut self, synced: u64) -> Result<()> {
        self.reported_at = Instant::now();
        if synced == self.reported {
            return Ok(());
        }
        self.reported = synced;
        match &mut self.to {
            To::Stdout(sink) => {
                let line = format!("{synced}\n");
                let mut written = sink.write(line.as_bytes())?;
                // A signal ends the wait for room, but the last number before the end is
                // the most important one.
                if written == Written::Stopped {
                    written = sink.write_at_once(line.as_bytes())?;
                }
                if written == Written::Closed {
                    self.to = To::Nobody;
                }
            }
            To::Stderr => {
                // A failure to write to standard error cannot be reported anywhere.
                let _ = writeln!(std::io::stderr(), "synced {synced}");
            }
            To::Nobody => {}
        }
        Ok(())
    }
}
