//! What threads meet over: locks, conditions, atomics, threads, the clock.
//!
//! The standard library's, except in the concurrency models
//! (`--cfg forebay_shuttle`, see `tests/shuttle.rs`), where a scheduler decides
//! at each of these who goes on, and the clock is simulated.
//!
//! Invariants:
//! - Whatever two threads of an open buffer share goes through here or through
//!   the mapped words of the ledger, so that the models see it.
//! - Nothing here decides correctness by time: the models let no time pass at
//!   all, or any amount at any moment.

#[cfg(not(forebay_shuttle))]
pub(crate) use self::system::*;

#[cfg(forebay_shuttle)]
pub(crate) use self::model::*;
#[cfg(forebay_shuttle)]
pub use self::model::{Clock, begin};

#[cfg(not(forebay_shuttle))]
mod system {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};
    pub(crate) use std::thread;
    pub(crate) use std::time::Instant;
}

#[cfg(forebay_shuttle)]
mod model {
    use std::cell::Cell;
    use std::ops::{Add, Deref, DerefMut};
    use std::sync::{LockResult, PoisonError};
    use std::time::Duration;

    use shuttle::rand::{Rng as _, thread_rng};
    pub(crate) use shuttle::sync::atomic;
    pub(crate) use shuttle::thread;

    /// How time passes in a model.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Clock {
        /// Not at all: a wait with a time-out ends only when it is notified. So
        /// a notification that is missing is a deadlock.
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

    /// A mutex whose guards know it, for timed waits.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        guard: shuttle::sync::MutexGuard<'a, T>,
        mutex: &'a Mutex<T>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            self.guarded(self.0.lock())
        }

        fn guarded<'a>(
            &'a self,
            locked: LockResult<shuttle::sync::MutexGuard<'a, T>>,
        ) -> LockResult<MutexGuard<'a, T>> {
            let with = |guard| MutexGuard { guard, mutex: self };
            locked
                .map(with)
                .map_err(|poison| PoisonError::new(with(poison.into_inner())))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    /// A condition whose timed waits follow the simulated clock.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(shuttle::sync::Condvar);

    impl Condvar {
        pub(crate) fn wait<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
        ) -> LockResult<MutexGuard<'a, T>> {
            let mutex = guard.mutex;
            mutex.guarded(self.0.wait(guard.guard))
        }

        /// Whether the time ran out is not told: whoever waits looks at the
        /// condition and at the clock.
        pub(crate) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _timeout: Duration,
        ) -> LockResult<(MutexGuard<'a, T>, ())> {
            let result = match CLOCK.get() {
                Clock::Stopped => self.wait(guard),
                Clock::Jumping => {
                    // Every wait may end early, so this one does.
                    let mutex = guard.mutex;
                    drop(guard);
                    thread::yield_now();
                    mutex.lock()
                }
            };
            match result {
                Ok(guard) => Ok((guard, ())),
                Err(poison) => Err(PoisonError::new((poison.into_inner(), ()))),
            }
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
