//! Drains a buffer into another one.

use super::Drain;
use super::report::{Drained, State};
use crate::buffer::losses::Losses;
use crate::buffer::metadata::{metadata_of_vector, refuse_for_vector};
use crate::buffer::opening::LOCK_INTERVAL;
use crate::buffer::opening::unread_bytes;
use crate::buffer::pace::Pace;
use crate::buffer::steps;
use crate::failure::{Failure, Result};
use crate::output::live::{Flow, Live};
use forebay::format::record::frame_len;
use forebay::{Error, ErrorKind, EventCounter, Lost, Transfer, TransferOptions};
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

/// Moves all records of a buffer to the one in `to`.
///
/// # Errors
///
/// One of the two cannot be opened.
pub(super) fn drain(
    drain: &Drain<'_>,
    directory: &Path,
    to: &Path,
    mut live: Live,
) -> Result<Drained> {
    let counter = steps::counter(drain.args.counting, directory)?;
    let begun = Instant::now();
    let mut synced = Transfer::default();
    let losses = RefCell::new(Losses::before_opening(directory));
    let told = RefCell::new(Vec::new());
    let tell = |lost: &Lost| {
        let say = |text: &dyn Display| told.borrow_mut().push(text.to_string());
        losses.borrow_mut().note(std::slice::from_ref(lost), &say);
    };
    let result = loop {
        let result = move_all(drain, directory, to, &counter, tell, &mut live, &mut synced);
        let is_locked = |error: &Error| error.kind() == ErrorKind::Locked;
        let may_wait = begun.elapsed() < drain.args.wait.0;
        if !(result.as_ref().is_err_and(is_locked) && may_wait) {
            break result;
        }
        if drain.stop.is_set() {
            return Ok(Drained::new(directory, State::Stopped));
        }
        drain.stop.wait(LOCK_INTERVAL);
    };
    let mut drained = Drained::new(directory, State::Empty);
    let transfer = match result {
        Ok(transfer) => {
            match transfer.is_complete {
                true => live.leave_waiting(0),
                false => drained.state = State::Stopped,
            }
            transfer
        }
        Err(error) => {
            drained.state = State::Failed(failure(error));
            synced
        }
    };
    drained.records = transfer.records;
    drained.events = transfer.events;
    drained.events_lost = transfer.events_lost;
    drained.has_losses = transfer.events_lost > 0;
    told.into_inner().iter().for_each(|text| live.note(text));
    losses.into_inner().report(&|text| live.note(text));
    Ok(drained)
}

/// `synced` becomes what is known to be synced even if the transfer fails.
fn move_all(
    drain: &Drain<'_>,
    directory: &Path,
    to: &Path,
    counter: &EventCounter,
    tell_lost: impl FnMut(&Lost),
    live: &mut Live,
    synced: &mut Transfer,
) -> forebay::Result<Transfer> {
    let (pace, mut paced) = (Pace::new(drain.args.rate), 0);
    let waiting = unread_bytes(directory);
    let of_vector = metadata_of_vector(to);
    let mut last = Transfer::default();
    TransferOptions::new()
        .event_counter(counter.clone())
        .event_counter_of_target(drain.args.counting.counter_to_write())
        .on_lost(tell_lost)
        .on_corruption(drain.args.on_corruption.into())
        .change(|_, metadata, payload| {
            refuse_for_vector(of_vector, metadata, to)?;
            Ok((metadata, payload.clone()))
        })
        .on_progress(|transfer| {
            if transfer.synced == last.records {
                *synced = last;
            }
            last = *transfer;
            let done = transfer.bytes + transfer.records * frame_len(0) as u64;
            live.show(|| Flow {
                waiting: Some((0, waiting.saturating_sub(done))),
                ..Flow::default()
            });
            pace.take_and_wait(transfer.bytes - paced, &drain.stop);
            paced = transfer.bytes;
            match drain.stop.is_set() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
        .move_records(directory, to)
}

fn failure(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Locked => Failure::from(error).but("--wait 1m waits for it"),
        _ => Failure::from(error),
    }
}
