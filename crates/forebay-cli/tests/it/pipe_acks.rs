//! `forebay pipe --ack`: programs that acknowledge each record.

use crate::kill::run_and_kill;
use crate::moments::Moments;
use crate::numbered::line_number;
use crate::pipe::{pipe, pipe_at_once, read};
use crate::support::{Scratch, finish, kill, lines, run, run_with, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// Appends each line to `rest` and acknowledges it.
const TAKE: &str = "while read -r line; do echo \"$line\" >> rest; echo >&3; done";

#[test]
fn what_is_acknowledged_does_not_come_again_whatever_redeliver_says() {
    for redeliver in ["0", "64KiB", "64MiB"] {
        let scratch = Scratch::new();
        scratch.push(lines(1, 100));
        // The first start has read all lines when it dies.
        let script = format!(
            "cd \"$0\"
            [ -e died ] && {{ {TAKE}; exit; }}
            dd bs=4096 count=1 of=died 2> /dev/null
            echo >&3; echo any text >&3; printf 'no newline' >&3
            kill -9 $$"
        );
        let options = ["--ack", "--redeliver", redeliver];
        run(pipe(&scratch, &options, &script))
            .expect(0)
            .says("killed by signal 9; starting it again");
        assert_eq!(read(&scratch, "died"), lines(1, 100));
        assert_eq!(read(&scratch, "rest"), lines(3, 100));
        assert_eq!(scratch.pull(), "");
    }
}

#[test]
fn what_was_read_and_not_acknowledged_comes_again() {
    let scratch = Scratch::new();
    // The first start reads all input, acknowledges one record, and fails.
    let script = format!(
        "cd \"$0\"
        [ -e died ] && {{ {TAKE}; exit; }}
        cat > /dev/null; echo >&3; touch died; exit 4"
    );
    let options = ["--ack", "--redeliver", "0"];
    run_with(pipe(&scratch, &options, &script), lines(1, 10).as_bytes())
        .expect(0)
        .says("ended with status 4; starting it again");
    assert_eq!(read(&scratch, "rest"), lines(2, 10));
}

#[test]
fn the_next_run_goes_on_after_the_last_acknowledgement() {
    let scratch = Scratch::new();
    let script = "read a; read b; echo >&3; echo >&3";
    run_with(pipe(&scratch, &["--ack"], script), lines(1, 10).as_bytes())
        .expect(0)
        .says("ended before its input did");
    assert_eq!(scratch.cat(), lines(3, 10));
    let script = format!("cd \"$0\"; {TAKE}; exit 6");
    // If every record is acknowledged, `pipe` ends with the program's status.
    run(pipe(&scratch, &["--ack"], &script)).expect(6);
    assert_eq!(read(&scratch, "rest"), lines(3, 10));
    assert_eq!(scratch.pull(), "");
}

#[test]
fn acknowledgements_may_come_from_standard_output() {
    let scratch = Scratch::new();
    let script = "while read -r line; do echo $line >> \"$0/rest\"; echo \"did $line\"; done";
    let ran = run_with(
        pipe(&scratch, &["--ack=stdout"], script),
        lines(1, 1000).as_bytes(),
    )
    .expect(0);
    assert_eq!(ran.stdout_text(), "");
    assert_eq!(read(&scratch, "rest"), lines(1, 1000));
    assert_eq!(scratch.pull(), "");
}

/// Lines on the program's standard output are then no acknowledgements.
#[test]
fn standard_output_goes_through_when_descriptor_3_acknowledges() {
    let scratch = Scratch::new();
    let script = "while read -r line; do echo $line; echo >&3; done";
    let ran = run_with(pipe(&scratch, &["--ack"], script), lines(1, 5).as_bytes()).expect(0);
    assert_eq!(ran.stdout_text(), lines(1, 5));
}

#[test]
fn records_left_unacknowledged_are_told_and_stay() {
    let scratch = Scratch::new();
    let script = "for i in 1 2 3; do read line; echo >&3; done; cat > /dev/null";
    run_with(pipe(&scratch, &["--ack"], script), lines(1, 10).as_bytes())
        .expect(1)
        .says("had not acknowledged 7 records that it had read, from record 4 on");
    assert_eq!(scratch.pull(), lines(4, 10));
}

#[test]
fn more_lines_than_records_are_an_error_that_names_the_line() {
    let scratch = Scratch::new();
    // `read` takes no byte after its line.
    let script = "read a; read b; echo >&3; echo >&3; echo >&3; exec sleep 100";
    run_with(
        pipe(&scratch, &["--ack", "--grace", "50ms"], script),
        lines(1, 10).as_bytes(),
    )
    .expect(2)
    .says("line 3 on descriptor 3 came when it had read 2 records");
    assert_eq!(scratch.pull(), lines(3, 10));
}

#[test]
fn a_program_that_closes_descriptor_3_gets_no_more_and_that_is_told() {
    let scratch = Scratch::new();
    let script = "read a; echo >&3; exec 3>&-; cat > /dev/null";
    // The input stays open: the pipe must not wait for its end.
    let mut child = pipe(&scratch, &["--ack"], script)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(1, 10).as_bytes()).unwrap();
    finish(child)
        .expect(1)
        .says("has closed descriptor 3 and can acknowledge nothing more")
        .says("stays in");
    drop(stdin);
    let rest = scratch.pull();
    assert!(rest.starts_with("2\n"), "{rest}");
}

