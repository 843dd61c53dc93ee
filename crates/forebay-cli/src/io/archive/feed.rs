//! The bytes of an export, as many at a time as are needed.
//!
//! Invariant: what is held is what was asked for and one read more.

use super::Next;
use crate::failure::{Failure, Result};
use crate::io::input::{Input, Read};
use crate::stop::Stop;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Bytes asked for in one read.
const READ_LEN: usize = 256 << 10;

/// Where the bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    Standard(Input),
    File(File, Stop),
    #[cfg(test)]
    Memory(io::Cursor<Vec<u8>>),
}

/// Bytes that were read and not taken yet.
#[derive(Debug)]
pub(crate) struct Feed {
    source: Source,
    /// How the source is called in errors.
    name: String,
    total: Option<u64>,
    bytes: Vec<u8>,
    start: usize,
    /// Bytes before `start`.
    taken: u64,
    ended: bool,
}

impl Feed {
    /// Standard input.
    pub(crate) fn standard(stop: Stop) -> Self {
        let source = Source::Standard(Input::new(stop));
        Self::new(source, "standard input".to_owned(), None)
    }

    /// A file.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub(crate) fn file(path: &Path, stop: Stop) -> Result<Self> {
        let name = path.display().to_string();
        let failed = |error| Failure::io(&format!("read {name}"), &error);
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        let total = about.is_file().then_some(about.len());
        Ok(Self::new(Source::File(file, stop), name, total))
    }

    pub(super) fn new(source: Source, name: String, total: Option<u64>) -> Self {
        Self {
            source,
            name,
            total,
            bytes: Vec::new(),
            start: 0,
            taken: 0,
            ended: false,
        }
    }

    /// How many bytes there are, if that is known.
    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// How many bytes were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The bytes that are there.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The last `len` bytes that were taken, since the last [`fill`](Self::fill) or
    /// [`line`](Self::line).
    pub(super) fn last(&self, len: usize) -> &[u8] {
        &self.bytes[self.start - len..self.start]
    }

    /// Counts bytes as taken.
    pub(super) fn take(&mut self, len: usize) {
        self.start += len;
        self.taken += len as u64;
    }

    /// Reads until at least `len` bytes are there; `End` if fewer are left.
    pub(super) fn fill(&mut self, len: usize) -> Result<Next<()>> {
        while self.bytes().len() < len {
            match self.read()? {
                Next::Item(()) => {}
                other => return Ok(other),
            }
        }
        Ok(Next::Item(()))
    }

    /// Reads a line of at most `max` bytes, and returns its length without the newline; `End`
    /// if there is no newline.
    pub(super) fn line(&mut self, max: usize) -> Result<Next<usize>> {
        let mut searched = 0;
        loop {
            let rest = &self.bytes()[searched..];
            if let Some(at) = memchr::memchr(b'\n', rest) {
                return Ok(Next::Item(searched + at));
            }
            searched = self.bytes().len();
            if searched > max {
                return Ok(Next::End);
            }
            match self.read()? {
                Next::Item(()) => {}
                Next::Stopped => return Ok(Next::Stopped),
                Next::End => return Ok(Next::End),
            }
        }
    }

    fn read(&mut self) -> Result<Next<()>> {
        if self.ended {
            return Ok(Next::End);
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        let end = self.bytes.len();
        self.bytes.resize(end + READ_LEN, 0);
        let read = self.source.read(&mut self.bytes[end..]);
        let len = match &read {
            Ok(Read::Bytes(len)) => *len,
            _ => 0,
        };
        self.bytes.truncate(end + len);
        match read.map_err(|error| Failure::io(&format!("read {}", self.name), &error))? {
            Read::Stopped => Ok(Next::Stopped),
            Read::End => {
                self.ended = true;
                Ok(Next::End)
            }
            Read::Bytes(_) | Read::Nothing => Ok(Next::Item(())),
        }
    }
}

impl Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<Read> {
        let read = match self {
            Self::Standard(input) => return input.read(into, None),
            Self::File(_, stop) if stop.is_set() => return Ok(Read::Stopped),
            Self::File(file, _) => file.read(into)?,
            #[cfg(test)]
            Self::Memory(bytes) => bytes.read(into)?,
        };
        Ok(match read {
            0 => Read::End,
            len => Read::Bytes(len),
        })
    }
}
