//! Lives with threads: several producers, a consumer that acknowledges, the buffer's own
//! thread, faults at random calls, and a stop at any moment.
//!
//! Which call fails depends on how the threads interleave, so a seed does not replay a failure;
//! the message says what was claimed and what was there.
//!
//! A payload begins with its life, producer and number, and its other bytes are computed from
//! these, so that no list of appended payloads is needed. A [`Board`] under a lock holds what
//! calls returned. A snapshot of the machine is taken under that lock and checked against it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::{Io, Item, Reader, TryRecv, WhenFull, Writer};

use super::check::{Inventory, Seen, brief, take_inventory};
use super::limits::Limits;
use super::stops::Stop;
use crate::support::{Rng, number_from};
use crate::workload::{Check, Record};

const PRODUCERS: u64 = 3;

/// What calls have returned so far.
#[derive(Debug, Clone, Default)]
struct Board {
    /// The last id that an append returned.
    accepted: u64,
    written: u64,
    synced: u64,
    /// No id up to `acked` comes again after a kill, and none up to `acks_synced` after a power
    /// cut.
    acked: u64,
    acks_synced: u64,
    /// Ids whose acknowledgement has at least begun.
    acking: BTreeSet<u64>,
}

impl Board {
    /// The last id of the acknowledged prefix.
    fn prefix(&self) -> u64 {
        let mut last = self.acked;
        while self.acking.contains(&(last + 1)) {
            last += 1;
        }
        last
    }
}

/// One life with threads.
struct Crowd {
    life: u64,
    sim: Sim,
    board: Mutex<Board>,
    producers_left: AtomicUsize,
}

impl Crowd {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn produce(&self, writer: &Writer, producer: u64, mut rng: Rng) {
        for number in 0..40 + rng.below(80) {
            let payload = payload(self.life, producer, number);
            let Ok(receipt) = writer.append(&payload) else {
                continue;
            };
            let Some(id) = receipt.id() else {
                continue;
            };
            {
                let mut board = self.board();
                board.accepted = board.accepted.max(id);
            }
            match rng.below(24) {
                0 if receipt.wait_synced().is_ok() => {
                    let mut board = self.board();
                    board.synced = board.synced.max(id);
                }
                1 if receipt.wait_written().is_ok() => {
                    let mut board = self.board();
                    board.written = board.written.max(id);
                }
                2 => {
                    let (accepted, acked) = {
                        let board = self.board();
                        (board.accepted, board.acked)
                    };
                    if writer.flush().is_ok() {
                        let mut board = self.board();
                        board.synced = board.synced.max(accepted);
                        board.acks_synced = board.acks_synced.max(acked);
                    }
                }
                _ => {}
            }
        }
        self.producers_left.fetch_sub(1, Ordering::Release);
    }

    fn consume(&self, mut reader: Reader, mut rng: Rng) -> Check {
        let mut held = Vec::new();
        let mut due: Option<u64> = None;
        loop {
            let are_done = self.producers_left.load(Ordering::Acquire) == 0;
            match reader.recv_timeout(Duration::from_millis(1)) {
                Ok(TryRecv::Ready(Item::Record(delivery))) => {
                    let seen = Record::from(&delivery);
                    check_payload(&seen)?;
                    if due.is_some_and(|due| due != seen.id) {
                        return Err(format!("{seen:?} came where {due:?} was due"));
                    }
                    due = Some(seen.end());
                    let mut board = self.board();
                    board.written = board.written.max(seen.id);
                    drop(board);
                    held.push(delivery);
                }
                Ok(TryRecv::Ready(Item::Lost(lost))) => {
                    return Err(format!("{lost:?} in a life that began with none"));
                }
                Ok(TryRecv::End) => return Ok(()),
                Ok(TryRecv::Empty) | Err(_) if are_done => return Ok(()),
                Ok(TryRecv::Empty) | Err(_) => {}
            }
            while held.len() as u64 > rng.below(12) {
                let index = if rng.below(3) == 0 {
                    rng.below(held.len() as u64)
                } else {
                    0
                };
                let delivery = held.remove(index as usize);
                self.board().acking.insert(delivery.id());
                delivery.ack();
                let mut board = self.board();
                board.acked = board.prefix();
            }
            if rng.below(40) == 0 {
                let acked = self.board().acked;
                if reader.sync_acks().is_ok() {
                    let mut board = self.board();
                    board.acks_synced = board.acks_synced.max(acked);
                }
            }
        }
    }

