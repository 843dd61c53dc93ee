//! A program that is fed through its standard input.
//!
//! How much of its input the program has read is what was written less what the kernel
//! still holds: this process keeps the reading end of the pipe open and asks. Invariants:
//! - No call here waits for the program, except [`Children::wait`], which a stop, a change
//!   of a program, an acknowledgement and its own time limit end.
//! - While the reading end is held, a write reports no broken pipe, so only its status
//!   tells that the program has ended.
//!
//! Where the kernel cannot be asked (outside Unix), what was written counts as
//! read, and writes block.

use super::acks::{AckLines, Acks};
use crate::io::outgoing::Outgoing;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{self, Command, ExitStatus};
use std::sync::{Mutex, PoisonError};

pub(crate) use system::Children;
use system::{Input, PIECE_MAX};

/// Why a program could not be started.
#[derive(Debug)]
pub(crate) struct StartError {
    /// 127 when there is no such program, 126 otherwise, as shells do.
    pub(crate) code: u8,
    /// What, why, what to do.
    pub(crate) message: String,
}

impl StartError {
    fn new(command: &[OsString], error: &io::Error) -> Self {
        // A name without a slash is looked up elsewhere.
        let is_directory = command.first().is_some_and(|program| {
            let is_path = program.to_string_lossy().contains(std::path::is_separator);
            is_path && Path::new(program).is_dir()
        });
        let program = command.first().map(|c| c.to_string_lossy());
        let program = program.as_deref().unwrap_or_default();
        let (code, remedy) = match error.kind() {
            io::ErrorKind::NotFound => (127, "check its name, or give its full path"),
            // The system's reason for a directory is that permission is denied.
            _ if is_directory => (126, "it is a directory; name a program in it"),
            io::ErrorKind::PermissionDenied => (126, "make it executable"),
            _ => (126, "try it on its own"),
        };
        Self {
            code,
            message: format!("cannot start {program}: {error}; {remedy}"),
        }
    }
}

/// Where the standard output of a program goes, unless its acknowledgements come from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// To the standard output of this program.
    Stdout,
    /// To the standard error of this program.
    Stderr,
}

/// Held while a program is started.
static STARTING: Mutex<()> = Mutex::new(());

/// A running program.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    input: Input,
    written: u64,
    /// Its acknowledgements, if it gives any.
    acks: Option<AckLines>,
}

