//! The files of the write side: rolling, syncing in order, failures.

use super::super::open_file::FileFailure;
use super::super::testing::{BEGIN, FRAME, Setting};
use super::*;
use crate::storage::Storage;
use crate::storage::fault::{Errno, Op};
use crate::sync::atomic::Ordering;

const NONE: [u16; 0] = [];

fn files() -> Files {
    Files::new(None, BEGIN, 0)
}

fn ids<'a>(files: impl Iterator<Item = &'a OpenFile>) -> Vec<u16> {
    files.map(OpenFile::file_id).collect()
}

#[test]
fn the_last_file_is_the_current_one_only_if_there_was_one_at_open() {
    let none = files();
    assert!(none.current_id().is_none() && none.oldest().is_none());
    let setting = Setting::new();
    let path = setting.path_of(7);
    setting.sim.write_file(&path, &[0; 96]).unwrap();
    let file = setting.sim.open(&path, Access::Write).unwrap();
    let span = Span {
        file_id: 7,
        base: 1000,
        len: 96,
        modified: None,
    };
    let end = Position {
        next_id: 3,
        offset: 1096,
    };
    let mut files = Files::new(Some((Arc::from(file), path, span)), end, 8);
    assert_eq!((files.current_id(), files.next_file_id()), (Some(7), 8));
    assert_eq!(ids(files.complete()), NONE, "it is not complete");
    let current = files.current().unwrap();
    assert_eq!((current.len(), current.unsynced()), (96, 0));
    assert!(files.begin_sync().is_none(), "nothing of it is dirty");
}

#[test]
fn a_new_file_is_the_current_one_and_goes_on_where_the_stream_ends() {
    let setting = Setting::new();
    let shared = &setting.shared;
    let mut files = files();
    setting.roll_and_write(&mut files, 2);
    lock(&shared.log).zeros_ahead = 100;
    files.roll(shared).unwrap();
    assert_eq!(files.current_id(), Some(2));
    assert_eq!(ids(files.complete()), [0, 1]);
    let log = lock(&shared.log);
    let spans = log
        .spans
        .iter()
        .map(|span| (span.file_id, span.base, span.len));
    assert_eq!(
        spans.collect::<Vec<_>>(),
        [(0, 0, FRAME), (1, FRAME, FRAME), (2, 2 * FRAME, 0)]
    );
    assert_eq!(log.zeros_ahead, 0, "they were in the file before");
    let state = shared.ledger.state();
    assert_eq!((state.writer_file_id, state.reader_file_id), (2, 0));
    assert_eq!(lock(&shared.intake).file_base, 2 * FRAME);
    assert_eq!(shared.head_end.load(Ordering::Acquire), FRAME);
}

#[test]
fn only_a_file_that_a_sync_covers_is_closed_when_it_is_left() {
    let setting = Setting::new();
    let mut files = files();
    setting.roll_and_write(&mut files, 1);
    setting.sync(&mut files);
    setting.roll_and_write(&mut files, 1);
    assert_eq!(ids(files.complete()), NONE, "all of it was synced");
    files.roll(&setting.shared).unwrap();
    assert_eq!(ids(files.complete()), [1]);
    // All of its bytes are synced, but the cut of its zeros is not.
    setting.write(&mut files, 1);
    setting.sync(&mut files);
    setting.sync(&mut files);
    let current = files.current_mut().unwrap();
    current.write_zeros(200).unwrap();
    current.cut_zeros().unwrap();
    files.roll(&setting.shared).unwrap();
    assert_eq!(ids(files.complete()), [2]);
}

#[test]
fn a_file_that_is_there_is_never_opened_as_a_new_one() {
    let setting = Setting::new();
    let last = file_id::MAX_FILE_ID;
    for id in [last, 0, 1] {
        setting
            .sim
            .write_file(setting.path_of(id), b"theirs")
            .unwrap();
    }
    let mut files = Files::new(None, BEGIN, last);
    files.roll(&setting.shared).unwrap();
    setting.write(&mut files, 1);
    assert_eq!((files.current_id(), files.next_file_id()), (Some(2), 3));
    for id in [last, 0, 1] {
        assert_eq!(setting.contents(id).unwrap(), b"theirs");
    }
    assert_eq!(setting.contents(2).unwrap().len() as u64, FRAME);
}

#[test]
fn without_a_free_id_there_is_no_space() {
    let setting = Setting::new();
    for id in 0..=file_id::MAX_FILE_ID {
        let path = setting.path_of(id);
        setting.sim.open(&path, Access::CreateNew).unwrap();
    }
    let mut files = Files::new(None, BEGIN, 9);
    assert!(matches!(
        files.roll(&setting.shared),
        Err(Trouble::NoSpace(_))
    ));
    assert_eq!(setting.count(Op::Create), u64::from(file_id::FILE_ID_COUNT));
    // The last id that is tried can be used like any other.
    setting.sim.remove_file(setting.path_of(8)).unwrap();
    files.roll(&setting.shared).unwrap();
    assert_eq!(files.current_id(), Some(8));
}

