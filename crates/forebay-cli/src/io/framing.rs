//! Divides a stream of bytes into records, and puts records into a stream.
//!
//! Invariants: what is written in a framing reads back as the same records, however the
//! stream is cut into reads; at most one record of the maximum length and one read are
//! held; a record over the maximum is refused before more of it than that is read.

use std::fmt;
use std::ops::Range;

/// How a stream is divided into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Every record ends with this byte, which no record can contain. At the
    /// end of the input it may be missing.
    Delimited(u8),
    /// Every record begins with its length: four bytes, big endian.
    Length,
}

/// Bytes of the length in front of a record, with [`Framing::Length`].
const PREFIX_LEN: usize = 4;

impl Framing {
    /// The bytes that a payload takes in a stream.
    pub(crate) fn framed_len(self, payload_len: usize) -> u64 {
        payload_len as u64
            + match self {
                Self::Delimited(_) => 1,
                Self::Length => PREFIX_LEN as u64,
            }
    }

    /// Appends a payload in this framing. With a delimiter, a payload that
    /// contains it comes out as several records.
    ///
    /// # Errors
    ///
    /// The payload's length does not fit into four bytes.
    pub(crate) fn write(self, payload: &[u8], to: &mut Vec<u8>) -> Result<(), TooLong> {
        match self {
            Self::Delimited(delimiter) => {
                to.extend_from_slice(payload);
                to.push(delimiter);
            }
            Self::Length => {
                let len = u32::try_from(payload.len()).map_err(|_| TooLong(payload.len()))?;
                to.extend_from_slice(&len.to_be_bytes());
                to.extend_from_slice(payload);
            }
        }
        Ok(())
    }
}

/// A payload whose length does not fit into four bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong(usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a record of {} bytes is too long for length framing, whose lengths have 32 bits; \
             use another framing",
            self.0
        )
    }
}

/// Input that is not a record: where it is, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadInput {
    /// The record's number, from 1.
    record: u64,
    /// Bytes of input before it.
    offset: u64,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// Longer than the maximum; the length is known if the framing gives it or the
    /// whole record is there.
    Oversize { len: Option<u64>, max: usize },
    /// The input ended inside a record.
    CutOff { have: usize, need: Option<u64> },
}

impl BadInput {
    /// One sentence for people; `options` are those that allow longer records.
    pub(crate) fn message(&self, options: &str) -> String {
        let Self { record, offset, .. } = self;
        let what = match &self.reason {
            Reason::Oversize { len, max } => {
                let has = match len {
                    Some(len) => format!("has {len} bytes"),
                    None => format!("is longer than {max} bytes"),
                };
                format!(
                    "{has}, and the longest record allowed has {max}; raise {options}, or \
                     split the record"
                )
            }
            Reason::CutOff { have, need } => {
                let of = match need {
                    Some(need) => format!("of its {need} bytes"),
                    None => format!("of the {PREFIX_LEN} bytes of its length"),
                };
                format!("is cut off: the input ends after {have} {of}; send it again in full")
            }
        };
        format!("record {record} of the input, at byte {offset}, {what}")
    }
}

/// Divides a stream of bytes into records, wherever the reads happen to end.
#[derive(Debug)]
pub(crate) struct Splitter {
    framing: Framing,
    /// The longest payload, in bytes.
    max_len: usize,
    /// `bytes[start..end]` is input that was not taken as records yet.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes from `start` on that are known to hold no delimiter.
    searched: usize,
    /// Records and bytes of input before `start`.
    records: u64,
    offset: u64,
}

impl Splitter {
    /// A splitter of records of at most `max_len` bytes.
    pub(crate) fn new(framing: Framing, max_len: usize) -> Self {
        Self {
            framing,
            max_len,
            bytes: Vec::new(),
            start: 0,
            end: 0,
            searched: 0,
            records: 0,
            offset: 0,
        }
    }

