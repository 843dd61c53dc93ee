//! One record as bytes: encoding, and the fields of its root.
//!
//! ```text
//! frame := delimiter(8)  payload(L)  zero padding to a multiple of 8  root(32)
//! ```
//!
//! The *root* is the fixed part of a record, after its payload: id, metadata, checksum and
//! length, and a pointer back to the payload. From it everything else in the frame is found,
//! so a damaged delimiter loses nothing.
//!
//! | position | type | field |
//! | --- | --- | --- |
//! | 0 | u64 big endian | bytes after the delimiter: `padded_len(L) + 32` |
//! | root + 0 | u32 | checksum |
//! | root + 4 | 4 bytes | zero |
//! | root + 8 | u64 | record id |
//! | root + 16 | u32 | metadata |
//! | root + 20 | i32 | pointer: from this field back to the payload, `-(20 + padded_len(L))` |
//! | root + 24 | u32 | payload length L |
//! | root + 28 | 4 bytes | zero |
//!
//! Invariants:
//! - A frame begins and ends at a multiple of 8.
//! - Delimiter and pointer follow from the length; they leave eight lengths to try. The
//!   checksum covers id, metadata and payload, and none of those three.
//! - Ids are 1 ..= [`MAX_RECORD_ID`]. A frame with another id is not a record, even if its
//!   checksum holds.

use super::ledger::RECORD_ID_LIMIT;

/// The length of the delimiter in bytes.
pub const DELIMITER_LEN: usize = 8;

/// The length of the root in bytes.
pub const ROOT_LEN: usize = 32;

/// The length of a frame without its padded payload, in bytes.
pub const FRAME_OVERHEAD: usize = DELIMITER_LEN + ROOT_LEN;

/// Frames begin and end at multiples of this; payloads are padded to one.
pub const ALIGN: usize = 8;

/// The largest payload a frame can hold, in bytes: the pointer is an `i32`.
pub const MAX_PAYLOAD_LEN: usize = (1 << 31) - 24;

/// The largest id a record can have. Whatever its event count, the id after its events
/// still fits in a ledger, because a record has at most one event per payload byte.
pub const MAX_RECORD_ID: u64 = RECORD_ID_LIMIT - 1 - MAX_PAYLOAD_LEN as u64;

/// The position of the pointer in the root.
const POINTER_AT: usize = 20;

/// The length of a payload with its padding, in bytes.
///
/// `payload_len` is at most [`MAX_PAYLOAD_LEN`].
#[inline]
pub const fn padded_len(payload_len: usize) -> usize {
    payload_len.next_multiple_of(ALIGN)
}

/// The length of the frame around a payload, in bytes.
///
/// `payload_len` is at most [`MAX_PAYLOAD_LEN`].
///
/// ```
/// use forebay::format::record::frame_len;
///
/// assert_eq!([0, 5, 8, 9].map(frame_len), [40, 48, 48, 56]);
/// ```
#[inline]
pub const fn frame_len(payload_len: usize) -> usize {
    FRAME_OVERHEAD + padded_len(payload_len)
}

/// The checksum of a record: CRC-32 (IEEE) over the id and the metadata, both
/// big endian, and the payload.
#[inline]
pub fn checksum(id: u64, metadata: u32, payload: &[u8]) -> u32 {
    ChecksumCache::new(id, metadata).checksum_with(id, metadata, payload)
}

/// A hasher for the [checksum] of a record; the caller adds the payload in pieces.
#[inline]
pub(crate) fn hasher(id: u64, metadata: u32) -> crc32fast::Hasher {
    crc32fast::Hasher::new_with_initial(id_checksum(id, metadata))
}

/// The checksum over the id and the metadata alone.
///
/// It takes one table look-up for each of the twelve bytes, and no look-up depends on
/// another. A general CRC processes so few bytes one after another, which costs
/// measurable time if records are small.
#[inline]
fn id_checksum(id: u64, metadata: u32) -> u32 {
    ChecksumCache::new(id, metadata).checksum(id, metadata)
}

