//! The protobuf messages that Vector writes as payloads, field by field.
//!
//! Decoding skips fields that are not declared here. Invariant: the tags are those of Vector's
//! public schema and never change.

use std::collections::BTreeMap;

/// A point in time, as in `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Value {
    #[prost(oneof = "value::Kind", tags = "1, 2, 4, 5, 6, 7, 8, 9")]
    pub(crate) kind: Option<value::Kind>,
}

pub(crate) mod value {
    use super::{Timestamp, ValueArray, ValueMap};

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Kind {
        #[prost(bytes = "vec", tag = "1")]
        RawBytes(Vec<u8>),
        #[prost(message, tag = "2")]
        Timestamp(Timestamp),
        #[prost(int64, tag = "4")]
        Integer(i64),
        #[prost(double, tag = "5")]
        Float(f64),
        #[prost(bool, tag = "6")]
        Boolean(bool),
        #[prost(message, tag = "7")]
        Map(ValueMap),
        #[prost(message, tag = "8")]
        Array(ValueArray),
        /// An enumeration whose only value is 0.
        #[prost(int32, tag = "9")]
        Null(i32),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ValueMap {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) fields: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ValueArray {
    #[prost(message, repeated, tag = "1")]
    pub(crate) items: Vec<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Log {
    /// The old encoding: the fields of an object.
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) fields: BTreeMap<String, Value>,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<Value>,
    /// The old encoding: the metadata's value only.
    #[prost(message, optional, tag = "3")]
    pub(crate) metadata: Option<Value>,
    #[prost(message, optional, tag = "4")]
    pub(crate) metadata_full: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Trace {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) fields: BTreeMap<String, Value>,
    /// The old encoding: the metadata's value only.
    #[prost(message, optional, tag = "2")]
    pub(crate) metadata: Option<Value>,
    #[prost(message, optional, tag = "3")]
    pub(crate) metadata_full: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub(crate) value: Option<Value>,
    #[prost(string, optional, tag = "3")]
    pub(crate) source_id: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) source_type: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub(crate) upstream_id: Option<OutputId>,
    #[prost(message, optional, tag = "6")]
    pub(crate) secrets: Option<Secrets>,
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) source_event_id: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OutputId {
    #[prost(string, tag = "1")]
    pub(crate) component: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) port: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct Secrets {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(crate) entries: BTreeMap<String, String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metric {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) timestamp: Option<Timestamp>,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(crate) tags_v1: BTreeMap<String, String>,
    /// 0 incremental, 1 absolute.
    #[prost(int32, tag = "4")]
    pub(crate) kind: i32,
    #[prost(string, tag = "11")]
    pub(crate) namespace: String,
    #[prost(uint32, tag = "18")]
    pub(crate) interval_ms: u32,
    #[prost(message, optional, tag = "19")]
    pub(crate) metadata: Option<Value>,
    #[prost(btree_map = "string, message", tag = "20")]
    pub(crate) tags_v2: BTreeMap<String, TagValues>,
    #[prost(message, optional, tag = "21")]
    pub(crate) metadata_full: Option<Metadata>,
    #[prost(
        oneof = "metric::Value",
        tags = "5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17"
    )]
    pub(crate) value: Option<metric::Value>,
}

