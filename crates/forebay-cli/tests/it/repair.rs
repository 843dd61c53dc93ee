//! `forebay repair` and `forebay mend`.

use crate::full_disk::Mount;
use crate::moments::Moments;
use crate::support::{Scratch, copy, golden, kill, lines, run, snapshot};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;

/// A buffer of 200,000 lines in files of 512 KiB, of which two are damaged, and what it delivers.
fn damaged() -> (Scratch, String) {
    let scratch = Scratch::new();
    let push = scratch.forebay("push", &["--data-file-size", "512KiB"]);
    crate::support::run_with(push, lines(1, 200_000).as_bytes()).expect(0);
    let mut kept = lines(1, 200_000);
    for (file, id) in [(2, 2 * 10_922 + 1), (9, 9 * 10_922 + 1)] {
        let path = scratch.buffer.join(format!("buffer-data-{file}.dat"));
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] ^= 1;
        fs::write(&path, bytes).unwrap();
        kept = kept.replacen(&format!("\n{id}\n"), "\n", 1);
    }
    (scratch, kept)
}

#[test]
fn a_plan_says_what_is_kept_and_lost_and_changes_nothing() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    let before = snapshot(&scratch.buffer);
    let text = run(scratch.forebay("repair", &[])).expect(1).stdout_text();
    for said in [
        "buffer-data-0.dat is written anew, with 9 records",
        "to keep: 9 records with 9 events",
        "lost: 1 event, id 5",
        "nothing was changed; --apply does it",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let json = scratch.json("repair", 1);
    assert_eq!(json["missing"], json!([{"first_id": 5, "last_id": 5}]));
    assert_eq!(json["applied"], false);
    assert_eq!(snapshot(&scratch.buffer), before);
}

#[test]
fn a_repaired_buffer_is_clean_and_the_original_is_beside_the_report() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    let original = fs::read(scratch.buffer.join("buffer-data-0.dat")).unwrap();
    let text = run(scratch.forebay("repair", &["--apply"]))
        .expect(0)
        .stdout_text();
    assert!(
        text.contains("repaired; the original files and report.json are in"),
        "{text}"
    );
    let kept = scratch.buffer.join("repair/1");
    assert_eq!(fs::read(kept.join("buffer-data-0.dat")).unwrap(), original);
    let report = fs::read(kept.join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(
        (&report["records"], &report["events_lost"]),
        (&json!(9), &json!(1))
    );
    let text = run(scratch.forebay("verify", &[])).expect(0).stdout_text();
    assert!(
        text.contains("nothing is lost but 1 event that a repair has reported"),
        "{text}"
    );
    let text = run(scratch.forebay("repair", &[])).expect(0).stdout_text();
    assert!(text.contains("there is nothing to repair"), "{text}");
    // Regression: both said that nothing may be lost, because no byte is damaged any more.
    for command in ["cat", "pull"] {
        let ran = run(scratch.forebay(command, &[])).expect(1);
        assert_eq!(ran.stdout_text(), lines(1, 4) + &lines(6, 10));
        assert!(!ran.stderr.contains("--count-events"), "{ran:?}");
    }
}

#[test]
fn every_golden_buffer_is_repaired_to_a_clean_one() {
    for entry in fs::read_dir(golden("")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() || path.to_string_lossy().contains("multi") {
            continue;
        }
        let scratch = Scratch::new();
        copy(&path, &scratch.buffer);
        let name = path.display();
        let repaired = run(scratch.forebay("repair", &["--apply", "--json"])).expect(0);
        let json: Value = serde_json::from_slice(&repaired.stdout).unwrap();
        let verified = run(scratch.forebay("verify", &["--json"]));
        let needed = json["needed"].as_bool().unwrap();
        assert_eq!(json["applied"].as_bool().unwrap(), needed, "{name}");
        assert_eq!(
            verified.status,
            Some(0),
            "{name}: {}",
            verified.stdout_text()
        );
    }
}

