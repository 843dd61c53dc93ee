//! Checks the imports of each module against the table of `ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};

use super::markdown::{code_spans, table};
use super::read;
use super::sources::{Source, below, code, names_behind, tokens, without_tests};

/// Parts of `std`, and crates, through which code touches the system. Only `storage` may use
/// them.
const SYSTEM: (&[&str], &[&str]) = (
    &["env", "fs", "net", "os", "process"],
    &["libc", "memmap2", "rustix"],
);

/// Parts of `std` that `format`, pure functions over bytes, does not use.
const NOT_FOR_BYTES: &[&str] = &["io", "path", "sync", "thread", "time"];

/// Items of `std` for threads to wait for each other. Only `sync` and `storage` may use them.
const MEETINGS: &[&str] = &["Mutex", "RwLock", "Condvar", "mpsc", "thread", "Instant"];

/// The only file that may contain `unsafe`.
const UNSAFE_IN: &str = "storage/os/mod.rs";

/// The source directories of the crates that these checks cover.
const LIBRARY: &str = "crates/forebay/src";
const PROGRAM: &str = "crates/forebay-cli/src";
const MEASUREMENTS: &str = "crates/forebay-bench/src";
const CRATES: [&str; 3] = [LIBRARY, PROGRAM, MEASUREMENTS];

/// The directories of tests.
const TESTS: &[&str] = &[
    "crates/forebay/tests",
    "crates/forebay-cli/tests",
    "crates/forebay-models/tests",
];

/// The library's sources.
fn library() -> Vec<Source> {
    sources_of(LIBRARY)
}

/// The sources of a crate; panics if there are 10 or fewer.
fn sources_of(dir: &str) -> Vec<Source> {
    let sources = below(dir);
    assert!(
        sources.len() > 10,
        "{dir}: only {} sources found",
        sources.len()
    );
    sources
}

/// The top-level module that a source belongs to.
fn module(path: &str) -> &str {
    path.split('/')
        .next()
        .map_or(path, |first| first.trim_end_matches(".rs"))
}

/// The path of the module that a source holds, without the crate.
fn module_path(source: &Source) -> Vec<&str> {
    let path = source.path.trim_end_matches(".rs");
    let mut parts: Vec<_> = path.split('/').collect();
    if matches!(parts.last(), Some(&"mod" | &"lib" | &"main")) {
        parts.pop();
    }
    parts
}

/// Whether a source holds tests only.
fn is_of_tests(source: &Source) -> bool {
    let parts = module_path(source);
    parts.contains(&"tests") || parts.contains(&"testing")
}

/// For each module of a folder, the other modules of the folder (`siblings`) that it names. A
/// module is its file or everything in its folder.
fn edges<'s>(
    sources: &'s [Source],
    folder: &[&'s str],
    siblings: &BTreeSet<&'s str>,
) -> BTreeMap<&'s str, BTreeSet<&'s str>> {
    let mut edges: BTreeMap<_, BTreeSet<_>> =
        siblings.iter().map(|s| (*s, BTreeSet::new())).collect();
    for source in sources.iter().filter(|source| !is_of_tests(source)) {
        let path = module_path(source);
        let Some(from) = path
            .strip_prefix(folder)
            .and_then(|rest| rest.first().copied())
        else {
            continue;
        };
        let code = without_tests(&code(&source.text));
        // Names from the crate's root, and from the folder by way of `super`.
        let from_root = ["crate"].iter().chain(folder).copied().collect::<Vec<_>>();
        let depth = path.len() - folder.len();
        let from_here = vec!["super"; depth];
        let named = names_behind(&code, &from_root).into_iter();
        let named: BTreeSet<String> = named
            .chain(names_behind(&code, &from_here))
            .map(str::to_owned)
            .collect();
        let known = siblings
            .iter()
            .filter(|to| **to != from && named.contains(**to));
        edges.entry(from).or_default().extend(known);
    }
    edges
}

/// For each module in the table, the modules that it may import.
fn rules() -> Vec<(String, BTreeSet<String>)> {
    let page = read("ARCHITECTURE.md");
    let rows = table(&page, "place");
    let of = |cell| {
        code_spans(cell)
            .into_iter()
            .map(|name| module(name).to_owned())
    };
    rows.into_iter()
        .flat_map(|row| of(row[0]).map(move |place| (place, of(row[2]).collect())))
        .collect()
}

