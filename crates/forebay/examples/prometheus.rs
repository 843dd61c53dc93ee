//! A buffer's figures as Prometheus scrapes them.
//!
//! ```text
//! cargo run --example prometheus --features metrics -- DIR
//! ```
//!
//! Prints the text of one scrape. A service would install the recorder when it starts, call
//! `report` every few seconds from a thread with a `Monitor`, and serve the text at `/metrics`.

use std::error::Error;

use forebay::{Config, Item};
use metrics_exporter_prometheus::PrometheusBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: prometheus DIR")?;
    let recorder = PrometheusBuilder::new().build_recorder();
    let scrape = recorder.handle();
    metrics::set_global_recorder(recorder)?;

    let (writer, mut reader) = Config::new(dir).open()?;
    // It does not keep the buffer open: the stream ends when the writer is closed.
    let monitor = writer.monitor();
    for number in 0..10 {
        writer.append(format!("event {number}").as_bytes())?;
    }
    for _ in 0..3 {
        if let Some(Item::Record(delivery)) = reader.recv()? {
            delivery.ack();
        }
    }
    if let Some(usage) = monitor.usage() {
        forebay::telemetry::report("orders", &usage);
    }
    print!("{}", scrape.render());
    Ok(())
}
