//! How a command ends, and the exit status it ends with.
//!
//! Invariant: every failure is one sentence that says what happened, where, and
//! what to do; it is printed once, by `main`.

use forebay::ErrorKind;
use std::error::Error as _;
use std::fmt::Display;
use std::io;
use std::path::Path;

/// How a command that did its work ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well: 0.
    Fine,
    /// Damage or losses were found, and reported: 1.
    Findings,
    /// Some of the work could not be done, and that was reported: 2.
    Errors,
    /// A signal asked for the end: 128 plus its number.
    Stopped(u8),
    /// The status of the program that was run.
    Program(u8),
}

impl Outcome {
    /// The exit status of the process.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Findings => 1,
            Self::Errors => 2,
            Self::Stopped(signal) => 128_u8.saturating_add(signal),
            Self::Program(status) => status,
        }
    }

    /// Turns success (also that of a program) into `Findings` if there are any.
    pub(crate) fn with_findings(self, any: bool) -> Self {
        match self {
            Self::Fine | Self::Program(0) if any => Self::Findings,
            other => other,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One sentence, lower case.
    pub(crate) message: String,
    /// 2, unless a program that was to be run says otherwise.
    pub(crate) status: u8,
}

/// The result of a command, or of a part of it.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: 2,
        }
    }

    /// An operating-system error while doing `what` (an infinitive).
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self::new(format!("cannot {what}: {error}"))
    }

    /// Appends to the message what holds nevertheless, or what to do.
    pub(crate) fn but(mut self, consolation: impl Display) -> Self {
        self.message = format!("{}; {consolation}", self.message);
        self
    }
}

impl From<forebay::Error> for Failure {
    fn from(error: forebay::Error) -> Self {
        let failure = Self::new(format!("{error:#}"));
        match error.kind() {
            // The library's message names its parameters; here they are options.
            ErrorKind::InvalidConfig | ErrorKind::Full | ErrorKind::ReaderGone => {
                failure.but("limits are set by the options of their names, such as --max-size")
            }
            ErrorKind::Io if is_thread_missing(&error) => failure.but(MORE_THREADS),
            _ => failure,
        }
    }
}

/// What to do when the operating system refuses to start a thread.
const MORE_THREADS: &str = "raise the limit of processes and threads, as with `ulimit -u`";

/// Whether the operating system refused to start a thread. No other call that a buffer
/// makes fails with `WouldBlock`.
fn is_thread_missing(error: &forebay::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref());
    source.is_some_and(|source: &io::Error| source.kind() == io::ErrorKind::WouldBlock)
}

/// The failure of a command that needs a buffer where there is none.
pub(crate) fn no_buffer(directory: &Path) -> Failure {
    Failure::new(format!(
        "there is no buffer at {}: no such directory; check the path, or fill a new buffer with \
         `forebay push`",
        directory.display()
    ))
}

/// The failure to start a thread.
pub(crate) fn no_thread(error: &io::Error) -> Failure {
    Failure::io("start a thread", error).but(MORE_THREADS)
}

/// The failure to open a data file because this process may open no more files.
pub(crate) fn no_descriptor(directory: &Path) -> Failure {
    Failure::new(format!(
        "no data file can be opened in {}: too many open files; raise the limit, as with \
         `ulimit -n 1024`",
        directory.display()
    ))
}
