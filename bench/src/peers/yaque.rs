//! `yaque`: a queue of files between one sender and one receiver.

use crate::payload::{BATCH, Check};
use crate::peer::{About, Peer, Place, Result, said};
use yaque::{Receiver, Sender, TryRecvError};

pub(super) const ABOUT: About = About {
    name: "yaque",
    kind: "queue",
    single: true,
    batched: true,
    durable: None,
    payload_max: usize::MAX,
    sums: "none of payloads; a Hamming code of lengths",
    acks: "each take, in order",
    syncs: "nothing, ever",
    remarks: "segments of 4 MB; one sender and one receiver",
    open: |place| Ok(Box::new(Yaque::open(place)?)),
};

struct Yaque {
    sender: Sender,
    receiver: Receiver,
}

impl Yaque {
    fn open(place: &Place) -> Result<Self> {
        let (sender, receiver) = yaque::channel(&place.dir)?;
        Ok(Self { sender, receiver })
    }
}

impl Peer for Yaque {
    fn append(&mut self, payload: &[u8]) -> Result<()> {
        said(self.sender.try_send(payload))
    }

    fn append_batch(&mut self, payloads: &[&[u8]]) -> Result<()> {
        said(self.sender.try_send_batch(payloads))
    }

    fn append_synced(&mut self, _payloads: &[&[u8]]) -> Result<()> {
        Err("yaque cannot sync".into())
    }

    fn read(&mut self, check: &mut Check) -> Result<()> {
        loop {
            let taken = match self.receiver.try_recv_batch_up_to(BATCH as usize) {
                Ok(taken) => taken,
                Err(TryRecvError::QueueEmpty) => return Ok(()),
                Err(TryRecvError::Io(error)) => return Err(error.into()),
            };
            for payload in taken.iter() {
                check.take(payload)?;
            }
            taken.commit()?;
        }
    }
}
