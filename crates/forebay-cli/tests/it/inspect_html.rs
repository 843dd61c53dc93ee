//! The page of `forebay inspect --html`.

use crate::support::{Scratch, copy, finish, golden, lines, run, snapshot};
use serde_json::Value;
use std::fs;

/// Writes the page beside the buffer, and returns it.
#[track_caller]
fn page(scratch: &Scratch) -> String {
    let file = scratch.path("page.html");
    let mut command = scratch.forebay("inspect", &["--html"]);
    let ran = run({
        command.arg(&file);
        command
    })
    .expect(0);
    let said = format!("the page is in {}", file.display());
    assert!(ran.stdout_text().contains(&said), "{ran:?}");
    fs::read_to_string(&file).unwrap()
}

/// Checks what holds for every page.
#[track_caller]
fn check(page: &str) {
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for loads in [
        "<script", "<link", "<img", "src=", "href=", "url(", "@import", "http:", "https:",
    ] {
        assert!(!page.contains(loads), "the page loads something: {loads}");
    }
    for number in ["NaN", "inf\"", "inf%", "\"-", ":-"] {
        assert!(!page.contains(number), "{number} in a picture");
    }
    for element in ["section", "table", "svg", "dl", "div", "tr", "td", "p"] {
        let opened = page.matches(&format!("<{element}>")).count()
            + page.matches(&format!("<{element} ")).count();
        let closed = page.matches(&format!("</{element}>")).count();
        assert_eq!(opened, closed, "<{element}>");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn the_map_shows_damage_and_positions_where_they_are() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    run(scratch.forebay("pull", &["--max", "3"])).expect(0);
    scratch.damage_fifth_record();
    let page = page(&scratch);
    check(&page);
    // Frames of 48 bytes; three records are acknowledged, the fifth is damaged.
    for shown in [
        r#"<rect class="acknowledged" x="0.00" width="300.00""#,
        r#"<rect class="unread" x="300.00" width="700.00""#,
        r#"<rect class="damage" x="400.00" width="100.00""#,
        r#"style="left:30.000%">first unread record"#,
        "<strong>Damaged</strong> <span>1 event lost. Opening",
        "<code>checksum</code>",
        "buffer-data-0.dat",
    ] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    assert!(page.contains(&format!("forebay repair {}", scratch.buffer.display())));
}

/// One damaged byte would be thinner than a line of the picture in a large buffer.
#[test]
fn a_large_buffer_has_a_short_page_that_shows_one_damaged_record() {
    let scratch = Scratch::new();
    let config = forebay::Config::new(&scratch.buffer)
        .max_size(16 << 20)
        .data_file_size(4096);
    let (writer, _reader) = config.open().unwrap();
    for _ in 0..20_000 {
        writer.append(&[b'x'; 100]).unwrap();
    }
    writer.close().unwrap();
    let path = scratch.buffer.join("buffer-data-400.dat");
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, bytes).unwrap();
    let page = page(&scratch);
    check(&page);
    assert!(page.len() < 200_000, "{} bytes", page.len());
    assert!(page.contains("buffer-data-400.dat <small class=\"found\">1 finding"));
    assert!(page.contains("buffer-data-1.dat … buffer-data-399.dat"));
    let overview = page.split("class=\"overview\"").nth(1).unwrap();
    let overview = overview.split("</svg>").next().unwrap();
    assert!(overview.contains(r#"<rect class="damage""#), "{overview}");
}

#[test]
fn what_comes_from_outside_is_escaped_and_no_payload_is_shown() {
    let mut scratch = Scratch::new();
    scratch.buffer = scratch.path("<b>&\"quoted' <script>");
    scratch.push("top-secret-payload\nanother-secret\n");
    let page = page(&scratch);
    check(&page);
    assert!(!page.contains("<b>&") && !page.contains("secret"), "{page}");
    assert!(page.contains("&#60;b&#62;&#38;&#34;quoted&#39;"), "{page}");
}

#[test]
fn the_page_of_an_empty_buffer_says_so() {
    let scratch = Scratch::new();
    scratch.push("");
    let page = page(&scratch);
    check(&page);
    for shown in [
        "<strong>No damage</strong> <span>Nothing is lost.",
        "There is no record.",
    ] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
}

#[test]
fn the_page_of_an_open_buffer_names_its_holder() {
    let scratch = Scratch::new();
    let (holder, stdin) = scratch.held(&lines(1, 5));
    let before = snapshot(&scratch.buffer);
    let page = page(&scratch);
    check(&page);
    assert!(page.contains("The buffer was open meanwhile"), "{page}");
    if cfg!(target_os = "linux") {
        assert!(page.contains(&format!("in process {} (forebay)", holder.id())));
    }
    assert_eq!(snapshot(&scratch.buffer), before);
    drop(stdin);
    finish(holder).expect(0);
}

#[test]
fn every_golden_buffer_has_a_page_with_its_findings_and_is_left_alone() {
    for entry in fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let scratch = Scratch::new();
        copy(&path, &scratch.buffer);
        let before = snapshot(&scratch.buffer);
        let page = page(&scratch);
        check(&page);
        let verified = run(scratch.forebay("verify", &["--json"]));
        let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
        for finding in verified["findings"].as_array().unwrap() {
            let kind = format!("<code>{}</code>", finding["kind"].as_str().unwrap());
            assert!(page.contains(&kind), "{}: {kind}", path.display());
        }
        assert_eq!(snapshot(&scratch.buffer), before, "{}", path.display());
    }
}

#[test]
fn the_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let file = scratch.path("page.html");
    fs::write(&file, "before").unwrap();
    assert!(page(&scratch).contains("No damage"));
    let names = fs::read_dir(scratch.root.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["buffer", "page.html"]);
}

/// Regression: it wrote a file named `-`.
#[test]
fn a_dash_is_standard_output() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let mut command = scratch.forebay("inspect", &["--html", "-"]);
    command.current_dir(scratch.root.path());
    let ran = run(command).expect(0).says("no damage");
    let printed = ran.stdout_text();
    check(&printed);
    assert!(printed.starts_with("<!doctype html>") && printed.trim_end().ends_with("</html>"));
    assert!(!scratch.path("-").exists());
}

#[test]
fn a_place_where_no_page_can_be_is_an_error_that_says_why() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    let before = snapshot(scratch.root.path());
    let missing = scratch.path("missing/page.html");
    let inside = scratch.buffer.join("page.html");
    for (file, why) in [
        (scratch.root.path(), "it is not a file"),
        (missing.as_path(), "there is no directory"),
        (inside.as_path(), "is in the directory of the buffer"),
    ] {
        let mut command = scratch.forebay("inspect", &["--html"]);
        command.arg(file);
        run(command).expect(2).says(why);
    }
    let no_buffer = Scratch::new();
    let mut command = no_buffer.forebay("inspect", &["--html"]);
    command.arg(no_buffer.path("page.html"));
    run(command).expect(2).says("there is no directory");
    assert_eq!(snapshot(scratch.root.path()), before);
    assert!(!no_buffer.path("page.html").exists());
}
