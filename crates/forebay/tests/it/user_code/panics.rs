//! Random lives of a buffer in which user code panics again and again, and the program goes on.
//!
//! Invariants: every synced record is delivered, in order; no acknowledged record comes again,
//! also in the next life; every loss is reported once.
//!
//! `FOREBAY_SEED` repeats the run of one seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use forebay::aio::AsyncReader;
use forebay::storage::sim::Sim;
use forebay::{Config, Delivery, EventCounter, Io, Item, Reader, TryRecv, Writer};
use futures_util::FutureExt;

use super::{DIR, LONG, caught, open_sim};
use crate::support::{Rng, number_from};
use crate::usage::check_law;

const SEEDS: u64 = 40;
const LIVES: u64 = 4;
const STEPS: u64 = 60;

/// Panics at the nth `burn` after `light(n)`.
#[derive(Debug, Clone, Default)]
struct Fuse(Arc<AtomicU64>);

impl Fuse {
    fn light(&self, length: u64) {
        self.0.store(length, Ordering::SeqCst);
    }

    fn put_out(&self) {
        self.light(0);
    }

    fn burn(&self) {
        let left = self.0.load(Ordering::SeqCst);
        if left > 0 {
            self.0.store(left - 1, Ordering::SeqCst);
            assert_ne!(left, 1, "the fuse has burnt down, as it should");
        }
    }
}

struct Subscriber(Fuse);

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
        self.0.burn();
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// A waker that panics.
struct Bad;

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics, as it should");
    }
}

/// Events of a record: 1 to 3.
fn events_of(payload: &[u8]) -> u64 {
    1 + u64::from(payload[0]) % 3
}

/// The payload of the n-th record; no two are alike.
fn payload_of(n: u64, len: u64) -> Vec<u8> {
    let mut payload = [n.to_le_bytes(), *b"a record"].concat();
    payload.resize(16 + len as usize, 0x5a);
    payload
}

/// What must become of every record.
#[derive(Default)]
struct Account {
    /// The accepted records by id, without the prefix that earlier lives were done with.
    records: BTreeMap<u64, Vec<u8>>,
    next_id: u64,
    acked: BTreeSet<u64>,
    /// Records whose bytes were changed, and whether their loss was reported in this life.
    damaged: BTreeMap<u64, bool>,
    /// The last id that was delivered since the last rewind.
    last: u64,
}

impl Account {
    /// The ids that are still to come, oldest first.
    fn expected(&self) -> impl Iterator<Item = u64> {
        let rest = self.records.range(self.last + 1..);
        rest.map(|(id, _)| *id)
            .filter(|id| !self.acked.contains(id) && !self.damaged.contains_key(id))
    }

    fn is_drained(&self) -> bool {
        self.expected().next().is_none() && self.damaged.values().all(|told| *told)
    }

    fn delivered(&mut self, id: u64, payload: &[u8]) {
        assert_eq!(Some(id), self.expected().next(), "after {}", self.last);
        assert_eq!(payload, self.records[&id]);
        self.last = id;
    }

    fn lost(&mut self, first_id: u64, events: u64) {
        let mut id = first_id;
        while id < first_id + events {
            let told = self.damaged.get_mut(&id);
            let told = told.unwrap_or_else(|| panic!("{id} is not damaged"));
            assert!(!std::mem::replace(told, true), "{id} was told before");
            id += events_of(&self.records[&id]);
        }
        assert_eq!(id, first_id + events);
    }

    fn take(&mut self, item: Item, held: &mut Vec<Delivery>) {
        match item {
            Item::Record(delivery) => {
                self.delivered(delivery.id(), delivery.payload());
                held.push(delivery);
            }
            Item::Lost(lost) => self.lost(lost.first_id, lost.events),
        }
    }

    /// Ends a life: the next one begins after the prefix of records that were acknowledged or
    /// reported lost.
    fn die(&mut self) {
        while let Some((&id, _)) = self.records.first_key_value() {
            let told = self.damaged.get(&id).copied();
            if !self.acked.contains(&id) && told != Some(true) {
                break;
            }
            self.records.remove(&id);
        }
        let begin = self.records.keys().next().copied().unwrap_or(u64::MAX);
        self.damaged.retain(|id, _| *id >= begin);
        self.damaged.values_mut().for_each(|told| *told = false);
        self.acked.clear();
        self.last = 0;
    }
}

