//! Every single damage to small buffers of every shape: each bit flipped, each
//! file cut at each byte, each sector zeroed, each file deleted, copied and
//! swapped, each field of the ledger and each length set to what cannot be.
//!
//! Each damaged buffer must open, deliver every record outside the damage once
//! and in order, report exactly the events that are known to be lost, and go on.
//! Everything runs over a simulated file system.

mod contents;
mod files;
mod judge;
mod ledgers;
mod lengths;
mod pairs;
mod sectors;
mod shapes;
mod unreadable;
mod witnesses;
