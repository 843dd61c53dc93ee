//! Usage through the `metrics` facade.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use forebay::WhenFull;
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder};
use metrics::{SharedString, Unit};

use crate::support::{open, payload, record, small, temp_dir};

type Values = Arc<Mutex<BTreeMap<String, f64>>>;

/// Keeps the last value of everything.
struct Keeper(Values);

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
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
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
    let values = Values::default();
    metrics::with_local_recorder(&Keeper(Arc::clone(&values)), || {
        forebay::metrics::report("orders", &writer.usage());
        forebay::metrics::report("orders", &writer.usage());
    });
    let values = values.lock().unwrap();
    let expected = [
        ("buffer_received_events_total", 40),
        ("buffer_received_bytes_total", 40 * 144),
        ("buffer_sent_events_total", 5),
        ("buffer_sent_bytes_total", 5 * 144),
        ("buffer_discarded_events_total", 12),
        ("buffer_discarded_bytes_total", 12 * 144),
        ("buffer_lost_events_total", 0),
        ("buffer_lost_bytes_total", 0),
        ("buffer_size_events", 23),
        ("buffer_size_bytes", 23 * 144),
        ("buffer_max_size_bytes", 4096),
    ];
    for (name, value) in expected {
        let name = format!("{name}{{buffer_id=orders}}");
        assert_eq!(values.get(&name), Some(&f64::from(value)), "{name}");
    }
    assert_eq!(values.len(), expected.len());
}
