//! Calls of every kind, mixed at random.
//!
//! Invariants:
//! - However a buffer is read (one by one, in batches, waiting or not, as futures that are
//!   dropped in the middle, through a reader that turns from blocking to async and back, rewound,
//!   stopped, closed, dropped and opened again), the same items come, with the same losses between
//!   them, as from plain `recv` on a copy. What is acknowledged does not come again, a loss is told
//!   once, and the counts say what was handed out.
//! - Over several lives, with disks that fill up, kills, power cuts and closes with a time
//!   limit: ids have no gaps, records that an append's outcome or error calls accepted come as
//!   far as the end of the life promises, and the counts add up.
//!
//! `FOREBAY_MIXTURES` sets the number of seeds, `FOREBAY_MIXTURES_SEED` the first one.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use forebay::aio::AsyncReader;
use forebay::format::record::frame_len;
use forebay::storage::sim::Sim;
use forebay::{
    Config, Count, Delivery, Error, ErrorKind, Io, Item, Reader, Receipt, SyncPolicy, TryRecv,
    WhenFull, Writer,
};

use crate::support::{Rng, check_law, number_from, payload};

const DIR: &str = "/buffer";
/// A time limit that no wait is expected to reach.
const LONG: Duration = Duration::from_secs(60);

fn each_seed(name: &str, mut what: impl FnMut(u64)) {
    let first = number_from("FOREBAY_MIXTURES_SEED", 0);
    for seed in first..first + number_from("FOREBAY_MIXTURES", 60) {
        println!("{name}: FOREBAY_MIXTURES_SEED={seed} FOREBAY_MIXTURES=1");
        what(seed);
    }
}

/// An item in a form that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Came {
    /// The id, and the length and checksum of the payload.
    Record(u64, usize, u32),
    Lost(u64, u64),
}

impl Came {
    fn of(item: &Item) -> Self {
        match item {
            Item::Record(delivery) => {
                let payload = delivery.payload();
                let sum = forebay::format::record::checksum(0, 0, payload);
                Self::Record(delivery.id(), payload.len(), sum)
            }
            Item::Lost(lost) => Self::Lost(lost.first_id, lost.events),
        }
    }
}

fn reading_config(sim: &Sim) -> Config {
    Config::new(DIR)
        .max_size(1 << 20)
        .data_file_size(16 << 10)
        .storage(Arc::new(sim.clone()))
}

