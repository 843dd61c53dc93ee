//! Parts of files that the device cannot read, for a moment or for good.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use forebay::format::ledger::LedgerState;
use forebay::storage::fault::Errno;
use forebay::storage::sim::Sim;
use forebay::storage::{Access, Entry, File, Lock, Map, Storage};
use forebay::{Config, ErrorKind, Io, Item, Reader, TryRecv, VerifyOptions};

use crate::support::payload;
use crate::workload::DIR;

/// A disk on which reads that touch the bytes `page` of the file `name` fail, `failures`
/// times.
#[derive(Debug, Clone)]
struct Disk {
    sim: Sim,
    name: &'static str,
    page: (u64, u64),
    failures: Arc<AtomicU32>,
}

#[derive(Debug)]
struct DiskFile {
    file: Box<dyn File>,
    disk: Disk,
}

impl File for DiskFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (begin, end) = self.disk.page;
        let touches = offset < end && offset + buf.len() as u64 > begin;
        let failures = &self.disk.failures;
        let left = |n: u32| n.checked_sub(1);
        if touches
            && failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
                .is_ok()
        {
            return Err(Errno::Eio.error());
        }
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

impl Storage for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.sim.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.sim.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let file = self.sim.open(path, access)?;
        if !path.ends_with(self.name) {
            return Ok(file);
        }
        let disk = self.clone();
        Ok(Box::new(DiskFile { file, disk }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.rename(from, to)
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        self.sim.delete(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sim.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.sim.lock(path)
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        self.sim.map(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.sim.free_bytes(dir)
    }
}

fn config() -> Config {
    Config::new(DIR).max_size(16 << 20).io(Io::Caller)
}

/// A closed buffer of 200 records on a disk without faults.
fn disk(name: &'static str) -> Disk {
    let sim = Sim::new();
    let (writer, reader) = config().storage(Arc::new(sim.clone())).open().unwrap();
    for n in 1..=200 {
        writer.append(&payload(n, 100)).unwrap();
    }
    reader.close().unwrap();
    writer.close().unwrap();
    Disk {
        sim,
        name,
        page: (8192, 12288),
        failures: Arc::default(),
    }
}

/// The numbers of events that come, of events that are lost, and of errors on the way.
fn drain(reader: &mut Reader) -> (u64, u64, u64) {
    let (mut came, mut lost, mut errors) = (0, 0, 0);
    loop {
        match reader.try_recv() {
            Ok(TryRecv::Ready(Item::Record(delivery))) => {
                came += 1;
                delivery.ack();
            }
            Ok(TryRecv::Ready(Item::Lost(loss))) => lost += loss.events,
            Ok(TryRecv::Empty | TryRecv::End) => return (came, lost, errors),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                errors += 1;
                assert!(errors < 100, "{error}");
            }
        }
    }
}

/// Regression: after a passing error of one page the reader counted its events lost and
/// acknowledged them, although the page could be read again.
#[test]
fn a_page_that_cannot_be_read_for_a_moment_costs_nothing() {
    for failures in 1..=8 {
        let disk = disk("buffer-data-0.dat");
        let (_writer, mut reader) = config().storage(Arc::new(disk.clone())).open().unwrap();
        disk.failures.store(failures, Ordering::SeqCst);
        assert_eq!(drain(&mut reader), (200, 0, u64::from(failures)));
    }
}

#[test]
fn a_page_that_cannot_be_read_for_good_is_lost_after_eight_errors() {
    let disk = disk("buffer-data-0.dat");
    let (_writer, mut reader) = config().storage(Arc::new(disk.clone())).open().unwrap();
    disk.failures.store(u32::MAX, Ordering::SeqCst);
    let (came, lost, errors) = drain(&mut reader);
    assert_eq!(came + lost, 200);
    assert!((25..=35).contains(&lost) && errors >= 8, "{lost}, {errors}");
}

/// Regression: a ledger in a sector that cannot be read kept the buffer from being opened.
#[test]
fn a_ledger_that_cannot_be_read_is_a_damaged_one() {
    let mut disk = disk("buffer.db");
    disk.page = (0, 24);
    disk.failures.store(u32::MAX, Ordering::SeqCst);
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let options = VerifyOptions::default();
    let verified = options.storage(storage.clone()).verify(DIR).unwrap();
    assert!(!verified.is_clean());
    let (writer, mut reader) = config().storage(storage).open().unwrap();
    assert!(writer.recovery().is_damaged());
    assert_eq!(drain(&mut reader), (200, 0, 0));
}

/// The device fails for a moment while a buffer is opened, and only the files tell how many records
/// there are, because a power cut set the ledger back. Regression: pages were taken for zeros after
/// one error, the file for one without records, and their ids would have been given out again.
#[test]
fn pages_that_cannot_be_read_for_a_moment_cost_nothing_at_opening() {
    for pages in 1..=7 {
        for failures in 1..=8 {
            let mut disk = disk("buffer-data-0.dat");
            let ledger = LedgerState {
                writer_next_record_id: 1,
                writer_file_id: 0,
                reader_file_id: 0,
                reader_last_record_id: 0,
            };
            let path = format!("{DIR}/buffer.db");
            disk.sim.write_file(path, &ledger.to_bytes()).unwrap();
            disk.page = (0, pages * 4096);
            disk.failures.store(failures, Ordering::SeqCst);
            let open = || config().storage(Arc::new(disk.clone())).open();
            let (writer, mut reader) = match open() {
                Ok(opened) => opened,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                    open().unwrap()
                }
            };
            let what = format!("{pages} pages, {failures} failures");
            assert_eq!(writer.append(b"next").unwrap().id(), Some(201), "{what}");
            let (came, lost, _) = drain(&mut reader);
            assert_eq!((came, lost), (201, 0), "{what}");
        }
    }
}
