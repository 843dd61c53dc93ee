//! One measurement: a peer, a work, a directory. It runs in a process of its
//! own, so that no peer is affected by another's memory, threads or panic.
//!
//! Invariant: a figure is returned only if its records were read back from a peer that
//! was opened again, and were those that were appended.

use crate::payload::{BATCH, Check, Payloads};
use crate::peer::{About, Peer, Place, Result, Sixteen};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Producers in [`Work::DurableSixteen`].
pub(crate) const PRODUCERS: u32 = 16;
/// Single appends between two checks of the clock.
const LOOK: u64 = 64;
/// Reading may take this many times as long as appending.
const READ_FACTOR: u32 = 2;

/// What is asked of a peer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Append one by one, then read all
    Append,
    /// Append 1,000 at a time, then read all
    AppendBatch,
    /// Append one by one, each synced before the next
    Durable,
    /// Sixteen threads at once append one by one, each synced before its next
    DurableSixteen,
}

/// How much work is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) payload_len: usize,
    /// At most this many bytes of payload are appended.
    pub(crate) bytes: u64,
    /// Appending takes at most this long.
    pub(crate) time: Duration,
}

/// The result of one measurement.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) records: u64,
    /// Time until the operating system had all records; with durable appends until all
    /// were synced.
    pub(crate) seconds: f64,
    /// Time until all records were synced, if the peer has a call for that.
    pub(crate) synced_seconds: Option<f64>,
    /// Records that were read in time, and how long that took.
    pub(crate) read_records: u64,
    pub(crate) read_seconds: f64,
}

impl About {
    /// Checks that the peer can do the work with payloads of this length.
    ///
    /// # Errors
    ///
    /// It cannot; the text says why.
    pub(crate) fn can(&self, work: Work, payload_len: usize) -> std::result::Result<(), String> {
        if payload_len > self.payload_max {
            return Err(format!("payloads up to {} B only", self.payload_max));
        }
        let (able, why) = match work {
            Work::Append => (self.single, "every append syncs"),
            Work::AppendBatch => (self.batched, "no batches"),
            Work::Durable | Work::DurableSixteen => (self.durable.is_some(), "cannot sync"),
        };
        match able {
            true => Ok(()),
            false => Err(why.to_owned()),
        }
    }
}

/// Does the work in `dir`, which is empty or missing.
///
/// # Errors
///
/// The peer fails, or something did not come back.
pub(crate) fn measure(about: &About, work: Work, amount: Amount, dir: &Path) -> Result<Sample> {
    let durable = matches!(work, Work::Durable | Work::DurableSixteen);
    let mut place = Place {
        dir: dir.to_owned(),
        payload_len: amount.payload_len,
        records: (amount.bytes / amount.payload_len as u64).max(1),
        durable,
    };
    let mut producers = 1;
    let mut sample = match (work, &about.durable) {
        (Work::Append, _) => fill(about, &place, amount, false)?,
        (Work::AppendBatch, _) => fill(about, &place, amount, true)?,
        (Work::Durable, _) => durable_one(about, &place, amount)?,
        (Work::DurableSixteen, sixteen) => {
            producers = PRODUCERS;
            match sixteen {
                Some(Sixteen::Own(_)) => durable_own(about, &place, amount)?,
                _ => durable_supplied(about, &place, amount)?,
            }
        }
    };
    let limit = match durable {
        true => Duration::MAX,
        false => amount.time * READ_FACTOR,
    };
    let mut check = Check::new(amount.payload_len, producers, sample.records, limit);
    place.durable = false;
    let mut peer = (about.open)(&place)?;
    check.start();
    let begun = Instant::now();
    let read = peer.read(&mut check);
    sample.read_seconds = begun.elapsed().as_secs_f64();
    sample.read_records = check.finish(read)?;
    Ok(sample)
}

/// Appends until the amount is there or the time is over.
fn fill(about: &About, place: &Place, amount: Amount, batched: bool) -> Result<Sample> {
    let mut payloads = Payloads::batched(amount.payload_len);
    let mut peer = (about.open)(place)?;
    // The last record is appended by itself.
    let before_last = place.records - 1;
    let begun = Instant::now();
    let mut number = 0;
    while number < before_last {
        if batched {
            let count = BATCH.min(before_last - number);
            peer.append_batch(&payloads.batch(number, count))?;
            number += count;
        } else {
            for number in number..before_last.min(number + LOOK) {
                peer.append(payloads.one(number))?;
            }
            number = before_last.min(number + LOOK);
        }
        if begun.elapsed() > amount.time {
            break;
        }
    }
    peer.append_last(payloads.one(number))?;
    let seconds = begun.elapsed().as_secs_f64();
    let synced = peer.sync()?;
    Ok(Sample {
        records: number + 1,
        seconds,
        synced_seconds: synced.then(|| begun.elapsed().as_secs_f64()),
        ..Sample::default()
    })
}

fn durable_one(about: &About, place: &Place, amount: Amount) -> Result<Sample> {
    let mut payloads = Payloads::single(amount.payload_len, 0);
    let mut peer = (about.open)(place)?;
    let begun = Instant::now();
    let mut records = 0;
    while records == 0 || begun.elapsed() < amount.time {
        peer.append_synced(&[payloads.one(records)])?;
        records += 1;
    }
    Ok(durable(records, begun))
}

fn durable(records: u64, begun: Instant) -> Sample {
    Sample {
        records,
        seconds: begun.elapsed().as_secs_f64(),
        ..Sample::default()
    }
}

