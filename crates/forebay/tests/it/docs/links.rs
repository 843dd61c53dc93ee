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
