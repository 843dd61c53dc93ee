//! Lives of a buffer, one after the other: random use while calls of the system fail, a stop at
//! any operation (a kill or a power cut), and the next life on what is left, with faults and a
//! stop of its own.
//!
//! Invariants, which follow only from what calls returned:
//!
//! - *Synced* (a flush, a receipt's wait, a close, or an append under `SyncPolicy::Always`
//!   returned): the record survives every stop.
//! - *Written* (a wait returned, or a reader got the record): the record survives a kill. That
//!   holds also after failed writes and syncs, as long as the pages stay in the cache. Once the
//!   kernel forgets clean pages after a failed sync ([`Fact::Evicted`](claims::Fact)), unsynced
//!   records may be gone, until the same life reports them synced.
//! - A sync that failed in an earlier process changes nothing of that: what was still in the
//!   page cache when the next life began is durable once that life reports it synced. After a
//!   power cut, what is there is on the disk and counts as synced.
//! - No record of the contiguous acknowledged prefix comes again after a kill, nor after a power
//!   cut if its acknowledgement was synced. No record after the prefix is skipped.
//! - Every id from the acknowledged one to the next is delivered once or is in exactly one
//!   loss. A loss holds no record that must survive, and a kill alone causes no loss.
//! - The counts add up at every step, and `verify` says before what opening then loses.
//! - A check opens the buffer, acknowledges some records, closes and stops again. The life
//!   after that has exactly the rest.
//!
//! A failure prints its seed and the calls of all its lives:
//!
//! - `FOREBAY_LIVES_SEED`: the first seed (default 1);
//! - `FOREBAY_LIVES_SEEDS`: how many seeds; `FOREBAY_LIVES_SECONDS`: or for how long;
//! - `FOREBAY_LIVES_LEAN=Writes,Space`: only seeds with one of these leans;
//! - `FOREBAY_LIVES_KEEP_GOING=1`: counts failures by kind instead of ending.

use forebay::storage::sim::Sim;

use crate::support::Rng;
use crate::workload::{self, Check, DIR};

mod check;
mod claims;
mod damage;
mod life;
mod limits;
mod panics;
mod picture;
mod runs;
mod steps;
mod stops;
mod threads;
mod trouble;

use claims::Claims;
use life::{Left, Life, Trace};
use runs::Explored;
use stops::Stop;

/// What goes wrong in the lives of a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lean {
    /// Nothing but the stops.
    Calm,
    /// Calls that write, sync, and change names.
    Writes,
    /// As `Writes`, on disks that fill up.
    Space,
    /// Calls of every kind.
    All,
    /// As `Writes`, and the event counter panics.
    Panics,
    /// As `Writes`, and once, between two lives, a sector or a page is damaged.
    Damage,
}

/// Runs two to five lives in a row.
fn run_seed(seed: u64, explored: &Explored, trace: &Trace) -> Check {
    let mut rng = Rng(seed);
    let lean = match rng.below(16) {
        0 => Lean::Calm,
        1..8 => Lean::Writes,
        8..10 => Lean::Space,
        10 => Lean::Panics,
        11..14 => Lean::Damage,
        _ => Lean::All,
    };
    let wanted = std::env::var("FOREBAY_LIVES_LEAN").unwrap_or_default();
    let is_wanted = |lean: &Lean| wanted.split(',').any(|name| name == format!("{lean:?}"));
    if !(wanted.is_empty() || is_wanted(&lean)) {
        return Ok(());
    }
    let counts_events = rng.below(4) == 0;
    trace.note(|| format!("seed {seed}, {lean:?}"));
    let mut sim = Sim::new();
    let first_id = match rng.below(8) {
        0 => workload::prepare_wrap(&sim, &mut rng)?,
        _ => 1,
    };
    let mut claims = Claims::new(first_id);
    for number in 1..=2 + rng.below(4) {
        trace.note(|| picture::picture(&sim));
        let life = Life::new(&sim, &claims, lean, number, &mut rng, trace, counts_events);
        let steps = 8 + rng.below(40);
        let left = life.live(steps)?;
        explored.count_life();
        let mut stopped = explore(&left, claims, explored, &mut rng, trace)?;
        // Only a buffer without other damage is damaged. With several damages, or next to
        // records that a power cut took, nothing may show which reading is the right one.
        let is_whole = !stopped.claims.damaged && stopped.claims.gaps.is_empty();
        if lean == Lean::Damage && is_whole {
            stopped.claims = damage_some(&stopped, &left, explored, &mut rng, trace)?;
        }
        (sim, claims) = (stopped.sim, stopped.claims);
    }
    Ok(())
}

