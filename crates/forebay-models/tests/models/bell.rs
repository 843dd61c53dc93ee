//! The bell alone, in every schedule there is (up to a bound): a thread or task that waits under
//! the mutex is woken by a thread that changes the condition under the mutex and then rings.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use shuttle::scheduler::DfsScheduler;
use shuttle::{Config, Runner, future, thread};

use crate::sync::{Clock, Mutex, begin};
use crate::wake::{Bell, Woken, lock};

/// The maximum number of schedules to explore; a model with fewer is explored completely.
const SCHEDULES_MAX: usize = 100_000;

/// Runs the model under every schedule.
fn exhaust(model: fn()) {
    let mut config = Config::new();
    config.silence_warnings = true;
    let scheduler = DfsScheduler::new(Some(SCHEDULES_MAX), false);
    let count = Runner::new(scheduler, config).run(move || {
        begin(Clock::Stopped);
        model();
    });
    assert!(count > 10, "only {count} schedules");
    println!("{count} schedules");
}

#[derive(Default)]
struct Door {
    is_open: Mutex<bool>,
    bell: Bell,
}

impl Door {
    fn open(&self) {
        *lock(&self.is_open) = true;
        self.bell.ring();
    }

    fn wait(&self) {
        loop {
            let is_open = lock(&self.is_open);
            if *is_open {
                return;
            }
            self.bell.wait(is_open, 0, None);
        }
    }

    async fn opened(&self) {
        let mut key = None;
        poll_fn(|cx| {
            let is_open = lock(&self.is_open);
            if *is_open {
                return Poll::Ready(());
            }
            let replaced = self.bell.register(&mut key, 0, cx.waker().clone());
            drop(is_open);
            drop(replaced);
            Poll::Pending
        })
        .await;
        self.bell.unregister(&mut key);
    }
}

#[test]
fn a_ring_wakes_a_thread() {
    exhaust(|| {
        let door = Arc::new(Door::default());
        let other = Arc::clone(&door);
        let opening = thread::spawn(move || other.open());
        door.wait();
        opening.join().unwrap();
    });
}

#[test]
fn a_ring_wakes_every_thread() {
    exhaust(|| {
        let door = Arc::new(Door::default());
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let door = Arc::clone(&door);
                thread::spawn(move || door.wait())
            })
            .collect();
        door.open();
        for thread in waiting {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_ring_wakes_a_task() {
    exhaust(|| {
        let door = Arc::new(Door::default());
        let other = Arc::clone(&door);
        let opening = thread::spawn(move || other.open());
        future::block_on(door.opened());
        opening.join().unwrap();
    });
}

#[test]
fn a_ring_wakes_a_task_and_a_thread() {
    exhaust(|| {
        let door = Arc::new(Door::default());
        let (other, third) = (Arc::clone(&door), Arc::clone(&door));
        let opening = thread::spawn(move || other.open());
        let waiting = thread::spawn(move || third.wait());
        future::block_on(door.opened());
        opening.join().unwrap();
        waiting.join().unwrap();
    });
}

/// A level that rises; threads wait until it reaches a mark.
#[derive(Default)]
struct Gauge {
    level: Mutex<u64>,
    bell: Bell,
}

impl Gauge {
    fn rise(&self, to: u64) {
        *lock(&self.level) = to;
        self.bell.ring_up_to(to);
    }

    /// Waits for the mark. Checks that the mark is reached if the bell says so.
    fn wait(&self, mark: u64) {
        loop {
            let level = lock(&self.level);
            if *level >= mark {
                return;
            }
            if self.bell.wait(level, mark, None) == Woken::Reached {
                assert!(*lock(&self.level) >= mark, "told too early");
                return;
            }
        }
    }
}

#[test]
fn whoever_waits_for_a_mark_is_woken_when_it_is_reached() {
    exhaust(|| {
        let gauge = Arc::new(Gauge::default());
        let waiting: Vec<_> = [1, 2]
            .map(|mark| {
                let gauge = Arc::clone(&gauge);
                thread::spawn(move || gauge.wait(mark))
            })
            .into();
        gauge.rise(1);
        gauge.rise(2);
        for thread in waiting {
            thread.join().unwrap();
        }
        assert_eq!(gauge.bell.waiting(), 0);
    });
}
