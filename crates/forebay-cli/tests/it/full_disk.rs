//! Disks that are full, or have less free space than `--min-free-space`.

use crate::support::{Ran, Scratch, finish, kill, lines, read_line, run, run_with};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A file system in memory, unmounted when this is dropped.
pub(crate) struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    /// `None`, with a printed notice, where mounting is not allowed.
    pub(crate) fn tmpfs(at: &'a Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("SKIPPED: mounting a file system is not allowed here");
        }
        mounted.then_some(Self(at))
    }

    pub(crate) fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.0)
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Regression: records that the program had read stayed in the buffer in case it died, and
/// the file being written was never deleted. These alone filled the disk, so the pipe waited
/// for ever.
#[test]
fn a_pipe_passes_on_more_than_the_disk_holds() {
    let scratch = Scratch::new();
    let Some(_mount) = Mount::tmpfs(&scratch.buffer, "size=64k") else {
        return;
    };
    let input = lines(1, 5000);
    let ran = run_with(scratch.forebay("pipe", &["--", "cat"]), input.as_bytes())
        .expect(0)
        .says("waiting for space");
    assert_eq!(ran.stdout_text(), input);
}

/// Starts a push that waits, because `--min-free-space` exceeds what any disk has.
fn waiting_push(scratch: &Scratch, input: &str, options: &[&str]) -> (Child, ChildStdin) {
    let mut push = scratch
        .forebay("push", &["--min-free-space", "1000PiB"])
        .args(options)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = push.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    (push, stdin)
}

fn expect_waiting(push: &mut Child) {
    let said = read_line(push.stderr.as_mut().unwrap());
    assert!(
        said.contains("--min-free-space; waiting for space"),
        "{said}"
    );
}

/// Fills the file system at `disk` with a file, whose path it returns.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut filler = fs::File::create(&path).unwrap();
    while filler.write_all(&[b'x'; 4096]).is_ok() {}
    path
}

/// Regression: a full disk was waited for only if it had taken the buffer before.
#[test]
fn a_new_buffer_on_a_full_disk_waits_for_space_to_be_made() {
    for command in [&["push"][..], &["pipe", "--", "cat"]] {
        for is_freed in [true, false] {
            let mut scratch = Scratch::new();
            let disk = scratch.path("disk");
            let Some(_mount) = Mount::tmpfs(&disk, "size=256k") else {
                return;
            };
            scratch.buffer = disk.join("buffer");
            let filler = fill(&disk);
            let mut child = scratch
                .forebay(command[0], &command[1..])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(lines(1, 5).as_bytes()).unwrap();
            drop(stdin);
            expect_waiting(&mut child);
            if !is_freed {
                kill(child.id(), "TERM");
                finish(child).expect(143);
                continue;
            }
            fs::remove_file(filler).unwrap();
            let ran = finish(child).expect(0);
            assert_eq!(ran.stderr, "", "it is said once");
            assert_eq!(ran.stdout_text() + &scratch.pull(), lines(1, 5));
        }
    }
}

#[test]
fn a_new_buffer_on_a_full_disk_is_an_error_where_waiting_is_not_wanted() {
    for policy in ["reject", "drop-newest"] {
        let mut scratch = Scratch::new();
        let disk = scratch.path("disk");
        let Some(_mount) = Mount::tmpfs(&disk, "size=256k") else {
            return;
        };
        scratch.buffer = disk.join("buffer");
        fill(&disk);
        run_with(
            scratch.forebay("push", &["--when-full", policy]),
            b"a record\n",
        )
        .expect(2)
        .says("free some space");
    }
}

/// Regression: the push kept the buffer open for records that it had accepted and could not
/// write. So no other process could take records out, and no space was ever freed.
#[test]
fn a_push_that_waits_for_space_lets_others_open_the_buffer() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 3));
    for (first, is_open) in [(1, true), (4, false)] {
        // With an open input, the push is also waiting for more of it.
        let (mut push, stdin) = waiting_push(&scratch, &lines(4, 6), &[]);
        let stdin = is_open.then_some(stdin);
        expect_waiting(&mut push);
        let ran = run(scratch.forebay("pull", &["--wait", "1m"])).expect(0);
        assert_eq!(ran.stdout_text(), lines(first, 3));
        assert_eq!(push.try_wait().unwrap(), None);
        kill(push.id(), "KILL");
        finish(push);
        drop(stdin);
    }
}

