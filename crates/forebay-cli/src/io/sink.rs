//! Standard output for records.
//!
//! Invariants: a closed standard output is a result and not an error; a stop ends
//! the wait for whoever reads.

pub(crate) use system::Sink;

/// What writing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// Everything is with the operating system.
    All,
    /// Nobody reads any more.
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
    /// reader that has fallen asleep.
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
        /// nobody reads.
        ///
        /// # Errors
        ///
        /// Standard output cannot be written to.
        pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<Written> {
            // The longest write that cannot wait once there is room for one.
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

        /// Writes a few bytes if there is room for them now, whether or not the stop
        /// is set.
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
            // A pipe takes so few bytes whole.
            match write(stdout(), bytes) {
                Ok(_) => Ok(Written::All),
                Err(Errno::INTR | Errno::AGAIN) => Ok(Written::Stopped),
                Err(Errno::PIPE) => Ok(Written::Closed),
                Err(error) => Err(fail(error)),
            }
        }

        /// Whether it is known that nobody reads any more.
        pub(crate) fn is_closed(&self) -> bool {
            // Linux says that a pipe has no reader with an error, other systems with a
            // hang-up; some say neither unless they are asked for room.
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
        /// nobody reads.
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

        /// Whether it is known that nobody reads any more.
        pub(crate) fn is_closed(&self) -> bool {
            false
        }
    }
}
