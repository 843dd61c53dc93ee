//! Closing: the last writer while the reader waits, the reader while a writer waits, both at
//! once; and opening the buffer again.

use forebay::storage::sim::Sim;
use forebay::{ErrorKind, Io, ReaderSees, SyncPolicy};
use shuttle::thread;

use crate::check::check;
use crate::support::{config, left, open, payload};

#[test]
fn a_waiting_reader_sees_the_end() {
    check("a_waiting_reader_sees_the_end", || {
        let (writer, mut reader) = open(&Sim::new(), config());
        let other = writer.clone();
        let reading = thread::spawn(move || reader.recv().unwrap().is_none());
        let closing = thread::spawn(move || other.close().unwrap());
        drop(writer);
        assert!(reading.join().unwrap());
        closing.join().unwrap();
    });
}

#[test]
fn the_last_record_comes_before_the_end() {
    let models: [fn(); 2] = [
        || last_record(ReaderSees::Written),
        || last_record(ReaderSees::Synced),
    ];
    for model in models {
        check("the_last_record_comes_before_the_end", model);
    }
}

fn last_record(sees: ReaderSees) {
    let config = config().sync(SyncPolicy::Never).reader_sees(sees);
    let (writer, mut reader) = open(&Sim::new(), config);
    let reading = thread::spawn(move || {
        let mut count = 0;
        while reader.recv().unwrap().is_some() {
            count += 1;
        }
        count
    });
    writer.append(b"last").unwrap();
    drop(writer);
    assert_eq!(reading.join().unwrap(), 1);
}

#[test]
fn a_writer_does_not_wait_for_a_reader_that_is_gone() {
    check("a_writer_does_not_wait_for_a_reader_that_is_gone", || {
        let (writer, reader) = open(&Sim::new(), config().max_size(8224));
        let closing = thread::spawn(move || drop(reader));
        // Four records fit, and without a reader there is never room for the fifth.
        let error = (0..5).find_map(|n| writer.append(&payload(0, n)).err());
        assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::ReaderGone));
        closing.join().unwrap();
    });
}

#[test]
fn the_last_handle_to_go_leaves_everything_durable() {
    check("the_last_handle_to_go_leaves_everything_durable", || {
        let sim = Sim::new();
        let (writer, reader) = open(&sim, config());
        writer.append(&payload(0, 0)).unwrap();
        let other = writer.clone();
        let threads = [
            thread::spawn(move || {
                other.append(&payload(1, 0)).unwrap();
                other.close().unwrap();
            }),
            thread::spawn(move || reader.close().unwrap()),
        ];
        writer.close().unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(left(&sim.crash(0)), [1, 2]);
        // The lock is free as soon as the last handle is closed.
        assert_eq!(left(&sim), [1, 2]);
    });
}

#[test]
fn a_buffer_can_be_opened_as_soon_as_it_is_closed() {
    check("a_buffer_can_be_opened_as_soon_as_it_is_closed", || {
        let sim = Sim::new();
        for n in 0..2 {
            let (writer, reader) = open(&sim, config());
            let closing = thread::spawn(move || drop(reader));
            writer.append(&payload(0, n)).unwrap();
            drop(writer);
            closing.join().unwrap();
        }
        assert_eq!(left(&sim), [1, 2]);
    });
}

#[test]
fn a_caller_that_does_the_work_itself_shares_it() {
    check("a_caller_that_does_the_work_itself_shares_it", || {
        let sim = Sim::new();
        let (writer, reader) = open(&sim, config().io(Io::Caller));
        let other = writer.clone();
        let flushing = thread::spawn(move || {
            other.append(&payload(1, 0)).unwrap();
            other.flush()
        });
        writer.append(&payload(0, 0)).unwrap();
        writer.flush().unwrap();
        flushing.join().unwrap().unwrap();
        drop((writer, reader));
        assert_eq!(left(&sim), [1, 2]);
    });
}
