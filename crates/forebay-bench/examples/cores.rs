//! Measures whether a second core helps. Blocks of records are filled and written, and read and
//! checksummed, by one thread or by two that pass the blocks on. No buffer is involved.
//!
//! ```text
//! cargo run --release -p forebay-bench --example cores -- PAYLOAD_BYTES [DIR]
//! ```
//!
//! Each figure is the best of some rounds, in GB/s of whole frames.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use forebay::format::record::{DELIMITER_LEN, Root, checksum, encode, frame_len};

/// This many blocks go back and forth between two threads.
const BLOCKS: usize = 3;
/// The approximate length of a block, in bytes.
const BLOCK_LEN: usize = 1 << 20;
/// About this many bytes are written and read.
const TOTAL_LEN: usize = 512 << 20;
const ROUNDS: usize = 7;

/// Frames of one length.
struct Frames {
    payload: Vec<u8>,
    frame_len: usize,
}

impl Frames {
    fn fill(&self, block: &mut [u8]) {
        for (n, frame) in block.chunks_exact_mut(self.frame_len).enumerate() {
            encode(frame, n as u64 + 1, 0, &self.payload);
        }
    }

    fn check(&self, block: &[u8]) {
        for (n, frame) in block.chunks_exact(self.frame_len).enumerate() {
            let payload = &frame[DELIMITER_LEN..][..self.payload.len()];
            let sum = checksum(n as u64 + 1, 0, payload);
            let root = frame.last_chunk().map(Root::from_bytes);
            let is_right = root.is_some_and(|root| root.checksum == sum);
            assert!(is_right, "the block is not the one that was written");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [payload_len, dir @ ..] = &args[..] else {
        return Err("give PAYLOAD_BYTES [DIR]".into());
    };
    let payload = vec![b'x'; payload_len.parse()?];
    let frames = Frames {
        frame_len: frame_len(payload.len()),
        payload,
    };
    let block_len = (BLOCK_LEN / frames.frame_len).max(1) * frames.frame_len;
    let scratch = match dir.first() {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let path = scratch.path().join("blocks");
    let works: [(&str, &dyn Fn() -> io::Result<()>); 6] = [
        ("write", &|| write(&path, block_len, |_| ())),
        ("fill and write, one thread", &|| {
            write(&path, block_len, |block| frames.fill(block))
        }),
        ("fill and write, two threads", &|| {
            write_in_two(&path, block_len, &frames)
        }),
        ("read", &|| read(&path, block_len, |_| ())),
        ("read and sum, one thread", &|| {
            read(&path, block_len, |block| frames.check(block))
        }),
        ("read and sum, two threads", &|| {
            read_in_two(&path, block_len, &frames)
        }),
    ];
    let mut best = [0.0_f64; 6];
    for _ in 0..ROUNDS {
        for ((name, work), best) in works.iter().zip(&mut best) {
            if name.contains("write") {
                // So that the page cache gets memory that was in use a moment ago, as in a running
                // system.
                write(&path, block_len, |_| ())?;
                std::fs::remove_file(&path)?;
            }
            let begun = Instant::now();
            work()?;
            let bytes = (TOTAL_LEN / block_len * block_len) as f64;
            *best = best.max(bytes / begun.elapsed().as_secs_f64() / 1e9);
        }
    }
    for ((name, _), best) in works.iter().zip(best) {
        println!("{name:<28} {best:5.2} GB/s");
    }
    Ok(())
}

fn write(path: &Path, block_len: usize, fill: impl Fn(&mut [u8])) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut block = vec![1; block_len];
    for _ in 0..TOTAL_LEN / block_len {
        fill(&mut block);
        file.write_all(&block)?;
    }
    Ok(())
}

fn read(path: &Path, block_len: usize, check: impl Fn(&[u8])) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut block = vec![1; block_len];
    for _ in 0..TOTAL_LEN / block_len {
        file.read_exact(&mut block)?;
        check(&block);
    }
    Ok(())
}

fn write_in_two(path: &Path, block_len: usize, frames: &Frames) -> io::Result<()> {
    let mut file = File::create(path)?;
    in_two(
        block_len,
        |block| {
            frames.fill(block);
            Ok(())
        },
        |block| file.write_all(block),
    )
}

fn read_in_two(path: &Path, block_len: usize, frames: &Frames) -> io::Result<()> {
    let mut file = File::open(path)?;
    in_two(
        block_len,
        |block| file.read_exact(block),
        |block| {
            frames.check(block);
            Ok(())
        },
    )
}

/// Passes every block from one thread to another, and back.
fn in_two(
    block_len: usize,
    mut first: impl FnMut(&mut [u8]) -> io::Result<()> + Send,
    mut second: impl FnMut(&mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    type Ends = (SyncSender<Vec<u8>>, Receiver<Vec<u8>>);
    let (there, arrived): Ends = sync_channel(BLOCKS);
    let (back, free): Ends = sync_channel(BLOCKS);
    for _ in 0..BLOCKS {
        let _ = back.send(vec![1; block_len]);
    }
    std::thread::scope(|scope| {
        let firsts = scope.spawn(move || {
            for _ in 0..TOTAL_LEN / block_len {
                let Ok(mut block) = free.recv() else { break };
                first(&mut block)?;
                if there.send(block).is_err() {
                    break;
                }
            }
            Ok(())
        });
        for mut block in arrived {
            second(&mut block)?;
            let _ = back.send(block);
        }
        match firsts.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
