//! The store's clock, as well as this node can tell.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Estimates the store's time from heartbeats: half a round trip is the error,
/// so the sample with the shortest round trip counts, until it has aged.
pub(super) struct StoreClock {
    base: Instant,
    base_us: u64,
    offset_us: AtomicI64,
    best: Mutex<Option<Sample>>,
}

struct Sample {
    round_trip: Duration,
    at: Instant,
}

/// Quartz clocks drift some tens of µs in a second: after a minute a fresh
/// sample is better than a good old one.
const SAMPLE_AGE_MAX: Duration = Duration::from_secs(60);

impl Default for StoreClock {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            base: Instant::now(),
            base_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2),
            offset_us: AtomicI64::new(0),
            best: Mutex::new(None),
        }
    }
}

impl StoreClock {
    fn local_us(&self, at: Instant) -> u64 {
        self.base_us + u64::try_from(at.duration_since(self.base).as_micros()).unwrap_or(0)
    }

    /// The store's time now, in microseconds since 1970.
    pub(super) fn now_us(&self) -> u64 {
        self.local_us(Instant::now()).saturating_add_signed(self.offset_us.load(Ordering::Relaxed))
    }

    /// Takes a reading of the store's clock between `sent` and `received`.
    pub(super) fn observe(&self, sent: Instant, received: Instant, store_us: u64) {
        let round_trip = received.duration_since(sent);
        let mut best = self.best.lock().expect("no panic while held");
        let better = best.as_ref().is_none_or(|best| {
            round_trip <= best.round_trip || received.duration_since(best.at) > SAMPLE_AGE_MAX
        });
        if better {
            let local = self.local_us(sent + round_trip / 2);
            self.offset_us.store(store_us as i64 - local as i64, Ordering::Relaxed);
            *best = Some(Sample { round_trip, at: received });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_shortest_round_trip_wins_until_it_has_aged() {
        let clock = StoreClock::default();
        let at = Instant::now();
        let ahead = clock.local_us(at) + 5_000_000;
        clock.observe(at, at, ahead);
        assert_eq!(clock.now_us(), ahead);
        clock.observe(at, at + Duration::from_millis(80), ahead + 1_000_000);
        assert_eq!(clock.now_us(), ahead);

        tokio::time::advance(SAMPLE_AGE_MAX + Duration::from_secs(1)).await;
        let at = Instant::now();
        clock.observe(at - Duration::from_millis(80), at, clock.local_us(at));
        let error = clock.now_us().abs_diff(clock.local_us(at));
        assert_eq!(error, 40_000);
    }
}
