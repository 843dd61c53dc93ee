//! Recovery of prepared directories in a simulated file system. The cases of
//! the format's recovery table are in `tests/it/recovery.rs`, by name.

use proptest::prelude::*;

use super::*;
use crate::format::file_id::next;
use crate::format::record::{encode, frame_len};
use crate::storage::File;
use crate::storage::sim::Sim;

const DIR: &str = "/buffer";
const OPTIONS: RecoveryOptions = RecoveryOptions {
    counter: EventCounter::one(),
    max_frame_len: 1 << 20,
    on_corruption: OnCorruption::Quarantine,
    quarantine_bytes: 1 << 20,
};

/// A directory with these data files, each the payload lengths of its records,
/// whose ids go on from file to file.
struct Setting {
    sim: Sim,
    next_id: u64,
    last_file_id: u16,
}

fn frame(id: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; frame_len(payload.len())];
    encode(&mut frame, id, 0, payload);
    frame
}

impl Setting {
    fn new() -> Self {
        let sim = Sim::new();
        sim.create_dir(Path::new(DIR)).unwrap();
        sim.sync_dir(Path::new("/")).unwrap();
        Self {
            sim,
            next_id: 1,
            last_file_id: 0,
        }
    }

    /// Adds a data file with `count` records of 24 bytes (frames of 64).
    fn file(mut self, file_id: u16, count: u64) -> Self {
        let bytes: Vec<u8> = (self.next_id..self.next_id + count)
            .flat_map(|id| frame(id, &[id as u8; 24]))
            .collect();
        self.next_id += count;
        self.last_file_id = file_id;
        self.write(&file_name(file_id), &bytes);
        self
    }

    fn ledger(self, next: u64, last: u64) -> Self {
        let state = LedgerState {
            writer_next_record_id: next,
            writer_file_id: self.last_file_id,
            reader_last_record_id: last,
            ..LedgerState::INITIAL
        };
        self.write(LEDGER_FILE_NAME, &state.to_bytes());
        self
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        self.sim
            .write_file(Path::new(DIR).join(name), bytes)
            .unwrap();
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        self.sim.read_file(Path::new(DIR).join(name))
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.read(name).unwrap();
        change(&mut bytes);
        self.write(name, &bytes);
    }

    fn recover(&self) -> Recovered {
        recover_sim(&self.sim, &OPTIONS).unwrap()
    }
}

fn recover_sim(sim: &Sim, options: &RecoveryOptions) -> Result<Recovered> {
    let storage: Arc<dyn Storage> = Arc::new(sim.clone());
    recover(&storage, Path::new(DIR), options)
}

fn file_ids(recovered: &Recovered) -> Vec<u16> {
    recovered.files.iter().map(|file| file.file_id).collect()
}

fn kinds(recovered: &Recovered) -> Vec<FindingKind> {
    let findings = recovered.report.findings.iter();
    findings.map(|finding| finding.kind).collect()
}

#[test]
fn an_empty_directory_becomes_a_buffer_that_survives_a_power_cut() {
    let setting = Setting::new();
    let recovered = setting.recover();
    assert_eq!(file_ids(&recovered), [0]);
    assert_eq!(recovered.writer, Some((0, 0)));
    assert_eq!((recovered.last_id, recovered.next_id), (0, 1));
    assert_eq!(recovered.next_file_id, 1);
    assert_eq!(recovered.report, Recovery::default());
    let sim = setting.sim.crash(0);
    let after = Setting { sim, ..setting };
    assert_eq!(after.read("buffer-data-0.dat"), Some(Vec::new()));
    assert_eq!(
        after.read(LEDGER_FILE_NAME),
        Some(LedgerState::INITIAL.to_bytes().to_vec())
    );
}

#[test]
fn a_buffer_that_was_closed_is_not_written_to() {
    let setting = Setting::new().file(3, 4).file(4, 2).ledger(7, 2);
    let before = (setting.sim.files(DIR), setting.sim.operations());
    let recovered = setting.recover();
    // One sync of each file, one of the directory.
    let after = (setting.sim.files(DIR), setting.sim.operations() - 3);
    assert_eq!(after, before);
    assert_eq!(file_ids(&recovered), [3, 4]);
    assert_eq!(recovered.acknowledged, (0, 128));
    assert_eq!(recovered.writer, Some((4, 128)));
    assert_eq!((recovered.last_id, recovered.next_id), (2, 7));
    assert_eq!(recovered.next_file_id, 5);
    assert_eq!(recovered.report, Recovery::default());
}

