//! `heed`: LMDB, with numbers as keys.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, Sixteen};
use heed::byteorder::BigEndian;
use heed::types::{Bytes, U64};
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, WithTls};

pub(super) const ABOUT: About = About {
    name: "heed",
    kind: "store",
    single: true,
    batched: true,
    durable: Some(Sixteen::Supplied),
    payload_max: usize::MAX,
    sums: "none",
    acks: "keys are removed",
    syncs: "nothing (NO_SYNC) until asked, or each transaction",
    remarks: "LMDB; a map of fixed size, large enough here; one writer; a transaction per append",
    open: |place| Ok(Box::new(Store::open(place)?)),
};

struct Store {
    env: Env<WithTls>,
    records: Database<'static, U64<BigEndian>, Bytes>,
    next: u64,
}

impl Store {
    fn open(place: &Place) -> Result<Self> {
        std::fs::create_dir_all(&place.dir)?;
        // A page of 4 KiB holds no second payload of that length.
        let bytes = place.records.saturating_mul(place.payload_len as u64 + 64);
        let map_bytes = bytes.saturating_mul(3).clamp(2 << 30, 64 << 30);
        let mut options = EnvOpenOptions::new().read_txn_with_tls();
        options.map_size(map_bytes as usize);
        if !place.durable {
            // SAFETY: without syncs a crash of the system may damage the file, but
            // the file is not read after a crash.
            #[allow(unsafe_code)]
            unsafe {
                options.flags(EnvFlags::NO_SYNC);
            }
        }
        // SAFETY: the directory is this process's own, so no other process changes the
        // file while it is mapped.
        #[allow(unsafe_code)]
        let env = unsafe { options.open(&place.dir)? };
        let records = env
            .create_databases_and_commit(env.write_txn()?, |opener, transaction| {
                let created = opener.create_database(transaction, None);
                created.map(CommitOrAbort::<_, ()>::Commit)
            })?
            .commit()
            .ok_or("LMDB did not make the database")?;
        Ok(Self {
            env,
            records,
            next: 0,
        })
    }
}

impl Peer for Store {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.append_batch(&[payload])
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        for payload in payloads {
            self.records
                .put_with_flags(&mut transaction, PutFlags::APPEND, &self.next, payload)?;
            self.next += 1;
        }
        Ok(transaction.commit()?)
    }

    fn sync(&mut self) -> Result<bool> {
        self.env.force_sync()?;
        Ok(true)
    }

    fn append_synced(&mut self, payloads: &[&[u8]]) -> Result<()> {
        self.append_batch(payloads)
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        loop {
            let mut transaction = self.env.write_txn()?;
            let mut last = None;
            for record in self.records.iter(&transaction)?.take(BATCH as usize) {
                let (key, payload) = record?;
                check.take(payload)?;
                last = Some(key);
            }
            let Some(last) = last else {
                return Ok(());
            };
            self.records.delete_range(&mut transaction, &(..=last))?;
            transaction.commit()?;
        }
    }
}