/// SIGKILL at random moments: each time the next repair finishes, and nothing but what was
/// damaged is missing.
#[cfg(unix)]
#[test]
fn a_repair_that_is_killed_loses_nothing() {
    let (scratch, kept) = damaged();
    let mut moments = Moments::new();
    for round in 0..20 {
        let copied = Scratch::new();
        copy(&scratch.buffer, &copied.buffer);
        let args: &[&str] = match round % 2 {
            0 => &["--apply"],
            _ => &["--apply", "--in-place"],
        };
        let mut command = copied.forebay("repair", args);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        moments.pause(120);
        kill(child.id(), "KILL");
        child.wait().unwrap();
        if round % 4 < 2 {
            run(copied.forebay("repair", args)).expect(0);
            run(copied.forebay("verify", &[])).expect(0);
        }
        let pulled = run(copied.forebay("pull", &[])).expect(1).stdout_text();
        assert!(pulled == kept, "round {round}: {} bytes", pulled.len());
    }
}

#[test]
fn mending_cuts_off_what_a_crash_leaves() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let path = scratch.buffer.join("buffer-data-0.dat");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &[0; 4096]].concat()).unwrap();
    let text = run(scratch.forebay("mend", &[])).expect(0).stdout_text();
    assert!(text.contains("zero_tail"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), whole);
    let text = run(scratch.forebay("mend", &[])).expect(0).stdout_text();
    assert!(text.contains("nothing to mend"), "{text}");
    assert_eq!(scratch.pull(), lines(1, 10));
}

/// Regression: the error said "needs 2359136 bytes" beside the plan's "2.25 MiB", and with
/// `--in-place` only "free some space", although a move to another disk works.
#[test]
fn on_a_full_disk_a_repair_says_what_it_needs_and_what_works_instead() {
    let mut scratch = Scratch::new();
    let disk = scratch.path("disk");
    let Some(_mount) = Mount::tmpfs(&disk, "size=256k") else {
        return;
    };
    scratch.buffer = disk.join("buffer");
    scratch.push(lines(1, 10));
    scratch.damage_fifth_record();
    for (options, says) in [
        (&["--apply"][..], "see --in-place"),
        (&["--apply", "--in-place"], "with `forebay move "),
    ] {
        let ran = run(scratch.forebay("repair", options))
            .expect(2)
            .says("needs 256.")
            .says(" KiB are free; nothing was written; free some space")
            .says(says);
        assert!(!ran.stderr.contains(" bytes"), "{ran:?}");
    }
    let mut filler = fs::File::create(disk.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[b'x'; 4096]).is_ok() {}
    let mut command = scratch.forebay("move", &[]);
    command.arg(scratch.path("other"));
    run(command).expect(1).says("");
    let mut cat = crate::support::forebay(["cat"]);
    cat.arg(scratch.path("other"));
    assert_eq!(run(cat).stdout_text(), lines(1, 4) + &lines(6, 10));
}

/// Each command that changes a buffer finishes a repair that was interrupted, and those of repairs
/// say so.
#[test]
fn an_interrupted_repair_is_finished_by_what_comes_next() {
    let interrupted = || {
        let (scratch, _) = damaged();
        run(scratch.forebay("repair", &["--apply"])).expect(0);
        let repair = scratch.buffer.join("repair");
        fs::rename(repair.join("1/list"), repair.join("list.in")).unwrap();
        run(scratch.forebay("verify", &[]))
            .expect(2)
            .says("`forebay mend`");
        scratch
    };
    for command in ["mend", "repair"] {
        let options = match command {
            "repair" => vec!["--apply"],
            _ => vec![],
        };
        let scratch = interrupted();
        let text = run(scratch.forebay(command, &options))
            .expect(0)
            .stdout_text();
        assert!(text.contains("finished a repair"), "{text}");
        let text = run(scratch.forebay(command, &options))
            .expect(0)
            .stdout_text();
        assert!(!text.contains("finished"), "{text}");
        let scratch = interrupted();
        let json = [&options[..], &["--json"]].concat();
        let text = run(scratch.forebay(command, &json)).expect(0).stdout_text();
        assert!(text.contains("\"finished_interrupted\":true"), "{text}");
    }
    // Regression: the plan named only `mend`, although `repair --apply` finishes it as well.
    let scratch = interrupted();
    run(scratch.forebay("repair", &[]))
        .expect(2)
        .says("`forebay mend`")
        .says("--apply` finishes it as well");
    run(scratch.forebay("skip", &["--max", "1", "--discard", "--yes"]));
    run(scratch.forebay("verify", &[])).expect(0);
}
