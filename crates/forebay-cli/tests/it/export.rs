//! `forebay export` and `forebay import`.

use crate::support::{Scratch, copy, fill_counting_lines, forebay, golden, lines, run, run_with};
use crate::support::{snapshot, wait_until};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// `forebay export BUFFER ARGS…`, its output.
#[track_caller]
fn export(buffer: &Path, args: &[&str], status: i32) -> Vec<u8> {
    let mut command = forebay(["export"]);
    command.arg(buffer).args(args);
    run(command).expect(status).stdout
}

/// `forebay import BUFFER` with an export on standard input.
fn import(buffer: &Path, export: &[u8]) -> crate::support::Ran {
    let mut command = forebay(["import"]);
    command.arg(buffer);
    run_with(command, export)
}

fn cat_all(buffer: &Path) -> String {
    let mut command = forebay(["cat"]);
    command.arg(buffer).args(["--all", "--json"]);
    run(command).stdout_text()
}

fn golden_names() -> Vec<String> {
    let entries = fs::read_dir(golden("hundred").parent().unwrap()).unwrap();
    let entries = entries.map(Result::unwrap);
    let is_dir = |entry: &fs::DirEntry| entry.file_type().unwrap().is_dir();
    entries
        .filter(is_dir)
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_buffer_is_made_again_from_either_format() {
    let scratch = Scratch::new();
    scratch.push("text\n\n\u{e9}\nwith \"quotes\" and \\\n");
    run_with(scratch.forebay("push", &["--metadata", "7"]), b"\xff\xfe\n").expect(0);
    run(scratch.forebay("pull", &["--max", "1"])).expect(0);
    let before = snapshot(&scratch.buffer);
    for format in ["ndjson", "binary"] {
        for scope in ["live", "all"] {
            let to = scratch.path(&format!("{format}-{scope}"));
            let bytes = export(&scratch.buffer, &["--format", format, "--scope", scope], 0);
            let text = import(&to, &bytes).expect(0).stdout_text();
            let count = if scope == "all" { 5 } else { 4 };
            assert!(text.contains(&format!("holds {count} records")), "{text}");
            assert_eq!(
                after_header(&export(&to, &["--scope", "all"], 0)),
                after_header(&export(&scratch.buffer, &["--scope", scope], 0)),
            );
            let mut command = forebay(["verify", "--json"]);
            command.arg(&to);
            let verified: Value = serde_json::from_slice(&run(command).expect(0).stdout).unwrap();
            assert_eq!(verified["findings"], serde_json::json!([]));
            let mut pull = forebay(["pull"]);
            let pulled = run({
                pull.arg(&to);
                pull
            });
            assert_eq!(
                pulled.expect(0).stdout,
                b"\n\xc3\xa9\nwith \"quotes\" and \\\n\xff\xfe\n"
            );
        }
    }
    assert_eq!(snapshot(&scratch.buffer), before);
}

/// A line whose key `checksum` is damaged looks like an edited one, so import says how many have
/// none.
#[test]
fn lines_without_a_checksum_are_counted() {
    let scratch = Scratch::new();
    scratch.push("one\ntwo\nthree\n");
    let text = String::from_utf8(export(&scratch.buffer, &[], 0)).unwrap();
    let whole = import(&scratch.path("whole"), text.as_bytes());
    assert!(!whole.expect(0).stdout_text().contains("checksum"));
    let edited: Vec<String> = text
        .lines()
        .map(|line| match line.contains("\"two\"") {
            true => line.replace("\"checksum\"", "\"chacksum\""),
            false => line.to_owned(),
        })
        .collect();
    let edited = edited.join("\n") + "\n";
    let said = import(&scratch.path("edited"), edited.as_bytes());
    let said = said.expect(0).stdout_text();
    assert!(said.contains("; 1 record without a checksum"), "{said}");
}

/// The lines of an export after the header, whose scope may differ.
fn after_header(export: &[u8]) -> Vec<u8> {
    let len = export.iter().take_while(|byte| **byte != b'\n').count();
    export[len..].to_vec()
}

#[test]
fn every_golden_buffer_is_exported_and_imported() {
    for name in golden_names() {
        let scratch = Scratch::new();
        copy(&golden(&name), &scratch.buffer);
        let before = snapshot(&scratch.buffer);
        let to = scratch.path("to");
        let command = scratch.forebay("export", &["--format", "binary", "--scope", "all"]);
        let ran = run(command);
        assert!(matches!(ran.status, Some(0 | 1)), "{name}: {ran:?}");
        import(&to, &ran.stdout).expect(0);
        assert_eq!(cat_all(&to), cat_all(&scratch.buffer), "{name}");
        let mut verify = forebay(["verify"]);
        let verified = run({
            verify.arg(&to);
            verify
        });
        // A program that counts several events a record leaves steps that look like losses.
        let counts = name.contains("multi") && !name.starts_with("multi-file");
        assert!(
            verified.status == Some(0) || counts && verified.status == Some(1),
            "{name}: {verified:?}"
        );
        assert_eq!(snapshot(&scratch.buffer), before, "{name}");
    }
}

#[test]
fn a_file_gets_its_name_once_it_is_complete() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 100));
    let path = scratch.path("export");
    let output = path.to_str().unwrap();
    for format in ["ndjson", "binary"] {
        let args = ["--format", format, "--output", output, "--json"];
        let ran = run(scratch.forebay("export", &args)).expect(0);
        let json: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(json["records"], 100);
        assert_eq!(json["complete"], true);
        assert_eq!(json["bytes"], fs::metadata(&path).unwrap().len());
        let to = scratch.path(format);
        let mut command = forebay(["import", "--json", "--input", output]);
        command.arg(&to);
        let json: Value = serde_json::from_slice(&run(command).expect(0).stdout).unwrap();
        assert_eq!(json["records"], 100);
        assert_eq!(json["was_there"], false);
        assert_eq!(cat_all(&to), cat_all(&scratch.buffer));
    }
    let names = fs::read_dir(scratch.root.path()).unwrap();
    assert!(
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .all(|name| !name.ends_with(".tmp"))
    );
    let nowhere = scratch.path("no/such/directory");
    let args = ["--output", nowhere.to_str().unwrap()];
    run(scratch.forebay("export", &args))
        .expect(2)
        .says("cannot write");
    run(scratch.forebay("export", &["--json"])).expect(2);
}

