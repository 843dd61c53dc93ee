//! A small reader of Rust sources for the checks: code without comments and literals, the
//! names it imports, and the names of its tests.

use std::collections::BTreeSet;
use std::path::Path;

use super::root;

/// One source file.
pub(super) struct Source {
    /// The path from the directory that was searched, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

/// The `.rs` files below a directory of the repository, sorted.
pub(super) fn below(dir: &str) -> Vec<Source> {
    let base = root().join(dir);
    let mut found = Vec::new();
    collect(&base, "", &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(dir: &Path, prefix: &str, found: &mut Vec<Source>) {
    let Ok(list) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in list {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let name = name.to_str().expect("a name in UTF-8");
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{path}/"), found);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(entry.path()).expect("a source in UTF-8");
            found.push(Source { path, text });
        }
    }
}

/// The code without comments and literals. Lines keep their numbers.
pub(super) fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let in_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment_len(rest)
        } else if let Some(len) = raw_string_len(rest).filter(|_| !in_word) {
            len
        } else if c == '"' {
            quoted_len(rest, '"')
        } else if c == '\'' && is_char_literal(rest) {
            quoted_len(rest, '\'')
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        out.push(' ');
        out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        rest = &rest[skipped..];
    }
    out
}

fn block_comment_len(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn raw_string_len(text: &str) -> Option<usize> {
    let body = text
        .strip_prefix("br")
        .or_else(|| text.strip_prefix("cr"))
        .or_else(|| text.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let body = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let len = body.find(&end)? + end.len();
    Some(text.len() - body.len() + len)
}

/// The length of a literal in these quotes, both included.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// Whether a quote begins a character and not a lifetime.
fn is_char_literal(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

/// The code without its `#[cfg(test)]` modules.
pub(super) fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]\nmod ") {
        let mut depth = 0;
        let end = out[start..]
            .char_indices()
            .find(|(_, c)| {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                depth == 0 && matches!(c, '}' | ';')
            })
            .map_or(out.len(), |(at, _)| start + at + 1);
        out.replace_range(start..end, "");
    }
    out
}

/// The names that follow `prefix` wherever it begins a path, including those in a group.
pub(super) fn names_behind<'a>(code: &'a str, prefix: &[&str]) -> BTreeSet<&'a str> {
    let tokens = tokens(code);
    let mut names = BTreeSet::new();
    for at in 0..tokens.len() {
        let inside_path = matches!(&tokens[..at], [.., before, ":", ":"]
            if before.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        if !inside_path {
            collect_behind(&tokens[at..], prefix, &mut names);
        }
    }
    names
}

/// The same for a path that begins with these tokens, which may end in a group.
fn collect_behind<'a>(tokens: &[&'a str], prefix: &[&str], names: &mut BTreeSet<&'a str>) {
    let Some((first, rest)) = tokens.split_first() else {
        return;
    };
    if *first == "{" {
        let mut depth = 0;
        // A path begins after `{` or `,` of this group.
        for (at, token) in tokens.iter().enumerate() {
            match *token {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            let begins = depth == 1 && matches!(*token, "{" | ",");
            if begins && tokens.get(at + 1) != Some(&"}") {
                collect_behind(&tokens[at + 1..], prefix, names);
            }
            if depth == 0 {
                return;
            }
        }
        return;
    }
    let Some((wanted, deeper)) = prefix.split_first() else {
        names.insert(first);
        return;
    };
    if let [":", ":", rest @ ..] = rest
        && first == wanted
    {
        collect_behind(rest, deeper, names);
    }
}

/// The names of the functions that carry a `test` attribute.
pub(super) fn test_names(code: &str) -> BTreeSet<&str> {
    let tokens = tokens(code);
    let mut names = BTreeSet::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0] != "fn" {
            continue;
        }
        let mut before = &tokens[..at];
        while let [rest @ .., "pub" | "async"] = before {
            before = rest;
        }
        while let [.., "]"] = before {
            let start = before.iter().rposition(|token| *token == "#").unwrap_or(0);
            if before[start..].contains(&"test") {
                names.insert(pair[1]);
            }
            before = &before[..start];
        }
    }
    names
}

/// The words of the code, and each other character by itself.
pub(super) fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let len = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    tokens
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = r##"
a // unsafe "
/* unsafe /* nested */ unsafe */ b
"unsafe \" // no" c
'"' d '\'' e 'x' <'life> f
r#"unsafe " "# g br"unsafe" h for"i"
"##;
    let code = code(text);
    assert_eq!(
        tokens(&code),
        [
            "a", "b", "c", "d", "e", "<", "'", "life", ">", "f", "g", "h", "for"
        ]
    );
    assert_eq!(code.lines().count(), text.lines().count());
}

#[test]
fn imports_are_found_in_paths_and_groups() {
    let code = "use crate::a::B; use crate::{c::{D, E}, f, G as H}; fn x(i: crate::i::J) -> ::std::o::P { super::k::l() } mod m { use std::crate_like::n; other::std::q() }";
    let names = |path: &[&str]| Vec::from_iter(names_behind(code, path)).join(" ");
    assert_eq!(names(&["crate"]), "G a c f i");
    assert_eq!(names(&["crate", "c"]), "D E");
    assert_eq!(names(&["crate", "i"]), "J");
    assert_eq!(names(&["super"]), "k");
    assert_eq!(names(&["std"]), "crate_like o");
}

#[test]
fn only_functions_with_a_test_attribute_are_tests() {
    let code = "#[test] fn a() {} fn b() {} #[inline] pub fn c() {} #[tokio::test(x)] #[ignore] async fn d() {}";
    assert_eq!(Vec::from_iter(test_names(code)), ["a", "d"]);
}

#[test]
fn test_modules_are_taken_out() {
    let code = "a\n#[cfg(test)]\nmod tests { b { c } }\nd\n#[cfg(test)]\nmod more;\ne";
    assert_eq!(tokens(&without_tests(code)), ["a", "d", "e"]);
}
