//! Planned faults hit the planned call and no other, and leave what a kernel may leave.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use forebay::storage::fault::{Errno, Fault, Op};
use forebay::storage::sim::Sim;
use forebay::storage::{Access, Storage};

fn path(path: &str) -> &Path {
    Path::new(path)
}

/// Makes a call of each kind, and makes it again after an error. Returns the kind of each call
/// that failed.
fn exercise(fault: &Fault) -> Vec<Op> {
    let mut failed = Vec::new();
    let mut twice = |op, call: &dyn Fn() -> io::Result<()>| {
        if call().is_err() {
            failed.push(op);
            if call().is_err() {
                failed.push(op);
            }
        }
    };
    let any = |access| fault.open(path("/d/f"), access).map(drop);
    twice(Op::CreateDir, &|| fault.create_dir(path("/d")));
    twice(Op::Create, &|| any(Access::CreateNew));
    twice(Op::Open, &|| any(Access::Read));
    let inner = &fault.clone();
    let file = inner.open(path("/d/f"), Access::Write);
    let Ok(file) = file else {
        return failed;
    };
    twice(Op::Write, &|| file.write_at(&[0; 24], 0).map(drop));
    twice(Op::Read, &|| file.read_at(&mut [0; 9], 0).map(drop));
    twice(Op::Len, &|| file.len().map(drop));
    twice(Op::Sync, &|| file.sync());
    twice(Op::Map, &|| fault.map(path("/d/f")).map(drop));
    if let Ok(map) = fault.map(path("/d/f")) {
        twice(Op::MapSync, &|| map.sync());
    }
    twice(Op::Truncate, &|| file.truncate(0));
    twice(Op::Lock, &|| fault.lock(path("/d/l")).map(drop));
    twice(Op::Rename, &|| fault.rename(path("/d/f"), path("/d/g")));
    twice(Op::List, &|| fault.list(path("/d")).map(drop));
    twice(Op::FreeBytes, &|| fault.free_bytes(path("/d")).map(drop));
    twice(Op::Delete, &|| fault.delete(path("/d/g")));
    twice(Op::DirSync, &|| fault.sync_dir(path("/d")));
    failed
}

#[test]
fn every_kind_of_call_is_counted_and_goes_through() {
    let fault = Fault::new(Arc::new(Sim::new()));
    assert_eq!(exercise(&fault), []);
    for op in Op::ALL {
        assert!(fault.counts()[&op] > 0, "{op:?}");
    }
    assert_eq!(fault.failures(), 0);
}

#[test]
fn every_kind_of_call_fails_once_as_planned() {
    for op in Op::ALL.into_iter().filter(|&op| op != Op::ShortWrite) {
        for errno in Errno::ALL {
            let fault = Fault::new(Arc::new(Sim::new()));
            fault.fail(op, 1, errno);
            assert_eq!(exercise(&fault), [op], "{errno:?}");
            assert_eq!(fault.failures(), 1);
        }
    }
}

#[test]
fn a_lasting_fault_lasts_until_cleared() {
    let fault = Fault::new(Arc::new(Sim::new()));
    let file = fault.open(path("/f"), Access::CreateNew).unwrap();
    fault.fail_from(Op::Write, 2, Errno::Eio);
    file.write_at(b"x", 0).unwrap();
    for _ in 0..3 {
        assert!(file.write_at(b"x", 0).is_err());
    }
    fault.clear();
    file.write_at(b"x", 0).unwrap();
    assert_eq!(fault.counts()[&Op::Write], 5);
    assert_eq!(fault.failures(), 3);
}

#[test]
fn errors_are_those_of_the_operating_system() {
    assert_eq!(Errno::Enospc.error().kind(), ErrorKind::StorageFull);
    assert_eq!(Errno::Edquot.error().kind(), ErrorKind::QuotaExceeded);
    assert_eq!(Errno::Eintr.error().kind(), ErrorKind::Interrupted);
    if cfg!(target_os = "linux") {
        let numbers = Errno::ALL.map(|errno| errno.error().raw_os_error());
        assert_eq!(numbers, [Some(5), Some(28), Some(122), Some(4), Some(24)]);
    }
}

