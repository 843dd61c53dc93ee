//! The lines with which a program acknowledges records.
//!
//! A program writes them to its descriptor 3 or to its standard output. Invariants:
//! a line counts once its newline has come; no call here waits for the program; this
//! process holds no writing end while a program runs, so that the end of the lines is
//! seen.
//!
//! Descriptor 3 must be free when this program starts, and is reserved then. Rust's
//! standard library passes only the standard descriptors to a program, but the program
//! also inherits every descriptor that is not marked to be closed (close-on-exec).

use clap::ValueEnum;
use std::fmt;

pub(crate) use system::{AckLines, Acks};

/// Where a program writes its acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AckStream {
    /// Descriptor 3
    Fd3,
    /// Standard output, which then goes nowhere else
    Stdout,
}

impl fmt::Display for AckStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fd3 => "descriptor 3",
            Self::Stdout => "its standard output",
        })
    }
}

/// Bytes read at a time.
const READ_LEN: usize = 4 << 10;

/// The number of lines that end in `bytes`.
fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(unix)]
mod system {
    use super::{AckStream, READ_LEN, count_lines};
    use crate::failure::{Failure, Result};
    use rustix::io::{FdFlags, dup2, fcntl_dupfd_cloexec, fcntl_setfd, ioctl_fionbio};
    use rustix::stdio::stdin;
    use std::fs::File;
    use std::io::{self, PipeReader, PipeWriter, Read as _, pipe};
    use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
    use std::process::{Child, Command};
    use std::sync::{Arc, Mutex, PoisonError};

    /// Starts programs that acknowledge. Clones start them in other threads.
    #[derive(Debug, Clone)]
    pub(crate) struct Acks {
        stream: AckStream,
        /// Lent to one program at a time.
        three: Option<Arc<Mutex<Three>>>,
    }

    impl Acks {
        /// Reserves descriptor 3 if that is the stream. Must be called before any file is
        /// opened.
        ///
        /// # Errors
        ///
        /// Descriptor 3 is in use.
        pub(crate) fn new(stream: AckStream) -> Result<Self> {
            let three = match stream {
                AckStream::Fd3 => Some(Arc::new(Mutex::new(Three::reserve()?))),
                AckStream::Stdout => None,
            };
            Ok(Self { stream, three })
        }

        /// The stream of the program that the lines come from.
        pub(crate) fn stream(&self) -> AckStream {
            self.stream
        }

        /// Starts a program whose lines can be read.
        ///
        /// # Errors
        ///
        /// The program cannot be started.
        pub(crate) fn spawn(&self, mut command: Command) -> io::Result<(Child, AckLines)> {
            let (lines, end) = pipe()?;
            // The flag belongs to this end; the program's own end still blocks.
            ioctl_fionbio(&lines, true)?;
            let child = match &self.three {
                Some(three) => {
                    let mut three = three.lock().unwrap_or_else(PoisonError::into_inner);
                    three.lend(&end)?;
                    let child = command.spawn();
                    three.take_back()?;
                    child?
                }
                None => command.stdout(end).spawn()?,
            };
            Ok((child, AckLines { from: Some(lines) }))
        }
    }

    /// Descriptor 3 of this process, which programs inherit while it is lent.
    #[derive(Debug)]
    struct Three {
        descriptor: OwnedFd,
        /// `/dev/null`, to which the descriptor refers after it was lent.
        nothing: File,
    }

    impl Three {
        fn reserve() -> Result<Self> {
            let failure = |error: io::Error| Failure::io("reserve descriptor 3", &error);
            // The lowest descriptor from 3 on that is free.
            let descriptor = fcntl_dupfd_cloexec(stdin(), 3).map_err(|e| failure(e.into()))?;
            if descriptor.as_raw_fd() != 3 {
                return Err(Failure::new(
                    "descriptor 3 is in use, and CMD's acknowledgements are to come from it; \
                     start this program with `3>&-`, or use --ack=stdout",
                ));
            }
            let nothing = File::open("/dev/null").map_err(failure)?;
            Ok(Self {
                descriptor,
                nothing,
            })
        }

        fn lend(&mut self, end: &PipeWriter) -> io::Result<()> {
            Ok(dup2(end, &mut self.descriptor)?)
        }

        fn take_back(&mut self) -> io::Result<()> {
            dup2(&self.nothing, &mut self.descriptor)?;
            Ok(fcntl_setfd(&self.descriptor, FdFlags::CLOEXEC)?)
        }
    }

