//! Finding the buffers below directories.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use forebay::{Error, ErrorKind, find_buffers};

use crate::support::{open, small, temp_dir};

fn make_buffer(dir: &Path) {
    drop(open(&small(dir)));
}

/// The buffers that were found, each once, and the errors.
fn found(paths: &[&Path]) -> (BTreeSet<PathBuf>, Vec<Error>) {
    let (mut buffers, mut errors) = (BTreeSet::new(), Vec::new());
    for found in find_buffers(paths) {
        match found {
            Ok(path) => assert!(buffers.insert(path.clone()), "{} again", path.display()),
            Err(error) => errors.push(error),
        }
    }
    (buffers, errors)
}

#[track_caller]
fn check(root: &Path, buffers: &[&str]) {
    let (found, errors) = found(&[root]);
    assert!(errors.is_empty(), "{errors:?}");
    let expected = buffers.iter().map(|name| root.join(name)).collect();
    assert_eq!(found, expected);
}

#[test]
fn buffers_are_found_at_every_depth() {
    let root = temp_dir();
    let root = root.path();
    check(root, &[]);
    for name in ["a", "b/c/d", "b/c/d/inside"] {
        make_buffer(&root.join(name));
    }
    fs::write(root.join("file"), "").unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    check(root, &["a", "b/c/d", "b/c/d/inside"]);
    // What makes a buffer: the ledger or a data file.
    fs::remove_file(root.join("a/buffer.db")).unwrap();
    check(root, &["a", "b/c/d", "b/c/d/inside"]);
    fs::remove_file(root.join("a/buffer-data-0.dat")).unwrap();
    check(root, &["b/c/d", "b/c/d/inside"]);
    // A directory of that name is neither.
    fs::create_dir(root.join("a/buffer-data-0.dat")).unwrap();
    fs::create_dir(root.join("a/buffer.db")).unwrap();
    check(root, &["b/c/d", "b/c/d/inside"]);
    assert_eq!(found(&[&root.join("b/c/d/inside")]).0.len(), 1);
}

#[test]
fn what_a_buffer_keeps_of_damage_and_repairs_is_no_buffer() {
    let root = temp_dir();
    let root = root.path();
    make_buffer(&root.join("a"));
    for name in ["a/quarantine", "a/repair/1", "quarantine", "repair"] {
        fs::create_dir_all(root.join(name)).unwrap();
        fs::write(root.join(name).join("buffer.db"), "").unwrap();
    }
    check(root, &["a", "quarantine", "repair"]);
}

/// Regression: the original of a repaired buffer was listed as an orphan, and who drained it got
/// everything twice.
#[test]
fn the_original_of_a_repaired_buffer_is_no_buffer_unless_it_is_named() {
    let root = temp_dir();
    let root = root.path();
    let (dir, original) = (root.join("a"), root.join("a.original"));
    let (writer, reader) = forebay::Config::new(&dir).open().unwrap();
    for _ in 0..3 {
        writer.append(b"a record").unwrap();
    }
    writer.close().unwrap();
    reader.close().unwrap();
    let file = dir.join("buffer-data-0.dat");
    let mut bytes = fs::read(&file).unwrap();
    bytes[60] ^= 1;
    fs::write(&file, bytes).unwrap();
    let repair = forebay::RepairOptions::new().keep_original(&original);
    assert_eq!(
        repair.repair(&dir).unwrap().original,
        Some(original.clone())
    );
    assert!(original.join("buffer.db").exists());
    check(root, &["a"]);
    let (buffers, errors) = found(&[&original]);
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(buffers, BTreeSet::from([original]));
}

/// While its files are replaced, a buffer may have none.
#[test]
fn a_buffer_whose_repair_was_interrupted_is_found() {
    let root = temp_dir();
    let root = root.path();
    fs::create_dir_all(root.join("a/repair")).unwrap();
    check(root, &[]);
    for list in ["list.out", "list.in"] {
        let list = root.join("a/repair").join(list);
        fs::write(&list, "").unwrap();
        check(root, &["a"]);
        fs::remove_file(list).unwrap();
    }
}

