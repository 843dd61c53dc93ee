//! User code that the buffer calls: event counters, tracing subscribers, wakers. It may panic in
//! a program that catches the panic, it may call the buffer, and it may drop the last handle.
//!
//! Invariant: nothing is lost by it, and nothing hangs.

mod panics;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use forebay::aio::AsyncReader;
use forebay::storage::Storage;
use forebay::storage::sim::Sim;
use forebay::{Config, EventCounter, Io, Item, OnCorruption, Reader, SyncPolicy, TryRecv, Writer};

use crate::support::{drain_ids, open, payload, record, temp_dir};

const DIR: &str = "/buffer";

/// A time limit that no wait is expected to reach.
const LONG: Duration = Duration::from_secs(60);

fn open_sim(config: &Config, sim: &Sim) -> (Writer, Reader) {
    config
        .clone()
        .storage(Arc::new(sim.clone()))
        .open()
        .unwrap()
}

/// Panics once after it was set.
#[derive(Debug, Clone, Default)]
struct Trap(Arc<AtomicBool>);

impl Trap {
    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn step_on(&self) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "the trap");
    }

    /// A counter of one event a record, with this trap.
    fn counter(&self) -> EventCounter {
        let trap = self.clone();
        EventCounter::new(move |_, _| {
            trap.step_on();
            1
        })
    }
}

