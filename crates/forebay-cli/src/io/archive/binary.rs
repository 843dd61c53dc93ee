//! Exports in binary. All integers are little endian.
//!
//! | header, 40 bytes | | record, 32 bytes and its payload | | end, 32 bytes | |
//! | --- | --- | --- | --- | --- | --- |
//! | 0 | magic | 0 | u64 id | 0 | u64 zero |
//! | 8 | u32 version | 8 | u64 events | 8 | u64 records |
//! | 12 | u32 flags | 16 | u32 metadata | 16 | u64 events |
//! | 16 | u64 acknowledged id | 20 | u32 payload length | 24 | u32 CRC-32 of all checksums |
//! | 24 | u64 next record id | 24 | u32 checksum | 28 | u32 CRC-32 of these 28 bytes |
//! | 32 | u32 zero | 28 | u32 CRC-32 of these 28 bytes | | |
//! | 36 | u32 CRC-32 of these 36 bytes | 32 | payload | | |
//!
//! Invariant: a length is believed, and memory taken for it, only after its CRC-32 holds.

use super::{Entry, Feed, Header, Next, Totals, VERSION, broken, no_export};
use crate::failure::{Failure, Result};
use forebay::format::record::MAX_PAYLOAD_LEN;

/// No text begins with it, and a copy that changes line ends damages it.
pub(super) const MAGIC: [u8; 8] = *b"\x89FRBY\r\n\x1a";

const HEADER_LEN: usize = 40;
const HEAD_LEN: usize = 32;
const ALL: u32 = 1;
const SALVAGE: u32 = 2;

pub(super) fn write_header(header: &Header, to: &mut Vec<u8>) {
    let flags = (ALL * u32::from(header.all)) | (SALVAGE * u32::from(header.salvage));
    let begin = to.len();
    to.extend(MAGIC);
    to.extend(VERSION.to_le_bytes());
    to.extend(flags.to_le_bytes());
    to.extend(header.acknowledged_id.to_le_bytes());
    to.extend(header.next_record_id.to_le_bytes());
    to.extend([0; 4]);
    close(begin, to);
}

pub(super) fn write_record(entry: &Entry<'_>, sums: &mut crc32fast::Hasher, to: &mut Vec<u8>) {
    // The payload comes from a data file, whose lengths have 32 bits.
    let len = entry.payload.len() as u32;
    let checksum = entry.checksum().to_le_bytes();
    sums.update(&checksum);
    let begin = to.len();
    to.extend(entry.id.to_le_bytes());
    to.extend(entry.events.to_le_bytes());
    to.extend(entry.metadata.to_le_bytes());
    to.extend(len.to_le_bytes());
    to.extend(checksum);
    close(begin, to);
    to.extend(entry.payload);
}

pub(super) fn write_end(totals: Totals, sums: u32, to: &mut Vec<u8>) {
    let begin = to.len();
    to.extend(0_u64.to_le_bytes());
    to.extend(totals.records.to_le_bytes());
    to.extend(totals.events.to_le_bytes());
    to.extend(sums.to_le_bytes());
    close(begin, to);
}

/// Appends the CRC-32 of what was written from `begin` on.
fn close(begin: usize, to: &mut Vec<u8>) {
    let sum = crc32fast::hash(&to[begin..]);
    to.extend(sum.to_le_bytes());
}

/// Whether the last four bytes are the CRC-32 of those before.
fn is_closed(bytes: &[u8]) -> bool {
    let (bytes, sum) = bytes.split_at(bytes.len() - 4);
    crc32fast::hash(bytes).to_le_bytes() == sum
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

pub(super) fn read_header(feed: &mut Feed) -> Result<Next<Header>> {
    match feed.fill(HEADER_LEN)? {
        Next::Item(()) => {}
        Next::End => return Ok(Next::End),
        Next::Stopped => return Ok(Next::Stopped),
    }
    let bytes = &feed.bytes()[..HEADER_LEN];
    if !bytes.starts_with(&MAGIC) {
        return Err(no_export("it begins with other bytes"));
    }
    let version = u32_at(bytes, 8);
    if version != VERSION {
        return Err(of_another_version(version.into()));
    }
    if !is_closed(bytes) {
        return Err(no_export("its first 40 bytes are damaged"));
    }
    let flags = u32_at(bytes, 12);
    let header = Header {
        all: flags & ALL != 0,
        salvage: flags & SALVAGE != 0,
        decoded: false,
        acknowledged_id: u64_at(bytes, 16),
        next_record_id: u64_at(bytes, 24),
    };
    feed.take(HEADER_LEN);
    Ok(Next::Item(header))
}

pub(super) fn of_another_version(version: u64) -> Failure {
    Failure::new(format!(
        "the export has version {version}, and this program reads version {VERSION}; nothing was \
         imported: import it with the program that made it, or a newer one"
    ))
}

pub(super) fn read_record<'f>(
    feed: &'f mut Feed,
    totals: &mut Totals,
    sums: &mut crc32fast::Hasher,
) -> Result<Next<Entry<'f>>> {
    let at = feed.taken();
    let cut = |totals| broken("is cut off", at, totals);
    match feed.fill(HEAD_LEN)? {
        Next::Item(()) => {}
        Next::End => return Err(cut(*totals)),
        Next::Stopped => return Ok(Next::Stopped),
    }
    let head = &feed.bytes()[..HEAD_LEN];
    if !is_closed(head) {
        return Err(broken("is damaged", at, *totals));
    }
    let (id, events) = (u64_at(head, 0), u64_at(head, 8));
    let (metadata, len, checksum) = (u32_at(head, 16), u32_at(head, 20), u32_at(head, 24));
    if id == 0 {
        let said = Totals {
            records: events,
            events: u64_at(head, 16),
        };
        if said != *totals || checksum != sums.clone().finalize() {
            return Err(broken(
                "does not hold as many records as it says",
                at,
                *totals,
            ));
        }
        feed.take(HEAD_LEN);
        return match feed.fill(1)? {
            Next::Item(()) => Err(broken("has ended, and more bytes follow", at, *totals)),
            Next::End => Ok(Next::End),
            Next::Stopped => Ok(Next::Stopped),
        };
    }
    let len = len as usize;
    if len > MAX_PAYLOAD_LEN {
        return Err(broken("is damaged", at, *totals));
    }
    feed.take(HEAD_LEN);
    match feed.fill(len)? {
        Next::Item(()) => {}
        Next::End => return Err(cut(*totals)),
        Next::Stopped => return Ok(Next::Stopped),
    }
    feed.take(len);
    let entry = Entry {
        id,
        events,
        metadata,
        payload: feed.last(len),
    };
    if entry.checksum() != checksum {
        return Err(broken("is damaged", at, *totals));
    }
    sums.update(&checksum.to_le_bytes());
    totals.add(&entry);
    Ok(Next::Item(entry))
}
