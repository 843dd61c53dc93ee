//! Standard output for records.
//!
//! Invariants: a closed standard output is a result and not an error; a stop ends
//! the wait for a reader, but does not cut a record that a reader reads on.

use std::time::Duration;

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

/// How long, after a stop, a record that was begun may take to be read. A reader that has
/// stopped reading must not hold up the end for ever; this is less than the time after
/// which the program gives up altogether.
pub(crate) const FINISH_MAX: Duration = Duration::from_secs(10);

#[cfg(unix)]
mod system {
    use super::{FINISH_MAX, Written};
    use crate::failure::{Failure, Result};
    use crate::io::outgoing::Outgoing;
    use crate::output::write_failure;
    use crate::stop::Stop;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{FileType, fstat};
    use rustix::io::{Errno, write};
    use rustix::pipe::PIPE_BUF;
    use rustix::stdio::stdout;
    use std::io;
    use std::time::Instant;

    /// How long a second request for the end goes unnoticed.
    const AGAIN_INTERVAL: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };

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
            let piece_len = self.piece_len();
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

        /// Hands records to the operating system, whole ones at a time where they fit into
        /// one atomic write. A stop ends this after the record that is being written;
        /// another one, or a reader that does not read on for [`FINISH_MAX`], ends it inside
        /// that record. `records` knows afterwards what was handed over, also after an error.
        ///
        /// # Errors
        ///
        /// Standard output cannot be written to.
        pub(crate) fn write_records(&mut self, records: &mut Outgoing) -> Result<Written> {
            let piece_len = self.piece_len();
            let mut give_up_at = None;
            loop {
                let piece = records.piece(piece_len);
                if piece.is_empty() {
                    return Ok(match give_up_at {
                        None => Written::All,
                        Some(_) => Written::Stopped,
                    });
                }
                let mut ready = [
                    PollFd::from_borrowed_fd(stdout(), PollFlags::OUT),
                    PollFd::from_borrowed_fd(self.stop.descriptor(), PollFlags::IN),
                ];
                let polled = match give_up_at {
                    None => poll(&mut ready, None),
                    Some(at) if self.stop.is_asked_again() || Instant::now() >= at => {
                        return Ok(Written::Stopped);
                    }
                    // The stop is set and stays so: waiting for it would not wait.
                    Some(_) => poll(&mut ready[..1], Some(&AGAIN_INTERVAL)),
                };
                match polled {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(fail(error)),
                }
                if !ready[1].revents().is_empty() {
                    records.keep_begun();
                    give_up_at = Some(Instant::now() + FINISH_MAX);
                    continue;
                }
                if ready[0].revents().is_empty() {
                    continue;
                }
                match write(stdout(), &piece[..piece.len().min(piece_len)]) {
                    Ok(len) => records.advance(len),
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(Errno::PIPE) => return Ok(Written::Closed),
                    Err(error) => return Err(fail(error)),
                }
            }
        }

        /// The longest write that does not block once a pipe has room for one; to a file,
        /// no write does.
        fn piece_len(&self) -> usize {
            if self.is_file { usize::MAX } else { PIPE_BUF }
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
    use crate::io::outgoing::Outgoing;
    use crate::output::write_failure;
    use crate::stop::Stop;
    use std::io::{self, Write as _};

    /// What is written between two looks at the stop; longer records are written at once.
    const PIECE_LEN: usize = 1 << 16;

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

        /// Hands records to the operating system, whole ones at a time. `records` knows
        /// afterwards what was handed over, also after an error.
        ///
        /// # Errors
        ///
        /// Standard output cannot be written to.
        pub(crate) fn write_records(&mut self, records: &mut Outgoing) -> Result<Written> {
            loop {
                let piece = records.piece(PIECE_LEN);
                if piece.is_empty() {
                    return Ok(Written::All);
                }
                let len = piece.len();
                match self.write(piece)? {
                    Written::All => records.advance(len),
                    other => return Ok(other),
                }
            }
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
