//! Drains a buffer into a program.

use super::report::{Drained, State};
use super::{Args, Drain};
use crate::buffer::opening;
use crate::buffer::pace::Pace;
use crate::buffer::steps;
use crate::consumer::acks::Acks;
use crate::consumer::child::Output;
use crate::consumer::dead_letters::DeadLetters;
use crate::consumer::pump::{End, Plan, Pump};
use crate::failure::{Failure, Result};
use crate::io::framing::Framing;
use crate::output::live::Live;
use forebay::Config;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// What is the same for all buffers.
pub(super) struct Program<'a> {
    args: &'a Args,
    framing: Framing,
    pace: Pace,
    acks: Option<Acks>,
    dead_letters: Option<DeadLetters>,
}

impl<'a> Program<'a> {
    pub(super) fn new(
        args: &'a Args,
        acks: Option<Acks>,
        dead_letters: Option<DeadLetters>,
    ) -> Result<Self> {
        Ok(Self {
            args,
            framing: args.framing.framing()?,
            pace: Pace::new(args.rate),
            acks,
            dead_letters,
        })
    }

    /// Drains a buffer.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub(super) fn drain(&self, drain: &Drain<'_>, directory: &Path, live: Live) -> Result<Drained> {
        let args = self.args;
        let config = Config::new(directory)
            .event_counter(steps::counter(args.counting, directory)?)
            .on_corruption(args.on_corruption.into());
        let (waiting, stop) = (args.wait.into(), &drain.stop);
        let opened = opening::open_watched(&config, waiting, args.verbose, stop, &live)?;
        let Some((writer, reader)) = opened else {
            return Ok(Drained::new(directory, State::Stopped));
        };
        // Without a writer the reader reports the end when the buffer is empty.
        drop(writer);
        // Nothing comes in, so nothing waits for room.
        let buffer_full = AtomicBool::new(false);
        let mut pump = Pump::new(
            self.plan(directory),
            reader,
            self.acks.clone(),
            self.dead_letters.clone(),
            live,
            stop.clone(),
            &buffer_full,
        )?;
        if args.counting.is_by_ids() {
            pump.steps_are_losses();
        }
        let end = self.pump(&mut pump, drain);
        let (name, records, set_aside) = (pump.name(), pump.taken_count(), pump.set_aside_count());
        let label = drain.label(directory);
        let note = |text: &str| drain.total.note(&format!("{label}{text}"));
        let closed = pump.close();
        let mut drained = Drained::new(directory, State::Left);
        drained.records = records;
        drained.set_aside = set_aside;
        let closed = match closed {
            Ok(closed) => closed,
            // The failure of the pumping came first.
            Err(failure) => {
                drained.state = State::Failed(end.err().unwrap_or(failure));
                return Ok(drained);
            }
        };
        drained.events = closed.usage.acknowledged.events;
        drained.events_lost = closed.usage.lost.events;
        drained.has_losses = closed.has_losses;
        let is_empty = closed.usage.unread.events == 0;
        drained.state = match end {
            Err(failure) => State::Failed(failure),
            Ok(End::Stopped) => State::Stopped,
            Ok(End::Drained(0)) if is_empty => State::Empty,
            Ok(End::Drained(status)) => State::Failed(Failure::new(format!(
                "{name} ended with status {status}, but after it had taken everything; {} is empty",
                directory.display()
            ))),
            Ok(end) => match (
                end.message(&name, directory, args.program.max_restarts),
                end,
            ) {
                (message, End::Failed(_)) => State::Failed(Failure::new(message)),
                (message, _) => {
                    note(&message);
                    State::Left
                }
            },
        };
        Ok(drained)
    }

    fn pump(&self, pump: &mut Pump<'_>, drain: &Drain<'_>) -> Result<End> {
        if pump.has_nothing()? {
            return Ok(End::Drained(0));
        }
        if drain.stop.is_set() {
            return Ok(End::Stopped);
        }
        let child = pump.start()?;
        pump.run(child, self.args.program.backoff())
    }

    fn plan<'p>(&'p self, directory: &'p Path) -> Plan<'p> {
        let program = &self.args.program;
        Plan {
            directory,
            command: &self.args.command,
            framing: self.framing,
            margin: program.redeliver,
            grace: program.grace.0,
            output: match self.args.json {
                true => Output::Stderr,
                false => Output::Stdout,
            },
            is_strict: true,
            pace: &self.pace,
            max_attempts: program.max_attempts,
        }
    }
}
