//! What is synced when, and which requests that answers.

use std::time::Duration;

use super::super::WriteSide;
use super::super::testing::{BEGIN, FRAME, Setting, frames};
use super::*;
use crate::storage::fault::{Errno, Op};

const POLICIES: [SyncPolicy; 3] = [SyncPolicy::Interval, SyncPolicy::Always, SyncPolicy::Never];
const MILLISECOND: Duration = Duration::from_millis(1);

fn of_policy(policy: SyncPolicy) -> Setting {
    Setting::with(|config| config.sync(policy))
}

/// This many files with a record each; the last is the current one.
fn files(setting: &Setting, count: usize) -> Files {
    let mut files = Files::new(None, BEGIN, 0);
    setting.roll_and_write(&mut files, count);
    files
}

/// Notes a successful sync as the write side does.
fn note(setting: &Setting, queue: &mut SyncQueue, files: &mut Files, outcome: &Outcome) {
    let is_current = files.current_id() == Some(outcome.covered.file_id);
    queue.note_synced(&setting.shared, outcome, FRAME, is_current);
    setting.shared.publish_synced(outcome.covered.end);
}

// ---- on request ----

#[test]
fn a_request_waits_until_what_it_asks_for_is_written() {
    let setting = of_policy(SyncPolicy::Never);
    let shared = &setting.shared;
    let mut files = files(&setting, 1);
    let mut queue = SyncQueue::default();
    assert_eq!(queue.is_due_now(shared, false), None, "nobody asks");
    setting.want_synced(2 * FRAME);
    assert_eq!(queue.is_due_now(shared, false), None, "half is written");
    setting.write(&mut files, 1);
    assert_eq!(queue.is_due_now(shared, false), Some(Due::Awaited));
}

#[test]
fn while_nothing_more_can_be_written_what_is_written_is_synced() {
    let setting = of_policy(SyncPolicy::Never);
    let shared = &setting.shared;
    let mut files = files(&setting, 1);
    let mut queue = SyncQueue::default();
    assert_eq!(queue.is_due_now(shared, true), None, "nobody asks");
    setting.want_synced(5 * FRAME);
    assert_eq!(queue.is_due_now(shared, true), Some(Due::Awaited));
    let outcome = setting.sync(&mut files);
    note(&setting, &mut queue, &mut files, &outcome);
    assert_eq!(queue.is_due_now(shared, true), None, "there is no more");
    assert_eq!(queue.is_due_now(shared, false), None);
}

#[test]
fn one_sync_answers_all_who_asked_for_what_it_covers_and_nobody_else() {
    let setting = of_policy(SyncPolicy::Never);
    let shared = &setting.shared;
    let mut files = files(&setting, 1);
    let mut queue = SyncQueue::default();
    setting.want_synced(FRAME);
    assert_eq!(queue.is_due_now(shared, false), Some(Due::Awaited));
    // Another record is written, and its sync requested, while the sync runs.
    let running = files.begin_sync().unwrap();
    setting.write(&mut files, 1);
    setting.want_synced(2 * FRAME);
    let outcome = running.run(shared);
    files.note_synced(&outcome.covered).unwrap();
    note(&setting, &mut queue, &mut files, &outcome);
    assert_eq!(queue.is_due_now(shared, false), Some(Due::Awaited));
    let outcome = setting.sync(&mut files);
    note(&setting, &mut queue, &mut files, &outcome);
    assert_eq!(queue.is_due_now(shared, false), None);
}

#[test]
fn a_request_outlives_a_sync_of_less_than_it_asks_for() {
    let setting = of_policy(SyncPolicy::Never);
    let shared = &setting.shared;
    // The request is for the last of three files.
    let mut files = files(&setting, 3);
    let mut queue = SyncQueue::default();
    setting.want_synced(3 * FRAME);
    let mut since = None;
    for _ in 0..3 {
        assert_eq!(queue.is_due_now(shared, false), Some(Due::Awaited));
        let request = queue.request.unwrap();
        assert_eq!(since.get_or_insert(request.since), &request.since);
        let outcome = setting.sync(&mut files);
        note(&setting, &mut queue, &mut files, &outcome);
    }
    assert!(queue.request.is_none());
}

