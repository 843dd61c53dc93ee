//! Payloads through a program of the user's, one process a record.
//!
//! Starting a process costs about a millisecond, so several run at once, one for each
//! processor. Invariants: what they print comes out in the order of the records; a stop ends
//! the wait for a program; no program, and nothing that it has started, outlives the
//! translator; a program that fails on a record keeps no other record back.

use crate::failure::{Failure, Result, no_thread};
use crate::io::process_group::ProcessGroup;
use crate::stop::Stop;
use forebay::StoredRecord;
use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::num::NonZero;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How soon a stop is noticed.
const STOP_INTERVAL: Duration = Duration::from_millis(50);
/// A payload up to this length fits into an empty pipe, so writing it does not block.
const SHORT_LEN: usize = 4096;

/// The programs that run, oldest record first.
#[derive(Debug)]
pub(crate) struct Translator {
    command: String,
    running: VecDeque<Running>,
    at_once: usize,
    stop: Stop,
}

/// What became of a record.
#[derive(Debug)]
pub(crate) enum Translated {
    /// The record, with what the program printed as its payload.
    Record(StoredRecord),
    /// The program failed on the record with this id: in words, how.
    Failed(u64, String),
    /// The stop was set before the program ended.
    Stopped,
}

#[derive(Debug)]
struct Running {
    record: StoredRecord,
    ended: Receiver<io::Result<(Vec<u8>, ExitStatus)>>,
    program: Arc<ProcessGroup>,
}

impl Translator {
    /// A translator that gives `command` to the shell of the system, until the stop is set.
    pub(crate) fn new(command: &str, stop: Stop) -> Self {
        Self {
            command: command.to_owned(),
            running: VecDeque::new(),
            at_once: std::thread::available_parallelism().map_or(1, NonZero::get),
            stop,
        }
    }

    /// Whether the oldest program is to be waited for before another one is started.
    pub(crate) fn is_full(&self) -> bool {
        self.running.len() >= self.at_once
    }

    /// Starts a program on a record.
    ///
    /// # Errors
    ///
    /// The operating system refuses to start a thread.
    pub(crate) fn start(&mut self, record: StoredRecord) -> Result<()> {
        let (end, ended) = channel();
        let program = Arc::new(ProcessGroup::default());
        let (started, payload) = (Arc::clone(&program), record.payload.clone());
        let mut command = shell(&self.command);
        command
            .env("FOREBAY_RECORD_ID", record.id.to_string())
            .env("FOREBAY_METADATA", record.metadata.to_string());
        let work = move || {
            // Nobody listens any more after a stop.
            let _ = end.send(run(command, &payload, &started));
        };
        // Not joined: a program that was ended may have left others that hold its output.
        std::thread::Builder::new()
            .spawn(work)
            .map_err(|error| no_thread(&error))?;
        self.running.push_back(Running {
            record,
            ended,
            program,
        });
        Ok(())
    }

    /// Waits for the program on the oldest record.
    ///
    /// # Errors
    ///
    /// The program cannot be started at all.
    pub(crate) fn finish_oldest(&mut self) -> Result<Option<Translated>> {
        let Some(oldest) = self.running.front() else {
            return Ok(None);
        };
        let ended = loop {
            match oldest.ended.recv_timeout(STOP_INTERVAL) {
                // What a program prints that the stop has interrupted is not complete.
                _ if self.stop.is_set() => return Ok(Some(Translated::Stopped)),
                Ok(ended) => break ended,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    break Err(io::Error::other("the thread that runs it has ended"));
                }
            }
        };
        let oldest = self.running.pop_front();
        let (output, status) = ended.map_err(|error| self.cannot_run(&error))?;
        if matches!(status.code(), Some(126 | 127)) {
            return Err(self.cannot_run(&status));
        }
        Ok(
            oldest.map(|Running { mut record, .. }| match status.success() {
                true => {
                    record.payload = output.into();
                    Translated::Record(record)
                }
                false => Translated::Failed(record.id, status.to_string()),
            }),
        )
    }

    fn cannot_run(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::new(format!(
            "cannot run {:?} on a record: {why}; try it on its own",
            self.command
        ))
    }
}

/// Ends the programs that still run, with all that they have started.
impl Drop for Translator {
    fn drop(&mut self) {
        let programs = self.running.iter().map(|running| &*running.program);
        ProcessGroup::end_all(programs, &self.stop);
    }
}

#[cfg(unix)]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]);
    shell
}

#[cfg(not(unix))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.args(["/C", command]);
    shell
}

/// Runs a program on a payload: what it printed, and how it ended.
fn run(
    command: Command,
    payload: &[u8],
    program: &ProcessGroup,
) -> io::Result<(Vec<u8>, ExitStatus)> {
    let (mut input, output) = program.start(command)?;
    let printed = std::thread::scope(|scope| {
        let mut feed = || {
            if let Some(mut input) = input.take() {
                // A program need not read its input.
                let _ = input.write_all(payload);
            }
        };
        match payload.len() <= SHORT_LEN {
            true => feed(),
            false => {
                std::thread::Builder::new().spawn_scoped(scope, feed)?;
            }
        }
        program.read(output)
    })?;
    Ok((printed, program.wait()?))
}
