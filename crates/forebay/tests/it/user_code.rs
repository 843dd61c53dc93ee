//! Code of the user's that the buffer calls: wakers. It may panic, it may call the buffer, it may
//! have the last handle. Nothing hangs.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use forebay::tokio::AsyncReader;
use forebay::{Config, ErrorKind, Writer};

use crate::support::{open, payload, temp_dir};

/// What is waited for happens long before.
const LONG: Duration = Duration::from_secs(60);

/// Polls a future with a waker of this kind until it waits.
fn wait_with(reader: &mut AsyncReader, waker: &Waker) {
    let next = pin!(reader.next()).poll(&mut Context::from_waker(waker));
    assert!(next.is_pending(), "{next:?}");
}

/// Runs something that must come to an end.
fn must_end(what: &str, call: impl FnOnce() + Send + 'static) {
    let (done, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        call();
        let _ = done.send(());
    });
    waits
        .recv_timeout(LONG)
        .unwrap_or_else(|_| panic!("{what}: hangs"));
}

/// A waker may be the last to hold a task, and the task a writer. Its drop asked the buffer
/// something, under the buffer's own locks.
#[test]
fn a_waker_that_is_dropped_may_call_the_buffer() {
    struct Task(Writer);
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Task {
        fn drop(&mut self) {
            self.0.usage();
        }
    }
    must_end("dropping a waker", || {
        let dir = temp_dir();
        let (writer, reader) = open(&Config::new(dir.path()).max_size(4096));
        let mut reader = AsyncReader::new(reader);
        // Replaced by another, and taken back.
        wait_with(&mut reader, &Waker::from(Arc::new(Task(writer.clone()))));
        let replaced = pin!(reader.next()).poll(&mut Context::from_waker(Waker::noop()));
        drop(replaced);
        let asynchronous = forebay::tokio::AsyncWriter::new(writer.clone());
        while writer.usage().received.bytes + 200 < 4096 - 32 {
            writer.append(&payload(1, 100)).unwrap();
        }
        let waker = Waker::from(Arc::new(Task(writer.clone())));
        let large = payload(1, 200);
        let mut append = Box::pin(asynchronous.append(&large));
        let polled = append.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(waker);
        drop(append);
    });
}

/// A waker that panics killed the thread that rang: the buffer's own, so that every flush hung.
#[test]
fn a_waker_that_panics_ends_nothing_but_its_wake() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics, as it should");
        }
    }
    must_end("flushing", || {
        let dir = temp_dir();
        let (writer, reader) = open(&Config::new(dir.path()));
        let mut reader = AsyncReader::new(reader);
        wait_with(&mut reader, &Waker::from(Arc::new(Bad)));
        writer.append(b"x").unwrap();
        writer.flush().unwrap();
        writer.append(b"y").unwrap();
        writer.flush().unwrap();
    });
}

/// The last handle of a buffer may be in a task, and the task in a waker: the buffer's thread
/// wakes it, and closed the buffer by waiting for itself.
#[test]
fn the_last_handle_may_go_on_the_buffers_own_thread() {
    struct Owner(Mutex<Option<AsyncReader>>);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let dir = temp_dir();
    let config = Config::new(dir.path());
    let (writer, reader) = open(&config);
    let mut reader = AsyncReader::new(reader);
    let owner = Arc::new(Owner(Mutex::new(None)));
    wait_with(&mut reader, &Waker::from(Arc::clone(&owner)));
    *owner.0.lock().unwrap() = Some(reader);
    // The end of the stream wakes the reader's task.
    drop(writer);
    let hang = Instant::now() + LONG;
    loop {
        match forebay::open(config.clone()) {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Locked, "{error}"),
        }
        assert!(Instant::now() < hang, "the buffer stays locked");
        std::thread::sleep(Duration::from_millis(1));
    }
}