pub(crate) mod metric {
    use super::{
        Distribution1, Distribution2, Histogram1, Histogram2, Histogram3, Scalar, Set, Sketch,
        Summary1, Summary2, Summary3,
    };

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Value {
        #[prost(message, tag = "5")]
        Counter(Scalar),
        #[prost(message, tag = "6")]
        Gauge(Scalar),
        #[prost(message, tag = "7")]
        Set(Set),
        #[prost(message, tag = "8")]
        Distribution1(Distribution1),
        #[prost(message, tag = "9")]
        AggregatedHistogram1(Histogram1),
        #[prost(message, tag = "10")]
        AggregatedSummary1(Summary1),
        #[prost(message, tag = "12")]
        Distribution2(Distribution2),
        #[prost(message, tag = "13")]
        AggregatedHistogram2(Histogram2),
        #[prost(message, tag = "14")]
        AggregatedSummary2(Summary2),
        #[prost(message, tag = "15")]
        Sketch(Sketch),
        #[prost(message, tag = "16")]
        AggregatedHistogram3(Histogram3),
        #[prost(message, tag = "17")]
        AggregatedSummary3(Summary3),
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TagValues {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<TagValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TagValue {
    /// Absent for a bare tag.
    #[prost(string, optional, tag = "1")]
    pub(crate) value: Option<String>,
}

/// A counter or a gauge.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Scalar {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Set {
    #[prost(string, repeated, tag = "1")]
    pub(crate) values: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Distribution1 {
    #[prost(double, repeated, tag = "1")]
    pub(crate) values: Vec<f64>,
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) sample_rates: Vec<u32>,
    /// 0 histogram, 1 summary.
    #[prost(int32, tag = "3")]
    pub(crate) statistic: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Distribution2 {
    #[prost(message, repeated, tag = "1")]
    pub(crate) samples: Vec<Sample>,
    /// 0 histogram, 1 summary.
    #[prost(int32, tag = "2")]
    pub(crate) statistic: i32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(uint32, tag = "2")]
    pub(crate) rate: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Histogram1 {
    #[prost(double, repeated, tag = "1")]
    pub(crate) buckets: Vec<f64>,
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) counts: Vec<u32>,
    #[prost(uint32, tag = "3")]
    pub(crate) count: u32,
    #[prost(double, tag = "4")]
    pub(crate) sum: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Histogram2 {
    #[prost(message, repeated, tag = "1")]
    pub(crate) buckets: Vec<Bucket2>,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
    #[prost(double, tag = "3")]
    pub(crate) sum: f64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Bucket2 {
    #[prost(double, tag = "1")]
    pub(crate) upper_limit: f64,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Histogram3 {
    #[prost(message, repeated, tag = "1")]
    pub(crate) buckets: Vec<Bucket3>,
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
    #[prost(double, tag = "3")]
    pub(crate) sum: f64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Bucket3 {
    #[prost(double, tag = "1")]
    pub(crate) upper_limit: f64,
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Summary1 {
    #[prost(double, repeated, tag = "1")]
    pub(crate) quantiles: Vec<f64>,
    #[prost(double, repeated, tag = "2")]
    pub(crate) values: Vec<f64>,
    #[prost(uint32, tag = "3")]
    pub(crate) count: u32,
    #[prost(double, tag = "4")]
    pub(crate) sum: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Summary2 {
    #[prost(message, repeated, tag = "1")]
    pub(crate) quantiles: Vec<Quantile>,
    #[prost(uint32, tag = "2")]
    pub(crate) count: u32,
    #[prost(double, tag = "3")]
    pub(crate) sum: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Summary3 {
    #[prost(message, repeated, tag = "1")]
    pub(crate) quantiles: Vec<Quantile>,
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
    #[prost(double, tag = "3")]
    pub(crate) sum: f64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Quantile {
    #[prost(double, tag = "1")]
    pub(crate) quantile: f64,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sketch {
    #[prost(message, optional, tag = "1")]
    pub(crate) agent_dd_sketch: Option<AgentDdSketch>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AgentDdSketch {
    #[prost(uint32, tag = "1")]
    pub(crate) count: u32,
    #[prost(double, tag = "2")]
    pub(crate) min: f64,
    #[prost(double, tag = "3")]
    pub(crate) max: f64,
    #[prost(double, tag = "4")]
    pub(crate) sum: f64,
    #[prost(double, tag = "5")]
    pub(crate) avg: f64,
    #[prost(sint32, repeated, tag = "6")]
    pub(crate) k: Vec<i32>,
    #[prost(uint32, repeated, tag = "7")]
    pub(crate) n: Vec<u32>,
}
