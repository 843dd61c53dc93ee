//! Standard output and standard error.
//!
//! Invariants: nothing here panics when the other side has gone away; a closed
//! standard output is a result and not an error; progress is drawn on standard
//! error, and only when that is a terminal; nothing is coloured when standard
//! output is no terminal or `NO_COLOR` is set.

use crate::failure::{Failure, Result};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressState, ProgressStyle};
use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write as _};

pub(crate) use sink::Sink;

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

/// Says something on standard error.
pub(crate) fn note(text: impl Display) {
    // Nowhere is left to complain to when this fails.
    let _ = writeln!(io::stderr(), "forebay: {text}");
}

/// Prints a finished text; a closed standard output is fine.
///
/// # Errors
///
/// Standard output cannot be written to.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(write_failure(&error)),
        _ => Ok(()),
    }
}

/// The failure to write to standard output.
pub(crate) fn write_failure(error: &io::Error) -> Failure {
    Failure::io("write to standard output", error)
}

/// A value of this program's own types as JSON on one line.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    #[expect(clippy::expect_used, reason = "maps with string keys always serialize")]
    serde_json::to_string(value).expect("a value without failing parts serializes")
}

/// Whether text on standard output may be coloured.
pub(crate) fn colours() -> bool {
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    io::stdout().is_terminal()
        && unset("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether somebody watches standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// `1 record`, `2,000 records`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", HumanCount(number))
}

/// `1.50 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    HumanBytes(number).to_string()
}

/// How far long work has come, on a terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work whose end is not known: counts records. Not drawn where it would
    /// be in the way of something else on the terminal.
    pub(crate) fn counting(in_the_way: bool) -> Self {
        let bar = match in_the_way {
            true => ProgressBar::hidden(),
            false => ProgressBar::new_spinner(),
        };
        Self::styled(bar, "{spinner} {human_pos} records, {msg} ({rate}/s)")
    }

    /// Work over bytes whose number is told later.
    pub(crate) fn over_bytes() -> Self {
        Self::styled(
            ProgressBar::new(0),
            "{bar:30} {bytes} of {total_bytes} ({bytes_per_sec}, {eta} left)",
        )
    }

    fn styled(bar: ProgressBar, template: &str) -> Self {
        // An unusable template only costs looks.
        if let Ok(style) = ProgressStyle::with_template(template) {
            let rate = |state: &ProgressState, to: &mut dyn fmt::Write| {
                // The fraction of a record says nothing.
                let _ = write!(to, "{}", HumanCount(state.per_sec() as u64));
            };
            bar.set_style(style.with_key("rate", rate));
        }
        Self(bar)
    }

    /// So many records and payload bytes in all.
    pub(crate) fn records(&self, records: u64, payload_bytes: u64) {
        if !self.0.is_hidden() {
            self.0.set_message(bytes(payload_bytes));
            self.0.set_position(records);
        }
    }

    /// So many bytes of a total.
    pub(crate) fn bytes(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// Says something without tearing what is drawn.
    pub(crate) fn note(&self, text: impl Display) {
        self.0.suspend(|| note(text));
    }

    /// Takes it off the terminal.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(unix)]
mod sink {
    use super::{Failure, Result, Written, write_failure};
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

        /// Whether it is a regular file.
        pub(crate) fn is_file(&self) -> bool {
            self.is_file
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
mod sink {
    use super::{Result, Written, write_failure};
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

        /// Whether it is known to be a regular file.
        pub(crate) fn is_file(&self) -> bool {
            false
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