/// Computes the checksums of consecutive records. It caches what the metadata and all bytes of
/// the id but the last one contribute, because most ids differ from the one before in that
/// byte only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChecksumCache {
    /// The id without its last byte, and the metadata, for which `sum` was computed.
    of: (u64, u32),
    /// What all bytes but the id's last one contribute to the checksum.
    sum: u32,
}

impl ChecksumCache {
    /// Begins with the record that has this id and metadata.
    #[inline]
    pub(crate) fn new(id: u64, metadata: u32) -> Self {
        let byte = |word: u32, shift: u32| (word >> shift) as u8 as usize;
        // A CRC-32 begins and ends inverted.
        let high = (id >> 32) as u32 ^ u32::MAX;
        let low = id as u32;
        let sum = !(BYTES[11][byte(high, 24)]
            ^ BYTES[10][byte(high, 16)]
            ^ BYTES[9][byte(high, 8)]
            ^ BYTES[8][byte(high, 0)]
            ^ BYTES[7][byte(low, 24)]
            ^ BYTES[6][byte(low, 16)]
            ^ BYTES[5][byte(low, 8)]
            ^ BYTES[3][byte(metadata, 24)]
            ^ BYTES[2][byte(metadata, 16)]
            ^ BYTES[1][byte(metadata, 8)]
            ^ BYTES[0][byte(metadata, 0)]);
        let of = (id >> 8, metadata);
        Self { of, sum }
    }

    /// The checksum over the id and the metadata alone.
    #[inline]
    fn checksum(&mut self, id: u64, metadata: u32) -> u32 {
        if self.of != (id >> 8, metadata) {
            *self = Self::new(id, metadata);
        }
        self.sum ^ BYTES[4][id as u8 as usize]
    }

    /// The [checksum] of a record.
    #[inline]
    pub(crate) fn checksum_with(&mut self, id: u64, metadata: u32, payload: &[u8]) -> u32 {
        let before_payload = self.checksum(id, metadata);
        let mut hasher = crc32fast::Hasher::new_with_initial(before_payload);
        hasher.update(payload);
        hasher.finalize()
    }
}

/// `BYTES[n][b]` is what a byte `b` with `n` bytes after it contributes to a CRC-32.
static BYTES: [[u32; 256]; 12] = byte_tables();

const fn byte_tables() -> [[u32; 256]; 12] {
    /// The polynomial of CRC-32 (IEEE), lowest power first.
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut tables = [[0; 256]; 12];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut behind = 1;
    while behind < 12 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[behind - 1][byte];
            tables[behind][byte] = (crc >> 8) ^ tables[0][crc as u8 as usize];
            byte += 1;
        }
        behind += 1;
    }
    tables
}

/// Writes a whole frame, padding included. The payload is copied once.
///
/// # Panics
/// When `frame` is not exactly [`frame_len`] long, or the payload is longer
/// than [`MAX_PAYLOAD_LEN`].
///
/// ```
/// use forebay::format::record::{encode, frame_len};
///
/// let mut frame = vec![0; frame_len(5)];
/// encode(&mut frame, 1, 0, b"hello");
/// assert_eq!(frame[..13], *b"\0\0\0\0\0\0\0\x28hello");
/// ```
#[inline]
pub fn encode(frame: &mut [u8], id: u64, metadata: u32, payload: &[u8]) {
    encode_next(
        &mut ChecksumCache::new(id, metadata),
        frame,
        id,
        metadata,
        payload,
    );
}

/// [`encode`], for consecutive records.
#[inline]
pub(crate) fn encode_next(
    cache: &mut ChecksumCache,
    frame: &mut [u8],
    id: u64,
    metadata: u32,
    payload: &[u8],
) {
    assert!(
        payload.len() <= MAX_PAYLOAD_LEN && frame.len() == frame_len(payload.len()),
        "a frame of {} bytes for a payload of {}",
        frame.len(),
        payload.len(),
    );
    let padded = padded_len(payload.len());
    let root = Root {
        checksum: cache.checksum_with(id, metadata, payload),
        id,
        metadata,
        pointer: pointer(padded),
        len: payload.len() as u32,
        padding: [0; 2],
    };
    let (delimiter, rest) = frame.split_at_mut(DELIMITER_LEN);
    let (body, tail) = rest.split_at_mut(padded);
    delimiter.copy_from_slice(&((padded + ROOT_LEN) as u64).to_be_bytes());
    // The last word is zeroed first; the copy then overwrites all of it but the padding.
    if let Some(last) = body.last_chunk_mut::<ALIGN>() {
        *last = [0; ALIGN];
    }
    body[..payload.len()].copy_from_slice(payload);
    tail.copy_from_slice(&root.to_bytes());
}

