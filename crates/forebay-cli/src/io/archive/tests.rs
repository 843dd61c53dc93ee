//! Exports that are whole, cut off and damaged.

use super::*;
use proptest::prelude::*;

/// A record that was read: id, events, metadata and payload.
type Read = (u64, u64, u32, Vec<u8>);

const HEADER: Header = Header {
    all: true,
    salvage: false,
    decoded: false,
    acknowledged_id: 4,
    next_record_id: 1 << 40,
};

fn write(format: Format, records: &[Read]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(format, &HEADER, &mut bytes);
    for (id, events, metadata, payload) in records {
        let entry = Entry {
            id: *id,
            events: *events,
            metadata: *metadata,
            payload,
        };
        writer.record(&entry, None, &mut bytes);
    }
    writer.end(&mut bytes);
    bytes
}

fn read(bytes: &[u8]) -> Result<(Header, Vec<Read>)> {
    let source = feed::Source::Memory(std::io::Cursor::new(bytes.to_vec()));
    let feed = Feed::new(source, "memory".to_owned(), None);
    let Next::Item((header, mut reader)) = Reader::open(feed)? else {
        unreachable!("nothing stops it");
    };
    let mut records = Vec::new();
    loop {
        match reader.next()? {
            Next::Item(entry) => records.push((
                entry.id,
                entry.events,
                entry.metadata,
                entry.payload.to_vec(),
            )),
            Next::End => return Ok((header, records)),
            Next::Stopped => unreachable!("nothing stops it"),
        }
    }
}

fn some() -> Vec<Read> {
    vec![
        (1, 1, 0, b"a line\nand \"more\"\0".to_vec()),
        (2, 1, u32::MAX, Vec::new()),
        (7, 3, 1, vec![0xff, 0xfe, 0x80]),
        (1 << 39, 1, 2, "\u{e9}\u{2028}".into()),
    ]
}

const FORMATS: [Format; 2] = [Format::Ndjson, Format::Binary];

#[test]
fn an_export_without_records_is_read() {
    for format in FORMATS {
        assert_eq!(read(&write(format, &[])).unwrap(), (HEADER, Vec::new()));
    }
}

#[test]
fn an_export_that_is_cut_off_anywhere_is_refused() {
    for format in FORMATS {
        let bytes = write(format, &some());
        assert_eq!(read(&bytes).unwrap(), (HEADER, some()));
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{format:?} {len}");
        }
        let more = [&bytes[..], b"x"].concat();
        let error = read(&more).unwrap_err().message;
        assert!(error.contains("more bytes follow"), "{error}");
    }
}

#[test]
fn an_export_that_lacks_a_record_or_repeats_one_is_refused() {
    for format in FORMATS {
        let whole = write(format, &some());
        // Where each record ends.
        let mut bytes = Vec::new();
        let mut writer = Writer::new(format, &HEADER, &mut bytes);
        let mut ends = vec![bytes.len()];
        for (id, events, metadata, payload) in &some() {
            let entry = Entry {
                id: *id,
                events: *events,
                metadata: *metadata,
                payload,
            };
            writer.record(&entry, None, &mut bytes);
            ends.push(bytes.len());
        }
        for pair in ends.windows(2) {
            let [begin, end] = pair else { unreachable!() };
            let (record, rest) = (&whole[*begin..*end], &whole[*end..]);
            for wrong in [
                [&whole[..*begin], rest].concat(),
                [&whole[..*end], record, rest].concat(),
            ] {
                let error = read(&wrong).unwrap_err().message;
                assert!(
                    error.contains("does not hold as many records as it says"),
                    "{format:?}: {error}"
                );
            }
        }
    }
}

#[test]
fn every_bit_of_a_binary_export_counts() {
    let bytes = write(Format::Binary, &some());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(read(&damaged).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn damage_to_an_export_in_text_never_changes_a_record() {
    let bytes = write(Format::Ndjson, &some());
    let mut noticed = 0;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            match read(&damaged) {
                Ok((header, records)) => {
                    assert_eq!(header, HEADER, "byte {at}, bit {bit}");
                    assert_eq!(records, some(), "byte {at}, bit {bit}");
                }
                Err(_) => noticed += 1,
            }
        }
    }
    assert!(
        noticed > 4 * bytes.len(),
        "{noticed} of {}",
        8 * bytes.len()
    );
}

#[test]
fn a_line_may_be_edited_without_its_checksum() {
    let text = String::from_utf8(write(Format::Ndjson, &some())).unwrap();
    let edited = text.replacen("a line", "one line", 1);
    let error = read(edited.as_bytes()).unwrap_err().message;
    assert!(
        error.contains("line 2 of the export: its checksum"),
        "{error}"
    );
    let sum = checksum(1, 0, &some()[0].3);
    let edited = edited.replacen(&format!("\"checksum\":{sum},"), "", 1);
    let (_, records) = read(edited.as_bytes()).unwrap();
    assert_eq!(records[0].3, b"one line\nand \"more\"\0");
}

#[test]
fn other_versions_are_named() {
    let mut bytes = write(Format::Binary, &[]);
    bytes[8] = 2;
    let text = String::from_utf8(write(Format::Ndjson, &[])).unwrap();
    let text = text.replacen("\"version\":1", "\"version\":2", 1);
    for other in [&bytes[..], text.as_bytes()] {
        let error = read(other).unwrap_err().message;
        assert!(error.contains("has version 2"), "{error}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        records in proptest::collection::vec(
            (1_u64.., 1_u64..100, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..50)),
            0..20,
        ),
        is_text in any::<bool>(),
    ) {
        let format = if is_text { Format::Ndjson } else { Format::Binary };
        let mut records = records;
        if is_text {
            // Text is likely in half of them.
            for (_, _, _, payload) in records.iter_mut().step_by(2) {
                payload.iter_mut().for_each(|byte| *byte &= 0x7f);
            }
        }
        prop_assert_eq!(read(&write(format, &records)).unwrap(), (HEADER, records));
    }
}
