//! What is measured, in which order, and the samples.
//!
//! Invariant: a round does every step once; nothing is measured twice in a row
//! unless there is only one step.

use super::durable::append_synced;
use super::failure::Result;
use super::latency::latency;
use super::measure::Measured;
use super::raw::{Floor, Raw};
use super::scratch::Scratch;
use super::standing::{Holder, Idle, MANY, idle, in_turns, memory};
use super::work::{Life, concurrent, concurrent_tokio, cycle, recent};
use clap::ValueEnum;
use serde::Serialize;
use std::collections::BTreeMap;

/// Payload lengths measured by default.
pub(crate) const PAYLOADS: [usize; 5] = [64, 256, 1 << 10, 4 << 10, 64 << 10];
/// The default payload length of work that is measured with one length only.
const PAYLOAD: usize = 256;
/// The numbers of producers in the measurements of durable appends.
pub(crate) const PRODUCERS: [u32; 3] = [1, 16, 1_024];

/// What the buffer is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Work {
    /// Append one by one, until all is written
    Append,
    /// Append up to 1,000 at a time
    AppendBatch,
    /// Append, each returning when it is synced
    AppendSynced,
    /// Read and acknowledge in batches, from the page cache
    ReadAck,
    /// Read and acknowledge record by record, from the page cache
    ReadAckSingle,
    /// Read and acknowledge what was written a moment ago
    ReadAckRecent,
    /// Append up to 1,000 at a time without an I/O thread
    AppendAlone,
    /// Read and acknowledge in batches without an I/O thread
    ReadAckAlone,
    /// One thread appends, another reads and acknowledges
    Concurrent,
    /// One tokio task appends, another reads and acknowledges, record by record
    ConcurrentTokio,
    /// From append to delivery, at 10,000 a second
    Latency,
    /// Open with everything unread
    Open,
    /// One thread appends to 64 buffers in turns; also measures 64 idle buffers
    ManyBuffers,
    /// One thread appends to one buffer in the same way, for comparison
    OneBuffer,
    /// The peak of memory, with a backlog
    Memory,
}

/// One thing to measure; the key of its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) payload_len: usize,
    pub(crate) producers: u32,
}

/// One step of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Raw,
    Floor(usize),
    Cycle { life: Life, payload_len: usize },
    Case(Case),
    Idle,
}

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// What the buffer is asked to do.
    pub works: Vec<Work>,
    /// Payload lengths; `None` for the default ones.
    pub payloads: Option<Vec<usize>>,
    /// Starts the process whose memory is measured.
    pub holder: Holder,
}

impl Plan {
    /// The steps of a round.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let wants = |work| self.works.contains(&work);
        let all = self.payloads.clone().unwrap_or(PAYLOADS.to_vec());
        let one = self.payloads.clone().unwrap_or(vec![PAYLOAD]);
        let mut steps = vec![Step::Raw];
        for &payload_len in &all {
            let opens = wants(Work::Open) && one.contains(&payload_len);
            for life in [Life::Single, Life::Batched, Life::Alone] {
                if life.works().map(wants).contains(&true) || (opens && life == Life::Single) {
                    steps.push(Step::Cycle { life, payload_len });
                }
            }
            if wants(Work::Append) && wants(Work::ReadAck) {
                steps.push(Step::Floor(payload_len));
            }
            for work in [Work::ReadAckRecent, Work::Concurrent, Work::ConcurrentTokio] {
                if wants(work) {
                    steps.push(case(work, payload_len, 1));
                }
            }
        }
        for &payload_len in &one {
            if wants(Work::AppendSynced) {
                steps.extend(PRODUCERS.map(|n| case(Work::AppendSynced, payload_len, n)));
            }
            let works = [
                Work::Latency,
                Work::ManyBuffers,
                Work::OneBuffer,
                Work::Memory,
            ];
            for work in works {
                if wants(work) {
                    steps.push(case(work, payload_len, 1));
                }
            }
        }
        if wants(Work::ManyBuffers) {
            steps.push(Step::Idle);
        }
        steps
    }
}

fn case(work: Work, payload_len: usize, producers: u32) -> Step {
    Step::Case(Case {
        work,
        payload_len,
        producers,
    })
}

impl Life {
    /// The work that appends to the buffer, and the work that reads it.
    fn works(self) -> [Work; 2] {
        match self {
            Self::Single => [Work::Append, Work::ReadAck],
            Self::Batched => [Work::AppendBatch, Work::ReadAckSingle],
            Self::Alone => [Work::AppendAlone, Work::ReadAckAlone],
        }
    }
}