    /// Room for the next read, `len` bytes. Ranges that were taken before become invalid.
    pub(crate) fn room(&mut self, len: usize) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.bytes.len() < self.end + len {
            // Doubling keeps a long record from being copied once per read.
            self.bytes.resize((self.end + len).max(2 * self.end), 0);
        }
        &mut self.bytes[self.end..self.end + len]
    }

    /// Notes that the first `len` bytes of [`room`](Self::room) were filled.
    pub(crate) fn filled(&mut self, len: usize) {
        self.end += len;
        debug_assert!(self.end <= self.bytes.len());
    }

    /// Bytes that are held and were not taken as records yet.
    pub(crate) fn partial_len(&self) -> usize {
        self.end - self.start
    }

    /// Takes all whole records that are there, as ranges for
    /// [`payload`](Self::payload).
    ///
    /// # Errors
    ///
    /// The next record is over the maximum; `records` holds those before it.
    pub(crate) fn take(&mut self, records: &mut Vec<Range<usize>>) -> Result<(), BadInput> {
        loop {
            let Some((range, framed_len)) = self.next()? else {
                return Ok(());
            };
            records.push(range);
            self.start += framed_len;
            self.offset += framed_len as u64;
            self.records += 1;
            self.searched = 0;
        }
    }

    /// Takes what is left at the end of the input: with a delimiter, a last record that
    /// lacks it.
    ///
    /// # Errors
    ///
    /// The input ended inside a record.
    pub(crate) fn finish(&mut self) -> Result<Option<Range<usize>>, BadInput> {
        let have = self.partial_len();
        if have == 0 {
            return Ok(None);
        }
        match self.framing {
            Framing::Delimited(_) => {
                let range = self.start..self.end;
                self.start = self.end;
                self.offset += have as u64;
                self.records += 1;
                Ok(Some(range))
            }
            Framing::Length => {
                let need = self.prefix().map(u64::from);
                let have = need.map_or(have, |_| have - PREFIX_LEN);
                Err(self.bad(Reason::CutOff { have, need }))
            }
        }
    }

    /// A payload that [`take`](Self::take) or [`finish`](Self::finish) found
    /// since the last [`room`](Self::room).
    pub(crate) fn payload(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// The next whole record: the range of its payload, and its length with the framing.
    fn next(&mut self) -> Result<Option<(Range<usize>, usize)>, BadInput> {
        let (skip, len, framed_len) = match self.framing {
            Framing::Delimited(delimiter) => {
                let rest = &self.bytes[self.start + self.searched..self.end];
                let Some(at) = memchr::memchr(delimiter, rest) else {
                    self.searched = self.partial_len();
                    return match self.searched > self.max_len {
                        true => Err(self.oversize(None)),
                        false => Ok(None),
                    };
                };
                let len = self.searched + at;
                (0, len, len + 1)
            }
            Framing::Length => {
                let Some(len) = self.prefix() else {
                    return Ok(None);
                };
                let len = len as usize;
                (PREFIX_LEN, len, PREFIX_LEN.saturating_add(len))
            }
        };
        if len > self.max_len {
            return Err(self.oversize(Some(len as u64)));
        }
        if framed_len > self.partial_len() {
            return Ok(None);
        }
        let from = self.start + skip;
        Ok(Some((from..from + len, framed_len)))
    }

    fn prefix(&self) -> Option<u32> {
        let prefix = self.bytes[self.start..self.end].first_chunk::<PREFIX_LEN>()?;
        Some(u32::from_be_bytes(*prefix))
    }

    fn oversize(&self, len: Option<u64>) -> BadInput {
        self.bad(Reason::Oversize {
            len,
            max: self.max_len,
        })
    }

    fn bad(&self, reason: Reason) -> BadInput {
        BadInput {
            record: self.records + 1,
            offset: self.offset,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINES: Framing = Framing::Delimited(b'\n');

    /// Feeds `input` in reads of the given lengths, over and over.
    fn split(
        framing: Framing,
        max_len: usize,
        input: &[u8],
        reads: &[usize],
    ) -> (Vec<Vec<u8>>, Option<BadInput>) {
        let mut splitter = Splitter::new(framing, max_len);
        let mut records = Vec::new();
        let mut rest = input;
        for len in reads.iter().cycle() {
            let room = splitter.room(*len);
            let len = rest.len().min(*len);
            room[..len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            splitter.filled(len);
            let mut ranges = Vec::new();
            let bad = if len == 0 {
                splitter.finish().map(|last| ranges.extend(last)).err()
            } else {
                splitter.take(&mut ranges).err()
            };
            records.extend(ranges.into_iter().map(|r| splitter.payload(r).to_vec()));
            if bad.is_some() || len == 0 {
                return (records, bad);
            }
        }
        unreachable!("the reads are not empty")
    }

    #[test]
    fn lines_may_be_empty_and_the_last_may_lack_its_newline() {
        let (records, bad) = split(LINES, 10, b"\na\n\nbc", &[3]);
        assert_eq!(records, [&b""[..], b"a", b"", b"bc"]);
        assert_eq!(bad, None);
        let (records, _) = split(LINES, 10, b"a\r\n\n", &[1]);
        assert_eq!(records, [&b"a\r"[..], b""]);
        let (records, _) = split(LINES, 10, b"", &[1]);
        assert!(records.is_empty());
    }

    #[test]
    fn a_record_of_the_maximum_passes_and_one_byte_more_does_not() {
        let (records, bad) = split(LINES, 3, b"abc\nabc", &[2]);
        assert_eq!((records.len(), bad), (2, None));
        let (records, bad) = split(LINES, 3, b"ab\nabcd\nx\n", &[5]);
        assert_eq!(records, [b"ab"]);
        let text = bad.expect("one is over").message("an option");
        assert!(text.contains("record 2 of the input, at byte 3,"), "{text}");
        assert!(text.contains("longest record allowed has 3"), "{text}");
    }

    #[test]
    fn an_endless_line_is_refused_without_being_held() {
        let mut splitter = Splitter::new(LINES, 1000);
        let mut reads = 0;
        let bad = loop {
            splitter.room(64).fill(b'x');
            splitter.filled(64);
            reads += 1;
            if let Err(bad) = splitter.take(&mut Vec::new()) {
                break bad;
            }
        };
        assert_eq!(reads, 16);
        assert!(bad.message("").contains("longer than 1000 bytes"));
    }

    #[test]
    fn a_length_is_checked_before_its_record_is_read() {
        let (records, bad) = split(Framing::Length, 5, b"\0\0\0\x02ab\xff\xff\xff\xff", &[64]);
        assert_eq!(records, [b"ab"]);
        let text = bad.expect("too long").message("");
        assert!(text.contains("at byte 6, has 4294967295 bytes"), "{text}");
    }

    #[test]
    fn a_length_framed_input_may_not_end_inside_a_record() {
        for (input, says) in [
            (&b"\0\0"[..], "ends after 2 of the 4 bytes of its length"),
            (b"\0\0\0\x03ab", "ends after 2 of its 3 bytes"),
            (b"\0\0\0\x03", "ends after 0 of its 3 bytes"),
        ] {
            let (records, bad) = split(Framing::Length, 5, input, &[64]);
            assert!(records.is_empty());
            let text = bad.expect("cut off").message("");
            assert!(text.contains(says), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_however_it_is_cut(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20),
            framing in prop_oneof![
                Just(Framing::Length),
                Just(Framing::Delimited(0)),
                Just(LINES),
            ],
            reads in proptest::collection::vec(1_usize..30, 1..6),
        ) {
            let payloads: Vec<Vec<u8>> = match framing {
                Framing::Length => payloads,
                Framing::Delimited(delimiter) => payloads
                    .into_iter()
                    .map(|p| p.into_iter().filter(|b| *b != delimiter).collect())
                    .collect(),
            };
            let mut stream = Vec::new();
            let mut framed_len = 0;
            for payload in &payloads {
                framing.write(payload, &mut stream).unwrap();
                framed_len += framing.framed_len(payload.len());
            }
            prop_assert_eq!(stream.len() as u64, framed_len);
            let (records, bad) = split(framing, 20, &stream, &reads);
            prop_assert_eq!(bad, None);
            prop_assert_eq!(records, payloads);
        }
    }
}
