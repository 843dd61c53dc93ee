//! A program that is ended together with the programs that it has started.
//!
//! The program leads a process group of its own. Invariant: the group gets a signal only while
//! its leader is not reaped, because the system gives the id of a reaped leader to others.

use crate::stop::Stop;
use std::io::{self, Read as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long programs may take to end by themselves after a signal, before they are killed.
const GRACE: Duration = Duration::from_millis(500);
/// How often programs are checked during the grace.
const GRACE_INTERVAL: Duration = Duration::from_millis(5);
/// A program that has closed its output is asked for its end after this time at first, and
/// after twice the time again, up to the longest.
const END_INTERVAL: Duration = Duration::from_micros(50);
const END_INTERVAL_MAX: Duration = Duration::from_millis(20);

/// A program, shared by the thread that runs it and the thread that may end it early.
#[derive(Debug, Default)]
pub(crate) struct ProcessGroup {
    leader: Mutex<Leader>,
    /// No process holds the program's output open any more.
    output_has_ended: AtomicBool,
}

#[derive(Debug, Default)]
enum Leader {
    #[default]
    NotStarted,
    Running(Child),
    /// It is reaped, or must not be started any more.
    Over,
}

impl ProcessGroup {
    /// Starts the program with pipes as its standard input and output.
    ///
    /// # Errors
    ///
    /// It cannot be started, or was ended before it was.
    pub(crate) fn start(
        &self,
        mut command: Command,
    ) -> io::Result<(Option<ChildStdin>, Option<ChildStdout>)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut leader = self.leader();
        if matches!(*leader, Leader::Over) {
            return Err(io::Error::other("it was ended before its start"));
        }
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take());
        *leader = Leader::Running(child);
        Ok(pipes)
    }

    /// Reads what the program prints, until no process holds its output open.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(crate) fn read(&self, output: Option<ChildStdout>) -> io::Result<Vec<u8>> {
        let mut printed = Vec::new();
        if let Some(mut output) = output {
            output.read_to_end(&mut printed)?;
        }
        self.output_has_ended.store(true, Ordering::SeqCst);
        Ok(printed)
    }

    /// Waits for the end of the program, which has closed its output.
    ///
    /// # Errors
    ///
    /// The system cannot tell.
    pub(crate) fn wait(&self) -> io::Result<ExitStatus> {
        let mut pause = END_INTERVAL;
        loop {
            let mut leader = self.leader();
            let status = match &mut *leader {
                Leader::Running(child) => child.try_wait()?,
                Leader::NotStarted | Leader::Over => {
                    return Err(io::Error::other("it does not run"));
                }
            };
            if let Some(status) = status {
                *leader = Leader::Over;
                return Ok(status);
            }
            drop(leader);
            std::thread::sleep(pause);
            pause = (2 * pause).min(END_INTERVAL_MAX);
        }
    }

    /// Ends programs with all that they have started: passes on the signal that has set the
    /// stop, or SIGTERM if none has, and kills what still runs after the grace.
    pub(crate) fn end_all<'a>(programs: impl Iterator<Item = &'a Self>, stop: &Stop) {
        // Locked up to the end, so that no leader is reaped meanwhile.
        let mut programs: Vec<_> = programs
            .map(|program| (program, program.leader()))
            .collect();
        for (_, leader) in &mut programs {
            match &mut **leader {
                Leader::Running(child) => system::pass_on(child, stop),
                other => *other = Leader::Over,
            }
        }
        let begun = Instant::now();
        let mut are_running = || {
            programs
                .iter_mut()
                .any(|(program, leader)| match &mut **leader {
                    Leader::Running(child) => {
                        // A program that the leader has started usually holds the output.
                        !program.output_has_ended.load(Ordering::SeqCst)
                            || !system::has_ended(child)
                    }
                    Leader::NotStarted | Leader::Over => false,
                })
        };
        while are_running() && begun.elapsed() < GRACE {
            std::thread::sleep(GRACE_INTERVAL);
        }
        for (_, leader) in &mut programs {
            if let Leader::Running(child) = &mut **leader {
                system::kill(child);
            }
        }
    }

    fn leader(&self) -> MutexGuard<'_, Leader> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(unix)]
mod system {
    use crate::stop::Stop;
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
    use std::process::Child;

    pub(super) fn pass_on(leader: &mut Child, stop: &Stop) {
        use signal_hook::consts::signal::{SIGHUP, SIGINT};
        let signal = match stop.signal().map(i32::from) {
            Some(SIGINT) => Signal::INT,
            Some(SIGHUP) => Signal::HUP,
            _ => Signal::TERM,
        };
        // A group that has ended gets no signal.
        let _ = kill_process_group(Pid::from_child(leader), signal);
    }

    /// Whether the leader has ended. It is not reaped by this.
    pub(super) fn has_ended(leader: &mut Child) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(Pid::from_child(leader)), options);
        !matches!(status, Ok(None))
    }

    pub(super) fn kill(leader: &mut Child) {
        // A group that has ended gets no signal.
        let _ = kill_process_group(Pid::from_child(leader), Signal::KILL);
    }
}

/// Without process groups, only the program itself is ended.
#[cfg(not(unix))]
mod system {
    use crate::stop::Stop;
    use std::process::Child;

    pub(super) fn pass_on(leader: &mut Child, _stop: &Stop) {
        kill(leader);
    }

    pub(super) fn has_ended(_leader: &mut Child) -> bool {
        // It was killed already.
        true
    }

    pub(super) fn kill(leader: &mut Child) {
        // It may have ended by itself by now.
        let _ = leader.kill();
    }
}
