//! Payloads through a program of the user's, one process a record.
//!
//! Starting a process costs about a millisecond, so several run at once, one for each
//! processor. Invariants: what they print comes out in the order of the records; a stop ends
//! the wait for a program, and ends the programs; a program that fails on a record keeps
//! no other record back.

use crate::failure::{Failure, Result, no_thread};
use crate::stop::Stop;
use forebay::StoredRecord;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::num::NonZero;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How soon a stop is noticed.
const STOP_INTERVAL: Duration = Duration::from_millis(50);
/// A payload up to this length fits into an empty pipe, so writing it does not block.
const SHORT_LEN: usize = 4096;
/// A program that has closed its output is asked for its end after this time at first, and
/// after twice the time again, up to the longest.
const END_INTERVAL: Duration = Duration::from_micros(50);
const END_INTERVAL_MAX: Duration = Duration::from_millis(20);

/// The programs that run, oldest record first.
#[derive(Debug)]
pub(crate) struct Translator {
    command: String,
    running: VecDeque<Running>,
    at_once: usize,
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
    /// The process, to end it early; `None` before it is started.
    process: Arc<Mutex<Option<Child>>>,
}

impl Translator {
    /// A translator that gives `command` to the shell of the system.
    pub(crate) fn new(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            running: VecDeque::new(),
            at_once: std::thread::available_parallelism().map_or(1, NonZero::get),
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
        let process = Arc::new(Mutex::new(None));
        let (slot, payload) = (Arc::clone(&process), record.payload.clone());
        let mut command = shell(&self.command);
        command
            .env("FOREBAY_RECORD_ID", record.id.to_string())
            .env("FOREBAY_METADATA", record.metadata.to_string());
        let work = move || {
            // Nobody listens any more after a stop.
            let _ = end.send(run(command, &payload, &slot));
        };
        // Not joined: a program that was ended may have left others that hold its output.
        std::thread::Builder::new()
            .spawn(work)
            .map_err(|error| no_thread(&error))?;
        self.running.push_back(Running {
            record,
            ended,
            process,
        });
        Ok(())
    }

    /// Waits for the program on the oldest record.
    ///
    /// # Errors
    ///
    /// The program cannot be started at all.
    pub(crate) fn finish_oldest(&mut self, stop: &Stop) -> Result<Option<Translated>> {
        let Some(oldest) = self.running.front() else {
            return Ok(None);
        };
        let ended = loop {
            match oldest.ended.recv_timeout(STOP_INTERVAL) {
                // A signal from the terminal has ended the program as well.
                _ if stop.is_set() => return Ok(Some(Translated::Stopped)),
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

/// Ends the programs that still run.
impl Drop for Translator {
    fn drop(&mut self) {
        for running in &self.running {
            let process = running.process.lock();
            if let Some(process) = process.unwrap_or_else(PoisonError::into_inner).as_mut() {
                // It may have ended by itself by now.
                let _ = process.kill();
            }
        }
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
    mut command: Command,
    payload: &[u8],
    slot: &Mutex<Option<Child>>,
) -> io::Result<(Vec<u8>, ExitStatus)> {
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut input, output) = (process.stdin.take(), process.stdout.take());
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    let mut printed = Vec::new();
    std::thread::scope(|scope| {
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
        match output {
            Some(mut output) => output.read_to_end(&mut printed).map(drop),
            None => Ok(()),
        }
    })?;
    let mut pause = END_INTERVAL;
    loop {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = slot.as_mut()
            && let Some(status) = process.try_wait()?
        {
            return Ok((printed, status));
        }
        drop(slot);
        std::thread::sleep(pause);
        pause = (2 * pause).min(END_INTERVAL_MAX);
    }
}
