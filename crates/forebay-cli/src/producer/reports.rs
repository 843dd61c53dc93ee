//! Telling whoever asked how many records are synced.
//!
//! Invariant: a number is reported only after a sync that covers so many
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
    /// Whoever listened is gone.
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

    /// How long a report may be put off.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Syncs and reports, if there is news and the last report is old enough.
    ///
    /// # Errors
    ///
    /// The sync fails, or the report.
    pub(crate) fn report_when_due(&mut self, writer: &Writer, accepted: u64) -> Result<()> {
        if accepted == self.reported || self.reported_at.elapsed() < self.interval {
            return Ok(());
        }
        match writer.flush_timeout(self.interval) {
            Ok(()) => self.report(accepted),
            // The next time will do: the disk is slow, or full.
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reports that so many records are synced, which they are.
    ///
    /// # Errors
    ///
    /// The report cannot be written; that nobody listens is no error.
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
                // The last number counts most after a signal, which ends the wait
                // for room.
                if written == Written::Stopped {
                    written = sink.write_at_once(line.as_bytes())?;
                }
                if written == Written::Closed {
                    self.to = To::Nobody;
                }
            }
            To::Stderr => {
                // Nowhere is left to complain to when this fails.
                let _ = writeln!(std::io::stderr(), "synced {synced}");
            }
            To::Nobody => {}
        }
        Ok(())
    }
}
