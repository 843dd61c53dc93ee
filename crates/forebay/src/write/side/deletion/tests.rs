//! Deleting what is acknowledged: what goes, when, and what stays.

use super::super::files::Files;
use super::super::testing::{BEGIN, FRAME, Setting, frames};
use super::*;
use crate::config::LEDGER_ALLOWANCE;
use crate::format::ledger::LedgerState;
use crate::storage::fault::{Errno, Op};

/// A write side with this many files of one record each; the last is the current one.
fn side(setting: &Setting, count: usize) -> WriteSide {
    let mut side = WriteSide::new(None, BEGIN, 0);
    setting.roll_and_write(&mut side.files, count);
    side
}

/// Puts this many records into the intake.
fn accept(setting: &Setting, count: u64) {
    let mut intake = lock(&setting.shared.intake);
    for _ in 0..count {
        intake.make_room(FRAME as usize).unwrap();
        intake.put(0, b"payload", 1);
    }
}

fn spans(setting: &Setting) -> Vec<u16> {
    let log = lock(&setting.shared.log);
    log.spans.iter().map(|span| span.file_id).collect()
}

fn extra(setting: &Setting) -> u64 {
    lock(&setting.shared.intake).extra()
}

fn mark(setting: &Setting) -> Option<Vec<u8>> {
    let path = setting.shared.dir.join(file_id::SYNCED_MARK_FILE_NAME);
    setting.sim.read_file(path)
}

#[test]
fn only_files_in_which_all_is_acknowledged_are_deleted_and_never_the_current_one() {
    let setting = Setting::new();
    let shared = &setting.shared;
    let mut side = side(&setting, 2);
    setting.write(&mut side.files, 1);
    side.files.roll(shared).unwrap();
    setting.write(&mut side.files, 1);
    accept(&setting, 4);
    // Files of one, two and one record.
    for (acknowledged, left) in [
        (0, vec![0, 1, 2]),
        (1, vec![1, 2]),
        (2, vec![1, 2]),
        (3, vec![2]),
        (4, vec![2]),
    ] {
        let before = spans(&setting);
        setting.acknowledge(acknowledged);
        assert_eq!(
            side.delete_acknowledged(shared).unwrap(),
            before != left,
            "{acknowledged}"
        );
        assert!(!side.delete_acknowledged(shared).unwrap(), "it is done");
        assert_eq!(spans(&setting), left);
        for id in 0..3 {
            assert_eq!(setting.is_there(id), left.contains(&id), "{id}");
        }
    }
    assert_eq!(side.files.current_id(), Some(2));
    // The space counts as free for appends.
    let intake = lock(&shared.intake);
    let room = shared.limits.max_size - LEDGER_ALLOWANCE - FRAME;
    assert!(intake.fits(room) && !intake.fits(room + 1));
}

#[test]
fn the_ledger_is_durable_before_a_file_goes() {
    let setting = Setting::new();
    let shared = &setting.shared;
    let mut side = side(&setting, 3);
    setting.acknowledge(2);
    setting.fail_next(Op::MapSync, Errno::Eio);
    let trouble = side.delete_acknowledged(shared).unwrap_err();
    assert!(matches!(trouble, Trouble::Failed(_)));
    assert_eq!(setting.count(Op::Delete), 0);
    assert_eq!(spans(&setting), [0, 1, 2]);

    // The power is cut between any two operations.
    let setting = Setting::new();
    let shared = &setting.shared;
    let mut side = self::side(&setting, 3);
    setting.acknowledge(2);
    let begin = setting.sim.operations();
    setting.sim.keep_history();
    assert!(side.delete_acknowledged(shared).unwrap());
    let end = setting.sim.operations();
    let mut without = 0;
    for moment in begin..=end {
        let sim = setting.sim.at(moment).unwrap();
        if sim.read_file(setting.path_of(0)).is_some() {
            continue;
        }
        without += 1;
        let ledger = sim.crash(0).read_file(setting.ledger_path()).unwrap();
        let state = LedgerState::from_bytes(&ledger).unwrap();
        assert_eq!((state.reader_last_record_id, state.reader_file_id), (2, 2));
        assert_eq!(state.writer_file_id, 2);
    }
    assert!(without > 0);
}

