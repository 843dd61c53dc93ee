//! Damage to the ledger: each bit, each length, each field.

use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::format::ledger::{LEDGER_LEN, LedgerState};

use super::judge::{Left, MAX_AHEAD, ledger_said, tell};
use super::shapes::{Shape, path};
use crate::workload::Record;

/// Opens the buffer with these bytes as its ledger, which is believed as far as it is
/// possible.
fn check(shape: &Shape, bytes: &[u8], what: &str) {
    let data_end = shape.records().map(Record::end).max().unwrap_or(1);
    let possible = ledger_said(bytes, data_end)
        .filter(|state| state.writer_next_record_id <= data_end + MAX_AHEAD);
    let left = Left {
        ledger: possible,
        ..Left::everything(shape)
    };
    let sim = shape.sim();
    sim.write_file(path(LEDGER_FILE_NAME), bytes).unwrap();
    if let Err(e) = left.check(&sim) {
        panic!("{}: {what}: {e}", shape.name);
    }
}

#[test]
fn each_bit_of_the_ledger_flipped() {
    for shape in Shape::all() {
        for bit in 0..8 * LEDGER_LEN {
            let mut bytes = shape.ledger.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            check(&shape, &bytes, &format!("bit {bit}"));
        }
    }
    tell("each bit of the ledger flipped");
}

#[test]
fn the_ledger_cut_at_each_byte_or_longer() {
    for shape in Shape::all() {
        let mut bytes = shape.ledger.to_bytes().to_vec();
        bytes.resize(2 * LEDGER_LEN, 0);
        for len in (0..bytes.len()).filter(|len| *len != LEDGER_LEN) {
            check(&shape, &bytes[..len], &format!("{len} bytes"));
        }
    }
    tell("the ledger cut at each byte or longer");
}

#[test]
fn each_field_of_the_ledger_set_to_what_is_near_and_far() {
    for shape in Shape::all() {
        let words = |value: u64| {
            let near = [value.wrapping_sub(1), value, value.wrapping_add(1)];
            let far = [0, 1, 1 << 32, MAX_AHEAD, 1 << 62, (1 << 63) - 1, 1 << 63];
            near.into_iter().chain(far).chain([u64::MAX])
        };
        let ids = |value: u16| {
            let near = [value.wrapping_sub(1), value, value.wrapping_add(1)];
            near.into_iter().chain([0, 1, 65534, u16::MAX])
        };
        let field = |name: &str, states: Vec<LedgerState>| {
            for state in states {
                check(&shape, &state.to_bytes(), &format!("{name}: {state:?}"));
            }
        };
        let was = shape.ledger;
        let next = words(was.writer_next_record_id).map(|value| LedgerState {
            writer_next_record_id: value,
            ..was
        });
        let last = words(was.reader_last_record_id).map(|value| LedgerState {
            reader_last_record_id: value,
            ..was
        });
        let writer = ids(was.writer_file_id).map(|value| LedgerState {
            writer_file_id: value,
            ..was
        });
        let reader = ids(was.reader_file_id).map(|value| LedgerState {
            reader_file_id: value,
            ..was
        });
        field("next", next.collect());
        field("last", last.collect());
        field("writer file", writer.collect());
        field("reader file", reader.collect());
    }
    tell("each field of the ledger set to what is near and far");
}
