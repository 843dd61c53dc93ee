//! The bodies of the fuzz targets over inputs chosen by seeds, and over inputs that once were
//! findings. `FOREBAY_FUZZ_SEED` sets the first seed, `FOREBAY_FUZZ_SEEDS` how many follow;
//! `just fuzz` explores further.

#[allow(dead_code, unreachable_pub, reason = "the fuzz crate has its own uses")]
mod bodies;

use crate::support::{Rng, number_from};

/// Prints the target and the seed if a body panics.
struct Told(&'static str, u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}: FOREBAY_FUZZ_SEED={} FOREBAY_FUZZ_SEEDS=1",
                self.0, self.1
            );
        }
    }
}

/// One of the inputs `seeds` changed in a few places, or noise.
fn draw(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = match rng.below(8) {
        0 => (0..rng.below(200)).map(|_| rng.next() as u8).collect(),
        _ => seeds[rng.below(seeds.len() as u64) as usize].clone(),
    };
    for _ in 0..rng.below(6) {
        let len = bytes.len() as u64;
        let at = rng.below(len.max(1)) as usize;
        let end = (at + 1 + rng.below(40) as usize).min(bytes.len());
        match rng.below(7) {
            0 if len > 0 => bytes[at] ^= 1 << rng.below(8),
            1 if len > 0 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5) as usize],
            2 if len > 0 => bytes[at..end].fill(0),
            3 => bytes.truncate(at),
            4 if len > 0 => {
                let piece = bytes[at..end].to_vec();
                let to = rng.below(len) as usize;
                bytes.splice(to..to, piece);
            }
            5 if len > 0 => drop(bytes.drain(at..end)),
            _ => bytes.extend((0..rng.below(20)).map(|_| rng.next() as u8)),
        }
    }
    bytes
}

fn run(target: &'static str, everyday_seeds: u64) {
    let all = bodies::seeds().into_iter();
    let seeds: Vec<_> = all
        .filter(|(of, _)| *of == target)
        .map(|(_, b)| b)
        .collect();
    let body = bodies::body(target);
    seeds.iter().for_each(|bytes| body(bytes));
    let first = number_from("FOREBAY_FUZZ_SEED", 1);
    let count = number_from("FOREBAY_FUZZ_SEEDS", everyday_seeds);
    for seed in first..first + count {
        let _told = Told(target, seed);
        body(&draw(&seeds, &mut Rng(seed)));
    }
}

#[test]
fn any_data_file() {
    run("scanner", 3000);
}

#[test]
fn any_ledger() {
    run("ledger", 3000);
}

#[test]
fn any_directory() {
    run("directory", 3000);
}

#[test]
fn any_calls() {
    run("calls", 3000);
}

#[test]
fn a_deleted_file_of_junk_that_a_power_cut_brings_back_costs_nothing() {
    // The deletion of a data file is not synced. A file that holds only junk does not show
    // that an earlier opening handled it, so its damage is reported again. That must not cost
    // an event.
    let files = [
        0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0x13, 0x89, 0x65, 0x6c, 0x6c, 0x6f, 0, 0, 0, 0x18, 0xcb,
        0x1f, 0xd6, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe4, 0xff, 0xff, 0xff, 0,
        0x4e, 0, 0, 0, 0, 0, 0, 7, 0, 0x18, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0x7b, 0,
        0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe4, 0xff, 0xff, 0xff, 0, 0x4e,
        0, 0, 0, 0, 0, 0, 7, 0, 0x18, 2, 0, 0, 0, 0, 0, 0,
    ];
    bodies::directory(&files);
}
