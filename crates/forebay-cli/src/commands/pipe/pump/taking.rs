//! What a program that runs takes: by reading on, or by acknowledging.

use super::Pump;
use crate::commands::pipe::acks::{AckLines, Acks};
use crate::commands::pipe::child::Child;
use crate::failure::{Failure, Result};
use crate::output::count;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long acknowledgements are waited for before that is told.
const ACKS_MISSED: Duration = Duration::from_secs(10);
/// How long a program that can acknowledge no more may take to end.
const DEAF: Duration = Duration::from_secs(1);

impl Pump<'_> {
    /// Acknowledges what the program has taken so far.
    pub(super) fn settle(&mut self, child: &mut Child) -> Result<()> {
        if child.acks().is_some() {
            self.settle_acks(child, AckLines::read)?;
            self.look_for_end_of_acks(child);
        } else if !self.run.is_alone {
            let read = self.read_by(child)?;
            self.run.flight.settle(read.saturating_sub(self.margin));
        }
        Ok(())
    }

    /// Reads lines of the program, a block at most, and acknowledges the records that
    /// they stand for; whether there were any.
    pub(super) fn settle_acks(
        &mut self,
        child: &mut Child,
        read: fn(&mut AckLines) -> io::Result<Option<u64>>,
    ) -> Result<bool> {
        let lines = child.acks().map(read).transpose();
        let Some(lines) = lines
            .map_err(|e| self.failed("read the acknowledgements of", &e))?
            .flatten()
        else {
            return Ok(false);
        };
        if self.run.is_distrusted {
            return Ok(true);
        }
        // What a line stands for was read before it was written.
        let read = self.read_by(child)?;
        for _ in 0..lines {
            self.run.waiting_since = None;
            if !self.run.flight.acknowledge_next(read) {
                self.run.is_distrusted = true;
                let taken = self.run.flight.taken();
                return Err(Failure::new(format!(
                    "{} acknowledged a record that it had not read: line {} on {} came when it \
                     had read {}; have it write one line after each record",
                    self.name(),
                    taken + 1,
                    self.stream(),
                    count(taken, "record")
                )));
            }
        }
        Ok(true)
    }

    /// A program that can acknowledge no more, and does not end, gets no more.
    pub(super) fn look_for_end_of_acks(&mut self, child: &mut Child) {
        if self.run.is_deaf || child.acks().is_none_or(|acks| acks.is_open()) {
            return;
        }
        let since = *self.run.closed_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= DEAF {
            self.run.is_deaf = true;
            self.display.note(format!(
                "{} has closed {} and can acknowledge nothing more; it gets no more records",
                self.name(),
                self.stream()
            ));
        }
    }

    /// Where the program's acknowledgements come from, for people.
    pub(super) fn stream(&self) -> String {
        let stream = self.acks.as_ref().map(Acks::stream);
        stream.map_or_else(String::new, |stream| stream.to_string())
    }

    /// Looks whether nothing would ever happen: the buffer is full, or the program has
    /// too many records, and nothing more can be fetched for it.
    pub(super) fn hurry(&mut self, child: &Child, has_too_many: bool) -> Result<()> {
        let is_starved = self.starved.load(Ordering::Relaxed);
        let is_stuck = self.run.outgoing.is_empty() && (is_starved || has_too_many);
        if !is_stuck || self.run.flight.is_empty() {
            self.run.waiting_since = None;
            return Ok(());
        }
        if self.acks.is_none() {
            return self.make_room(child);
        }
        let since = *self.run.waiting_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= ACKS_MISSED && !self.run.has_told_waiting {
            self.run.has_told_waiting = true;
            let why = match has_too_many {
                true => "gets no more before it acknowledges some",
                false => {
                    "has all that the full buffer holds, which has no room before it \
                          acknowledges some"
                }
            };
            let has = count(self.run.flight.len() as u64, "record");
            self.display.note(format!(
                "{} has {has} that it has not acknowledged, and {why}",
                self.name()
            ));
        }
        Ok(())
    }

    /// The buffer is full, and everything in it is with the program: when the
    /// program has read it all, nothing would ever happen unless less is kept
    /// for the case that it dies.
    pub(super) fn make_room(&mut self, child: &Child) -> Result<()> {
        let read = self.read_by(child)?;
        if read == child.written() && self.margin > 0 && !self.run.is_alone {
            self.margin /= 2;
            let taken = read.saturating_sub(self.margin);
            self.run.flight.settle_records(taken);
        }
        Ok(())
    }
}
