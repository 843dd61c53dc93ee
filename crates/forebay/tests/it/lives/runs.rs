//! Runs seeds on as many threads as there are processors, and prints what was explored.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::life::Trace;
use super::run_seed;
use crate::support::number_from;
use crate::workload::Check;

/// The maximum number of fingerprints that are kept. A longer run drops them and starts anew.
const FINGERPRINTS_MAX: usize = 8 << 20;

/// A seed takes milliseconds; one that takes this long counts as hanging.
const HANG: Duration = Duration::from_secs(120);

/// Failures by kind: how many, and the first seed.
pub(super) type Failures = BTreeMap<String, (u64, u64)>;

/// Counts of what all threads explored.
#[derive(Debug, Default)]
pub(super) struct Explored {
    lives: AtomicU64,
    stops: AtomicU64,
    /// Of those, the machines that differ in what is on them or in what was claimed.
    distinct: AtomicU64,
    met: Mutex<HashSet<u64>>,
}

impl Explored {
    /// Counts a stop. Returns whether no equal stop was met before.
    pub(super) fn is_new(&self, fingerprint: u64) -> bool {
        self.stops.fetch_add(1, Ordering::Relaxed);
        let mut met = locked(&self.met);
        if met.len() >= FINGERPRINTS_MAX {
            met.clear();
        }
        let is_new = met.insert(fingerprint);
        self.distinct
            .fetch_add(u64::from(is_new), Ordering::Relaxed);
        is_new
    }

    pub(super) fn count_life(&self) {
        self.lives.fetch_add(1, Ordering::Relaxed);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run as the environment sets it.
struct Run {
    /// The next seed, and the one to stop before.
    next: AtomicU64,
    end: u64,
    begin: Instant,
    until: Option<Instant>,
    keeps_going: bool,
    explored: Explored,
    failures: Mutex<Failures>,
}

impl Run {
    /// Runs seeds until there are no more.
    fn work(&self) {
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end || self.until.is_some_and(|until| Instant::now() >= until) {
                return;
            }
            let trace = Trace::default();
            let _watch = Watch::over(seed, &trace);
            let run = || run_seed(seed, &self.explored, &trace);
            let result: Check = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                let literal = || panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                Err(format!("PANIC: {:?}", text.or_else(literal)))
            });
            if let Err(e) = result {
                self.note_failure(seed, &e, &trace);
            }
        }
    }

    fn note_failure(&self, seed: u64, e: &str, trace: &Trace) {
        let kind = e.split(':').next().unwrap_or_default();
        let mut failures = locked(&self.failures);
        let (count, _) = failures.entry(kind.to_owned()).or_insert((0, seed));
        *count += 1;
        if !self.keeps_going || *count <= 3 {
            let (text, elapsed) = (trace.text(), self.begin.elapsed());
            eprintln!(
                "{text}\nFOREBAY_LIVES_SEED={seed} FOREBAY_LIVES_SEEDS=1, after {elapsed:?}: {e}\n"
            );
        }
        if !self.keeps_going {
            self.next.store(self.end, Ordering::Relaxed);
        }
    }
}

/// Prints what the seed did so far and aborts the process, if the seed takes longer than
/// [`HANG`].
struct Watch {
    /// Closed when the seed is done.
    _done: mpsc::Sender<()>,
}

impl Watch {
    fn over(seed: u64, trace: &Trace) -> Self {
        let (done, is_done) = mpsc::channel::<()>();
        let trace = trace.clone();
        thread::spawn(move || {
            if is_done.recv_timeout(HANG) == Err(mpsc::RecvTimeoutError::Timeout) {
                let text = trace.text();
                eprintln!("{text}\nFOREBAY_LIVES_SEED={seed} FOREBAY_LIVES_SEEDS=1: HANG");
                std::process::abort();
            }
        });
        Self { _done: done }
    }
}

/// Runs `everyday_seeds` seeds, or what the environment sets. Returns the number of distinct
/// stops, and the failures.
pub(super) fn run(everyday_seeds: u64) -> (u64, Failures) {
    let first = number_from("FOREBAY_LIVES_SEED", 1);
    let seconds = number_from("FOREBAY_LIVES_SECONDS", 0);
    let end = match seconds {
        0 => first + number_from("FOREBAY_LIVES_SEEDS", everyday_seeds),
        // Not `u64::MAX`, because the counter of seeds goes beyond the end.
        _ => u64::MAX / 2,
    };
    let begin = Instant::now();
    let run = Run {
        next: AtomicU64::new(first),
        end,
        begin,
        until: (seconds > 0).then(|| begin + Duration::from_secs(seconds)),
        keeps_going: number_from("FOREBAY_LIVES_KEEP_GOING", 0) > 0,
        explored: Explored::default(),
        failures: Mutex::default(),
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run.work());
        }
    });
    let explored = &run.explored;
    let distinct = explored.distinct.load(Ordering::Relaxed);
    let failures = locked(&run.failures).clone();
    eprintln!(
        "lives from seed {first}: {} seeds, {} lives, {} stops, {distinct} distinct, {:?}; failures \
         (count, first seed) {failures:?}",
        run.next.load(Ordering::Relaxed).min(end) - first,
        explored.lives.load(Ordering::Relaxed),
        explored.stops.load(Ordering::Relaxed),
        begin.elapsed(),
    );
    (distinct, failures)
}
