//! Checks that the documents and the sources agree.
//!
//! Both are read at run time from the repository, so that neither a page nor the code can
//! change alone.

mod edges;
mod format_page;
mod links;
mod markdown;
mod named_tests;
mod sources;

use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate is two directories below the root")
        .to_owned()
}

/// A file of the repository, as text.
fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
