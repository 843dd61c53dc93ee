//! The mark when calls fail, and what the next opening does with it.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::super::testing::{BEGIN, FRAME, Setting};
use super::*;
use crate::storage::fault::{Errno, Op};
use crate::storage::sim::Sim;

const PAGE: usize = 4096;

fn mark_path() -> PathBuf {
    path(Path::new("/buffer"))
}

/// Where the mark stands; `None` without one.
fn mark_of(sim: &Sim) -> Option<(u16, u64)> {
    match read(sim, Path::new("/buffer")).unwrap() {
        Found::Synced(file_id, synced_len) => Some((file_id, synced_len)),
        Found::Nothing => None,
        Found::Damaged => panic!("the mark is damaged"),
    }
}

fn is_damaged(sim: &Sim) -> bool {
    matches!(read(sim, Path::new("/buffer")).unwrap(), Found::Damaged)
}

#[test]
fn the_mark_is_read_back_exactly() {
    let setting = Setting::new();
    let longest = (1 << FILE_ID_SHIFT) - 1;
    let marks = [
        (0, 0),
        (1, 0),
        (0, 1),
        (256, 0x0102_0304_0506),
        (file_id::MAX_FILE_ID, longest),
        (0, longest),
    ];
    for (file_id, synced_len) in marks {
        let mut mark = SyncedMark::default();
        mark.place(&setting.shared, file_id, synced_len).unwrap();
        assert_eq!(mark_of(&setting.sim), Some((file_id, synced_len)));
        mark.remove(&setting.shared);
    }
    let mut mark = SyncedMark::default();
    mark.place(&setting.shared, 5, 5).unwrap();
    for (file_id, synced_len) in marks {
        mark.advance(file_id, synced_len);
        assert_eq!(mark_of(&setting.sim), Some((file_id, synced_len)));
    }
    // The format: one little-endian word, with the id plus one.
    mark.advance(0x0708, 0x0102_0304_0506);
    assert_eq!(
        setting.sim.read_file(mark_path()).unwrap(),
        [6, 5, 4, 3, 2, 1, 9, 7]
    );
}

#[test]
fn a_mark_that_cannot_be_true_is_damaged() {
    let sim = Sim::new();
    assert_eq!(mark_of(&sim), None, "there is no file");
    let word = bytes_of(1, 100);
    sim.write_file(mark_path(), &[]).unwrap();
    assert_eq!(mark_of(&sim), None, "nothing was written by then");
    for len in 1..FILE_LEN {
        sim.write_file(mark_path(), &word[..len]).unwrap();
        assert!(is_damaged(&sim), "{len} bytes");
    }
    sim.write_file(mark_path(), &[0; FILE_LEN]).unwrap();
    assert!(is_damaged(&sim), "zeros name no file");
    sim.write_file(mark_path(), &word).unwrap();
    assert_eq!(mark_of(&sim), Some((1, 100)));
}

#[test]
fn the_mark_is_placed_once_and_only_moved_by_syncs() {
    let setting = Setting::new();
    let mut mark = SyncedMark::default();
    mark.place(&setting.shared, 0, 100).unwrap();
    mark.place(&setting.shared, 7, 999).unwrap();
    assert_eq!(mark_of(&setting.sim), Some((0, 100)));
    assert_eq!(setting.count(Op::Create), 1);
    // If a move cannot be written, the mark stays true.
    setting.fail_next(Op::Write, Errno::Eio);
    mark.advance(0, 200);
    assert_eq!(mark_of(&setting.sim), Some((0, 100)));
}

#[test]
fn the_mark_follows_the_oldest_file_that_is_open() {
    let setting = Setting::new();
    let mut files = Files::new(None, BEGIN, 0);
    let mut mark = SyncedMark::default();
    setting.roll_and_write(&mut files, 1);
    mark.place(&setting.shared, 0, 0).unwrap();
    setting.sync(&mut files);
    setting.write(&mut files, 1);
    setting.roll_and_write(&mut files, 1);
    mark.advance_to(&files);
    assert_eq!(mark_of(&setting.sim), Some((0, FRAME)));
    setting.sync(&mut files);
    mark.advance_to(&files);
    assert_eq!(mark_of(&setting.sim), Some((1, 0)));
}

#[test]
fn nothing_may_be_written_where_the_mark_cannot_be_made() {
    let setting = Setting::new();
    let mut mark = SyncedMark::default();
    for op in [Op::Create, Op::Write] {
        setting.fail_all(op, Errno::Enospc);
        let refused = mark.place(&setting.shared, 0, 0);
        assert!(matches!(refused, Err(Trouble::NoSpace(_))), "{op:?}");
        setting.fault.clear();
        setting.fail_all(op, Errno::Eio);
        // The file exists without contents by now, if it could be created.
        let refused = match op {
            Op::Create => mark.place(&setting.shared, 0, 0),
            _ => SyncedMark::default().place(&setting.shared, 0, 0),
        };
        assert!(matches!(refused, Err(Trouble::Failed(_))), "{op:?}");
        setting.fault.clear();
    }
    assert_eq!(mark_of(&setting.sim), None);
    mark.place(&setting.shared, 3, 4).unwrap();
    assert_eq!(mark_of(&setting.sim), Some((3, 4)));
}

