//! Waiting: one bell for threads and tasks.
//!
//! Invariants:
//! - A waiting thread or task has put itself on the bell's list under the mutex that guards the
//!   condition. So changing the condition under that mutex and ringing afterwards wakes it. Ringing
//!   costs nothing when the list is empty.
//! - A thread or task that waits for a threshold is woken when it is reached, not before, and need
//!   not look at the condition again: many that are woken at once do not contend for its mutex.
//! - A waker is not this crate's code. It may call the buffer, drop its last handle, or panic. So
//!   it is cloned, woken and dropped while the bell holds no lock, and a panic in it ends only the
//!   wake-up of its own task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::task::Waker;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Instant, Mutex, MutexGuard, Parker};

/// Locks a mutex. What it guards is consistent between statements, so the panic of another holder
/// (a programming error) does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// The length of the list; stored under its lock.
    waiting: AtomicUsize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    next_key: u64,
    /// Sorted by key.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: u64,
    threshold: u64,
    waiter: Waiter,
}

#[derive(Debug)]
enum Waiter {
    Task(Waker),
    Thread(Arc<Sleeper>),
}

/// A thread that waits.
#[derive(Debug)]
struct Sleeper {
    parker: Parker,
    /// Set once, by the thread that wakes it.
    call: Mutex<Option<Arc<Call>>>,
}

/// Threads that one ring wakes. Each helps to wake the others, because a wake-up takes the system
/// longer than most of what is done between two.
#[derive(Debug)]
struct Call {
    why: Woken,
    sleepers: Mutex<Vec<Arc<Sleeper>>>,
}

impl Call {
    fn pass_on(self: &Arc<Self>) {
        loop {
            let Some(sleeper) = lock(&self.sleepers).pop() else {
                return;
            };
            *lock(&sleeper.call) = Some(Arc::clone(self));
            sleeper.parker.unpark();
        }
    }
}

/// Why a thread does not wait any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Something happened, or time is up: look at the condition again.
    Look,
    /// The threshold is reached.
    Reached,
}

/// Wakes a task. If its waker panics, that task stays asleep; the thread that rings, which may
/// be the buffer's own, goes on, and so do the other tasks.
fn wake_task(task: Waker) {
    let woken = catch_unwind(AssertUnwindSafe(|| task.wake()));
    if woken.is_err() {
        // The panic hook has reported it. A subscriber may panic like a waker.
        let _ = catch_unwind(|| tracing::error!("a waker panicked; its task is not woken"));
    }
}

impl List {
    fn add(&mut self, threshold: u64, waiter: Waiter) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.entries.push(Entry {
            key,
            threshold,
            waiter,
        });
        key
    }

    fn position(&self, key: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&key, |e| e.key).ok()
    }
}

impl Bell {
    /// Waits for a ring that reaches the threshold, or the deadline. May return
    /// early. `guard` is of the mutex that guards the condition.
    pub(crate) fn wait<T>(
        &self,
        guard: MutexGuard<'_, T>,
        threshold: u64,
        deadline: Option<Instant>,
    ) -> Woken {
        let sleeper = Arc::new(Sleeper {
            parker: Parker::new(),
            call: Mutex::new(None),
        });
        let waiter = Waiter::Thread(Arc::clone(&sleeper));
        let mut key = {
            let mut list = lock(&self.list);
            let key = list.add(threshold, waiter);
            self.count(&list);
            Some(key)
        };
        drop(guard);
        let mut left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        loop {
            sleeper.parker.park(left);
            let call = lock(&sleeper.call).take();
            if let Some(call) = call {
                call.pass_on();
                return call.why;
            }
            if self.unregister(&mut key) {
                return Woken::Look;
            }
            // Another thread took it off the list: its call is on the way.
            left = None;
        }
    }

    fn count(&self, list: &List) {
        self.waiting.store(list.entries.len(), Ordering::SeqCst);
    }

    /// How many threads and tasks wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Wakes every thread and every task, to look at their conditions again.
    pub(crate) fn ring(&self) {
        self.call(u64::MAX, Woken::Look);
    }

    /// Wakes the threads and tasks whose threshold is reached.
    pub(crate) fn ring_up_to(&self, reached: u64) {
        self.call(reached, Woken::Reached);
    }

    fn call(&self, reached: u64, why: Woken) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let (mut tasks, mut sleepers) = (Vec::new(), Vec::new());
        {
            let mut list = lock(&self.list);
            for entry in list.entries.extract_if(.., |e| e.threshold <= reached) {
                match entry.waiter {
                    Waiter::Task(waker) => tasks.push(waker),
                    Waiter::Thread(sleeper) => sleepers.push(sleeper),
                }
            }
            self.count(&list);
        }
        if !sleepers.is_empty() {
            // The thread that came first is called first.
            sleepers.reverse();
            let sleepers = Mutex::new(sleepers);
            Arc::new(Call { why, sleepers }).pass_on();
        }
        for task in tasks {
            wake_task(task);
        }
    }

    /// Registers a task, or renews its registration; call it under the mutex
    /// of the condition. Returns the waker that was registered before, which the caller
    /// drops when it holds no lock any more.
    #[cfg_attr(
        not(any(test, feature = "tokio")),
        expect(dead_code, reason = "only tasks register")
    )]
    #[must_use = "to be dropped outside of locks"]
    pub(crate) fn register(
        &self,
        key: &mut Option<u64>,
        threshold: u64,
        waker: Waker,
    ) -> Option<Waker> {
        let mut list = lock(&self.list);
        let waiter = Waiter::Task(waker);
        if let Some(at) = key.and_then(|key| list.position(key)) {
            let entry = &mut list.entries[at];
            entry.threshold = threshold;
            return match std::mem::replace(&mut entry.waiter, waiter) {
                Waiter::Task(replaced) => Some(replaced),
                Waiter::Thread(_) => None,
            };
        }
        *key = Some(list.add(threshold, waiter));
        self.count(&list);
        None
    }

    /// Takes a registration back (a dropped future, a wait that timed out);
    /// false if it was not on the list any more.
    pub(crate) fn unregister(&self, key: &mut Option<u64>) -> bool {
        let Some(key) = key.take() else {
            return false;
        };
        let mut list = lock(&self.list);
        let Some(at) = list.position(key) else {
            return false;
        };
        let entry = list.entries.remove(at);
        self.count(&list);
        drop(list);
        drop(entry);
        true
    }
}
