//! Standard output for records.
//!
//! Invariants: a closed standard output is a result and not an error; a stop ends
//! the wait for a reader.

pub(crate) use system::Sink;

/// The outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The operating system has taken everything.
    All,
    /// No process reads any more.
    Closed,
    /// The stop was set before everything was written.
    Stopped,
}

#[cfg(unix)]
mod system {
    use super::Written;
    use crate::failure::{Failure, Result};
    use crate::output::write_failure;
    use crate::stop::Stop;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{FileType, fstat};
    use rustix::io::{Errno, write};
    use rustix::pipe::PIPE_BUF;
    use rustix::stdio::stdout;
    use std::io;

    /// Standard output for records: unbuffered, and a stop ends the wait for a
    /// reader that does not read.
    #[derive(Debug)]
    pub(crate) struct Sink {
        stop: Stop,
        is_file: bool,
    }

    impl Sink {
        pub(crate) fn stdout(stop: Stop) -> Self {
            let is_file = fstat(stdout())
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
            Self { stop, is_file }
        }

        /// Hands everything to the operating system, unless the stop is set or
        /// no process reads.
        ///
        /// # Errors
        ///
        /// Standard output cannot be written to.
        pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<Written> {
            // To a pipe: the longest write that does not block once there is room for one.
            let piece_len = if self.is_file { usize::MAX } else { PIPE_BUF };
            while !bytes.is_empty() {
                let mut ready = [
                    PollFd::from_borrowed_fd(self.stop.descriptor(), PollFlags::IN),
                    PollFd::from_borrowed_fd(stdout(), PollFlags::OUT),
                ];
                match poll(&mut ready, None) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(fail(error)),
                }
                if !ready[0].revents().is_empty() {
                    return Ok(Written::Stopped);
                }
                match write(stdout(), &bytes[..bytes.len().min(piece_len)]) {
                    Ok(len) => bytes = &bytes[len..],
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(Errno::PIPE) => return Ok(Written::Closed),
                    Err(error) => return Err(fail(error)),
                }
            }
            Ok(Written::All)
        }

        /// Writes a few bytes (at most `PIPE_BUF`) if there is room for them now, whether
        /// or not the stop is set.
        ///
        /// # Errors
        ///
        /// Standard output cannot be written to.
        pub(crate) fn write_at_once(&mut self, bytes: &[u8]) -> Result<Written> {
            let mut ready = [PollFd::from_borrowed_fd(stdout(), PollFlags::OUT)];
            match poll(&mut ready, Some(&Timespec::default())) {
                Ok(0) | Err(Errno::INTR) => return Ok(Written::Stopped),
                Ok(_) => {}
                Err(error) => return Err(fail(error)),
            }
            // A pipe takes them all or none.
            match write(stdout(), bytes) {
                Ok(_) => Ok(Written::All),
                Err(Errno::INTR | Errno::AGAIN) => Ok(Written::Stopped),
                Err(Errno::PIPE) => Ok(Written::Closed),
                Err(error) => Err(fail(error)),
            }
        }

        /// Whether it is known that no process reads any more.
        pub(crate) fn is_closed(&self) -> bool {
            // For a pipe without a reader, Linux reports ERR and other systems HUP; some
            // report neither unless OUT is asked for.
            let mut ready = [PollFd::from_borrowed_fd(stdout(), PollFlags::OUT)];
            poll(&mut ready, Some(&Timespec::default())).is_ok()
                && ready[0]
                    .revents()
                    .intersects(PollFlags::ERR | PollFlags::HUP)
        }
    }

    fn fail(error: Errno) -> Failure {
        write_failure(&io::Error::from(error))
    }
}

#[cfg(not(unix))]
mod system {
    use super::Written;
    use crate::failure::Result;
    use crate::output::write_failure;
    use crate::stop::Stop;
    use std::io::{self, Write as _};

    /// Standard output for records.
    #[derive(Debug)]
    pub(crate) struct Sink {
        stop: Stop,
    }

    impl Sink {
        pub(crate) fn stdout(stop: Stop) -> Self {
            Self { stop }
        }

        /// Hands everything to the operating system, unless the stop is set or
        /// no process reads.
        ///
        /// # Errors
        ///
        /// Standard output cannot be written to.
        pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<Written> {
            if self.stop.is_set() {
                return Ok(Written::Stopped);
            }
            self.write_at_once(bytes)
        }

        /// Writes a few bytes, whether or not the stop is set.
        ///
        /// # Errors
        ///
        /// Standard output cannot be written to.
        pub(crate) fn write_at_once(&mut self, bytes: &[u8]) -> Result<Written> {
            let mut stdout = io::stdout().lock();
            match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
                Ok(()) => Ok(Written::All),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Written::Closed),
                Err(error) => Err(write_failure(&error)),
            }
        }

        /// Whether it is known that no process reads any more.
        pub(crate) fn is_closed(&self) -> bool {
            false
        }
    }
}