#[test]
fn one_failure_or_signals_do_not_keep_the_mark_from_being_made() {
    for op in [Op::Create, Op::Write] {
        let setting = Setting::new();
        setting.fail_next(op, Errno::Eio);
        let mut mark = SyncedMark::default();
        mark.place(&setting.shared, 1, 2).unwrap();
        assert_eq!(mark_of(&setting.sim), Some((1, 2)));
        mark.remove(&setting.shared);
        // A signal uses up none of the two tries.
        setting.fail_next(op, Errno::Eintr);
        setting.fault.fail(op, setting.count(op) + 2, Errno::Eio);
        mark.place(&setting.shared, 1, 3).unwrap();
        assert_eq!(mark_of(&setting.sim), Some((1, 3)));
    }
}

#[test]
fn a_mark_whose_descriptor_was_given_back_is_taken_up_again_as_it_stands() {
    let setting = Setting::new();
    let mut mark = SyncedMark::default();
    mark.place(&setting.shared, 0, 100).unwrap();
    assert!(mark.let_go());
    assert!(!mark.let_go(), "there was none");
    mark.advance(0, 200);
    assert_eq!(mark_of(&setting.sim), Some((0, 100)), "it stays true");
    // If it cannot be opened, it is still there, and true.
    setting.fail_all(Op::Create, Errno::Emfile);
    mark.place(&setting.shared, 0, 300).unwrap();
    assert_eq!(mark_of(&setting.sim), Some((0, 100)));
    setting.fault.clear();
    // Files before the one that is written to next may not be synced.
    mark.place(&setting.shared, 1, 300).unwrap();
    assert_eq!(mark_of(&setting.sim), Some((0, 100)));
    mark.advance(1, 400);
    assert_eq!(mark_of(&setting.sim), Some((1, 400)));
}

#[test]
fn the_mark_goes_when_all_is_synced_if_this_life_has_made_it() {
    let setting = Setting::new();
    let theirs = bytes_of(9, 9);
    setting.sim.write_file(mark_path(), &theirs).unwrap();
    SyncedMark::default().remove(&setting.shared);
    assert_eq!(mark_of(&setting.sim), Some((9, 9)));
    let mut mark = SyncedMark::default();
    mark.place(&setting.shared, 0, 0).unwrap();
    assert_eq!(mark_of(&setting.sim), Some((0, 0)), "that one was old");
    // A mark whose descriptor was given back is removed as well.
    mark.let_go();
    setting.fail_next(Op::Delete, Errno::Eintr);
    mark.remove(&setting.shared);
    assert!(setting.sim.read_file(mark_path()).is_none());
    // There is no true mark any more that would do.
    setting.fail_all(Op::Create, Errno::Enospc);
    assert!(mark.place(&setting.shared, 0, 0).is_err());
}

#[test]
fn after_recovery_the_mark_is_forgotten_and_need_not_be_there() {
    let setting = Setting::new();
    let dir = &setting.shared.dir;
    forget(&setting.fault, dir).unwrap();
    setting.sim.write_file(mark_path(), &[1; 8]).unwrap();
    setting.fail_next(Op::Delete, Errno::Eio);
    assert!(forget(&setting.fault, dir).is_err());
    assert!(mark_of(&setting.sim).is_some());
    setting.fail_next(Op::Delete, Errno::Eintr);
    forget(&setting.fault, dir).unwrap();
    assert!(setting.sim.read_file(mark_path()).is_none());
}

// ---- writing again ----

/// A machine after a process that died after failed syncs: these data files of full pages of sevens
/// can be read, and nothing of them is on the disk.
fn failed_files(ids: impl Iterator<Item = u16>, pages: usize) -> Setting {
    let setting = Setting::new();
    for id in ids {
        let path = setting.path_of(id);
        let file = setting.sim.open(&path, Access::CreateNew).unwrap();
        write_all(&*file, &vec![7; pages * PAGE], 0).unwrap();
        setting.sim.fail_sync(&path, 0).unwrap();
    }
    setting.sim.sync_dir(&setting.shared.dir).unwrap();
    setting
}

/// How many pages of the file a power cut leaves, once it is synced as recovery does.
fn pages_kept(setting: &Setting, file_id: u16) -> Vec<bool> {
    let path = setting.path_of(file_id);
    setting
        .sim
        .open(&path, Access::Write)
        .unwrap()
        .sync()
        .unwrap();
    let bytes = setting.sim.crash(0).read_file(&path).unwrap();
    bytes.chunks(PAGE).map(|page| page == [7; PAGE]).collect()
}

