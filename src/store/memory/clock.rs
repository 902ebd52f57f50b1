//! The embedded store's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::store::Limits;

/// Starts at the wall clock's time and from there on follows tokio's clock: it
/// never goes back, and tests that pause tokio's clock control it.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
    start_us: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        // A machine whose clock is before 1970 starts at 1970; nothing depends
        // on the date being right.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_us: since_1970.as_micros() as u64 }
    }

    pub(super) fn now(&self) -> Now {
        Now { us: self.start_us + self.start.elapsed().as_micros() as u64 }
    }
}

/// The time at which one call takes place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Now {
    pub(super) us: u64,
}

impl Now {
    pub(super) fn ms(self) -> u64 {
        self.us / 1_000
    }
}

/// What a channel is told about the world by each call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) now: Now,
    /// The life of the store.
    pub(super) run: u64,
    pub(super) limits: &'a Limits,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_starts_at_the_wall_clock_and_follows_tokios() {
        let clock = Clock::start();
        let first = clock.now();
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        assert!(wall_ms.abs_diff(first.ms()) < 60_000);
        assert_eq!(clock.now(), first, "paused is paused");
        tokio::time::advance(Duration::from_micros(2_500)).await;
        assert_eq!(clock.now().us, first.us + 2_500);
    }
}