#[test]
fn a_descriptor_3_that_is_in_use_is_an_error() {
    let scratch = Scratch::new();
    let built = pipe(&scratch, &["--ack"], "cat");
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" \"$@\" 3< /dev/null"])
        .arg(built.get_program())
        .args(built.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    run(command)
        .expect(2)
        .says("start this program with `3>&-`");
    assert!(!scratch.buffer.exists());
}

#[test]
fn acknowledgements_make_room_in_a_buffer_that_is_smaller_than_the_input() {
    let scratch = Scratch::new();
    let options = ["--ack", "--max-size", "64KiB"];
    let script = format!("cd \"$0\"; {TAKE}");
    run_with(
        pipe(&scratch, &options, &script),
        lines(1, 20_000).as_bytes(),
    )
    .expect(0);
    assert!(read(&scratch, "rest") == lines(1, 20_000));
}

#[test]
fn a_signal_leaves_what_is_not_acknowledged() {
    let scratch = Scratch::new();
    let script = "
        cd \"$0\"
        for i in 1 2 3; do read line; echo >&3; done
        read line; touch up; exec sleep 100";
    let mut child = pipe(&scratch, &["--ack", "--grace", "50ms"], script)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(1, 10).as_bytes()).unwrap();
    wait_until("three lines are acknowledged", || {
        scratch.path("up").exists()
    });
    kill(child.id(), "TERM");
    finish(child).expect(143);
    drop(stdin);
    let rest = scratch.pull();
    assert_eq!(rest, lines(4, 3 + rest.lines().count() as u64));
}

/// A line `N WAY` for each start of a program: it dies at its Nth line, before doing it,
/// between doing and acknowledging it, or after acknowledging it.
fn deaths(moments: &mut Moments, starts: u64, lines_max: u64) -> String {
    (0..starts)
        .map(|_| {
            let way = ["before", "between", "after"][moments.below(3) as usize];
            format!("{} {way}\n", 1 + moments.below(lines_max))
        })
        .collect()
}

