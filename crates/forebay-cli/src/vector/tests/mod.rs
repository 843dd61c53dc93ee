//! Payloads written by Vector, and other payloads with metadata 1.

use super::message::{
    AgentDdSketch, Distribution1, Distribution2, Histogram1, Histogram2, Log, Metadata, Metric,
    OutputId, Sample, Secrets, Sketch, Summary1, TagValue, TagValues, Timestamp, Trace, Value,
    ValueArray, ValueMap, metric, value,
};
use super::{METADATA, Shown, count_events, decode_events};
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

mod single_and_unknown;

#[derive(Clone, PartialEq, Message)]
struct Logs {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Log>,
}

#[derive(Clone, PartialEq, Message)]
struct Metrics {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Traces {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Trace>,
}

/// The whole message, as a decoder that was generated from it would see it.
#[derive(Clone, PartialEq, Message)]
struct EventArray {
    #[prost(message, optional, tag = "1")]
    logs: Option<Logs>,
    #[prost(message, optional, tag = "2")]
    metrics: Option<Metrics>,
    #[prost(message, optional, tag = "3")]
    traces: Option<Traces>,
}

fn logs(events: Vec<Log>) -> Vec<u8> {
    EventArray {
        logs: Some(Logs { events }),
        ..EventArray::default()
    }
    .encode_to_vec()
}

fn metrics(events: Vec<Metric>) -> Vec<u8> {
    EventArray {
        metrics: Some(Metrics { events }),
        ..EventArray::default()
    }
    .encode_to_vec()
}

fn log_of(kind: value::Kind) -> Log {
    Log {
        value: Some(Value { kind: Some(kind) }),
        ..Log::default()
    }
}

fn map(fields: Vec<(&str, value::Kind)>) -> value::Kind {
    value::Kind::Map(ValueMap {
        fields: fields
            .into_iter()
            .map(|(key, kind)| (key.to_owned(), Value { kind: Some(kind) }))
            .collect(),
    })
}

fn text(text: &str) -> value::Kind {
    value::Kind::RawBytes(text.as_bytes().to_vec())
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn decoded(payload: &[u8]) -> Vec<Json> {
    decode_events(METADATA, payload, &Shown::default()).expect("an event array")
}

/// The one event of a metric array.
fn shown_metric(metric: Metric) -> Json {
    decoded(&metrics(vec![metric])).remove(0)
}

#[test]
fn a_log_written_by_vector_is_its_value() {
    let payload = hex(concat!(
        "0a95010a9201127b3a790a120a076d65737361676512070a0568656c6c6f0a1a0a0974696d657374616d70",
        "120d120b0880e2cfaa0610959aef3a0a0a0a046e6f6e65120248000a080a026f6b120230010a0d0a067374",
        "61747573120320c8010a0f0a04686f737412070a057765622d310a110a04746f6f6b120929000000000000",
        "f83f22130a023a001a02696e220964656d6f5f6c6f6773"
    ));
    assert_eq!(count_events(METADATA, &payload), Some(1));
    assert_eq!(
        decoded(&payload),
        [json!({
            "message": "hello",
            "timestamp": "2023-11-14T22:13:20.123456789Z",
            "none": null,
            "ok": true,
            "status": 200,
            "host": "web-1",
            "took": 1.5,
        })]
    );
    let shown = Shown {
        metadata: true,
        ..Shown::default()
    };
    let with_metadata = decode_events(METADATA, &payload, &shown).unwrap().remove(0);
    assert_eq!(with_metadata["event"]["message"], "hello");
    assert_eq!(
        with_metadata["metadata"],
        json!({
            "value": {},
            "source_id": "in",
            "source_type": "demo_logs",
            "upstream_id": null,
            "source_event_id": null,
            "secrets": {},
        })
    );
}

#[test]
fn a_log_of_an_old_version_is_its_fields() {
    let payload = hex(concat!(
        "0a3b0a390a260a076d657373616765121b0a197772697474656e20627920616e206f6c642076657273696f",
        "6e0a0f0a056c6576656c12060a047761726e"
    ));
    assert_eq!(
        decoded(&payload),
        [json!({"message": "written by an old version", "level": "warn"})]
    );
}

#[test]
fn a_trace_is_its_fields() {
    let payload = hex(concat!(
        "1a5f0a5d0a480a057370616e73123f423d0a3b3a390a0e0a086475726174696f6e1202200c0a160a057374",
        "617274120d120b0880e2cfaa0610959aef3a0a0f0a046e616d6512070a05474554202f0a110a0874726163",
        "655f696412050a03616263"
    ));
    assert_eq!(
        decoded(&payload),
        [json!({
            "trace_id": "abc",
            "spans": [{
                "name": "GET /",
                "duration": 12,
                "start": "2023-11-14T22:13:20.123456789Z",
            }],
        })]
    );
}

#[test]
fn a_metric_has_its_name_kind_tags_and_value() {
    let tag = |value: Option<&str>| TagValue {
        value: value.map(str::to_owned),
    };
    let metric = Metric {
        name: "requests".into(),
        namespace: "app".into(),
        timestamp: Some(Timestamp {
            seconds: 1_700_000_000,
            nanos: 5,
        }),
        interval_ms: 10_000,
        kind: 1,
        tags_v2: BTreeMap::from([
            (
                "code".into(),
                TagValues {
                    values: vec![tag(Some("200"))],
                },
            ),
            (
                "bare".into(),
                TagValues {
                    values: vec![tag(None)],
                },
            ),
            (
                "many".into(),
                TagValues {
                    values: vec![tag(Some("a")), tag(None)],
                },
            ),
        ]),
        value: Some(metric::Value::Counter(super::message::Scalar {
            value: 3.0,
        })),
        ..Metric::default()
    };
    assert_eq!(
        shown_metric(metric),
        json!({
            "name": "requests",
            "namespace": "app",
            "kind": "absolute",
            "timestamp": "2023-11-14T22:13:20.000000005Z",
            "interval_ms": 10_000,
            "tags": {"code": "200", "bare": null, "many": ["a", null]},
            "counter": {"value": 3.0},
        })
    );
}

#[test]
fn old_and_new_encodings_of_a_metric_look_alike() {
    let of = |value| {
        shown_metric(Metric {
            value: Some(value),
            ..Metric::default()
        })
    };
    let old = of(metric::Value::Distribution1(Distribution1 {
        values: vec![1.5, 9.0],
        sample_rates: vec![2, 1],
        statistic: 1,
    }));
    let new = of(metric::Value::Distribution2(Distribution2 {
        samples: vec![
            Sample {
                value: 1.5,
                rate: 2,
            },
            Sample {
                value: 9.0,
                rate: 1,
            },
        ],
        statistic: 1,
    }));
    assert_eq!(old, new);
    assert_eq!(
        new["distribution"],
        json!({"samples": [{"value": 1.5, "rate": 2}, {"value": 9.0, "rate": 1}], "statistic": "summary"})
    );

    let old = of(metric::Value::AggregatedHistogram1(Histogram1 {
        buckets: vec![1.0, f64::INFINITY],
        counts: vec![4, 1],
        count: 5,
        sum: 12.5,
    }));
    let new = of(metric::Value::AggregatedHistogram2(Histogram2 {
        buckets: vec![
            super::message::Bucket2 {
                upper_limit: 1.0,
                count: 4,
            },
            super::message::Bucket2 {
                upper_limit: f64::INFINITY,
                count: 1,
            },
        ],
        count: 5,
        sum: 12.5,
    }));
    assert_eq!(old, new);
    assert_eq!(
        new["aggregated_histogram"]["buckets"][1],
        json!({"upper_limit": "Infinity", "count": 1})
    );

    let summary = of(metric::Value::AggregatedSummary1(Summary1 {
        quantiles: vec![0.5],
        values: vec![2.0],
        count: 11,
        sum: 30.0,
    }));
    assert_eq!(
        summary["aggregated_summary"],
        json!({"quantiles": [{"quantile": 0.5, "value": 2.0}], "count": 11, "sum": 30.0})
    );

    let sketch = of(metric::Value::Sketch(Sketch {
        agent_dd_sketch: Some(AgentDdSketch {
            count: 2,
            min: 1.0,
            max: 3.0,
            sum: 4.0,
            avg: 2.0,
            k: vec![-7, 1338],
            n: vec![1, 1],
        }),
    }));
    assert_eq!(
        sketch["sketch"],
        json!({"count": 2, "min": 1.0, "max": 3.0, "sum": 4.0, "avg": 2.0, "k": [-7, 1338], "n": [1, 1]})
    );
}

#[test]
fn what_json_does_not_have_is_marked() {
    let payload = logs(vec![
        log_of(map(vec![
            ("bytes", value::Kind::RawBytes(vec![0xff, 0xfe])),
            ("nan", value::Kind::Float(f64::NAN)),
            (
                "never",
                value::Kind::Timestamp(Timestamp {
                    seconds: i64::MAX,
                    nanos: 1,
                }),
            ),
            (
                "before",
                value::Kind::Timestamp(Timestamp {
                    seconds: -1,
                    nanos: 500_000_000,
                }),
            ),
        ])),
        log_of(value::Kind::Array(ValueArray {
            items: vec![
                Value { kind: None },
                Value {
                    kind: Some(text("x")),
                },
            ],
        })),
    ]);
    assert_eq!(
        decoded(&payload),
        [
            json!({
                "bytes": {"$base64": "//4="},
                "nan": "NaN",
                "never": {"$timestamp": {"seconds": i64::MAX, "nanos": 1}},
                "before": "1969-12-31T23:59:59.500000000Z",
            }),
            json!([null, "x"]),
        ]
    );
}

#[test]
fn a_secret_is_shown_only_when_asked_for_by_name() {
    let payload = logs(vec![Log {
        metadata_full: Some(Metadata {
            upstream_id: Some(OutputId {
                component: "route".into(),
                port: Some("errors".into()),
            }),
            secrets: Some(Secrets {
                entries: BTreeMap::from([
                    ("api_key".into(), "hunter2".into()),
                    ("token".into(), "swordfish".into()),
                ]),
            }),
            source_event_id: (0..16).collect(),
            ..Metadata::default()
        }),
        ..log_of(text("m"))
    }]);
    let show = |metadata, secrets: &[&str]| {
        let shown = Shown {
            metadata,
            secrets: secrets.iter().map(|s| (*s).to_owned()).collect(),
        };
        decode_events(METADATA, &payload, &shown).unwrap().remove(0)
    };
    assert_eq!(show(false, &["api_key"]), json!("m"));
    let metadata = &show(true, &[])["metadata"];
    assert_eq!(metadata["secrets"], json!({"api_key": null, "token": null}));
    assert_eq!(
        metadata["upstream_id"],
        json!({"component": "route", "port": "errors"})
    );
    assert_eq!(
        metadata["source_event_id"],
        "00010203-0405-0607-0809-0a0b0c0d0e0f"
    );
    assert_eq!(
        show(true, &["token"])["metadata"]["secrets"],
        json!({"api_key": null, "token": "swordfish"})
    );
}

#[test]
fn other_metadata_and_other_payloads_are_no_event_array() {
    let payload = logs(vec![log_of(text("a")), log_of(text("b"))]);
    assert_eq!(count_events(METADATA, &payload), Some(2));
    assert_eq!(count_events(0, &payload), None);
    assert_eq!(decode_events(5, &payload, &Shown::default()), None);
    for other in [
        &b"\x1f"[..],
        b"\x3e\x45",
        b"\x5d\x64\x6b",
        b"",
        b"a line of text",
        &payload[..payload.len() - 1],
        // An array without events, and a length of 2^63.
        b"\x0a\x00",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ] {
        assert_eq!(count_events(METADATA, other), None, "{other:?}");
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let mut kind = text("bottom");
    for _ in 0..500 {
        kind = value::Kind::Array(ValueArray {
            items: vec![Value { kind: Some(kind) }],
        });
    }
    let payload = logs(vec![log_of(kind)]);
    assert_eq!(count_events(METADATA, &payload), None);
}

fn any_kind() -> impl Strategy<Value = value::Kind> {
    let leaf = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(value::Kind::RawBytes),
        any::<i64>().prop_map(value::Kind::Integer),
        any::<f64>().prop_map(value::Kind::Float),
        any::<bool>().prop_map(value::Kind::Boolean),
        (any::<i64>(), any::<i32>())
            .prop_map(|(seconds, nanos)| value::Kind::Timestamp(Timestamp { seconds, nanos })),
        Just(value::Kind::Null(0)),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        let item = inner.prop_map(|kind| Value { kind: Some(kind) });
        prop_oneof![
            proptest::collection::vec(item.clone(), 0..4)
                .prop_map(|items| value::Kind::Array(ValueArray { items })),
            proptest::collection::btree_map("[a-z]{0,3}", item, 0..4)
                .prop_map(|fields| value::Kind::Map(ValueMap { fields })),
        ]
    })
}

proptest! {
    #[test]
    fn counting_agrees_with_a_full_decoder(
        kinds in proptest::collection::vec(any_kind(), 0..5),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut payload = logs(kinds.into_iter().map(log_of).collect());
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        let expected = EventArray::decode(&payload[..]).ok().and_then(|array| {
            let counts = [
                array.logs.map(|a| a.events.len()),
                array.metrics.map(|a| a.events.len()),
                array.traces.map(|a| a.events.len()),
            ];
            // Several kinds in one payload are nothing that Vector writes.
            match counts.iter().flatten().collect::<Vec<_>>()[..] {
                [count] if *count > 0 => Some(*count as u64),
                _ => None,
            }
        });
        // Damage may leave one event without an array.
        let expected = expected.or_else(|| super::single_event(&payload).map(|_event| 1));
        prop_assert_eq!(count_events(METADATA, &payload), expected);
        let shown = decode_events(METADATA, &payload, &Shown::default());
        prop_assert_eq!(shown.map(|events| events.len() as u64), expected);
    }
}
