//! Finds the newest record of a buffer from the end of its data files.
//!
//! Invariant: a file is read from its end, and only as far as the record is not found.

use std::path::Path;
use std::sync::Arc;

use crate::directory::options::LookOptions;
use crate::directory::records::{RecordsOptions, StoredRecord};
use crate::directory::survey::{Survey, SurveyedFile, open_data_file, pool_for};
use crate::error::{Error, Result};
use crate::format::record::ALIGN;
use crate::scan::{Check, ScanOptions, Scanned, Scanner, each_frame};
use crate::storage::{File, Storage};

/// The bytes before the end of a file that are searched first.
const FIRST_LEN: u64 = 64 << 10;
/// The next part that is searched is this many times as long.
const GROWTH: u64 = 64;

impl RecordsOptions {
    /// The newest record of the buffer in `dir`, acknowledged or not, which is found from the end
    /// of the data files; `None` if there is none. Of the options, [`from`](Self::from) and
    /// [`all`](Self::all) have no effect.
    ///
    /// # Errors
    /// As [`records`](Self::records).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let (writer, _reader) = forebay::Config::new(dir.path()).open()?;
    /// writer.append_with(7, b"first")?;
    /// writer.append_with(8, b"last")?;
    /// writer.flush()?;
    /// let newest = forebay::RecordsOptions::new().newest(dir.path())?;
    /// assert_eq!(newest.map(|record| (record.id, record.metadata)), Some((2, 8)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn newest(&self, dir: impl AsRef<Path>) -> Result<Option<StoredRecord>> {
        newest(&self.look, dir.as_ref())
    }
}

/// The last record in the newest data file that has any, acknowledged or not.
///
/// # Errors
/// Those of the storage, and [`ErrorKind::NotABuffer`](crate::ErrorKind::NotABuffer).
fn newest(look: &LookOptions, dir: &Path) -> Result<Option<StoredRecord>> {
    let storage = look.storage();
    let (counter, max_frame_len) = (&look.event_counter, look.max_frame_len);
    let survey = Survey::take_existing(&storage, dir, counter, max_frame_len)?;
    for file in survey.files.iter().rev() {
        if let Some(record) = last_of(&storage, look, &survey, file)? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

fn last_of(
    storage: &Arc<dyn Storage>,
    look: &LookOptions,
    survey: &Survey,
    file: &SurveyedFile,
) -> Result<Option<StoredRecord>> {
    let path = survey.path(file);
    let Some(open) = open_data_file(&**storage, &path)? else {
        return Ok(None);
    };
    let pool = pool_for(&survey.files);
    let mut part_len = FIRST_LEN;
    loop {
        let start = file.len.saturating_sub(part_len) / ALIGN as u64 * ALIGN as u64;
        let mut found = Vec::new();
        let take = |offset, _id| found.push(offset);
        each_frame(&open, start..file.len, &pool, take)
            .map_err(|e| Error::read(&path, start, e))?;
        for offset in found {
            if let Some(record) = record_at(&open, look, survey, file, offset)? {
                return Ok(Some(record));
            }
        }
        if start == 0 {
            return Ok(None);
        }
        part_len = part_len.saturating_mul(GROWTH);
    }
}

fn record_at(
    open: &Arc<dyn File>,
    look: &LookOptions,
    survey: &Survey,
    file: &SurveyedFile,
    offset: u64,
) -> Result<Option<StoredRecord>> {
    let options = ScanOptions {
        max_frame_len: look.max_frame_len,
        check: Check::Checksums,
    };
    let pool = pool_for(&survey.files);
    let mut scanner = Scanner::over_file(Arc::clone(open), offset, file.len, options, pool);
    let item = scanner
        .next()
        .map_err(|e| Error::read(&survey.path(file), offset, e))?;
    let Some(Scanned::Record(found)) = item else {
        return Ok(None);
    };
    let payload = scanner.slice(&found);
    Ok(Some(StoredRecord {
        id: found.id,
        events: look.event_counter.count(found.metadata, &payload),
        metadata: found.metadata,
        payload,
        file_id: file.file_id,
        offset,
    }))
}
