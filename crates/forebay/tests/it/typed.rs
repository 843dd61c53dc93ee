//! The typed layer.

use std::time::Duration;

use forebay::{
    Codec, Config, ErrorKind, EventCounter, Json, JsonLines, Text, TypedItem, TypedReader,
};
use futures_util::StreamExt as _;

use crate::support::temp_dir;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Order {
    number: u32,
    items: Vec<String>,
}

/// Text with one event a line; refuses to encode an empty text.
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

/// The async layer counts events, decodes, and sets undecodable records apart like the blocking
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn values_go_through_futures() {
    let dir = temp_dir();
    let config = || Config::new(dir.path());
    let (writer, mut reader) = config()
        .open_typed_async(JsonLines::<u32>::new())
        .await
        .unwrap();
    assert_eq!(writer.append(&vec![1, 2]).await.unwrap().id(), Some(1));
    assert_eq!(writer.try_append(&vec![3]).await.unwrap().id(), Some(3));
    let long = Duration::from_secs(60);
    let receipt = writer.append_timeout(&vec![4], long).await.unwrap();
    receipt.synced().await.unwrap();
    let appended = writer.append_batch(&[vec![5, 6], vec![7]]).await.unwrap();
    assert_eq!(appended.receipt().id(), Some(7));
    let error = writer.append_batch(&[vec![8], vec![]]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    assert_eq!(
        (error.accepted(), writer.get_ref().usage().next_record_id),
        (0, 8)
    );
    writer.get_ref().append(b"no JSON").await.unwrap();
    writer.flush_timeout(long).await.unwrap();
    writer.close().await.unwrap();
    let mut values = Vec::new();
    let mut undecodable = Vec::new();
    let mut take = |item: TypedItem<Vec<u32>>| match item {
        TypedItem::Record { value, delivery } => {
            assert_eq!(delivery.events(), value.len() as u64);
            values.extend(value);
            delivery.ack();
        }
        TypedItem::Undecodable { delivery, .. } => {
            undecodable.push(delivery.id());
            delivery.ack();
        }
        TypedItem::Lost(lost) => panic!("{lost}"),
    };
    take(reader.recv().await.unwrap().unwrap());
    take(reader.recv_timeout(long).await.unwrap().ready().unwrap());
    take(reader.try_recv().await.unwrap().ready().unwrap());
    for item in reader.recv_batch(2, u64::MAX).await.unwrap().unwrap() {
        take(item);
    }
    while let Some(item) = reader.next().await {
        take(item.unwrap());
    }
    assert_eq!(values, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(undecodable, [8]);
    assert_eq!(reader.get_ref().usage().undecodable_records, 1);
    reader.close_timeout(long).await.unwrap();
}

/// Regression: a `RawValue` was accepted with the line feeds in it, and what came out was an
/// undecodable record of three events.
#[test]
fn an_item_whose_json_has_a_line_feed_is_refused() {
    use serde_json::value::RawValue;

    let dir = temp_dir();
    let codec = JsonLines::<Box<RawValue>>::new();
    let (writer, mut reader) = Config::new(dir.path()).open_typed(codec).unwrap();
    let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
    let (line, lines) = (|| raw(r#"{"a": "\n"}"#), || raw("{\n \"a\": 1}"));
    let error = writer.append(&vec![line(), lines()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    assert!(
        error.to_string().contains("item 1 has a line feed"),
        "{error}"
    );
    let error = writer.append_batch(&[vec![line()], vec![lines()]]);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidRecord);
    // A line feed within a string is escaped in JSON.
    writer.append(&vec![line(), line()]).unwrap();
    drop(writer);
    let Some(TypedItem::Record { value, delivery }) = reader.recv().unwrap() else {
        panic!("a value was expected");
    };
    assert_eq!((value.len(), delivery.id(), delivery.events()), (2, 1, 2));
    assert!(reader.recv().unwrap().is_none());
}

/// Regression: an undecodable record was counted again after each rewind.
#[test]
fn an_undecodable_record_counts_once() {
    let dir = temp_dir();
    let (writer, mut reader) = Config::new(dir.path()).open_typed(Text).unwrap();
    writer.get_ref().append(b"\xff").unwrap();
    writer.append(&"text".to_owned()).unwrap();
    writer.get_ref().append(b"\xfe").unwrap();
    for _ in 0..3 {
        for _ in 0..3 {
            assert!(reader.recv().unwrap().is_some());
        }
        reader.get_mut().rewind();
    }
    assert_eq!(writer.get_ref().usage().undecodable_records, 2);
}
