//! Usage through the `metrics` facade.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use forebay::telemetry::{COUNTERS, GAUGES};
use forebay::{Usage, WhenFull};
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder};
use metrics::{SharedString, Unit};

use crate::support::{open, payload, record, small, temp_dir};

type Values = Arc<Mutex<BTreeMap<String, f64>>>;

/// A recorder that keeps the last value of each metric, and the names that were described.
#[derive(Default)]
struct Keeper(Values, Mutex<BTreeSet<String>>);

struct Value(Values, String);

impl CounterFn for Value {
    fn increment(&self, _: u64) {
        panic!("counters are set, never incremented");
    }

    fn absolute(&self, value: u64) {
        self.0.lock().unwrap().insert(self.1.clone(), value as f64);
    }
}

impl GaugeFn for Value {
    fn increment(&self, _: f64) {
        panic!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        panic!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.0.lock().unwrap().insert(self.1.clone(), value);
    }
}

impl Keeper {
    fn describe(&self, name: &KeyName, text: &str) {
        assert!(!text.is_empty());
        let mut described = self.1.lock().unwrap();
        described.insert(name.as_str().to_owned());
    }

    fn value(&self, key: &Key) -> Arc<Value> {
        let labels: Vec<_> = key
            .labels()
            .map(|l| format!("{}={}", l.key(), l.value()))
            .collect();
        Arc::new(Value(
            Arc::clone(&self.0),
            format!("{}{{{}}}", key.name(), labels.join(",")),
        ))
    }
}

impl Recorder for Keeper {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        self.describe(&name, &text);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, text: SharedString) {
        self.describe(&name, &text);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// The values after two reports; checks that each of them is described.
fn reported(usage: &Usage) -> BTreeMap<String, f64> {
    let keeper = Keeper::default();
    metrics::with_local_recorder(&keeper, || {
        forebay::telemetry::report("orders", usage);
        forebay::telemetry::report("orders", usage);
    });
    let values = keeper.0.lock().unwrap().clone();
    let described = keeper.1.lock().unwrap();
    let listed = COUNTERS.iter().chain(&GAUGES).map(|metric| metric.name);
    assert_eq!(*described, listed.map(str::to_owned).collect());
    let name = |key: &String| key.split('{').next().unwrap().to_owned();
    assert_eq!(values.keys().map(name).collect::<BTreeSet<_>>(), *described);
    values
}

fn expect(values: &BTreeMap<String, f64>, expected: &[(&str, u64)]) {
    for (name, value) in expected {
        let (name, labels) = name.split_once(' ').unwrap_or((name, ""));
        let name = format!("{name}{{buffer_id=orders{labels}}}");
        assert_eq!(values.get(&name), Some(&(*value as f64)), "{name}");
    }
}

#[test]
fn a_snapshot_is_reported_under_the_usual_names() {
    let dir = temp_dir();
    let (writer, mut reader) = open(
        &small(dir.path())
            .max_size(4096)
            .when_full(WhenFull::DropNewest),
    );
    for n in 0..40 {
        writer.append(&payload(n, 100)).unwrap();
    }
    for _ in 0..5 {
        record(reader.recv().unwrap()).ack();
    }
    let values = reported(&writer.usage());
    expect(
        &values,
        &[
            ("buffer_received_events_total", 40),
            ("buffer_received_bytes_total", 40 * 144),
            ("buffer_delivered_events_total", 5),
            ("buffer_sent_events_total", 5),
            ("buffer_sent_bytes_total", 5 * 144),
            ("buffer_discarded_events_total ,reason=full", 12),
            ("buffer_discarded_bytes_total ,reason=full", 12 * 144),
            ("buffer_discarded_events_total ,reason=disk_full", 0),
            ("buffer_lost_events_total ,reason=damaged", 0),
            ("buffer_lost_bytes_total ,reason=gap", 0),
            ("buffer_size_events", 23),
            ("buffer_size_bytes", 23 * 144),
            ("buffer_max_size_bytes", 4096),
            ("buffer_state ,state=open", 1),
            ("buffer_state ,state=poisoned", 0),
        ],
    );
}

/// Regression: every process that opened the buffer counted the unread events as received, so
/// the rate of received events jumped at every restart.
#[test]
fn a_restart_adds_the_backlog_to_no_counter() {
    let dir = temp_dir();
    let (writer, reader) = open(&small(dir.path()));
    for n in 0..10 {
        writer.append(&payload(n, 100)).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let (writer, mut reader) = open(&small(dir.path()));
    assert_eq!(writer.usage().backlog.events, 10);
    writer.append(&payload(10, 100)).unwrap();
    record(reader.recv().unwrap()).ack();
    drop(reader);
    let values = reported(&writer.usage());
    expect(
        &values,
        &[
            ("buffer_received_events_total", 1),
            ("buffer_received_bytes_total", 144),
            ("buffer_sent_events_total", 1),
            ("buffer_size_events", 10),
            ("buffer_state ,state=reader_gone", 1),
            ("buffer_state ,state=open", 0),
        ],
    );
}
