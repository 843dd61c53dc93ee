//! The figures over HTTP, until a signal ends it.
//!
//! Invariant: a request that comes while another one is answered waits, so that there is one look
//! at a time.

use super::Watch;
use crate::failure::{Failure, Outcome, Result};
use crate::output::note;
use crate::stop::Stop;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The media type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How often the end is checked for.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

pub(super) fn run(address: SocketAddr, watch: Watch) -> Result<Outcome> {
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Failure::io("start serving", &error))?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|error| {
                Failure::io(&format!("listen on {address}"), &error)
                    .but("give another address to --listen")
            })?;
        let address = listener.local_addr().unwrap_or(address);
        note(format!("serving http://{address}/metrics"));
        let watch = Arc::new(Mutex::new(watch));
        let metrics = move || scrape(Arc::clone(&watch));
        let home = || async { "forebay: the figures are at /metrics\n" };
        let routes = Router::new()
            .route("/", get(home))
            .route("/metrics", get(metrics));
        let serving = axum::serve(listener, routes);
        tokio::select! {
            ended = serving => ended.map_err(|error| Failure::io("serve", &error)),
            () = stopped(&stop) => Ok(()),
        }
    })?;
    // A look that hangs with its disk does not keep the program from ending.
    runtime.shutdown_background();
    Ok(stop.signal().map_or(Outcome::Fine, Outcome::Stopped))
}

async fn scrape(watch: Arc<Mutex<Watch>>) -> impl IntoResponse {
    let look = move || {
        // A look that panicked has at most left out buffers.
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.text()
    };
    let text = tokio::task::spawn_blocking(look).await;
    ([(CONTENT_TYPE, TEXT_FORMAT)], text.unwrap_or_default())
}

async fn stopped(stop: &Stop) {
    while !stop.is_set() {
        tokio::time::sleep(STOP_INTERVAL).await;
    }
}
