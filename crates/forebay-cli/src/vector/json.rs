//! Vector's events as JSON.
//!
//! Invariants: nothing is silently changed (bytes that are not UTF-8, numbers
//! that JSON does not have and timestamps out of range are marked as such), the
//! old and the new encoding of the same event look the same, and a secret is
//! printed only when it was asked for by name.

use super::Event;
use super::message::{
    AgentDdSketch, Distribution1, Histogram1, Log, Metadata, Metric, Quantile, Sketch, Summary1,
    TagValues, Timestamp, Trace, Value, metric, value,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// Which parts of an event are shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// Wraps every event as `{"event": …, "metadata": …}`.
    pub(crate) metadata: bool,
    /// The secrets of the metadata whose values are shown, by name.
    pub(crate) secrets: BTreeSet<String>,
}

impl Shown {
    /// An event, with the fields of it that are unknown.
    pub(super) fn event(&self, event: Event, unknown: Map<String, Json>) -> Json {
        let mut shown = self.known(event);
        if !unknown.is_empty() {
            add(&mut shown, "$unknown", unknown.into());
        }
        shown
    }

    fn known(&self, event: Event) -> Json {
        let (json, old, full) = match event {
            Event::Log(log) => log_json(log),
            Event::Metric(metric) => metric_json(metric),
            Event::Trace(Trace {
                fields,
                metadata,
                metadata_full,
            }) => (fields_json(fields), metadata, metadata_full),
        };
        if !self.metadata {
            return json;
        }
        let metadata = full.unwrap_or_else(|| Metadata {
            value: old,
            ..Metadata::default()
        });
        json!({ "event": json, "metadata": self.metadata(metadata) })
    }

    fn metadata(&self, metadata: Metadata) -> Json {
        let secrets: Map<String, Json> = metadata
            .secrets
            .map(|secrets| secrets.entries)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, secret)| {
                let shown = self.secrets.contains(&name);
                (name, if shown { secret.into() } else { Json::Null })
            })
            .collect();
        json!({
            "value": optional(metadata.value, value_json),
            "source_id": metadata.source_id,
            "source_type": metadata.source_type,
            "upstream_id": optional(metadata.upstream_id, |id| json!({
                "component": id.component,
                "port": id.port,
            })),
            "source_event_id": event_id_json(&metadata.source_event_id),
            "secrets": secrets,
        })
    }
}

/// Adds a key to an object. Any other value becomes an object, with the value as `$value`.
pub(super) fn add(json: &mut Json, key: &str, value: Json) {
    if let Json::Object(object) = json {
        object.insert(key.to_owned(), value);
    } else {
        *json = json!({ "$value": json.take(), key: value });
    }
}

type Parts = (Json, Option<Value>, Option<Metadata>);

fn log_json(log: Log) -> Parts {
    let json = match log.value {
        Some(value) => value_json(value),
        None => fields_json(log.fields),
    };
    (json, log.metadata, log.metadata_full)
}

fn fields_json(fields: BTreeMap<String, Value>) -> Json {
    fields
        .into_iter()
        .map(|(key, value)| (key, value_json(value)))
        .collect::<Map<_, _>>()
        .into()
}

fn value_json(value: Value) -> Json {
    match value.kind {
        None | Some(value::Kind::Null(_)) => Json::Null,
        Some(value::Kind::RawBytes(bytes)) => bytes_json(bytes),
        Some(value::Kind::Timestamp(timestamp)) => timestamp_json(timestamp),
        Some(value::Kind::Integer(integer)) => integer.into(),
        Some(value::Kind::Float(float)) => float_json(float),
        Some(value::Kind::Boolean(boolean)) => boolean.into(),
        Some(value::Kind::Map(map)) => fields_json(map.fields),
        Some(value::Kind::Array(array)) => array.items.into_iter().map(value_json).collect(),
    }
}

/// Text as a string; anything else as `{"$base64": …}`.
fn bytes_json(bytes: Vec<u8>) -> Json {
    match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(error) => json!({ "$base64": STANDARD.encode(error.as_bytes()) }),
    }
}

/// RFC 3339 with nanoseconds, in UTC; out of its range as the two numbers.
fn timestamp_json(timestamp: Timestamp) -> Json {
    let Timestamp { seconds, nanos } = timestamp;
    match jiff::Timestamp::new(seconds, nanos) {
        // `jiff` accepts a negative fraction, but the format does not.
        Ok(time) if nanos >= 0 => format!("{time:.9}").into(),
        _ => json!({ "$timestamp": { "seconds": seconds, "nanos": nanos } }),
    }
}

/// A number; a value that JSON lacks (one of three) as a string with its usual name.
fn float_json(float: f64) -> Json {
    if float.is_finite() {
        float.into()
    } else if float.is_nan() {
        "NaN".into()
    } else if float > 0.0 {
        "Infinity".into()
    } else {
        "-Infinity".into()
    }
}

fn optional<T>(value: Option<T>, show: impl FnOnce(T) -> Json) -> Json {
    value.map_or(Json::Null, show)
}

fn event_id_json(id: &[u8]) -> Json {
    if id.is_empty() {
        return Json::Null;
    }
    if id.len() != 16 {
        return json!({ "$base64": STANDARD.encode(id) });
    }
    let mut text = String::with_capacity(36);
    for (index, byte) in id.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text.into()
}

