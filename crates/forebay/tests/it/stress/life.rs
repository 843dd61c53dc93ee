//! One life of a buffer under load: many producers, one consumer, threads that acknowledge in
//! any order, rewinds, an end at any moment. An account covers any number of lives.
//!
//! Invariants of every delivery:
//! - Ids rise within an epoch; a rewind or a reopening begins a new one. Ids that are skipped
//!   are being acknowledged.
//! - No record comes that was acknowledged before the epoch began.
//! - The first delivery of an id is the next id, and holds the next payload of its producer:
//!   nothing is lost, made up, or out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use forebay::{
    Config, Delivery, ErrorKind, Item, Reader, ReaderSees, SyncPolicy, TryRecv, WhenFull, Writer,
};

use crate::support::{Rng, check_law};

/// The number of threads that acknowledge.
const ACKERS: usize = 3;

/// The plan of a life, chosen by a seed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) producers: u64,
    /// Records that each producer appends.
    pub(crate) records: u64,
    /// The longest payload.
    pub(crate) payload_len: u64,
    /// The consumer leaves after this many deliveries.
    pub(crate) leaves_after: Option<u64>,
    /// How long the consumer sleeps now and then.
    pub(crate) pause: Duration,
    pub(crate) seed: u64,
}

impl Plan {
    /// A plan for a buffer that is small enough to be full soon.
    pub(crate) fn draw(rng: &mut Rng, config: Config, max_size: u64) -> Self {
        let file_size = max_size / [3, 8, 16][rng.below(3) as usize];
        let config = config
            .max_size(max_size)
            .data_file_size(file_size)
            .batch_size([4 << 10, 64 << 10][rng.below(2) as usize])
            .flush_interval(Duration::from_millis(1 + rng.below(20)))
            .sync(match rng.below(4) {
                0 => SyncPolicy::Always,
                1 => SyncPolicy::Never,
                _ => SyncPolicy::Interval,
            })
            .reader_sees([ReaderSees::Written, ReaderSees::Synced][rng.below(2) as usize])
            .when_full(match rng.below(4) {
                0 => WhenFull::Reject,
                1 => WhenFull::DropNewest,
                2 => WhenFull::BlockFor(Duration::from_millis(1)),
                _ => WhenFull::Block,
            });
        Self {
            config,
            producers: 1 + rng.below(8),
            records: 1 + rng.below(400),
            payload_len: [16, 100, file_size - 64][rng.below(3) as usize],
            leaves_after: (rng.below(3) == 0).then(|| rng.below(800)),
            pause: Duration::from_micros(rng.below(3) * 500),
            seed: rng.next(),
        }
    }
}

/// A set of ids: all up to `up_to`, and some after it.
#[derive(Debug, Default, Clone)]
struct Marks {
    up_to: u64,
    beyond: BTreeSet<u64>,
}

impl Marks {
    fn insert(&mut self, id: u64) {
        if id > self.up_to {
            self.beyond.insert(id);
        }
        while self.beyond.remove(&(self.up_to + 1)) {
            self.up_to += 1;
        }
    }

    fn contains(&self, id: u64) -> bool {
        id <= self.up_to || self.beyond.contains(&id)
    }
}

/// What went through a buffer in all its lives.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// The number of accepted records of each producer.
    accepted: BTreeMap<u64, u64>,
    /// The number of delivered records of each producer.
    delivered: BTreeMap<u64, u64>,
    /// The highest id delivered.
    delivered_to: u64,
    /// `acknowledging` is noted before an acknowledgement, `acknowledged` after it.
    acknowledging: Mutex<Marks>,
    acknowledged: Mutex<Marks>,
    pub(crate) dropped: u64,
    pub(crate) rewinds: u64,
    pub(crate) redelivered: u64,
}

