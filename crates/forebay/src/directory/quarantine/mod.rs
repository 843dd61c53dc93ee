//! Keeps damaged bytes under `quarantine/` in the buffer's directory.
//!
//! A damaged span of `buffer-data-7.dat` becomes
//! `quarantine/buffer-data-7.dat.4096-144.bytes`, and a report next to it,
//! `….json`, says what was wrong. A whole file keeps its name.
//!
//! Invariants:
//! - The quarantine is bounded. After a total of bytes only reports of spans are written;
//!   after a number of reports nothing is.
//! - Keeping the same span twice keeps it once. The report is written last, so a span's
//!   bytes without a report are of an interrupted attempt, and are replaced.
//! - Errors of the quarantine are logged; they fail neither an open nor a read.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::config::OnCorruption;
use crate::storage::{Access, File, Storage, read_full, write_all};
use crate::sync::Mutex;

/// The name of the directory in the buffer's directory.
pub(crate) const QUARANTINE_DIR_NAME: &str = "quarantine";

/// At most this many reports; then nothing is kept any more. Every record of a large buffer
/// may be damaged.
pub(crate) const MAX_REPORTS: usize = 1024;

/// At most this many different contents are kept of the same span, or of the same file name:
/// file ids wrap, so both can occur again.
const MAX_SAME_NAME: usize = 8;

const COPY_LEN: u64 = 64 * 1024;

/// Keeps damaged bytes of one buffer.
#[derive(Debug)]
pub(crate) struct Quarantine {
    storage: Arc<dyn Storage>,
    buffer_dir: PathBuf,
    dir: PathBuf,
    policy: OnCorruption,
    bound: u64,
    /// The entries of the directory; read when something is kept for the first time.
    kept: Mutex<Option<Kept>>,
}

/// The entries of the quarantine directory.
#[derive(Debug, Default)]
struct Kept {
    lens: BTreeMap<OsString, u64>,
    /// The total length of all entries but reports.
    bytes: u64,
    reports: usize,
}

/// What a report says.
#[derive(Clone, Copy)]
struct Report<'a> {
    file_name: &'a str,
    offset: u64,
    len: u64,
    kind: &'a str,
    events_lost: u64,
    kept_as: Option<&'a str>,
}

