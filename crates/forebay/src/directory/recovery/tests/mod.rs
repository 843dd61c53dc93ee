//! Recovery of prepared directories in a simulated file system. The tests of the cases in
//! the format's recovery table are in `tests/it/recovery/`, by name.

mod properties;

use super::*;
use crate::format::file_id::next;
use crate::format::record::{encode, frame_len};
use crate::storage::File;
use crate::storage::fault::Errno;
use crate::storage::sim::Sim;

const DIR: &str = "/buffer";
const OPTIONS: RecoveryOptions = RecoveryOptions {
    counter: EventCounter::one(),
    max_frame_len: 1 << 20,
    on_corruption: OnCorruption::Quarantine,
    quarantine_bytes: 1 << 20,
};

/// A directory with data files and a ledger. Record ids continue from file to file.
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
    // The damaged first id of file 1 claims that the last acknowledged record, 2, is there. It
    // is in file 0, and the end of file 0 is the same place as the beginning of file 1.
    let setting = build(Some(2)).ledger(7, 2);
    let recovered = recover_sim(&setting.sim, &options).unwrap();
    assert_eq!(recovered.acknowledged, (1, 0));
}

#[test]
fn a_file_whose_records_had_begun_to_move_keeps_its_ids_from_being_given_out_again() {
    // A state that older versions left: file 0 was synced up to record 2; records 3 and 4 were
    // written to file 1 again, and the crash left only 3 there. File 0 still holds both.
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

/// The scanner gets zeros for an unreadable page. With the zeros after it they look like a
/// tail that a crash left, but the page may be readable later.
#[test]
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
