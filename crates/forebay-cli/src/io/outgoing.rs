//! Records on their way into a pipe: a program's standard input, or standard output.
//!
//! Invariant: a piece that fits into one atomic write to a pipe ends with a record, so
//! that the reader does not see half of a record when this process is killed. Records
//! that are longer than one atomic write can still be cut.

use crate::io::framing::{Framing, TooLong};

/// Framed records, some of whose bytes were handed over.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    /// Where each record ends in `bytes`.
    ends: Vec<usize>,
    /// Bytes handed over.
    sent: usize,
    /// The first record that is not handed over in full.
    next: usize,
}

impl Outgoing {
    /// Appends a record.
    ///
    /// # Errors
    ///
    /// The payload cannot be framed.
    pub(crate) fn push(&mut self, payload: &[u8], framing: Framing) -> Result<(), TooLong> {
        framing.write(payload, &mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Forgets everything, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.sent = 0;
        self.next = 0;
    }

    /// Whether everything was handed over.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// How many records were handed over in full.
    pub(crate) fn sent_records(&self) -> usize {
        self.next
    }

    /// Whether a record was handed over in part.
    pub(crate) fn is_inside_record(&self) -> bool {
        let start = match self.next {
            0 => 0,
            next => self.ends[next - 1],
        };
        self.sent > start
    }

    /// Forgets the records of which nothing was handed over.
    pub(crate) fn keep_begun(&mut self) {
        let keep = self.next + usize::from(self.is_inside_record());
        self.ends.truncate(keep);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// What to write next: as many whole records as fit into `atomic_len`
    /// bytes, or else all of one record. Empty when nothing is left.
    pub(crate) fn piece(&self, atomic_len: usize) -> &[u8] {
        let Some(first) = self.ends.get(self.next) else {
            return &[];
        };
        let limit = self.sent.saturating_add(atomic_len);
        let fitting = self.ends[self.next..].partition_point(|end| *end <= limit);
        let end = match fitting {
            0 => *first,
            fitting => self.ends[self.next + fitting - 1],
        };
        &self.bytes[self.sent..end]
    }

    /// Notes that `len` bytes of the piece were written.
    pub(crate) fn advance(&mut self, len: usize) {
        self.sent += len;
        debug_assert!(self.sent <= self.bytes.len());
        let sent = self.sent;
        self.next += self.ends[self.next..].partition_point(|end| *end <= sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINES: Framing = Framing::Delimited(b'\n');

    fn outgoing(payloads: &[&[u8]]) -> Outgoing {
        let mut outgoing = Outgoing::default();
        for payload in payloads {
            outgoing.push(payload, LINES).unwrap();
        }
        outgoing
    }

    #[test]
    fn pieces_end_with_a_record_when_they_can() {
        let mut outgoing = outgoing(&[b"ab", b"cd", b"a long one", b"e"]);
        assert_eq!(outgoing.piece(7), b"ab\ncd\n");
        outgoing.advance(6);
        assert!(!outgoing.is_inside_record());
        assert_eq!(outgoing.piece(7), b"a long one\n");
        outgoing.advance(4);
        assert!(outgoing.is_inside_record());
        assert_eq!(outgoing.sent_records(), 2);
        // A file has no limit.
        assert_eq!(outgoing.piece(usize::MAX), b"ng one\ne\n");
        // What is left of it fits now, with the next record.
        assert_eq!(outgoing.piece(9), b"ng one\ne\n");
        outgoing.advance(9);
        assert!(outgoing.is_empty());
        assert_eq!(outgoing.piece(9), b"");
    }

    #[test]
    fn stopping_keeps_only_the_record_that_was_begun() {
        let mut begun = outgoing(&[b"ab", b"cd", b"ef"]);
        begun.advance(4);
        begun.keep_begun();
        assert_eq!(begun.piece(100), b"d\n");
        begun.advance(2);
        assert!(begun.is_empty() && !begun.is_inside_record());

        let mut between = outgoing(&[b"ab", b"cd"]);
        between.advance(3);
        between.keep_begun();
        assert!(between.is_empty());

        let mut untouched = outgoing(&[b"ab"]);
        untouched.keep_begun();
        assert!(untouched.is_empty());
    }

    proptest! {
        #[test]
        fn pieces_make_up_the_stream(
            payloads in proptest::collection::vec("[a-z]{0,12}", 0..30),
            atomic_len in 1_usize..20,
            writes in proptest::collection::vec(1_usize..20, 1..5),
        ) {
            let mut outgoing = Outgoing::default();
            let mut stream = Vec::new();
            for payload in &payloads {
                outgoing.push(payload.as_bytes(), LINES).unwrap();
                LINES.write(payload.as_bytes(), &mut stream).unwrap();
            }
            let mut written = Vec::new();
            let mut writes = writes.iter().cycle();
            while !outgoing.is_empty() {
                let piece = outgoing.piece(atomic_len);
                prop_assert!(piece.ends_with(b"\n"));
                let len = match piece.len() <= atomic_len {
                    // Atomic: all or nothing.
                    true => piece.len(),
                    false => piece.len().min(*writes.next().unwrap()),
                };
                written.extend_from_slice(&piece[..len]);
                outgoing.advance(len);
                let inside = written.last() != Some(&b'\n');
                prop_assert_eq!(outgoing.is_inside_record(), inside);
            }
            prop_assert_eq!(written, stream);
        }
    }
}
