//! Random moments that a seed replays, and numbers from environment variables.

use std::time::Duration;

/// A small pseudorandom generator (splitmix64).
pub(crate) struct Moments(u64);

impl Moments {
    pub(crate) fn new() -> Self {
        let seed = number("FOREBAY_SEED").unwrap_or_else(|| {
            let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            time.map_or(1, |t| t.as_nanos() as u64)
        });
        eprintln!("FOREBAY_SEED={seed} replays the moments");
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// A generator for another thread.
    #[allow(dead_code, reason = "only the tests of disks have such threads")]
    pub(crate) fn split(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }

    /// Sleeps for a random time below `max_ms` milliseconds.
    pub(crate) fn pause(&mut self, max_ms: u64) {
        std::thread::sleep(Duration::from_micros(self.below(max_ms * 1000)));
    }
}

/// The number in an environment variable.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
