//! The typed layer.

use forebay::{Codec, Config, ErrorKind, EventCounter, Json, Text, TypedItem, TypedReader};

use crate::support::temp_dir;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Order {
    number: u32,
    items: Vec<String>,
}

/// Lines: as many events as lines; refuses to encode an empty one.
struct Lines;

impl Codec for Lines {
    type Value = String;
    type EncodeError = &'static str;
    type DecodeError = std::string::FromUtf8Error;

    fn metadata(&self) -> u32 {
        9
    }

    fn encode(&self, value: &String, payload: &mut Vec<u8>) -> Result<(), &'static str> {
        if value.is_empty() {
            return Err("no lines");
        }
        payload.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn decode(&self, _metadata: u32, payload: bytes::Bytes) -> Result<String, Self::DecodeError> {
        String::from_utf8(payload.to_vec())
    }

    fn event_counter(&self) -> Option<EventCounter> {
        Some(EventCounter::new(|_, payload| {
            payload.split(|b| *b == b'\n').count() as u64
        }))
    }
}

#[test]
fn values_go_in_and_come_out() {
    let dir = temp_dir();
    let (writer, mut reader) = Config::new(dir.path())
        .open_typed(Json::<Order>::new())
        .unwrap();
    let order = Order {
        number: 7,
        items: vec!["a".into(), "b".into()],
    };
    writer.append(&order).unwrap();
    let Some(TypedItem::Record {
        value: order,
        delivery,
    }) = reader.recv().unwrap()
    else {
        panic!("a value was expected");
    };
    assert_eq!((order.number, order.items.len()), (7, 2));
    assert_eq!(
        &delivery.payload()[..],
        br#"{"number":7,"items":["a","b"]}"#
    );
    delivery.ack();
    assert_eq!(reader.get_mut().usage().acknowledged.events, 1);
}

#[test]
fn the_codec_counts_the_events() {
    let dir = temp_dir();
    let (writer, _reader) = Config::new(dir.path()).open_typed(Lines).unwrap();
    assert_eq!(writer.append(&"a\nb\nc".to_owned()).unwrap().id(), Some(1));
    assert_eq!(writer.append(&"d".to_owned()).unwrap().id(), Some(4));
    let error = writer.append(&String::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    assert!(error.to_string().contains("no lines"), "{error}");
}

#[test]
fn what_cannot_be_decoded_is_delivered_as_such_and_stops_nothing() {
    let dir = temp_dir();
    let (writer, reader) = crate::support::open(&Config::new(dir.path()));
    writer.append(b"fine").unwrap();
    writer.append(b"\xff\xfe").unwrap();
    writer.append_with(5, b"other metadata").unwrap();
    writer.append(b"also fine").unwrap();
    drop(writer);
    let mut reader = TypedReader::new(reader, Text);
    let mut seen = Vec::new();
    while let Some(item) = reader.recv().unwrap() {
        match item {
            TypedItem::Record { value, delivery } => {
                seen.push(value);
                delivery.ack();
            }
            TypedItem::Undecodable { delivery, reason } => {
                seen.push(format!("{}: {reason}", delivery.id()));
                delivery.ack();
            }
            TypedItem::Lost(lost) => panic!("{lost}"),
        }
    }
    assert_eq!(seen[0], "fine");
    assert!(seen[1].starts_with("2: invalid utf-8"), "{}", seen[1]);
    assert_eq!(seen[2], "3: metadata 5 is not supported (expected 0)");
    assert_eq!(seen[3], "also fine");
    let usage = reader.get_mut().usage();
    assert_eq!((usage.undecodable_records, usage.unread.events), (2, 0));
}
