//! `forebay pipe --max-attempts --dead-letters`: records that a program fails on.

use crate::moments::Moments;
use crate::pipe::{pipe, pipe_at_once, read};
use crate::support::{Ran, Scratch, copy, finish, forebay, golden, kill, lines, run, run_with};
use crate::support::{snapshot, wait_until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Child, ChildStdin, Command, Stdio};

/// `forebay pipe` with three attempts a record, and dead letters next to the buffer.
fn careful_pipe(scratch: &Scratch, options: &[&str], script: &str) -> Command {
    let dead = scratch.path("dead");
    let mut all = vec![
        "--max-attempts",
        "3",
        "--dead-letters",
        dead.to_str().unwrap(),
    ];
    all.extend(options);
    pipe_at_once(scratch, &all, script)
}

/// `forebay COMMAND` on the dead letters.
fn on_dead(scratch: &Scratch, command: &str, options: &[&str]) -> Command {
    let mut built = forebay([command]);
    built.arg(scratch.path("dead")).args(options);
    built
}

/// The records in the dead letters.
#[track_caller]
fn letters(scratch: &Scratch) -> Vec<Value> {
    let ran = run(on_dead(scratch, "cat", &[])).expect(0);
    let text = ran.stdout_text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The numbers from 1 to `to` except those in `without`.
fn lines_without(to: u64, without: &[u64]) -> String {
    (1..=to)
        .filter(|n| !without.contains(n))
        .map(|n| format!("{n}\n"))
        .collect()
}

/// The lines of a text without repetitions, each where it comes first.
fn first_occurrences(text: &str) -> String {
    let mut seen = BTreeSet::new();
    text.split_inclusive('\n')
        .filter(|line| seen.insert(*line))
        .collect()
}

/// `awk` reads ahead, so several records are suspected; fails on multiples of 150.
const READS_AHEAD: &str = "
    cd \"$0\"; echo >> starts
    exec awk '$0 % 150 == 0 { exit 7 } { print >> \"got\" }'";

/// Reads line by line and acknowledges each; is killed on multiples of 150.
const ACKNOWLEDGES: &str = "
    cd \"$0\"; echo >> starts
    while read -r line; do
        [ $((line % 150)) = 0 ] && kill -9 $$
        echo $line >> got
        echo >&3
    done";

#[test]
fn a_record_that_always_fails_is_set_aside_and_all_others_come_through() {
    for (options, script, status, signal) in [
        (&[][..], READS_AHEAD, Value::from(7), Value::Null),
        (&["--ack"], ACKNOWLEDGES, Value::Null, Value::from(9)),
    ] {
        let scratch = Scratch::new();
        let ran = run_with(
            careful_pipe(&scratch, options, script),
            lines(1, 310).as_bytes(),
        )
        .expect(1)
        .says("with record 150 alone, on which it has failed 2 of 3 times")
        .says("record 300 is set aside in");
        assert!(!ran.stderr.contains("record 149 alone, on"), "{ran:?}");
        let got = read(&scratch, "got");
        assert_eq!(first_occurrences(&got), lines_without(310, &[150, 300]));
        if !options.is_empty() {
            assert_eq!(got, lines_without(310, &[150, 300]));
        }
        let letters = letters(&scratch);
        for (letter, id) in letters.iter().zip([150, 300]) {
            assert_eq!(letter["id"], id);
            assert_eq!(letter["attempts"], 3);
            assert_eq!(letter["exit_status"], status);
            assert_eq!(letter["signal"], signal);
            assert_eq!(letter["metadata"], 0);
            assert_eq!(letter["payload"], id.to_string());
            let time: &str = letter["time"].as_str().unwrap();
            assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
        }
        assert_eq!(letters.len(), 2);
        assert_eq!(scratch.pull(), "");
    }
}

#[test]
fn a_record_that_passes_in_the_end_is_not_set_aside() {
    let scratch = Scratch::new();
    // It fails the first two times it comes to record 5.
    let script = "
        cd \"$0\"
        exec awk '
            $0 == 5 && (getline < \"two\") <= 0 {
                print > ((getline < \"one\") > 0 ? \"two\" : \"one\"); exit 7
            }
            { print >> \"got\" }'";
    let ran = run_with(careful_pipe(&scratch, &[], script), lines(1, 9).as_bytes()).expect(0);
    assert!(!ran.stderr.contains("set aside"), "{ran:?}");
    assert_eq!(first_occurrences(&read(&scratch, "got")), lines(1, 9));
    assert!(letters(&scratch).is_empty());
}

#[test]
fn what_was_set_aside_can_be_put_back_after_a_fix() {
    let scratch = Scratch::new();
    run_with(
        careful_pipe(&scratch, &[], READS_AHEAD),
        lines(1, 160).as_bytes(),
    )
    .expect(1);
    let payloads: String = letters(&scratch)
        .iter()
        .map(|letter| format!("{}\n", letter["payload"].as_str().unwrap()))
        .collect();
    scratch.push(payloads);
    let ran = run(careful_pipe(&scratch, &[], "cat")).expect(0);
    assert_eq!(ran.stdout_text(), "150\n");
}

#[test]
fn payloads_that_are_not_text_are_base64() {
    let scratch = Scratch::new();
    let options = ["--framing", "length"];
    let input = b"\0\0\0\x03a\n\xff\0\0\0\x02ok";
    let script = "cat > \"$0/one\"; ! grep -q a \"$0/one\"";
    run_with(careful_pipe(&scratch, &options, script), input).expect(1);
    let letters = letters(&scratch);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["payload_base64"], "YQr/");
    assert_eq!(letters[0].get("payload"), None);
}

/// A start that reads nothing counts as an attempt on no record. Otherwise a program that
/// is broken for a while would have every record set aside.
#[test]
fn a_program_that_fails_before_it_reads_sets_nothing_aside() {
    let scratch = Scratch::new();
    let script = "
        cd \"$0\"; echo >> starts
        [ $(wc -l < starts) -lt 8 ] && exit 9
        cat > got";
    let ran = run_with(careful_pipe(&scratch, &[], script), lines(1, 9).as_bytes()).expect(0);
    assert!(!ran.stderr.contains("alone"), "{ran:?}");
    assert_eq!(read(&scratch, "got"), lines(1, 9));
}

#[test]
fn restarts_in_a_row_limit_what_is_set_aside() {
    let scratch = Scratch::new();
    let options = ["--max-restarts", "7"];
    run_with(
        careful_pipe(&scratch, &options, "cat > /dev/null; exit 9"),
        lines(1, 100).as_bytes(),
    )
    .expect(9)
    .says("after 7 restarts in a row");
    // The first failure makes all records suspects. The next six are three attempts on each
    // of the first two records.
    assert_eq!(letters(&scratch).len(), 2);
    assert_eq!(scratch.pull(), lines(3, 100));
}

/// Regression: restarts counted as restarts in a row, and the delay doubled, although
/// records were acknowledged in between.
#[test]
fn acknowledged_records_begin_the_restarts_in_a_row_afresh() {
    let scratch = Scratch::new();
    // For each bad record one failure that has acknowledged others, and three attempts.
    let options = ["--ack", "--max-restarts", "4"];
    let script = "while read -r l; do case $l in *7) exit 9;; esac; echo >&3; done";
    run_with(
        careful_pipe(&scratch, &options, script),
        lines(1, 60).as_bytes(),
    )
    .expect(1);
    let ids: Vec<_> = letters(&scratch).iter().map(|l| l["id"].clone()).collect();
    assert_eq!(ids, [7, 17, 27, 37, 47, 57]);
    assert_eq!(scratch.pull(), "");
}

#[test]
fn with_acknowledgements_a_record_is_an_attempt_that_success_does_not_acknowledge() {
    let scratch = Scratch::new();
    // It does not acknowledge record 5 and dies on the next one. With record 5 alone it ends
    // with status 0.
    let script = "
        cd \"$0\"
        while read -r line; do
            [ $line = 5 ] && { read -r next && kill -9 $$; exit 0; }
            echo >&3
        done";
    run_with(
        careful_pipe(&scratch, &["--ack"], script),
        lines(1, 9).as_bytes(),
    )
    .expect(1);
    let letters = letters(&scratch);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["id"], 5);
    assert_eq!(letters[0]["exit_status"], 0);
}

#[test]
fn without_a_maximum_of_attempts_the_suspects_are_named() {
    for (script, says) in [
        (
            "read line; kill -9 $$",
            "took nothing, and may have failed on record 1 (--max-attempts",
        ),
        (
            "head -n 3 > /dev/null; kill -9 $$",
            "took nothing, and may have failed on one of the records 1 to 10",
        ),
    ] {
        let scratch = Scratch::new();
        scratch.push(lines(1, 10));
        let ran = run(pipe(&scratch, &["--max-restarts", "1"], script)).says(says);
        assert_ne!(ran.status, Some(0));
        assert_eq!(scratch.pull(), lines(1, 10));
    }
}

#[test]
fn options_that_cannot_work_are_refused_before_anything_is_read() {
    let scratch = Scratch::new();
    let buffer = scratch.buffer.to_str().unwrap();
    let link = scratch.path("link");
    symlink(buffer, &link).unwrap();
    let dead = scratch.path("dead");
    let (link, dead) = (link.to_str().unwrap(), dead.to_str().unwrap());
    for (options, says) in [
        (&["--max-attempts", "3"][..], "--dead-letters"),
        (&["--dead-letters", dead], "--max-attempts"),
        (
            &["--max-attempts", "0", "--dead-letters", dead],
            "at least 1",
        ),
        (
            &["--max-attempts", "3", "--dead-letters", buffer],
            "is the buffer itself",
        ),
        (
            &["--max-attempts", "3", "--dead-letters", link],
            "is the buffer itself",
        ),
        (
            &[
                "--max-attempts",
                "3",
                "--dead-letters",
                dead,
                "--redeliver",
                "0",
            ],
            "leave --redeliver out",
        ),
    ] {
        let input = fs::File::open("/dev/null").unwrap();
        let mut command = pipe(&scratch, options, "touch \"$0/started\"");
        command.stdin(input);
        run(command).expect(2).says(says);
        assert!(!scratch.path("started").exists(), "{options:?}");
    }
}

/// A `push` into the dead letters that keeps them open.
fn hold(scratch: &Scratch) -> (Child, ChildStdin) {
    let mut push = on_dead(scratch, "push", &[])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = push.stdin.take().unwrap();
    wait_until("the dead letters are held", || {
        let ran = run(on_dead(scratch, "inspect", &["--quick", "--json"]));
        serde_json::from_slice::<Value>(&ran.stdout).is_ok_and(|json| json["locked"] == true)
    });
    (push, stdin)
}

#[test]
fn dead_letters_that_are_open_elsewhere_are_an_error_at_the_start() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 10));
    let (push, stdin) = hold(&scratch);
    run(careful_pipe(&scratch, &[], "touch \"$0/started\""))
        .expect(2)
        .says("--wait 1m waits for it");
    assert!(!scratch.path("started").exists());
    drop(stdin);
    finish(push).expect(0);
    assert_eq!(scratch.pull(), lines(1, 10));
}

