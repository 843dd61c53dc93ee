//! Counts and shows the events in payloads that Vector wrote.
//!
//! A record with metadata 1 holds a protobuf event array: logs, metrics or
//! traces; early versions of Vector stored one event without an array. Invariants: an
//! array is accepted exactly when it is of one kind, holds an event, and every event in it
//! decodes; other payloads are accepted if they are one event that is not empty; events are
//! decoded one at a time, so counting needs memory for the largest event only.

mod json;
mod message;
mod unknown;

pub(crate) use json::Shown;

use message::{Log, Metric, Trace};
use unknown::{Schema, unknown_fields};

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

/// The events of a record as Vector counts them, or `None` when the record holds no event
/// of Vector's.
pub(crate) fn count_events(metadata: u32, payload: &[u8]) -> Option<u64> {
    if metadata != METADATA {
        return None;
    }
    let mut count = 0_u64;
    match each_event(payload, |_kind, _bytes, _event| count += 1) {
        Some(()) if count > 0 => Some(count),
        _ => single_event(payload).map(|_event| 1),
    }
}

/// The events of a record as JSON, one object each, or `None` when the record holds no event
/// of Vector's.
pub(crate) fn decode_events(
    metadata: u32,
    payload: &[u8],
    shown: &Shown,
) -> Option<Vec<serde_json::Value>> {
    if metadata != METADATA {
        return None;
    }
    let mut events = Vec::new();
    let mut show = |kind: Kind, bytes: &[u8], event| {
        let unknown = unknown_fields(kind.schema(), bytes, shown.metadata);
        events.push(shown.event(event, unknown));
    };
    if each_event(payload, &mut show).is_none() || events.is_empty() {
        events.clear();
        let (kind, bytes, event) = single_event(payload)?;
        let unknown = unknown_fields(kind.schema(), bytes, shown.metadata);
        events.push(shown.event(event, unknown));
    }
    let outer = unknown_fields(Schema::Outer, payload, false);
    if let (Some(first), false) = (events.first_mut(), outer.is_empty()) {
        json::add(first, "$unknown_in_record", outer.into());
    }
    Some(events)
}

/// The event of a payload that holds one event without an array; `None` if it does not. An
/// empty event is none, because an empty array looks the same.
fn single_event(payload: &[u8]) -> Option<(Kind, &[u8], Event)> {
    let mut found = None;
    each_field(payload, 3, |tag, bytes| {
        if let Some(kind) = Kind::of_field(tag) {
            let event = kind.decode(bytes)?;
            let is_first = found.replace((kind, bytes, event)).is_none();
            return is_first.then_some(());
        }
        Some(())
    })?;
    found.filter(|(_, _, event)| !event.is_empty())
}

/// Calls `visit` with every event, in order; `None` when something does not
/// decode (events before it may have been visited).
fn each_event<'a>(payload: &'a [u8], mut visit: impl FnMut(Kind, &'a [u8], Event)) -> Option<()> {
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
                visit(found, event, found.decode(event)?);
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

    fn schema(self) -> Schema {
        match self {
            Self::Logs => Schema::Log,
            Self::Metrics => Schema::Metric,
            Self::Traces => Schema::Trace,
        }
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

impl Event {
    /// Whether no field of it is set that this program knows.
    fn is_empty(&self) -> bool {
        match self {
            Self::Log(log) => *log == Log::default(),
            Self::Metric(metric) => *metric == Metric::default(),
            Self::Trace(trace) => *trace == Trace::default(),
        }
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
