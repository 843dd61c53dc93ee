//! What happens between a failure of the program and its next start: the failure is
//! reported, and a record that has used up its attempts is set aside.

use super::ending::{Failed, HowEnded};
use super::{IDLE, Pump};
use crate::buffer::letters;
use crate::buffer::patience::patiently;
use crate::consumer::suspects::Next;
use crate::failure::{Failure, Result};
use crate::output::count;
use forebay::{Delivery, Item, TryRecv};
use std::num::NonZeroU64;
use std::time::Duration;

impl Pump<'_> {
    /// Says that the program is started again, and which record it may have failed on.
    pub(super) fn tell(&mut self, failed: &Failed, next: Option<Next>, delay: Duration) {
        let again = format!(
            "{} {}; starting it again in {} s with ",
            self.name(),
            failed.how,
            delay.as_secs_f64()
        );
        let Some((suspected, next)) = failed.suspected.zip(next) else {
            let with = match self.suspects.is_alone_next() {
                true => "the first record that it has not taken",
                false => "what it has not taken",
            };
            return self.display.note(format!("{again}{with}"));
        };
        let first = suspected.first;
        self.display.note(match next {
            Next::Again => {
                let mut hint = "";
                if !std::mem::replace(&mut self.has_hinted, true) {
                    hint = " (--max-attempts with --dead-letters sets such a record aside)";
                }
                format!(
                    "{again}what it has not taken; it took nothing, and may have failed on \
                     {suspected}{hint}"
                )
            }
            Next::Alone => match self.suspects.attempts() {
                0 => format!("{again}record {first} alone; it may have failed on {suspected}"),
                attempts => format!(
                    "{again}record {first} alone, on which it has failed {attempts} of {} times",
                    self.plan.max_attempts.map_or(0, NonZeroU64::get)
                ),
            },
            Next::SetAside { .. } => format!("{again}what follows record {first}"),
        });
    }

    /// Puts the first record, on which the program has used up its attempts, into the
    /// dead letters. False when the stop was set before that was possible.
    pub(super) fn set_aside(&mut self, id: u64, attempts: u64, how: HowEnded) -> Result<bool> {
        let Some(delivery) = self.first_record(id)? else {
            // The record was damaged after the program read it, and is reported as lost.
            self.rewind();
            return Ok(true);
        };
        let name = self.name();
        let Some(dead_letters) = &mut self.dead_letters else {
            return Err(Failure::new(format!(
                "{name} fails on record {id}; set it aside with --dead-letters"
            )));
        };
        let failed = letters::Failed {
            attempts,
            exit_status: how.code(),
            signal: how.signal(),
        };
        if !dead_letters.store(&delivery, failed)? {
            return Ok(false);
        }
        delivery.ack();
        let directory = dead_letters.directory().display();
        self.display.note(format!(
            "record {id} is set aside in {directory} after {}: {name} {how}",
            count(attempts, "attempt")
        ));
        Ok(true)
    }

    /// The first record that is not acknowledged, if it has this id.
    pub(super) fn first_record(&mut self, id: u64) -> Result<Option<Delivery>> {
        loop {
            match patiently(|| self.reader.recv_timeout(IDLE))? {
                TryRecv::Ready(Item::Record(delivery)) => {
                    return Ok((delivery.id() == id).then_some(delivery));
                }
                TryRecv::Ready(Item::Lost(lost)) => {
                    self.losses.note(&[lost], &|text| self.display.note(text));
                }
                TryRecv::Empty | TryRecv::End => return Ok(None),
            }
        }
    }

    /// Whether nothing is left for another start. Otherwise fetches records for it.
    pub(super) fn has_come_to_the_end(&mut self) -> Result<bool> {
        if self.suspects.is_alone_next() {
            return Ok(false);
        }
        self.fetch()?;
        Ok(self.run.is_drained && self.run.outgoing.is_empty())
    }
}
