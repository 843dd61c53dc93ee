//! The records that a program was given and has not taken.
//!
//! Each is held with its end, an offset in the program's input: compared with how much the
//! program has read, it says whether the record is taken. Invariants: records are
//! acknowledged in the order in which they were given; the payloads of records that the
//! program acknowledges itself are not kept.

use super::suspects::Suspected;
use crate::io::framing::Framing;
use forebay::{Ack, Batch, Delivery};
use std::collections::VecDeque;

/// Records between the buffer and a program.
#[derive(Debug)]
pub(crate) struct Flight {
    framing: Framing,
    held: VecDeque<Held>,
    /// Offsets in the program's input: after all that it was given, and after all that it
    /// has taken.
    given: u64,
    settled: u64,
    /// Records that it has taken.
    taken: u64,
}

/// Records that end at `end` of the program's input.
#[derive(Debug)]
struct Held {
    records: Records,
    end: u64,
}

#[derive(Debug)]
enum Records {
    /// Boxed to keep the other variant small, of which there may be a million.
    Batch(Box<Batch>),
    One {
        id: u64,
        ack: Ack,
    },
}

impl Flight {
    /// Nothing yet.
    pub(crate) fn new(framing: Framing) -> Self {
        Self {
            framing,
            held: VecDeque::new(),
            given: 0,
            settled: 0,
            taken: 0,
        }
    }

    /// Holds a batch that is given to the program. It is mostly acknowledged as a whole.
    pub(crate) fn push_batch(&mut self, batch: Batch) {
        let framed = |len| self.framing.framed_len(len);
        self.given += batch
            .records()
            .map(|r| framed(r.payload.len()))
            .sum::<u64>();
        self.held.push_back(Held {
            records: Records::Batch(Box::new(batch)),
            end: self.given,
        });
    }

    /// Holds a record that is given to the program.
    pub(crate) fn push(&mut self, delivery: Delivery) {
        self.given += self.framing.framed_len(delivery.payload().len());
        let id = delivery.id();
        let (_, ack) = delivery.split();
        self.held.push_back(Held {
            records: Records::One { id, ack },
            end: self.given,
        });
    }

    /// Whether the program has taken all that it was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many batches and single records are held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Records that the program has taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Acknowledges what ends within the first `taken` bytes of the program's input; a
    /// batch only as a whole.
    pub(crate) fn settle(&mut self, taken: u64) {
        while let Some(held) = self.held.pop_front() {
            if held.end > taken {
                self.held.push_front(held);
                return;
            }
            self.settled = held.end;
            match held.records {
                Records::Batch(batch) => {
                    self.taken += batch.len() as u64;
                    batch.ack();
                }
                Records::One { ack, .. } => {
                    self.taken += 1;
                    ack.ack();
                }
            }
        }
    }

    /// The same, but a batch record by record.
    pub(crate) fn settle_records(&mut self, taken: u64) {
        self.settle(taken);
        if self.settled < taken {
            self.split_front();
            self.settle(taken);
        }
    }

    /// Acknowledges the next record if the program, which has read `read` bytes, has read
    /// it; returns whether it has.
    pub(crate) fn acknowledge_next(&mut self, read: u64) -> bool {
        self.split_front();
        let Some(end) = self.held.front().map(|held| held.end) else {
            return false;
        };
        // A program need not read the delimiter to know the record before it.
        let delimiter = match self.framing {
            Framing::Delimited(_) => 1,
            Framing::Length => 0,
        };
        let is_read = read + delimiter >= end;
        if is_read {
            self.settle(end);
        }
        is_read
    }

    /// The records that the program has not taken and of which it has read at least a
    /// part, when it has read `read` bytes.
    pub(crate) fn suspected(&self, read: u64) -> Option<Suspected> {
        let mut suspected = None;
        let mut note = |id| match &mut suspected {
            None => suspected = Some(Suspected::one(id)),
            Some(suspected) => suspected.add(id),
        };
        let mut begin = self.settled;
        for held in &self.held {
            if begin >= read {
                break;
            }
            match &held.records {
                Records::One { id, .. } => note(*id),
                Records::Batch(batch) => {
                    for record in batch.records() {
                        if begin >= read {
                            break;
                        }
                        note(record.id);
                        begin += self.framing.framed_len(record.payload.len());
                    }
                }
            }
            begin = held.end;
        }
        suspected
    }

    /// Splits a batch at the front into single records.
    fn split_front(&mut self) {
        match self.held.pop_front() {
            Some(Held {
                records: Records::Batch(batch),
                ..
            }) => {
                let mut end = self.settled;
                let records: Vec<_> = batch
                    .into_deliveries()
                    .map(|delivery| {
                        end += self.framing.framed_len(delivery.payload().len());
                        let id = delivery.id();
                        let (_, ack) = delivery.split();
                        Held {
                            records: Records::One { id, ack },
                            end,
                        }
                    })
                    .collect();
                for record in records.into_iter().rev() {
                    self.held.push_front(record);
                }
            }
            Some(other) => self.held.push_front(other),
            None => {}
        }
    }
}