/// Runs a call in which user code may panic. Returns whether it panicked.
fn caught<T>(call: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

/// A subscriber with a trap.
struct Subscriber(Trap);

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.step_on();
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Regression: the counter panicked when a record was delivered. The scanner had passed the
/// record by then, but the reader had not. The next call took the record for a gap, counted it
/// lost and acknowledged it.
#[test]
fn a_counter_that_panics_loses_nothing() {
    for by_batch in [false, true] {
        let dir = temp_dir();
        let trap = Trap::default();
        let config = Config::new(dir.path()).event_counter(trap.counter());
        let (writer, mut reader) = open(&config);
        for n in 1..=5 {
            writer.append(&payload(n, 100)).unwrap();
        }
        writer.flush().unwrap();
        drop(reader);
        writer.close().unwrap();
        let (_writer, mut reopened) = open(&config);
        for id in 1..=5 {
            trap.set();
            if by_batch {
                assert!(caught(|| reopened.try_recv_batch(2, 1000)));
                match reopened.try_recv_batch(1, 1000).unwrap() {
                    TryRecv::Ready(batch) => {
                        assert!(batch.lost().is_empty(), "{batch:?}");
                        assert_eq!(batch.records().next().unwrap().id, id);
                    }
                    other => panic!("{other:?}"),
                }
            } else {
                assert!(caught(|| reopened.try_recv()));
                assert_eq!(record(reopened.recv().unwrap()).id(), id);
            }
        }
        reader = reopened;
        assert!(drain_ids(&mut reader).is_empty());
    }
}

/// A panic ends a batch after some of its records: these come again.
#[test]
fn a_batch_that_a_panic_ends_is_delivered_again() {
    let sim = Sim::new();
    let config = Config::new(DIR).max_size(16 << 20).io(Io::Caller);
    let (writer, reader) = open_sim(&config, &sim);
    for n in 1..=20 {
        writer.append(&payload(n, 100)).unwrap();
    }
    drop(reader);
    writer.close().unwrap();
    let trap = Trap::default();
    let calls = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = {
        let (trap, calls) = (trap.clone(), Arc::clone(&calls));
        EventCounter::new(move |_, _| {
            if trap.is_set() && calls.fetch_add(1, Ordering::SeqCst) == 7 {
                trap.step_on();
            }
            1
        })
    };
    let (_writer, mut reader) = open_sim(&config.event_counter(counter), &sim);
    trap.set();
    assert!(caught(|| reader.try_recv_batch(100, 1 << 20)));
    assert_eq!(drain_ids(&mut reader), (1..=20).collect::<Vec<_>>());
}

/// Regression: the subscriber panicked when it got a loss, which was acknowledged by then but
/// not returned yet: the consumer never got it.
#[test]
fn a_subscriber_that_panics_takes_no_loss_along() {
    for by_batch in [false, true] {
        let sim = Sim::new();
        let config = Config::new(DIR)
            .max_size(16 << 20)
            .on_corruption(OnCorruption::Quarantine)
            .io(Io::Caller);
        let (writer, reader) = open_sim(&config, &sim);
        for n in 1..=9 {
            writer.append(&payload(n, 100)).unwrap();
        }
        drop(reader);
        writer.close().unwrap();
        // Damages the payload of the fifth record; frames have 144 bytes.
        let path = format!("{DIR}/buffer-data-0.dat");
        let mut bytes = sim.read_file(&path).unwrap();
        bytes[4 * 144 + 50] ^= 1;
        sim.write_file(&path, &bytes).unwrap();

        let (writer, mut reader) = open_sim(&config, &sim);
        let (mut ids, mut lost, mut panics) = (vec![], vec![], 0);
        let trap = Trap::default();
        tracing::subscriber::with_default(Subscriber(trap.clone()), || {
            for _ in 0..100 {
                trap.set();
                let mut items = vec![];
                panics += u32::from(caught(|| {
                    if by_batch {
                        if let TryRecv::Ready(batch) = reader.try_recv_batch(100, 1 << 20).unwrap()
                        {
                            items.extend(batch.lost().iter().cloned().map(Item::Lost));
                            items.extend(batch.into_deliveries().map(Item::Record));
                        }
                    } else if let TryRecv::Ready(item) = reader.try_recv().unwrap() {
                        items.push(item);
                    }
                }));
                for item in items {
                    match item {
                        Item::Record(delivery) => ids.push(delivery.id()),
                        Item::Lost(loss) => lost.push((loss.first_id, loss.events)),
                    }
                }
            }
        });
        assert!(panics > 0);
        assert_eq!(ids, [1, 2, 3, 4, 6, 7, 8, 9], "by batch: {by_batch}");
        assert_eq!(lost, [(5, 1)], "by batch: {by_batch}");
        assert_eq!(writer.usage().lost.events, 1);
    }
}

/// Regression: an async reader reads on a thread of the runtime. The panic there lost the reader,
/// and every later call said "the runtime is shutting down".
#[tokio::test]
async fn an_async_reader_outlives_a_panic() {
    let dir = temp_dir();
    let trap = Trap::default();
    let config = Config::new(dir.path()).event_counter(trap.counter());
    let (writer, reader) = open(&config);
    for n in 1..=5 {
        writer.append(&payload(n, 100)).unwrap();
    }
    drop(reader);
    writer.close().unwrap();
    let (_writer, reader) = open(&config);
    let mut reader = AsyncReader::new(reader);
    trap.set();
    let mut reading = tokio::spawn(async move {
        // The task catches the panic here.
        let next = AssertUnwindSafe(reader.recv());
        let panicked = futures_util::FutureExt::catch_unwind(next).await.is_err();
        (panicked, reader)
    });
    let (panicked, mut reader) = (&mut reading).await.unwrap();
    assert!(panicked);
    for id in 1..=5 {
        assert_eq!(record(reader.recv().await.unwrap()).id(), id);
    }
}

/// Polls a read with this waker; it must have to wait.
fn wait_with(reader: &mut AsyncReader, waker: &Waker) {
    let next = pin!(reader.recv()).poll(&mut Context::from_waker(waker));
    assert!(next.is_pending(), "{next:?}");
}

/// Runs a call; panics if it does not end within [`LONG`].
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

/// Regression: a waker may hold the last reference to a task, and the task a writer. The waker
/// was dropped under the buffer's own locks, and its drop called the buffer.
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
        // The first waker is replaced by another one, the second is taken back.
        wait_with(&mut reader, &Waker::from(Arc::new(Task(writer.clone()))));
        let replaced = pin!(reader.recv()).poll(&mut Context::from_waker(Waker::noop()));
        drop(replaced);
        let asynchronous = forebay::aio::AsyncWriter::new(writer.clone());
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

/// Regression: a waker that panics killed the thread that woke it: the buffer's own, so every
/// flush hung.
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

/// Regression: the last handle of a buffer may be in a task, and the task in a waker. The
/// buffer's thread woke the task, which dropped the handle, and closing waited for that same
/// thread. That panicked, and nothing was synced.
#[test]
fn the_last_handle_may_go_on_the_buffers_own_thread() {
    struct Owner(Mutex<Option<AsyncReader>>);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let sim = Sim::new();
    let config = Config::new(DIR).max_size(16 << 20).sync(SyncPolicy::Never);
    let (writer, mut reader) = open_sim(&config, &sim);
    for n in 1..=3 {
        writer.append(&payload(n, 100)).unwrap();
        record(reader.recv().unwrap());
    }
    let mut reader = AsyncReader::new(reader);
    let owner = Arc::new(Owner(Mutex::new(None)));
    wait_with(&mut reader, &Waker::from(Arc::clone(&owner)));
    *owner.0.lock().unwrap() = Some(reader);
    // The end of the stream wakes the reader's task.
    drop(writer);
    let lock = Path::new(DIR).join("buffer.lock");
    let hang = Instant::now() + LONG;
    while sim.lock(&lock).is_err() {
        assert!(Instant::now() < hang, "the buffer stays locked");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (_writer, mut reader) = open_sim(&config.io(Io::Caller), &sim.crash(0));
    assert_eq!(drain_ids(&mut reader), [1, 2, 3]);
}

/// Closing with a time limit waits for the buffer's thread; on that thread it would wait for
/// itself until the time is up.
#[test]
fn a_waker_on_the_buffers_own_thread_may_close_with_a_time_limit() {
    struct Owner(Mutex<Option<Writer>>);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {
            if let Some(writer) = self.0.lock().unwrap().take() {
                writer.close_timeout(100 * LONG).unwrap();
            }
        }
    }
    let sim = Sim::new();
    let config = Config::new(DIR).max_size(16 << 20).sync(SyncPolicy::Never);
    let (writer, reader) = open_sim(&config, &sim);
    drop(reader);
    let receipt = writer.append(&payload(1, 100)).unwrap().detach();
    let owner = Arc::new(Owner(Mutex::new(None)));
    let waker = Waker::from(Arc::clone(&owner));
    let mut synced = pin!(receipt.synced());
    *owner.0.lock().unwrap() = Some(writer);
    // The buffer's thread syncs and wakes this task, which closes the last handle there. If the
    // sync was faster, the test wakes the task itself.
    if synced
        .as_mut()
        .poll(&mut Context::from_waker(&waker))
        .is_ready()
    {
        waker.wake();
    }
    let lock = Path::new(DIR).join("buffer.lock");
    let hang = Instant::now() + LONG;
    while sim.lock(&lock).is_err() {
        assert!(Instant::now() < hang, "the buffer stays locked");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (_writer, mut reader) = open_sim(&config.io(Io::Caller), &sim.crash(0));
    assert_eq!(drain_ids(&mut reader), [1]);
}