/// Regression: with `--sync always` the append itself waited for ever, and neither a pull nor
/// a signal got through. `batch` is another name of `always`.
#[test]
fn a_push_that_always_syncs_waits_no_differently() {
    for always in ["always", "batch"] {
        let scratch = Scratch::new();
        let (mut push, stdin) = waiting_push(&scratch, &lines(1, 3), &["--sync", always]);
        expect_waiting(&mut push);
        run(scratch.forebay("pull", &["--wait", "1m"])).expect(0);
        kill(push.id(), "TERM");
        finish(push)
            .expect(143)
            .says("3 records read but not stored");
        drop(stdin);
    }
}

/// Regression: the push said that the records were "accepted but not stored", after another
/// message with other numbers, and ended with the status of an error.
#[test]
fn a_signal_ends_the_wait_for_space_and_says_what_is_not_stored() {
    for is_open in [true, false] {
        let scratch = Scratch::new();
        let (mut push, stdin) = waiting_push(&scratch, &lines(1, 5), &[]);
        let stdin = is_open.then_some(stdin);
        expect_waiting(&mut push);
        kill(push.id(), "TERM");
        finish(push)
            .expect(143)
            .says("5 records read but not stored");
        drop(stdin);
        assert_eq!(scratch.cat(), "");
    }
}

/// Regression: the pipe never closed its writer, on the assumption that closing would wait
/// for space.
#[test]
fn a_signal_ends_a_pipe_that_waits_for_space() {
    let scratch = Scratch::new();
    let mut pipe = scratch
        .forebay("pipe", &["--min-free-space", "1000PiB", "--", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = pipe.stdin.take().unwrap();
    stdin.write_all(lines(1, 5).as_bytes()).unwrap();
    drop(stdin);
    expect_waiting(&mut pipe);
    kill(pipe.id(), "TERM");
    let ran = finish(pipe)
        .expect(2)
        .says("5 more records accepted and perhaps not stored");
    assert!(ran.stdout.is_empty(), "{ran:?}");
    assert_eq!(scratch.cat(), "");
}

/// The number of records read and not stored, from the message "N records read but not
/// stored", or "N records and M bytes of an unfinished record read but …".
fn left_over(ran: &Ran) -> u64 {
    let said = ran.stderr.replace(',', "");
    let clauses = said.split(['\n', ':', ';']);
    let before = clauses
        .filter_map(|clause| clause.split_once("read but not stored"))
        .map(|(before, _)| before.split(" stored and synced").last().unwrap())
        .next();
    let number = before.and_then(|before| before.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{ran:?}"))
}

/// Regression: one `reject` run said that "nothing was accepted", that N records were stored
/// and that M were accepted but not stored; the numbers did not add up.
#[test]
fn a_full_disk_rejects_or_drops_and_says_exactly_what_it_has() {
    for policy in ["reject", "drop-newest"] {
        let scratch = Scratch::new();
        let Some(_mount) = Mount::tmpfs(&scratch.buffer, "size=1m") else {
            return;
        };
        let input = lines(1, 100_000);
        let options = ["--when-full", policy, "--data-file-size", "64KiB"];
        let ran = run_with(scratch.forebay("push", &options), input.as_bytes())
            .expect(2)
            .says("space left");
        assert!(!ran.stderr.contains("accepted"), "{ran:?}");
        let kept = scratch.cat();
        let count = kept.lines().count() as u64;
        assert!(count > 1000, "{count}");
        assert_eq!(kept, lines(1, count));
        let said = ran.stderr.replace(',', "");
        assert!(
            said.contains(&format!("{count} records stored and synced")),
            "{said}"
        );
        assert!(left_over(&ran) > 0);
        if policy == "drop-newest" {
            let dropped = 100_000 - count - left_over(&ran);
            assert!(
                said.contains(&format!("dropped {dropped} records")),
                "{said}"
            );
        }
        assert_eq!(scratch.pull(), lines(1, count));
        scratch.push(lines(1, 10));
        assert_eq!(scratch.pull(), lines(1, 10));
    }
}

/// Regression: the push kept the buffer open while it waited for space, and the pull that
/// would have freed space waited for the buffer.
#[test]
fn a_push_into_a_full_disk_goes_on_as_pulls_make_space() {
    let scratch = Scratch::new();
    let Some(_mount) = Mount::tmpfs(&scratch.buffer, "size=1m") else {
        return;
    };
    // Several times what the disk holds.
    let input = lines(1, 100_000);
    let mut push = scratch
        .forebay("push", &["--data-file-size", "64KiB"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = push.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || stdin.write_all(lines(1, 100_000).as_bytes()));
    expect_waiting(&mut push);
    let mut pulled = String::new();
    while pulled.len() < input.len() {
        let ran = run(scratch.forebay("pull", &["--wait", "1m"])).expect(0);
        pulled.push_str(&ran.stdout_text());
    }
    feeding.join().unwrap().unwrap();
    finish(push).expect(0);
    assert!(pulled == input, "{} bytes", pulled.len());
}
