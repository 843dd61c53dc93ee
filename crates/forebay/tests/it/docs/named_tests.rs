//! Checks that every test that a page names exists.

use std::collections::{BTreeMap, BTreeSet};

use super::markdown::{code_spans, section, table};
use super::read;
use super::sources::{below, code, test_names};

/// The directories that hold tests.
const DIRS: &[&str] = &[
    "crates/forebay/tests/it",
    "crates/forebay/src",
    "crates/forebay-cli/tests/it",
    "crates/forebay-cli/tests/disks",
    "crates/forebay-models/tests/models",
];

/// The tests of each module, a module being a file or a directory of files.
fn tests_by_module() -> BTreeMap<String, BTreeSet<String>> {
    let mut tests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for dir in DIRS {
        for source in below(dir) {
            let code = code(&source.text);
            let names = test_names(&code);
            for module in source.path.trim_end_matches(".rs").split('/') {
                let names = names.iter().map(|name| (*name).to_owned());
                tests.entry(module.to_owned()).or_default().extend(names);
            }
        }
    }
    tests
}

/// The tests that the pages name, as pairs of module and test.
fn named() -> BTreeSet<(String, String)> {
    let durability = read("docs/durability.md");
    let mut named: BTreeSet<_> = code_spans(&durability)
        .into_iter()
        .filter(|span| {
            span.chars()
                .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | ':'))
        })
        .filter_map(|span| span.rsplit_once("::"))
        .map(|(path, test)| {
            let module = path.rsplit("::").next().unwrap_or(path);
            (module.to_owned(), test.to_owned())
        })
        .collect();
    let format = read("docs/format.md");
    for row in table(section(&format, "Recovery"), "case") {
        for case in code_spans(row[0]) {
            named.insert(("recovery".to_owned(), case.to_owned()));
        }
    }
    named
}

#[test]
fn every_test_that_a_page_names_exists() {
    let tests = tests_by_module();
    let named = named();
    assert!(named.len() > 20, "only {} names found", named.len());
    let missing: Vec<_> = named
        .iter()
        .filter(|(module, test)| !tests.get(module).is_some_and(|tests| tests.contains(test)))
        .map(|(module, test)| format!("{module}::{test}"))
        .collect();
    assert!(missing.is_empty(), "named and not there: {missing:#?}");
}
