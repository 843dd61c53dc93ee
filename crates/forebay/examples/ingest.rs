//! An HTTP endpoint that answers 200 once an event survives a power cut, and a forwarder that
//! retries.
//!
//! ```text
//! cargo run --example ingest --features tokio -- DIR UPSTREAM
//! curl --data 'an event' http://127.0.0.1:PORT/events
//! ```
//!
//! It listens on a free port of the loopback interface and prints the address. UPSTREAM is a file,
//! to which the forwarder appends one line per event; a real upstream would be another service.
//! Kill the program at any moment and start it again: every event that was answered with 200
//! reaches the upstream, at least once.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use forebay::aio::{AsyncReader, AsyncWriter};
use forebay::{Batch, Config, WhenFull};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(dir), Some(upstream)) = (args.next(), args.next()) else {
        return Err("usage: ingest DIR UPSTREAM".into());
    };
    let config = Config::new(dir)
        .max_size(64 << 20)
        // A waiting producer would hold a connection, so it is told to try again.
        .when_full(WhenFull::Reject);
    let (writer, reader) = config.open_async().await?;
    let forwarder = tokio::spawn(forward(reader, upstream));

    // What can never be appended is answered with 413.
    let longest = usize::try_from(writer.max_record_size())?;
    let app = Router::new()
        .route("/events", post(accept))
        .layer(DefaultBodyLimit::max(longest))
        .with_state(writer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/events", listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, app) => served?,
        forwarded = forwarder => forwarded??,
    }
    Ok(())
}

/// Answers once the event is synced. Requests that wait at the same time share a sync.
async fn accept(State(writer): State<AsyncWriter>, event: Bytes) -> Response {
    let synced = match writer.append(&event).await {
        Ok(receipt) => receipt.synced().await,
        Err(error) => Err(error),
    };
    match synced {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            let retry_after = [(header::RETRY_AFTER, "1")];
            let text = format!("{error:#}\n");
            (StatusCode::SERVICE_UNAVAILABLE, retry_after, text).into_response()
        }
    }
}

/// Sends batches upstream, retrying each until it succeeds, and only then acknowledges it.
async fn forward(mut reader: AsyncReader, upstream: PathBuf) -> Result<(), forebay::Error> {
    while let Some(batch) = reader.recv_batch(1000, 1 << 20).await? {
        for lost in batch.lost() {
            eprintln!("{lost}");
        }
        let mut pause = Duration::from_millis(50);
        while let Err(error) = send(&upstream, &batch) {
            eprintln!("the upstream does not answer: {error}; trying again in {pause:?}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(10));
        }
        batch.ack();
    }
    Ok(())
}

fn send(upstream: &Path, batch: &Batch) -> std::io::Result<()> {
    let mut lines = Vec::new();
    for record in batch.records() {
        lines.extend_from_slice(record.payload);
        lines.push(b'\n');
    }
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(upstream)?;
    file.write_all(&lines)
}