/// A closed buffer with up to three damaged sectors.
fn damaged(rng: &mut Rng) -> Sim {
    let sim = Sim::new();
    let (writer, reader) = reading_config(&sim).open().unwrap();
    for n in 0..40 + rng.below(160) {
        let len = 1 + rng.below(900) as usize;
        writer.append(&payload(n, len)).unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let files: Vec<_> = sim
        .files(DIR)
        .into_iter()
        .filter(|(name, len)| name.ends_with(".dat") && *len > 0)
        .collect();
    for _ in 0..rng.below(4) {
        let (name, len) = &files[rng.below(files.len() as u64) as usize];
        let path = format!("{DIR}/{name}");
        let mut bytes = sim.read_file(&path).unwrap();
        let start = rng.below(len.div_ceil(512)) as usize * 512;
        let end = bytes.len().min(start + 512);
        match rng.below(3) {
            0 => bytes[start..end].fill(0),
            1 => bytes[start..end].fill(rng.next() as u8 | 1),
            _ => bytes.copy_within(0..end - start, start),
        }
        sim.write_file(&path, &bytes).unwrap();
    }
    sim
}

/// The items of a copy of the buffer, read one by one.
fn expected(sim: &Sim) -> Vec<Came> {
    let (writer, mut reader) = reading_config(&sim.kill()).open().unwrap();
    drop(writer);
    let mut came = Vec::new();
    while let Some(item) = reader.recv().unwrap() {
        came.push(Came::of(&item));
        if let Item::Record(delivery) = item {
            delivery.ack();
        }
    }
    came
}

/// A reader, blocking or async.
enum Hands {
    Blocking(Box<Reader>),
    Async(AsyncReader),
}

/// Reads a buffer over several lives, and knows what has to come.
struct Reading {
    sim: Sim,
    hands: Option<Hands>,
    rng: Rng,
    seed: u64,
    /// Everything that is in the buffer, in order.
    expected: Vec<Came>,
    /// Which of it need not come again: acknowledged records, and losses that came.
    done: Vec<bool>,
    /// No item before this one comes now.
    next: usize,
    /// Deliveries that are not acknowledged yet, with their places in `expected`.
    held: Vec<(usize, Delivery)>,
    /// What this life's counters must say.
    delivered: Count,
    lost: u64,
}

impl Reading {
    fn new(sim: Sim, rng: Rng, seed: u64) -> Self {
        let expected = expected(&sim);
        Self {
            done: vec![false; expected.len()],
            sim,
            hands: None,
            rng,
            seed,
            expected,
            next: 0,
            held: Vec::new(),
            delivered: Count::default(),
            lost: 0,
        }
    }

    /// Begins a life: everything after the prefix that is done comes again.
    async fn open(&mut self) {
        let first = self.done.iter().position(|done| !done);
        let first = first.unwrap_or(self.done.len());
        self.done[first..].fill(false);
        self.next = first;
        self.held.clear();
        (self.delivered, self.lost) = (Count::default(), 0);
        let (writer, reader) = loop {
            match reading_config(&self.sim).open() {
                Ok(open) => break open,
                // A reader that was dropped closes the buffer in the background.
                Err(error) if error.kind() == ErrorKind::Locked => tokio::task::yield_now().await,
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
        };
        drop(writer);
        self.hands = Some(match self.rng.below(2) {
            0 => Hands::Async(AsyncReader::new(reader)),
            _ => Hands::Blocking(Box::new(reader)),
        });
    }

    /// Ends the life in one of the ways that there are.
    async fn end(&mut self) {
        let is_stopped = self.rng.below(3) == 0;
        let by_drop = self.rng.below(2) == 0;
        match self.hands.take().unwrap() {
            Hands::Blocking(mut reader) => {
                if is_stopped {
                    reader.stopper().stop();
                    assert!(reader.recv().unwrap().is_none());
                }
                if by_drop {
                    drop(reader);
                } else {
                    reader.close().unwrap();
                }
            }
            Hands::Async(mut reader) => {
                if is_stopped {
                    reader.stopper().stop();
                    assert!(reader.recv().await.unwrap().is_none());
                    let all = reader.recv_batch(usize::MAX, u64::MAX).await;
                    assert!(all.unwrap().is_none());
                }
                match self.rng.below(2) {
                    _ if by_drop => drop(reader),
                    0 => reader.close().await.unwrap(),
                    _ => reader.close_timeout(LONG).await.unwrap(),
                }
            }
        }
    }

    fn take(&mut self, item: Item) {
        let at = (self.next..self.expected.len()).find(|at| !self.done[*at]);
        let came = Came::of(&item);
        let due = at.map(|at| &self.expected[at]);
        let seed = self.seed;
        assert_eq!(Some(&came), due, "seed {seed}: item {at:?} is another one");
        let at = at.unwrap_or_default();
        self.next = at + 1;
        match item {
            Item::Record(delivery) => {
                self.delivered.events += delivery.events();
                self.delivered.bytes += frame_len(delivery.payload().len()) as u64;
                match self.rng.below(4) {
                    0 => self.held.push((at, delivery)),
                    _ => self.acknowledge(at, delivery),
                }
            }
            Item::Lost(lost) => {
                self.lost += lost.events;
                self.done[at] = true;
            }
        }
    }

    fn acknowledge(&mut self, at: usize, delivery: Delivery) {
        delivery.ack();
        self.done[at] = true;
    }

    /// Acknowledges some of the deliveries that are held, in any order.
    fn acknowledge_some(&mut self) {
        for _ in 0..self.rng.below(self.held.len() as u64 + 1) {
            let index = self.rng.below(self.held.len() as u64) as usize;
            let (at, delivery) = self.held.swap_remove(index);
            self.acknowledge(at, delivery);
        }
    }

    fn check_counts(&self) {
        let usage = match self.hands.as_ref().unwrap() {
            Hands::Blocking(reader) => reader.usage(),
            Hands::Async(reader) => reader.usage(),
        };
        check_law(&usage);
        assert_eq!(usage.delivered, self.delivered, "seed {}", self.seed);
        assert_eq!(usage.lost.events, self.lost, "seed {}", self.seed);
    }

    /// Reads until everything is acknowledged.
    async fn read_all(&mut self) {
        let mut endings = self.rng.below(4);
        self.open().await;
        loop {
            let has_ended = self.step().await;
            self.check_counts();
            if has_ended {
                let left = (self.next..self.expected.len()).find(|at| !self.done[*at]);
                assert_eq!(left, None, "seed {}: the end came too early", self.seed);
                for (at, delivery) in std::mem::take(&mut self.held) {
                    self.acknowledge(at, delivery);
                }
                break;
            }
            if self.rng.below(4) == 0 {
                self.acknowledge_some();
            }
            if endings > 0 && self.rng.below(12) == 0 {
                endings -= 1;
                self.end().await;
                self.open().await;
            }
        }
        // Nothing is left: neither in this life nor in the next.
        self.end().await;
        self.open().await;
        while !self.step().await {}
        self.end().await;
    }

    /// Makes a random call. Returns whether the end has come.
    async fn step(&mut self) -> bool {
        match self.hands.take().unwrap() {
            Hands::Blocking(reader) => self.step_blocking(*reader),
            Hands::Async(reader) => self.step_async(reader).await,
        }
    }

    fn step_blocking(&mut self, mut reader: Reader) -> bool {
        let limits = self.limits();
        let found = match self.rng.below(7) {
            0 => end_or(reader.recv().unwrap()).map(|item| vec![item]),
            1 => reader.next().map(|item| vec![item.unwrap()]).ok_or(true),
            2 => tried(reader.try_recv().unwrap()).map(|item| vec![item]),
            3 => tried(reader.recv_timeout(Duration::ZERO).unwrap()).map(|item| vec![item]),
            4 => end_or(reader.recv_batch(limits.0, limits.1).unwrap())
                .map(|b| b.into_iter().collect()),
            5 => tried(reader.try_recv_batch(limits.0, limits.1).unwrap())
                .map(|b| b.into_iter().collect()),
            _ => {
                reader.rewind();
                self.next = 0;
                Err(false)
            }
        };
        self.hands = Some(match self.rng.below(3) {
            0 => Hands::Async(AsyncReader::new(reader)),
            _ => Hands::Blocking(Box::new(reader)),
        });
        self.note(found)
    }

    async fn step_async(&mut self, mut reader: AsyncReader) -> bool {
        let limits = self.limits();
        let found = match self.rng.below(8) {
            0 => end_or(reader.recv().await.unwrap()).map(|item| vec![item]),
            1 => tried(reader.try_recv().await.unwrap()).map(|item| vec![item]),
            2 => tried(reader.recv_timeout(Duration::from_millis(1)).await.unwrap())
                .map(|item| vec![item]),
            3 => end_or(reader.recv_batch(limits.0, limits.1).await.unwrap())
                .map(|b| b.into_iter().collect()),
            4 => tried(reader.try_recv_batch(limits.0, limits.1).await.unwrap())
                .map(|b| b.into_iter().collect()),
            5 => tried(
                reader
                    .recv_batch_timeout(limits.0, limits.1, Duration::from_micros(50))
                    .await
                    .unwrap(),
            )
            .map(|b| b.into_iter().collect()),
            // The future is dropped after one poll, perhaps while a read is in flight.
            6 => match poll_once(reader.recv_batch(limits.0, limits.1)) {
                Some(batch) => end_or(batch.unwrap()).map(|b| b.into_iter().collect()),
                None => Err(false),
            },
            _ => {
                reader.rewind().await.unwrap();
                self.next = 0;
                Err(false)
            }
        };
        self.hands = Some(match self.rng.below(4) {
            0 => Hands::Blocking(Box::new(reader.into_inner().await.unwrap())),
            _ => Hands::Async(reader),
        });
        self.note(found)
    }

    fn note(&mut self, found: Result<Vec<Item>, bool>) -> bool {
        match found {
            Ok(items) => {
                items.into_iter().for_each(|item| self.take(item));
                false
            }
            Err(has_ended) => has_ended,
        }
    }

    fn limits(&mut self) -> (usize, u64) {
        let records = [1, 3, 20, usize::MAX][self.rng.below(4) as usize];
        let bytes = [0, 500, 5000, u64::MAX][self.rng.below(4) as usize];
        (records, bytes)
    }
}

/// What was found, or `Err(true)`: the end has come.
fn end_or<T>(found: Option<T>) -> Result<T, bool> {
    found.ok_or(true)
}

/// What was found, or in `Err` whether the end has come.
fn tried<T>(found: TryRecv<T>) -> Result<T, bool> {
    match found {
        TryRecv::Ready(found) => Ok(found),
        TryRecv::Empty => Err(false),
        TryRecv::End => Err(true),
    }
}

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
    match polled {
        std::task::Poll::Ready(found) => Some(found),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn however_a_damaged_buffer_is_read_the_same_items_come() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let mut losses = 0;
    each_seed("reading", |seed| {
        let mut rng = Rng(seed);
        let sim = damaged(&mut rng);
        let mut reading = Reading::new(sim, rng, seed);
        losses += reading
            .expected
            .iter()
            .filter(|came| matches!(came, Came::Lost(..)))
            .count();
        runtime.block_on(async {
            let ended = tokio::time::timeout(LONG, reading.read_all()).await;
            ended.unwrap_or_else(|_| panic!("seed {seed}: the end does not come"));
        });
    });
    assert!(losses > 0, "no seed loses anything");
}

/// Lives on one machine, one after the other.
struct Lives {
    rng: Rng,
    sim: Sim,
    /// The id that the next record gets.
    next_id: u64,
    /// Everything below this id is synced: no crash may take it.
    promised: u64,
    /// Everything below this id is acknowledged.
    acknowledged: u64,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Close,
    Kill,
    PowerCut,
}

impl Lives {
    fn live(&mut self) {
        let when_full = [
            WhenFull::Reject,
            WhenFull::DropNewest,
            WhenFull::BlockFor(Duration::from_millis(2)),
        ][self.rng.below(3) as usize];
        let sync = [SyncPolicy::Interval, SyncPolicy::Always, SyncPolicy::Never]
            [self.rng.below(3) as usize];
        let io = [Io::Thread, Io::Caller][self.rng.below(2) as usize];
        let config = Config::new(DIR)
            .max_size(32 << 10)
            .batch_size(4096)
            .when_full(when_full)
            .sync(sync)
            .io(io)
            .storage(Arc::new(self.sim.clone()));
        let (writer, mut reader) = config.open().unwrap();
        assert_eq!(writer.usage().next_record_id, self.next_id);
        // All records below `next_id` are there now, but after a kill the next power cut may
        // still take them.
        self.read(&mut reader, self.next_id);
        let mut synced = self.promised;
        for _ in 0..self.rng.below(30) {
            self.append(&writer, sync, &mut synced);
            if self.rng.below(6) == 0 {
                let room = [None, Some(8 << 10), Some(20 << 10)][self.rng.below(3) as usize];
                self.sim.set_capacity(room);
            }
            if self.rng.below(4) == 0 {
                self.read(&mut reader, 0);
            }
        }
        self.end(writer, reader, synced);
    }

    /// Appends in a random way, and checks the answer against the buffer's own counts.
    fn append(&mut self, writer: &Writer, sync: SyncPolicy, synced: &mut u64) {
        let before = writer.usage();
        let count = 1 + self.rng.below(12) as usize;
        let bytes = payload(self.next_id, 1 + self.rng.below(600) as usize);
        let batch = vec![&bytes[..]; count];
        let one = |receipt: Result<Receipt<'_>, Error>| match receipt {
            Ok(receipt) => (usize::from(receipt.accepted()), receipt.id(), None),
            // An append that timed out while it waited for its sync has accepted its record.
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                let last = writer.usage().next_record_id - 1;
                (1, Some(last), Some(error.kind()))
            }
            Err(error) => (0, None, Some(error.kind())),
        };
        let (accepted, last, error) = match self.rng.below(4) {
            0 => one(writer.append(&bytes)),
            1 => one(writer.try_append(&bytes)),
            2 => one(writer.append_timeout(&bytes, Duration::from_millis(1))),
            _ => match writer.append_batch(&batch) {
                Ok(all) => {
                    assert_eq!(all.accepted() + all.dropped(), count);
                    (all.accepted(), all.receipt().id(), None)
                }
                Err(some) => {
                    assert!(some.accepted() + some.dropped() <= count);
                    let last = some.receipt().id();
                    (some.accepted(), last, Some(some.kind()))
                }
            },
        };
        let after = writer.usage();
        let usual = [ErrorKind::Full, ErrorKind::DiskFull, ErrorKind::TimedOut];
        assert!(error.is_none_or(|kind| usual.contains(&kind)), "{error:?}");
        let came = after.next_record_id - before.next_record_id;
        assert_eq!(came, accepted as u64, "{error:?}");
        let expected = (accepted > 0).then(|| after.next_record_id - 1);
        assert_eq!(last, expected, "{error:?}");
        self.next_id = after.next_record_id;
        if sync == SyncPolicy::Always && error.is_none() && accepted > 0 {
            *synced = self.next_id;
        }
        if self.rng.below(8) == 0 && writer.flush_timeout(Duration::from_millis(1)).is_ok() {
            *synced = self.next_id;
        }
    }

    /// Reads and acknowledges what is there. Checks that no id is missing, and that all below
    /// `at_least` come.
    fn read(&mut self, reader: &mut Reader, at_least: u64) {
        loop {
            match reader.try_recv().unwrap() {
                TryRecv::Ready(Item::Record(delivery)) => {
                    assert!(
                        delivery.id() <= self.acknowledged,
                        "{} is missing",
                        self.acknowledged
                    );
                    self.acknowledged = self.acknowledged.max(delivery.id() + 1);
                    delivery.ack();
                }
                TryRecv::Ready(Item::Lost(lost)) => {
                    // Only a power cut takes events, and only those that were not synced.
                    assert!(lost.first_id >= self.promised, "{lost}");
                    self.acknowledged = lost.last_id + 1;
                }
                TryRecv::Empty | TryRecv::End if self.acknowledged >= at_least => return,
                // The I/O thread has not written it yet.
                TryRecv::Empty => std::thread::yield_now(),
                TryRecv::End => panic!("{} of {at_least}", self.acknowledged),
            }
        }
    }

    fn end(&mut self, writer: Writer, reader: Reader, synced: u64) {
        let ending = [Ending::Close, Ending::Kill, Ending::PowerCut][self.rng.below(3) as usize];
        let seed = self.rng.next();
        match ending {
            Ending::Close => {
                if self.rng.below(3) > 0 {
                    self.sim.set_capacity(None);
                }
                let timeout = [Duration::ZERO, LONG][self.rng.below(2) as usize];
                drop(reader);
                let monitor = writer.monitor();
                let closed = match self.rng.below(2) {
                    0 => writer.close(),
                    _ => writer.close_timeout(timeout),
                };
                // A close that timed out goes on in the background.
                while monitor.usage().is_some() {
                    std::thread::yield_now();
                }
                self.sim.set_capacity(None);
                self.promised = match closed {
                    Ok(()) => self.next_id,
                    Err(error) => {
                        let usual = [ErrorKind::DiskFull, ErrorKind::TimedOut, ErrorKind::Io];
                        assert!(usual.contains(&error.kind()), "{error}");
                        synced
                    }
                };
            }
            Ending::Kill | Ending::PowerCut => {
                let machine = match ending {
                    Ending::Kill => self.sim.kill(),
                    _ => self.sim.crash(seed),
                };
                drop((writer, reader));
                self.sim = machine;
                self.sim.set_capacity(None);
                self.promised = synced;
            }
        }
        // Records from `promised` on may be there or not, and ids continue after those that are.
        let config = Config::new(DIR)
            .max_size(32 << 10)
            .io(Io::Caller)
            .storage(Arc::new(self.sim.kill()));
        let (writer, _reader) = config.open().unwrap();
        let there = writer.usage();
        assert!(there.next_record_id >= self.promised, "{ending:?}");
        assert!(there.next_record_id <= self.next_id, "{ending:?}");
        self.next_id = there.next_record_id;
        // A stop may take acknowledgements, so acknowledged records may come again.
        self.acknowledged = self.acknowledged.min(there.last_acknowledged_id + 1);
    }
}

#[test]
fn what_appends_say_holds_over_lives_with_full_disks_and_crashes() {
    each_seed("appending", |seed| {
        let mut lives = Lives {
            rng: Rng(seed),
            sim: Sim::new(),
            next_id: 1,
            promised: 1,
            acknowledged: 1,
        };
        for _ in 0..5 {
            lives.live();
        }
    });
}
