//! `rusqlite`: SQLite with a write-ahead log, a row per record.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, Sixteen};
use rusqlite::{Connection, params};

pub(super) const ABOUT: About = About {
    name: "rusqlite",
    kind: "store",
    single: true,
    batched: true,
    durable: Some(Sixteen::Supplied),
    payload_max: usize::MAX,
    sums: "none on reading (of the WAL's frames at recovery)",
    acks: "rows are deleted",
    syncs: "nothing (synchronous = OFF), or the WAL at each commit (FULL)",
    remarks: "SQLite, bundled, WAL mode; a transaction per append; one writer",
    open: |place| Ok(Box::new(Store::open(place)?)),
};

const INSERT: &str = "INSERT INTO records (payload) VALUES (?1)";
const SELECT: &str = "SELECT id, payload FROM records ORDER BY id LIMIT ?1";
const DELETE: &str = "DELETE FROM records WHERE id <= ?1";

struct Store(Connection);

impl Store {
    fn open(place: &Place) -> Result<Self> {
        std::fs::create_dir_all(&place.dir)?;
        let connection = Connection::open(place.dir.join("records.sqlite"))?;
        let synchronous = match place.durable {
            true => "FULL",
            false => "OFF",
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)",
        )?;
        Ok(Self(connection))
    }
}

impl Peer for Store {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.0.prepare_cached(INSERT)?.execute([payload])?;
        Ok(())
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        let transaction = self.0.transaction()?;
        let mut insert = transaction.prepare_cached(INSERT)?;
        for payload in payloads {
            insert.execute([payload])?;
        }
        drop(insert);
        Ok(transaction.commit()?)
    }

    fn sync(&mut self) -> Result<bool> {
        self.0.pragma_update(None, "synchronous", "FULL")?;
        self.0
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        loop {
            let transaction = self.0.transaction()?;
            let mut last = None;
            {
                let mut select = transaction.prepare_cached(SELECT)?;
                let mut rows = select.query([BATCH as i64])?;
                while let Some(row) = rows.next()? {
                    check.take(row.get_ref(1)?.as_blob()?)?;
                    last = Some(row.get::<_, i64>(0)?);
                }
            }
            let Some(last) = last else {
                return Ok(());
            };
            transaction.prepare_cached(DELETE)?.execute(params![last])?;
            transaction.commit()?;
        }
    }
}