/// Runs the producers, each of which appends by `append`, and `meanwhile` on the calling
/// thread; calls `done` when a producer ends. Returns what they appended together.
fn produce(
    amount: Amount,
    append: &(dyn Fn(u32, &[u8]) -> Result<()> + Sync),
    meanwhile: impl FnOnce() -> Result<()>,
    done: &(dyn Fn() + Sync),
) -> Result<Sample> {
    let payloads: Vec<_> = (0..PRODUCERS)
        .map(|producer| Payloads::single(amount.payload_len, producer))
        .collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (producer, mut payloads) in (0..).zip(payloads) {
            threads.push(scope.spawn(move || -> Result<u64> {
                // `done` is also called if the producer fails or panics.
                let _done = Done(done);
                let mut records = 0;
                while records == 0 || begun.elapsed() < amount.time {
                    append(producer, payloads.one(records))?;
                    records += 1;
                }
                Ok(records)
            }));
        }
        let meanwhile = meanwhile();
        let mut records = 0;
        for thread in threads {
            records += thread
                .join()
                .unwrap_or_else(|_| Err("a producer panicked".into()))?;
        }
        meanwhile.map(|()| durable(records, begun))
    })
}

/// Calls its function when it is dropped.
struct Done<'a>(&'a (dyn Fn() + Sync));

impl Drop for Done<'_> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn durable_own(about: &About, place: &Place, amount: Amount) -> Result<Sample> {
    let Some(Sixteen::Own(share)) = &about.durable else {
        return Err("this peer is not for many threads".into());
    };
    let shared = share(place)?;
    let append = |producer, payload: &[u8]| shared.append_synced(producer, payload);
    produce(amount, &append, || Ok(()), &|| {})
}

fn durable_supplied(about: &About, place: &Place, amount: Amount) -> Result<Sample> {
    let mut peer = (about.open)(place)?;
    let group = Group::default();
    group.run(amount, &mut *peer)
}

/// Group commit for peers that have none: producers hand in payloads and wait, and one
/// thread appends and syncs for all of them.
#[derive(Default)]
struct Group {
    state: Mutex<Waiting>,
    /// Notified when a payload was handed in or a producer has ended.
    work: Condvar,
    /// Notified when payloads were synced, or that failed.
    done: Condvar,
}

#[derive(Default)]
struct Waiting {
    payloads: Vec<Vec<u8>>,
    /// Payloads handed in so far, and how many of these are synced.
    accepted: u64,
    synced: u64,
    /// Producers that have ended.
    gone: u32,
    failed: bool,
}

impl Group {
    /// Lets the producers append to the peer.
    fn run(&self, amount: Amount, peer: &mut dyn Peer) -> Result<Sample> {
        let append = |_, payload: &[u8]| self.append(payload);
        produce(amount, &append, || self.serve(peer), &|| self.leave())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, payload: &[u8]) -> Result<()> {
        let mut waiting = self.lock();
        waiting.payloads.push(payload.to_vec());
        waiting.accepted += 1;
        let mine = waiting.accepted;
        self.work.notify_one();
        while waiting.synced < mine && !waiting.failed {
            waiting = self
                .done
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        match waiting.synced < mine {
            true => Err("the group's commit failed".into()),
            false => Ok(()),
        }
    }

    /// Notes that a producer has ended.
    fn leave(&self) {
        self.lock().gone += 1;
        self.work.notify_one();
    }

    /// Appends for the producers until all of them have ended.
    fn serve(&self, peer: &mut dyn Peer) -> Result<()> {
        let mut waiting = self.lock();
        loop {
            while waiting.payloads.is_empty() {
                if waiting.gone == PRODUCERS {
                    return Ok(());
                }
                waiting = self
                    .work
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let payloads = std::mem::take(&mut waiting.payloads);
            let accepted = waiting.accepted;
            drop(waiting);
            let payloads: Vec<_> = payloads.iter().map(Vec::as_slice).collect();
            let appended = peer.append_synced(&payloads);
            waiting = self.lock();
            waiting.failed = appended.is_err();
            if appended.is_ok() {
                waiting.synced = accepted;
            }
            self.done.notify_all();
            appended?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what it is given, and fails to sync from some number of records on.
    struct Kept(Vec<Vec<u8>>, usize);

    impl Peer for Kept {
        fn append(&mut self, payload: &[u8]) -> Result<()> {
            self.0.push(payload.to_vec());
            Ok(())
        }

        fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
            if self.0.len() >= self.1 {
                return Err("full".into());
            }
            self.append_batch(payloads)
        }

        fn read(&mut self, check: &mut Check) -> Result<()> {
            self.0.iter().try_for_each(|payload| check.take(payload))
        }
    }

    fn run(peer: &mut Kept) -> Result<Sample> {
        let amount = Amount {
            payload_len: 32,
            bytes: 0,
            time: Duration::from_millis(20),
        };
        Group::default().run(amount, peer)
    }

    #[test]
    fn a_group_commits_what_each_producer_waits_for() {
        let mut peer = Kept(Vec::new(), usize::MAX);
        let records = run(&mut peer).unwrap().records;
        assert!(records >= u64::from(PRODUCERS));
        let mut check = Check::new(32, PRODUCERS, records, Duration::MAX);
        let read = peer.read(&mut check);
        assert_eq!(check.finish(read).unwrap(), records);
    }

    #[test]
    fn a_group_whose_commit_fails_lets_its_producers_go() {
        assert!(run(&mut Kept(Vec::new(), 0)).is_err());
    }
}