    /// The machine and what is claimed of it, once `operations` are done or the producers have
    /// ended.
    fn snapshot(&self, operations: u64) -> (Sim, Board) {
        while self.sim.operations() < operations && self.producers_left.load(Ordering::Acquire) > 0
        {
            std::thread::yield_now();
        }
        let board = self.board();
        (self.sim.kill(), board.clone())
    }
}

fn payload(life: u64, producer: u64, number: u64) -> Vec<u8> {
    let mut rng = Rng(life << 40 | producer << 32 | number);
    let len = match rng.below(8) {
        0 => 24,
        1 => rng.below(3000),
        _ => rng.below(300),
    };
    let mut payload = Vec::new();
    for word in [life, producer, number] {
        payload.extend_from_slice(&word.to_le_bytes());
    }
    payload.extend((0..len).map(|_| rng.next() as u8));
    payload
}

/// The life, producer and number of a record.
fn source(record: &Record) -> Option<[u64; 3]> {
    let word = |index: usize| {
        let bytes = record.payload.get(8 * index..8 * index + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    Some([word(0)?, word(1)?, word(2)?])
}

fn check_payload(record: &Record) -> Check {
    match source(record) {
        Some([life, producer, number]) if payload(life, producer, number) == record.payload => {
            Ok(())
        }
        source => Err(format!("{record:?} was never appended ({source:?})")),
    }
}

/// Checks what is left after a stop against the board.
fn check(board: &Board, stop: Stop, there: &Inventory) -> Check {
    let items = brief(&there.items);
    let (kept, done) = match stop {
        Stop::Killed => (board.synced.max(board.written), board.acked),
        Stop::PowerCut(_) => (board.synced, board.acks_synced),
    };
    if there.acknowledged < done {
        return Err(format!("{items} come again, done up to {done}"));
    }
    let mut last: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut present = BTreeSet::new();
    for item in &there.items {
        match item {
            Seen::Record(record) => {
                check_payload(record)?;
                present.insert(record.id);
                let [life, producer, number] = source(record).unwrap_or_default();
                let before = last.insert((life, producer), number);
                if before.is_some_and(|before| before >= number) {
                    return Err(format!("{record:?} is out of order: {items}"));
                }
            }
            Seen::Lost(lost) if stop == Stop::Killed => {
                return Err(format!("{lost:?} after a kill: {items}"));
            }
            Seen::Lost(_) => {}
        }
    }
    let skipped = (1..=there.acknowledged).find(|id| !board.acking.contains(id));
    if let Some(id) = skipped.filter(|id| *id <= kept) {
        return Err(format!(
            "{id} was passed over: acknowledged {}",
            there.acknowledged
        ));
    }
    let missing = (there.acknowledged + 1..=kept).find(|id| !present.contains(id));
    missing.map_or(Ok(()), |id| {
        Err(format!("{id} is gone, kept up to {kept}: {items}"))
    })
}

/// Runs a life on this machine and checks a few stops in it. Returns the machine and the board
/// for the next life.
fn live(sim: &Sim, board: Board, life: u64, rng: &mut Rng) -> Check<(Sim, Board)> {
    let mut limits = Limits::draw(rng, false);
    limits.when_full = [
        WhenFull::Reject,
        WhenFull::BlockFor(Duration::from_millis(1)),
    ][rng.below(2) as usize];
    let crowd = Crowd {
        life,
        sim: sim.kill(),
        board: Mutex::new(board),
        producers_left: AtomicUsize::new(PRODUCERS as usize),
    };
    let fault = Fault::of_sim(&crowd.sim, 1 + rng.below(1 << 40));
    let interval = Duration::from_millis(1 + rng.below(4));
    let config = limits.config().io(Io::Thread).flush_interval(interval);
    let opened = config.storage(Arc::new(fault.clone())).open();
    let (writer, reader) = opened.map_err(|e| format!("open failed: {e:?}"))?;
    for _ in 0..rng.below(5) {
        let ops = [
            Op::Sync,
            Op::Sync,
            Op::Write,
            Op::Truncate,
            Op::Create,
            Op::DirSync,
        ];
        let op = ops[rng.below(6) as usize];
        let errno = [Errno::Eio, Errno::Eio, Errno::Enospc, Errno::Emfile][rng.below(4) as usize];
        fault.fail(op, fault.counts()[&op] + 1 + rng.below(12), errno);
    }
    let begin = crowd.sim.operations();
    let moments: Vec<u64> = (0..4).map(|_| begin + rng.below(150)).collect();
    let (snapshots, consumed) = std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (writer, rng, crowd) = (writer.clone(), Rng(rng.next()), &crowd);
            scope.spawn(move || crowd.produce(&writer, producer, rng));
        }
        let (consumer_rng, consumer) = (Rng(rng.next()), &crowd);
        let consumer = scope.spawn(move || consumer.consume(reader, consumer_rng));
        let mut moments = moments;
        moments.sort_unstable();
        let snapshots: Vec<_> = moments.into_iter().map(|at| crowd.snapshot(at)).collect();
        drop(writer);
        (
            snapshots,
            consumer.join().expect("the consumer does not panic"),
        )
    });
    consumed?;
    let end = (crowd.sim.kill(), crowd.board().clone());
    let mut next = None;
    for (machine, board) in snapshots.into_iter().chain([end]) {
        for _ in 0..4 {
            let stop = Stop::draw(rng);
            let after = stop.apply(&machine);
            let there = take_inventory(&after.kill(), &limits, 0)?;
            check(&board, stop, &there)
                .map_err(|e| format!("{e}\n{stop:?}, {board:?}, {limits:?}"))?;
            let has_lost = there.items.iter().any(|item| matches!(item, Seen::Lost(_)));
            // The board cannot note losses, so the next life must begin without any.
            if !has_lost && (next.is_none() || rng.below(4) == 0) {
                next = Some((after, next_board(&board, stop, &there)));
            }
        }
    }
    next.ok_or_else(|| "SKIP".to_owned())
}

