//! Who may know whom: the rules of `ARCHITECTURE.md`, as tables.

use std::collections::{BTreeMap, BTreeSet};

use super::markdown::{code_spans, table};
use super::read;
use super::sources::{Source, below, code, names_behind, tokens, without_tests};

/// Modules that know these of the crate and nothing else.
const KNOW_ONLY: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("format", &[]),
    ("storage", &[]),
    ("counter", &[]),
    ("sync", &[]),
    ("pool", &["storage", "sync"]),
    ("wake", &["sync"]),
    ("stream", &["format"]),
    ("log", &["error", "stream"]),
    ("acks", &["stream"]),
    ("lost", &[]),
    ("meters", &["acks", "lost", "sync"]),
    ("ledger", &["error", "format", "storage", "sync"]),
    ("quarantine", &["error", "format", "storage", "sync"]),
    (
        "data_file",
        &["counter", "error", "format", "pool", "storage"],
    ),
];

/// Modules that never know these.
const NEVER_KNOW: &[(&str, &[&str])] = &[
    ("writer", &["reader"]),
    ("reader", &["writer", "intake"]),
    ("intake", OPEN_BUFFER),
    ("write_side", &["writer", "reader", "buffer", "io_thread"]),
    ("io_thread", &["writer", "reader", "buffer"]),
    // What is shared knows none of those who share it.
    (
        "shared",
        &[
            "writer",
            "reader",
            "delivery",
            "usage",
            "write_side",
            "io_thread",
            "buffer",
        ],
    ),
    ("delivery", &["writer", "reader", "buffer"]),
    ("usage", &["writer", "reader", "buffer"]),
    ("config", OPEN_BUFFER),
    // What reads a directory without opening the buffer, or before it is open.
    ("survey", OPEN_BUFFER),
    ("recovery", OPEN_BUFFER),
    ("inspect", OPEN_BUFFER),
    ("verify", OPEN_BUFFER),
    ("records", OPEN_BUFFER),
    // The edges stand on the public API.
    ("tokio", BELOW_THE_API),
    ("codec", BELOW_THE_API),
];

/// The parts of an open buffer.
const OPEN_BUFFER: &[&str] = &[
    "writer",
    "reader",
    "shared",
    "write_side",
    "io_thread",
    "buffer",
];

/// What the public API hides.
const BELOW_THE_API: &[&str] = &[
    "acks",
    "data_file",
    "format",
    "intake",
    "io_thread",
    "write_side",
    "ledger",
    "log",
    "quarantine",
    "recovery",
    "storage",
    "survey",
];

/// Edges of the library: nothing inside it knows them.
const KNOWN_BY_NONE: &[&str] = &["codec", "tokio"];

/// Parts of `std` and crates through which code touches the system. They occur
/// in `storage` only.
const SYSTEM: (&[&str], &[&str]) = (
    &["env", "fs", "net", "os", "process"],
    &["libc", "memmap2", "rustix"],
);

/// Parts of `std` that pure functions over bytes have no use for.
const NOT_FOR_BYTES: &[&str] = &["io", "path", "sync", "thread", "time"];

/// What the library takes from `std` in `sync` only.
const MEETINGS: &[&str] = &["Mutex", "RwLock", "Condvar", "mpsc", "thread", "Instant"];

/// The only file that may contain `unsafe`.
const UNSAFE_IN: &str = "storage/os.rs";

/// The library's sources, of which there are some.
fn library() -> Vec<Source> {
    let sources = below("crates/forebay/src");
    assert!(sources.len() > 10, "only {} sources found", sources.len());
    sources
}

/// The top-level module that a source belongs to.
fn module(path: &str) -> &str {
    path.split('/')
        .next()
        .map_or(path, |first| first.trim_end_matches(".rs"))
}

/// The names that `lib.rs` re-exports, with the module each comes from.
fn re_exports(lib: &str) -> BTreeMap<&str, &str> {
    let mut names = BTreeMap::new();
    for statement in lib.split(';') {
        let tokens = tokens(statement);
        let Some(at) = tokens.windows(2).position(|pair| pair == ["pub", "use"]) else {
            continue;
        };
        let Some((module, rest)) = tokens[at + 2..].split_first() else {
            continue;
        };
        names.extend(rest.iter().map(|name| (*name, *module)));
    }
    names
}

/// Module by module, the other modules of the crate that it names.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let sources = library();
    let modules: BTreeSet<&str> = sources.iter().map(|s| module(&s.path)).collect();
    let lib = read("crates/forebay/src/lib.rs");
    let lib = code(&lib);
    let re_exports = re_exports(&lib);
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let from = module(&source.path);
        let code = without_tests(&code(&source.text));
        let mut names = names_behind(&code, "crate");
        if !source.path.contains('/') {
            names.extend(names_behind(&code, "super"));
        }
        let known = names.iter().filter_map(|name| {
            let module = re_exports.get(name).unwrap_or(name);
            modules.get(module).filter(|to| **to != from)
        });
        edges
            .entry(from.to_owned())
            .or_default()
            .extend(known.map(|to| (*to).to_owned()));
    }
    edges
}

fn known_by<'a>(
    edges: &'a BTreeMap<String, BTreeSet<String>>,
    module: &str,
) -> &'a BTreeSet<String> {
    edges
        .get(module)
        .unwrap_or_else(|| panic!("a rule names the module {module}, which is not there"))
}

#[test]
fn low_modules_know_only_what_they_are_given() {
    let edges = edges();
    for (from, only) in KNOW_ONLY {
        for to in known_by(&edges, from) {
            assert!(only.contains(&to.as_str()), "{from} knows {to}");
        }
    }
}

#[test]
fn forbidden_edges_do_not_exist() {
    let edges = edges();
    for (from, never) in NEVER_KNOW {
        for to in *never {
            assert!(
                edges.contains_key(*to),
                "a rule names the module {to}, which is not there"
            );
            assert!(!known_by(&edges, from).contains(*to), "{from} knows {to}");
        }
    }
    for (from, known) in &edges {
        for edge in KNOWN_BY_NONE {
            assert!(
                from == "lib" || !known.contains(*edge),
                "{from} knows {edge}"
            );
        }
    }
}

#[test]
fn only_storage_touches_the_system() {
    let (parts, crates) = SYSTEM;
    let mut met = false;
    // A module of tests may stand in a file of its own.
    let of_tests = |source: &Source| source.path.ends_with("/tests.rs");
    for source in library().into_iter().filter(|source| !of_tests(source)) {
        let code = without_tests(&code(&source.text));
        let std = names_behind(&code, "std");
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
        let own_tests = source.path.ends_with("/tests.rs");
        match module(&source.path) {
            "sync" => met |= found,
            // Nothing waits there for another thread.
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
    for dir in [
        "crates/forebay/src",
        "crates/forebay/tests",
        "crates/forebay-cli/tests",
    ] {
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
    let page = read("ARCHITECTURE.md");
    let rows: BTreeSet<String> = table(&page, "file")
        .into_iter()
        .flat_map(|row| code_spans(row[0]))
        .map(|file| module(file).to_owned())
        .collect();
    let modules: BTreeSet<String> = library()
        .iter()
        .map(|source| module(&source.path).to_owned())
        .collect();
    let missing: Vec<_> = modules.difference(&rows).collect();
    assert!(missing.is_empty(), "no row for the modules {missing:?}");
    let gone: Vec<_> = rows.difference(&modules).collect();
    assert!(
        gone.is_empty(),
        "rows for modules that are not there: {gone:?}"
    );
}