const fn pointer(padded: usize) -> i32 {
    (-((POINTER_AT + padded) as i64)) as i32
}

/// The length of the frame that begins with this delimiter, in bytes; `None` if no frame
/// can have this delimiter.
#[inline]
pub(crate) const fn stated_len(delimiter: [u8; DELIMITER_LEN]) -> Option<u64> {
    let after = u64::from_be_bytes(delimiter);
    let longest = frame_len(MAX_PAYLOAD_LEN) - DELIMITER_LEN;
    if after < ROOT_LEN as u64 || !after.is_multiple_of(ALIGN as u64) || after > longest as u64 {
        return None;
    }
    Some(DELIMITER_LEN as u64 + after)
}

/// A frame that passes every check but the checksum, which is not computed here: its three
/// lengths agree, its padding is zero, and its id is possible for a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'b> {
    /// The length of the frame in bytes.
    pub(crate) len: usize,
    pub(crate) root: Root,
    pub(crate) payload: &'b [u8],
}

impl<'b> Frame<'b> {
    /// The frame at the beginning of `bytes`, if it lies within them and has at most
    /// `max_len` bytes. A frame whose padding is not zero is left to the slower path in `scan`,
    /// which believes it and reports the padding.
    #[inline]
    pub(crate) fn first(bytes: &'b [u8], max_len: u64) -> Option<Self> {
        let (delimiter, rest) = bytes.split_first_chunk::<DELIMITER_LEN>()?;
        // `stated_len` is not needed: the root has to agree with this length anyway.
        let after = u64::from_be_bytes(*delimiter);
        if after > rest.len() as u64 || after > max_len - DELIMITER_LEN as u64 {
            return None;
        }
        let (body, root) = rest[..after as usize].split_last_chunk::<ROOT_LEN>()?;
        let root = Root::from_bytes(root);
        if root.agreed_len()? as usize != body.len()
            || !padding_is_zero(&root, body)
            || !root.has_possible_id()
        {
            return None;
        }
        let payload = body.get(..root.len as usize)?;
        let len = DELIMITER_LEN + after as usize;
        Some(Self { len, root, payload })
    }

    /// Whether its checksum holds.
    #[inline]
    pub(crate) fn is_intact(&self) -> bool {
        self.root.matches(self.payload)
    }
}

/// Whether the padding after the payload and in the root is zero. The caller has checked
/// that the payload length fits the body.
#[inline]
pub(crate) fn padding_is_zero(root: &Root, body: &[u8]) -> bool {
    let used = root.len as usize % ALIGN;
    let after = match body.last_chunk() {
        Some(last) if used != 0 => u64::from_le_bytes(*last) >> (8 * used),
        _ => 0,
    };
    (root.padding[0] | root.padding[1]) == 0 && after == 0
}

/// The last 32 bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// The [checksum] of the record.
    pub checksum: u32,
    /// The id of the record's first event.
    pub id: u64,
    /// The caller's metadata.
    pub metadata: u32,
    /// From the pointer's own position to the payload, in bytes (negative).
    pub pointer: i32,
    /// The length of the payload in bytes.
    pub len: u32,
    /// The bytes 4..8 and 28..32, zero unless damaged.
    pub padding: [u32; 2],
}

impl Root {
    /// Reads the fields without checking them.
    #[inline]
    pub const fn from_bytes(bytes: &[u8; ROOT_LEN]) -> Self {
        Self {
            checksum: u32_at(bytes, 0),
            id: u32_at(bytes, 8) as u64 | (u32_at(bytes, 12) as u64) << 32,
            metadata: u32_at(bytes, 16),
            pointer: u32_at(bytes, POINTER_AT) as i32,
            len: u32_at(bytes, 24),
            padding: [u32_at(bytes, 4), u32_at(bytes, 28)],
        }
    }