fn next_board(board: &Board, stop: Stop, there: &Inventory) -> Board {
    let synced = match stop {
        Stop::Killed => board.synced,
        Stop::PowerCut(_) => there.next_id - 1,
    };
    Board {
        accepted: there.next_id - 1,
        written: there.next_id - 1,
        synced,
        acked: there.acknowledged,
        acks_synced: board.acks_synced,
        acking: (1..=there.acknowledged).collect(),
    }
}

/// Runs up to three lives of one seed. Returns how many.
fn run_seed(seed: u64) -> Check<u64> {
    let mut rng = Rng(seed);
    let (mut sim, mut board) = (Sim::new(), Board::default());
    for life in 1..=3 {
        match live(&sim, board, life, &mut rng) {
            Ok(next) => (sim, board) = next,
            Err(e) if e == "SKIP" => return Ok(life),
            Err(e) => return Err(e),
        }
    }
    Ok(3)
}

#[test]
fn nothing_promised_to_threads_is_lost() {
    let first = number_from("FOREBAY_LIVES_SEED", 1);
    let count = number_from("FOREBAY_LIVES_THREADS_SEEDS", 60);
    let mut lives = 0;
    for seed in first..first + count {
        match run_seed(seed) {
            Ok(count) => lives += count,
            Err(e) => panic!("threads, FOREBAY_LIVES_SEED={seed}, which may not replay: {e}"),
        }
    }
    eprintln!("{count} seeds, {lives} lives with threads");
}
