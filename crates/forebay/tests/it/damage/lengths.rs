//! Impossible lengths: whatever a delimiter, a pointer or a payload length says, no record is
//! lost, and what is read stays below a fixed multiple of what a sound buffer needs.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay::format::record::frame_len;
use forebay::storage::sim::Sim;
use forebay::storage::{Access, File, Storage};

use super::judge::{Left, tell};
use super::shapes::{Shape, path};

/// A storage that counts what is read of its files.
#[derive(Debug, Clone)]
struct Counting {
    sim: Sim,
    read: Arc<Read>,
}

/// Counts of what was read.
#[derive(Debug, Default)]
struct Read {
    calls: AtomicU64,
    bytes: AtomicU64,
    /// The most that one call asked for.
    most: AtomicU64,
}

#[derive(Debug)]
struct CountingFile {
    file: Box<dyn File>,
    read: Arc<Read>,
}

impl Storage for Counting {
    forward!(sim: create_dir list rename delete sync_dir lock map free_bytes);

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        Ok(Box::new(CountingFile {
            file: self.sim.open(path, access)?,
            read: Arc::clone(&self.read),
        }))
    }
}

impl File for CountingFile {
    forward!(file: write_at len sync truncate);

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let asked = buf.len() as u64;
        let read = self.file.read_at(buf, offset)?;
        self.read.calls.fetch_add(1, Ordering::Relaxed);
        self.read.bytes.fetch_add(read as u64, Ordering::Relaxed);
        self.read.most.fetch_max(asked, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens and reads the buffer. Returns the number of read calls and of bytes read.
fn read(shape: &Shape, sim: &Sim, what: &str) -> (u64, u64) {
    let counting = Counting {
        sim: sim.clone(),
        read: Arc::default(),
    };
    let read = Arc::clone(&counting.read);
    let storage: Arc<dyn Storage> = Arc::new(counting);
    if let Err(e) = Left::everything(shape).check_over(sim, &storage) {
        panic!("{}: {what}: {e}", shape.name);
    }
    // Each read needs memory for all that it asks for: at most one chunk.
    let most = read.most.load(Ordering::Relaxed);
    assert!(
        most <= 1 << 20,
        "{}: {what}: {most} in one read",
        shape.name
    );
    (
        read.calls.load(Ordering::Relaxed),
        read.bytes.load(Ordering::Relaxed),
    )
}

/// Overwrites one length of a record: `bytes` at `at` in its frame.
fn set(frame: &mut [u8], at: usize, bytes: &[u8]) {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
}

#[test]
fn each_length_of_each_record_set_to_what_cannot_be() {
    for shape in Shape::all().into_iter().chain([Shape::of_many_sectors()]) {
        let (calls, bytes) = read(&shape, &shape.sim(), "sound");
        let all: usize = (0..shape.files.len()).map(|i| shape.bytes(i).len()).sum();
        for index in 0..shape.files.len() {
            let (_, offsets) = shape.frames(index);
            for (record, at) in shape.files[index].1.iter().zip(offsets) {
                let len = frame_len(record.payload.len());
                let right = len as u64 - 8;
                let check = |field: &str, value: u64, write: &dyn Fn(&mut [u8])| {
                    let mut file = shape.bytes(index);
                    write(&mut file[at..at + len]);
                    let sim = shape.sim();
                    sim.write_file(path(&shape.file(index)), &file).unwrap();
                    let what = format!("{field} of record {}: {value}", record.id);
                    let (damaged_calls, damaged_bytes) = read(&shape, &sim, &what);
                    // Each pass over a file searches it once: to order the files, to find
                    // its end, to find what was acknowledged, to verify, and to read.
                    let calls_max = 4 * calls + 100;
                    let bytes_max = 4 * bytes + 16 * all as u64;
                    assert!(
                        damaged_calls <= calls_max && damaged_bytes <= bytes_max,
                        "{}: {what}: {damaged_calls} calls read {damaged_bytes} bytes, \
                         {calls} and {bytes} when sound",
                        shape.name,
                    );
                };
                let near = [right - 8, right - 1, right + 1, right + 8];
                let far = [0, 1, 8, 1 << 31, 1 << 32, 1 << 63, u64::MAX - 7, u64::MAX];
                for value in near.into_iter().chain(far) {
                    check("delimiter", value, &|frame| {
                        set(frame, 0, &value.to_be_bytes());
                    });
                }
                let near = [-1, 1, -8, 8].map(|n: i32| {
                    let right = -(20 + right as i32 - 32);
                    right.wrapping_add(n)
                });
                for value in near.into_iter().chain([0, 1, i32::MIN, i32::MAX, -1]) {
                    check("pointer", value as u32 as u64, &|frame| {
                        set(frame, len - 12, &value.to_le_bytes());
                    });
                }
                let right = record.payload.len() as u32;
                let near = [-9, -1, 1, 8].map(|n| right.wrapping_add_signed(n));
                for value in near.into_iter().chain([0, 1 << 31, u32::MAX - 7, u32::MAX]) {
                    check("payload length", u64::from(value), &|frame| {
                        set(frame, len - 8, &value.to_le_bytes());
                    });
                }
            }
        }
    }
    tell("each length of each record set to what cannot be");
}