#[test]
fn what_an_earlier_process_did_not_sync_is_synced() {
    let setting = Setting::new().ledger(1, 0);
    let path = Path::new(DIR).join("buffer-data-0.dat");
    let file = setting.sim.open(&path, Access::CreateNew).unwrap();
    write_all(&*file, &frame(1, b"hello"), 0).unwrap();
    drop(file);
    let killed = setting.sim.kill();
    recover_sim(&killed, &OPTIONS).unwrap();
    assert_eq!(killed.crash(0).read_file(&path), Some(frame(1, b"hello")));
}

#[test]
fn everything_acknowledged_stands_at_the_end() {
    let recovered = Setting::new().file(0, 3).file(1, 3).ledger(7, 6).recover();
    assert_eq!(recovered.acknowledged, (1, 192));
}

#[test]
fn acknowledged_at_the_end_of_a_file_stands_there() {
    let recovered = Setting::new().file(0, 3).file(1, 3).ledger(7, 3).recover();
    assert_eq!(recovered.acknowledged, (0, 192));
}

#[test]
fn damage_behind_the_acknowledged_record_is_left_to_the_reader() {
    let setting = Setting::new().file(0, 9).ledger(10, 4);
    setting.change("buffer-data-0.dat", |bytes| bytes[4 * 64 + 10] ^= 1);
    let recovered = setting.recover();
    assert_eq!(recovered.acknowledged, (0, 4 * 64));
    assert_eq!(recovered.last_id, 4);
}

#[test]
fn a_damaged_id_does_not_move_the_acknowledged_place() {
    let setting = Setting::new().file(0, 9).ledger(10, 6);
    // The id of record 3, made larger than any.
    setting.change("buffer-data-0.dat", |bytes| bytes[3 * 64 - 32 + 12] = 1);
    assert_eq!(setting.recover().acknowledged, (0, 6 * 64));
    // The id of record 6, the last acknowledged one.
    setting.change("buffer-data-0.dat", |bytes| bytes[6 * 64 - 32 + 8] = 5);
    assert_eq!(setting.recover().acknowledged, (0, 5 * 64));
}

#[test]
fn a_damaged_first_id_does_not_move_a_file() {
    for wrong in [0, 2, 5, 200] {
        let setting = Setting::new()
            .file(0, 3)
            .file(1, 3)
            .file(2, 3)
            .ledger(10, 0);
        setting.change("buffer-data-1.dat", |bytes| bytes[64 - 32 + 8] = wrong);
        let recovered = setting.recover();
        assert_eq!(file_ids(&recovered), [0, 1, 2], "first id {wrong}");
        assert_eq!(recovered.next_id, 10);
    }
}

#[test]
fn a_first_frame_too_long_to_check_is_checked_where_it_matters() {
    let long = 2 << 20;
    let options = RecoveryOptions {
        max_frame_len: 1 << 30,
        ..OPTIONS
    };
    let build = |wrong: Option<u8>| {
        let setting = Setting::new().ledger(7, 0);
        for (file_id, id) in [(0, 1), (1, 3), (2, 5)] {
            let mut bytes = frame(id, &vec![1; long]);
            if let (1, Some(wrong)) = (file_id, wrong) {
                let at = bytes.len() - 32 + 8;
                bytes[at] = wrong;
            }
            bytes.extend(frame(id + 1, b"short"));
            setting.write(&file_name(file_id), &bytes);
        }
        setting
    };
    for wrong in [None, Some(0), Some(9), Some(1), Some(5)] {
        let recovered = recover_sim(&build(wrong).sim, &options).unwrap();
        assert_eq!(file_ids(&recovered), [0, 1, 2], "{wrong:?}");
        assert_eq!(recovered.next_id, 7);
    }
    // A claimed id that points one file too far: record 2 is in file 0.
    let setting = build(Some(2)).ledger(7, 2);
    let recovered = recover_sim(&setting.sim, &options).unwrap();
    let end_of_file_0 = (frame_len(long) + frame_len(5)) as u64;
    assert_eq!(recovered.acknowledged, (0, end_of_file_0));
}

