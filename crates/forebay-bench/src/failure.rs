//! Why a measurement could not be made.
//!
//! Invariant: a failure is one sentence, in lower case, that says what happened,
//! where, and what to do.

use std::fmt;
use std::io;

/// Why a measurement could not be made, in one sentence.
#[derive(Debug)]
pub struct Failure(String);

/// The result of a measurement, or of a part of it.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// An operating-system error while doing `what` (an infinitive).
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self(format!("cannot {what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<forebay::Error> for Failure {
    fn from(error: forebay::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

impl From<forebay::BatchError> for Failure {
    fn from(error: forebay::BatchError) -> Self {
        forebay::Error::from(error).into()
    }
}