    /// The bytes of the fields.
    #[inline]
    pub fn to_bytes(&self) -> [u8; ROOT_LEN] {
        let mut bytes = [0; ROOT_LEN];
        bytes[0..4].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.padding[0].to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.metadata.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.pointer.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.len.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.padding[1].to_le_bytes());
        bytes
    }

    /// The padded payload length that the pointer claims; `None` if no frame can have
    /// this pointer.
    #[inline]
    pub const fn pointed_len(&self) -> Option<u32> {
        let padded = -(self.pointer as i64) - POINTER_AT as i64;
        if padded >= 0 && padded % ALIGN as i64 == 0 {
            Some(padded as u32)
        } else {
            None
        }
    }

    /// The padded payload length that pointer and payload length claim; `None` if they
    /// disagree.
    #[inline]
    pub const fn agreed_len(&self) -> Option<u32> {
        match self.pointed_len() {
            Some(padded) if padded as u64 == (self.len as u64).next_multiple_of(ALIGN as u64) => {
                Some(padded)
            }
            _ => None,
        }
    }

    /// The length of the frame that pointer and payload length claim, in bytes; `None` if
    /// they disagree.
    #[inline]
    pub(crate) const fn frame_len(&self) -> Option<u64> {
        match self.agreed_len() {
            Some(padded) => Some(padded as u64 + FRAME_OVERHEAD as u64),
            None => None,
        }
    }

    /// Whether a record can have this id: `1 ..=` [`MAX_RECORD_ID`].
    #[inline]
    pub const fn has_possible_id(&self) -> bool {
        self.id.wrapping_sub(1) < MAX_RECORD_ID
    }

    /// Whether the checksum is that of the id, the metadata and `payload`.
    #[inline]
    pub fn matches(&self, payload: &[u8]) -> bool {
        checksum(self.id, self.metadata, payload) == self.checksum
    }

    /// [`matches`](Self::matches), for consecutive records.
    #[inline]
    pub(crate) fn matches_next(&self, cache: &mut ChecksumCache, payload: &[u8]) -> bool {
        cache.checksum_with(self.id, self.metadata, payload) == self.checksum
    }
}

