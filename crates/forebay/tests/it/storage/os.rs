//! The machine's own file system does what the documentation of `Storage` says.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay::storage::os::{Os, is_locked, lock_holder};
use forebay::storage::{Access, Lock, Storage, read_full};

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_directory_is_created_with_its_parents_and_may_be_there() {
    let top = tempfile::tempdir().unwrap();
    let dir = top.path().join("a/b/c");
    Os::new().create_dir(&dir).unwrap();
    assert!(dir.is_dir());
    Os::new().create_dir(&dir).unwrap();
}

#[test]
fn a_directory_is_not_created_over_or_under_a_file() {
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("file");
    write(&file, b"x");
    let over = Os.create_dir(&file).unwrap_err();
    assert_eq!(over.kind(), ErrorKind::AlreadyExists);
    let under = Os.create_dir(&file.join("dir")).unwrap_err();
    assert!(matches!(
        under.kind(),
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory
    ));
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
}

#[test]
fn access_says_whether_a_file_must_be_new() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for access in [Access::Read, Access::Write] {
        let missing = Os.open(&path, access).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
    drop(Os.open(&path, Access::CreateNew).unwrap());
    let there = Os.open(&path, Access::CreateNew).unwrap_err();
    assert_eq!(there.kind(), ErrorKind::AlreadyExists);
    let read_only = Os.open(&path, Access::Read).unwrap();
    assert!(read_only.write_at(b"x", 0).is_err());
    let writable = Os.open(&path, Access::Write).unwrap();
    assert_eq!(writable.write_at(b"x", 0).unwrap(), 1);
}

#[test]
fn reads_and_writes_go_where_they_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = Os
        .open(&dir.path().join("file"), Access::CreateNew)
        .unwrap();
    assert_eq!(file.write_at(b"tail", 10).unwrap(), 4);
    assert_eq!(file.write_at(b"head", 0).unwrap(), 4);
    assert_eq!(file.len().unwrap(), 14);
    let mut bytes = [1; 20];
    assert_eq!(read_full(&*file, &mut bytes, 0).unwrap(), 14);
    assert_eq!(&bytes[..14], b"head\0\0\0\0\0\0tail");
    assert_eq!(file.read_at(&mut bytes, 14).unwrap(), 0);
    assert_eq!(file.read_at(&mut bytes, 1000).unwrap(), 0);
    file.sync().unwrap();
}

#[test]
fn truncating_never_extends() {
    let dir = tempfile::tempdir().unwrap();
    let file = Os
        .open(&dir.path().join("file"), Access::CreateNew)
        .unwrap();
    file.write_at(b"0123456789", 0).unwrap();
    let longer = file.truncate(11).unwrap_err();
    assert_eq!(longer.kind(), ErrorKind::InvalidInput);
    assert_eq!(file.len().unwrap(), 10);
    file.truncate(10).unwrap();
    file.truncate(4).unwrap();
    assert_eq!(file.len().unwrap(), 4);
}

#[test]
fn renaming_replaces_and_deleting_removes() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    write(&a, b"new");
    write(&b, b"old");
    Os.rename(&a, &b).unwrap();
    assert!(!a.exists());
    assert_eq!(std::fs::read(&b).unwrap(), b"new");
    Os.sync_dir(dir.path()).unwrap();
    Os.delete(&b).unwrap();
    assert!(!b.exists());
    assert_eq!(Os.delete(&b).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_listing_is_sorted_and_knows_regular_files() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["c", "a", "b"] {
        write(&dir.path().join(name), name.repeat(3).as_bytes());
    }
    std::fs::create_dir(dir.path().join("dir")).unwrap();
    let entries = Os.list(dir.path()).unwrap();
    let seen: Vec<_> = entries
        .iter()
        .map(|e| (e.name.to_str().unwrap(), e.len, e.is_file))
        .collect();
    assert_eq!(
        seen,
        [
            ("a", 3, true),
            ("b", 3, true),
            ("c", 3, true),
            ("dir", 0, false)
        ]
    );
    assert!(entries.iter().all(|e| e.modified.is_some()));
    let missing = Os.list(&dir.path().join("missing")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[cfg(unix)]
#[test]
fn a_listing_follows_links_and_keeps_dangling_ones() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("file"), b"12345");
    symlink("file", dir.path().join("link")).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    let entries = Os.list(dir.path()).unwrap();
    let find = |name: &str| entries.iter().find(|e| e.name == name).unwrap();
    assert!(find("link").is_file);
    assert_eq!(find("link").len, 5);
    assert!(!find("dangling").is_file);
    assert_eq!(find("dangling").len, 0);
}