    /// The lines of a running program.
    #[derive(Debug)]
    pub(crate) struct AckLines {
        /// `None` once the program has closed its end.
        from: Option<PipeReader>,
    }

    impl AckLines {
        /// Reads one block at most, and returns how many lines end in it; `None` when there
        /// is nothing for now, or for good.
        ///
        /// # Errors
        ///
        /// The operating system cannot read from a pipe.
        pub(crate) fn read(&mut self) -> io::Result<Option<u64>> {
            let mut block = [0; READ_LEN];
            loop {
                let Some(from) = &mut self.from else {
                    return Ok(None);
                };
                match from.read(&mut block) {
                    Ok(0) => self.from = None,
                    Ok(len) => return Ok(Some(count_lines(&block[..len]))),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }

        /// The same once the program has ended. It does not wait for lines of a program
        /// that this one started and that still runs.
        ///
        /// # Errors
        ///
        /// As [`read`](Self::read).
        pub(crate) fn read_rest(&mut self) -> io::Result<Option<u64>> {
            self.read()
        }

        /// Whether more lines may come.
        pub(crate) fn is_open(&self) -> bool {
            self.from.is_some()
        }

        /// Readable when lines have come, or no more will.
        pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
            self.from.as_ref().map(AsFd::as_fd)
        }
    }
}

#[cfg(not(unix))]
mod system {
    //! Without non-blocking pipes a thread reads.

    use super::{AckStream, READ_LEN, count_lines};
    use crate::failure::{Failure, Result};
    use std::io::{self, Read as _};
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
    use std::time::Duration;

    /// How long to wait for the last lines of a program, which come through the thread.
    const REST: Duration = Duration::from_secs(1);

    /// Starts programs that acknowledge. Clones start them in other threads.
    #[derive(Debug, Clone)]
    pub(crate) struct Acks {
        stream: AckStream,
    }

    impl Acks {
        /// Refuses descriptor 3.
        ///
        /// # Errors
        ///
        /// The stream is descriptor 3, which programs do not have on this system.
        pub(crate) fn new(stream: AckStream) -> Result<Self> {
            match stream {
                AckStream::Fd3 => Err(Failure::new(
                    "programs have no descriptor 3 on this system; use --ack=stdout",
                )),
                AckStream::Stdout => Ok(Self { stream }),
            }
        }

        /// The stream of the program that the lines come from.
        pub(crate) fn stream(&self) -> AckStream {
            self.stream
        }

        /// Starts a program whose lines can be read.
        ///
        /// # Errors
        ///
        /// The program cannot be started.
        pub(crate) fn spawn(&self, mut command: Command) -> io::Result<(Child, AckLines)> {
            let mut child = command.stdout(Stdio::piped()).spawn()?;
            let stdout = child.stdout.take();
            let (read, blocks) = channel();
            // Never joined: a program that the child started may keep it waiting.
            std::thread::Builder::new().spawn(move || {
                let Some(mut stdout) = stdout else { return };
                let mut block = vec![0; READ_LEN];
                loop {
                    let lines = match stdout.read(&mut block) {
                        Ok(0) | Err(_) => return,
                        Ok(len) => count_lines(&block[..len]),
                    };
                    if read.send(lines).is_err() {
                        return;
                    }
                }
            })?;
            let lines = AckLines {
                blocks,
                is_open: true,
            };
            Ok((child, lines))
        }
    }

    /// The lines of a running program.
    #[derive(Debug)]
    pub(crate) struct AckLines {
        blocks: Receiver<u64>,
        is_open: bool,
    }

    impl AckLines {
        /// How many lines end in the next block that the thread has read; `None` when there
        /// is nothing for now, or for good.
        ///
        /// # Errors
        ///
        /// None here.
        pub(crate) fn read(&mut self) -> io::Result<Option<u64>> {
            Ok(match self.blocks.try_recv() {
                Ok(lines) => Some(lines),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => {
                    self.is_open = false;
                    None
                }
            })
        }

        /// The same once the program has ended.
        ///
        /// # Errors
        ///
        /// None here.
        pub(crate) fn read_rest(&mut self) -> io::Result<Option<u64>> {
            Ok(match self.blocks.recv_timeout(REST) {
                Ok(lines) => Some(lines),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.is_open = false;
                    None
                }
            })
        }

        /// Whether more lines may come.
        pub(crate) fn is_open(&self) -> bool {
            self.is_open
        }
    }
}
