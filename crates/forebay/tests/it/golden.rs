//! Checks buffers that another implementation of the format wrote, healthy and damaged, against
//! what is known to be in them.
//!
//! They are in `tests/golden`; its README says how they were made and what must come out. A
//! buffer that is missing there fails these tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use forebay::format::record::{encode, frame_len};
use forebay::{
    Config, EventCounter, InspectOptions, Item, LedgerCondition, RecordsOptions, StoredRecord,
    VerifyOptions,
};
use serde_json::Value;

use crate::support::{drain, open, temp_dir};

/// One golden buffer and what is known of it.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    expected: Value,
}

/// All golden buffers.
pub(crate) fn golden() -> Vec<Golden> {
    let root = root();
    let expected = root.join("expected.json");
    let text = std::fs::read_to_string(&expected)
        .unwrap_or_else(|error| panic!("no golden buffers: {}: {error}", expected.display()));
    let expected: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    expected
        .into_iter()
        .map(|(name, expected)| Golden {
            dir: root.join(&name),
            name,
            expected,
        })
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

impl Golden {
    pub(crate) fn is_healthy(&self) -> bool {
        !self.name.starts_with("c-")
    }

    /// The counter that the losses in `expected.json` were computed with.
    pub(crate) fn counter(&self) -> EventCounter {
        let several = self
            .number("records", 0, "events")
            .is_some_and(|events| events > 1);
        if several && self.name != "c-writer-mid-multievent" {
            EventCounter::new(|_, payload| u16_prefixed(payload))
        } else {
            EventCounter::one()
        }
    }

    /// A copy that may be written to.
    fn copy(&self) -> tempfile::TempDir {
        let copy = temp_dir();
        for entry in std::fs::read_dir(&self.dir).unwrap() {
            let entry = entry.unwrap();
            // Written instead of copied, so that it has the mode of a new file.
            let bytes = std::fs::read(entry.path()).unwrap();
            std::fs::write(copy.path().join(entry.file_name()), bytes).unwrap();
        }
        copy
    }

    /// What is known of a record.
    fn record(&self, id: u64) -> &Value {
        let is_it = |record: &&Value| record["id"] == id;
        self.list("records").iter().find(is_it).unwrap()
    }

    fn number(&self, list: &str, index: usize, key: &str) -> Option<u64> {
        self.expected[list].get(index)?.get(key)?.as_u64()
    }

    fn list(&self, key: &str) -> &[Value] {
        self.expected[key].as_array().unwrap()
    }

    pub(crate) fn must_deliver(&self) -> Vec<u64> {
        let ids = self.list("must_deliver").iter();
        ids.map(|id| id.as_u64().unwrap()).collect()
    }

    fn records(&self, options: RecordsOptions) -> Vec<StoredRecord> {
        let options = options.event_counter(self.counter());
        let records = options.records(&self.dir).unwrap();
        records.map(Result::unwrap).collect()
    }
}

/// The number of events in a payload where each event is its length (big-endian `u16`) and its
/// bytes.
fn u16_prefixed(mut payload: &[u8]) -> u64 {
    let mut events = 0;
    while let Some((len, rest)) = payload.split_first_chunk::<2>() {
        payload = rest
            .get(usize::from(u16::from_be_bytes(*len))..)
            .unwrap_or_default();
        events += 1;
    }
    events
}

/// A record as `expected.json` describes it, without its events.
fn described(record: &StoredRecord) -> Value {
    serde_json::json!({
        "id": record.id,
        "file_id": record.file_id,
        "offset": record.offset,
        "metadata": record.metadata,
        "length": record.payload.len(),
        "payload_crc32": crc32fast::hash(&record.payload),
    })
}

fn without_events(record: &Value) -> Value {
    let mut record = record.clone();
    record.as_object_mut().unwrap().remove("events");
    record
}

/// A checkout that lacks some buffers, or that changed line endings, must not pass because
/// nothing is left to check.
#[test]
fn every_buffer_is_here_as_it_was_written() {
    let there: BTreeSet<String> = std::fs::read_dir(root())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<String> = golden().into_iter().map(|golden| golden.name).collect();
    assert_eq!(there, expected);
    assert_eq!(there.len(), 68);
    for golden in golden() {
        for file in golden.list("files") {
            let path = golden
                .dir
                .join(format!("buffer-data-{}.dat", file["file_id"]));
            let len = std::fs::metadata(&path).unwrap().len();
            assert_eq!(file["bytes"], len, "{}", path.display());
        }
        let ledger = golden.dir.join("buffer.db");
        let has_ledger = golden.expected["ledger_status"] != "missing";
        assert_eq!(ledger.exists(), has_ledger, "{}", golden.name);
        assert!(golden.dir.join("buffer.lock").exists(), "{}", golden.name);
    }
}

#[test]
fn healthy_buffers_list_the_same_records() {
    for golden in golden().iter().filter(|golden| golden.is_healthy()) {
        let all = golden.records(RecordsOptions::default().all(true));
        let listed: Vec<Value> = all.iter().map(described).collect();
        let written: Vec<Value> = golden.list("records").iter().map(without_events).collect();
        assert_eq!(listed, written, "{}", golden.name);
        for (record, written) in all.iter().zip(golden.list("records")) {
            if let (Some(events), true) =
                (written["events"].as_u64(), golden.name != "vector-events")
            {
                assert_eq!(record.events, events, "{} {}", golden.name, record.id);
            }
        }
    }
}

#[test]
fn records_encode_to_the_same_bytes() {
    for golden in golden().iter().filter(|golden| golden.is_healthy()) {
        let mut files: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        for record in golden.records(RecordsOptions::default().all(true)) {
            let file = files.entry(record.file_id).or_default();
            let at = file.len();
            file.resize(at + frame_len(record.payload.len()), 0);
            encode(&mut file[at..], record.id, record.metadata, &record.payload);
        }
        for (file_id, bytes) in files {
            let path = golden.dir.join(format!("buffer-data-{file_id}.dat"));
            assert!(
                std::fs::read(&path).unwrap() == bytes,
                "{}: file {file_id} differs",
                golden.name
            );
        }
    }
}

#[test]
fn damaged_buffers_list_every_recoverable_record_once_and_in_order() {
    for golden in golden().iter().filter(|golden| !golden.is_healthy()) {
        let all = golden.records(RecordsOptions::default().all(true));
        assert!(all.is_sorted_by(|a, b| a.id < b.id), "{}", golden.name);
        let listed: BTreeMap<u64, Value> = all.iter().map(|r| (r.id, described(r))).collect();
        for record in golden.list("records") {
            let id = record["id"].as_u64().unwrap();
            assert_eq!(
                listed.get(&id),
                Some(&without_events(record)),
                "{}",
                golden.name
            );
        }
        // Every recoverable record is in expected.json, so nothing else is.
        assert_eq!(
            listed.len(),
            golden.list("records").len(),
            "{}",
            golden.name
        );
    }
}

#[test]
fn a_listing_of_unread_records_has_what_a_reader_must_get() {
    for golden in golden() {
        let unread = golden.records(RecordsOptions::default());
        let ids: Vec<u64> = unread.iter().map(|record| record.id).collect();
        assert_eq!(ids, golden.must_deliver(), "{}", golden.name);
    }
}

#[test]
fn verify_and_records_count_the_events_that_the_ids_prove_lost() {
    for golden in golden() {
        let options = VerifyOptions::default().event_counter(golden.counter());
        let mut last = (0, 0);
        let verification = options
            .on_progress(|done, total| {
                assert!(done <= total);
                last = (done, total);
            })
            .verify(&golden.dir)
            .unwrap();
        let name = &golden.name;
        assert_eq!(last.0, last.1, "{name}");
        let by_findings: u64 = verification.findings.iter().map(|f| f.events_lost).sum();
        assert_eq!(verification.events_lost, by_findings, "{name}");
        assert_eq!(
            verification.records,
            golden.list("records").len() as u64,
            "{name}"
        );
        if let Some(lost) = golden.expected["events_lost"].as_u64() {
            assert_eq!(verification.events_lost, lost, "{name}: {verification:#?}");
            let options = RecordsOptions::default().event_counter(golden.counter());
            let mut records = options.records(&golden.dir).unwrap();
            records.by_ref().for_each(|record| drop(record.unwrap()));
            assert_eq!(records.lost().events, lost, "{name}");
        }
        if golden.is_healthy() {
            assert_eq!(
                verification.findings.len(),
                usize::from(name == "vector-events") * 3
            );
        }
    }
}

/// Each buffer is copied, opened, read to the end, acknowledged and opened again.
#[test]
fn damaged_buffers_deliver_what_is_recoverable() {
    for golden in golden() {
        let name = &golden.name;
        let copy = golden.copy();
        let config = Config::new(copy.path()).event_counter(golden.counter());
        let (writer, mut reader) = open(&config);
        let (mut ids, mut lost) = (Vec::new(), 0);
        for item in drain(&mut reader) {
            match item {
                Item::Record(delivery) => {
                    let listed = golden.record(delivery.id());
                    assert_eq!(
                        crc32fast::hash(delivery.payload()),
                        listed["payload_crc32"],
                        "{name}"
                    );
                    assert_eq!(delivery.metadata(), listed["metadata"], "{name}");
                    ids.push(delivery.id());
                    delivery.ack();
                }
                Item::Lost(item) => lost += item.events,
            }
        }
        assert_eq!(ids, golden.must_deliver(), "{name}");
        if let Some(expected) = golden.expected["events_lost"].as_u64() {
            assert_eq!(lost, expected, "{name}");
        }
        assert_eq!(reader.usage().unread.events, 0, "{name}");
        drop((writer, reader));
        let (writer, mut reader) = open(&config);
        assert!(drain(&mut reader).is_empty(), "{name}");
        assert!(!writer.recovery().is_damaged(), "{name}");
        assert_eq!(writer.recovery().events_lost, 0, "{name}");
    }
}

#[test]
fn verify_points_at_every_damaged_span() {
    for golden in golden() {
        let options = VerifyOptions::default().event_counter(golden.counter());
        let verification = options.verify(&golden.dir).unwrap();
        let found: BTreeSet<(String, u64, u64)> = verification
            .findings
            .iter()
            .map(|f| (f.file.clone().unwrap_or_default(), f.offset, f.length))
            .collect();
        for span in golden.list("damaged_spans") {
            let file = span["file"].as_str().unwrap().to_owned();
            let span = (
                file,
                span["offset"].as_u64().unwrap(),
                span["length"].as_u64().unwrap(),
            );
            assert!(
                found.contains(&span),
                "{}: {span:?} is not in {found:?}",
                golden.name
            );
        }
    }
}

/// What an inspection says that opening would find is what opening finds, and so are the positions.
#[test]
fn inspect_finds_what_opening_finds() {
    for golden in golden() {
        let name = &golden.name;
        let options = InspectOptions::default().event_counter(golden.counter());
        let inspection = options.inspect(&golden.dir).unwrap();
        let copy = golden.copy();
        let config = Config::new(copy.path()).event_counter(golden.counter());
        let (writer, _reader) = open(&config);
        assert_eq!(&inspection.recovery, writer.recovery(), "{name}");
        let usage = writer.usage();
        assert_eq!(inspection.next_record_id, usage.next_record_id, "{name}");
        assert_eq!(
            inspection.last_acknowledged_id, usage.last_acknowledged_id,
            "{name}"
        );
        let live = || inspection.files.iter().filter(|file| !file.is_stale);
        let data_bytes: u64 = live().map(|file| file.data_bytes).sum();
        assert_eq!(data_bytes, usage.disk_bytes, "{name}");
        let bytes: u64 = inspection.files.iter().map(|file| file.bytes).sum();
        assert_eq!(inspection.disk_bytes(), bytes, "{name}");
        assert_eq!(
            inspection.is_orphaned(),
            !golden.must_deliver().is_empty() || inspection.unread.events > 0,
            "{name}"
        );
    }
}

#[test]
fn inspect_describes_ledger_and_files() {
    for golden in golden() {
        let options = InspectOptions::default().event_counter(golden.counter());
        let inspection = options.inspect(&golden.dir).unwrap();
        let name = &golden.name;
        assert!(!inspection.locked, "{name}");
        assert_eq!(inspection.lock_holder_pid, None, "{name}");
        assert_eq!(
            inspection.ledger.status.as_str(),
            golden.expected["ledger_status"],
            "{name}"
        );
        if inspection.ledger.status == LedgerCondition::Ok {
            let ledger = &golden.expected["ledger"];
            let ours = serde_json::json!({
                "writer_next_record_id": inspection.ledger.writer_next_record_id,
                "writer_file_id": inspection.ledger.writer_file_id,
                "reader_file_id": inspection.ledger.reader_file_id,
                "reader_last_record_id": inspection.ledger.reader_last_record_id,
            });
            assert_eq!(&ours, ledger, "{name}");
        }
        let mut files: Vec<(u64, u64)> = inspection
            .files
            .iter()
            .map(|file| (u64::from(file.file_id), file.bytes))
            .collect();
        files.sort_unstable();
        let mut expected: Vec<(u64, u64)> = golden
            .list("files")
            .iter()
            .map(|f| (f["file_id"].as_u64().unwrap(), f["bytes"].as_u64().unwrap()))
            .collect();
        expected.sort_unstable();
        assert_eq!(files, expected, "{name}");
        assert_eq!(
            inspection.unread.records,
            golden.must_deliver().len() as u64,
            "{name}"
        );
        assert_eq!(
            inspection.oldest_unread_age_seconds.is_some(),
            inspection.unread.bytes > 0,
            "{name}"
        );
    }
}
