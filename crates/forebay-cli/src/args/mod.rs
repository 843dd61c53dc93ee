//! Options that several commands share, and what they become.
//!
//! Invariants: an option that is not given leaves the library's default; every
//! help text says unit, default and what to expect.

pub(crate) mod counting;
pub(crate) mod max_sizes;
pub(crate) mod sizes;

use self::counting::CountingOptions;
use self::sizes::{Size, Time};
use crate::failure::{Failure, Result};
use crate::io::framing::Framing;
use clap::{Args, ValueEnum, ValueHint};
use forebay::{Config, EventCounter, OnCorruption, SyncPolicy, WhenFull};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The names of standard output that every Unix has. To replace the file that it leads to would
/// lose what the shell has put there.
const STANDARD_OUTPUT: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// The file that an option names; `-` is standard input or output, as when there is no option.
pub(crate) fn file(option: &Option<PathBuf>) -> Option<&Path> {
    let is_standard = |path: &&Path| {
        *path == Path::new("-") || STANDARD_OUTPUT.iter().any(|name| *path == Path::new(name))
    };
    option.as_deref().filter(|path| !is_standard(path))
}

/// How long an append waits for space before it returns, so that the stop is checked.
const APPEND_WAIT: Duration = Duration::from_millis(200);

/// The buffer, and how it is opened. `C` holds the ways to count events that the command
/// allows.
#[derive(Debug, Args)]
pub(crate) struct BufferOptions<C: Args = CountingOptions> {
    /// The buffer's directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,

    #[command(flatten)]
    pub(crate) counting: C,

    /// How long to wait for a buffer that another process has open
    ///
    /// Without it, a buffer in use is an error at once.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "0s",
        allow_hyphen_values = true
    )]
    pub(crate) wait: Time,

    /// What to do with damaged bytes in the buffer
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = CorruptionPolicy::Quarantine)]
    pub(crate) on_corruption: CorruptionPolicy,

    /// Print more messages on standard error
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// The limits of a buffer that is written to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits and durability")]
pub(crate) struct LimitOptions {
    /// The most the buffer may occupy on disk, such as 256MiB [default: 1GiB]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    max_size: Option<Size>,

    /// The most one data file may hold; disk space is freed one data file at a
    /// time [default: a sixteenth of the maximum size, at most 128MiB]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    data_file_size: Option<Size>,

    /// The longest record [default: what fits into one data file]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    max_record_size: Option<Size>,

    /// Treat the buffer as full while the file system has less free space
    /// [default: 0]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    min_free_space: Option<Size>,

    /// What to do when the buffer, or the disk, is full
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = FullPolicy::Block)]
    pub(crate) when_full: FullPolicy,

    /// When records are synced, so that they survive a power cut
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = Sync::Interval)]
    sync: Sync,

    /// How often to sync, with --sync interval [default: 500ms]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    flush_interval: Option<Time>,
}

/// How a stream is divided into records.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Records")]
pub(crate) struct FramingOptions {
    /// How the stream is divided into records
    #[arg(long, value_name = "HOW", value_enum, default_value_t = FramingName::Lines)]
    framing: FramingName,

    /// What ends a record, with --framing lines [default: newline]
    #[arg(long, value_name = "BYTE", value_enum)]
    delimiter: Option<Delimiter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FramingName {
    /// Every record ends with the delimiter; the last may lack it
    Lines,
    /// Every record begins with its length: 4 bytes, big endian
    Length,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Delimiter {
    /// A newline
    Newline,
    /// A zero byte, as `find -print0` and `xargs -0` use it
    Nul,
}

/// `--when-full`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FullPolicy {
    /// Wait until there is space
    Block,
    /// End with an error that says how many records were accepted
    Reject,
    /// Drop the records that do not fit, and report their number
    DropNewest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sync {
    /// At intervals (--flush-interval), and at the end
    Interval,
    /// Every record, before more input is read
    #[value(alias = "batch")]
    Always,
    /// Only when several data files are complete, and at the end
    Never,
}

/// `--on-corruption`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CorruptionPolicy {
    /// Step over them, and keep them in quarantine/ in the buffer's directory
    Quarantine,
    /// Step over them
    Skip,
    /// End with an error
    Refuse,
}

impl From<CorruptionPolicy> for OnCorruption {
    fn from(policy: CorruptionPolicy) -> Self {
        match policy {
            CorruptionPolicy::Quarantine => Self::Quarantine,
            CorruptionPolicy::Skip => Self::Skip,
            CorruptionPolicy::Refuse => Self::Refuse,
        }
    }
}

impl<C: Args> BufferOptions<C> {
    /// The configuration, with the library's default limits.
    pub(crate) fn config(&self, counter: EventCounter) -> Config {
        Config::new(&self.directory)
            .event_counter(counter)
            .on_corruption(self.on_corruption.into())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl BufferOptions {
    /// The configuration, with the limits that were given.
    pub(crate) fn config_with(&self, limits: &LimitOptions) -> Config {
        let mut config = self.config(self.counting.counter());
        if let Some(Size(bytes)) = limits.max_size {
            config = config.max_size(bytes);
        }
        if let Some(Size(bytes)) = limits.data_file_size {
            config = config.data_file_size(bytes);
        }
        if let Some(Size(bytes)) = limits.max_record_size {
            config = config.max_record_size(bytes);
        }
        if let Some(Size(bytes)) = limits.min_free_space {
            config = config.min_free_space(bytes);
        }
        config
            .flush_interval(limits.flush_interval())
            .sync(match limits.sync {
                Sync::Interval => SyncPolicy::Interval,
                Sync::Always => SyncPolicy::Always,
                Sync::Never => SyncPolicy::Never,
            })
            .when_full(match limits.when_full {
                FullPolicy::Block => WhenFull::BlockFor(APPEND_WAIT),
                FullPolicy::Reject => WhenFull::Reject,
                FullPolicy::DropNewest => WhenFull::DropNewest,
            })
    }
}

impl LimitOptions {
    /// Where to wait for space while an opening finds none: the buffer's directory, or
    /// nowhere if a full disk is to be an error.
    pub(crate) fn space_to_wait_for<'a>(&self, directory: &'a Path) -> Option<&'a Path> {
        (self.when_full == FullPolicy::Block).then_some(directory)
    }

