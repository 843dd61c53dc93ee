//! The typed layer.

use forebay::{Codec, Config, ErrorKind, Json, TypedItem, TypedReader};

use crate::support::temp_dir;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Order {
    number: u32,
    items: Vec<String>,
}

/// Lines: as many events as lines; refuses to encode an empty one.
struct Lines(String);

impl Codec for Lines {
    type EncodeError = &'static str;
    type DecodeError = std::string::FromUtf8Error;

    fn metadata() -> u32 {
        9
    }

    fn encode(&self, payload: &mut Vec<u8>) -> Result<(), &'static str> {
        if self.0.is_empty() {
            return Err("no lines");
        }
        payload.extend_from_slice(self.0.as_bytes());
        Ok(())
    }

    fn decode(_metadata: u32, payload: bytes::Bytes) -> Result<Self, Self::DecodeError> {
        String::from_utf8(payload.to_vec()).map(Lines)
    }

    fn count_events(_metadata: u32, payload: &[u8]) -> u64 {
        payload.split(|b| *b == b'\n').count() as u64
    }
}

#[test]
fn values_go_in_and_come_out() {
    let dir = temp_dir();
    let (writer, mut reader) = forebay::open_typed::<Json<Order>>(Config::new(dir.path())).unwrap();
    let order = Order {
        number: 7,
        items: vec!["a".into(), "b".into()],
    };
    writer.append(&Json(order)).unwrap();
    let Some(TypedItem::Record {
        value: Json(order),
        delivery,
    }) = reader.next().unwrap()
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
    let (writer, _reader) = forebay::open_typed::<Lines>(Config::new(dir.path())).unwrap();
    assert_eq!(writer.append(&Lines("a\nb\nc".into())).unwrap().id(), 1);
    assert_eq!(writer.append(&Lines("d".into())).unwrap().id(), 4);
    let error = writer.append(&Lines(String::new())).unwrap_err();
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
    let mut reader = TypedReader::<String>::new(reader);
    let mut seen = Vec::new();
    while let Some(item) = reader.next().unwrap() {
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