/// A machine that stopped in the middle of a life.
struct Stopped {
    sim: Sim,
    /// What the next life begins with.
    claims: Claims,
    /// The number of operations that the life had made.
    operations: u64,
}

/// Stops a life before each of its operations, in several ways, and checks what is
/// left; chooses one of the stops for the next life.
fn explore(
    left: &Left,
    mut claims: Claims,
    explored: &Explored,
    rng: &mut Rng,
    trace: &Trace,
) -> Check<Stopped> {
    let end = left.sim.operations();
    // One time in four the end, which is a close.
    let chosen = match rng.below(4) {
        0 => end,
        _ => rng.below(end + 1),
    };
    let mut next = None;
    let mut done = 0;
    for operations in 0..=end {
        done = left.history.replay(&mut claims, done, operations);
        let state = left.sim.at(operations).ok_or("a state was not kept")?;
        let mut machines = vec![
            (state.clone(), Stop::Killed),
            (state.clone(), Stop::draw(rng)),
            (state, Stop::draw(rng)),
        ];
        // A write that is stopped in the middle.
        let partly = left.sim.during(operations, rng.next());
        machines.extend(partly.map(|partly| (partly, Stop::draw(rng))));
        // The next life comes after a stop of any kind, also inside a write.
        let chosen_index = machines.len() - 1 - rng.below(2) as usize;
        for (index, (state, stop)) in machines.into_iter().enumerate() {
            let after = stop.apply(&state);
            // A generator of its own: whether another seed met this machine before must not
            // change what comes after.
            let mut rng = Rng(rng.next());
            let is_chosen = operations == chosen && index == chosen_index;
            let ending = u64::from(stop.is_power_cut());
            let fingerprint = after.fingerprint(DIR) ^ claims.fingerprint() ^ ending;
            if !explored.is_new(fingerprint) && !is_chosen {
                continue;
            }
            let there = check::check_stop(&after, &claims, stop, &left.limits, &mut rng);
            let there = there.map_err(|e| {
                let picture = picture::picture(&after);
                format!("{e}\n  {stop:?} at operation {operations} of {end}\n{picture}")
            })?;
            if is_chosen {
                trace.note(|| {
                    let (items, next_id) = (check::brief(&there.items), there.next_id);
                    format!(
                        "  {stop:?} at operation {operations} of {end}: {items} and next {next_id}"
                    )
                });
                let claims = claims.next_life(&there, stop);
                next = Some(Stopped {
                    sim: after,
                    claims,
                    operations,
                });
            }
        }
    }
    next.ok_or_else(|| "no stop was chosen".to_owned())
}

/// Damages copies of a stopped machine in several ways and checks each, then damages the
/// machine itself. Returns the claims after that.
fn damage_some(
    stopped: &Stopped,
    left: &Left,
    explored: &Explored,
    rng: &mut Rng,
    trace: &Trace,
) -> Check<Claims> {
    let Stopped {
        sim,
        claims,
        operations,
    } = stopped;
    let mut result = claims.clone();
    let trials = 1 + rng.below(24);
    for trial in 0..=trials {
        let is_last = trial == trials;
        let machine = if is_last { sim.clone() } else { sim.kill() };
        let before = left
            .sim
            .at(rng.below(operations + 1))
            .ok_or("a state was not kept")?;
        let Some(damage) = damage::damage(&machine, &before, claims, rng) else {
            continue;
        };
        let mut rng = Rng(rng.next());
        let mut weaker = claims.clone();
        damage.weaken(&mut weaker);
        if is_last {
            trace.note(|| format!("  {}", damage.words));
        } else if !explored.is_new(machine.fingerprint(DIR) ^ weaker.fingerprint()) {
            continue;
        }
        let picture = picture::picture(&machine);
        let stop = Stop::Killed;
        let there = check::check_stop(&machine, &weaker, stop, &left.limits, &mut rng)
            .map_err(|e| format!("DAMAGE {e}\n  {}\n{picture}", damage.words))?;
        if is_last {
            result = weaker.next_life(&there, stop);
        }
    }
    Ok(result)
}

/// This many seeds give more than 100,000 distinct stops.
const EVERYDAY_SEEDS: u64 = 450;

#[test]
fn nothing_promised_is_lost_over_several_lives() {
    let (distinct, failures) = runs::run(EVERYDAY_SEEDS);
    assert!(failures.is_empty(), "{failures:?}");
    // A run that the environment sets may have fewer.
    let is_everyday = std::env::vars().all(|(name, _)| !name.starts_with("FOREBAY_LIVES_"));
    assert!(!is_everyday || distinct >= 100_000);
}