#[test]
fn a_file_that_cannot_be_made_leaves_everything_as_it_was() {
    let setting = Setting::new();
    let shared = &setting.shared;
    let mut files = files();
    setting.roll_and_write(&mut files, 1);
    for (errno, is_no_space) in [
        (Errno::Enospc, true),
        (Errno::Emfile, true),
        (Errno::Eio, false),
    ] {
        setting.fail_next(Op::Create, errno);
        let trouble = files.roll(shared).unwrap_err();
        assert_eq!(matches!(trouble, Trouble::NoSpace(_)), is_no_space);
        assert_eq!(matches!(trouble, Trouble::Failed(_)), !is_no_space);
        assert_eq!((files.current_id(), files.next_file_id()), (Some(0), 1));
        assert_eq!(lock(&shared.log).spans.len(), 1);
        assert_eq!(shared.ledger.state().writer_file_id, 0);
    }
    // A signal makes no difference.
    setting.fail_next(Op::Create, Errno::Eintr);
    files.roll(shared).unwrap();
    assert_eq!(files.current_id(), Some(1));
}

#[test]
fn files_are_synced_oldest_first_and_let_go_when_all_is_covered() {
    let setting = Setting::new();
    let mut files = files();
    setting.roll_and_write(&mut files, 3);
    for id in 0..3 {
        assert!(files.dirty_since().is_some());
        let outcome = setting.sync(&mut files);
        assert_eq!(outcome.covered.file_id, id);
        assert_eq!(outcome.covered.end.offset, FRAME * (u64::from(id) + 1));
        assert_eq!(files.oldest().map(OpenFile::file_id), Some((id + 1).min(2)));
    }
    assert!(files.dirty_since().is_none() && files.begin_sync().is_none());
    assert_eq!(files.current_id(), Some(2), "it is still appended to");
}

#[test]
fn what_was_written_while_a_sync_ran_is_not_covered_by_it() {
    let setting = Setting::new();
    let mut files = files();
    setting.roll_and_write(&mut files, 1);
    let running = files.begin_sync().unwrap();
    setting.write(&mut files, 2);
    files.roll(&setting.shared).unwrap();
    assert_eq!(files.note_synced(&running.covered()), Some(FRAME));
    assert_eq!(ids(files.complete()), [0], "it has two records more");
    assert_eq!(files.oldest().map(OpenFile::unsynced), Some(2 * FRAME));
    setting.sync(&mut files);
    assert_eq!(ids(files.complete()), NONE);
}

#[test]
fn a_file_stays_while_its_only_sync_is_running() {
    let setting = Setting::new();
    let mut files = files();
    setting.roll_and_write(&mut files, 1);
    let running = files.begin_sync().unwrap();
    // Nothing of it is dirty, and nothing of it is synced.
    setting.roll_and_write(&mut files, 1);
    assert_eq!(ids(files.complete()), [0]);
    // Suppose that the younger file is synced first.
    setting.sync(&mut files);
    assert_eq!(ids(files.complete()), [0]);
    assert_eq!(files.note_synced(&running.covered()), Some(FRAME));
    assert_eq!(ids(files.complete()), NONE);
}

#[test]
fn nothing_is_synced_before_an_older_file_that_failed() {
    let setting = Setting::new();
    let mut files = files();
    setting.roll_and_write(&mut files, 2);
    assert!(!files.has_failed());
    setting.fail_next(Op::Sync, Errno::Eio);
    let outcome = files.begin_sync().unwrap().run(&setting.shared);
    assert!(outcome.result.is_err());
    let error = crate::error::Error::io("sync", &setting.path_of(0), Errno::Eio.error());
    let failure = files.file_mut(0).unwrap().fail(error);
    assert_eq!(failure, FileFailure::New);
    assert!(files.has_failed());
    assert!(files.begin_sync().is_none(), "it has to be written again");
    assert_eq!(files.oldest_dirty().map(|file| file.file_id()), Some(0));
    files.file_mut(0).unwrap().trust_again();
    assert_eq!(setting.sync(&mut files).covered.file_id, 0);
}

#[test]
fn one_sync_of_the_directory_is_enough_for_all_files_there_were_when_it_began() {
    let setting = Setting::new();
    let mut files = files();
    setting.roll_and_write(&mut files, 2);
    let first = files.begin_sync().unwrap();
    assert_eq!(first.covered().entries, Some(2));
    // The third is made while the sync runs.
    setting.roll_and_write(&mut files, 1);
    files.note_synced(&first.covered());
    assert_eq!(setting.sync(&mut files).covered.entries, None);
    assert_eq!(setting.sync(&mut files).covered.entries, Some(3));
    assert_eq!(setting.count(Op::DirSync), 1, "the first never ran");
}

#[test]
fn what_is_acknowledged_for_good_is_forgotten_the_oldest_complete_file_first() {
    let setting = Setting::new();
    let mut files = files();
    setting.roll_and_write(&mut files, 2);
    assert!(files.forget(1).is_none(), "it is the current one");
    setting.roll_and_write(&mut files, 1);
    assert!(files.forget(1).is_none(), "another is older");
    let running = files.begin_sync().unwrap();
    assert_eq!(files.forget(0).map(|end| end.offset), Some(FRAME));
    assert_eq!(ids(files.complete()), [1]);
    // The outcome of its sync has no effect any more.
    assert!(files.note_synced(&running.covered()).is_none());
    assert_eq!(files.oldest().map(OpenFile::unsynced), Some(FRAME));
}

#[test]
fn bytes_outside_of_the_stream_count_until_their_file_is_gone() {
    let setting = Setting::new();
    let mut files = files();
    for (file_id, bytes) in [(3, 100), (4, 10), (3, 1)] {
        files.note_outside(&setting.shared, file_id, bytes);
    }
    assert_eq!(files.outside_bytes(), 111);
    assert_eq!(lock(&setting.shared.intake).extra(), 111);
    files.note_gone(3);
    files.note_disk(&setting.shared);
    assert_eq!(lock(&setting.shared.intake).extra(), 10);
}
