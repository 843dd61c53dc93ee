//! A program's own crash test, on a simulated machine.
//!
//! ```text
//! cargo run --example crash_test --features sim
//! ```
//!
//! The program moves money between accounts. It promises that a transfer that it confirmed happens
//! exactly once, whatever power cut comes. A buffer delivers at least once, so the program
//! remembers the last id that it applied. The test cuts the power before every operation of the
//! disk, with several outcomes, and starts the program again. `Io::Caller` and the seeds make every
//! run the same.

use std::error::Error;
use std::sync::Arc;

use forebay::storage::sim::Sim;
use forebay::{Config, Io, Item, Reader, ReaderSees, TryRecv, Writer};

const TRANSFERS: u64 = 20;

/// What the program keeps elsewhere, for instance in a database that stores both fields in one
/// transaction.
#[derive(Debug, Clone, Default)]
struct Account {
    cents: u64,
    last_id: u64,
}

fn open(sim: &Sim) -> forebay::Result<(Writer, Reader)> {
    Config::new("/transfers")
        .max_size(64 << 10)
        .storage(Arc::new(sim.clone()))
        .io(Io::Caller)
        // After a power cut, the ids of delivered transfers must not be given to other transfers.
        .reader_sees(ReaderSees::Synced)
        .open()
}

/// Accepts transfers. Returns how many were confirmed before the machine failed.
fn accept(writer: &Writer) -> u64 {
    let confirmed = |n: &u64| {
        let receipt = writer.append(&n.to_le_bytes());
        receipt.and_then(|receipt| receipt.wait_synced()).is_ok()
    };
    (1..=TRANSFERS).take_while(confirmed).count() as u64
}

/// Applies the transfers in the buffer.
fn apply(account: &mut Account, reader: &mut Reader) -> forebay::Result<()> {
    while let TryRecv::Ready(item) = reader.try_recv()? {
        let Item::Record(delivery) = item else {
            // Lost transfers were never confirmed; otherwise this test would fail.
            continue;
        };
        if delivery.id() > account.last_id {
            account.cents += 1;
            account.last_id = delivery.id();
        }
        delivery.ack();
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let sim = Sim::new();
    sim.keep_history();
    let (writer, reader) = open(&sim)?;
    accept(&writer);
    drop((writer, reader));

    let mut machines = 0;
    for operations in 0..=sim.operations() {
        for seed in 0..8 {
            // The program runs until the power cut,
            let machine = Sim::new();
            machine.power_off_after(operations);
            let mut account = Account::default();
            let mut confirmed = 0;
            if let Ok((writer, mut reader)) = open(&machine) {
                confirmed = accept(&writer);
                // An error is the power cut.
                let _ = apply(&mut account, &mut reader);
            }
            // and again after it.
            let (_writer, mut reader) = open(&machine.crash(seed))?;
            apply(&mut account, &mut reader)?;
            machines += 1;
            let place = format!("power cut at operation {operations}, seed {seed}");
            if !(confirmed..=TRANSFERS).contains(&account.cents) {
                let cents = account.cents;
                return Err(format!("{place}: {confirmed} confirmed, {cents} applied").into());
            }
        }
    }
    println!("{machines} machines lost their power, and no confirmed transfer was lost or doubled");
    Ok(())
}