#[test]
fn what_lies_behind_the_mark_is_written_again_and_nothing_before_it() {
    let setting = failed_files(0..2, 3);
    // Without a mark there is nothing to distrust.
    rewrite_unsynced(&setting.fault, &setting.shared.dir).unwrap();
    assert_eq!(setting.count(Op::Write), 1, "the ledger was written");
    let mark = bytes_of(0, PAGE as u64);
    setting.sim.write_file(mark_path(), &mark).unwrap();
    rewrite_unsynced(&setting.fault, &setting.shared.dir).unwrap();
    assert_eq!(pages_kept(&setting, 0), [false, true, true]);
    assert_eq!(pages_kept(&setting, 1), [true, true, true]);
    assert!(setting.contents(0).unwrap().iter().all(|byte| *byte == 7));
}

#[test]
fn as_many_files_are_written_again_as_may_be_unsynced() {
    // The ids wrap around, and one file between the others was deleted.
    let first = file_id::MAX_FILE_ID - 1;
    let ids: Vec<u16> = std::iter::successors(Some(first), |id| Some(file_id::next(*id)))
        .take(UNSYNCED_FILES_MAX + 1)
        .collect();
    let there = |nth: &usize| *nth != 1;
    let setting = failed_files((0..ids.len()).filter(there).map(|nth| ids[nth]), 1);
    let mark = bytes_of(first, 0);
    setting.sim.write_file(mark_path(), &mark).unwrap();
    rewrite_unsynced(&setting.fault, &setting.shared.dir).unwrap();
    for nth in (0..ids.len()).filter(there) {
        let is_kept = nth < UNSYNCED_FILES_MAX;
        assert_eq!(pages_kept(&setting, ids[nth]) == [true], is_kept, "{nth}");
    }
}

#[test]
fn a_mark_beyond_the_end_of_its_file_asks_for_nothing_of_it() {
    let setting = failed_files(0..2, 1);
    let mark = bytes_of(0, 1 << 40);
    setting.sim.write_file(mark_path(), &mark).unwrap();
    rewrite_unsynced(&setting.fault, &setting.shared.dir).unwrap();
    assert_eq!(setting.contents(0).unwrap().len(), PAGE);
    assert_ne!(pages_kept(&setting, 0), [true]);
    assert_eq!(pages_kept(&setting, 1), [true]);
}

#[test]
fn what_cannot_be_written_again_keeps_the_buffer_from_opening() {
    for (op, errno) in [
        (Op::Open, Errno::Eio),
        (Op::Open, Errno::Emfile),
        (Op::Write, Errno::Enospc),
        (Op::Write, Errno::Eio),
    ] {
        let setting = failed_files(0..1, 1);
        setting
            .sim
            .write_file(mark_path(), &bytes_of(0, 0))
            .unwrap();
        setting.fail_all(op, errno);
        let refused = rewrite_unsynced(&setting.fault, &setting.shared.dir);
        assert!(refused.is_err(), "{op:?} {errno:?}");
        assert_eq!(mark_of(&setting.sim), Some((0, 0)), "the next try needs it");
        setting.fault.clear();
        // The first call is for the mark.
        setting.fault.fail(op, setting.count(op) + 1, Errno::Eintr);
        rewrite_unsynced(&setting.fault, &setting.shared.dir).unwrap();
        assert_eq!(pages_kept(&setting, 0), [true]);
    }
}

/// A file with pages that cannot be read.
#[derive(Debug)]
struct BadPages {
    pages: Range<usize>,
    len: usize,
    /// At most this many reads of them fail.
    failures_left: Mutex<u32>,
    written: Arc<Mutex<Vec<bool>>>,
}

impl File for BadPages {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = offset as usize;
        let mut left = self.failures_left.lock().unwrap();
        let is_bad = at < self.pages.end * PAGE && at + buf.len() > self.pages.start * PAGE;
        if is_bad && *left > 0 {
            *left -= 1;
            return Err(Errno::Eio.error());
        }
        let read = buf.len().min(self.len - at);
        buf[..read].fill(7);
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        assert!(buf.iter().all(|byte| *byte == 7), "not what was read");
        let (from, to) = (offset as usize, offset as usize + buf.len());
        assert!(to <= self.len);
        self.written.lock().unwrap()[from..to].fill(true);
        Ok(buf.len())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len as u64)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        panic!("nothing is cut")
    }
}

#[test]
fn what_cannot_be_read_stays_as_it_is_and_all_else_is_written_again() {
    // Two bad pages in the second mebibyte, and a part of a page at the end.
    let (pages, len, from) = (300..302, (600 * PAGE) + 100, 50);
    for (failures, is_lost) in [(u32::MAX, true), (10, false)] {
        let written = Arc::new(Mutex::new(vec![false; len]));
        let file = BadPages {
            pages: pages.clone(),
            len,
            failures_left: Mutex::new(failures),
            written: Arc::clone(&written),
        };
        write_file_again(&file, from).unwrap();
        let bad = pages.start * PAGE..pages.end * PAGE;
        for (at, is_written) in written.lock().unwrap().iter().enumerate() {
            let is_wanted = at as u64 >= from && !(is_lost && bad.contains(&at));
            assert_eq!(*is_written, is_wanted, "{at}");
        }
    }
}
