//! Power cuts under a real file system: promises 1 to 6 hold after each.
//!
//! The library runs on ext4 on a loop device on a simulated disk ([`device`](crate::device)).
//! At a random moment the test copies that disk as a power cut leaves it and mounts the copy:
//! the file system replays its journal, the buffer recovers, and the next round starts from
//! there. Another thread makes the kernel write unsynced pages back meanwhile, because
//! otherwise the disk's write cache would hold little to lose.
//!
//! `FOREBAY_SEED` replays the moments, `FOREBAY_ROUNDS` sets the number of rounds, and
//! `FOREBAY_MKFS` (for example `mkfs.xfs -q -f`) chooses the file system.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::storage::os::Os;
use forebay::storage::{Access, Entry, File, Lock, Map, Storage};
use forebay::{Config, Item, Reader, ReaderSees, SyncPolicy, TryRecv, WhenFull, Writer};

use crate::device::{self, Cut, Device};
use crate::moments::{Moments, number};
use crate::mounted::{self, Mounted};

const ROUNDS: u64 = 40;
/// The size of the disk: the smallest on which every file system can be made.
const DISK_BYTES: u64 = 48 << 20;
const PRODUCERS: u64 = 3;

#[test]
#[ignore = "mounts file systems: just power-cut"]
fn what_is_synced_survives_a_power_cut_of_the_disk() {
    if !mounted::is_possible(&["/dev/fuse"]) {
        return;
    }
    let mut moments = Moments::new();
    let rounds = number("FOREBAY_ROUNDS").unwrap_or(ROUNDS);
    let lab = Laboratory::new(Arc::new(Os::new()));
    let totals = lab
        .run(&mut moments, rounds)
        .unwrap_or_else(|e| panic!("{e}"));
    println!("{rounds} power cuts: {totals:?}");
    assert!(totals.promised > 0 && totals.lost_sectors > 0);
}

/// The same rounds with syncs that do nothing: shows that the test above notices a lost
/// record.
#[test]
#[ignore = "mounts file systems: just power-cut"]
fn a_buffer_that_does_not_sync_is_found_out() {
    if !mounted::is_possible(&["/dev/fuse"]) {
        return;
    }
    let mut moments = Moments::new();
    let lab = Laboratory::new(Arc::new(Liar(Os::new())));
    let found = lab
        .run(&mut moments, 200)
        .expect_err("200 rounds without a finding");
    println!("found: {found}");
}

/// Counts over all rounds.
#[derive(Debug, Default)]
struct Totals {
    promised: u64,
    delivered: u64,
    lost_sectors: u64,
    flushes: u64,
}

/// What must hold after a power cut.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The token of each id that an append has returned.
    records: BTreeMap<u64, u64>,
    /// Ids up to this one were synced and survive every power cut, except those in `lost`.
    synced: u64,
    /// Ids that a power cut took before they were synced.
    lost: BTreeSet<u64>,
    /// The acknowledgements of ids up to this one were synced: none of them comes again.
    acks_synced: u64,
    /// Ids up to this one were acknowledged and may be gone.
    acknowledged: u64,
}

struct Laboratory {
    device: Device,
    storage: Arc<dyn Storage>,
    // Declared in the order in which they must be dropped.
    _session: fuser::BackgroundSession,
    dir: tempfile::TempDir,
}

impl Laboratory {
    fn new(storage: Arc<dyn Storage>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(DISK_BYTES).unwrap();
        mounted::make(&image);
        let device = Device::new(std::fs::read(&image).unwrap());
        let session = device.mount(&dir.path().join("device"));
        Self {
            device,
            storage,
            _session: session,
            dir,
        }
    }