#[test]
fn where_no_file_is_left_the_ledger_names_the_next_one() {
    let setting = Setting::new();
    let shared = &setting.shared;
    setting.roll_and_write(&mut Files::new(None, BEGIN, 0), 1);
    // As after an opening that found one file, which is not to be appended to.
    let mut side = WriteSide::new(None, lock(&shared.log).written, 5);
    side.files.note_head_end(shared);
    setting.acknowledge(1);
    assert!(side.delete_acknowledged(shared).unwrap());
    assert_eq!(shared.ledger.state().reader_file_id, 5);
    assert!(spans(&setting).is_empty() && !setting.is_there(0));
}

#[test]
fn a_file_that_cannot_be_deleted_counts_and_holds_nothing_up() {
    let setting = Setting::new();
    let shared = &setting.shared;
    let mut side = side(&setting, 4);
    // The second is gone already, the third is deleted at a second try.
    setting.sim.remove_file(setting.path_of(1)).unwrap();
    setting.fail_next(Op::Delete, Errno::Eio);
    setting.fault.fail(Op::Delete, 3, Errno::Eintr);
    setting.acknowledge(3);
    assert!(side.delete_acknowledged(shared).unwrap());
    assert_eq!(spans(&setting), [3]);
    let there = [0, 1, 2, 3].map(|id| setting.is_there(id));
    assert_eq!(there, [true, false, false, true]);
    assert_eq!(extra(&setting), FRAME, "the first is still on disk");
}

#[test]
fn what_was_outside_of_the_stream_in_a_file_goes_with_it() {
    let setting = Setting::new();
    let mut side = side(&setting, 2);
    side.files.note_outside(&setting.shared, 0, 100);
    side.files.note_outside(&setting.shared, 1, 10);
    setting.acknowledge(1);
    assert!(side.delete_acknowledged(&setting.shared).unwrap());
    assert_eq!(extra(&setting), 10);
}

#[test]
fn what_is_acknowledged_for_good_needs_no_sync() {
    let setting = Setting::new();
    let shared = &setting.shared;
    let mut side = side(&setting, 3);
    side.synced_mark.place(shared, 0, 0).unwrap();
    setting.acknowledge(2);
    assert!(side.delete_acknowledged(shared).unwrap());
    assert_eq!(setting.count(Op::Sync), 0);
    assert_eq!(lock(&shared.log).synced.offset, 2 * FRAME);
    let oldest = side.files.oldest().map(OpenFile::file_id);
    assert_eq!(oldest, Some(2));
    assert_eq!(mark(&setting).unwrap(), [0, 0, 0, 0, 0, 0, 3, 0]);
}

#[test]
fn a_deletion_makes_writing_possible_again() {
    let of_no_space = || Trouble::NoSpace(Errno::Enospc.error());
    for is_idle in [true, false] {
        let setting = Setting::new();
        let shared = &setting.shared;
        let mut side = side(&setting, 2);
        if !is_idle {
            accept(&setting, 1);
            lock(&shared.intake).want_written = u64::MAX;
            assert!(side.appender.take(shared));
        }
        // Several failures, so that the pause is long.
        for _ in 0..8 {
            side.failure.note(shared, of_no_space());
        }
        assert!(side.failure.waits_for_space(shared));
        setting.acknowledge(1);
        assert!(side.delete_acknowledged(shared).unwrap());
        assert!(!side.failure.waits_for_space(shared), "it is time to try");
        // What is still to be written will show whether there is space.
        assert_eq!(side.failure.lacks_space(), !is_idle);
        assert_eq!(lock(&shared.intake).no_space.is_some(), !is_idle);
    }
}