impl Quarantine {
    /// A quarantine for the buffer in `dir` that keeps at most `bound` bytes if
    /// `policy` is [`OnCorruption::Quarantine`], otherwise nothing.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        dir: &Path,
        policy: OnCorruption,
        bound: u64,
    ) -> Self {
        Self {
            storage,
            buffer_dir: dir.to_owned(),
            dir: dir.join(QUARANTINE_DIR_NAME),
            policy,
            bound,
            kept: Mutex::new(None),
        }
    }

    /// Keeps `len` bytes of a file from `offset`, with a report that says what
    /// `kind` of damage it is and how many events it lost. Returns `false` only after an error:
    /// bytes that the policy or the bounds exclude are not kept, and the result is `true`.
    pub(crate) fn keep_span(
        &self,
        file: &dyn File,
        file_name: &str,
        offset: u64,
        len: u64,
        kind: &str,
        events_lost: u64,
    ) -> bool {
        let report = Report {
            file_name,
            offset,
            len,
            kind,
            events_lost,
            kept_as: None,
        };
        let kept = self.with_kept(|kept| self.try_keep_span(kept, file, &report));
        if let Some(Err(error)) = kept {
            tracing::warn!(
                file = file_name, offset, len, error = %format_args!("{error:#}"),
                "cannot keep damaged bytes in {}", self.dir.display()
            );
            return false;
        }
        true
    }

    /// Moves a file from the buffer's directory to the quarantine, if it fits the bounds.
    /// Returns whether the file was moved.
    pub(crate) fn keep_file(&self, file_name: &str, kind: &str) -> bool {
        let moved = self.with_kept(|kept| self.try_keep_file(kept, file_name, kind));
        match moved {
            Some(Ok(moved)) => moved,
            None => false,
            Some(Err(error)) => {
                tracing::warn!(
                    file = file_name, error = %format_args!("{error:#}"),
                    "cannot move a file to {}", self.dir.display()
                );
                false
            }
        }
    }

    /// Calls `keep` with the entries of the quarantine; `None` if the policy keeps nothing.
    fn with_kept<T>(&self, keep: impl FnOnce(&mut Kept) -> io::Result<T>) -> Option<io::Result<T>> {
        if self.policy != OnCorruption::Quarantine {
            return None;
        }
        let mut slot = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = match slot.take().map_or_else(|| self.load(), Ok) {
            Ok(kept) => kept,
            Err(error) => return Some(Err(error)),
        };
        let result = keep(&mut kept);
        // After an error the next call reads the directory again: it may hold more than `kept`.
        *slot = result.is_ok().then_some(kept);
        Some(result)
    }

    fn load(&self) -> io::Result<Kept> {
        let mut kept = Kept::default();
        match self.storage.list(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            entries => {
                for entry in entries? {
                    kept.add(&entry.name, entry.len);
                }
            }
        }
        Ok(kept)
    }

    fn try_keep_span(
        &self,
        kept: &mut Kept,
        file: &dyn File,
        report: &Report<'_>,
    ) -> io::Result<()> {
        let stem = format!("{}.{}-{}", report.file_name, report.offset, report.len);
        let Some(name) = self.free_name(kept, &stem, file, report)? else {
            return Ok(());
        };
        if kept.reports >= MAX_REPORTS {
            tracing::debug!(file = report.file_name, "the quarantine is full");
            return Ok(());
        }
        self.storage.create_dir(&self.dir)?;
        let bytes_name = bytes_name(&name);
        kept.remove(bytes_name.as_ref());
        let mut failed = Ok(());
        let mut kept_as = None;
        if report.len > 0 && kept.bytes.saturating_add(report.len) <= self.bound {
            failed = self.copy(file, report, &bytes_name);
            if failed.is_ok() {
                kept.add(bytes_name.as_ref(), report.len);
                kept_as = Some(bytes_name.as_str());
            } else {
                // An incomplete copy is of no use, and only takes space on a full disk.
                let _ = self.storage.delete(&self.dir.join(&bytes_name));
            }
        }
        self.write_report(kept, &name, &Report { kept_as, ..*report })?;
        self.storage.sync_dir(&self.dir)?;
        failed
    }

    fn try_keep_file(&self, kept: &mut Kept, file_name: &str, kind: &str) -> io::Result<bool> {
        let from = self.buffer_dir.join(file_name);
        let len = self.storage.open(&from, Access::Read)?.len()?;
        let fits = kept.bytes.saturating_add(len) <= self.bound && kept.reports < MAX_REPORTS;
        let name = (0..MAX_SAME_NAME)
            .map(|n| numbered(file_name, n))
            .find(|name| !kept.has(name) && !kept.has(&report_name(name)));
        let (Some(name), true) = (name, fits) else {
            tracing::warn!(
                file = file_name,
                len,
                "the quarantine is full; left in place"
            );
            return Ok(false);
        };
        self.storage.create_dir(&self.dir)?;
        self.storage.rename(&from, &self.dir.join(&name))?;
        kept.add(name.as_ref(), len);
        let report = Report {
            file_name,
            offset: 0,
            len,
            kind,
            events_lost: 0,
            kept_as: Some(&name),
        };
        // The file is moved even if the report fails. If a power cut undoes the move, the next
        // open moves it again.
        let reported = self
            .write_report(kept, &name, &report)
            .and_then(|()| self.storage.sync_dir(&self.dir))
            .and_then(|()| self.storage.sync_dir(&self.buffer_dir));
        if let Err(error) = reported {
            tracing::warn!(file = file_name, error = %format_args!("{error:#}"), "moved to quarantine without a report");
        }
        Ok(true)
    }

    /// The name under which to keep a span; `None` if the span or its report alone is kept
    /// already, or if [`MAX_SAME_NAME`] different contents are.
    fn free_name(
        &self,
        kept: &Kept,
        stem: &str,
        file: &dyn File,
        report: &Report<'_>,
    ) -> io::Result<Option<String>> {
        for name in (0..MAX_SAME_NAME).map(|n| numbered(stem, n)) {
            if !kept.has(&report_name(&name)) {
                return Ok(Some(name));
            }
            let bytes_name = bytes_name(&name);
            if !kept.has(&bytes_name) || self.is_same(file, report, &bytes_name)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn is_same(&self, file: &dyn File, report: &Report<'_>, bytes_name: &str) -> io::Result<bool> {
        let old = self
            .storage
            .open(&self.dir.join(bytes_name), Access::Read)?;
        let copy_len = report.len.min(COPY_LEN);
        let (mut ours, mut theirs) = (vec![0; copy_len as usize], vec![0; copy_len as usize]);
        let mut done = 0;
        while done < report.len {
            let step = (report.len - done).min(copy_len) as usize;
            let ours_len = read_full(file, &mut ours[..step], report.offset + done)?;
            let theirs_len = read_full(&*old, &mut theirs[..step], done)?;
            if ours[..ours_len] != theirs[..theirs_len] {
                return Ok(false);
            }
            if ours_len < step {
                break;
            }
            done += step as u64;
        }
        Ok(true)
    }

    fn copy(&self, file: &dyn File, report: &Report<'_>, bytes_name: &str) -> io::Result<()> {
        let to = self.create(bytes_name)?;
        let copy_len = report.len.min(COPY_LEN);
        let mut buf = vec![0; copy_len as usize];
        let mut done = 0;
        while done < report.len {
            let step = (report.len - done).min(copy_len) as usize;
            let read = read_full(file, &mut buf[..step], report.offset + done)?;
            write_all(&*to, &buf[..read], done)?;
            done += read as u64;
            if read < step {
                break;
            }
        }
        to.sync()
    }

    fn write_report(&self, kept: &mut Kept, name: &str, report: &Report<'_>) -> io::Result<()> {
        let report_name = report_name(name);
        let json = report.to_json();
        let file = self.create(&report_name)?;
        write_all(&*file, json.as_bytes(), 0)?;
        kept.add(report_name.as_ref(), json.len() as u64);
        Ok(())
    }

    /// Makes a new empty file; replaces the file of an interrupted attempt.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let path = self.dir.join(name);
        match self.storage.open(&path, Access::CreateNew) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.storage.open(&path, Access::Write)?;
                file.truncate(0)?;
                Ok(file)
            }
            created => created,
        }
    }
}

