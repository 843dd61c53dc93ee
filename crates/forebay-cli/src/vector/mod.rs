//! Counts and shows the events in payloads that Vector wrote.
//!
//! A record with metadata 1 holds a protobuf event array: logs, metrics or
//! traces. Invariants: an array is accepted exactly when it is of one kind and
//! every event in it decodes; events are decoded one at a time, so counting needs
//! memory for the largest event only.

mod json;
mod message;

pub(crate) use json::Shown;

use message::{Log, Metric, Trace};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The metadata of a record whose payload is an event array.
pub(crate) const METADATA: u32 = 1;

/// What an array holds. The numbers are the fields of `EventArray`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Logs = 1,
    Metrics = 2,
    Traces = 3,
}

/// One event of an array.
#[derive(Debug)]
enum Event {
    Log(Log),
    Metric(Metric),
    Trace(Trace),
}

/// The events of a record as Vector counts them, or `None` when the record is
/// not an event array with at least one event.
pub(crate) fn count_events(metadata: u32, payload: &[u8]) -> Option<u64> {
    if metadata != METADATA {
        return None;
    }
    let mut count = 0_u64;
    each_event(payload, |_event| count += 1)?;
    (count > 0).then_some(count)
}

/// The events of a record as JSON, one object each, or `None` when the record
/// is not an event array with at least one event.
pub(crate) fn decode_events(
    metadata: u32,
    payload: &[u8],
    shown: &Shown,
) -> Option<Vec<serde_json::Value>> {
    if metadata != METADATA {
        return None;
    }
    let mut events = Vec::new();
    each_event(payload, |event| events.push(shown.event(event)))?;
    (!events.is_empty()).then_some(events)
}

/// Calls `visit` with every event, in order; `None` when something does not
/// decode (events before it may have been visited).
fn each_event(payload: &[u8], mut visit: impl FnMut(Event)) -> Option<()> {
    let mut kind = None;
    each_field(payload, 3, |tag, array| {
        let Some(found) = Kind::of_field(tag) else {
            return Some(());
        };
        if *kind.get_or_insert(found) != found {
            return None;
        }
        each_field(array, 1, |tag, event| {
            if tag == 1 {
                visit(found.decode(event)?);
            }
            Some(())
        })
    })
}

impl Kind {
    fn of_field(tag: u32) -> Option<Self> {
        [Self::Logs, Self::Metrics, Self::Traces]
            .into_iter()
            .find(|kind| *kind as u32 == tag)
    }

    fn decode(self, event: &[u8]) -> Option<Event> {
        match self {
            Self::Logs => Log::decode(event).map(Event::Log),
            Self::Metrics => Metric::decode(event).map(Event::Metric),
            Self::Traces => Trace::decode(event).map(Event::Trace),
        }
        .ok()
    }
}

/// Calls `visit` with every length-delimited field of a message. `None` when
/// the bytes are no message, when `visit` returns `None`, or when one of the fields
/// `1..=declared`, all of them length-delimited, has another type.
fn each_field<'a>(
    mut message: &'a [u8],
    declared: u32,
    mut visit: impl FnMut(u32, &'a [u8]) -> Option<()>,
) -> Option<()> {
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message).ok()?;
        if wire_type == WireType::LengthDelimited {
            let len = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            let (field, rest) = message.split_at_checked(len)?;
            message = rest;
            visit(tag, field)?;
        } else if tag <= declared {
            return None;
        } else {
            skip_field(wire_type, tag, &mut message, DecodeContext::default()).ok()?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