#[test]
fn paths_may_overlap_and_one_that_is_missing_does_not_end_the_search() {
    let root = temp_dir();
    let root = root.path();
    make_buffer(&root.join("a/b"));
    fs::write(root.join("file"), "").unwrap();
    let (missing, file) = (root.join("missing"), root.join("file"));
    let (buffers, errors) = found(&[&missing, &file, &root.join("a"), root, root]);
    assert_eq!(buffers, BTreeSet::from([root.join("a/b")]));
    let kinds: Vec<_> = errors.iter().map(|e| (e.kind(), e.path())).collect();
    assert_eq!(
        kinds,
        [
            (ErrorKind::NotABuffer, Some(missing.as_path())),
            (ErrorKind::NotABuffer, Some(file.as_path()))
        ]
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_once() {
    use std::os::unix::fs::symlink;
    let (root, elsewhere) = (temp_dir(), temp_dir());
    let (root, elsewhere) = (root.path(), elsewhere.path());
    make_buffer(&root.join("b/a"));
    make_buffer(&elsewhere.join("c"));
    // To what is in the tree under its own name; to what is outside it; in circles; to nothing.
    symlink("b/a", root.join("a")).unwrap();
    symlink(elsewhere, root.join("d")).unwrap();
    symlink(elsewhere, root.join("e")).unwrap();
    symlink(root, elsewhere.join("root")).unwrap();
    symlink("itself", root.join("itself")).unwrap();
    symlink("nothing", root.join("link")).unwrap();
    let (buffers, errors) = found(&[root]);
    assert_eq!(buffers.len(), 2, "{buffers:?}");
    assert!(buffers.contains(&root.join("b/a")));
    assert!(errors.is_empty(), "{errors:?}");
}

#[cfg(unix)]
#[test]
fn a_directory_without_permission_is_reported_and_the_search_goes_on() {
    use std::os::unix::fs::PermissionsExt;
    let root = temp_dir();
    let root = root.path();
    make_buffer(&root.join("a"));
    make_buffer(&root.join("b"));
    let mode = |mode| fs::set_permissions(root.join("a"), fs::Permissions::from_mode(mode));
    mode(0o000).unwrap();
    let is_allowed = fs::read_dir(root.join("a")).is_ok();
    let (buffers, errors) = found(&[root]);
    mode(0o700).unwrap();
    assert!(buffers.contains(&root.join("b")));
    if is_allowed {
        eprintln!("skipped: this user may list every directory");
        return;
    }
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].kind(), ErrorKind::PermissionDenied);
    assert_eq!(errors[0].path(), Some(root.join("a").as_path()));
}

/// Regression: a buffer was made in the directory `repair` of another one, also through a link, and
/// the next opening of that one deleted its records, which were synced.
#[test]
fn no_buffer_is_made_where_another_one_keeps_what_is_its_own() {
    let root = temp_dir();
    let root = root.path();
    make_buffer(&root.join("a"));
    fs::create_dir_all(root.join("a/repair/1")).unwrap();
    fs::create_dir_all(root.join("b/repair")).unwrap();
    let mut places: Vec<_> = [
        "a/repair",
        "a/repair/1",
        "a/repair/new",
        "a/quarantine",
        "a/quarantine/x/y",
        "b/../a/repair",
        "missing/../a/repair",
        "missing/../a/quarantine/x",
    ]
    .map(|place| root.join(place))
    .to_vec();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(root.join("a/repair"), root.join("link")).unwrap();
        std::os::unix::fs::symlink(root.join("a"), root.join("to-a")).unwrap();
        places.extend([root.join("link"), root.join("link/new")]);
        places.push(root.join("to-a/quarantine"));
        places.push(root.join("missing/../to-a/repair"));
    }
    for place in places {
        let opened = forebay::Config::new(&place).open();
        assert_eq!(
            opened.unwrap_err().kind(),
            ErrorKind::InvalidConfig,
            "{place:?}"
        );
        let salvaged = forebay::SalvageOptions::new().salvage(&[root.join("a")], &place);
        assert_eq!(salvaged.unwrap_err().kind(), ErrorKind::InvalidConfig);
        // The original of a repair is kept nowhere in a buffer that its user names.
        let repair = forebay::RepairOptions::new().keep_original(&place);
        let file = root.join("a/buffer-data-0.dat");
        fs::write(&file, [1; 100]).unwrap();
        let repaired = repair.repair(root.join("a"));
        assert_eq!(repaired.unwrap_err().kind(), ErrorKind::InvalidConfig);
        fs::write(&file, "").unwrap();
    }
    let repair = forebay::RepairOptions::new().keep_original(root.join("a/sub"));
    fs::write(root.join("a/buffer-data-0.dat"), [1; 100]).unwrap();
    let repaired = repair.repair(root.join("a"));
    assert_eq!(repaired.unwrap_err().kind(), ErrorKind::InvalidConfig);
    // Elsewhere these are names like others, and below a buffer there may be others.
    for place in ["b/repair", "quarantine", "a/sub"] {
        forebay::Config::new(root.join(place)).open().unwrap();
    }
}
