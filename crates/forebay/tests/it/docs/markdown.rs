//! As much of Markdown as the project's pages use: sections, tables, blocks.

/// What stands below the heading `## {title}`, up to the next heading of the
/// same or a higher level.
pub(super) fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let heading = format!("\n## {title}\n");
    let start = page
        .find(&heading)
        .unwrap_or_else(|| panic!("no section {title:?}"))
        + heading.len();
    let text = &page[start..];
    let end = text.find("\n## ").unwrap_or(text.len());
    &text[..end]
}

/// The rows of the table whose first column has this heading, without the
/// heading; cells are trimmed.
pub(super) fn table<'a>(text: &'a str, first_column: &str) -> Vec<Vec<&'a str>> {
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with('|') || cells(line).first() != Some(&first_column));
    let columns = lines.next().map_or_else(
        || panic!("no table {first_column:?}"),
        |line| cells(line).len(),
    );
    let rows: Vec<_> = lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    assert!(!rows.is_empty(), "the table {first_column:?} is empty");
    for row in &rows {
        assert_eq!(row.len(), columns, "cells of {row:?}");
    }
    rows
}

fn cells(line: &str) -> Vec<&str> {
    line.trim()
        .trim_matches('|')
        .split('|')
        .map(str::trim)
        .collect()
}

/// The contents of the fenced blocks, each without its fences.
pub(super) fn blocks(text: &str) -> Vec<&str> {
    let mut parts = text.split("```");
    let mut blocks = Vec::new();
    parts.next();
    while let (Some(block), Some(_)) = (parts.next(), parts.next()) {
        let body = block.split_once('\n').map_or("", |(_, body)| body);
        blocks.push(body.trim_end());
    }
    blocks
}

/// What stands between single backticks, outside of fenced blocks.
pub(super) fn code_spans(text: &str) -> Vec<&str> {
    text.split("```")
        .step_by(2)
        .flat_map(|prose| prose.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn pages_are_taken_apart() {
    let page = "# P\n\n## A\n\n`x` and `y z`\n\n| k | v |\n| --- | --: |\n| a | `1` |\n| b | 2 |\n\n```text\none\n`no`\n```\n\n## B\n| k | v |\n| - | - |\n| c | 3 |\n";
    let a = section(page, "A");
    assert_eq!(code_spans(a), ["x", "y z", "1"]);
    assert_eq!(table(a, "k"), [["a", "`1`"], ["b", "2"]]);
    assert_eq!(blocks(a), ["one\n`no`"]);
    assert_eq!(table(section(page, "B"), "k"), [["c", "3"]]);
}