impl Account {
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.values().sum()
    }

    fn acknowledge(&self, delivery: Delivery) {
        let id = delivery.id();
        self.acknowledging.lock().unwrap().insert(id);
        delivery.ack();
        self.acknowledged.lock().unwrap().insert(id);
    }

    /// Runs a life to its end, and checks the counts of the buffer.
    pub(crate) fn live(&mut self, plan: &Plan) {
        let (writer, mut reader) = plan.config.clone().open().unwrap();
        let unread = writer.usage().unread.events;
        let accepted_before = self.accepted();
        assert_eq!(unread, accepted_before - self.forget_gaps());
        let (dropped, reader_is_gone) = (AtomicU64::new(0), AtomicBool::new(false));
        let mut rng = Rng(plan.seed);
        let mut seeds: Vec<Rng> = (0..plan.producers).map(|_| Rng(rng.next())).collect();
        let mut sent: Vec<u64> = (0..plan.producers)
            .map(|producer| self.accepted.get(&producer).copied().unwrap_or_default())
            .collect();
        std::thread::scope(|scope| {
            let producers: Vec<_> = (0..plan.producers)
                .zip(seeds.iter_mut())
                .zip(sent.iter_mut())
                .map(|((producer, rng), sent)| {
                    let producer = Producer {
                        writer: writer.clone(),
                        number: producer,
                        dropped: &dropped,
                        reader_is_gone: &reader_is_gone,
                    };
                    scope.spawn(move || producer.run(plan, rng, sent))
                })
                .collect();
            // Dropped also if an assertion fails here, so that the producers end.
            let gone = Gone(&reader_is_gone);
            self.consume(&mut reader, plan, &mut rng, || {
                producers.iter().all(|producer| producer.is_finished())
            });
            check_law(&reader.usage());
            // Producers that wait for space fail when the reader is closed.
            reader.close().unwrap();
            drop(gone);
        });
        // A producer without an accepted record has no entry among the delivered ones either.
        for (producer, sent) in (0..).zip(sent).filter(|(_, sent)| *sent > 0) {
            self.accepted.insert(producer, sent);
        }
        let dropped = dropped.load(Ordering::SeqCst);
        self.dropped += dropped;
        let usage = writer.usage();
        check_law(&usage);
        let accepted = self.accepted() - accepted_before;
        assert_eq!(usage.received.events, unread + accepted + dropped);
        assert_eq!(usage.dropped.events, dropped);
        assert_eq!(usage.lost.events, 0);
        assert_eq!(usage.next_record_id, self.accepted() + 1);
        let acknowledged = self.acknowledged.lock().unwrap().up_to;
        assert_eq!(usage.last_acknowledged_id, acknowledged);
        writer.close().unwrap();
    }

    /// Forgets acknowledgements after a gap, because those records come again after
    /// reopening. Returns how many are acknowledged before the first gap.
    fn forget_gaps(&mut self) -> u64 {
        let acknowledged = self.acknowledged.get_mut().unwrap();
        acknowledged.beyond.clear();
        *self.acknowledging.get_mut().unwrap() = acknowledged.clone();
        acknowledged.up_to
    }

    /// Reads, and has other threads acknowledge, until everything is acknowledged or the plan
    /// says to leave.
    fn consume(
        &mut self,
        reader: &mut Reader,
        plan: &Plan,
        rng: &mut Rng,
        producers_are_done: impl Fn() -> bool,
    ) {
        let (give, take) = mpsc::sync_channel::<Delivery>(64);
        let take = Mutex::new(take);
        let mut state = Epoch::begin(self);
        let (mut delivered_to, mut delivered) = (self.delivered_to, self.delivered.clone());
        let (mut rewinds, mut redelivered, mut count) = (0, 0, 0);
        let account = &*self;
        std::thread::scope(|scope| {
            for _ in 0..ACKERS {
                let (take, mut rng) = (&take, Rng(rng.next()));
                scope.spawn(move || account.acknowledge_all(take, &mut rng));
            }
            loop {
                if plan.leaves_after.is_some_and(|most| count >= most) {
                    break;
                }
                if rng.below(64) == 0 && !plan.pause.is_zero() {
                    std::thread::sleep(plan.pause);
                }
                let rewind = match reader.recv_timeout(Duration::from_millis(2)).unwrap() {
                    TryRecv::Ready(Item::Record(delivery)) => {
                        count += 1;
                        let id = delivery.id();
                        state.check(account, id);
                        if id > delivered_to {
                            assert_eq!(id, delivered_to + 1, "an id is missing");
                            delivered_to = id;
                            let (producer, n) = origin(delivery.payload());
                            let next = delivered.entry(producer).or_default();
                            assert_eq!(n, *next, "of producer {producer}");
                            *next += 1;
                        } else {
                            redelivered += 1;
                        }
                        give.send(delivery).unwrap();
                        rng.below(2000) == 0
                    }
                    TryRecv::Ready(Item::Lost(lost)) => panic!("nothing is lost, but {lost:?}"),
                    // Dropped deliveries come again only after a rewind.
                    TryRecv::Empty | TryRecv::End => {
                        check_law(&reader.usage());
                        let done = producers_are_done() && reader.usage().unread.events == 0;
                        if done {
                            break;
                        }
                        true
                    }
                };
                if rewind {
                    rewinds += 1;
                    state = Epoch::begin(account);
                    reader.rewind();
                }
            }
            drop(give);
        });
        self.delivered_to = delivered_to;
        self.delivered = delivered;
        self.rewinds += rewinds;
        self.redelivered += redelivered;
    }

    /// Acknowledges deliveries in any order; drops a few of them instead.
    fn acknowledge_all(&self, take: &Mutex<mpsc::Receiver<Delivery>>, rng: &mut Rng) {
        let mut held = Vec::new();
        loop {
            let next = take.lock().unwrap().recv_timeout(Duration::from_millis(1));
            match next {
                Ok(_) if rng.below(200) == 0 => {}
                Ok(delivery) => held.push(delivery),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            while held.len() as u64 > rng.below(16) {
                let index = rng.below(held.len() as u64) as usize;
                self.acknowledge(held.swap_remove(index));
            }
        }
        held.into_iter()
            .for_each(|delivery| self.acknowledge(delivery));
    }

    /// Checks that everything that was accepted is delivered and acknowledged.
    pub(crate) fn check_all_is_done(&self) {
        assert_eq!(self.accepted, self.delivered);
        assert_eq!(self.delivered_to, self.accepted());
        assert_eq!(self.acknowledged.lock().unwrap().up_to, self.accepted());
    }
}