#[test]
fn dead_letters_that_are_open_elsewhere_for_a_while_are_waited_for() {
    let scratch = Scratch::new();
    let script = "
        cd \"$0\"; read line; echo >> failures
        while [ ! -e go ]; do sleep 0.01; done
        [ $line = 1 ] && exit 7
        cat > rest";
    let mut child = careful_pipe(&scratch, &[], script)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"1\n2\n3\n").unwrap();
    drop(stdin);
    wait_until("the program starts", || scratch.path("failures").exists());
    let (push, held) = hold(&scratch);
    fs::write(scratch.path("go"), "").unwrap();
    wait_until("the attempts are used up", || {
        read(&scratch, "failures").lines().count() >= 3
    });
    // The pipe is about to store the record. Whether it tries before or after the dead
    // letters are closed, the result is the same.
    std::thread::sleep(std::time::Duration::from_millis(300));
    drop(held);
    finish(push).expect(0);
    finish(child).expect(1).says("record 1 is set aside");
    assert_eq!(letters(&scratch).len(), 1);
    assert_eq!(read(&scratch, "rest"), "3\n");
}

#[test]
fn full_dead_letters_end_the_pipe_and_nothing_is_lost() {
    let scratch = Scratch::new();
    let size = "8KiB";
    let options = ["--max-size", size, "--when-full", "drop-newest"];
    let letter = json!({
        "id": 1, "attempts": 3, "exit_status": 1, "signal": null, "time": "1970-01-01T00:00:00Z",
        "metadata": 0, "payload": "set aside before",
    });
    let many = format!("{letter}\n").repeat(1000);
    run_with(on_dead(&scratch, "push", &options), many.as_bytes()).expect(1);
    let careful = |input: &str| -> Ran {
        let options = ["--dead-letters-max-size", size];
        run_with(
            careful_pipe(&scratch, &options, READS_AHEAD),
            input.as_bytes(),
        )
    };
    careful(&lines(1, 160))
        .expect(2)
        .says("take records out of the dead letters with `forebay pull")
        .says("raise --dead-letters-max-size")
        .says("record 150, on which CMD fails, stays in its buffer");
    assert_eq!(scratch.cat(), lines(150, 160));
    run(on_dead(&scratch, "pull", &[])).expect(0);
    careful("").expect(1).says("record 150 is set aside");
    assert_eq!(letters(&scratch).len(), 1);
    assert_eq!(
        first_occurrences(&read(&scratch, "got")),
        lines_without(160, &[150])
    );
    assert_eq!(scratch.pull(), "");
}

