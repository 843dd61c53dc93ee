//! Standard input, read in large blocks until it ends or a stop is set.
//!
//! Invariant: after a stop nothing more is read, so that the rest stays in the pipe.

use crate::stop::Stop;
use std::io;

/// The outcome of a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// This many bytes were read, at least one.
    Bytes(usize),
    /// The input has ended.
    End,
    /// The stop was set; nothing was read.
    Stopped,
    /// Nothing came within the time limit.
    Nothing,
}

pub(crate) use system::Input;

#[cfg(unix)]
mod system {
    use super::{Read, Stop, io};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::{Errno, read};
    use rustix::stdio::stdin;
    use std::time::Duration;

    /// Standard input.
    #[derive(Debug)]
    pub(crate) struct Input {
        stop: Stop,
    }

    impl Input {
        pub(crate) fn new(stop: Stop) -> Self {
            Self { stop }
        }

        /// Waits for at least one byte, at most `limit` if there is one, and reads what
        /// is there.
        ///
        /// # Errors
        ///
        /// The operating system cannot read from standard input.
        pub(crate) fn read(
            &mut self,
            into: &mut [u8],
            limit: Option<Duration>,
        ) -> io::Result<Read> {
            let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
            loop {
                let mut ready = [
                    PollFd::from_borrowed_fd(self.stop.descriptor(), PollFlags::IN),
                    PollFd::from_borrowed_fd(stdin(), PollFlags::IN),
                ];
                match poll(&mut ready, limit.as_ref()) {
                    Ok(0) => return Ok(Read::Nothing),
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                }
                if !ready[0].revents().is_empty() {
                    return Ok(Read::Stopped);
                }
                match read(stdin(), &mut *into) {
                    Ok(0) => return Ok(Read::End),
                    Ok(len) => return Ok(Read::Bytes(len)),
                    // Another process that shares a non-blocking terminal or pipe was faster.
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

#[cfg(not(unix))]
mod system {
    //! Without `poll` a thread reads, and only on request.

    use super::{Read, Stop, io};
    use std::io::Read as _;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::time::{Duration, Instant};

    /// How soon a stop is noticed.
    const STOP_INTERVAL: Duration = Duration::from_millis(50);

    /// Standard input.
    #[derive(Debug)]
    pub(crate) struct Input {
        stop: Stop,
        requests: Sender<usize>,
        requested: bool,
        blocks: Receiver<io::Result<Vec<u8>>>,
    }

    impl Input {
        pub(crate) fn new(stop: Stop) -> Self {
            let (requests, requested) = channel::<usize>();
            let (read, blocks) = channel();
            // Never joined: it may wait for input that does not come.
            std::thread::spawn(move || {
                for len in requested {
                    let mut block = vec![0; len];
                    let result = std::io::stdin().lock().read(&mut block).map(|len| {
                        block.truncate(len);
                        block
                    });
                    if read.send(result).is_err() {
                        return;
                    }
                }
            });
            Self {
                stop,
                requests,
                requested: false,
                blocks,
            }
        }

        /// Waits for at least one byte, at most `limit` if there is one, and reads what
        /// is there. After [`Read::Nothing`] the thread goes on reading, so the next
        /// `into` must not be shorter.
        ///
        /// # Errors
        ///
        /// The operating system cannot read from standard input.
        pub(crate) fn read(
            &mut self,
            into: &mut [u8],
            limit: Option<Duration>,
        ) -> io::Result<Read> {
            let gone = || io::Error::other("the thread that reads standard input has ended");
            let begun = Instant::now();
            loop {
                if self.stop.is_set() {
                    return Ok(Read::Stopped);
                }
                if !self.requested {
                    self.requests.send(into.len()).map_err(|_| gone())?;
                    self.requested = true;
                }
                match self.blocks.recv_timeout(STOP_INTERVAL) {
                    Ok(block) => {
                        self.requested = false;
                        let block = block?;
                        into[..block.len()].copy_from_slice(&block);
                        return Ok(match block.len() {
                            0 => Read::End,
                            len => Read::Bytes(len),
                        });
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                }
                if limit.is_some_and(|limit| begun.elapsed() >= limit) {
                    return Ok(Read::Nothing);
                }
            }
        }
    }
}
