//! Waiting: threads on a condition, tasks on wakers, one bell for both.
//!
//! Invariant: whoever waits has announced it under the mutex that guards the
//! condition, so whoever changes the condition under that mutex and rings
//! afterwards wakes it. Ringing costs nothing when nobody waits.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::task::Waker;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

/// Locks a mutex; what it guards is consistent between statements, so a panic
/// of another holder (a programmer error) does not spread.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
pub(crate) struct Bell {
    condvar: Condvar,
    /// Threads and tasks that wait.
    waiting: AtomicUsize,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    next_key: u64,
    /// By key: the threshold a task waits for, and how to wake it.
    wakers: BTreeMap<u64, (u64, Waker)>,
}

impl Bell {
    /// Waits for a ring, or the deadline. May return early; check the condition.
    pub(crate) fn wait<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, T> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let guard = match deadline {
            None => self
                .condvar
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let timeout = deadline.saturating_duration_since(Instant::now());
                let result = self.condvar.wait_timeout(guard, timeout);
                result.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        guard
    }

    /// Wakes every thread, and every task.
    pub(crate) fn ring(&self) {
        self.ring_up_to(u64::MAX);
    }

    /// Wakes every thread, and the tasks whose threshold is reached.
    pub(crate) fn ring_up_to(&self, reached: u64) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        self.condvar.notify_all();
        let mut woken = Vec::new();
        {
            let mut tasks = lock(&self.tasks);
            tasks.wakers.retain(|_, (threshold, waker)| {
                let waits = *threshold > reached;
                if !waits {
                    woken.push(waker.clone());
                }
                waits
            });
            self.waiting.fetch_sub(woken.len(), Ordering::SeqCst);
        }
        for waker in woken {
            waker.wake();
        }
    }

    /// Registers a task, or renews its registration; call it under the mutex
    /// of the condition.
    #[cfg_attr(
        not(feature = "tokio"),
        expect(dead_code, reason = "only tasks register")
    )]
    pub(crate) fn register(&self, key: &mut Option<u64>, threshold: u64, waker: &Waker) {
        let mut tasks = lock(&self.tasks);
        let id = key.unwrap_or(tasks.next_key);
        if key.is_none() {
            tasks.next_key += 1;
            *key = Some(id);
        }
        if tasks
            .wakers
            .insert(id, (threshold, waker.clone()))
            .is_none()
        {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Takes a registration back (a dropped future).
    #[cfg_attr(
        not(feature = "tokio"),
        expect(dead_code, reason = "only tasks register")
    )]
    pub(crate) fn unregister(&self, key: &mut Option<u64>) {
        if let Some(id) = key.take()
            && lock(&self.tasks).wakers.remove(&id).is_some()
        {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