    fn run(&self, moments: &mut Moments, rounds: u64) -> Result<Totals, String> {
        let mut known = Known::default();
        let mut totals = Totals::default();
        for round in 0..rounds {
            let image = self.dir.path().join("device").join(device::NAME);
            let mounted = Mounted::new(&image, &self.dir.path().join("mounted"));
            let config = config(&mounted.path().join("buffer"), moments);
            let (writer, mut reader) = config.storage(Arc::clone(&self.storage)).open().unwrap();
            totals.delivered +=
                check(&mut reader, &mut known).map_err(|e| format!("round {round}: {e}"))?;
            let cut = load(
                &writer,
                &mut reader,
                &mut known,
                moments,
                &self.device,
                mounted.path(),
            );
            totals.promised = known.synced;
            totals.lost_sectors += cut.sectors_lost;
            totals.flushes = cut.flushes;
            // What closing and unmounting still write goes to the old disk, which `insert`
            // replaces.
            drop((writer, reader));
            drop(mounted);
            self.device.insert(cut.contents);
        }
        Ok(totals)
    }
}

fn config(dir: &Path, moments: &mut Moments) -> Config {
    let sync = [SyncPolicy::Interval, SyncPolicy::Always, SyncPolicy::Never];
    let sees = [ReaderSees::Written, ReaderSees::Synced];
    Config::new(dir)
        .max_size(1 << 20)
        .data_file_size([16 << 10, 60_000, 256 << 10][moments.below(3) as usize])
        .batch_size([4 << 10, 64 << 10][moments.below(2) as usize])
        .flush_interval(Duration::from_millis(1 + moments.below(10)))
        .sync(sync[moments.below(3) as usize])
        .reader_sees(sees[moments.below(2) as usize])
        // A time limit, so that blocked producers see the end of the round.
        .when_full(WhenFull::BlockFor(Duration::from_millis(5)))
}

/// The payload of a token: its eight bytes, then bytes that are computed from it.
fn payload(token: u64) -> Vec<u8> {
    let mut payload = token.to_le_bytes().to_vec();
    payload.resize(8 + (token % 3000) as usize, token as u8 ^ 0x55);
    payload
}

/// Reads everything that a power cut left, compares it with what is known, and rewinds.
/// Returns the number of records.
fn check(reader: &mut Reader, known: &mut Known) -> Result<u64, String> {
    let next_id = reader.usage().next_record_id;
    let mut expected = known.acknowledged.max(known.acks_synced) + 1;
    let mut last = known.acks_synced;
    let mut count = 0;
    while let TryRecv::Ready(item) = reader.try_recv().map_err(|e| e.to_string())? {
        let delivery = match item {
            Item::Record(delivery) => delivery,
            Item::Lost(lost) => {
                let ids = lost.first_id..lost.last_id + 1;
                // An id may be lost if it was not synced, or if an earlier round found it
                // lost: a gap stays a gap.
                let may_be = |id: &u64| *id > known.synced || known.lost.contains(id);
                if !ids.clone().all(|id| may_be(&id)) {
                    return Err(format!("{} was synced: {lost:?}", known.synced));
                }
                last = ids.end - 1;
                expected = expected.max(ids.end);
                known.lost.extend(ids);
                continue;
            }
        };
        let id = delivery.id();
        if id <= last {
            return Err(format!("{id} comes after {last}"));
        }
        if id > expected && expected <= known.synced {
            let synced = known.synced;
            return Err(format!(
                "{expected} is gone, {synced} was synced, next is {id}"
            ));
        }
        expected = expected.max(id + 1);
        last = id;
        count += 1;
        let (token, _) = delivery
            .payload()
            .split_first_chunk()
            .ok_or("a short payload")?;
        let token = u64::from_le_bytes(*token);
        let is_known = known.records.get(&id).is_none_or(|known| *known == token);
        if !is_known || payload(token) != delivery.payload()[..] {
            return Err(format!("{id} holds something else"));
        }
    }
    if expected <= known.synced {
        return Err(format!("{expected} to {} are gone", known.synced));
    }
    if next_id <= known.synced {
        return Err(format!("{next_id} is given again"));
    }
    reader.rewind();
    // Ids from `next_id` on will be given to new records.
    known.records.split_off(&next_id);
    known.records.retain(|id, _| !known.lost.contains(id));
    Ok(count)
}

