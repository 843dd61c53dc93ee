//! Every single damage to small buffers of every shape: each bit flipped, each file cut at
//! each byte, each sector zeroed, each file deleted, copied and swapped, each field of the
//! ledger and each length set to impossible values. All over a simulated file system.
//!
//! Invariant: each damaged buffer opens, delivers every record outside the damage once and in
//! order, reports exactly the events that are known to be lost, and accepts new records.

mod contents;
mod delimiters;
mod files;
mod judge;
mod ledgers;
mod lengths;
mod pairs;
mod sectors;
mod shapes;
mod unreadable;
mod witnesses;
