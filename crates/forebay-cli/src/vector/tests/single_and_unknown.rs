//! Events that stand alone, without an array, and fields that a newer version adds.

use super::*;

/// A length-delimited field, by hand: the tests below do not use the decoder's own encoding.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = varint(u64::from(number << 3 | 2));
    encoded.extend(varint(bytes.len() as u64));
    encoded.extend(bytes);
    encoded
}

fn number_field(number: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(number << 3)), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut encoded = Vec::new();
    while value >= 0x80 {
        encoded.push(value as u8 | 0x80);
        value >>= 7;
    }
    encoded.push(value as u8);
    encoded
}

/// `{"message": text}` as a value.
fn message_value(text: &[u8]) -> Vec<u8> {
    let entry = [field(1, b"message"), field(2, &field(1, text))].concat();
    field(7, &field(1, &entry))
}

#[test]
fn an_event_without_an_array_is_decoded() {
    let log = field(2, &message_value(b"alone"));
    let old_log = field(
        1,
        &[field(1, b"message"), field(2, &field(1, b"old"))].concat(),
    );
    let metric = [field(1, b"requests"), number_field(4, 1), field(5, &[])].concat();
    let trace = field(1, &[field(1, b"id"), field(2, &field(1, b"7"))].concat());
    for (payload, shown) in [
        (field(1, &log), json!({"message": "alone"})),
        (field(1, &old_log), json!({"message": "old"})),
        (
            field(2, &metric),
            json!({
                "name": "requests", "namespace": null, "kind": "absolute", "timestamp": null,
                "interval_ms": null, "tags": {}, "counter": {"value": 0.0},
            }),
        ),
        (field(3, &trace), json!({"id": "7"})),
    ] {
        assert_eq!(count_events(METADATA, &payload), Some(1), "{payload:?}");
        assert_eq!(decoded(&payload), [shown]);
        assert_eq!(count_events(0, &payload), None);
        // Several events are an array, or nothing.
        assert_eq!(count_events(METADATA, &payload.repeat(2)), None);
        assert_eq!(
            count_events(METADATA, &payload[..payload.len() - 1]),
            None,
            "{payload:?}"
        );
    }
}

#[test]
fn fields_of_a_newer_version_are_shown() {
    let event_of = |more: &[u8]| [field(2, &message_value(b"m")), more.to_vec()].concat();
    let shown = |payload: &[u8], metadata| {
        let shown = Shown {
            metadata,
            ..Shown::default()
        };
        let events = decode_events(METADATA, payload, &shown).unwrap();
        assert_eq!(events.len(), 1);
        events[0].clone()
    };
    for wrap in [
        |event: Vec<u8>| field(1, &field(1, &event)),
        |event: Vec<u8>| field(1, &event),
    ] {
        let more = [
            number_field(9, 300),
            field(10, b"new"),
            field(10, b"twice"),
            field(11, &[0xff]),
            [varint(12 << 3 | 1), 5_u64.to_le_bytes().to_vec()].concat(),
            [varint(13 << 3 | 5), 6_u32.to_le_bytes().to_vec()].concat(),
        ];
        let event = wrap(event_of(&more.concat()));
        assert_eq!(
            shown(&event, false),
            json!({
                "message": "m",
                "$unknown": {
                    "9": 300, "10": ["new", "twice"], "11": {"$base64": "/w=="}, "12": 5, "13": 6,
                },
            })
        );
        // Deep in the value of a log that is no object.
        let odd = [field(1, b"text"), number_field(23, 1)].concat();
        let event = wrap(field(2, &field(8, &field(1, &odd))));
        assert_eq!(
            shown(&event, false),
            json!({"$value": ["text"], "$unknown": {"2.8.1.23": 1}})
        );
        // What is in the metadata may be a secret.
        let secret = [field(3, b"in"), field(9, b"hunter2"), number_field(10, 4)].concat();
        let event = wrap(event_of(&field(4, &secret)));
        assert_eq!(shown(&event, false), json!({"message": "m"}));
        let with_metadata = shown(&event, true);
        assert_eq!(with_metadata["metadata"]["source_id"], "in");
        assert_eq!(
            with_metadata["$unknown"],
            json!({"4.9": {"$length": 7}, "4.10": 4})
        );
        // Beside the event.
        let record = [wrap(event_of(&[])), number_field(15, 1)].concat();
        assert_eq!(
            shown(&record, false),
            json!({"message": "m", "$unknown_in_record": {"15": 1}})
        );
    }
}

#[test]
fn nothing_that_is_declared_counts_as_unknown() {
    let values: Vec<metric::Value> = vec![
        metric::Value::Counter(crate::vector::message::Scalar { value: 1.0 }),
        metric::Value::Set(crate::vector::message::Set {
            values: vec!["a".into()],
        }),
        metric::Value::Distribution1(Distribution1 {
            values: vec![1.0],
            sample_rates: vec![2],
            statistic: 1,
        }),
        metric::Value::Distribution2(Distribution2 {
            samples: vec![Sample {
                value: 1.0,
                rate: 1,
            }],
            statistic: 1,
        }),
        metric::Value::AggregatedHistogram1(Histogram1 {
            buckets: vec![1.0],
            counts: vec![4],
            count: 5,
            sum: 12.5,
        }),
        metric::Value::AggregatedHistogram2(Histogram2 {
            buckets: vec![crate::vector::message::Bucket2 {
                upper_limit: 1.0,
                count: 4,
            }],
            count: 1,
            sum: 1.0,
        }),
        metric::Value::AggregatedSummary1(Summary1 {
            quantiles: vec![0.5],
            values: vec![2.0],
            count: 11,
            sum: 30.0,
        }),
        metric::Value::Sketch(Sketch {
            agent_dd_sketch: Some(AgentDdSketch {
                count: 2,
                min: 1.0,
                max: 3.0,
                sum: 4.0,
                avg: 2.0,
                k: vec![1],
                n: vec![1],
            }),
        }),
    ];
    for value in values {
        let metric = Metric {
            name: "m".into(),
            namespace: "n".into(),
            timestamp: Some(Timestamp {
                seconds: 1,
                nanos: 1,
            }),
            interval_ms: 1,
            kind: 1,
            tags_v1: BTreeMap::from([("a".into(), "b".into())]),
            tags_v2: BTreeMap::from([(
                "k".into(),
                TagValues {
                    values: vec![TagValue {
                        value: Some("v".into()),
                    }],
                },
            )]),
            value: Some(value),
            ..Metric::default()
        };
        let json = shown_metric(metric);
        assert_eq!(json.get("$unknown"), None, "{json}");
    }
}