impl Step {
    /// The step in words, for the progress bar.
    pub(crate) fn name(&self) -> String {
        let name = |work: Work| {
            work.to_possible_value()
                .map_or_else(String::new, |value| value.get_name().to_owned())
        };
        match self {
            Self::Raw => "raw limits".to_owned(),
            Self::Floor(len) => format!("encoding, {len} B"),
            Self::Cycle { life, payload_len } => {
                let [append, _] = life.works();
                format!("{} and read back, {payload_len} B", name(append))
            }
            Self::Case(case) => format!("{}, {} B", name(case.work), case.payload_len),
            Self::Idle => "idle buffers".to_owned(),
        }
    }
}

/// Everything measured so far.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) raw: Vec<Raw>,
    pub(crate) cases: BTreeMap<Case, Vec<Measured>>,
    /// Seconds of processor time per record, by payload length.
    floors: BTreeMap<usize, Vec<Floor>>,
    pub(crate) idle: Vec<Idle>,
}

impl Samples {
    /// Does one step and keeps its samples.
    ///
    /// # Errors
    ///
    /// As the step's.
    pub(crate) fn take(&mut self, plan: &Plan, scratch: &Scratch, step: Step) -> Result<()> {
        match step {
            Step::Raw => self.raw.push(Raw::measure(scratch)?),
            Step::Floor(len) => {
                let floor = Floor::measure(len, scratch.time);
                self.floors.entry(len).or_default().push(floor);
            }
            Step::Idle => self.idle.push(idle(scratch)?),
            Step::Cycle { life, payload_len } => self.take_cycle(scratch, life, payload_len)?,
            Step::Case(case) => {
                let len = case.payload_len;
                let measured = match case.work {
                    Work::AppendSynced => Some(append_synced(scratch, len, case.producers)?),
                    Work::ReadAckRecent => Some(recent(scratch, len)?),
                    Work::Concurrent => Some(concurrent(scratch, len)?),
                    Work::ConcurrentTokio => Some(concurrent_tokio(scratch, len)?),
                    Work::Latency => Some(latency(scratch, len)?),
                    Work::ManyBuffers => Some(in_turns(scratch, len, MANY)?),
                    Work::OneBuffer => Some(in_turns(scratch, len, 1)?),
                    Work::Memory => memory(scratch, len, plan.holder)?,
                    // These are measured as parts of a cycle.
                    Work::Append
                    | Work::AppendBatch
                    | Work::ReadAck
                    | Work::ReadAckSingle
                    | Work::AppendAlone
                    | Work::ReadAckAlone
                    | Work::Open => None,
                };
                self.cases.entry(case).or_default().extend(measured);
            }
        }
        Ok(())
    }

    fn take_cycle(&mut self, scratch: &Scratch, life: Life, payload_len: usize) -> Result<()> {
        let taken = cycle(scratch, payload_len, life)?;
        let [append, read] = life.works();
        let mut add = |work, producers, measured: Vec<Measured>| {
            let case = Case {
                work,
                payload_len,
                producers,
            };
            self.cases.entry(case).or_default().extend(measured);
        };
        add(append, 1, vec![taken.append]);
        add(read, 0, vec![taken.read_ack]);
        add(Work::Open, 0, taken.open);
        Ok(())
    }

    /// The medians of the time for encoding, the checksum and two copies.
    pub(crate) fn floor(&self, payload_len: usize) -> Option<Floor> {
        Floor::medians(self.floors.get(&payload_len)?)
    }

    /// Drops samples that were not asked for: a cycle measures more than one work.
    pub(crate) fn keep_only(&mut self, plan: &Plan) {
        let one = plan.payloads.clone().unwrap_or(vec![PAYLOAD]);
        self.cases.retain(|case, samples| {
            plan.works.contains(&case.work)
                && (case.work != Work::Open || one.contains(&case.payload_len))
                && !samples.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_leaves_the_raw_limits_and_what_was_asked_for() {
        let plan = Plan {
            works: vec![Work::Append],
            payloads: Some(vec![64]),
            holder: |_| unreachable!("nothing is measured"),
        };
        let cycle = Step::Cycle {
            life: Life::Single,
            payload_len: 64,
        };
        assert_eq!(plan.steps(), [Step::Raw, cycle]);
    }

    #[test]
    fn no_step_comes_twice_in_a_round() {
        let plan = Plan {
            works: Work::value_variants().to_vec(),
            payloads: None,
            holder: |_| unreachable!("nothing is measured"),
        };
        let steps = plan.steps();
        for (n, step) in steps.iter().enumerate() {
            assert!(!steps[..n].contains(step), "{step:?}");
        }
    }
}
