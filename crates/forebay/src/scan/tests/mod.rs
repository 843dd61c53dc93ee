//! What the scanner returns for sound and for damaged files.

mod properties;
mod rules;

use std::ops::Range;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::format::record::encode;

/// A file in memory that counts what is read of it.
#[derive(Debug, Default)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    read_bytes: AtomicU64,
}

impl MemoryFile {
    fn new(bytes: impl Into<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::new(bytes.into()),
            read_bytes: AtomicU64::new(0),
        })
    }

    fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    fn append(&self, bytes: &[u8]) {
        self.bytes.lock().unwrap().extend_from_slice(bytes);
    }
}

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock().unwrap();
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..))
            .unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.read_bytes.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        unreachable!("a scanner only reads")
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        unreachable!("a scanner only reads")
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        unreachable!("a scanner only reads")
    }
}

/// A record as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    id: u64,
    metadata: u32,
    payload: Vec<u8>,
}

impl Record {
    fn new(id: u64, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            id,
            metadata: id as u32 ^ 5,
            payload: payload.into(),
        }
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; frame_len(self.payload.len())];
        encode(&mut frame, self.id, self.metadata, &self.payload);
        frame
    }
}

fn frames(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(Record::frame).collect()
}

/// An item; for a record, with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Record {
        offset: u64,
        record: Record,
        mended: Option<Mended>,
    },
    Damage(Damage),
}

impl Item {
    fn sound(offset: u64, record: &Record) -> Self {
        Self::mended(offset, record, None)
    }

    fn mended(offset: u64, record: &Record, mended: impl Into<Option<Mended>>) -> Self {
        Self::Record {
            offset,
            record: record.clone(),
            mended: mended.into(),
        }
    }

    fn damage(span: Range<u64>, kind: DamageKind, claimed_id: impl Into<Option<u64>>) -> Self {
        Self::Damage(Damage {
            offset: span.start,
            len: span.end - span.start,
            kind,
            claimed_id: claimed_id.into(),
        })
    }
}

const OPTIONS: ScanOptions = ScanOptions {
    max_frame_len: 1 << 20,
    check: Check::Checksums,
};

/// All further items of the scanner; they must cover the file without a gap.
fn drain(scanner: &mut Scanner) -> Vec<Item> {
    let mut items = Vec::new();
    let mut offset = scanner.offset();
    while let Some(item) = scanner.next().unwrap() {
        let len = match item {
            Scanned::Damage(damage) => {
                assert_eq!(damage.offset, offset);
                items.push(Item::Damage(damage));
                damage.len
            }
            Scanned::Record(found) => {
                assert_eq!(found.offset, offset);
                assert_eq!(scanner.payload(&found), &scanner.slice(&found)[..]);
                items.push(Item::Record {
                    offset,
                    record: Record {
                        id: found.id,
                        metadata: found.metadata,
                        payload: scanner.payload(&found).to_vec(),
                    },
                    mended: found.mended,
                });
                found.frame_len
            }
        };
        assert!(len > 0, "no progress at {offset}");
        offset += len;
        assert_eq!(scanner.offset(), offset);
    }
    assert_eq!(offset, scanner.to);
    items
}

fn scanner_of(file: Arc<MemoryFile>, options: ScanOptions, chunk_len: usize) -> Scanner {
    let to = file.len().unwrap();
    Scanner::over_file(file, 0, to, options, Pool::new(chunk_len, 2))
}

fn scan_with(bytes: &[u8], options: ScanOptions, chunk_len: usize) -> Vec<Item> {
    drain(&mut scanner_of(MemoryFile::new(bytes), options, chunk_len))
}

/// Scans with several chunk lengths, which must give the same items.
fn scan(bytes: &[u8]) -> Vec<Item> {
    let items = scan_with(bytes, OPTIONS, 1 << 16);
    for chunk_len in [48, 136, 1000] {
        assert_eq!(scan_with(bytes, OPTIONS, chunk_len), items);
    }
    items
}