#[test]
fn damage_is_reported_and_what_it_hides_salvaged() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    let ran = run(scratch.forebay("export", &[]))
        .expect(1)
        .says("1 event lost");
    let to = scratch.path("to");
    let text = import(&to, &ran.stdout).expect(0).stdout_text();
    assert!(text.contains("missing, as in the original: 5"), "{text}");
    let mut verify = forebay(["verify", "--json"]);
    verify.arg(&to);
    let json: Value = serde_json::from_slice(&run(verify).expect(0).stdout).unwrap();
    assert_eq!(json["findings"][0]["severity"], "normal");
    // The record is in the quarantine, as it was before the damage.
    let good = Scratch::new();
    good.push(lines(1, 10));
    let bytes = fs::read(good.buffer.join("buffer-data-0.dat")).unwrap();
    let quarantine = scratch.buffer.join("quarantine");
    fs::create_dir(&quarantine).unwrap();
    fs::write(
        quarantine.join("buffer-data-0.dat.192-48.bytes"),
        &bytes[192..240],
    )
    .unwrap();
    let salvaged = export(&scratch.buffer, &["--salvage"], 0);
    import(&scratch.path("whole"), &salvaged).expect(0);
    assert_eq!(cat_all(&scratch.path("whole")), cat_all(&good.buffer));
}

#[test]
fn a_damaged_export_makes_no_buffer() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 1000));
    let to = scratch.path("to");
    for format in ["ndjson", "binary"] {
        let whole = export(&scratch.buffer, &["--format", format], 0);
        let mut damaged = whole.clone();
        let mut middle = damaged.len() / 2;
        if format == "ndjson" {
            // In a value: a key that nobody knows is passed over.
            let payload = b"\"payload\":\"";
            let rest = damaged[middle..].windows(payload.len());
            middle += rest.take_while(|bytes| bytes != payload).count() + payload.len();
        }
        damaged[middle] ^= 1;
        for wrong in [&whole[..whole.len() - 1], &whole[..middle], &damaged] {
            import(&to, wrong).expect(2).says("nothing was imported");
            assert_eq!(cat_all(&to), "");
        }
    }
    import(&to, b"").expect(2).says("it is empty");
    import(&to, b"a line\n").expect(2).says("is not an export");
    import(&to, &export(&scratch.buffer, &[], 0)).expect(0);
}

#[test]
fn a_decoded_export_is_for_reading() {
    let scratch = Scratch::new();
    copy(&golden("vector-events"), &scratch.buffer);
    let text = String::from_utf8(export(&scratch.buffer, &["--decode"], 0)).unwrap();
    let second: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    assert_eq!(second["decoded"][0]["message"], "hello");
    assert_eq!(second.get("payload_base64"), None);
    let to = scratch.path("to");
    import(&to, text.as_bytes()).expect(2).says("--decode");
    assert!(!to.exists());
    let both = ["--decode", "--format", "binary"];
    run(scratch.forebay("export", &both))
        .expect(2)
        .says("--format ndjson");
}

