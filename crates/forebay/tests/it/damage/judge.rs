//! Opens a damaged buffer and checks it against what the damage left.

use std::cell::Cell;
use std::sync::Arc;

use forebay::format::ledger::{LedgerDamage, LedgerState};
use forebay::storage::Storage;
use forebay::storage::sim::Sim;
use forebay::{Config, Io, Item, Reader, TryRecv, VerifyOptions, Writer};

use super::shapes::{Shape, counter};
use crate::workload::{Check, DIR, Record, check_usage, must};

/// A ledger is at most this many ids ahead of the records; otherwise it is damaged.
pub(super) const MAX_AHEAD: u64 = 1 << 48;

/// The ledger in these bytes, over records up to `data_end`. If only its next id is too low,
/// the records' next id replaces it. `None` if the bytes are no possible ledger.
pub(super) fn ledger_said(bytes: &[u8], data_end: u64) -> Option<LedgerState> {
    match LedgerState::from_bytes(bytes) {
        Ok(state) => Some(state),
        Err(LedgerDamage::ReaderAheadOfWriter { reader_last, .. }) if reader_last < data_end => {
            let mut bytes = bytes.to_vec();
            bytes[..8].copy_from_slice(&data_end.to_le_bytes());
            LedgerState::from_bytes(&bytes).ok()
        }
        Err(_) => None,
    }
}

/// What damage left of a buffer.
pub(super) struct Left<'a> {
    pub(super) shape: &'a Shape,
    /// The ids of the records that may be gone.
    pub(super) may_be_gone: Vec<u64>,
    /// The ids of the records that are gone for certain.
    pub(super) gone: Vec<u64>,
    /// What the ledger says, if it is believed.
    pub(super) ledger: Option<LedgerState>,
    /// Whether what is left can be read in one way only. If not, `verify` and the reader may
    /// count different losses: more is found in a file if its length is known.
    pub(super) is_clear: bool,
}

thread_local! {
    /// The cases of the running test: each test runs on a thread of its own.
    static CASES: Cell<u64> = const { Cell::new(0) };
}

/// Prints how many damaged buffers this test has opened.
pub(super) fn tell(what: &str) {
    eprintln!("{what}: {} cases", CASES.get());
}

/// An item that a reader returned: a record, or the first id and the number of lost events.
#[derive(Debug)]
enum Seen {
    Record(Record),
    Lost(u64, u64),
}

impl Seen {
    fn ids(&self) -> (u64, u64) {
        match self {
            Self::Record(record) => (record.id, record.end()),
            Self::Lost(first, events) => (*first, first + events),
        }
    }
}

pub(super) fn config() -> Config {
    Config::new(DIR)
        .max_size(64 << 10)
        .data_file_size(1 << 10)
        .batch_size(4 << 10)
        .event_counter(counter())
        .io(Io::Caller)
}

impl<'a> Left<'a> {
    /// Nothing is gone, and the ledger is as it was.
    pub(super) fn everything(shape: &'a Shape) -> Self {
        Self {
            shape,
            may_be_gone: Vec::new(),
            gone: Vec::new(),
            ledger: Some(shape.ledger),
            is_clear: true,
        }
    }

    /// Opens the buffer, reads it, appends to it, and opens it again.
    pub(super) fn check(&self, sim: &Sim) -> Check {
        self.check_over(sim, &(Arc::new(sim.clone()) as Arc<dyn Storage>))
    }

    /// The same through a storage over `sim`.
    pub(super) fn check_over(&self, sim: &Sim, storage: &Arc<dyn Storage>) -> Check {
        CASES.set(CASES.get() + 1);
        let options = VerifyOptions::default().event_counter(counter());
        let verified = options.storage(storage.clone()).verify(DIR);
        let verified = must("verify", verified)?;
        let lost_by_verify = verified.events_lost;
        let (writer, mut reader) = must("open", config().storage(storage.clone()).open())?;
        let next_id = writer.usage().next_record_id;
        let unread = writer.usage().unread.events;
        let seen = drain(&mut reader)?;
        self.judge(&seen, next_id)
            .map_err(|e| format!("{e}; came: {seen:?}, {:?}", reader.recovery()))?;
        let events: u64 = seen.iter().map(|s| s.ids().1 - s.ids().0).sum();
        if unread != events {
            return Err(format!("{unread} events unread at open, {events} came"));
        }
        let lost: u64 = seen.iter().map(Seen::lost).sum();
        let counted = reader.usage().lost.events;
        if lost != counted || (self.is_clear && lost != lost_by_verify) {
            return Err(format!(
                "{lost} lost, {counted} counted; {seen:?}, {verified:?}"
            ));
        }
        self.go_on(sim, writer, reader, next_id)
    }

