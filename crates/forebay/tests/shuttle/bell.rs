//! The bell alone, in every schedule there is (up to a bound): whoever waits
//! under the mutex is woken by whoever changes the condition under it and rings
//! afterwards.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use shuttle::scheduler::DfsScheduler;
use shuttle::{Config, Runner, future, thread};

use crate::sync::{Clock, Mutex, begin};
use crate::wake::{Bell, lock};

/// Schedules to explore at most; all of a model's when it has fewer.
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
            self.bell.register(&mut key, 0, cx.waker());
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