struct Life<'a> {
    rng: &'a mut Rng,
    fuse: Fuse,
    account: &'a mut Account,
    writer: Writer,
    /// `None` only while an async reader has it.
    reader: Option<Reader>,
    held: Vec<Delivery>,
    runtime: &'a tokio::runtime::Runtime,
    count: u64,
    panics: u64,
}

impl Life<'_> {
    /// Lights the fuse two times in three, else puts it out.
    fn light(&mut self) {
        match self.rng.below(3) {
            0 => self.fuse.put_out(),
            _ => self.fuse.light(1 + self.rng.below(12)),
        }
    }

    fn note(&mut self, panicked: bool) {
        self.fuse.put_out();
        self.panics += u64::from(panicked);
    }

    fn append(&mut self) {
        let count = 1 + self.rng.below(12);
        let batch: Vec<_> = (0..count)
            .map(|_| {
                self.count += 1;
                payload_of(self.count, self.rng.below(200))
            })
            .collect();
        self.light();
        let by_batch = self.rng.below(2) == 0;
        if by_batch {
            let panicked = caught(|| self.writer.append_batch(&batch).unwrap());
            if !panicked {
                batch.into_iter().for_each(|payload| self.accepted(payload));
            }
            self.note(panicked);
        } else {
            for payload in batch {
                let panicked = caught(|| self.writer.append(&payload).unwrap());
                if !panicked {
                    self.accepted(payload);
                }
                self.panics += u64::from(panicked);
            }
            self.note(false);
        }
        assert_eq!(self.writer.usage().next_record_id, self.account.next_id);
    }

    fn accepted(&mut self, payload: Vec<u8>) {
        let id = self.account.next_id;
        self.account.next_id += events_of(&payload);
        self.account.records.insert(id, payload);
    }

    fn read(&mut self) {
        for _ in 0..=self.rng.below(10) {
            self.light();
            let by_batch = self.rng.below(2) == 0;
            let (records, bytes) = (1 + self.rng.below(8), self.rng.below(600));
            let reader = self.reader.as_mut().unwrap();
            let mut items = VecDeque::new();
            let subscriber = Subscriber(self.fuse.clone());
            let panicked = tracing::subscriber::with_default(subscriber, || {
                caught(|| {
                    if !by_batch {
                        if let TryRecv::Ready(item) = reader.try_recv().unwrap() {
                            items.push_back(item);
                        }
                        return;
                    }
                    let read = reader.try_recv_batch(records as usize, bytes);
                    if let TryRecv::Ready(batch) = read.unwrap() {
                        items.extend(batch.lost().iter().cloned().map(Item::Lost));
                        items.extend(batch.into_deliveries().map(Item::Record));
                    }
                })
            });
            self.note(panicked);
            for item in items {
                self.account.take(item, &mut self.held);
            }
        }
    }

    /// Reads for a while as an async program, whose tasks catch panics.
    fn read_async(&mut self) {
        let mut reader = AsyncReader::new(self.reader.take().unwrap());
        let count = self.rng.below(10);
        for _ in 0..count {
            if self.account.expected().next().is_none() {
                break;
            }
            self.light();
            let next = AssertUnwindSafe(reader.recv()).catch_unwind();
            let next = self.runtime.block_on(next);
            self.note(next.is_err());
            if let Ok(item) = next {
                let item = item.unwrap().expect("there is more");
                self.account.take(item, &mut self.held);
            }
        }
        // Only with nothing left to read: tokio wakes the waker of a read in the background,
        // not the buffer.
        if self.account.is_drained() {
            self.wait_with_a_bad_waker(&mut reader);
        }
        self.reader = Some(self.runtime.block_on(reader.into_inner()).unwrap());
    }

    fn wait_with_a_bad_waker(&mut self, reader: &mut AsyncReader) {
        let waker = Waker::from(Arc::new(Bad));
        let polled = {
            let _runtime = self.runtime.enter();
            pin!(reader.recv()).poll(&mut Context::from_waker(&waker))
        };
        match polled {
            Poll::Ready(item) => {
                let item = item.unwrap().expect("the writer is there");
                self.account.take(item, &mut self.held);
            }
            Poll::Pending => {
                self.append();
                self.writer.flush().unwrap();
            }
        }
    }

    fn acknowledge(&mut self) {
        for _ in 0..=self.rng.below(self.held.len() as u64 + 1) {
            if self.held.is_empty() {
                return;
            }
            let at = match self.rng.below(3) {
                0 => self.rng.below(self.held.len() as u64) as usize,
                _ => 0,
            };
            let delivery = self.held.remove(at);
            self.account.acked.insert(delivery.id());
            delivery.ack();
        }
    }

    fn step(&mut self, io: Io) {
        match self.rng.below(16) {
            0..4 => self.append(),
            4..9 => self.read(),
            9..11 if io == Io::Thread => self.read_async(),
            9..14 => self.acknowledge(),
            14 => {
                self.reader.as_mut().unwrap().rewind();
                self.account.last = 0;
            }
            _ => self.writer.flush().unwrap(),
        }
    }

    /// Reads until everything has come.
    fn drain(&mut self) {
        let reader = self.reader.as_mut().unwrap();
        loop {
            if self.account.is_drained() {
                return;
            }
            match reader.recv_timeout(LONG).unwrap() {
                TryRecv::Ready(item) => self.account.take(item, &mut self.held),
                other => panic!("{other:?} although there is more"),
            }
        }
    }
}

