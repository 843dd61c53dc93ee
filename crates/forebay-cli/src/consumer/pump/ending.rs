//! Judges how a program ended: what it had taken, and whether it is started again.

use super::{BLOCKED, IDLE, Pump};
use crate::consumer::acks::AckLines;
use crate::consumer::child::Child;
use crate::consumer::suspects::Suspected;
use crate::failure::Result;
use crate::output::count;
use std::fmt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Instant;

/// How the pumping ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything was taken; the program's status.
    Drained(u8),
    /// The program ended successfully before its input did.
    Enough,
    /// The program ended successfully, and had not acknowledged these records that it had
    /// read; `None` if there are none, but it had closed its acknowledgements.
    Unacknowledged(Option<Suspected>),
    /// The program failed, and is not to be started again.
    Failed(HowEnded),
    /// The stop was set.
    Stopped,
}

impl End {
    /// What is to be said of a program that did not take everything: it is called `name`, and
    /// was to be started again at most `max_restarts` times.
    pub(crate) fn message(self, name: &str, directory: &Path, max_restarts: Option<u64>) -> String {
        let directory = directory.display();
        match self {
            Self::Drained(status) => format!("{name} ended with status {status}"),
            Self::Stopped => format!("{name} was stopped"),
            Self::Enough => format!(
                "{name} ended before its input did; if it left records, they stay in {directory}"
            ),
            Self::Unacknowledged(records) => {
                let what = match records {
                    None => "could acknowledge nothing more".to_owned(),
                    Some(records) => format!(
                        "had not acknowledged {} that it had read, from record {} on",
                        count(records.count, "record"),
                        records.first
                    ),
                };
                format!(
                    "{name} ended with status 0 and {what}; what it has not acknowledged stays \
                     in {directory} for the next run"
                )
            }
            Self::Failed(how) => {
                let after = match max_restarts {
                    Some(0) | None => "and is not to be restarted".to_owned(),
                    Some(max) => format!("after {} in a row", count(max, "restart")),
                };
                format!(
                    "{name} {how}, {after}; what it has not taken stays in {directory} for the \
                     next run"
                )
            }
        }
    }
}

/// How a program has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HowEnded {
    Code(u8),
    #[cfg_attr(
        not(unix),
        expect(dead_code, reason = "programs die of signals on Unix only")
    )]
    Signal(u8),
}

impl HowEnded {
    pub(super) fn of(status: ExitStatus) -> Self {
        #[cfg(unix)]
        if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
            return Self::Signal(u8::try_from(signal).unwrap_or(u8::MAX));
        }
        Self::Code(
            status
                .code()
                .map_or(1, |code| u8::try_from(code).unwrap_or(1)),
        )
    }

    /// The status, if the program ended by itself.
    pub(super) fn code(self) -> Option<u8> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(_) => None,
        }
    }

    /// The signal, if one killed the program.
    pub(super) fn signal(self) -> Option<u8> {
        match self {
            Self::Code(_) => None,
            Self::Signal(signal) => Some(signal),
        }
    }

    /// The exit status for it, as in a shell.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }
}

impl fmt::Display for HowEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with status {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// What the end of a program means.
pub(super) enum Verdict {
    End(End),
    /// The program has taken the one record that it was given.
    Passed,
    Failed(Failed),
}

/// How a program failed.
pub(super) struct Failed {
    pub(super) how: HowEnded,
    /// The records that it had read and not taken.
    pub(super) suspected: Option<Suspected>,
}

impl Pump<'_> {
    /// Acknowledges what a program had taken, and returns what its end means.
    pub(super) fn judge(&mut self, child: &mut Child, how: HowEnded) -> Result<Verdict> {
        let read = self.read_by(child)?;
        let is_given_all = self.run.is_drained && self.run.outgoing.is_empty();
        let has_read_all = is_given_all && read == child.written();
        self.settle_rest(child, how, has_read_all)?;
        let suspected = self.run.flight.suspected(read);
        let has_taken_all = is_given_all && self.run.flight.is_empty();
        let failed = Verdict::Failed(Failed { how, suspected });
        let leaves_unacknowledged =
            self.acks.is_some() && (suspected.is_some() || self.run.cannot_ack);
        if let Some(id) = self.run.alone_id {
            let has_passed = self.run.flight.is_empty();
            if has_passed {
                self.suspects.passed(id);
            }
            return Ok(match how {
                HowEnded::Code(0) if has_passed => Verdict::Passed,
                HowEnded::Code(0) if self.run.cannot_ack => {
                    Verdict::End(End::Unacknowledged(suspected))
                }
                HowEnded::Code(0) if self.acks.is_none() => Verdict::End(End::Enough),
                _ => failed,
            });
        }
        Ok(match how {
            HowEnded::Code(code) if has_taken_all => Verdict::End(End::Drained(code)),
            HowEnded::Signal(_) if has_taken_all && self.is_strict() => {
                Verdict::End(End::Drained(how.status()))
            }
            HowEnded::Code(0) if leaves_unacknowledged => {
                Verdict::End(End::Unacknowledged(suspected))
            }
            HowEnded::Code(0) if !has_read_all => Verdict::End(End::Enough),
            _ => failed,
        })
    }

    /// Whether only success, or an acknowledgement, takes the last records.
    pub(super) fn is_strict(&self) -> bool {
        self.acks.is_some() || self.plan.is_strict
    }

    /// Acknowledges what a program had taken when it ended.
    pub(super) fn settle_rest(
        &mut self,
        child: &mut Child,
        how: HowEnded,
        has_read_all: bool,
    ) -> Result<()> {
        if child.acks().is_some() {
            while self.settle_acks(child, AckLines::read_rest)? {}
            return Ok(());
        }
        let read = self.read_by(child)?;
        let taken = match how {
            HowEnded::Code(0) => read,
            HowEnded::Code(_) if has_read_all && !self.is_strict() => read,
            _ if self.run.is_alone => 0,
            _ => read.saturating_sub(self.margin),
        };
        self.run.flight.settle_records(taken);
        Ok(())
    }

    /// Ends a program: finishes the record on its way, closes the program's input, and
    /// kills the program if it has not ended after `grace`.
    pub(super) fn shut_down(&mut self, child: &mut Child) -> Result<()> {
        let deadline = Instant::now() + self.plan.grace;
        let mut killed = false;
        let mut failure = None;
        self.display.clear();
        self.run.outgoing.keep_begun();
        let status = loop {
            if let Some(status) = child.status().map_err(|e| self.failed("wait for", &e))? {
                break status;
            }
            // The program may wait for room for its acknowledgements.
            if let Err(first) = self.settle_acks(child, AckLines::read) {
                failure.get_or_insert(first);
            }
            let all_written = child
                .feed(&mut self.run.outgoing)
                .map_err(|e| self.failed("write to", &e))?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !killed {
                killed = true;
                self.display.note(format!(
                    "{} has not ended within {} s; killing it",
                    self.name(),
                    self.plan.grace.as_secs_f64()
                ));
                child.kill();
                self.run.outgoing.clear();
            } else if all_written {
                child.close_input();
            }
            self.children
                .wait(None, child, !all_written, left.max(IDLE).min(BLOCKED))
                .map_err(|e| self.failed("wait for", &e))?;
        };
        let has_read_all = self.read_by(child)? == child.written();
        self.settle_rest(child, HowEnded::of(status), has_read_all)?;
        failure.map_or(Ok(()), Err)
    }
}
