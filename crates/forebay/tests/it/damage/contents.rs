//! Damage inside data files.

use std::ops::Range;

use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::format::record::{ROOT_LEN, frame_len};
use forebay::storage::sim::SECTOR_LEN;

use super::judge::{Left, tell};
use super::shapes::{Shape, path};

/// Whether damage at this place of a frame costs the record: id, metadata, checksum and
/// payload are stored only once.
fn is_costly(at: usize, payload_len: usize) -> bool {
    let root = frame_len(payload_len) - ROOT_LEN;
    (8..8 + payload_len).contains(&at)
        || (root..root + 4).contains(&at)
        || (root + 8..root + 20).contains(&at)
}

/// Replaces the contents of one file by `bytes` and checks what is left.
fn check(shape: &Shape, index: usize, left: &Left<'_>, bytes: &[u8], what: &str) {
    let sim = shape.sim();
    if left.ledger.is_none() {
        sim.remove_file(path(LEDGER_FILE_NAME)).unwrap();
    }
    sim.write_file(path(&shape.file(index)), bytes).unwrap();
    if let Err(e) = left.check(&sim) {
        panic!("{}, {}: {what}: {e}", shape.name, shape.file(index));
    }
}

#[test]
fn each_bit_of_each_data_file_flipped() {
    for shape in Shape::all() {
        for index in 0..shape.files.len() {
            let (_, offsets) = shape.frames(index);
            for (record, at) in shape.files[index].1.iter().zip(offsets) {
                let len = frame_len(record.payload.len());
                for bit in 0..8 * len {
                    let mut left = Left::everything(&shape);
                    if is_costly(bit / 8, record.payload.len()) {
                        left.gone.push(record.id);
                    }
                    let mut bytes = shape.bytes(index);
                    bytes[at + bit / 8] ^= 1 << (bit % 8);
                    let what = format!("bit {bit} of record {}", record.id);
                    check(&shape, index, &left, &bytes, &what);
                }
            }
        }
    }
    tell("each bit of each data file flipped");
}

#[test]
fn each_data_file_cut_at_each_byte() {
    for shape in Shape::all() {
        for index in 0..shape.files.len() {
            let bytes = shape.bytes(index);
            for len in 0..bytes.len() {
                let mut left = Left::everything(&shape);
                left.gone = shape.touched(index, len..bytes.len());
                let what = format!("cut at {len}");
                check(&shape, index, &left, &bytes[..len], &what);
                if len % 8 == 0 {
                    left.ledger = None;
                    let what = format!("cut at {len}, without a ledger");
                    check(&shape, index, &left, &bytes[..len], &what);
                }
            }
        }
    }
    tell("each data file cut at each byte");
}

/// Fills a span of a file with `byte` and checks what is left.
fn fill(shape: &Shape, index: usize, span: Range<usize>, byte: u8) {
    let mut bytes = shape.bytes(index);
    bytes[span.clone()].fill(byte);
    let mut left = Left::everything(shape);
    left.may_be_gone = shape.touched(index, span.clone());
    let what = format!("{span:?} filled with {byte}");
    check(shape, index, &left, &bytes, &what);
}

#[test]
fn each_sector_of_each_data_file_zeroed() {
    let shape = Shape::of_many_sectors();
    for index in 0..shape.files.len() {
        let len = shape.bytes(index).len();
        for at in (0..len).step_by(SECTOR_LEN) {
            fill(&shape, index, at..len.min(at + SECTOR_LEN), 0);
            fill(&shape, index, at..len.min(at + SECTOR_LEN), 0xff);
        }
    }
    tell("each sector of each data file zeroed");
}

/// In other files the frames begin elsewhere in their sectors, so zeros begin at each multiple
/// of 8.
#[test]
fn each_span_of_zeros_that_a_sector_can_be() {
    let shape = Shape::of_many_sectors();
    for index in 0..shape.files.len() {
        let len = shape.bytes(index).len();
        for at in (0..len).step_by(8) {
            for span in [8, 48, SECTOR_LEN] {
                fill(&shape, index, at..len.min(at + span), 0);
            }
        }
    }
    tell("each span of zeros that a sector can be");
}