#[test]
fn a_buffer_that_is_in_use_or_holds_other_records_is_refused() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let from = export(&scratch.buffer, &[], 0);
    // The same records: that is what importing again finds.
    let text = import(&scratch.buffer, &from).expect(0).stdout_text();
    assert!(text.contains("was there already"), "{text}");
    scratch.push("more\n");
    let before = snapshot(&scratch.buffer);
    import(&scratch.buffer, &from)
        .expect(2)
        .says("11 unread events");
    assert_eq!(snapshot(&scratch.buffer), before);
    let held = forebay::Config::new(&scratch.buffer).open().unwrap();
    import(&scratch.buffer, &from).expect(2).says("in use");
    drop(held);
    let foreign = scratch.path("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("file"), "x").unwrap();
    import(&foreign, &from).expect(2).says("is not a buffer");
    assert_eq!(snapshot(&foreign).len(), 1);
    // Nothing is unread, and the ids were given out.
    run(scratch.forebay("pull", &[])).expect(0);
    import(&scratch.buffer, &from)
        .expect(2)
        .says("new directory");
    for missing in ["missing", "foreign"] {
        let mut command = forebay(["export"]);
        command.arg(scratch.path(missing));
        run(command).expect(2);
    }
}

#[test]
fn events_are_counted_as_told() {
    let scratch = Scratch::new();
    fill_counting_lines(&scratch.buffer, 5);
    let counted = export(&scratch.buffer, &["--count-events", "lines"], 0);
    let to = scratch.path("to");
    let text = import(&to, &counted).expect(0).stdout_text();
    assert!(text.contains("5 records with 15 events"), "{text}");
    assert!(!text.contains("missing"), "{text}");
    let mut command = forebay(["verify", "--count-events", "lines"]);
    command.arg(&to);
    run(command).expect(0);
}

/// SIGKILL at random moments of an import: afterwards there is no record or all of them, and
/// importing again succeeds.
#[cfg(unix)]
#[test]
fn an_import_that_is_killed_can_be_made_again() {
    use crate::moments::Moments;
    use crate::support::kill;
    use std::process::Stdio;
    let scratch = Scratch::new();
    scratch.push(lines(1, 20_000));
    let path = scratch.path("export");
    let bytes = export(&scratch.buffer, &["--format", "binary"], 0);
    fs::write(&path, &bytes).unwrap();
    let expected = cat_all(&scratch.buffer);
    let mut moments = Moments::new();
    for round in 0..15 {
        let to = scratch.path(&format!("to-{round}"));
        let command = || -> Command {
            let mut command = forebay(["import", "--data-file-size", "64KiB", "--input"]);
            command.arg(&path).arg(&to);
            command
        };
        let mut killed = command();
        let mut child = killed.stdout(Stdio::null()).spawn().unwrap();
        moments.pause(80);
        kill(child.id(), "KILL");
        child.wait().unwrap();
        if round % 2 == 0 && to.exists() {
            // Opening it first makes it one or the other.
            let mut pull = forebay(["pull", "--max", "0"]);
            pull.arg(&to);
            let pulled = run(pull);
            // It may have been killed before it made the first file.
            let is_empty = pulled.stderr.contains("holds no buffer");
            assert!(pulled.status == Some(0) || is_empty, "{pulled:?}");
            let there = cat_all(&to);
            assert!(there.is_empty() || there == expected, "round {round}");
        }
        run(command()).expect(0);
        assert_eq!(cat_all(&to), expected, "round {round}");
        let mut verify = forebay(["verify"]);
        verify.arg(&to);
        run(verify).expect(0);
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_an_import_without_a_buffer() {
    use crate::support::{finish, kill};
    use std::io::Write as _;
    use std::process::Stdio;
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let bytes = export(&scratch.buffer, &[], 0);
    let to = scratch.path("to");
    let mut command = forebay(["import"]);
    command.arg(&to).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&bytes[..bytes.len() - 10]).unwrap();
    wait_until("the import begins", || to.join("repair").exists());
    kill(child.id(), "TERM");
    finish(child).expect(128 + 15);
    assert_eq!(cat_all(&to), "");
    drop(input);
    import(&to, &bytes).expect(0);
    assert_eq!(cat_all(&to), cat_all(&scratch.buffer));
}

/// `-` names the standard streams, as with other programs; it makes no file of that name.
/// Regression: the error of a line out of order said "ids rise, and the record before has the id
/// 5", without the line and without advice.
#[test]
fn records_out_of_order_are_named_with_their_line() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 6));
    let exported = String::from_utf8(export(&scratch.buffer, &[], 0)).unwrap();
    let mut swapped: Vec<&str> = exported.lines().collect();
    swapped.swap(4, 5);
    let to = scratch.path("to");
    import(&to, (swapped.join("\n") + "\n").as_bytes())
        .expect(2)
        .says("line 6 of the export: a record with the id 4 cannot be added")
        .says("nothing was imported; put the records in the order of their ids");
    assert!(!to.join("buffer.db").exists());
}

