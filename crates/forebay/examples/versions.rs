//! Typed records whose shape changes between two versions of a program.
//!
//! ```text
//! cargo run --example versions --features serde_json -- DIR
//! ```
//!
//! The first version writes orders and stops. The second version reads them with its own shape. A
//! record of neither version is moved aside, to a separate buffer.

use std::error::Error;
use std::path::{Path, PathBuf};

use forebay::{Config, Json, TypedItem, Versioned};
use serde::{Deserialize, Serialize};

/// An order, as the first version wrote it.
#[derive(Debug, Serialize, Deserialize)]
struct OrderV1 {
    number: u32,
    cents: u64,
}

/// An order now.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    number: u32,
    cents: u64,
    currency: String,
}

impl From<OrderV1> for Order {
    fn from(old: OrderV1) -> Self {
        let OrderV1 { number, cents } = old;
        Self {
            number,
            cents,
            // The first version had no other currency.
            currency: "EUR".to_owned(),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: versions DIR")?;
    let dir = PathBuf::from(dir);
    first_version(&dir.join("orders"))?;
    second_version(&dir.join("orders"), &dir.join("orders-aside"))?;
    Ok(())
}

fn first_version(dir: &Path) -> Result<(), Box<dyn Error>> {
    let codec = Versioned::new(1, Json::<OrderV1>::new());
    let (writer, reader) = Config::new(dir).open_typed(codec)?;
    for number in 1..=3 {
        writer.append(&OrderV1 { number, cents: 250 })?;
    }
    // A record of no known version: the metadata says which shape a record has.
    writer.get_ref().append_with(9, b"{}")?;
    writer.close()?;
    reader.close()?;
    Ok(())
}

fn second_version(dir: &Path, aside: &Path) -> Result<(), Box<dyn Error>> {
    let codec =
        Versioned::new(2, Json::<Order>::new()).older(1, Json::<OrderV1>::new(), Order::from);
    let (writer, mut reader) = Config::new(dir).open_typed(codec)?;
    writer.append(&Order {
        number: 4,
        cents: 100,
        currency: "USD".to_owned(),
    })?;
    writer.close()?;
    let (aside, _) = Config::new(aside).open()?;
    while let Some(item) = reader.recv()? {
        match item {
            TypedItem::Record { value, delivery } => {
                println!("order {}: {} {}", value.number, value.cents, value.currency);
                delivery.ack();
            }
            TypedItem::Undecodable { delivery, reason } => {
                println!("record {} is moved aside: {reason}", delivery.id());
                aside.append_with(delivery.metadata(), delivery.payload())?;
                aside.flush()?; // durable there, so it can be acknowledged here
                delivery.ack();
            }
            TypedItem::Lost(lost) => println!("{lost}"),
        }
    }
    reader.close()?;
    Ok(())
}