#[test]
fn a_request_waits_behind_writes_but_not_for_long() {
    let setting = of_policy(SyncPolicy::Never);
    let shared = &setting.shared;
    let mut files = files(&setting, 1);
    let mut queue = SyncQueue::default();
    assert!(!queue.is_overdue(shared), "nobody asks");
    setting.want_synced(2 * FRAME);
    assert!(!queue.is_overdue(shared), "it is noted");
    let old = Instant::now();
    std::thread::sleep(REQUEST_DELAY_MAX);
    let fresh = old + Duration::from_secs(3600);
    let mut is_overdue = |since: Instant| {
        queue.request.as_mut().unwrap().since = since;
        queue.is_overdue(shared)
    };
    assert!(!is_overdue(old), "a sync would not answer it");
    setting.write(&mut files, 1);
    assert!(!is_overdue(fresh) && is_overdue(old));
}

#[test]
fn everything_is_synced_unasked_only_as_the_policy_says() {
    for policy in POLICIES {
        for sees in [ReaderSees::Written, ReaderSees::Synced] {
            for waits in [false, true] {
                let setting = Setting::with(|config| config.sync(policy).reader_sees(sees));
                let shared = &setting.shared;
                shared.reader_waits.store(waits, Ordering::Release);
                let mut queue = SyncQueue::default();
                let due = match (policy, sees, waits) {
                    (SyncPolicy::Always, _, _) => Some(Due::Awaited),
                    (SyncPolicy::Never, ReaderSees::Synced, true) => Some(Due::Unasked),
                    _ => None,
                };
                let why = format!("{policy:?}, {sees:?}, {waits}");
                assert_eq!(queue.is_due_now(shared, false), due, "{why}");
                lock(&shared.intake).closing = true;
                assert_eq!(queue.is_due_now(shared, false), Some(Due::Closing), "{why}");
            }
        }
    }
}

#[test]
fn a_group_commit_waits_for_the_writers_of_the_last_one_where_there_is_a_thread() {
    let window = || CommitWindow::after(2, Duration::from_secs(3600));
    for io in [Io::Thread, Io::Caller] {
        let setting = Setting::with(|config| config.io(io));
        let shared = &setting.shared;
        let waker = std::task::Waker::noop().clone();
        assert!(shared.synced.register(&mut None, FRAME, waker).is_none());
        let mut queue = SyncQueue::default();
        assert!(!queue.waits_for_writers(shared), "there was none");
        queue.window = window();
        // One of two writers is back.
        assert_eq!(queue.waits_for_writers(shared), io == Io::Thread);
    }
}

// ---- in the background ----

#[test]
fn a_change_is_due_when_the_interval_has_passed_since_it_was_made() {
    for policy in POLICIES {
        let setting = of_policy(policy);
        let shared = &setting.shared;
        let mut queue = SyncQueue::default();
        queue.use_threads(std::sync::Arc::clone(shared));
        let mut files = files(&setting, 2);
        let since = files.dirty_since().unwrap();
        let by_time = policy == SyncPolicy::Interval;
        let due = by_time.then(|| since + shared.limits.flush_interval);
        assert_eq!(queue.due_at(shared, &files), due, "{policy:?}");
        assert!(!queue.is_due_in_background(shared, &files), "{policy:?}");
        while files.dirty_since().is_some() {
            setting.sync(&mut files);
        }
        assert_eq!(queue.due_at(shared, &files), None);
    }
    for (policy, is_due) in POLICIES.into_iter().zip([true, false, false]) {
        let setting = Setting::with(|config| config.sync(policy).flush_interval(MILLISECOND));
        let shared = &setting.shared;
        let mut queue = SyncQueue::default();
        let mut files = files(&setting, 1);
        std::thread::sleep(2 * MILLISECOND);
        assert!(!queue.is_due_in_background(shared, &files), "no threads");
        queue.use_threads(std::sync::Arc::clone(shared));
        assert_eq!(queue.is_due_in_background(shared, &files), is_due);
        // One at a time; until its outcome is taken, what it covers is dirty.
        assert!(queue.background().begin(files.begin_sync().unwrap()));
        setting.write(&mut files, 1);
        std::thread::sleep(2 * MILLISECOND);
        assert!(!queue.is_due_in_background(shared, &files));
        assert_eq!(queue.due_at(shared, &files), None);
        assert!(queue.background().outcome(true).is_some());
        assert_eq!(queue.is_due_in_background(shared, &files), is_due);
    }
}

#[test]
fn a_buffer_is_dirty_until_the_outcome_of_the_last_sync_is_known() {
    let setting = Setting::new();
    let mut queue = SyncQueue::default();
    queue.use_threads(std::sync::Arc::clone(&setting.shared));
    let mut files = files(&setting, 0);
    assert!(!queue.is_dirty(&files));
    setting.roll_and_write(&mut files, 1);
    assert!(queue.is_dirty(&files));
    assert!(queue.background().begin(files.begin_sync().unwrap()));
    assert!(files.dirty_since().is_none());
    assert!(queue.is_dirty(&files), "it may fail");
    let outcome = queue.background().outcome(true).unwrap();
    files.note_synced(&outcome.covered).unwrap();
    assert!(!queue.is_dirty(&files));
}

