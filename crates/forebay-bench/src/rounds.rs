//! The rounds: every step of a plan in turn, again and again.
//!
//! Invariant: the first measurements, on memory and a page cache that are not in use yet,
//! do not count.

use super::failure::Result;
use super::machine::Machine;
use super::plan::{Plan, Samples, Step};
use super::report::Report;
use super::scratch::Scratch;

/// How far a measurement has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Steps done.
    pub done: u64,
    /// Steps in all.
    pub total: u64,
    /// What is measured now.
    pub step: &'a str,
}

/// Measures the plan in `rounds` rounds, and reports the medians. `begins` is called before
/// each step.
///
/// # Errors
///
/// The file system or the buffer fails, something did not come back, or the stop is
/// set.
pub fn measure(
    plan: &Plan,
    scratch: &Scratch,
    rounds: u32,
    mut begins: impl FnMut(Progress<'_>),
) -> Result<Report> {
    let steps = plan.steps();
    let total = steps.len() as u64 * u64::from(rounds);
    begins(Progress {
        done: 0,
        total,
        step: "warming up",
    });
    warm_up(plan, scratch, &steps)?;
    let mut samples = Samples::default();
    let turns = (0..rounds).flat_map(|_| &steps);
    for (done, step) in (0..).zip(turns) {
        scratch.check()?;
        begins(Progress {
            done,
            total,
            step: &step.name(),
        });
        samples.take(plan, scratch, *step)?;
    }
    samples.keep_only(plan);
    let machine = Machine::this(scratch.dir());
    Ok(Report::new(machine, scratch.size, rounds, &samples))
}

/// Does the first steps without counting them: the first touch of memory and of the page
/// cache is slow, above all on virtual machines.
fn warm_up(plan: &Plan, scratch: &Scratch, steps: &[Step]) -> Result<()> {
    let mut thrown_away = Samples::default();
    for kind in [
        |step: &Step| *step == Step::Raw,
        |step: &Step| matches!(step, Step::Cycle { .. }),
    ] {
        if let Some(step) = steps.iter().find(|step| kind(step)) {
            thrown_away.take(plan, scratch, *step)?;
        }
    }
    Ok(())
}