#[inline]
const fn u32_at(bytes: &[u8; ROOT_LEN], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(id: u64, metadata: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xee; frame_len(payload.len())];
        encode(&mut frame, id, metadata, payload);
        frame
    }

    fn root_of(frame: &[u8]) -> Root {
        Root::from_bytes(frame.last_chunk().unwrap())
    }

    #[test]
    fn a_payload_of_five_bytes_is_padded_to_eight() {
        #[rustfmt::skip]
        let expected = [
            0, 0, 0, 0, 0, 0, 0, 0x28,
            b'h', b'e', b'l', b'l', b'o', 0, 0, 0,
            0x18, 0xcb, 0x1f, 0xd6, 0, 0, 0, 0,
            1, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0xe4, 0xff, 0xff, 0xff,
            5, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(encoded(1, 0, b"hello"), expected);
    }

    #[test]
    fn a_payload_of_eight_bytes_has_no_padding() {
        #[rustfmt::skip]
        let expected = [
            0, 0, 0, 0, 0, 0, 0, 0x28,
            b'e', b'i', b'g', b'h', b't', b'f', b'u', b'l',
            0xd8, 0xaa, 0x54, 0xeb, 0, 0, 0, 0,
            2, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0xe4, 0xff, 0xff, 0xff,
            8, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(encoded(2, 0, b"eightful"), expected);
    }

    #[test]
    fn an_empty_payload_is_a_frame_of_forty_bytes() {
        #[rustfmt::skip]
        let expected = [
            0, 0, 0, 0, 0, 0, 0, 0x20,
            0xbf, 0xbc, 0x75, 0x3c, 0, 0, 0, 0,
            3, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0xec, 0xff, 0xff, 0xff,
            0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(encoded(3, 0, b""), expected);
    }

    #[test]
    fn metadata_and_a_long_id_stand_in_the_root_and_in_the_checksum() {
        #[rustfmt::skip]
        let expected = [
            0, 0, 0, 0, 0, 0, 0, 0x28,
            b'm', b'e', b't', b'a', 0, 0, 0, 0,
            0x1b, 0xe7, 0x2d, 0xb3, 0, 0, 0, 0,
            8, 7, 6, 5, 4, 3, 2, 1,
            0xd4, 0xc3, 0xb2, 0xa1, 0xe4, 0xff, 0xff, 0xff,
            4, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(
            encoded(0x0102_0304_0506_0708, 0xa1b2_c3d4, b"meta"),
            expected
        );
    }

    #[test]
    fn the_largest_pointer_fits_its_field() {
        assert_eq!(pointer(padded_len(MAX_PAYLOAD_LEN)), i32::MIN + 4);
        let root = Root {
            checksum: 0,
            id: 1,
            metadata: 0,
            pointer: i32::MIN + 4,
            len: MAX_PAYLOAD_LEN as u32,
            padding: [0; 2],
        };
        assert_eq!(root.agreed_len(), Some(MAX_PAYLOAD_LEN as u32));
    }

    #[test]
    fn pointers_that_no_frame_has_claim_nothing() {
        let mut root = root_of(&encoded(1, 0, b"hello"));
        for pointer in [i32::MIN, i32::MAX, 0, -12, -19, -21, -24, 28] {
            root.pointer = pointer;
            assert_eq!(root.pointed_len(), None, "{pointer}");
            assert_eq!(root.agreed_len(), None, "{pointer}");
        }
        root.pointer = -28;
        for (len, agreed) in [
            (0, None),
            (1, Some(8)),
            (8, Some(8)),
            (9, None),
            (u32::MAX, None),
        ] {
            root.len = len;
            assert_eq!(root.agreed_len(), agreed, "{len}");
        }
    }

    #[test]
    #[should_panic(expected = "a frame of 40 bytes for a payload of 5")]
    fn a_frame_of_another_length_is_a_mistake_of_the_caller() {
        encode(&mut [0; 40], 1, 0, b"hello");
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back(
            id in any::<u64>(),
            metadata in any::<u32>(),
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let frame = encoded(id, metadata, &payload);
            let padded = padded_len(payload.len());
            let root = root_of(&frame);
            prop_assert_eq!(
                u64::from_be_bytes(*frame.first_chunk().unwrap()),
                (frame.len() - DELIMITER_LEN) as u64
            );
            prop_assert_eq!((root.id, root.metadata, root.len), (id, metadata, payload.len() as u32));
            prop_assert_eq!(root.agreed_len(), Some(padded as u32));
            prop_assert_eq!(root.padding, [0; 2]);
            prop_assert_eq!(Root::from_bytes(&root.to_bytes()), root);
            prop_assert!(root.matches(&payload));
            prop_assert_eq!(&frame[8..8 + payload.len()], &payload[..]);
            prop_assert!(frame[8 + payload.len()..8 + padded].iter().all(|b| *b == 0));
        }

        #[test]
        fn checksums_of_consecutive_records_are_those_of_each_alone(
            first in any::<u64>(),
            steps in prop::collection::vec((0..600_u64, any::<bool>()), 1..20),
        ) {
            let (mut id, mut metadata) = (first, 7);
            let mut cache = ChecksumCache::new(id, metadata);
            for (step, other_metadata) in steps {
                prop_assert_eq!(cache.checksum_with(id, metadata, b"x"), checksum(id, metadata, b"x"));
                id = id.wrapping_add(step);
                metadata += u32::from(other_metadata);
            }
        }

        #[test]
        fn the_checksum_is_that_of_the_big_endian_fields_and_the_payload(
            id in any::<u64>(),
            metadata in any::<u32>(),
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut covered = id.to_be_bytes().to_vec();
            covered.extend_from_slice(&metadata.to_be_bytes());
            covered.extend_from_slice(&payload);
            prop_assert_eq!(checksum(id, metadata, &payload), crc32fast::hash(&covered));
        }
    }
}