#[test]
fn many_complete_files_are_synced_before_a_roll_has_to_wait_for_it() {
    let setting = of_policy(SyncPolicy::Never);
    let shared = &setting.shared;
    let mut queue = SyncQueue::default();
    queue.use_threads(std::sync::Arc::clone(shared));
    let mut files = files(&setting, 1);
    for complete in 0..=COMPLETE_MAX {
        assert_eq!(files.complete().count(), complete);
        // A sync begins one file earlier than a roll waits for it.
        let is_due = queue.is_due_in_background(shared, &files);
        assert_eq!(is_due, complete >= COMPLETE_MAX - 1, "{complete}");
        let is_full = queue.is_full_for(shared, &files, FRAME);
        assert_eq!(is_full, complete >= COMPLETE_MAX, "{complete}");
        assert!(!queue.is_full_for(shared, &files, 0), "nothing is left");
        setting.roll_and_write(&mut files, 1);
    }
    // With the current file and the next one, these are as many as the next opening may write
    // again.
    assert_eq!(COMPLETE_MAX + 2, UNSYNCED_FILES_MAX);
}

#[test]
fn no_more_is_left_for_later_than_the_device_can_sync_in_an_interval() {
    let setting = Setting::with(|config| config.flush_interval(Duration::from_secs(1)));
    let shared = &setting.shared;
    let mut queue = SyncQueue::default();
    queue.use_threads(std::sync::Arc::clone(shared));
    let mut files = files(&setting, 1);
    // The device syncs six frames in a second.
    queue
        .rate
        .learn(1 << 20, Duration::from_secs((1 << 20) / (6 * FRAME)));
    assert!(
        !queue.is_full_for(shared, &files, 100 * FRAME),
        "there is no complete file that could be synced before"
    );
    setting.roll_and_write(&mut files, 1);
    setting.roll_and_write(&mut files, 1);
    assert!(!queue.is_full_for(shared, &files, 3 * FRAME));
    assert!(queue.is_full_for(shared, &files, 5 * FRAME));
    assert!(!queue.is_due_in_background(shared, &files));
    setting.write(&mut files, 3);
    setting.roll_and_write(&mut files, 1);
    assert!(
        queue.is_due_in_background(shared, &files),
        "more would be too much"
    );
}

// ---- what came of a sync ----

#[test]
fn only_a_sync_of_the_current_file_opens_a_window_and_only_a_thread_looks_at_time() {
    for io in [Io::Thread, Io::Caller] {
        for is_current in [true, false] {
            let setting = Setting::with(|config| config.io(io));
            let shared = &setting.shared;
            let mut queue = SyncQueue::default();
            let mut files = files(&setting, 1);
            let mut outcome = setting.sync(&mut files);
            outcome.took = Duration::from_secs(3600);
            queue.note_synced(shared, &outcome, 1 << 20, is_current);
            let learnt = queue.rate.is_too_slow_for(1 << 20, Duration::from_secs(1));
            assert_eq!(learnt, io == Io::Thread);
            let window = format!("{:?}", queue.window);
            let is_open = window != format!("{:?}", CommitWindow::default());
            assert_eq!(is_open, io == Io::Thread && is_current);
        }
    }
}

#[test]
fn a_failed_sync_answers_nobody_and_the_next_one_is_of_what_was_written_again() {
    let setting = of_policy(SyncPolicy::Never);
    let shared = &setting.shared;
    let mut side = WriteSide::new(None, BEGIN, 0);
    setting.roll_and_write(&mut side.files, 1);
    setting.want_synced(FRAME);
    let due = |side: &mut WriteSide| side.sync_queue.is_due_now(shared, false);
    assert_eq!(due(&mut side), Some(Due::Awaited));
    setting.fail_next(Op::Sync, Errno::Eio);
    side.sync_oldest(shared).unwrap();
    assert!(side.files.has_failed());
    assert_eq!(due(&mut side), Some(Due::Awaited));
    assert_eq!(lock(&shared.log).synced, BEGIN);
    // The kernel counts the page as clean now: a sync alone would change nothing.
    side.sync_oldest(shared).unwrap();
    assert!(!side.files.has_failed());
    assert_eq!(due(&mut side), None);
    assert_eq!(lock(&shared.log).synced.offset, FRAME);
    let on_disk = setting.sim.crash(0).read_file(setting.path_of(0));
    assert_eq!(on_disk.unwrap(), frames(BEGIN, 1).bytes);
}