#[test]
fn a_file_given_up_after_a_failed_sync_keeps_its_ids_from_being_given_out_again() {
    // File 0 was synced up to record 2; 3 and 4 went to file 1 again, which the
    // crash cut down to 3. File 0 still holds what was not synced.
    let setting = Setting::new().file(0, 4).ledger(3, 0);
    setting.write("buffer-data-1.dat", &frame(3, &[3; 24]));
    let recovered = setting.recover();
    assert_eq!(file_ids(&recovered), [0, 1]);
    assert_eq!(recovered.next_id, 5);
}

#[test]
fn other_damage_at_the_end_stays_and_the_writer_goes_on_in_a_new_file() {
    let setting = Setting::new().file(7, 4).ledger(5, 0);
    setting.change("buffer-data-7.dat", |bytes| bytes[3 * 64 + 10] ^= 1);
    let before = setting.read("buffer-data-7.dat");
    let recovered = setting.recover();
    assert_eq!(setting.read("buffer-data-7.dat"), before);
    assert_eq!(recovered.writer, None);
    assert_eq!(recovered.next_file_id, 8);
    assert_eq!(recovered.next_id, 5);
    assert_eq!(kinds(&recovered), [FindingKind::Checksum]);
    assert_eq!(recovered.report.events_lost, 1);
}

#[test]
fn a_zero_tail_behind_a_damaged_record_is_cut_alone() {
    let setting = Setting::new().file(7, 4).ledger(5, 0);
    setting.change("buffer-data-7.dat", |bytes| {
        bytes[3 * 64 + 10] ^= 1;
        bytes.resize(6 * 64, 0);
    });
    let recovered = setting.recover();
    assert_eq!(recovered.files[0].len, 4 * 64);
    assert_eq!(setting.read("buffer-data-7.dat").unwrap().len(), 4 * 64);
    assert_eq!(recovered.writer, None);
}

#[test]
fn names_that_are_taken_are_not_given_to_new_files() {
    let setting = Setting::new().file(65534, 2).ledger(3, 0);
    setting
        .sim
        .create_dir(&Path::new(DIR).join("buffer-data-0.dat"))
        .unwrap();
    assert_eq!(setting.recover().next_file_id, 1);
}

#[test]
fn stale_files_that_cannot_be_moved_are_listed_behind_their_like() {
    let setting = Setting::new().file(0, 3).file(1, 3).ledger(7, 4);
    let copy = setting.read("buffer-data-0.dat").unwrap();
    setting.write("buffer-data-9.dat", &copy);
    let options = RecoveryOptions {
        on_corruption: OnCorruption::Skip,
        ..OPTIONS
    };
    let recovered = recover_sim(&setting.sim, &options).unwrap();
    assert_eq!(file_ids(&recovered), [0, 9, 1]);
    assert_eq!(recovered.acknowledged, (2, 64));
    assert_eq!(recovered.writer, Some((1, 192)));
    let copy = setting.read("buffer-data-1.dat").unwrap();
    setting.write("buffer-data-8.dat", &copy);
    let recovered = recover_sim(&setting.sim, &options).unwrap();
    assert_eq!(file_ids(&recovered), [0, 9, 1, 8]);
    assert_eq!(recovered.writer, None);
    assert_eq!(recovered.next_file_id, 2);
}

#[test]
fn refusing_damage_changes_nothing_and_says_where() {
    let refuse = RecoveryOptions {
        on_corruption: OnCorruption::Refuse,
        ..OPTIONS
    };
    let setting = Setting::new().file(0, 3).ledger(4, 0);
    setting.change("buffer-data-0.dat", |bytes| bytes[2 * 64 + 10] ^= 1);
    let before = setting.sim.operations();
    let error = recover_sim(&setting.sim, &refuse).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.path(), Some(Path::new("/buffer/buffer-data-0.dat")));
    assert!(error.to_string().contains("offset 128"), "{error}");
    assert_eq!(setting.sim.operations(), before);
    // What a crash leaves is not refused.
    let setting = Setting::new().file(0, 3).ledger(3, 0);
    setting.change("buffer-data-0.dat", |bytes| bytes.truncate(150));
    assert_eq!(recover_sim(&setting.sim, &refuse).unwrap().next_id, 3);
}