#[test]
fn a_drained_file_without_room_for_a_record_is_replaced_and_deleted() {
    let mut setting = Setting::new();
    let mut side = side(&setting, 1);
    setting.write(&mut side.files, 9);
    // The limit was larger when it was written.
    setting.shared_mut().limits.data_file_size = 256;
    let shared = &setting.shared;
    setting.acknowledge(9);
    assert!(!side.delete_acknowledged(shared).unwrap(), "one is left");
    setting.acknowledge(10);
    // Neither what was written in part nor zeros stay in it.
    let current = side.files.current_mut().unwrap();
    let next = frames(current.end(), 1);
    current.write(&next, 20).unwrap();
    current.write_zeros(600).unwrap();
    assert!(side.delete_acknowledged(shared).unwrap());
    assert_eq!(setting.contents(0).unwrap().len() as u64, 10 * FRAME);
    assert_eq!(side.files.current_id(), Some(1));
    assert!(side.delete_acknowledged(shared).unwrap());
    assert!(!setting.is_there(0));
    assert!(!side.delete_acknowledged(shared).unwrap());
    assert_eq!(spans(&setting), [1]);
}

#[test]
fn a_drained_file_that_has_room_stays_unless_the_disk_is_full() {
    let setting = Setting::with(|config| config.io(Io::Caller));
    let shared = &setting.shared;
    let mut side = side(&setting, 1);
    setting.acknowledge(1);
    assert!(!side.delete_acknowledged(shared).unwrap());
    side.failure
        .note(shared, Trouble::NoSpace(Errno::Enospc.error()));
    // If there is no space for a new file either, the drained one stays and may be written.
    setting.fail_next(Op::Create, Errno::Enospc);
    assert!(!side.delete_acknowledged(shared).unwrap());
    assert_eq!(side.files.current_id(), Some(0));
    setting.fail_next(Op::Create, Errno::Eio);
    let trouble = side.delete_acknowledged(shared).unwrap_err();
    assert!(matches!(trouble, Trouble::Failed(_)));
    assert!(side.delete_acknowledged(shared).unwrap());
    assert!(side.delete_acknowledged(shared).unwrap());
    assert_eq!((spans(&setting), setting.is_there(0)), (vec![1], false));
    // An empty file takes no space.
    side.failure
        .note(shared, Trouble::NoSpace(Errno::Enospc.error()));
    assert!(!side.delete_acknowledged(shared).unwrap());
}

#[test]
fn the_space_of_a_long_file_is_freed_on_another_thread() {
    for (io, len, has_thread) in [
        (Io::Thread, LONG_FILE, true),
        (Io::Thread, LONG_FILE - 1, false),
        (Io::Caller, LONG_FILE, false),
    ] {
        let setting = Setting::with(|config| config.io(io));
        let path = setting.path_of(0);
        setting.sim.write_file(&path, b"contents").unwrap();
        let mut deletion = Deletion::default();
        let opened = setting.count(Op::Open);
        deletion.delete(&setting.shared, &path, len).unwrap();
        assert!(!setting.is_there(0), "its name is gone at once");
        assert_eq!(deletion.0.is_some(), has_thread);
        assert_eq!(setting.count(Op::Open) - opened, u64::from(has_thread));
    }
    // Without a descriptor for it, and without a file.
    let setting = Setting::new();
    let path = setting.path_of(0);
    setting.sim.write_file(&path, b"contents").unwrap();
    setting.fail_next(Op::Open, Errno::Emfile);
    let mut deletion = Deletion::default();
    deletion.delete(&setting.shared, &path, LONG_FILE).unwrap();
    assert!(!setting.is_there(0) && deletion.0.is_none());
    let again = deletion.delete(&setting.shared, &path, LONG_FILE);
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::NotFound);
}
