//! Runs the program and reads what it leaves on disk.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A wait longer than this counts as hanging; no wait is expected to come near it.
const HANG: Duration = Duration::from_secs(120);

/// The program with arguments, its standard input empty.
pub(crate) fn forebay<I, S>(args: I) -> Command
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = program();
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("NO_COLOR", "1");
    command
}

/// The program with default signal handling. It keeps ignoring signals that were ignored
/// when it started: under `nohup`, or in the background of a script, those are the signals
/// that these tests send.
fn program() -> Command {
    let program = env!("CARGO_BIN_EXE_forebay");
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP, SIGINT and SIGTERM.
    let sent = 1 << 0 | 1 << 1 | 1 << 14;
    if ignored.is_none_or(|mask| mask & sent == 0) {
        return Command::new(program);
    }
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,TERM", program]);
    command
}

/// Waits until a child that may begin as `env` (see [`program`]) is the program: before that it may
/// ignore signals.
pub(crate) fn wait_for_program(child: &Child) {
    let name = format!("/proc/{}/comm", child.id());
    if !Path::new("/proc/self/comm").exists() {
        return;
    }
    wait_until("the program", || {
        fs::read_to_string(&name).is_ok_and(|comm| comm == "forebay\n")
    });
}

/// The result of a finished run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts the exit status.
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:?}");
        self
    }

    /// Asserts that standard error contains a text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in {self:?}");
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs to the end with `input` on standard input.
#[track_caller]
pub(crate) fn run_with(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("a piped standard input");
    let input = input.to_vec();
    // A program that does not read to the end closes the pipe.
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let ran = finish(child);
    feeding.join().expect("feeding does not panic");
    ran
}

/// Runs to the end.
#[track_caller]
pub(crate) fn run(mut command: Command) -> Ran {
    finish(command.spawn().expect("the program starts"))
}

/// Waits for the end of a program. After [`HANG`] it kills the program and panics.
#[track_caller]
pub(crate) fn finish(child: Child) -> Ran {
    let pid = child.id();
    let (ended, waiting) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = ended.send(());
        output
    });
    if waiting.recv_timeout(HANG).is_err() {
        kill(pid, "KILL");
        panic!("the program hangs: {:?}", waiter.join());
    }
    let output = waiter.join().expect("waiting does not panic");
    output.expect("the program can be waited for").into()
}

/// Sends a signal.
pub(crate) fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status();
    assert!(status.is_ok_and(|s| s.success()), "kill -{signal} {pid}");
}

/// A directory that is deleted at the end of the test, and a path in it for a buffer that
/// does not exist yet.
pub(crate) struct Scratch {
    pub(crate) root: tempfile::TempDir,
    pub(crate) buffer: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let buffer = root.path().join("buffer");
        Self { root, buffer }
    }

    /// A path next to the buffer.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// `forebay COMMAND BUFFER ARGS…`
    pub(crate) fn forebay(&self, command: &str, args: &[&str]) -> Command {
        let mut built = forebay([command]);
        built.arg(&self.buffer).args(args);
        built
    }

    /// Damages the payload of the fifth record, if each record is a short line: a frame of
    /// 48 bytes.
    pub(crate) fn damage_fifth_record(&self) {
        let path = self.buffer.join("buffer-data-0.dat");
        let mut bytes = fs::read(&path).unwrap();
        bytes[4 * 48 + 8] ^= 1;
        fs::write(&path, bytes).unwrap();
    }

    /// Stores lines; panics if that fails.
    #[track_caller]
    pub(crate) fn push(&self, input: impl AsRef<[u8]>) {
        run_with(self.forebay("push", &[]), input.as_ref()).expect(0);
    }

    /// Takes everything out; panics if that fails.
    #[track_caller]
    pub(crate) fn pull(&self) -> String {
        run(self.forebay("pull", &[])).expect(0).stdout_text()
    }

    /// What a reader would get.
    #[track_caller]
    pub(crate) fn cat(&self) -> String {
        run(self.forebay("cat", &[])).expect(0).stdout_text()
    }

    /// A process that has the buffer open, after it has stored and synced these lines. It ends with
    /// its input.
    pub(crate) fn held(&self, lines: &str) -> (Child, ChildStdin) {
        let args = ["--report-synced", "--flush-interval", "1ms"];
        let mut holder = self.forebay("push", &args);
        let mut holder = holder.stdin(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = holder.stdin.take().expect("a pipe");
        stdin.write_all(lines.as_bytes()).expect("it reads");
        let count = lines.lines().count().to_string();
        let stdout = holder.stdout.as_mut().expect("a pipe");
        while read_line(stdout) != count {}
        (holder, stdin)
    }

    /// `inspect --json`, or another command that prints one JSON value.
    #[track_caller]
    pub(crate) fn json(&self, command: &str, status: i32) -> serde_json::Value {
        let ran = run(self.forebay(command, &["--json"])).expect(status);
        serde_json::from_slice(&ran.stdout).expect("JSON")
    }
}

/// Fills a buffer like a program that counts one event a line, with `records` records of
/// three events each.
pub(crate) fn fill_counting_lines(directory: &Path, records: u64) {
    let counter = forebay::EventCounter::new(|_metadata, payload| {
        payload.split(|byte| *byte == b'\n').count() as u64
    });
    let config = forebay::Config::new(directory).event_counter(counter);
    let (writer, _reader) = config.open().expect("a new buffer");
    for n in 1..=records {
        let payload = format!("first {n}\nsecond {n}\nthird {n}");
        writer.append(payload.as_bytes()).expect("an append");
    }
    writer.close().expect("everything is synced");
}

/// The numbers from `from` to `to`, a line each.
pub(crate) fn lines(from: u64, to: u64) -> String {
    (from..=to).map(|n| format!("{n}\n")).collect()
}

/// Every file under a directory with its contents, to see that nothing changes.
pub(crate) fn snapshot(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            files.push((path.clone(), fs::read(&path).expect("a readable file")));
        }
    }
    files.sort();
    files
}

/// Copies a directory of files.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a new directory");
    for entry in fs::read_dir(from).expect("a readable directory") {
        let entry = entry.expect("a readable entry");
        let bytes = fs::read(entry.path()).expect("a readable file");
        fs::write(to.join(entry.file_name()), bytes).expect("a writable file");
    }
}

/// A golden buffer of the library's tests, or their `expected.json`.
#[track_caller]
pub(crate) fn golden(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../forebay/tests/golden")
        .join(name);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// Waits until something has happened; panics after [`HANG`].
#[track_caller]
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !happened() {
        assert!(begun.elapsed() < HANG, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads until a line is complete, without the newline.
pub(crate) fn read_line(from: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while matches!(from.read(&mut byte), Ok(1)) && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}
