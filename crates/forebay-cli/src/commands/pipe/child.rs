//! A program that is fed through its standard input.
//!
//! How much of its input it has read is what the kernel no longer holds: this
//! side keeps the reading end of the pipe open and asks. Invariants: no call
//! here waits for the program, except [`Children::wait`], which a stop, a change
//! of a program, an acknowledgement and its own time limit end; there is no broken
//! pipe while the reading end is held, so the end of the program is noticed by its
//! status only.
//!
//! Where the kernel cannot be asked (outside Unix), what was written counts as
//! read, and writes wait.

use crate::commands::pipe::acks::AckLines;
use std::ffi::OsString;
use std::io;
use std::process::Command;

pub(crate) use system::{Child, Children};

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
        let program = command.first().map(|c| c.to_string_lossy());
        let program = program.as_deref().unwrap_or_default();
        let (code, remedy) = match error.kind() {
            io::ErrorKind::NotFound => (127, "check its name, or give its full path"),
            io::ErrorKind::PermissionDenied => (126, "make it executable"),
            _ => (126, "try it on its own"),
        };
        Self {
            code,
            message: format!("cannot start {program}: {error}; {remedy}"),
        }
    }
}

impl Child {
    /// Its acknowledgements, if it gives any.
    pub(crate) fn acks(&mut self) -> Option<&mut AckLines> {
        self.acks.as_mut()
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
    use super::{StartError, command_of};
    use crate::commands::pipe::acks::{AckLines, Acks};
    use crate::commands::pipe::outgoing::Outgoing;
    use crate::stop::Stop;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread};
    use rustix::pipe::PIPE_BUF;
    use std::ffi::OsString;
    use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _, pipe};
    use std::os::unix::net::UnixStream;
    use std::process::{self, ExitStatus};
    use std::time::Duration;

    /// Notices that a program has changed its state.
    #[derive(Debug)]
    pub(crate) struct Children {
        changed: UnixStream,
    }

    impl Children {
        /// Begins to notice.
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

        /// Waits until a program has changed, the child has acknowledged, the stop
        /// (if given) is set, the child can take more (if that is asked for), or the
        /// time is over.
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
            if let Some(input) = &child.input
                && for_room
            {
                ready.push(PollFd::new(input, PollFlags::OUT));
            }
            if let Some(lines) = child.acks.as_ref().and_then(AckLines::descriptor) {
                ready.push(PollFd::from_borrowed_fd(lines, PollFlags::IN));
            }
            // A limit beyond what the kernel takes is none.
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

    /// A running program.
    #[derive(Debug)]
    pub(crate) struct Child {
        process: process::Child,
        /// Where its input is written to, until it is closed.
        input: Option<PipeWriter>,
        /// The same pipe's other end, which the program reads from: held only
        /// to ask how much is unread.
        unread: PipeReader,
        written: u64,
        /// Its acknowledgements, if it gives any.
        pub(super) acks: Option<AckLines>,
    }

    impl Child {
        /// Starts a program with a pipe as its standard input, and one for its
        /// acknowledgements if it gives any; its other outputs are this program's.
        ///
        /// # Errors
        ///
        /// The program cannot be started.
        pub(crate) fn start(
            command: &[OsString],
            acks: Option<&mut Acks>,
        ) -> Result<Self, StartError> {
            Self::try_start(command, acks).map_err(|error| StartError::new(command, &error))
        }

        fn try_start(command: &[OsString], acks: Option<&mut Acks>) -> io::Result<Self> {
            let (unread, input) = pipe()?;
            // The flag belongs to this end; the program's own end still blocks.
            ioctl_fionbio(&input, true)?;
            let mut command = command_of(command);
            command.stdin(unread.try_clone()?);
            let (process, acks) = match acks {
                Some(acks) => {
                    let (process, lines) = acks.spawn(command)?;
                    (process, Some(lines))
                }
                None => (command.spawn()?, None),
            };
            Ok(Self {
                process,
                input: Some(input),
                unread,
                written: 0,
                acks,
            })
        }

        /// Writes what the pipe has room for; whether that was everything.
        ///
        /// # Errors
        ///
        /// The operating system cannot write to a pipe.
        pub(crate) fn feed(&mut self, outgoing: &mut Outgoing) -> io::Result<bool> {
            let Some(input) = &mut self.input else {
                return Ok(outgoing.is_empty());
            };
            while !outgoing.is_empty() {
                match input.write(outgoing.piece(PIPE_BUF)) {
                    Ok(len) => {
                        outgoing.advance(len);
                        self.written += len as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(true)
        }

        /// Lets the program see the end of its input.
        pub(crate) fn close_input(&mut self) {
            self.input = None;
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
            Ok(self.written.saturating_sub(ioctl_fionread(&self.unread)?))
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
}

#[cfg(not(unix))]
mod system {
    use super::{StartError, command_of};
    use crate::commands::pipe::acks::{AckLines, Acks};
    use crate::commands::pipe::outgoing::Outgoing;
    use crate::stop::Stop;
    use std::ffi::OsString;
    use std::io::{self, Write as _};
    use std::process::{self, ChildStdin, ExitStatus, Stdio};
    use std::time::Duration;

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

    /// A running program.
    #[derive(Debug)]
    pub(crate) struct Child {
        process: process::Child,
        input: Option<ChildStdin>,
        written: u64,
        pub(super) acks: Option<AckLines>,
    }

    impl Child {
        pub(crate) fn start(
            command: &[OsString],
            acks: Option<&mut Acks>,
        ) -> Result<Self, StartError> {
            Self::try_start(command, acks).map_err(|error| StartError::new(command, &error))
        }

        fn try_start(command: &[OsString], acks: Option<&mut Acks>) -> io::Result<Self> {
            let mut command = command_of(command);
            command.stdin(Stdio::piped());
            let (mut process, acks) = match acks {
                Some(acks) => {
                    let (process, lines) = acks.spawn(command)?;
                    (process, Some(lines))
                }
                None => (command.spawn()?, None),
            };
            let input = process.stdin.take();
            Ok(Self {
                process,
                input,
                written: 0,
                acks,
            })
        }

        /// Writes everything; false when the program no longer reads.
        pub(crate) fn feed(&mut self, outgoing: &mut Outgoing) -> io::Result<bool> {
            let Some(input) = &mut self.input else {
                return Ok(outgoing.is_empty());
            };
            while !outgoing.is_empty() {
                match input.write(outgoing.piece(1 << 16)) {
                    Ok(len) => {
                        outgoing.advance(len);
                        self.written += len as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(true)
        }

        pub(crate) fn close_input(&mut self) {
            self.input = None;
        }

        pub(crate) fn written(&self) -> u64 {
            self.written
        }

        pub(crate) fn read(&self) -> io::Result<u64> {
            Ok(self.written)
        }

        pub(crate) fn status(&mut self) -> io::Result<Option<ExitStatus>> {
            self.process.try_wait()
        }

        pub(crate) fn kill(&mut self) {
            let _ = self.process.kill();
        }
    }
}
