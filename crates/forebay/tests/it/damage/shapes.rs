//! Small buffers: what is in each file, and what the ledger says.

use forebay::EventCounter;
use forebay::format::file_id::{LEDGER_FILE_NAME, file_name};
use forebay::format::ledger::LedgerState;
use forebay::format::record::{encode, frame_len};
use forebay::storage::sim::Sim;

use crate::support::payload;
use crate::workload::{DIR, Record};

/// A small buffer.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    /// The data files, oldest first.
    pub(super) files: Vec<(u16, Vec<Record>)>,
    pub(super) ledger: LedgerState,
}

/// Counts as many events in a record as its metadata says.
pub(super) fn counter() -> EventCounter {
    EventCounter::new(|metadata, _| u64::from(metadata))
}

pub(super) fn frame(record: &Record) -> Vec<u8> {
    let mut bytes = vec![0; frame_len(record.payload.len())];
    encode(&mut bytes, record.id, record.metadata, &record.payload);
    bytes
}

/// The path of a file in the buffer's directory.
pub(super) fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

impl Shape {
    /// Files of records, each given as its events and the length of its payload;
    /// nothing is acknowledged.
    fn of(name: &'static str, first_id: u64, files: &[(u16, &[(u64, usize)])]) -> Self {
        let mut id = first_id;
        let mut record = |&(events, len): &(u64, usize)| {
            let record = Record {
                id,
                events,
                metadata: events as u32,
                payload: payload(id, len),
            };
            id = record.end();
            record
        };
        let files: Vec<(u16, Vec<Record>)> = files
            .iter()
            .map(|(file_id, records)| (*file_id, records.iter().map(&mut record).collect()))
            .collect();
        let ledger = LedgerState {
            writer_next_record_id: id,
            writer_file_id: files.last().map_or(0, |(file_id, _)| *file_id),
            reader_file_id: files.first().map_or(0, |(file_id, _)| *file_id),
            reader_last_record_id: first_id - 1,
        };
        Self {
            name,
            files,
            ledger,
        }
    }

    /// The same, acknowledged up to `last`, in the file with this id.
    fn acknowledged(mut self, name: &'static str, last: u64, file_id: u16) -> Self {
        self.name = name;
        self.ledger.reader_last_record_id = last;
        self.ledger.reader_file_id = file_id;
        self
    }

    /// The same with two whole frames as the payload of the record `at` of the first file.
    fn nested(mut self, name: &'static str, at: usize, inner_id: u64) -> Self {
        let inner = Self::of("", inner_id, &[(0, &[(1, 5), (1, 16)])]);
        let bytes = inner.bytes(0);
        self.name = name;
        if let Some((_, records)) = self.files.first_mut() {
            records[at].payload = bytes;
        }
        self
    }

    /// One shape of each kind.
    pub(super) fn all() -> Vec<Self> {
        let many: &[(u64, usize)] = &[(1, 0), (1, 1), (1, 8), (1, 13), (1, 30), (1, 5)];
        let two: &[(u64, usize)] = &[(1, 9), (1, 16)];
        let events: &[(u64, usize)] = &[(3, 12), (1, 0), (5, 5), (2, 20)];
        let several = [(0, two), (1, many), (2, two)];
        let wrapped = [(65533, two), (65534, two), (0, two), (1, two)];
        let with_events = [(7, events), (8, events)];
        vec![
            Self::of("one record", 1, &[(0, &[(1, 13)])]),
            Self::of("many records", 1, &[(0, many)]),
            Self::of("several files", 1, &several),
            Self::of("several events", 40, &with_events),
            Self::of("", 1, &several).acknowledged("acknowledged in part", 4, 1),
            Self::of("", 1, &several).acknowledged("a file acknowledged", 2, 0),
            Self::of("", 40, &with_events).acknowledged("inside a record", 45, 7),
            Self::of("wrapped file ids", 1000, &wrapped),
            Self::of("", 1000, &wrapped).acknowledged("wrapped, in part", 1003, 65534),
            Self::of("", 10, &[(0, many)]).nested("frames in a payload", 3, 13),
        ]
    }

    /// A shape whose files have several sectors.
    pub(super) fn of_many_sectors() -> Self {
        let sizes: Vec<(u64, usize)> = (0..24).map(|n| (1, n * 67 % 300)).collect();
        Self::of(
            "many sectors",
            1,
            &[(3, &sizes[..8]), (4, &sizes[8..16]), (5, &sizes[16..])],
        )
    }

    /// The bytes of the data file with this index.
    pub(super) fn bytes(&self, index: usize) -> Vec<u8> {
        self.files[index].1.iter().flat_map(frame).collect()
    }

    /// The name of the data file with this index.
    pub(super) fn file(&self, index: usize) -> String {
        file_name(self.files[index].0)
    }

    /// All records, oldest first.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.files.iter().flat_map(|(_, records)| records)
    }

    /// A machine with the buffer on its disk.
    pub(super) fn sim(&self) -> Sim {
        let sim = Sim::new();
        for index in 0..self.files.len() {
            sim.write_file(path(&self.file(index)), &self.bytes(index))
                .unwrap();
        }
        sim.write_file(path(LEDGER_FILE_NAME), &self.ledger.to_bytes())
            .unwrap();
        sim
    }

    /// The index of a file's first record among all records, and where each of its frames
    /// begins, followed by the end of the last.
    pub(super) fn frames(&self, index: usize) -> (usize, Vec<usize>) {
        let before = self.files[..index].iter().map(|(_, records)| records.len());
        let mut offsets = vec![0];
        for record in &self.files[index].1 {
            let last = offsets.last().copied().unwrap_or_default();
            offsets.push(last + frame_len(record.payload.len()));
        }
        (before.sum(), offsets)
    }

    /// The ids of the records of a file that a span of it touches.
    pub(super) fn touched(&self, index: usize, span: std::ops::Range<usize>) -> Vec<u64> {
        let (_, offsets) = self.frames(index);
        let frames = offsets.windows(2).zip(&self.files[index].1);
        frames
            .filter(|(frame, _)| frame[0] < span.end && span.start < frame[1])
            .map(|(_, record)| record.id)
            .collect()
    }
}