impl Kept {
    fn has(&self, name: &str) -> bool {
        self.lens.contains_key(OsStr::new(name))
    }

    fn add(&mut self, name: &OsStr, len: u64) {
        if self.lens.insert(name.to_owned(), len).is_some() {
            return;
        }
        if is_report(name) {
            self.reports += 1;
        } else {
            self.bytes = self.bytes.saturating_add(len);
        }
    }

    fn remove(&mut self, name: &OsStr) {
        if let Some(len) = self.lens.remove(name) {
            self.bytes = self.bytes.saturating_sub(len);
        }
    }
}

impl Report<'_> {
    fn to_json(self) -> String {
        let kept_as = self.kept_as.map_or("null".to_owned(), json_string);
        format!(
            "{{\"file\":{},\"offset\":{},\"length\":{},\"kind\":{},\"events_lost\":{},\"kept_as\":{}}}\n",
            json_string(self.file_name),
            self.offset,
            self.len,
            json_string(self.kind),
            self.events_lost,
            kept_as,
        )
    }
}

fn numbered(stem: &str, n: usize) -> String {
    if n == 0 {
        stem.to_owned()
    } else {
        format!("{stem}.{n}")
    }
}

fn bytes_name(name: &str) -> String {
    format!("{name}.bytes")
}

fn report_name(name: &str) -> String {
    format!("{name}.json")
}

fn is_report(name: &OsStr) -> bool {
    Path::new(name).extension() == Some(OsStr::new("json"))
}

/// The text as a string of JSON.
pub(crate) fn json_string(text: &str) -> String {
    use std::fmt::Write;
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests;