/// Sets the flag when it is dropped.
struct Gone<'a>(&'a AtomicBool);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The time from an opening or a rewind to the next one.
struct Epoch {
    acknowledged: Marks,
    last: u64,
}

impl Epoch {
    fn begin(account: &Account) -> Self {
        let acknowledged = account.acknowledged.lock().unwrap().clone();
        let last = acknowledged.up_to;
        Self { acknowledged, last }
    }

    fn check(&mut self, account: &Account, id: u64) {
        assert!(id > self.last, "{id} comes after {}", self.last);
        assert!(!self.acknowledged.contains(id), "{id} was acknowledged");
        let acknowledging = account.acknowledging.lock().unwrap();
        let skipped = (self.last + 1..id).find(|id| !acknowledging.contains(*id));
        assert_eq!(skipped, None, "skipped before {id}");
        self.last = id;
    }
}

/// A payload that begins with its producer and its number.
fn payload(producer: u64, n: u64, len: u64) -> Vec<u8> {
    let mut payload = vec![n as u8; 16 + len as usize];
    payload[..8].copy_from_slice(&producer.to_le_bytes());
    payload[8..16].copy_from_slice(&n.to_le_bytes());
    payload
}

fn origin(payload: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
    let n = word(8);
    assert!(payload[16..].iter().all(|byte| *byte == n as u8));
    (word(0), n)
}

struct Producer<'a> {
    writer: Writer,
    number: u64,
    dropped: &'a AtomicU64,
    reader_is_gone: &'a AtomicBool,
}

impl Producer<'_> {
    /// Appends until all records are accepted, or the buffer is full for good.
    /// `sent` counts those accepted over all lives.
    fn run(&self, plan: &Plan, rng: &mut Rng, sent: &mut u64) {
        let end = *sent + plan.records;
        while *sent < end {
            let payload = payload(self.number, *sent, rng.below(plan.payload_len - 15));
            let is_last_try = self.reader_is_gone.load(Ordering::SeqCst);
            let receipt = match self.writer.append(&payload) {
                Ok(receipt) if receipt.accepted() => Some(receipt),
                Ok(_) => {
                    self.dropped.fetch_add(1, Ordering::SeqCst);
                    None
                }
                // The buffer or its disk is full; it stays so once the reader is closed.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Full | ErrorKind::DiskFull | ErrorKind::ReaderGone
                    ) =>
                {
                    None
                }
                Err(error) => panic!("{error}"),
            };
            let Some(receipt) = receipt else {
                if is_last_try {
                    return;
                }
                std::thread::sleep(Duration::from_micros(100));
                continue;
            };
            *sent += 1;
            match rng.below(200) {
                0 => receipt.wait_synced().unwrap(),
                1 => receipt.wait_written().unwrap(),
                2 => self.writer.flush().unwrap(),
                _ => {}
            }
        }
    }
}