/// At whatever moment `forebay` is killed, each record is done or set aside. A record may be
/// set aside twice if the kill comes between its sync in the dead letters and the sync of its
/// acknowledgement.
#[test]
fn a_pipe_that_is_killed_while_it_sets_records_aside_loses_none() {
    const TOTAL: u64 = 600;
    let mut moments = Moments::new();
    for (options, script) in [(&[][..], READS_AHEAD), (&["--ack"], ACKNOWLEDGES)] {
        let scratch = Scratch::new();
        scratch.push(lines(1, TOTAL));
        let mut kills = 0_u64;
        loop {
            let mut child = careful_pipe(&scratch, options, script).spawn().unwrap();
            moments.pause(150);
            let ended = child.try_wait().unwrap().is_some();
            if !ended {
                kill(child.id(), "KILL");
                kills += 1;
            }
            // The program has inherited the outputs, so they reach their end only when it
            // has ended.
            let ran = finish(child);
            // After 40 kills a last run is not killed.
            if ended || kills >= 40 {
                if !ended {
                    // Status 0: nothing was left to set aside.
                    let last = run(careful_pipe(&scratch, options, script));
                    assert!(matches!(last.status, Some(0 | 1)), "{last:?}");
                }
                assert!(ran.status != Some(2), "{ran:?}");
                break;
            }
        }
        let mut times = BTreeMap::new();
        for letter in letters(&scratch) {
            let id = letter["id"].as_u64().unwrap();
            assert_eq!(letter["payload"], id.to_string());
            assert_eq!(letter["attempts"], 3);
            *times.entry(id).or_insert(0) += 1;
        }
        let bad: Vec<u64> = (1..=TOTAL).filter(|n| n % 150 == 0).collect();
        assert_eq!(times.keys().copied().collect::<Vec<_>>(), bad);
        let repeated: u64 = times.values().map(|n| n - 1).sum();
        assert!(repeated <= kills, "{times:?}");
        let got = read(&scratch, "got");
        let did: BTreeSet<u64> = got.lines().map(|line| line.parse().unwrap()).collect();
        let good: BTreeSet<u64> = (1..=TOTAL).filter(|n| n % 150 != 0).collect();
        assert!(did == good, "{:?}", good.difference(&did));
        assert_eq!(scratch.pull(), "");
    }
}

/// Regression: letters went to a buffer of Vector's, which Vector would not have opened again, and
/// to one of plain records, at which `redrive` stops.
#[test]
fn a_buffer_of_other_records_takes_no_dead_letters() {
    let scratch = Scratch::new();
    scratch.push(lines(1, 5));
    let dead = scratch.path("dead");
    for of_vector in [true, false] {
        match of_vector {
            true => copy(&golden("vector-events"), &dead),
            false => {
                fs::remove_dir_all(&dead).unwrap();
                run_with(on_dead(&scratch, "push", &[]), b"plain\n").expect(0);
            }
        }
        let before = snapshot(&dead);
        let refuses = |command: Command| {
            run(command).expect(2).says("is no place for dead letters");
            assert_eq!(snapshot(&dead), before);
        };
        refuses(careful_pipe(&scratch, &[], "exit 1"));
        let to = ["--dead-letters", dead.to_str().unwrap()];
        let options = [&["--max-attempts", "1"], &to[..], &["--", "false"]].concat();
        refuses(scratch.forebay("drain", &options));
        let options = ["--max", "1", "--yes", "--to", to[1]];
        refuses(scratch.forebay("skip", &options));
        assert_eq!(scratch.cat(), lines(1, 5));
    }
}
