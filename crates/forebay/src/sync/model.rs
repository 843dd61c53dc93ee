//! What threads share in the concurrency models: the scheduler's, with a simulated clock.

use std::cell::Cell;
use std::ops::Add;
use std::sync::PoisonError;
use std::time::Duration;

use shuttle::rand::{Rng as _, thread_rng};
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
pub(crate) use shuttle::thread;

/// How time passes in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Not at all: a wait with a time-out ends only when it is notified, so a missing notification
    /// is a deadlock.
    Stopped,
    /// By any amount at any moment: a wait with a time-out may end at once.
    Jumping,
}

thread_local! {
    // All threads of a model run on one thread of the system.
    static CLOCK: Cell<Clock> = const { Cell::new(Clock::Stopped) };
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Sets the clock; the first thing each execution of a model does.
pub fn begin(clock: Clock) {
    CLOCK.set(clock);
    NOW.set(Duration::ZERO);
}

/// A moment on the simulated clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        if CLOCK.get() == Clock::Jumping {
            // From well below to well above every period in the library.
            let step = match thread_rng().gen_range(0..8) {
                0 => Duration::from_secs(3600),
                1 => Duration::from_millis(100),
                2 => Duration::from_micros(100),
                _ => Duration::ZERO,
            };
            NOW.set(NOW.get() + step);
        }
        Self(NOW.get())
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    pub(crate) fn checked_add(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Self)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

/// Where a thread waits. It has no spurious wake-ups, which would make models endless.
#[derive(Debug)]
pub(crate) struct Parker {
    unparked: Mutex<bool>,
    condvar: shuttle::sync::Condvar,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Self {
            unparked: Mutex::new(false),
            condvar: shuttle::sync::Condvar::new(),
        }
    }

    pub(crate) fn park(&self, timeout: Option<Duration>) {
        if timeout.is_some() && CLOCK.get() == Clock::Jumping {
            // Every wait may end early, so this one does.
            thread::yield_now();
            return;
        }
        let mut unparked = lock(&self.unparked);
        while !*unparked {
            let woken = self.condvar.wait(unparked);
            unparked = woken.unwrap_or_else(PoisonError::into_inner);
        }
        *unparked = false;
    }

    pub(crate) fn unpark(&self) {
        *lock(&self.unparked) = true;
        self.condvar.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