impl Child {
    /// Starts a program with a pipe as its standard input, and one for its
    /// acknowledgements if it gives any. Its standard error is this program's.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub(crate) fn start(
        command: &[OsString],
        output: Output,
        acks: Option<&Acks>,
    ) -> Result<Self, StartError> {
        Self::try_start(command, output, acks).map_err(|error| StartError::new(command, &error))
    }

    fn try_start(command: &[OsString], output: Output, acks: Option<&Acks>) -> io::Result<Self> {
        // One program at a time: some systems let a program that another thread starts inherit
        // this one's pipe, whose end this one would then not see.
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = command_of(command);
        if output == Output::Stderr {
            command.stdout(io::stderr());
        }
        let mut input = Input::of(&mut command)?;
        let (mut process, acks) = match acks {
            Some(acks) => {
                let (process, lines) = acks.spawn(command)?;
                (process, Some(lines))
            }
            None => (command.spawn()?, None),
        };
        input.attach(&mut process);
        Ok(Self {
            process,
            input,
            written: 0,
            acks,
        })
    }

    /// Its acknowledgements, if it gives any.
    pub(crate) fn acks(&mut self) -> Option<&mut AckLines> {
        self.acks.as_mut()
    }

    /// Writes what the pipe has room for, and returns whether that was everything.
    ///
    /// # Errors
    ///
    /// The operating system cannot write to a pipe.
    pub(crate) fn feed(&mut self, outgoing: &mut Outgoing) -> io::Result<bool> {
        let Some(input) = self.input.writer() else {
            return Ok(outgoing.is_empty());
        };
        while !outgoing.is_empty() {
            match input.write(outgoing.piece(PIECE_MAX)) {
                Ok(len) => {
                    outgoing.advance(len);
                    self.written += len as u64;
                }
                Err(error) => match error.kind() {
                    // No room; or the pipe has no reader, which the program's status will tell.
                    io::ErrorKind::WouldBlock | io::ErrorKind::BrokenPipe => return Ok(false),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(true)
    }

    /// Closes the program's input, so that it sees the end.
    pub(crate) fn close_input(&mut self) {
        self.input.close();
    }

    /// Bytes that were written to the program.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes of its input that the program (or one that it started) has
    /// read.
    ///
    /// # Errors
    ///
    /// The operating system cannot tell.
    pub(crate) fn read(&self) -> io::Result<u64> {
        Ok(self.written.saturating_sub(self.input.unread()?))
    }

    /// How the program has ended, if it has.
    ///
    /// # Errors
    ///
    /// The operating system cannot tell.
    pub(crate) fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Ends the program at once.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself by now.
        let _ = self.process.kill();
    }
}

fn command_of(command: &[OsString]) -> Command {
    let mut words = command.iter();
    let mut built = Command::new(words.next().map_or(std::ffi::OsStr::new(""), |w| w));
    built.args(words);
    built
}

#[cfg(unix)]
mod system {
    use super::{AckLines, Child};
    use crate::stop::Stop;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread};
    use std::io::{self, PipeReader, PipeWriter, Read as _, pipe};
    use std::os::unix::net::UnixStream;
    use std::process;
    use std::time::Duration;

    /// The longest write that a pipe takes as a whole or not at all.
    pub(super) const PIECE_MAX: usize = rustix::pipe::PIPE_BUF;

    /// Notices that a program has changed its state.
    #[derive(Debug)]
    pub(crate) struct Children {
        changed: UnixStream,
    }

    impl Children {
        /// Begins to listen for SIGCHLD.
        ///
        /// # Errors
        ///
        /// The operating system has no descriptors left.
        pub(crate) fn new() -> io::Result<Self> {
            let (changed, change) = UnixStream::pair()?;
            changed.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(signal_hook::consts::signal::SIGCHLD, change)?;
            Ok(Self { changed })
        }

        /// Waits until a program has changed its state, `child` has acknowledged, `child`
        /// can take more (only if `for_room`), the stop (if given) is set, or `limit` is
        /// over.
        ///
        /// # Errors
        ///
        /// The operating system cannot wait.
        pub(crate) fn wait(
            &self,
            stop: Option<&Stop>,
            child: &Child,
            for_room: bool,
            limit: Duration,
        ) -> io::Result<()> {
            let mut ready = Vec::with_capacity(4);
            ready.push(PollFd::new(&self.changed, PollFlags::IN));
            if let Some(stop) = stop {
                ready.push(PollFd::from_borrowed_fd(stop.descriptor(), PollFlags::IN));
            }
            if let Some(input) = &child.input.writer
                && for_room
            {
                ready.push(PollFd::new(input, PollFlags::OUT));
            }
            if let Some(lines) = child.acks.as_ref().and_then(AckLines::descriptor) {
                ready.push(PollFd::from_borrowed_fd(lines, PollFlags::IN));
            }
            // A limit that is too long for the kernel counts as none.
            let limit = Timespec::try_from(limit).ok();
            match poll(&mut ready, limit.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut changes = [0; 64];
            while matches!((&self.changed).read(&mut changes), Ok(len) if len > 0) {}
            Ok(())
        }
    }

    /// A program's standard input.
    #[derive(Debug)]
    pub(super) struct Input {
        /// `None` once it is closed.
        writer: Option<PipeWriter>,
        /// The same pipe's other end, which the program reads from: held only
        /// to ask how much is unread.
        reader: PipeReader,
    }

    impl Input {
        /// The input of a program that is about to be started.
        pub(super) fn of(command: &mut process::Command) -> io::Result<Self> {
            let (reader, writer) = pipe()?;
            // The flag belongs to this end; the program's own end still blocks.
            ioctl_fionbio(&writer, true)?;
            command.stdin(reader.try_clone()?);
            let writer = Some(writer);
            Ok(Self { writer, reader })
        }

        pub(super) fn attach(&mut self, _process: &mut process::Child) {}

        pub(super) fn writer(&mut self) -> Option<&mut impl io::Write> {
            self.writer.as_mut()
        }

        pub(super) fn close(&mut self) {
            self.writer = None;
        }

        /// Bytes that the program has not read.
        pub(super) fn unread(&self) -> io::Result<u64> {
            Ok(ioctl_fionread(&self.reader)?)
        }
    }
}

#[cfg(not(unix))]
mod system {
    use super::Child;
    use crate::stop::Stop;
    use std::io;
    use std::process::{self, ChildStdin, Stdio};
    use std::time::Duration;

    pub(super) const PIECE_MAX: usize = 1 << 16;
    /// How soon the end of a program is noticed.
    const STATUS_INTERVAL: Duration = Duration::from_millis(20);

    /// Waits for programs.
    #[derive(Debug)]
    pub(crate) struct Children;

    impl Children {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Waits a little, at most `limit`.
        pub(crate) fn wait(
            &self,
            _stop: Option<&Stop>,
            _child: &Child,
            _for_room: bool,
            limit: Duration,
        ) -> io::Result<()> {
            std::thread::sleep(limit.min(STATUS_INTERVAL));
            Ok(())
        }
    }

    /// A program's standard input; `None` once it is closed.
    #[derive(Debug, Default)]
    pub(super) struct Input(Option<ChildStdin>);

    impl Input {
        pub(super) fn of(command: &mut process::Command) -> io::Result<Self> {
            command.stdin(Stdio::piped());
            Ok(Self::default())
        }

        pub(super) fn attach(&mut self, process: &mut process::Child) {
            self.0 = process.stdin.take();
        }

        pub(super) fn writer(&mut self) -> Option<&mut impl io::Write> {
            self.0.as_mut()
        }

        pub(super) fn close(&mut self) {
            self.0 = None;
        }

        pub(super) fn unread(&self) -> io::Result<u64> {
            Ok(0)
        }
    }
}
