//! How fast the device makes bytes durable, as its last syncs have shown.
//!
//! Invariant: unknown until a sync was long enough to tell.

use std::time::Duration;

/// How fast the device is, as its last sync that was long enough has shown.
#[derive(Debug, Default)]
pub(super) struct SyncRate {
    bytes_per_s: Option<f64>,
}

impl SyncRate {
    /// A sync of fewer bytes says nothing about the device.
    const TELLING_LEN: u64 = 1 << 20;
    /// A shorter sync is mostly the fixed time that every sync takes: the device may be faster.
    const TELLING_TIME: Duration = Duration::from_millis(20);

    /// Notes a sync.
    pub(super) fn learn(&mut self, bytes: u64, took: Duration) {
        let rate = bytes as f64 / took.as_secs_f64();
        let is_faster = self.bytes_per_s.is_some_and(|known| rate > known);
        if bytes >= Self::TELLING_LEN && (took >= Self::TELLING_TIME || is_faster) {
            self.bytes_per_s = Some(rate);
        }
    }

    /// Whether a sync of this many bytes is known to take longer than `time`.
    pub(super) fn is_too_slow_for(&self, bytes: u64, time: Duration) -> bool {
        self.bytes_per_s
            .is_some_and(|rate| bytes as f64 > rate * time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_sync_does_not_make_a_device_slow() {
        const MIB: u64 = 1 << 20;
        let second = Duration::from_secs(1);
        let millis = Duration::from_millis;
        let mut rate = SyncRate::default();
        assert!(!rate.is_too_slow_for(1 << 40, second));
        // Once it did: after a flush of few bytes, every roll waited for a sync.
        rate.learn(4 * MIB, millis(15));
        assert!(!rate.is_too_slow_for(1 << 40, second));
        rate.learn(128 * MIB, millis(128));
        assert!(
            !rate.is_too_slow_for(900 * MIB, second) && rate.is_too_slow_for(1100 * MIB, second)
        );
        rate.learn(4 * MIB, millis(15));
        assert!(!rate.is_too_slow_for(900 * MIB, second));
        rate.learn(32 * MIB, millis(16));
        assert!(!rate.is_too_slow_for(1900 * MIB, second));
        // On a slow device even few bytes take long, which does say something.
        rate.learn(4 * MIB, millis(40));
        assert!(rate.is_too_slow_for(110 * MIB, second));
        rate.learn(MIB / 2, millis(1));
        assert!(rate.is_too_slow_for(110 * MIB, second));
    }
}