fn metric_json(metric: Metric) -> Parts {
    let non_empty = |text: String| (!text.is_empty()).then_some(text);
    let mut json = json!({
        "name": metric.name,
        "namespace": non_empty(metric.namespace),
        "kind": match metric.kind {
            0 => json!("incremental"),
            1 => json!("absolute"),
            other => other.into(),
        },
        "timestamp": optional(metric.timestamp, timestamp_json),
        "interval_ms": (metric.interval_ms != 0).then_some(metric.interval_ms),
        "tags": tags_json(metric.tags_v1, metric.tags_v2),
    });
    if let (Some(value), Some(object)) = (metric.value, json.as_object_mut()) {
        let (name, value) = metric_value_json(value);
        object.insert(name.to_owned(), value);
    }
    (json, metric.metadata, metric.metadata_full)
}

fn tags_json(old: BTreeMap<String, String>, new: BTreeMap<String, TagValues>) -> Json {
    let mut tags: Map<String, Json> = old
        .into_iter()
        .map(|(key, value)| (key, value.into()))
        .collect();
    for (key, TagValues { values }) in new {
        let mut values: Vec<Json> = values.into_iter().map(|tag| tag.value.into()).collect();
        let json = if values.len() == 1 {
            values.remove(0)
        } else {
            values.into()
        };
        tags.insert(key, json);
    }
    tags.into()
}

fn metric_value_json(value: metric::Value) -> (&'static str, Json) {
    use metric::Value as V;
    match value {
        V::Counter(scalar) => ("counter", json!({ "value": float_json(scalar.value) })),
        V::Gauge(scalar) => ("gauge", json!({ "value": float_json(scalar.value) })),
        V::Set(set) => ("set", json!({ "values": set.values })),
        V::Distribution1(Distribution1 {
            values,
            sample_rates,
            statistic,
        }) => (
            "distribution",
            distribution_json(zip(values, sample_rates), statistic),
        ),
        V::Distribution2(distribution) => (
            "distribution",
            distribution_json(
                distribution
                    .samples
                    .into_iter()
                    .map(|s| (s.value, s.rate.into())),
                distribution.statistic,
            ),
        ),
        V::AggregatedHistogram1(Histogram1 {
            buckets,
            counts,
            count,
            sum,
        }) => (
            "aggregated_histogram",
            histogram_json(zip(buckets, counts), count.into(), sum),
        ),
        V::AggregatedHistogram2(histogram) => (
            "aggregated_histogram",
            histogram_json(
                histogram
                    .buckets
                    .into_iter()
                    .map(|b| (b.upper_limit, b.count.into())),
                histogram.count.into(),
                histogram.sum,
            ),
        ),
        V::AggregatedHistogram3(histogram) => (
            "aggregated_histogram",
            histogram_json(
                histogram
                    .buckets
                    .into_iter()
                    .map(|b| (b.upper_limit, b.count)),
                histogram.count,
                histogram.sum,
            ),
        ),
        V::AggregatedSummary1(Summary1 {
            quantiles,
            values,
            count,
            sum,
        }) => {
            let quantiles = quantiles
                .into_iter()
                .zip(values)
                .map(|(quantile, value)| Quantile { quantile, value })
                .collect();
            (
                "aggregated_summary",
                summary_json(quantiles, count.into(), sum),
            )
        }
        V::AggregatedSummary2(summary) => (
            "aggregated_summary",
            summary_json(summary.quantiles, summary.count.into(), summary.sum),
        ),
        V::AggregatedSummary3(summary) => (
            "aggregated_summary",
            summary_json(summary.quantiles, summary.count, summary.sum),
        ),
        V::Sketch(sketch) => ("sketch", sketch_json(sketch)),
    }
}

fn zip(values: Vec<f64>, counts: Vec<u32>) -> impl Iterator<Item = (f64, u64)> {
    values.into_iter().zip(counts.into_iter().map(u64::from))
}

fn distribution_json(samples: impl Iterator<Item = (f64, u64)>, statistic: i32) -> Json {
    json!({
        "samples": samples
            .map(|(value, rate)| json!({ "value": float_json(value), "rate": rate }))
            .collect::<Vec<_>>(),
        "statistic": match statistic {
            0 => json!("histogram"),
            1 => json!("summary"),
            other => other.into(),
        },
    })
}

fn histogram_json(buckets: impl Iterator<Item = (f64, u64)>, count: u64, sum: f64) -> Json {
    json!({
        "buckets": buckets
            .map(|(limit, count)| json!({ "upper_limit": float_json(limit), "count": count }))
            .collect::<Vec<_>>(),
        "count": count,
        "sum": float_json(sum),
    })
}

fn summary_json(quantiles: Vec<Quantile>, count: u64, sum: f64) -> Json {
    json!({
        "quantiles": quantiles
            .into_iter()
            .map(|q| json!({
                "quantile": float_json(q.quantile),
                "value": float_json(q.value),
            }))
            .collect::<Vec<_>>(),
        "count": count,
        "sum": float_json(sum),
    })
}

fn sketch_json(sketch: Sketch) -> Json {
    optional(sketch.agent_dd_sketch, |sketch: AgentDdSketch| {
        json!({
            "count": sketch.count,
            "min": float_json(sketch.min),
            "max": float_json(sketch.max),
            "sum": float_json(sketch.sum),
            "avg": float_json(sketch.avg),
            "k": sketch.k,
            "n": sketch.n,
        })
    })
}
