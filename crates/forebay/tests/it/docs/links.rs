//! Links between the project's pages.

use super::{read, root};

/// The pages at the root and in `docs`, as paths from the root.
pub(super) fn pages() -> Vec<String> {
    let mut pages = Vec::new();
    for dir in ["", "docs/"] {
        let list = std::fs::read_dir(root().join(dir)).expect("a directory of pages");
        for entry in list {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("a name in UTF-8");
            if name.ends_with(".md") {
                pages.push(format!("{dir}{name}"));
            }
        }
    }
    pages.sort();
    pages
}

/// The targets of the inline links of a page.
fn targets(page: &str) -> Vec<&str> {
    page.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .collect()
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let mut checked = 0;
    for page in pages() {
        let dir = page.rsplit_once('/').map_or("", |(dir, _)| dir);
        for target in targets(&read(&page)) {
            if target.starts_with("https://") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let to = if path.is_empty() {
                root().join(&page)
            } else {
                root().join(dir).join(path)
            };
            assert!(to.exists(), "{page} links to {target}, which is not there");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&to).expect("a page");
                let found = text
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{page} links to {target}, which has no such heading");
            }
            checked += 1;
        }
    }
    assert!(checked > 0, "no page has a link");
}

/// The ways of ARCHITECTURE.md send a reader to files, which must be there.
#[test]
fn every_file_that_the_architecture_names_is_there() {
    let text = read("ARCHITECTURE.md");
    let (library, program) = ("crates/forebay/src", "crates/forebay-cli/src");
    let mut found = 0;
    for name in text.split('`').skip(1).step_by(2) {
        let is_file = name.ends_with(".rs") && !name.contains(' ');
        if !is_file {
            continue;
        }
        found += 1;
        // A file named a second time goes by its last part.
        let is_there = [library, program].iter().any(|dir| {
            let dir = root().join(dir);
            dir.join(name).exists() || dir.join("write/side").join(name).exists()
        });
        assert!(is_there, "ARCHITECTURE.md names {name}");
    }
    assert!(found > 30, "only {found} files");
}

/// Seeds that once failed are replayed only where proptest looks for them: under the path of
/// the source that they are for.
#[test]
fn every_recorded_seed_belongs_to_a_source() {
    let crates = root().join("crates/forebay");
    let mut folders = vec![crates.join("proptest-regressions")];
    let mut seeds = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(crates.join("proptest-regressions"));
            let source = crates.join("src").join(name.unwrap().with_extension("rs"));
            assert!(source.exists(), "{} has no source", path.display());
            let text = std::fs::read_to_string(path).unwrap();
            seeds += text.lines().filter(|line| line.starts_with("cc ")).count();
        }
    }
    assert!(seeds > 3, "only {seeds} seeds");
}