#[cfg(unix)]
#[test]
fn new_files_get_their_modes() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mode = |name: &str| {
        let found = std::fs::metadata(dir.path().join(name)).unwrap();
        found.permissions().mode() & 0o777
    };
    // The process's file mode mask may take more permissions away.
    write(&dir.path().join("any"), b"");
    let mask = 0o666 & !mode("any");
    drop(
        Os.open(&dir.path().join("data"), Access::CreateNew)
            .unwrap(),
    );
    drop(Os.lock(&dir.path().join("lock")).unwrap());
    assert_eq!(mode("data"), 0o640 & !mask);
    assert_eq!(mode("lock"), 0o644 & !mask);
}

/// Tells a second process of this test program, with an empty file mode mask, where to make a
/// directory.
#[cfg(unix)]
const UNMASKED: &str = "FOREBAY_TEST_UNMASKED_DIR";

/// Regression: with an empty file mode mask, everybody could read and write in the directory of
/// a buffer.
#[cfg(unix)]
#[test]
fn a_new_directory_is_closed_to_others_whatever_the_mask_says() {
    use std::os::unix::fs::PermissionsExt;
    if let Ok(dir) = std::env::var(UNMASKED) {
        Os.create_dir(Path::new(&dir)).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("parent/buffer");
    let name = "storage::os::a_new_directory_is_closed_to_others_whatever_the_mask_says";
    let status = std::process::Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(UNMASKED, &made)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    for made in [made.as_path(), made.parent().unwrap()] {
        let mode = std::fs::metadata(made).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o750, "{}", made.display());
    }
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let sub = dir.path().join("sub");
    std::fs::create_dir(&sub).unwrap();
    assert!(Os.open(&sub, Access::Read).is_err());
    assert!(Os.lock(&sub).is_err());
    assert!(Os.map(&sub).is_err());
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_does_not_block() {
    use std::process::Command;
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no mkfifo here");
        return;
    }
    for access in [Access::Read, Access::Write] {
        let refused = Os.open(&pipe, access).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
    assert!(!Os.list(dir.path()).unwrap()[0].is_file);
}

#[test]
fn a_lock_is_exclusive_until_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    assert!(!is_locked(&path).unwrap());
    assert_eq!(lock_holder(&path), None);
    assert!(!path.exists());

    let lock = Os.lock(&path).unwrap();
    assert_eq!(Os.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(is_locked(&path).unwrap());
    if cfg!(target_os = "linux") {
        assert_eq!(lock_holder(&path), Some(std::process::id()));
    }
    drop(lock);
    assert!(!is_locked(&path).unwrap());
    assert_eq!(lock_holder(&path), None);
    drop(Os.lock(&path).unwrap());
}

/// Regression: the system's list of locks has newer locks first and was read in parts. When
/// locks left its beginning between two reads, the lock that was looked for was skipped.
#[test]
fn a_lock_is_seen_while_others_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let lock = |name: &str| -> Box<dyn Lock> { Os.lock(&dir.path().join(name)).unwrap() };
    let path = dir.path().join("held");
    let held = lock("held");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for n in 0..2 {
            let (done, lock) = (&done, &lock);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    drop(lock(&format!("passing-{n}")));
                }
            });
        }
        let missed = (0..2000).filter(|_| !is_locked(&path).unwrap()).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(missed, 0);
    });
    drop(held);
    assert!(!is_locked(&path).unwrap());
}

#[test]
fn a_map_shares_its_bytes_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("words");
    write(&path, &[7; 24]);
    let map = Os.map(&path).unwrap();
    let [first, second, third] = map.words();
    assert_eq!(first.load(Ordering::Relaxed), u64::from_le_bytes([7; 8]));
    second.store(0x0102_u64.to_le(), Ordering::Relaxed);
    third.store(3_u64.to_le(), Ordering::Relaxed);
    map.sync().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[..8], [7; 8]);
    assert_eq!(bytes[8..16], [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[16..], [3, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn only_a_file_of_exactly_24_bytes_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("words");
    assert_eq!(Os.map(&path).unwrap_err().kind(), ErrorKind::NotFound);
    for len in [0, 23, 25, 4096] {
        write(&path, &vec![0; len]);
        assert_eq!(Os.map(&path).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), len as u64);
    }
}

#[test]
fn free_space_is_known_where_the_platform_tells() {
    let dir = tempfile::tempdir().unwrap();
    let free = Os.free_bytes(dir.path()).unwrap();
    assert_eq!(free.is_some(), cfg!(unix));
    if cfg!(unix) {
        assert!(Os.free_bytes(&dir.path().join("missing")).is_err());
    }
}
