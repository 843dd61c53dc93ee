//! Keeps damaged bytes under `quarantine/` in the buffer's directory.
//!
//! A damaged span of `buffer-data-7.dat` becomes
//! `quarantine/buffer-data-7.dat.4096-144.bytes`, and beside it a report,
//! `….json`, says what was wrong. A whole file keeps its name.
//!
//! Invariants:
//! - What is kept is bounded: a total of bytes, after which only reports are
//!   written, and a number of reports, after which nothing is.
//! - Keeping the same span twice keeps it once. The report is written last, so
//!   bytes without one are of an attempt that was cut short, and replaced.
//! - No error of its own fails an open or a read; it is traced.

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

/// After this many entries nothing is kept any more: damage can be in every
/// record of a large buffer.
const MAX_REPORTS: usize = 1024;

/// How many different contents the same span of the same file may have had:
/// file ids come round, offsets repeat.
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
    /// What the directory holds; read when something is kept for the first time.
    kept: Mutex<Option<Kept>>,
}

/// The entries of the quarantine directory.
#[derive(Debug, Default)]
struct Kept {
    lens: BTreeMap<OsString, u64>,
    /// Of everything but reports.
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
    /// A quarantine for the buffer in `dir` that keeps up to `bound` bytes, if
    /// `policy` is [`OnCorruption::Quarantine`]; otherwise it keeps nothing.
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
    /// `kind` of damage it is and how many events it lost. Says whether nothing went wrong
    /// with it; what is beyond the bound is not kept, and nothing went wrong.
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

    /// Moves a file out of the buffer's directory, within the bound. Says
    /// whether it did.
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

    /// Runs `keep` on what is already kept; `None` if the policy keeps nothing.
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
        // After an error the directory is read again: it may hold more.
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
                // Half a copy helps nobody, least of all on a full disk.
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
        // It is moved, whatever becomes of the report; a power cut that undoes
        // the move leaves it to the next open.
        let reported = self
            .write_report(kept, &name, &report)
            .and_then(|()| self.storage.sync_dir(&self.dir))
            .and_then(|()| self.storage.sync_dir(&self.buffer_dir));
        if let Err(error) = reported {
            tracing::warn!(file = file_name, error = %format_args!("{error:#}"), "moved to quarantine without a report");
        }
        Ok(true)
    }

    /// The name to keep a span under, or `None` when it is kept already (or
    /// too many different ones were).
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

    /// A new empty file; what an attempt that was cut short left is replaced.
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

fn json_string(text: &str) -> String {
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
