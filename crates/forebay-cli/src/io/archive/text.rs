//! Exports as lines of JSON: a header, an object for each record, and an end.
//!
//! Invariant: payloads are exact. One that is not UTF-8 is written in Base64.

use super::binary::of_another_version;
use super::{Entry, Feed, Header, Next, Totals, VERSION, broken, no_export};
use crate::failure::{Failure, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay::format::record::MAX_PAYLOAD_LEN;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What the first line calls the format.
const NAME: &str = "forebay-export";
/// The longest line: each byte of the longest payload as an escape of six. Where that does not fit
/// the address space, there is no limit but memory.
const LINE_LEN_MAX: usize = MAX_PAYLOAD_LEN.saturating_mul(6).saturating_add(1 << 10);

/// The first line. Keys may be added, not renamed.
#[derive(Debug, Serialize, Deserialize)]
struct First<'a> {
    #[serde(borrow)]
    format: Cow<'a, str>,
    version: u64,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    salvage: bool,
    decoded: bool,
    acknowledged_id: u64,
    next_record_id: u64,
    /// Of the values above. Absent in a line that was edited.
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<u32>,
}

impl First<'_> {
    fn sum(&self) -> u32 {
        let values = format!(
            "{} {} {} {} {}",
            self.scope, self.salvage, self.decoded, self.acknowledged_id, self.next_record_id
        );
        crc32fast::hash(values.as_bytes())
    }
}

/// A record. Keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Record<'a> {
    id: u64,
    events: u64,
    metadata: u32,
    checksum: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded: Option<Vec<serde_json::Value>>,
}

/// The last line. Keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Last {
    end: bool,
    records: u64,
    events: u64,
}

/// A line after the first, as it is read: a record, or the last line.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    end: Option<bool>,
    records: Option<u64>,
    id: Option<u64>,
    events: Option<u64>,
    metadata: Option<u32>,
    /// Absent in a line that was edited.
    checksum: Option<u32>,
    #[serde(borrow)]
    payload: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload_base64: Option<Cow<'a, str>>,
}

fn write_line(value: &impl Serialize, to: &mut Vec<u8>) {
    to.extend_from_slice(crate::output::json(value).as_bytes());
    to.push(b'\n');
}

pub(super) fn write_header(header: &Header, to: &mut Vec<u8>) {
    let mut first = First {
        format: NAME.into(),
        version: VERSION.into(),
        scope: if header.all { "all" } else { "live" }.into(),
        salvage: header.salvage,
        decoded: header.decoded,
        acknowledged_id: header.acknowledged_id,
        next_record_id: header.next_record_id,
        checksum: None,
    };
    first.checksum = Some(first.sum());
    write_line(&first, to);
}

pub(super) fn write_record(
    entry: &Entry<'_>,
    decoded: Option<Vec<serde_json::Value>>,
    to: &mut Vec<u8>,
) {
    let text = std::str::from_utf8(entry.payload).ok();
    let is_shown = decoded.is_none();
    let record = Record {
        id: entry.id,
        events: entry.events,
        metadata: entry.metadata,
        checksum: entry.checksum(),
        payload: text.filter(|_| is_shown),
        payload_base64: (is_shown && text.is_none()).then(|| STANDARD.encode(entry.payload)),
        decoded,
    };
    write_line(&record, to);
}

pub(super) fn write_end(totals: Totals, to: &mut Vec<u8>) {
    let last = Last {
        end: true,
        records: totals.records,
        events: totals.events,
    };
    write_line(&last, to);
}

pub(super) fn read_header(feed: &mut Feed) -> Result<Next<Header>> {
    // A file of something else need not have lines.
    let len = match feed.line(1 << 16)? {
        Next::Item(len) => len,
        Next::End => return Err(no_export("it has no first line")),
        Next::Stopped => return Ok(Next::Stopped),
    };
    let first: First<'_> = serde_json::from_slice(&feed.bytes()[..len])
        .map_err(|error| no_export(&format!("its first line: {error}")))?;
    if first.format != NAME {
        return Err(no_export("its first line names another format"));
    }
    if first.version != u64::from(VERSION) {
        return Err(of_another_version(first.version));
    }
    if first.checksum.is_some_and(|sum| sum != first.sum()) {
        let what = "the checksum of its first line does not match; leave it out if that was edited";
        return Err(no_export(what));
    }
    let header = Header {
        all: first.scope == "all",
        salvage: first.salvage,
        decoded: first.decoded,
        acknowledged_id: first.acknowledged_id,
        next_record_id: first.next_record_id,
    };
    feed.take(len + 1);
    Ok(Next::Item(header))
}

pub(super) fn read_record<'p>(
    feed: &mut Feed,
    totals: &mut Totals,
    unchecked: &mut u64,
    payload: &'p mut Vec<u8>,
) -> Result<Next<Entry<'p>>> {
    let at = feed.taken();
    let len = match feed.line(LINE_LEN_MAX)? {
        Next::Item(len) => len,
        Next::End => return Err(broken("is cut off", at, *totals)),
        Next::Stopped => return Ok(Next::Stopped),
    };
    feed.take(len + 1);
    let line = &feed.last(len + 1)[..len];
    let wrong = |what: String| {
        Failure::new(format!(
            "line {} of the export: {what}; nothing was imported",
            totals.records + 2
        ))
    };
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
    if line.end == Some(true) {
        let said = (line.records, line.events);
        if said != (Some(totals.records), Some(totals.events)) {
            return Err(broken(
                "does not hold as many records as it says",
                at,
                *totals,
            ));
        }
        return match feed.fill(1)? {
            Next::Item(()) => Err(broken("has ended, and more bytes follow", at, *totals)),
            Next::End => Ok(Next::End),
            Next::Stopped => Ok(Next::Stopped),
        };
    }
    let (Some(id), Some(events), Some(metadata)) = (line.id, line.events, line.metadata) else {
        return Err(wrong("not all of id, events and metadata".to_owned()));
    };
    payload.clear();
    match (line.payload, line.payload_base64) {
        (Some(text), None) => payload.extend_from_slice(text.as_bytes()),
        (None, Some(text)) => STANDARD
            .decode_vec(text.as_bytes(), payload)
            .map_err(|error| wrong(format!("payload_base64: {error}")))?,
        _ => return Err(wrong("not one of payload and payload_base64".to_owned())),
    }
    let entry = Entry {
        id,
        events,
        metadata,
        payload,
    };
    match line.checksum {
        Some(sum) if sum != entry.checksum() => {
            let what = "its checksum does not match; leave it out of a line that was edited";
            return Err(wrong(what.to_owned()));
        }
        Some(_) => {}
        None => *unchecked += 1,
    }
    totals.add(&entry);
    Ok(Next::Item(entry))
}
