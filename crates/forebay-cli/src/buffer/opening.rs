//! Opens a buffer for a command: waits for its lock, and reports what opening
//! found.

use crate::args::sizes::Time;
use crate::buffer::durability::waiting_for_space;
use crate::buffer::watch::SpaceWatch;
use crate::failure::{Failure, Result, no_buffer};
use crate::output::live::Live;
use crate::output::{count, note};
use crate::stop::Stop;
use forebay::{Config, ErrorKind, Finding, InspectOptions, Reader, Recovery, Severity, Writer};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a locked buffer is tried.
pub(crate) const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// How often a full file system is checked for space.
const SPACE_INTERVAL: Duration = Duration::from_millis(100);

/// At most this many findings or losses are listed one by one; the rest is counted.
pub(crate) const REPORTS_MAX: u64 = 20;

/// What an opening waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting<'a> {
    /// At most this long for another process that has the buffer open.
    pub(crate) for_lock: Time,
    /// For space on the file system of this directory, the buffer's; `None` to fail
    /// without it.
    pub(crate) for_space: Option<&'a Path>,
}

impl From<Time> for Waiting<'_> {
    fn from(for_lock: Time) -> Self {
        Self {
            for_lock,
            for_space: None,
        }
    }
}

/// Opens the buffer to read it; `None` when the stop was set while it waited. Findings with
/// lost events are not reported here, because the reader comes to them.
///
/// # Errors
///
/// The buffer cannot be opened, or is still in use.
pub(crate) fn open(
    config: &Config,
    waiting: Waiting<'_>,
    verbose: bool,
    stop: &Stop,
) -> Result<Option<(Writer, Reader)>> {
    let opened = open_silently(config, waiting, stop)?;
    if let Some((writer, _)) = &opened {
        report_recovery(writer.recovery(), verbose, note_plainly, |finding| {
            finding.events_lost == 0
        });
    }
    Ok(opened)
}

/// As [`open`], for a command that shows something on the terminal meanwhile.
///
/// # Errors
///
/// As [`open`].
pub(crate) fn open_watched(
    config: &Config,
    waiting: Waiting<'_>,
    verbose: bool,
    stop: &Stop,
    live: &Live,
) -> Result<Option<(Writer, Reader)>> {
    let opened = open_silently(config, waiting, stop)?;
    if let Some((writer, _)) = &opened {
        let note = |text: String| live.note(text);
        report_recovery(writer.recovery(), verbose, note, |finding| {
            finding.events_lost == 0
        });
    }
    Ok(opened)
}

/// The same for a command that does not read: all findings are reported.
///
/// # Errors
///
/// As [`open`].
pub(crate) fn open_to_write(
    config: &Config,
    waiting: Waiting<'_>,
    verbose: bool,
    stop: &Stop,
) -> Result<Option<Writer>> {
    let opened = open_silently(config, waiting, stop)?;
    if let Some((writer, _)) = &opened {
        report_recovery(writer.recovery(), verbose, note_plainly, |_| true);
    }
    Ok(opened.map(|(writer, _reader)| writer))
}

fn open_silently(
    config: &Config,
    waiting: Waiting<'_>,
    stop: &Stop,
) -> Result<Option<(Writer, Reader)>> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        let error = match config.clone().open() {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) => error,
        };
        match (error.kind(), waiting.for_space) {
            (ErrorKind::Locked, _) if begun.elapsed() >= waiting.for_lock.0 => {
                let hint = "--wait 1m waits for it";
                return Err(Failure::from(error).but(hint));
            }
            (ErrorKind::Locked, _) => stop.wait(LOCK_INTERVAL.min(waiting.for_lock.0)),
            (ErrorKind::DiskFull, Some(directory)) => {
                if !std::mem::replace(&mut is_told, true) {
                    note(waiting_for_space(directory));
                }
                let mut space = SpaceWatch::new(directory, true);
                while !stop.is_set() && !space.may_be_there() {
                    stop.wait(SPACE_INTERVAL);
                }
            }
            _ => return Err(error.into()),
        }
        if stop.is_set() {
            return Ok(None);
        }
    }
}

/// The bytes of data files from the first unread record on; 0 if that cannot be known.
pub(crate) fn unread_bytes(directory: &Path) -> u64 {
    let options = InspectOptions::new().count_records(false);
    let inspection = options.inspect(directory);
    inspection.map_or(0, |inspection| inspection.unread.bytes)
}

/// Makes sure that there is a buffer, for commands that must not create one.
///
/// # Errors
///
/// There is none.
pub(crate) fn require_buffer(directory: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(no_buffer(directory));
        }
        // Opening meets any other error again, and reports it with its remedy.
        Err(_) => return Ok(()),
    };
    let holds_buffer = entries
        .filter_map(std::result::Result::ok)
        .any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"buffer"));
    match holds_buffer {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{} holds no buffer: neither a ledger nor data files are in it; check the path",
            directory.display()
        ))),
    }
}

/// Whether files of a buffer were being replaced, by a repair or a move to it, and that was
/// interrupted. An opening finishes it.
pub(crate) fn is_interrupted(directory: &Path) -> bool {
    let looked = InspectOptions::new()
        .count_records(false)
        .inspect(directory);
    looked.is_err_and(|error| error.kind() == ErrorKind::Locked)
}

/// Finishes what [`is_interrupted`] tells of, if it does.
///
/// # Errors
///
/// Those of opening.
pub(crate) fn finish_interrupted(directory: &Path) -> Result<()> {
    if is_interrupted(directory) {
        let (writer, reader) = Config::new(directory).open()?;
        drop(writer);
        reader.close()?;
    }
    Ok(())
}

/// Reports those findings of opening that are `wanted`: damage always, what a crash
/// leaves only if `verbose`.
fn report_recovery(
    recovery: &Recovery,
    verbose: bool,
    note: impl Fn(String),
    wanted: impl Fn(&Finding) -> bool,
) {
    let mut more = 0;
    let shown = recovery
        .findings
        .iter()
        .filter(|finding| verbose || finding.severity == Severity::Damage)
        .filter(|finding| wanted(finding));
    for (index, finding) in (0_u64..).zip(shown) {
        if index < REPORTS_MAX {
            note(format!("while opening: {}", describe(finding)));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        note(format!(
            "while opening: {} more; `forebay verify` lists them all",
            count(more, "finding")
        ));
    }
}

fn note_plainly(text: String) {
    note(text);
}

/// A finding as one line of text.
fn describe(finding: &Finding) -> String {
    let mut text = finding.kind.to_string();
    if let Some(file) = &finding.file {
        text.push_str(&format!(" in {file} at offset {}", finding.offset));
        if finding.length > 0 {
            text.push_str(&format!(", {}", count(finding.length, "byte")));
        }
    }
    if finding.events_lost > 0 {
        text.push_str(&format!(", {} lost", count(finding.events_lost, "event")));
    }
    text
}