#[test]
fn a_dash_is_a_standard_stream() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 5));
    let exported = export(&scratch.buffer, &[], 0);
    let mut command = scratch.forebay("export", &["--output", "-"]);
    command.current_dir(scratch.path(""));
    assert_eq!(run(command).expect(0).stdout, exported);
    assert!(!scratch.path("-").exists());
    let to = scratch.path("to");
    let mut command = forebay(["import", "--input", "-"]);
    command.arg(&to);
    run_with(command, &exported).expect(0);
    let text = String::from_utf8(export(&to, &["--scope", "all"], 0)).unwrap();
    assert_eq!(text.lines().count(), 7, "{text}");
    run(scratch.forebay("export", &["--output", "-", "--json"]))
        .expect(2)
        .says("give a file to --output");
    run(scratch.forebay("metrics", &["--output", "-", "--every", "1s"]))
        .expect(2)
        .says("give one to --output");
}

/// What a crash leaves at the end is no damage.
#[test]
fn what_a_crash_leaves_is_stepped_over_and_called_no_damage() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 5));
    let file = scratch.buffer.join("buffer-data-0.dat");
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_within(..20);
    fs::write(&file, bytes).unwrap();
    for command in ["cat", "export"] {
        let ran = run(scratch.forebay(command, &[])).expect(0);
        assert!(!ran.stderr.contains("damage"), "{ran:?}");
        ran.says("stepped over 1 span (20 B); nothing is lost");
    }
}

/// Regression: `--output` in a buffer's directory took the place of its files, and 100 records were
/// gone.
#[test]
fn no_file_is_written_into_a_buffer() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 5));
    fs::create_dir(scratch.buffer.join("quarantine")).unwrap();
    let before = snapshot(&scratch.buffer);
    for name in ["buffer-data-0.dat", "buffer.db", "new", "quarantine/new"] {
        let file = scratch.buffer.join(name);
        let file = file.to_str().unwrap();
        for command in [
            ["export", "--output"],
            ["metrics", "--output"],
            ["inspect", "--html"],
        ] {
            run(scratch.forebay(command[0], &[command[1], file]))
                .expect(2)
                .says("where nothing is written");
        }
        assert_eq!(snapshot(&scratch.buffer), before, "{name}");
    }
}

/// Regression: the file that an export was first written to had a name that can be known, and where
/// that was a link into the buffer, the export took the place of what it was to read.
#[cfg(unix)]
#[test]
fn an_export_follows_no_link_to_where_it_is_written_first() {
    use std::os::unix::fs::symlink;
    let scratch = Scratch::new();
    scratch.push(lines(1, 100));
    let before = snapshot(&scratch.buffer);
    let (out, data) = (
        scratch.path("out"),
        scratch.buffer.join("buffer-data-0.dat"),
    );
    symlink(&data, scratch.path("out.partial")).unwrap();
    let args = ["--output", out.to_str().unwrap()];
    run(scratch.forebay("export", &args)).expect(0);
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 102);
    let link = scratch.path("link");
    symlink(&data, &link).unwrap();
    let args = ["--output", link.to_str().unwrap()];
    run(scratch.forebay("export", &args))
        .expect(2)
        .says("where nothing is written");
    assert_eq!(snapshot(&scratch.buffer), before);
}

/// Regression: a pipe that a link such as `/dev/stdout` leads to was replaced by a file, and a file
/// that standard output was appended to lost what it had.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_written_to_as_they_are() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 5));
    let link = scratch.path("link");
    std::os::unix::fs::symlink("/proc/self/fd/1", &link).unwrap();
    let nowhere = scratch.path("nowhere");
    std::os::unix::fs::symlink(scratch.path("missing"), &nowhere).unwrap();
    for (command, option) in [
        ("export", "--output"),
        ("metrics", "--output"),
        ("inspect", "--html"),
    ] {
        for name in [link.to_str().unwrap(), "/dev/stdout"] {
            let ran = run(scratch.forebay(command, &[option, name])).expect(0);
            assert!(ran.stdout.len() > 200, "{command} {name}: {ran:?}");
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        run(scratch.forebay(command, &[option, "/dev/null"])).expect(0);
        run(scratch.forebay(command, &[option, nowhere.to_str().unwrap()]))
            .expect(2)
            .says("a link that leads nowhere");
        let kept = scratch.path("kept");
        fs::write(&kept, "before\n").unwrap();
        let appended = fs::File::options().append(true).open(&kept).unwrap();
        let mut child = scratch.forebay(command, &[option, "/dev/stdout"]);
        assert!(child.stdout(appended).status().unwrap().success());
        assert!(
            fs::read(&kept).unwrap().starts_with(b"before\n"),
            "{command}"
        );
    }
}