#[test]
fn a_directory_that_holds_something_else_is_refused_before_anything_is_made() {
    let setting = Setting::new();
    setting.write("holiday.jpg", b"x");
    let error = prepare(&setting.sim, Path::new(DIR)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotABuffer);
    assert!(error.to_string().contains("holiday.jpg"), "{error}");
    setting.write("buffer.lock", b"");
    prepare(&setting.sim, Path::new(DIR)).unwrap();
    setting.write("not-a-directory", b"");
    let file = Path::new(DIR).join("not-a-directory");
    let error = prepare(&setting.sim, &file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotABuffer);
    prepare(&setting.sim, &Path::new(DIR).join("deep/er")).unwrap();
    assert_eq!(setting.sim.files(Path::new(DIR).join("deep/er")), []);
}

/// A disk that cannot read one page of one file.
#[derive(Debug)]
struct BadPage {
    sim: Sim,
    name: String,
    page: u64,
}

#[derive(Debug)]
struct BadPageFile {
    file: Box<dyn File>,
    page: u64,
}

impl File for BadPageFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = (offset + buf.len() as u64).min(self.file.len()?);
        let touched = offset / 4096..end.div_ceil(4096);
        if touched.contains(&self.page) {
            return Err(io::Error::from_raw_os_error(5));
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

impl Storage for BadPage {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let file = self.sim.open(path, access)?;
        if path.ends_with(&self.name) {
            let page = self.page;
            return Ok(Box::new(BadPageFile { file, page }));
        }
        Ok(file)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.sim.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<crate::storage::Entry>> {
        self.sim.list(dir)
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
    fn lock(&self, path: &Path) -> io::Result<Box<dyn crate::storage::Lock>> {
        self.sim.lock(path)
    }
    fn map(&self, path: &Path) -> io::Result<Box<dyn crate::storage::Map>> {
        self.sim.map(path)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.sim.free_bytes(dir)
    }
}

/// An unreadable page looks like zeros; together with those behind it, like a
/// tail that a crash left. It may be readable tomorrow.
#[test]
#[cfg(unix)]
fn what_cannot_be_read_is_not_cut() {
    for (page, ledger_next) in [(3, 257), (3, 1), (1, 257), (0, 257), (0, 1)] {
        let setting = Setting::new().file(0, 256).ledger(ledger_next, 0);
        if page == 3 {
            setting.change("buffer-data-0.dat", |bytes| bytes.resize(6 * 4096, 0));
        }
        let before = data_files(&setting.sim);
        let storage: Arc<dyn Storage> = Arc::new(BadPage {
            sim: setting.sim.clone(),
            name: "buffer-data-0.dat".to_owned(),
            page,
        });
        let recovered = recover(&storage, Path::new(DIR), &OPTIONS).unwrap();
        assert_eq!(data_files(&setting.sim), before, "page {page}");
        assert_eq!(recovered.writer.is_none(), page == 3);
        let next_id = if page == 3 { ledger_next.max(193) } else { 257 };
        assert_eq!(recovered.next_id, next_id);
    }
}

/// Damage to one file or the ledger.
#[derive(Debug, Clone)]
enum Harm {
    Truncate { file: usize, by: usize },
    ZeroTail { file: usize, len: usize },
    ZeroSector { file: usize, at: usize },
    Flip { file: usize, at: usize },
    Delete { file: usize },
    Empty { file: usize },
    Copy { file: usize, to: u16 },
    Ledger { bytes: Vec<u8> },
    NoLedger,
    LedgerValues { next: u64, last: u64 },
}

fn harm() -> impl Strategy<Value = Harm> {
    let file = 0..5usize;
    prop_oneof![
        (file.clone(), 1..200usize).prop_map(|(file, by)| Harm::Truncate { file, by }),
        (file.clone(), 1..1200usize).prop_map(|(file, len)| Harm::ZeroTail { file, len }),
        (file.clone(), any::<usize>()).prop_map(|(file, at)| Harm::ZeroSector { file, at }),
        (file.clone(), any::<usize>()).prop_map(|(file, at)| Harm::Flip { file, at }),
        file.clone().prop_map(|file| Harm::Delete { file }),
        file.clone().prop_map(|file| Harm::Empty { file }),
        (file, 0..12u16).prop_map(|(file, to)| Harm::Copy { file, to }),
        prop::collection::vec(any::<u8>(), 0..30).prop_map(|bytes| Harm::Ledger { bytes }),
        Just(Harm::NoLedger),
        (0..60u64, 0..60u64).prop_map(|(next, last)| Harm::LedgerValues { next, last }),
    ]
}

/// A buffer of files from `first_file` on with so many records each, harmed.
fn harmed(first_file: u16, counts: &[u64], last_id: u64, harms: &[Harm]) -> Setting {
    let mut setting = Setting::new();
    let mut ids = vec![first_file];
    for count in counts {
        let file_id = ids[ids.len() - 1];
        setting = setting.file(file_id, *count);
        ids.push(next(file_id));
    }
    let next_id = setting.next_id;
    let setting = setting.ledger(next_id, last_id.min(next_id - 1));
    let name = |file: usize| file_name(ids[file % counts.len()]);
    for harm in harms {
        apply_harm(&setting, harm, &name);
    }
    setting
}

fn apply_harm(setting: &Setting, harm: &Harm, name: &dyn Fn(usize) -> String) {
    let change = |file: usize, change: &dyn Fn(&mut Vec<u8>)| {
        if let Some(mut bytes) = setting.read(&name(file)) {
            change(&mut bytes);
            setting.write(&name(file), &bytes);
        }
    };
    match harm {
        Harm::Truncate { file, by } => {
            change(*file, &|bytes| {
                bytes.truncate(bytes.len().saturating_sub(*by));
            });
        }
        Harm::ZeroTail { file, len } => change(*file, &|bytes| bytes.resize(bytes.len() + len, 0)),
        Harm::ZeroSector { file, at } => change(*file, &|bytes| {
            let sectors = bytes.len().div_ceil(512).max(1);
            let at = at % sectors * 512;
            let end = bytes.len().min(at + 512);
            bytes[at.min(end)..end].fill(0);
        }),
        Harm::Flip { file, at } => change(*file, &|bytes| {
            if !bytes.is_empty() {
                let at = at % (bytes.len() * 8);
                bytes[at / 8] ^= 1 << (at % 8);
            }
        }),
        Harm::Delete { file } => {
            // An earlier harm may have deleted it.
            let _ = setting.sim.remove_file(Path::new(DIR).join(name(*file)));
        }
        Harm::Empty { file } => change(*file, &Vec::clear),
        Harm::Copy { file, to } => {
            if let Some(bytes) = setting.read(&name(*file)) {
                setting.write(&file_name(*to), &bytes);
            }
        }
        Harm::Ledger { bytes } => setting.write(LEDGER_FILE_NAME, bytes),
        Harm::NoLedger => {
            let _ = setting
                .sim
                .remove_file(Path::new(DIR).join(LEDGER_FILE_NAME));
        }
        Harm::LedgerValues { next, last } => {
            let mut bytes = LedgerState::INITIAL.to_bytes();
            bytes[..8].copy_from_slice(&next.to_le_bytes());
            bytes[16..].copy_from_slice(&last.to_le_bytes());
            setting.write(LEDGER_FILE_NAME, &bytes);
        }
    }
}

/// What two recoveries of the same buffer have in common.
fn essence(mut recovered: Recovered) -> Recovered {
    recovered.report = Recovery::default();
    for file in &mut recovered.files {
        file.modified = None;
    }
    recovered
}

/// Where a recovery leads, but for the ids of files: of two files with the same
/// bytes, either may be the one that stays.
fn place(recovered: Recovered) -> Recovered {
    let mut recovered = essence(recovered);
    for file in &mut recovered.files {
        file.file_id = 0;
    }
    recovered.writer = recovered.writer.map(|(_, len)| (0, len));
    recovered.next_file_id = 0;
    recovered
}

/// The bytes of the data files, in no particular order of files.
fn contents(sim: &Sim) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = data_files(sim)
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    all.sort();
    all
}

fn data_files(sim: &Sim) -> Vec<(String, Vec<u8>)> {
    sim.files(DIR)
        .into_iter()
        .filter(|(name, _)| name.ends_with(".dat"))
        .map(|(name, _)| {
            let bytes = sim.read_file(Path::new(DIR).join(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}

/// Every call of every kind fails once, in a recovery that cuts, moves and
/// rebuilds: an error or none, and the next recovery comes to the same.
#[test]
fn a_failed_call_spoils_nothing() {
    use crate::storage::fault::{Errno, Fault, Op};
    let build = || {
        let harms = [
            Harm::Truncate { file: 1, by: 9 },
            Harm::Copy { file: 0, to: 7 },
        ];
        [
            harmed(3, &[4, 4], 2, &harms),
            harmed(3, &[4, 4], 2, &[Harm::Ledger { bytes: vec![7; 30] }]),
            Setting::new(),
        ]
    };
    for case in 0..build().len() {
        let expected = essence(build()[case].recover());
        let counted = Fault::new(Arc::new(build()[case].sim.clone()));
        let storage: Arc<dyn Storage> = Arc::new(counted.clone());
        recover(&storage, Path::new(DIR), &OPTIONS).unwrap();
        let counts = counted.counts();
        assert!(counts.len() > 5, "{counts:?}");
        for (op, count) in counts {
            for (nth, permanent) in (1..=count).flat_map(|nth| [(nth, false), (nth, true)]) {
                let setting = &build()[case];
                let fault = Fault::of_sim(&setting.sim, nth);
                if permanent {
                    fault.fail_from(op, nth, Errno::Eio);
                } else {
                    fault.fail(op, nth, Errno::Eio);
                }
                let storage: Arc<dyn Storage> = Arc::new(fault);
                let result = recover(&storage, Path::new(DIR), &OPTIONS);
                if let Err(error) = &result {
                    let in_time = error.path().is_some_and(|path| path.starts_with(DIR));
                    assert!(in_time, "{op:?} {nth}: {error}");
                }
                let again = essence(setting.recover());
                assert_eq!(
                    again, expected,
                    "case {case}, {op:?} {nth} {permanent} {result:?}"
                );
                if op == Op::Sync && permanent {
                    assert!(result.is_err(), "a failed sync is not trusted");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_crash_anywhere_in_recovery_and_another_recovery_lead_to_the_same_place(
        first_file in prop_oneof![Just(0u16), Just(65533), 0..9u16],
        counts in prop::collection::vec(0..6u64, 1..5),
        last_id in 0..20u64,
        harms in prop::collection::vec(harm(), 0..3),
        seed in any::<u64>(),
    ) {
        let setting = harmed(first_file, &counts, last_id, &harms);
        setting.sim.keep_history();
        let first_operation = setting.sim.operations();
        let recovered = place(setting.recover());
        let files = contents(&setting.sim);
        prop_assert_eq!(&place(setting.recover()), &recovered, "recovered again");
        for operation in first_operation..=setting.sim.operations() {
            for outcome in [0, 1, seed, seed ^ 1] {
                let Some(at) = setting.sim.at(operation) else { continue };
                let crashed = at.crash(outcome);
                let again = recover_sim(&crashed, &OPTIONS).unwrap();
                prop_assert_eq!(
                    &place(again), &recovered,
                    "operation {} outcome {}", operation, outcome
                );
                prop_assert_eq!(&contents(&crashed), &files);
            }
        }
    }

    #[test]
    fn nothing_unread_is_before_the_acknowledged_place_and_no_id_is_given_out_twice(
        first_file in prop_oneof![Just(0u16), Just(65533), 0..9u16],
        counts in prop::collection::vec(0..6u64, 1..5),
        last_id in 0..20u64,
        harms in prop::collection::vec(harm(), 0..3),
    ) {
        let setting = harmed(first_file, &counts, last_id, &harms);
        let recovered = setting.recover();
        let (at, offset) = recovered.acknowledged;
        let mut seen = std::collections::BTreeSet::new();
        let mut unread = std::collections::BTreeSet::new();
        for (index, file) in recovered.files.iter().enumerate() {
            let bytes = setting.read(&file_name(file.file_id)).unwrap();
            prop_assert_eq!(bytes.len() as u64, file.len);
            for (found, id) in valid_frames(&bytes) {
                seen.insert(id);
                if (index, found) >= (at, offset) {
                    unread.insert(id);
                }
            }
        }
        for id in seen {
            prop_assert!(id < recovered.next_id, "{} is given out again", id);
            prop_assert!(id <= recovered.last_id || unread.contains(&id), "{} is left out", id);
        }
        if let Some((file_id, len)) = recovered.writer {
            let last = recovered.files.last().unwrap();
            prop_assert_eq!((last.file_id, last.len), (file_id, len));
        }
        prop_assert!(!file_ids(&recovered).contains(&recovered.next_file_id));
    }
}

/// Every place where a whole frame of a test record stands: offset and id.
fn valid_frames(bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for at in (0..bytes.len().saturating_sub(63)).step_by(8) {
        let window = &bytes[at..at + 64];
        let id = u64::from_le_bytes(window[40..48].try_into().unwrap());
        if window == frame(id, &[id as u8; 24]) {
            found.push((at as u64, id));
        }
    }
    found
}