#[test]
fn a_short_write_writes_half_and_says_so() {
    let sim = Sim::new();
    let fault = Fault::of_sim(&sim, 0);
    let file = fault.open(path("/f"), Access::CreateNew).unwrap();
    fault.fail(Op::ShortWrite, 2, Errno::Eio);
    assert_eq!(file.write_at(b"0123", 0).unwrap(), 4);
    assert_eq!(file.write_at(b"45678", 4).unwrap(), 2);
    assert_eq!(file.write_at(b"678", 6).unwrap(), 3);
    assert_eq!(file.write_at(b"9", 9).unwrap(), 1);
    assert_eq!(sim.read_file("/f"), Some(b"0123456789".to_vec()));
    // A write of one byte cannot be cut short, so it does not count.
    assert_eq!(fault.counts()[&Op::ShortWrite], 3);
    assert_eq!(fault.failures(), 1);
}

#[test]
fn a_failed_call_does_nothing() {
    let sim = Sim::new();
    sim.write_file("/f", b"contents").unwrap();
    let fault = Fault::of_sim(&sim, 0);
    let file = fault.open(path("/f"), Access::Write).unwrap();
    for op in [Op::Write, Op::Truncate, Op::Delete, Op::Rename, Op::Create] {
        fault.fail_from(op, 1, Errno::Eio);
    }
    assert!(file.write_at(b"x", 0).is_err());
    assert!(file.truncate(0).is_err());
    assert!(fault.delete(path("/f")).is_err());
    assert!(fault.rename(path("/f"), path("/g")).is_err());
    assert!(fault.open(path("/h"), Access::CreateNew).is_err());
    assert_eq!(sim.files("/"), [("f".to_owned(), 8)]);
    assert_eq!(sim.read_file("/f"), Some(b"contents".to_vec()));
    assert_eq!(sim.operations(), 0);
}

#[test]
fn after_a_failed_sync_a_second_one_succeeds_and_helps_nothing() {
    let sim = Sim::new();
    sim.write_file("/f", b"old").unwrap();
    let fault = Fault::of_sim(&sim, 0);
    let file = fault.open(path("/f"), Access::Write).unwrap();
    file.write_at(b"new", 0).unwrap();
    // The loss follows the file, not its name.
    fault.rename(path("/f"), path("/g")).unwrap();
    fault.sync_dir(path("/")).unwrap();
    fault.fail(Op::Sync, 1, Errno::Eio);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    assert_eq!(sim.read_file("/g"), Some(b"new".to_vec()));
    assert_eq!(sim.crash(1).read_file("/g"), Some(b"old".to_vec()));
}

#[test]
fn a_failed_sync_of_the_map_loses_its_values() {
    let sim = Sim::new();
    sim.write_file("/words", &[0; 24]).unwrap();
    let fault = Fault::of_sim(&sim, 0);
    let map = fault.map(path("/words")).unwrap();
    map.words()[0].store(1_u64.to_le(), std::sync::atomic::Ordering::Release);
    fault.fail(Op::MapSync, 1, Errno::Eio);
    assert!(map.sync().is_err());
    map.sync().unwrap();
    assert_eq!(sim.crash(1).read_file("/words"), Some(vec![0; 24]));
}

#[test]
fn an_interrupted_sync_loses_nothing() {
    let sim = Sim::new();
    sim.write_file("/f", b"old").unwrap();
    let fault = Fault::of_sim(&sim, 0);
    let file = fault.open(path("/f"), Access::Write).unwrap();
    file.write_at(b"new", 0).unwrap();
    fault.fail(Op::Sync, 1, Errno::Eintr);
    let interrupted = file.sync().unwrap_err();
    assert_eq!(interrupted.kind(), ErrorKind::Interrupted);
    file.sync().unwrap();
    assert_eq!(sim.crash(0).read_file("/f"), Some(b"new".to_vec()));
}
