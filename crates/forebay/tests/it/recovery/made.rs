//! Prepared directories, and the check that every case goes through.

use std::ops::RangeInclusive;
use std::path::Path;

use forebay::format::file_id::file_name;
use forebay::format::ledger::LedgerState;
use forebay::format::record::{encode, frame_len};
use forebay::{Config, EventCounter, FindingKind, Item, RecordsOptions, Recovery, VerifyOptions};

use crate::support::{drain, open, payload, record, small, temp_dir};

/// The length of every payload.
pub(crate) const PAYLOAD_LEN: usize = 100;

/// The length of every frame.
pub(crate) const FRAME_LEN: usize = frame_len(PAYLOAD_LEN);

/// The offsets of the root's fields in a frame.
pub(crate) const CHECKSUM_AT: usize = FRAME_LEN - 32;
pub(crate) const ID_AT: usize = FRAME_LEN - 24;
pub(crate) const METADATA_AT: usize = FRAME_LEN - 16;
pub(crate) const POINTER_AT: usize = FRAME_LEN - 12;
pub(crate) const LENGTH_AT: usize = FRAME_LEN - 8;

/// A directory prepared by hand.
pub(crate) struct Made {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Config,
    counter: EventCounter,
}

/// What an opening must deliver and report.
pub(crate) struct Expected {
    /// The ids to be delivered, in order.
    pub(crate) ids: Vec<u64>,
    /// The events reported lost.
    pub(crate) lost: u64,
    /// The id of the next record.
    pub(crate) next_id: u64,
}

/// Frames of one event each.
pub(crate) fn frames(ids: RangeInclusive<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in ids {
        let at = bytes.len();
        bytes.resize(at + FRAME_LEN, 0);
        encode(&mut bytes[at..], id, 0, &payload(id, PAYLOAD_LEN));
    }
    bytes
}

impl Made {
    /// Data files with these records, and a ledger that fits: nothing is
    /// acknowledged.
    pub(crate) fn of(files: &[(u16, RangeInclusive<u64>)]) -> Self {
        let dir = temp_dir();
        let config = small(dir.path());
        let made = Self {
            dir,
            config,
            counter: EventCounter::one(),
        };
        for (file_id, ids) in files {
            made.write(&file_name(*file_id), &frames(ids.clone()));
        }
        made.ledger(|ledger| {
            if let (Some((first, _)), Some((last, ids))) = (files.first(), files.last()) {
                ledger.reader_file_id = *first;
                ledger.writer_file_id = *last;
                ledger.writer_next_record_id = ids.end() + 1;
            }
        });
        made
    }

    /// Three files, seven records each.
    pub(crate) fn three_files() -> Self {
        Self::of(&[(4, 1..=7), (5, 8..=14), (6, 15..=21)])
    }

    /// One file, seven records.
    pub(crate) fn one_file() -> Self {
        Self::of(&[(0, 1..=7)])
    }

    pub(crate) fn counted_by(mut self, counter: EventCounter) -> Self {
        self.config = self.config.event_counter(counter.clone());
        self.counter = counter;
        self
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.path().join(name)).unwrap()
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.path().join(name)).unwrap();
    }

    /// Changes the bytes of a data file.
    pub(crate) fn change(&self, file_id: u16, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.read(&file_name(file_id));
        change(&mut bytes);
        self.write(&file_name(file_id), &bytes);
    }

    /// Changes the ledger, or that of a new buffer if there is none.
    pub(crate) fn ledger(&self, change: impl FnOnce(&mut LedgerState)) {
        let path = self.dir.path().join("buffer.db");
        let mut state = std::fs::read(path).map_or(LedgerState::INITIAL, |bytes| {
            LedgerState::from_bytes(&bytes).unwrap()
        });
        change(&mut state);
        self.write("buffer.db", &state.to_bytes());
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The ids that a listing has.
    pub(crate) fn listed(&self) -> Vec<u64> {
        let options = RecordsOptions::default().event_counter(self.counter.clone());
        let records = options.records(self.path()).unwrap();
        records.map(|record| record.unwrap().id).collect()
    }

    /// What `verify` finds: kinds, and events lost by each.
    pub(crate) fn verified(&self) -> Vec<(FindingKind, u64)> {
        let options = VerifyOptions::default().event_counter(self.counter.clone());
        let verification = options.verify(self.path()).unwrap();
        let by_findings: u64 = verification.findings.iter().map(|f| f.events_lost).sum();
        assert_eq!(verification.events_lost, by_findings);
        let findings = verification.findings.into_iter();
        findings.map(|f| (f.kind, f.events_lost)).collect()
    }

    /// Verifies and lists the buffer, opens it, reads it to the end, appends, acknowledges and
    /// opens it again. Returns the report of the first opening.
    pub(crate) fn check(&self, expected: &Expected) -> Recovery {
        let lost_by_verify: u64 = self.verified().iter().map(|(_, lost)| lost).sum();
        assert_eq!(lost_by_verify, expected.lost, "lost according to verify");
        assert_eq!(self.listed(), expected.ids, "listed");

        let (writer, mut reader) = open(&self.config);
        let recovery = writer.recovery().clone();
        let (mut ids, mut lost) = (Vec::new(), 0);
        for item in drain(&mut reader) {
            match item {
                Item::Record(delivery) => {
                    let id = delivery.id();
                    assert_eq!(
                        delivery.payload()[..],
                        payload(id, PAYLOAD_LEN),
                        "record {id}"
                    );
                    ids.push(id);
                    delivery.ack();
                }
                Item::Lost(item) => lost += item.events,
            }
        }
        assert_eq!(ids, expected.ids, "delivered");
        assert_eq!(lost, expected.lost, "lost");
        assert_eq!(reader.usage().lost.events, expected.lost);

        let new = expected.next_id;
        let new_payload = payload(new, PAYLOAD_LEN);
        assert_eq!(writer.append(&new_payload).unwrap().id(), Some(new));
        let delivery = record(reader.recv().unwrap());
        assert_eq!(
            (delivery.id(), &delivery.payload()[..]),
            (new, &new_payload[..])
        );
        delivery.ack();
        writer.close().unwrap();
        reader.close().unwrap();

        let (writer, mut reader) = open(&self.config);
        assert!(drain(&mut reader).is_empty(), "delivered or lost again");
        assert!(!writer.recovery().is_damaged(), "{:?}", writer.recovery());
        assert_eq!(writer.recovery().events_lost, 0);
        recovery
    }
}

/// The kinds of a report's findings.
pub(crate) fn kinds(recovery: &Recovery) -> Vec<FindingKind> {
    recovery
        .findings
        .iter()
        .map(|finding| finding.kind)
        .collect()
}

/// The ids except the missing ones.
pub(crate) fn without(ids: RangeInclusive<u64>, missing: &[u64]) -> Vec<u64> {
    ids.filter(|id| !missing.contains(id)).collect()
}
