//! What is known of a buffer at each moment of a workload: which records may be
//! there, and what was promised of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use forebay::Delivery;

/// A record as the workload appended it or a reader delivered it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) events: u64,
    pub(crate) metadata: u32,
    pub(crate) payload: Vec<u8>,
}

impl Record {
    /// The id after its last event.
    pub(crate) fn end(&self) -> u64 {
        self.id + self.events
    }
}

impl Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            id,
            events,
            metadata,
            payload,
        } = self;
        let head = &payload[..payload.len().min(4)];
        let len = payload.len();
        write!(
            f,
            "record {id} ({events} events, metadata {metadata}, {len} bytes {head:?}..)"
        )
    }
}

impl From<&Delivery> for Record {
    fn from(delivery: &Delivery) -> Self {
        Self {
            id: delivery.id(),
            events: delivery.events(),
            metadata: delivery.metadata(),
            payload: delivery.payload().to_vec(),
        }
    }
}

/// A promise, or the start of a call that may have an effect.
#[derive(Debug, Clone)]
pub(super) enum Fact {
    /// The record was handed to an append: it may be there from now on.
    Offered(Record),
    /// The records offered from this id on were refused.
    Refused(u64),
    /// Everything below this id survives a killed process.
    Written(u64),
    /// Everything below this id survives a power cut.
    Synced(u64),
    /// The consumer acknowledges this record: it need not come again.
    Acking(u64),
    /// Nothing below this id comes again after a killed process.
    Acked(u64),
    /// Nothing below this id comes again after a power cut.
    AcksSynced(u64),
    /// The buffer was closed and opened: acknowledgements after the first gap are forgotten.
    Reopened,
}

/// What is known of a buffer at one moment. All bounds are exclusive.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Every record that may be there.
    pub(crate) records: BTreeMap<u64, Record>,
    /// The records that need not come again.
    pub(crate) acking: BTreeSet<u64>,
    /// No id from this one on was ever given out.
    pub(crate) given: u64,
    pub(crate) written: u64,
    pub(crate) synced: u64,
    pub(crate) acked: u64,
    pub(crate) acks_synced: u64,
}

impl Known {
    pub(super) fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::Offered(record) => {
                self.given = self.given.max(record.end());
                self.records.insert(record.id, record.clone());
            }
            Fact::Refused(id) => {
                self.records.split_off(id);
            }
            Fact::Written(bound) => self.written = self.written.max(*bound),
            Fact::Synced(bound) => {
                self.synced = self.synced.max(*bound);
                self.written = self.written.max(*bound);
            }
            Fact::Acking(id) => {
                self.acking.insert(*id);
            }
            Fact::Acked(bound) => self.acked = self.acked.max(*bound),
            Fact::AcksSynced(bound) => {
                self.acks_synced = self.acks_synced.max(*bound);
                self.acked = self.acked.max(*bound);
            }
            Fact::Reopened => {
                let acked = self.acked;
                self.acking.retain(|id| *id < acked);
            }
        }
    }
}

/// The facts of a workload in order, each with the number of storage operations done by then.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(super) facts: Vec<(u64, Fact)>,
}

impl History {
    /// Goes through what was known before each storage operation.
    pub(crate) fn replay(&self) -> Replay<'_> {
        Replay {
            facts: &self.facts,
            known: Known::default(),
        }
    }
}

/// See [`History::replay`].
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    facts: &'a [(u64, Fact)],
    known: Known,
}

impl Replay<'_> {
    /// The number of facts left; it differs if something else is known.
    pub(crate) fn left(&self) -> usize {
        self.facts.len()
    }

    /// What was known when `operations` were done. They must be at least as many as in the call
    /// before.
    pub(crate) fn at(&mut self, operations: u64) -> &Known {
        while let Some(((when, fact), rest)) = self.facts.split_first() {
            if *when > operations {
                break;
            }
            self.known.apply(fact);
            self.facts = rest;
        }
        &self.known
    }
}
