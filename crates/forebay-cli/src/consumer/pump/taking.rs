//! Acknowledges what a running program takes, by reading on or by acknowledging itself.

use super::Pump;
use crate::consumer::acks::{AckLines, Acks};
use crate::consumer::child::Child;
use crate::failure::{Failure, Result};
use crate::output::count;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the pump waits for acknowledgements before it says so.
const ACKS_MISSED: Duration = Duration::from_secs(10);
/// How long a program that has closed its acknowledgements may take to end before it gets
/// no more records.
const CLOSED_PATIENCE: Duration = Duration::from_secs(1);

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

    /// Reads one block of the program's lines at most, and acknowledges a record for each
    /// line; returns whether there was a block.
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
        // The program read a record before it wrote the line for it.
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

    /// Gives no more records to a program that has closed its acknowledgements and does
    /// not end.
    pub(super) fn look_for_end_of_acks(&mut self, child: &mut Child) {
        if self.run.cannot_ack || child.acks().is_none_or(|acks| acks.is_open()) {
            return;
        }
        let since = *self.run.closed_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= CLOSED_PATIENCE {
            self.run.cannot_ack = true;
            self.display.note(format!(
                "{} has closed {} and can acknowledge nothing more; it gets no more records",
                self.name(),
                self.stream()
            ));
        }
    }

    /// Where the program's acknowledgements come from, for messages.
    pub(super) fn stream(&self) -> String {
        let stream = self.acks.as_ref().map(Acks::stream);
        stream.map_or_else(String::new, |stream| stream.to_string())
    }

    /// Handles a stall: the buffer is full, or the program has too many records, and nothing
    /// more is fetched for it. Makes room, or reports that acknowledgements are missing.
    pub(super) fn handle_stall(&mut self, child: &Child, has_too_many: bool) -> Result<()> {
        let is_full = self.buffer_full.load(Ordering::Relaxed);
        let is_stuck = self.run.outgoing.is_empty() && (is_full || has_too_many);
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

    /// Halves the margin if the program has read everything, and acknowledges what is no
    /// longer in it. The buffer is full and all its records are with the program: the
    /// program would wait for records, and the input for room, for ever.
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
