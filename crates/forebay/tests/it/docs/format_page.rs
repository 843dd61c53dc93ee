//! `docs/format.md` against the constants and encoders of `forebay::format`.

use forebay::EventCounter;
use forebay::format::file_id::{
    FILE_ID_COUNT, LEDGER_FILE_NAME, LOCK_FILE_NAME, MAX_FILE_ID, file_name,
};
use forebay::format::ledger::{LEDGER_LEN, LedgerState, RECORD_ID_LIMIT};
use forebay::format::record::{
    ALIGN, DELIMITER_LEN, FRAME_OVERHEAD, MAX_PAYLOAD_LEN, MAX_RECORD_ID, ROOT_LEN, checksum,
    encode, frame_len, padded_len,
};

use super::markdown::{blocks, code_spans, section, table};
use super::read;

fn page() -> String {
    read("docs/format.md")
}

fn number(text: &str) -> u64 {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

fn framed(id: u64, metadata: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xee; frame_len(payload.len())];
    encode(&mut frame, id, metadata, payload);
    frame
}

#[test]
fn every_size_on_the_page_is_that_of_the_code() {
    let page = page();
    let rows: Vec<_> = table(section(&page, "Sizes"), "what")
        .into_iter()
        .map(|row| (row[0], number(row[1])))
        .collect();
    let sizes = [
        ("ledger", LEDGER_LEN as u64),
        ("delimiter", DELIMITER_LEN as u64),
        ("root", ROOT_LEN as u64),
        ("frame without its payload", FRAME_OVERHEAD as u64),
        ("alignment of a frame and of its root", ALIGN as u64),
        ("largest payload a frame can hold", MAX_PAYLOAD_LEN as u64),
        ("file ids", u64::from(FILE_ID_COUNT)),
        ("largest file id", u64::from(MAX_FILE_ID)),
        (
            "first record id",
            LedgerState::INITIAL.writer_next_record_id,
        ),
        ("largest record id", MAX_RECORD_ID),
        ("next record ids stay below", RECORD_ID_LIMIT),
    ];
    assert_eq!(rows, sizes);
}

#[test]
fn the_directory_table_has_the_names_of_the_code() {
    let page = page();
    let rows = table(section(&page, "Directory"), "name");
    let names: Vec<_> = rows.iter().flat_map(|row| code_spans(row[0])).collect();
    let expected = [
        LEDGER_FILE_NAME.to_owned(),
        LOCK_FILE_NAME.to_owned(),
        file_name(0),
        file_name(MAX_FILE_ID),
    ];
    assert_eq!(names, expected);
}

/// Reads a little-endian number of up to 8 bytes.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[test]
fn ledger_fields_stand_where_the_page_says() {
    let state = LedgerState {
        writer_next_record_id: 0x0102_0304_0506_0708,
        writer_file_id: 0x1112,
        reader_file_id: 0x2122,
        reader_last_record_id: 0x0031_3233_3435_3637,
    };
    let (bytes, initial) = (state.to_bytes(), LedgerState::INITIAL.to_bytes());
    let page = page();
    let mut end = 0;
    for row in table(section(&page, "Ledger"), "offset") {
        let (at, len) = (number(row[0]) as usize, type_len(row[1]));
        assert_eq!(at, end, "{row:?} does not follow the field before");
        end = at + len;
        let field = row[2].split(':').next().unwrap_or_default();
        let value = match field {
            "writer's next record id" => state.writer_next_record_id,
            "writer's file id" => u64::from(state.writer_file_id),
            "reader's file id" => u64::from(state.reader_file_id),
            "reader's last record id" => state.reader_last_record_id,
            "zero" => 0,
            _ => panic!("the ledger has no field {field:?}"),
        };
        assert_eq!(little_endian(&bytes[at..end]), value, "{row:?}");
        assert_eq!(little_endian(&initial[at..end]), number(row[3]), "{row:?}");
    }
    assert_eq!(end, LEDGER_LEN);
}

/// The length of a fixed field, from its type on the page.
fn type_len(name: &str) -> usize {
    match name {
        "u64" | "u64, big endian" => 8,
        "u32" | "i32" | "4 bytes" => 4,
        "u16" => 2,
        _ => panic!("no field has the type {name:?}"),
    }
}

