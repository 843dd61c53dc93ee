//! Producers in threads, a consumer that acknowledges out of order, and Ctrl-C.
//!
//! ```text
//! cargo run --example producers -- DIR [RECORDS]
//! ```
//!
//! Each of four producers appends RECORDS records (default: until Ctrl-C), and the consumer prints
//! what it gets. Ctrl-C stops all of them. Records that were accepted and not printed stay in the
//! buffer, and are printed when the program is started again.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use forebay::{Ack, Config, ErrorKind, Item, Reader, Writer};

const PRODUCERS: u64 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: producers DIR [RECORDS]")?);
    let records: u64 = args.next().map_or(Ok(u64::MAX), |text| text.parse())?;

    let (writer, reader) = Config::new(dir).max_size(16 << 20).open()?;
    let usage = writer.usage();
    eprintln!(
        "{} records are left from an earlier run",
        usage.backlog.events
    );

    let stop = Arc::new(AtomicBool::new(false));
    let stopper = reader.stopper();
    let on_ctrl_c = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        on_ctrl_c.store(true, Ordering::SeqCst);
        stopper.stop();
    })?;

    let first = usage.next_record_id;
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let (writer, stop) = (writer.clone(), Arc::clone(&stop));
            thread::spawn(move || produce(&writer, &stop, first, producer, records))
        })
        .collect();
    // The reader sees the end once every writer is closed, this one included.
    drop(writer);
    let consumer = thread::spawn(move || consume(reader));

    let mut accepted = 0;
    for producer in producers {
        accepted += producer.join().map_err(|_| "a producer panicked")??;
    }
    let consumed = consumer.join().map_err(|_| "the consumer panicked")??;
    eprintln!("{accepted} records accepted, {consumed} acknowledged");
    Ok(())
}

/// Appends records that no other producer and no earlier run appends. Returns how many.
fn produce(
    writer: &Writer,
    stop: &AtomicBool,
    first: u64,
    producer: u64,
    records: u64,
) -> forebay::Result<u64> {
    let mut accepted = 0;
    while accepted < records && !stop.load(Ordering::SeqCst) {
        let record = format!("{first}-{producer}-{accepted}");
        // With a full buffer or disk, this thread must still see that it has to stop.
        let wait = std::time::Duration::from_millis(100);
        match writer.append_timeout(record.as_bytes(), wait) {
            Ok(_) => accepted += 1,
            Err(error) if matches!(error.kind(), ErrorKind::Full | ErrorKind::DiskFull) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(accepted)
}

/// Prints every record, and acknowledges the records of a batch from last to first, which the
/// buffer allows. Returns how many.
fn consume(mut reader: Reader) -> forebay::Result<u64> {
    let mut consumed = 0;
    while let Some(batch) = reader.recv_batch(100, 1 << 20)? {
        let mut done: Vec<Ack> = Vec::new();
        for item in batch {
            match item {
                Item::Record(delivery) => {
                    let (payload, ack) = delivery.split();
                    println!("{}", String::from_utf8_lossy(&payload));
                    done.push(ack);
                }
                Item::Lost(lost) => eprintln!("{lost}"),
            }
        }
        consumed += done.len() as u64;
        done.into_iter().rev().for_each(Ack::ack);
    }
    // Closing syncs the acknowledgements, too.
    reader.close()?;
    Ok(consumed)
}
