//! Where records are taken from: a buffer that is opened, or one that is only looked at.

use std::path::Path;

use bytes::Bytes;

use crate::config::{Config, Io, ReaderSees};
use crate::directory::options::LookOptions;
use crate::directory::records::{Records, RecordsOptions};
use crate::error::Result;
use crate::format::record::checksum;
use crate::read::Reader;
use crate::read::delivery::{Ack, Item};
use crate::state::lost::Lost;

/// A record to take.
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) metadata: u32,
    pub(super) events: u64,
    pub(super) payload: Bytes,
    /// Acknowledges it, if it is moved.
    pub(super) ack: Option<Ack>,
}

impl Record {
    pub(super) fn checksum(&self) -> u32 {
        checksum(self.id, self.metadata, &self.payload)
    }
}

/// The unread records of a buffer.
pub(super) enum Source {
    Moved(Box<Reader>),
    Copied(Box<Records>),
}

impl Source {
    /// Opens the buffer.
    ///
    /// # Errors
    /// Those of opening.
    pub(super) fn to_move(config: Config) -> Result<Self> {
        // What was written and not synced is synced now, and then it is seen.
        let config = config.io(Io::Caller).reader_sees(ReaderSees::Synced);
        let (writer, reader) = config.open()?;
        writer.flush()?;
        writer.close()?;
        Ok(Self::Moved(Box::new(reader)))
    }

    /// Looks at the buffer.
    ///
    /// # Errors
    /// Those of looking.
    pub(super) fn to_copy(look: &LookOptions, dir: &Path) -> Result<Self> {
        let mut options = RecordsOptions::new()
            .event_counter(look.event_counter.clone())
            .max_frame_len(look.max_frame_len);
        if let Some(storage) = &look.storage {
            options = options.storage(storage.clone());
        }
        Ok(Self::Copied(Box::new(options.records(dir)?)))
    }

    /// The next record; `None` at the end. Adds the events that are lost before it, and tells of
    /// each loss that a reader hands out.
    ///
    /// # Errors
    /// Those of reading.
    pub(super) fn next(
        &mut self,
        events_lost: &mut u64,
        tell: &mut dyn FnMut(&Lost),
    ) -> Result<Option<Record>> {
        match self {
            Self::Moved(reader) => loop {
                match reader.recv()? {
                    None => return Ok(None),
                    Some(Item::Lost(lost)) => {
                        *events_lost += lost.events;
                        tell(&lost);
                    }
                    Some(Item::Record(delivery)) => {
                        let (id, metadata) = (delivery.id(), delivery.metadata());
                        let events = delivery.events();
                        let (payload, ack) = delivery.split();
                        return Ok(Some(Record {
                            id,
                            metadata,
                            events,
                            payload,
                            ack: Some(ack),
                        }));
                    }
                }
            },
            Self::Copied(records) => {
                let record = records.next().transpose()?;
                *events_lost = records.lost().events;
                Ok(record.map(|record| Record {
                    id: record.id,
                    metadata: record.metadata,
                    events: record.events,
                    payload: record.payload,
                    ack: None,
                }))
            }
        }
    }

    /// Acknowledges records, durably.
    ///
    /// # Errors
    /// Those of the ledger's sync.
    pub(super) fn acknowledge(&self, acks: Vec<Ack>) -> Result<()> {
        let Self::Moved(reader) = self else {
            return Ok(());
        };
        for ack in acks {
            ack.ack();
        }
        reader.sync_acks()
    }

    /// Closes the buffer.
    ///
    /// # Errors
    /// Those of closing.
    pub(super) fn close(self) -> Result<()> {
        match self {
            Self::Moved(reader) => reader.close(),
            Self::Copied(_) => Ok(()),
        }
    }
}