#[test]
fn modules_know_only_what_the_architecture_allows() {
    let sources = library();
    let modules: BTreeSet<&str> = sources.iter().map(|s| module(&s.path)).collect();
    let edges = edges(&sources, &[], &modules);
    let rules = rules();
    assert!(
        edges.values().any(|known| !known.is_empty()),
        "no imports were found"
    );
    let mut wrong = Vec::new();
    for (from, allowed) in rules.iter().filter(|(from, _)| from != "lib") {
        let known = &edges[from.as_str()];
        let forbidden = known.iter().filter(|to| !allowed.contains(**to));
        wrong.extend(forbidden.map(|to| format!("{from} knows {to}")));
        let idle = allowed.iter().filter(|to| !known.contains(to.as_str()));
        wrong.extend(idle.map(|to| format!("{from} need not know {to}")));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_row_of_the_architecture_knows_only_rows_above_it() {
    let mut above = BTreeSet::new();
    for (place, allowed) in rules() {
        let below: Vec<_> = allowed.difference(&above).collect();
        assert!(below.is_empty(), "{place} may know {below:?}");
        above.insert(place);
    }
}

#[test]
fn no_modules_of_a_folder_know_each_other_in_a_circle() {
    for dir in CRATES {
        let sources = sources_of(dir);
        let folders: BTreeSet<Vec<&str>> = sources
            .iter()
            .filter(|source| !is_of_tests(source))
            .map(|source| module_path(source))
            .filter_map(|path| path.split_last().map(|(_, folder)| folder.to_vec()))
            .collect();
        let is_flat = dir == MEASUREMENTS;
        assert!(
            is_flat || folders.len() > 5,
            "{dir}: only the folders {folders:?} were found"
        );
        for folder in folders {
            let circle = circle(&sources, &folder);
            assert!(
                circle.is_empty(),
                "{dir}, {folder:?}: in a circle, or above one: {circle:?}"
            );
        }
    }
}

/// The modules of a folder that import each other in a circle, and those that import them.
fn circle<'s>(sources: &'s [Source], folder: &[&'s str]) -> BTreeMap<&'s str, BTreeSet<&'s str>> {
    let siblings: BTreeSet<&str> = sources
        .iter()
        .filter(|source| !is_of_tests(source))
        .filter_map(|source| module_path(source).strip_prefix(folder)?.first().copied())
        .collect();
    let mut edges = edges(sources, folder, &siblings);
    // Modules that import no other are removed until none is left.
    while let Some(leaf) = edges.iter().find(|(_, known)| known.is_empty()) {
        let leaf = *leaf.0;
        edges.remove(leaf);
        for known in edges.values_mut() {
            known.remove(leaf);
        }
    }
    edges
}

#[test]
fn nothing_is_imported_through_the_root_of_a_crate() {
    for dir in CRATES {
        let sources = sources_of(dir);
        let modules: BTreeSet<&str> = sources.iter().map(|s| module(&s.path)).collect();
        for source in sources.iter().filter(|source| source.path != "lib.rs") {
            let code = code(&source.text);
            for name in names_behind(&code, &["crate"]) {
                assert!(
                    modules.contains(name),
                    "{dir}/{} imports crate::{name}",
                    source.path
                );
            }
        }
    }
}

#[test]
fn only_storage_touches_the_system() {
    let (parts, crates) = SYSTEM;
    let mut met = false;
    for source in library().into_iter().filter(|source| !is_of_tests(source)) {
        let code = without_tests(&code(&source.text));
        let std = names_behind(&code, &["std"]);
        let words = tokens(&code);
        let part = parts.iter().find(|part| std.contains(*part));
        let found = part.or_else(|| crates.iter().find(|name| words.contains(name)));
        if module(&source.path) == "storage" {
            met |= found.is_some();
        } else {
            assert_eq!(found, None, "{} touches the system", source.path);
        }
        if module(&source.path) == "format" {
            let found = NOT_FOR_BYTES.iter().find(|part| std.contains(*part));
            assert_eq!(found, None, "{} is more than bytes", source.path);
        }
    }
    assert!(met, "not even storage was seen to touch the system");
}

#[test]
fn threads_meet_only_over_what_the_models_see() {
    let mut met = false;
    for source in library() {
        let code = without_tests(&code(&source.text));
        let found = code.split(';').any(|statement| {
            let tokens = tokens(statement);
            let mut behind = tokens.iter().skip_while(|token| **token != "std");
            behind.any(|token| MEETINGS.contains(token))
        });
        let own_tests = is_of_tests(&source);
        match module(&source.path) {
            "sync" => met |= found,
            // No thread waits there for another.
            "storage" => {}
            _ => assert!(!found || own_tests, "{} goes past sync", source.path),
        }
    }
    assert!(met, "not even sync was seen to use threads");
}

#[test]
fn unsafe_is_in_one_file() {
    let found: Vec<_> = library()
        .into_iter()
        .filter(|source| tokens(&code(&source.text)).contains(&"unsafe"))
        .map(|source| source.path)
        .collect();
    assert_eq!(found, [UNSAFE_IN]);
}

#[test]
fn every_source_says_its_purpose_first_and_leaves_nothing_to_do() {
    for dir in CRATES.iter().chain(TESTS) {
        for source in below(dir) {
            let head = source.text.lines().next().unwrap_or_default();
            let purpose = head.strip_prefix("//! ").unwrap_or_default();
            assert!(!purpose.is_empty(), "{dir}/{} has no //! head", source.path);
            for word in [
                concat!("TO", "DO"),
                concat!("FIX", "ME"),
                concat!("XX", "X"),
            ] {
                assert!(!source.text.contains(word), "{dir}/{}: {word}", source.path);
            }
        }
    }
}

#[test]
fn every_module_of_the_library_has_a_row_in_the_architecture() {
    let rows: BTreeSet<String> = rules().into_iter().map(|(place, _)| place).collect();
    let sources = library();
    let modules = sources.iter().map(|source| module(&source.path).to_owned());
    assert_eq!(rows, modules.collect::<BTreeSet<_>>());
    assert!(rows.len() <= 16, "too many for one look: {}", rows.len());
}

#[test]
fn the_program_has_few_modules_and_no_two_of_one_name() {
    let sources = sources_of(PROGRAM);
    let top: BTreeSet<&str> = sources.iter().map(|s| module(&s.path)).collect();
    assert!(top.len() <= 12, "too many for one look: {top:?}");
    let commands: BTreeSet<&str> = sources
        .iter()
        .filter_map(|source| source.path.strip_prefix("commands/"))
        .map(module)
        .collect();
    assert!(commands.contains("pipe"), "{commands:?}");
    let both: Vec<_> = commands.intersection(&top).collect();
    assert!(both.is_empty(), "commands, and beside them: {both:?}");
}

#[test]
fn modules_have_one_style() {
    for dir in CRATES.iter().chain(TESTS) {
        for source in sources_of(dir) {
            let folder = source.path.trim_end_matches(".rs");
            let has_folder = super::root().join(dir).join(folder).is_dir();
            assert!(
                !has_folder,
                "{dir}/{} stands beside its folder",
                source.path
            );
        }
    }
}