    /// The options that allow longer records, in words.
    pub(crate) fn options_for_longer_records(&self) -> &'static str {
        let max_size = self
            .max_size
            .map_or(Config::DEFAULT_MAX_SIZE, |size| size.0);
        // From here on, data files do not become larger with the buffer.
        let is_large = max_size / Config::DEFAULT_DATA_FILES >= Config::DEFAULT_MAX_DATA_FILE_SIZE;
        match (self.max_record_size, self.data_file_size) {
            (Some(_), _) => "--max-record-size",
            (None, Some(_)) => "--data-file-size",
            (None, None) if is_large => "--data-file-size",
            (None, None) => "--data-file-size or --max-size",
        }
    }

    /// The longest time that records stay unsynced, with `--sync interval`.
    pub(crate) fn flush_interval(&self) -> Duration {
        self.flush_interval
            .map_or(Config::DEFAULT_FLUSH_INTERVAL, |time| time.0)
    }
}

impl FramingOptions {
    /// The framing that was chosen.
    ///
    /// # Errors
    ///
    /// A delimiter was given for a framing that has none.
    pub(crate) fn framing(self) -> Result<Framing> {
        match (self.framing, self.delimiter) {
            (FramingName::Length, None) => Ok(Framing::Length),
            (FramingName::Lines, None | Some(Delimiter::Newline)) => Ok(Framing::Delimited(b'\n')),
            (FramingName::Lines, Some(Delimiter::Nul)) => Ok(Framing::Delimited(0)),
            (FramingName::Length, Some(_)) => Err(Failure::new(
                "--framing length has no delimiter; leave --delimiter out",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches as _};

    /// What the help says of a default is what the library does.
    #[test]
    fn the_defaults_in_the_help_are_the_librarys() {
        let command = LimitOptions::augment_args(Command::new("limits"));
        let default = |name: &str| {
            let argument = command
                .get_arguments()
                .find(|a| a.get_id() == name)
                .unwrap();
            let help = argument.get_help().unwrap().to_string();
            let (_, default) = help.split_once("[default: ").unwrap();
            default.trim_end_matches(']').to_owned()
        };
        let Size(max_size) = default("max_size").parse().unwrap();
        assert_eq!(max_size, Config::DEFAULT_MAX_SIZE);
        let Time(interval) = default("flush_interval").parse().unwrap();
        assert_eq!(interval, Config::DEFAULT_FLUSH_INTERVAL);
        let Size(min_free_space) = default("min_free_space").parse().unwrap();
        assert_eq!(min_free_space, Config::DEFAULT_MIN_FREE_SPACE);
        let largest = default("data_file_size");
        let (share, largest) = largest.rsplit_once(' ').unwrap();
        assert_eq!(share, "a sixteenth of the maximum size, at most");
        assert_eq!(Config::DEFAULT_DATA_FILES, 16);
        let Size(largest) = largest.parse().unwrap();
        assert_eq!(largest, Config::DEFAULT_MAX_DATA_FILE_SIZE);
        let given = command.try_get_matches_from(["limits"]).unwrap();
        LimitOptions::from_arg_matches(&given).unwrap();
    }
}