    /// Checks that these are the expected items.
    fn judge(&self, seen: &[Seen], next_id: u64) -> Check {
        for pair in seen.windows(2) {
            if pair[0].ids().1 != pair[1].ids().0 {
                return Err(format!("{:?} came after {:?}", pair[1], pair[0]));
            }
        }
        let acknowledged = self.ledger.map_or(0, |l| l.reader_last_record_id);
        let mut wanted = self.shape.records().filter(|r| r.end() > acknowledged + 1);
        let mut there = seen.iter().filter_map(|item| match item {
            Seen::Record(record) => Some(record),
            Seen::Lost(..) => None,
        });
        let mut came = there.next();
        for record in &mut wanted {
            if came == Some(record) {
                if self.gone.contains(&record.id) {
                    return Err(format!("{record:?} came, and is gone"));
                }
                came = there.next();
            } else if !self.gone.contains(&record.id) && !self.may_be_gone.contains(&record.id) {
                return Err(format!("{record:?} did not come, but {came:?}"));
            }
        }
        if let Some(record) = came {
            return Err(format!("{record:?} came, and was not expected"));
        }
        let Some(ledger) = self.ledger else {
            // Without a ledger, nothing is known of ids before the first or after the last
            // record.
            return match seen {
                [Seen::Record(_), .., Seen::Record(last)] | [Seen::Record(last)]
                    if last.end() == next_id =>
                {
                    Ok(())
                }
                [] => Ok(()),
                _ => Err(format!("next id {next_id}")),
            };
        };
        // Records prove ids that the ledger does not count. Those that may be gone may still
        // be there, so the next id has a lower and an upper bound.
        let ends = |gone: &dyn Fn(u64) -> bool| {
            let there = self.shape.records().filter(|r| !gone(r.id));
            let data_end = there.map(Record::end).max().unwrap_or(1);
            ledger.writer_next_record_id.max(data_end)
        };
        let least = ends(&|id| self.gone.contains(&id) || self.may_be_gone.contains(&id));
        let most = ends(&|id| self.gone.contains(&id));
        if !(least..=most).contains(&next_id) {
            return Err(format!("next id {next_id}, not {least} to {most}"));
        }
        let end = next_id;
        let (first, last) = match (seen.first(), seen.last()) {
            (Some(first), Some(last)) => (first.ids().0, last.ids().1),
            _ if acknowledged + 1 == end => return Ok(()),
            _ => return Err("nothing came".to_owned()),
        };
        // A record that is acknowledged in part comes again.
        let inside = matches!(&seen[0], Seen::Record(r) if r.id <= acknowledged);
        if (first != acknowledged + 1 && !inside) || last != end {
            return Err(format!("ids {first}..{last} came"));
        }
        Ok(())
    }

    /// Appends, acknowledges, closes, opens again.
    fn go_on(&self, sim: &Sim, writer: Writer, mut reader: Reader, next_id: u64) -> Check {
        let receipt = must("append", writer.append_with(1, b"go on"))?.id();
        match must("recv", reader.recv())? {
            Some(Item::Record(new)) if new.id() == next_id && receipt == Some(next_id) => new.ack(),
            other => return Err(format!("id {receipt:?}, {other:?} instead of {next_id}")),
        }
        must("flush", writer.flush())?;
        must("close", reader.close())?;
        must("close", writer.close())?;
        let again = config().storage(Arc::new(sim.crash(0))).open();
        let (writer, mut reader) = must("open again", again)?;
        match drain(&mut reader)?.as_slice() {
            [] if !writer.recovery().is_damaged() => {}
            seen => return Err(format!("again: {seen:?}, {:?}", writer.recovery())),
        }
        match writer.usage().next_record_id == next_id + 1 {
            true => Ok(()),
            false => Err(format!("opened again: {:?}", writer.usage())),
        }
    }
}

impl Seen {
    fn lost(&self) -> u64 {
        match self {
            Self::Record(_) => 0,
            Self::Lost(_, events) => *events,
        }
    }
}

/// Reads and acknowledges everything there is.
fn drain(reader: &mut Reader) -> Check<Vec<Seen>> {
    let mut seen = Vec::new();
    loop {
        match must("try_recv", reader.try_recv())? {
            TryRecv::Ready(Item::Record(delivery)) => {
                seen.push(Seen::Record(Record::from(&delivery)));
                delivery.ack();
            }
            TryRecv::Ready(Item::Lost(lost)) => seen.push(Seen::Lost(lost.first_id, lost.events)),
            TryRecv::Empty | TryRecv::End => return Ok(seen),
        }
        check_usage(&reader.usage())?;
    }
}