#[test]
fn programs_that_die_at_random_do_every_record_and_none_again_that_is_acknowledged() {
    const TOTAL: u64 = 3000;
    let mut moments = Moments::new();
    let scratch = Scratch::new();
    let deaths = deaths(&mut moments, 40, TOTAL / 20);
    fs::write(scratch.path("deaths"), &deaths).unwrap();
    let script = "
        cd \"$0\"
        echo >> starts
        set -- $(sed -n \"$(wc -l < starts)p\" deaths)
        left=${1:-0}
        while read -r line; do
            left=$((left - 1))
            [ $left$2 = 0before ] && kill -9 $$
            echo $line >> did
            [ $left$2 = 0between ] && exit 5
            echo >&3
            echo $line >> acknowledged
            [ $left$2 = 0after ] && kill -9 $$
        done
        exit 0";
    let options = ["--ack", "--redeliver", "1MiB"];
    run_with(
        pipe_at_once(&scratch, &options, script),
        lines(1, TOTAL).as_bytes(),
    )
    .expect(0);
    assert_eq!(read(&scratch, "acknowledged"), lines(1, TOTAL));
    let starts = read(&scratch, "starts").lines().count();
    assert!(starts > 10, "{starts}");
    let repeated = deaths
        .lines()
        .take(starts - 1)
        .filter(|death| death.ends_with("between"))
        .count();
    let did = read(&scratch, "did");
    assert_eq!(did.lines().count() as u64, TOTAL + repeated as u64);
    let mut next = 1;
    for line in did.lines() {
        let number: u64 = line.parse().unwrap();
        assert!(
            number == next || number + 1 == next,
            "{number} after {next}"
        );
        next = number + 1;
    }
    assert_eq!(scratch.pull(), "");
}

#[test]
fn programs_that_die_at_random_and_do_not_acknowledge_get_every_record_in_order() {
    const TOTAL: u64 = 30_000;
    let mut moments = Moments::new();
    let scratch = Scratch::new();
    fs::write(
        scratch.path("deaths"),
        deaths(&mut moments, 25, TOTAL / 2).replace("between", "before"),
    )
    .unwrap();
    // `awk` reads ahead.
    let script = "
        cd \"$0\"
        echo start >> starts
        set -- $(sed -n \"$(wc -l < starts)p\" deaths)
        exec awk -v left=${1:-0} -v way=$2 -v start=$(wc -l < starts) '
            { left-- }
            left == 0 && way == \"before\" { exit 5 }
            { print start, $0 >> \"did\" }
            left == 0 { fflush(); system(\"kill -9 $PPID\") }'";
    run_with(
        pipe_at_once(&scratch, &[], script),
        lines(1, TOTAL).as_bytes(),
    )
    .expect(0);
    assert!(read(&scratch, "starts").lines().count() > 5);
    let (mut start, mut next) = (String::new(), 1);
    for line in read(&scratch, "did").lines() {
        let (in_start, number) = line.split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        match in_start == start {
            true => assert_eq!(number, next, "in start {start}"),
            // Records that were not taken come again; none is left out.
            false => assert!(number <= next, "start {in_start}: {number} after {next}"),
        }
        start = in_start.to_owned();
        next = number + 1;
    }
    assert_eq!(next, TOTAL + 1);
    assert_eq!(scratch.pull(), "");
}

#[test]
fn a_killed_pipe_repeats_nothing_whose_acknowledgement_it_has_read() {
    let mut moments = Moments::new();
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let script = "while IFS= read -r line; do echo \"$line\" >> \"$0\"; echo >&3; done";
    let (mut next, mut last, mut seen) = (1, 0, 0);
    let mut promised_numbers = Vec::new();
    for round in 0..40 {
        // What is acknowledged is not delivered again.
        let first_unread = match scratch.buffer.join("buffer.db").exists() {
            true => run(scratch.forebay("cat", &["--max", "1"])).stdout_text(),
            false => String::new(),
        };
        let mut expected_first = first_unread.lines().next().map(line_number);
        let options = ["--ack", "--report-synced", "--flush-interval", "2ms"];
        let command = scratch.forebay("pipe", &options);
        let killed = run_and_kill(command, script, &out, next, || moments.pause(80));
        next = killed.next;
        promised_numbers.extend(killed.first..killed.first + killed.promised);

        let written = fs::read_to_string(&out).unwrap_or_default();
        for line in written[seen..].lines() {
            let number = line_number(line);
            if let Some(first) = expected_first.take() {
                assert_eq!(number, first, "round {round} begins elsewhere");
                last = number - 1;
            }
            // Lines that a killed pipe had read and not stored are missing.
            assert!(number > last, "round {round}: {number} after {last}");
            last = number;
        }
        seen = written.len();
    }
    let mut command = scratch.forebay("pipe", &["--ack"]);
    command.args(["--", "sh", "-c", script]).arg(&out);
    finish(command.spawn().unwrap()).expect(0);
    let written = fs::read_to_string(&out).unwrap();
    let delivered: BTreeSet<u64> = written.lines().map(line_number).collect();
    for number in promised_numbers {
        assert!(delivered.contains(&number), "{number} is lost");
    }
}
