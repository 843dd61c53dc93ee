//! What a buffer has promised so far, derived only from what its calls returned,
//! and how each event strengthens or weakens it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use super::check::{Inventory, Seen};
use super::stops::Stop;
use crate::workload::Record;

/// How durable a record is promised to be, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum State {
    /// It was handed to an append: after a stop it may be there or not.
    Accepted,
    /// It survives a killed process.
    Written,
    /// It survives a power cut.
    Synced,
}

/// A record that may be there.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) record: Record,
    pub(super) state: State,
    pub(super) doubt: Doubt,
}

/// What weakens later promises about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Doubt {
    None,
    /// The kernel forgot pages after a failed sync of this life: the record may be gone,
    /// until this life reports it synced.
    Evicted,
    /// It was damaged, reported lost, or forgotten in an earlier life: nothing is
    /// claimed of it any more.
    Gone,
}

/// Something that was promised, or that may have happened.
#[derive(Debug, Clone)]
pub(super) enum Fact {
    /// The record was handed to an append.
    Offered(Record),
    /// No record from this id on was accepted.
    Refused(u64),
    /// Every record below this id is written.
    Written(u64),
    /// Every record below this id is synced.
    Synced(u64),
    /// The consumer is done with this record.
    Acking(u64),
    /// Acknowledgements so far survive a killed process.
    Acked,
    /// The current acknowledged prefix survives a power cut.
    AcksSynced,
    /// These ids were reported lost, which acknowledges them.
    Lost(Range<u64>),
    /// From now on, syncs of data files may fail.
    SyncsMayFail,
    /// From now on, syncs of the ledger may fail.
    LedgerMayFail,
    /// The kernel forgot clean pages that never reached the disk, and with them these
    /// records.
    Evicted(Vec<u64>),
    /// The buffer was opened, which syncs what an earlier process cut off.
    Opened,
}

/// What is known of a buffer at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    pub(super) records: BTreeMap<u64, Known>,
    /// Ids that need not come again: acknowledged records, reported losses.
    pub(super) acking: BTreeSet<u64>,
    /// The losses that the check before this life found.
    pub(super) gaps: Vec<Range<u64>>,
    /// No record below this id comes again after a killed process.
    pub(super) acked: u64,
    /// No record below this id comes again after a power cut.
    pub(super) acks_synced: u64,
    /// No id from this one on was ever given out.
    pub(super) given: u64,
    /// The same over all lives: ids that a power cut took back are given again.
    pub(super) given_ever: u64,
    /// The id where this life began to read.
    pub(super) first: u64,
    /// Records that processes which were killed had cut off again. A power cut may bring them
    /// back, because the cut was not synced.
    pub(super) taken_back: BTreeMap<u64, Vec<Record>>,
    /// A sync of a data file may have failed since the power came on.
    pub(super) syncs_failed: bool,
    pub(super) ledger_failed: bool,
    pub(super) evicted: bool,
    /// The power was cut in an earlier life.
    pub(super) power_was_cut: bool,
    /// A data file or the ledger was damaged by the test.
    pub(super) damaged: bool,
    pub(super) ledger_damaged: bool,
    /// Records of which the test put a copy in the wrong place.
    pub(super) displaced: BTreeSet<u64>,
}

impl Claims {
    /// An empty buffer, or one that does not exist yet; its first record gets this id.
    pub(super) fn new(first_id: u64) -> Self {
        Self {
            acked: first_id,
            acks_synced: first_id,
            given: first_id,
            first: first_id,
            ..Self::default()
        }
    }