#[test]
fn frame_fields_stand_where_the_page_says() {
    let page = page();
    let rows = table(section(&page, "Record"), "position");
    let (id, metadata) = (0x0102_0304_0506_0708, 0xa1b2_c3d4);
    for payload in [&b""[..], b"hello", b"forebay!", b"one more than"] {
        let padded = padded_len(payload.len());
        let frame = framed(id, metadata, payload);
        let mut end = 0;
        for row in &rows {
            let at = match row[0].strip_prefix("root + ") {
                Some(offset) => DELIMITER_LEN + padded + number(offset) as usize,
                None => number(row[0]) as usize,
            };
            assert!(
                frame[end..at].iter().all(|b| *b == 0) && at - end < ALIGN,
                "{row:?}"
            );
            let field = row[2].split(':').next().unwrap_or_default();
            if field == "payload" {
                end = at + payload.len();
                assert_eq!(row[1], "L bytes");
                assert_eq!(frame[at..end], *payload);
                continue;
            }
            end = at + type_len(row[1]);
            let bytes = &frame[at..end];
            let value = little_endian(bytes);
            match field {
                "delimiter" => assert_eq!(bytes, ((padded + ROOT_LEN) as u64).to_be_bytes()),
                "checksum" => assert_eq!(value, u64::from(checksum(id, metadata, payload))),
                "zero" => assert_eq!(value, 0),
                "record id" => assert_eq!(value, id),
                "metadata" => assert_eq!(value, u64::from(metadata)),
                "pointer" => assert_eq!(bytes, (-(20 + padded as i32)).to_le_bytes()),
                "payload length L" => assert_eq!(value, payload.len() as u64),
                _ => panic!("a frame has no field {field:?}"),
            }
        }
        assert_eq!(end, frame.len());
    }
}

/// A worked example: its first line, the bytes, and the remarks beside them.
struct Example<'a> {
    what: &'a str,
    bytes: Vec<u8>,
    remarks: Vec<&'a str>,
}

/// The worked examples whose first line begins with `kind`.
fn examples<'a>(text: &'a str, kind: &str) -> Vec<Example<'a>> {
    blocks(text)
        .into_iter()
        .filter_map(|block| block.split_once('\n'))
        .filter_map(|(head, lines)| Some((head.strip_prefix(kind)?, lines)))
        .map(|(what, lines)| {
            let mut example = Example {
                what,
                bytes: Vec::new(),
                remarks: Vec::new(),
            };
            for line in lines.lines() {
                let (offset, rest) = line.trim_start().split_once("  ").expect("an offset");
                let (hex, remark) = rest.split_once("   ").expect("bytes and a remark");
                assert_eq!(number(offset), example.bytes.len() as u64, "{what}: {line}");
                let row: Vec<u8> = hex
                    .split(' ')
                    .map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hex"))
                    .collect();
                assert_eq!(row.len(), 8, "{what}: {line}");
                example.bytes.extend(row);
                example.remarks.push(remark);
            }
            example
        })
        .collect()
}

#[test]
fn worked_ledgers_are_what_the_code_writes() {
    let page = page();
    let examples = examples(&page, "ledger: ");
    assert_eq!(examples.len(), 2);
    for example in &examples {
        let value = |name: &str| {
            let field = example
                .what
                .split(", ")
                .find_map(|field| field.strip_prefix(name));
            number(field.unwrap_or_else(|| panic!("no {name:?} in {}", example.what)))
        };
        let state = LedgerState {
            writer_next_record_id: value("next "),
            writer_file_id: value("writer file ") as u16,
            reader_file_id: value("reader file ") as u16,
            reader_last_record_id: value("last "),
        };
        assert_eq!(example.bytes, state.to_bytes(), "{}", example.what);
        assert_eq!(LedgerState::from_bytes(&example.bytes), Ok(state));
    }
    assert_eq!(examples[0].bytes, LedgerState::INITIAL.to_bytes());
}

/// What a record example's first line says: id, metadata, payload.
fn record(what: &str) -> (u64, u32, Vec<u8>) {
    let mut parts = what.splitn(3, ", ");
    let mut part = |name: &str| {
        let part = parts.next().and_then(|part| part.strip_prefix(name));
        part.unwrap_or_else(|| panic!("no {name:?} in {what}"))
    };
    let (id, metadata) = (number(part("id ")), number(part("metadata ")));
    let payload = part("payload ").trim_matches('"').replace("\\n", "\n");
    (id, metadata as u32, payload.into_bytes())
}

#[test]
fn worked_records_are_what_the_code_writes() {
    let page = page();
    let examples = examples(&page, "record: ");
    assert!(examples.len() >= 5, "{} examples", examples.len());
    for example in examples {
        let (id, metadata, payload) = record(example.what);
        assert_eq!(
            example.bytes,
            framed(id, metadata, &payload),
            "{}",
            example.what
        );
        let remarks = example.remarks.join("; ");
        let padded = padded_len(payload.len());
        for said in [
            format!("delimiter: {} bytes follow", padded + ROOT_LEN),
            format!("pointer -{}", 20 + padded),
        ] {
            assert!(
                remarks.contains(&said),
                "{} does not say {said:?}",
                example.what
            );
        }
    }
}

#[test]
fn worked_ids_step_by_the_events_of_the_record_before() {
    let lines = EventCounter::new(|_, payload| payload.split(|b| *b == b'\n').count() as u64);
    let page = page();
    let records: Vec<_> = examples(section(&page, "Ids"), "record: ")
        .iter()
        .map(|example| record(example.what))
        .collect();
    assert!(records.len() >= 2, "no two records in a row");
    for pair in records.windows(2) {
        let (id, metadata, payload) = &pair[0];
        assert!(
            lines.count(*metadata, payload) > 1,
            "record {id} holds one event"
        );
        assert_eq!(pair[1].0, id + lines.count(*metadata, payload));
    }
}
