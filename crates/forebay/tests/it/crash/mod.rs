//! Simulated crashes: seeded workloads are stopped before and after every storage operation,
//! with several outcomes each. Each distinct result is opened again and checked against every
//! promise made by then.
//!
//! A failure prints the variables with which the same test replays it. They can also be set to
//! explore more than the everyday run does:
//!
//! - `FOREBAY_SIM_SEED`: the first seed (default 1);
//! - `FOREBAY_SIM_SEEDS`: how many seeds each test runs;
//! - `FOREBAY_SIM_OPERATION`: stop the workloads only at this operation.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use forebay::storage::sim::Sim;

use crate::support::{Rng, number_from};
use crate::workload::{self, Check, DIR, Done, Emphasis, Events, Lie};

mod check;

use check::check_recovery;
pub(crate) use check::{Stop, check_machine};

/// The steps of a workload.
const STEPS: usize = 60;

/// The outcomes of a power cut that are tried at each operation. With seeds 0 and 1, none and all
/// of the unsynced writes survive. 2 to 5 stand for random seeds of the same parity: even =
/// `Kernel::Journalling`, odd = `Kernel::Careless`.
const POWER_CUTS: &[Stop] = &[
    Stop::PowerCut(0),
    Stop::PowerCut(1),
    Stop::PowerCut(2),
    Stop::PowerCut(3),
    Stop::PowerCut(4),
    Stop::PowerCut(5),
];

/// A kill, and every power cut of [`POWER_CUTS`].
const ALL: &[Stop] = &[
    Stop::Killed,
    Stop::PowerCut(0),
    Stop::PowerCut(1),
    Stop::PowerCut(2),
    Stop::PowerCut(3),
    Stop::PowerCut(4),
    Stop::PowerCut(5),
];

/// Stands for all operations where `FOREBAY_SIM_OPERATION` could name one.
const EVERY_OPERATION: u64 = u64::MAX;

/// The only operation at which workloads are stopped, or [`EVERY_OPERATION`].
fn only_operation() -> u64 {
    number_from("FOREBAY_SIM_OPERATION", EVERY_OPERATION)
}

/// Counts of what was explored.
#[derive(Debug, Default)]
struct Explored {
    crashes: u64,
    /// Of those, the states that differ in what is on the disk or in what was
    /// promised; only these are opened.
    distinct: u64,
    events: Events,
}

/// A hash of the names and contents of a machine's files.
fn fingerprint(sim: &Sim) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, _) in sim.files(DIR) {
        sim.read_file(format!("{DIR}/{name}")).hash(&mut hasher);
        name.hash(&mut hasher);
    }
    hasher.finish()
}

/// Stops a finished workload before each of its operations, in each way that
/// `stops` names.
fn explore(seed: u64, done: &Done, stops: &[Stop], explored: &mut Explored) -> Check {
    let mut replay = done.history.replay();
    let only = only_operation();
    let mut met = HashSet::new();
    explored.events += done.events;
    for operations in 0..=done.sim.operations() {
        // Before `left`, because this brings the replay up to these operations. The second call
        // only returns what is known, which borrows the replay.
        replay.at(operations);
        let left = replay.left();
        let known = replay.at(operations);
        if only != EVERY_OPERATION && operations != only {
            continue;
        }
        let state = done.sim.at(operations).ok_or("a state was not kept")?;
        for (nth, &stop) in stops.iter().enumerate() {
            // Numbers of its own for each stop, so that one operation can be replayed alone.
            let mut rng = Rng(seed << 32 ^ operations << 8 ^ nth as u64);
            let stop = match stop {
                Stop::PowerCut(seed @ 2..) => Stop::PowerCut(seed + 2 * rng.below(1 << 32)),
                stop => stop,
            };
            let after = stop.apply(&state);
            explored.crashes += 1;
            if !met.insert((fingerprint(&after), left, stop == Stop::Killed)) {
                continue;
            }
            explored.distinct += 1;
            let recovery = match rng.below(32) {
                0 => check_recovery(&after.kill(), known, &done.limits, &mut rng, 1),
                _ => Ok(()),
            };
            recovery
                .and_then(|()| check_machine(&after, known, stop, &done.limits, &mut rng))
                .map_err(|e| format!("FOREBAY_SIM_OPERATION={operations}, {stop:?}: {e}"))?;
        }
    }
    Ok(())
}

