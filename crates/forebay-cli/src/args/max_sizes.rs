//! `--max-size`, for commands that only look: how large buffers may become.
//!
//! A buffer does not store that; only the program that writes to it knows. Without the option,
//! it is not known how full a buffer is.

use super::sizes::Size;
use clap::Args;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[derive(Debug, Clone, Args)]
pub(crate) struct MaxSizeOptions {
    /// The maximum size that the program which fills the buffers was given, to tell
    /// how full they are: a buffer does not store it
    ///
    /// SIZE is for all buffers, DIR=SIZE for the buffer in DIR, or those below it;
    /// may be given several times.
    #[arg(long, value_name = "[DIR=]SIZE", allow_hyphen_values = true)]
    max_size: Vec<MaxSize>,
}

/// A size, and the directory at or below which it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MaxSize {
    directory: Option<PathBuf>,
    bytes: u64,
}

impl FromStr for MaxSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (directory, size) = match text.rsplit_once('=') {
            Some((directory, size)) => (Some(PathBuf::from(directory)), size),
            None => (None, text),
        };
        let Size(bytes) = size.parse()?;
        match bytes {
            0 => Err("a maximum size of 0 holds nothing; write it as 256MiB".to_owned()),
            _ => Ok(Self { directory, bytes }),
        }
    }
}

impl MaxSizeOptions {
    /// The maximum size of the buffer in a directory, if it was given. The longest directory
    /// that was named decides, and of equal ones the last.
    pub(crate) fn of(&self, directory: &Path) -> Option<u64> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let directory = real(directory);
        let matching = self.max_size.iter().filter_map(|max| match &max.directory {
            None => Some((0, max.bytes)),
            Some(above) => {
                let above = real(above);
                let depth = above.components().count();
                directory.starts_with(&above).then_some((depth, max.bytes))
            }
        });
        matching
            .max_by_key(|(depth, _)| *depth)
            .map(|(_, bytes)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(texts: &[&str]) -> MaxSizeOptions {
        MaxSizeOptions {
            max_size: texts.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn the_longest_directory_that_was_named_decides() {
        let options = options(&["1GiB", "/no/a=2GiB", "/no/a/b=3GiB", "/no/a/b/=4GiB"]);
        for (directory, gib) in [
            ("/no", 1),
            ("/no/ab", 1),
            ("/no/a", 2),
            ("/no/a/c", 2),
            ("/no/a/b", 4),
            ("/no/a/b/c/d", 4),
        ] {
            assert_eq!(
                options.of(Path::new(directory)),
                Some(gib << 30),
                "{directory}"
            );
        }
        let one = self::options(&["/no/a=1k"]);
        assert_eq!(one.of(Path::new("/no")), None);
    }

    #[test]
    fn a_size_that_is_none_is_refused() {
        for text in ["", "a", "0", "/a=0", "/a="] {
            assert!(text.parse::<MaxSize>().is_err(), "{text}");
        }
        let odd = "/a=b=1k".parse::<MaxSize>().unwrap();
        assert_eq!(odd.directory, Some(PathBuf::from("/a=b")));
    }
}