/// Runs producers and a consumer for a random time, then cuts the power. Sets `known` to
/// what was promised before the cut.
fn load(
    writer: &Writer,
    reader: &mut Reader,
    known: &mut Known,
    moments: &mut Moments,
    device: &Device,
    mounted: &Path,
) -> Cut {
    let stop = AtomicBool::new(false);
    let promised = Mutex::new(std::mem::take(known));
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            let mut moments = moments.split();
            let (stop, promised) = (&stop, &promised);
            scope.spawn(move || produce(writer, &mut moments, stop, promised));
        }
        let mut its_moments = moments.split();
        let (stop_it, promised_it) = (&stop, &promised);
        scope.spawn(move || consume(reader, &mut its_moments, stop_it, promised_it));
        let mut its_moments = moments.split();
        scope.spawn(move || write_back(&mounted.join("buffer"), &mut its_moments, stop_it));
        moments.pause(60);
        *known = promised.lock().unwrap().clone();
        let cut = device.cut(moments);
        // Read after the cut, so it is not less than the position that the disk holds.
        let acknowledged = writer.usage().last_acknowledged_id;
        known.acknowledged = known.acknowledged.max(acknowledged);
        known.records = known.records.split_off(&known.acks_synced);
        known.lost = known.lost.split_off(&known.acks_synced);
        stop.store(true, Ordering::SeqCst);
        cut
    })
}

fn produce(writer: &Writer, moments: &mut Moments, stop: &AtomicBool, promised: &Mutex<Known>) {
    while !stop.load(Ordering::SeqCst) {
        let token = moments.below(u64::MAX);
        let Ok(receipt) = writer.append(&payload(token)) else {
            continue;
        };
        let Some(id) = receipt.id() else {
            continue;
        };
        promised.lock().unwrap().records.insert(id, token);
        match moments.below(40) {
            0..4 => receipt.wait_synced().unwrap(),
            4 => writer.flush().unwrap(),
            _ => continue,
        }
        let mut promised = promised.lock().unwrap();
        promised.synced = promised.synced.max(id);
    }
}

fn consume(reader: &mut Reader, moments: &mut Moments, stop: &AtomicBool, promised: &Mutex<Known>) {
    let mut held = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        if let TryRecv::Ready(item) = reader.recv_timeout(Duration::from_millis(1)).unwrap()
            && let Item::Record(delivery) = item
        {
            held.push(delivery);
        }
        if held.len() as u64 > moments.below(50) {
            let index = moments.below(held.len() as u64) as usize;
            held.swap_remove(index).ack();
        }
        if moments.below(100) == 0 {
            let acknowledged = reader.usage().last_acknowledged_id;
            reader.sync_acks().unwrap();
            let mut promised = promised.lock().unwrap();
            promised.acks_synced = promised.acks_synced.max(acknowledged);
        }
        if moments.below(500) == 0 {
            held.clear();
            reader.rewind();
        }
    }
}

/// Makes the kernel write dirty pages to the disk without a flush, so that the disk's
/// write cache has something to lose.
fn write_back(dir: &Path, moments: &mut Moments, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        for entry in std::fs::read_dir(dir).unwrap() {
            // A data file may have been deleted by now.
            if let Ok(file) = std::fs::File::open(entry.unwrap().path()) {
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            }
        }
        moments.pause(5);
    }
}

/// The operating system's storage, with syncs that do nothing and return `Ok`.
#[derive(Debug)]
struct Liar(Os);

impl Storage for Liar {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.0.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        Ok(Box::new(LiarFile(self.0.open(path, access)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        self.0.delete(path)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.0.lock(path)
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Map>> {
        self.0.map(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.0.free_bytes(dir)
    }
}

#[derive(Debug)]
struct LiarFile(Box<dyn File>);

impl File for LiarFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}