    pub(super) fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::Offered(record) => {
                self.given = self.given.max(record.end());
                let known = Known {
                    record: record.clone(),
                    state: State::Accepted,
                    doubt: Doubt::None,
                };
                self.records.insert(record.id, known);
            }
            Fact::Refused(id) => drop(self.records.split_off(id)),
            Fact::Written(end) => self.strengthen(*end, State::Written),
            Fact::Synced(end) => self.strengthen(*end, State::Synced),
            Fact::Acking(id) => drop(self.acking.insert(*id)),
            Fact::Acked => self.acked = self.prefix(),
            Fact::AcksSynced => {
                self.acked = self.prefix();
                // Only what this process stored into the ledger itself is synced for certain.
                if self.acked > self.first {
                    self.acks_synced = self.acked;
                }
            }
            Fact::Lost(ids) => {
                for id in ids.clone() {
                    self.forget(id);
                    self.acking.insert(id);
                }
            }
            Fact::SyncsMayFail => self.syncs_failed = true,
            Fact::LedgerMayFail => self.ledger_failed = true,
            Fact::Opened => self.taken_back.clear(),
            Fact::Evicted(ids) => {
                self.evicted = true;
                for id in ids {
                    if let Some(known) = self.records.get_mut(id) {
                        known.state = State::Accepted;
                    }
                }
                // Of a partly written record, the written part may be gone.
                for known in self.records.values_mut() {
                    if known.state == State::Accepted {
                        known.doubt = known.doubt.max(Doubt::Evicted);
                    }
                }
            }
        }
    }

    fn strengthen(&mut self, end: u64, state: State) {
        for (_, known) in self.records.range_mut(..end) {
            let is_believed = match known.doubt {
                Doubt::None => true,
                Doubt::Evicted => state == State::Synced,
                Doubt::Gone => false,
            };
            if is_believed {
                known.state = known.state.max(state);
            }
        }
    }

    /// Takes back what was claimed of a record.
    pub(super) fn forget(&mut self, id: u64) {
        if let Some(known) = self.records.get_mut(&id) {
            known.state = State::Accepted;
            known.doubt = Doubt::Gone;
        }
    }

    /// The id after the acknowledged prefix. Losses at its end are left out: they
    /// may be reported again.
    pub(super) fn prefix(&self) -> u64 {
        let (mut end, mut at) = (self.acked, self.acked);
        while self.acking.contains(&at) {
            match self.records.get(&at) {
                Some(known) => {
                    at = known.record.end();
                    let was_lost = known.doubt == Doubt::Gone && known.state == State::Accepted;
                    end = if was_lost { end } else { at };
                }
                None => at += 1,
            }
        }
        end
    }

    /// Whether the record may be missing without a report: it and everything before it was
    /// acknowledged.
    pub(super) fn is_done(&self, id: u64, acknowledged: u64) -> bool {
        id <= acknowledged && self.acking.contains(&id)
    }

    /// What is known at the start of the next life. `there` is what a check of the stopped
    /// machine against these claims found.
    pub(super) fn next_life(&self, there: &Inventory, stop: Stop) -> Self {
        let is_settled = stop.is_power_cut();
        let mut next = Self {
            acked: there.acknowledged + 1,
            acks_synced: self.acks_synced.min(there.acknowledged + 1),
            given: there.next_id,
            given_ever: self.given_ever.max(self.given),
            first: there.acknowledged + 1,
            damaged: self.damaged,
            ledger_damaged: self.ledger_damaged,
            power_was_cut: self.power_was_cut || is_settled,
            displaced: self.displaced.clone(),
            ..Self::default()
        };
        if is_settled {
            next.acks_synced = next.acked;
        } else {
            next.syncs_failed = self.syncs_failed;
            next.ledger_failed = self.ledger_failed;
            next.evicted = self.evicted;
            next.taken_back = self.taken_back.clone();
            for known in self.records.range(next.given..).map(|(_, known)| known) {
                let before = next.taken_back.entry(known.record.id).or_default();
                before.push(known.record.clone());
            }
        }
        // A power cut may take acknowledgements that are not synced.
        for (id, known) in self.records.range(next.acks_synced..next.first) {
            // The check did not see these records, so nothing more is claimed of them.
            let mut unseen = known.clone();
            if known.state == State::Accepted {
                unseen.doubt = Doubt::Gone;
            }
            next.records.insert(*id, unseen);
            next.acking.insert(*id);
        }
        for seen in &there.items {
            match seen {
                Seen::Lost(_) => next.gaps.push(seen.ids()),
                Seen::Record(record) => {
                    let known = self.known_of(record, stop);
                    next.records.insert(record.id, known);
                }
            }
        }
        next
    }

    fn known_of(&self, record: &Record, stop: Stop) -> Known {
        let before = self.records.get(&record.id);
        let was_synced = before.is_some_and(|known| known.state == State::Synced);
        let survived = before.is_some_and(|known| self.survives(known, stop));
        if self.displaced.contains(&record.id) && !survived {
            // It may have come from the copy alone, of which nothing is promised.
            return Known {
                record: record.clone(),
                state: State::Accepted,
                doubt: Doubt::Gone,
            };
        }
        let is_settled = stop.is_power_cut();
        // What a power cut left is on the disk. What a killed process left is in the page
        // cache, and the next process trusts no sync but its own.
        let state = match is_settled || was_synced {
            true => State::Synced,
            false => State::Written,
        };
        Known {
            record: record.clone(),
            state,
            doubt: Doubt::None,
        }
    }

    /// Whether the record survives the stop.
    pub(super) fn survives(&self, known: &Known, stop: Stop) -> bool {
        match stop {
            Stop::Killed => known.state >= State::Written,
            Stop::PowerCut(_) => known.state == State::Synced,
        }
    }

    /// A hash that differs if something else is claimed.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.acked, self.acks_synced, self.acking.len()).hash(&mut hasher);
        for (id, known) in &self.records {
            (id, known.state).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Facts in order, each with the number of storage operations done by then.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) facts: Vec<(u64, Fact)>,
}

impl History {
    /// Applies to claims, which hold the first `done` facts, those up to the moment when
    /// `operations` were done. Returns the number of facts that they hold then.
    pub(super) fn replay(&self, claims: &mut Claims, done: usize, operations: u64) -> usize {
        let rest = self.facts.get(done..).unwrap_or_default();
        let passed = rest.iter().take_while(|(when, _)| *when <= operations);
        let count = passed.map(|(_, fact)| claims.apply(fact)).count();
        done + count
    }
}