/// Runs `everyday_seeds` seeds, or as many as `FOREBAY_SIM_SEEDS` says.
fn run(emphasis: Emphasis, stops: &[Stop], everyday_seeds: u64) {
    let first = number_from("FOREBAY_SIM_SEED", 1);
    let count = number_from("FOREBAY_SIM_SEEDS", everyday_seeds);
    let mut explored = Explored::default();
    for seed in first..first + count {
        let done = workload::run(seed, emphasis, STEPS, None);
        let result = done.and_then(|done| explore(seed, &done, stops, &mut explored));
        if let Err(e) = result {
            panic!("{emphasis:?}: FOREBAY_SIM_SEED={seed} FOREBAY_SIM_SEEDS=1 {e}");
        }
    }
    eprintln!("{emphasis:?}, {count} seeds: {explored:?}");
    if count >= everyday_seeds && only_operation() == EVERY_OPERATION {
        let Events {
            refused,
            redelivered,
            out_of_order,
            deleted,
            wrapped,
            reopened,
        } = explored.events;
        let rarest = refused.min(deleted).min(wrapped).min(reopened);
        assert!(rarest > 0, "{explored:?}");
        assert!(redelivered.min(out_of_order) > 0 || emphasis == Emphasis::Durable);
        // If the process is only killed, there is one state for each operation.
        assert!(explored.distinct >= count * 20 * stops.len() as u64);
    }
}

#[test]
fn every_promise_holds_after_every_crash() {
    run(Emphasis::Even, ALL, 100);
}

#[test]
fn synced_events_survive_a_power_cut() {
    run(Emphasis::Durable, POWER_CUTS, 100);
}

#[test]
fn readers_see_only_written_records() {
    run(Emphasis::Reading, &[Stop::Killed], 100);
}

#[test]
fn readers_see_only_synced_records_when_told_to() {
    run(Emphasis::SeesSynced, ALL, 100);
}

#[test]
fn synced_acknowledgements_hold_after_a_power_cut() {
    run(Emphasis::Reading, POWER_CUTS, 100);
}

#[test]
fn unacknowledged_events_come_again_in_order() {
    run(Emphasis::Reopening, ALL, 100);
}

#[test]
fn batches_of_several_pages_are_whole_or_torn() {
    run(Emphasis::Bulk, ALL, 100);
}

#[test]
fn a_sync_that_does_nothing_is_noticed() {
    for lie in [Lie::File, Lie::Dir, Lie::Map] {
        let noticed = (1..50).find_map(|seed| {
            let done = workload::run(seed, Emphasis::Durable, STEPS, Some(lie)).ok()?;
            explore(seed, &done, POWER_CUTS, &mut Explored::default()).err()
        });
        assert!(noticed.is_some(), "{lie:?} was not noticed");
    }
}

/// A machine was killed while files of the buffer in `dir` were being replaced. What finishes that,
/// `attempt`, meets a power cut at each of its first operations, and `check` looks at what is left.
/// Returns how many machines it looked at; none if nothing was being replaced.
pub(crate) fn stop_again(
    killed: &Sim,
    dir: &str,
    attempt: impl Fn(&Sim),
    check: impl Fn(&Sim, &str),
) -> u32 {
    let in_repair = killed.files(format!("{dir}/repair"));
    if !in_repair.iter().any(|(name, _)| name.starts_with("list.")) {
        return 0;
    }
    let mut stops = 0;
    for second in 0..12 {
        for seed in (1..40).step_by(2) {
            let sim = killed.kill();
            sim.power_off_after(second);
            attempt(&sim);
            check(
                &sim.crash(seed),
                &format!("second stop after {second}, seed {seed}"),
            );
            stops += 1;
        }
    }
    stops
}