/// Changes a byte of a record that is still to come, but not of the last one.
fn damage(sim: &Sim, rng: &mut Rng, account: &mut Account) {
    let count = account.records.len().saturating_sub(1);
    if count == 0 {
        return;
    }
    let at = rng.below(count as u64) as usize;
    let (&id, payload) = account.records.iter().nth(at).unwrap();
    for (name, _) in sim.files(DIR) {
        let path = format!("{DIR}/{name}");
        let mut bytes = sim.read_file(&path).unwrap();
        let Some(found) = bytes.windows(16).position(|w| w == &payload[..16]) else {
            continue;
        };
        if name.ends_with(".dat") && !account.damaged.contains_key(&id) {
            bytes[found + 9] ^= 0x40;
            sim.write_file(&path, &bytes).unwrap();
            account.damaged.insert(id, false);
        }
        return;
    }
}

fn live(seed: u64, runtime: &tokio::runtime::Runtime) -> u64 {
    let mut rng = Rng(seed);
    let mut account = Account {
        next_id: 1,
        ..Account::default()
    };
    let (mut sim, mut panics, mut count) = (Sim::new(), 0, 0);
    for _ in 0..LIVES {
        let fuse = Fuse::default();
        let io = [Io::Thread, Io::Caller][rng.below(2) as usize];
        let burning = fuse.clone();
        let counter = EventCounter::new(move |_, payload| {
            burning.burn();
            events_of(payload)
        });
        let config = Config::new(DIR)
            .max_size(16 << 20)
            .data_file_size([2 << 10, 16 << 10, 1 << 20][rng.below(3) as usize])
            .batch_size(4 << 10)
            .event_counter(counter)
            .io(io);
        let (writer, reader) = open_sim(&config, &sim);
        let mut life = Life {
            rng: &mut rng,
            fuse,
            account: &mut account,
            writer,
            reader: Some(reader),
            held: Vec::new(),
            runtime,
            count,
            panics: 0,
        };
        for _ in 0..STEPS {
            life.step(io);
        }
        life.drain();
        life.writer.flush().unwrap();
        check_law(&life.writer.usage());
        panics += life.panics;
        count = life.count;
        let (writer, reader) = (life.writer, life.reader.unwrap());
        if rng.below(2) == 0 {
            // The flush made the records and the acknowledgements durable.
            let after = sim.crash(rng.next());
            drop((writer, reader));
            sim = after;
        } else {
            drop(reader);
            writer.close().unwrap();
        }
        account.die();
        damage(&sim, &mut rng, &mut account);
    }
    panics
}

#[test]
fn whoever_panics_nothing_synced_is_lost_and_nothing_acknowledged_comes_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let first = number_from("FOREBAY_SEED", u64::from(std::process::id()) << 16);
    let seeds = match std::env::var("FOREBAY_SEED") {
        Ok(_) => first..first + 1,
        Err(_) => first..first + SEEDS,
    };
    // Thousands of panics are expected; their messages say nothing about a failure.
    let mut panics = 0;
    for seed in seeds {
        println!("FOREBAY_SEED={seed}");
        panics += live(seed, &runtime);
    }
    println!("{panics} panics");
    assert!(panics > 0);
}
