//! Flushing a sink.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use forebay::aio::{AsyncWriter, RecordSink};
use forebay::{Config, Item};
use futures_util::{Sink, SinkExt};

use crate::support::{open, payload, temp_dir};

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

type PollSink = fn(Pin<&mut RecordSink>, &mut Context<'_>) -> Poll<Result<(), forebay::Error>>;

/// Regression: every poll began a new flush when the one before had ended. While other threads
/// wrote and acknowledged there was always something new to wait for, and none of 20 flushes
/// ended in 3 seconds.
#[test]
fn a_flush_ends_however_much_others_write() {
    let polls: [(&str, PollSink); 2] = [
        ("flush", |sink, cx| sink.poll_flush(cx)),
        ("close", |sink, cx| sink.poll_close(cx)),
    ];
    for (name, poll) in polls {
        let dir = temp_dir();
        let (writer, mut reader) = open(&Config::new(dir.path()));
        let is_over = AtomicBool::new(false);
        let over = &is_over;
        let mut polls_max = 0;
        std::thread::scope(|scope| {
            let others = writer.clone();
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    others.append(b"other").unwrap();
                    if let Some(Item::Record(delivery)) = reader.recv().unwrap() {
                        delivery.ack();
                    }
                }
            });
            let mut sink = AsyncWriter::new(writer).into_sink();
            let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
            let mut context = Context::from_waker(&waker);
            for n in 0..20 {
                let record = Bytes::from(payload(n, 100));
                let fed = pin!(sink.feed(record)).poll(&mut context);
                assert!(fed.is_ready());
                let mut polls = 0;
                // A flush waits for two things; a poll or two may be spurious.
                while polls < 20 {
                    polls += 1;
                    if let Poll::Ready(flushed) = poll(Pin::new(&mut sink), &mut context) {
                        flushed.unwrap();
                        break;
                    }
                    std::thread::park_timeout(Duration::from_secs(60));
                }
                polls_max = polls_max.max(polls);
            }
            is_over.store(true, Ordering::SeqCst);
        });
        assert!(
            polls_max < 20,
            "{name}: not through after {polls_max} polls"
        );
    }
}

/// A record that is sent while a flush is in flight is not covered by that flush.
#[tokio::test]
async fn a_flush_covers_what_was_sent_while_another_was_waited_for() {
    let dir = temp_dir();
    let (writer, _reader) = open(&Config::new(dir.path()));
    let mut sink = AsyncWriter::new(writer.clone()).into_sink();
    for n in 1..=50 {
        sink.feed(Bytes::from(payload(n, 100))).await.unwrap();
        // Begins a flush and does not wait for it.
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut sink).poll_flush(&mut context);
        sink.feed(Bytes::from(payload(n, 100))).await.unwrap();
        sink.flush().await.unwrap();
        assert_eq!(writer.usage().last_synced_id, 2 * n);
    }
}
