//! A new buffer that may be there already, because the same work was interrupted or done before.
//!
//! Invariant: to do the same work again, after a kill at whatever moment, has the same result as to
//! do it once.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::{Built, NewBuffer};
use crate::directory::enclosing::refuse_reserved;
use crate::directory::records::{Records, RecordsOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Storage;

/// A buffer to make, or to compare with what is there.
#[derive(Debug)]
pub(super) struct Target {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    work: Work,
    is_begun: bool,
}

#[derive(Debug)]
enum Work {
    Make(Box<NewBuffer>),
    /// There is a buffer; the error says so, if it holds other records.
    Compare(Box<Records>, Error),
}

/// What was made.
#[derive(Debug, Default)]
pub(super) struct Targeted {
    /// The ids that no record covers, each range half open; none if the buffer was there.
    pub(super) missing: Vec<Range<u64>>,
    /// Whether the buffer was there already, with the same records.
    pub(super) was_there: bool,
}

impl Target {
    /// As [`NewBuffer::create`]. If there is a buffer with unread events, the records that are
    /// pushed are compared with its records.
    ///
    /// # Errors
    /// As [`NewBuffer::create`], and those of reading.
    pub(super) fn create(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        data_file_size: u64,
        acknowledged: u64,
    ) -> Result<Self> {
        refuse_reserved(&**storage, dir)?;
        let new = NewBuffer::create(Arc::clone(storage), dir, data_file_size, acknowledged);
        let work = match new {
            Ok(new) => Work::Make(Box::new(new)),
            Err(error) if error.kind() == ErrorKind::InvalidConfig => {
                Work::compare(storage, dir, error)?
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            storage: Arc::clone(storage),
            dir: dir.to_owned(),
            work,
            is_begun: false,
        })
    }

    /// Whether there is nothing to write as far as is known.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.work, Work::Compare(..))
    }

    /// Adds a record. Ids rise.
    ///
    /// # Errors
    /// As [`NewBuffer::push`]; [`ErrorKind::InvalidConfig`] if the buffer that is there has another
    /// record in this place.
    pub(super) fn push(
        &mut self,
        id: u64,
        metadata: u32,
        events: u64,
        payload: &[u8],
    ) -> Result<()> {
        if let Work::Make(new) = &mut self.work
            && let Err(error) = new.push(id, metadata, events, payload)
        {
            if self.is_begun || !new.was_given_out(id) {
                return Err(error);
            }
            // Everything that is there is acknowledged. It may be the same.
            self.work = Work::compare(&self.storage, &self.dir, error)?;
        }
        if let Work::Compare(records, other) = &mut self.work {
            let record = records.next().transpose()?;
            let is_same = record.is_some_and(|record| {
                (record.id, record.metadata) == (id, metadata) && record.payload == payload
            });
            if !is_same {
                return Err(other.clone());
            }
        }
        self.is_begun = true;
        Ok(())
    }

    /// Installs the buffer. Its next record gets this id, or a higher one if the records reach
    /// beyond it.
    ///
    /// # Errors
    /// As [`NewBuffer::finish`]; [`ErrorKind::InvalidConfig`] if the buffer that is there holds
    /// something else.
    pub(super) fn finish(self, next_record_id: u64) -> Result<Targeted> {
        match self.work {
            Work::Make(new) => {
                let Built { missing, .. } = new.finish(next_record_id)?;
                Ok(Targeted {
                    missing,
                    was_there: false,
                })
            }
            Work::Compare(mut records, other) => {
                if records.next().transpose()?.is_some() || records.next_id() < next_record_id {
                    return Err(other);
                }
                Ok(Targeted {
                    missing: Vec::new(),
                    was_there: true,
                })
            }
        }
    }
}

impl Work {
    fn compare(storage: &Arc<dyn Storage>, dir: &Path, error: Error) -> Result<Self> {
        let options = RecordsOptions::new().all(true);
        let records = options.storage(Arc::clone(storage)).records(dir)?;
        Ok(Self::Compare(Box::new(records), error))
    }
}
