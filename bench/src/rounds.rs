//! The rounds: every peer in turn, work by work, each in a process of its own.
//!
//! Invariants: within a round the peers take turns at each work, so that a change of the
//! machine's speed affects all; a peer that fails, panics or hangs loses its own figure
//! and no other; the directory made here is removed with its [`Scratch`], also after a
//! signal.

use crate::peer::{About, Result};
use crate::peers::walrus;
use crate::report::{FAILED, Taken};
use crate::work::{Amount, Sample, Work};
use forebay_bench::figures::metric;
use forebay_bench::payload::LEN_MIN;
use forebay_bench::scratch::Scratch;
use forebay_bench::stop::Stop;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a process is checked.
const LOOK: Duration = Duration::from_millis(5);
/// A process may take the time for appending, times the factor, plus this: it also opens,
/// syncs, closes and reads.
const PATIENCE: Duration = Duration::from_secs(90);
const PATIENCE_FACTOR: u32 = 8;

/// What to measure, and where.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) peers: Vec<&'static About>,
    pub(crate) works: Vec<Work>,
    pub(crate) payloads: Vec<usize>,
    pub(crate) rounds: u32,
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
    pub(crate) dir: PathBuf,
}

impl Plan {
    /// Round, payload length, work and peer, in the order of measurement.
    fn turns(&self) -> impl Iterator<Item = (u32, usize, Work, &'static About)> {
        (1..=self.rounds).flat_map(move |round| {
            self.payloads.iter().flat_map(move |len| {
                self.works.iter().flat_map(move |work| {
                    let peers = self.peers.iter();
                    peers.map(move |about| (round, *len, *work, *about))
                })
            })
        })
    }
}

impl std::fmt::Debug for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Measures, and hands each outcome to `take`. A failure of a peer is an outcome.
///
/// # Errors
///
/// The directory cannot be made or used, or a signal came.
pub(crate) fn run(plan: &Plan, mut take: impl FnMut(Taken)) -> Result<()> {
    if let Some(short) = plan.payloads.iter().find(|len| (**len as u64) < LEN_MIN) {
        return Err(format!("a payload of {short} B is shorter than {LEN_MIN} B").into());
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let asked = Arc::clone(&stop);
    let asked = Stop::new(move || asked.load(Ordering::Relaxed));
    let scratch = Scratch::new(&plan.dir, plan.bytes, plan.time, asked)?;
    let begun = Instant::now();
    for (round, payload_len, work, about) in plan.turns() {
        let outcome = match about.can(work, payload_len) {
            Err(_) if round > 1 => continue,
            Err(why) => Err(why),
            Ok(()) => {
                let amount = Amount {
                    payload_len,
                    bytes: plan.bytes,
                    time: plan.time,
                };
                if matches!(work, Work::Append | Work::AppendBatch) {
                    scratch.warm_more(plan.bytes)?;
                }
                let outcome = one(scratch.dir(), &stop, about, work, amount);
                if stop.load(Ordering::Relaxed) {
                    return Err("stopped by a signal".into());
                }
                let outcome = outcome.map_err(|error| format!("{FAILED}: {error}"));
                let said = match &outcome {
                    Ok(sample) => format!("{}/s", metric(sample.records as f64 / sample.seconds)),
                    Err(why) => why.clone(),
                };
                let (name, rounds) = (about.name, plan.rounds);
                eprintln!(
                    "{:>5.0} s  round {round}/{rounds}  {payload_len} B  {work:?}  {name}: {said}",
                    begun.elapsed().as_secs_f64(),
                );
                outcome
            }
        };
        take(Taken {
            peer: about.name,
            work,
            payload_len,
            outcome,
        });
    }
    Ok(())
}

/// Makes one measurement in a process of its own.
fn one(
    scratch: &Path,
    stop: &AtomicBool,
    about: &About,
    work: Work,
    amount: Amount,
) -> Result<Sample> {
    let dir = scratch.join("peer");
    let (result, errors) = (scratch.join("result"), scratch.join("errors"));
    for path in [&result, &errors] {
        File::create(path)?;
    }
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--one")
        .arg(about.name)
        .arg(serde_json::to_string(&(
            work,
            amount.payload_len,
            amount.bytes,
            amount.time.as_secs_f64(),
        ))?)
        .arg(&dir)
        .arg(&result)
        .env(walrus::DIRECTORY_VARIABLE, &dir)
        .env(walrus::QUIET_VARIABLE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&errors)?)
        .spawn()?;
    let patience = amount.time * PATIENCE_FACTOR + PATIENCE;
    let status = wait(&mut child, stop, patience)?;
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    match status {
        Some(status) if status.success() => Ok(serde_json::from_slice(&fs::read(result)?)?),
        Some(status) => {
            let errors = fs::read(errors)?;
            Err(format!("{} ({status})", first_line(&errors)).into())
        }
        None => Err("did not come to an end".into()),
    }
}

/// Waits for a process. If that takes too long or the stop is set, kills it and returns
/// `None`.
fn wait(child: &mut Child, stop: &AtomicBool, patience: Duration) -> Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > patience || stop.load(Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// The first line that is not empty, cut to 160 characters and without `|`, for a table.
fn first_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("it said nothing")
        .chars()
        .filter(|c| *c != '|')
        .take(160)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers;

    #[test]
    fn peers_take_turns_at_each_work_of_each_round() {
        let plan = Plan {
            peers: peers::ALL[..3].to_vec(),
            works: vec![Work::Append, Work::Durable],
            payloads: vec![256],
            rounds: 2,
            bytes: 0,
            time: Duration::ZERO,
            dir: PathBuf::new(),
        };
        let turns: Vec<_> = plan.turns().collect();
        assert_eq!(turns.len(), 12);
        for (n, (round, _, work, about)) in turns.into_iter().enumerate() {
            assert_eq!(about.name, peers::ALL[n % 3].name);
            assert_eq!(work, plan.works[n / 3 % 2]);
            assert_eq!(round as usize, 1 + n / 6);
        }
    }

    #[test]
    fn what_a_peer_says_fits_a_line_of_a_table() {
        assert_eq!(first_line(b"\n  it | broke \nthere"), "it  broke");
        assert_eq!(first_line(b""), "it said nothing");
        assert_eq!(first_line(&[b'x'; 1_000]).len(), 160);
    }
}
