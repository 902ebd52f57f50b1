//! Whether to come back after a connection ended, and when.

use std::time::Duration;

/// The longest first wait.
const BASE: Duration = Duration::from_millis(500);
/// The longest wait.
const CAP: Duration = Duration::from_secs(20);
/// A connection that lived this long had been a good one.
pub(super) const STABLE: Duration = Duration::from_secs(5);

/// What a close code asks of a client (see the table in `protocol::close`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is over, and all went well.
    End,
    /// Coming back unchanged cannot help.
    StayAway,
    /// Come back, but not all at once.
    BackOff,
    /// Come back at once.
    Now,
}

/// Ranges, so that codes of later releases are understood.
pub fn after_close(code: u16) -> Then {
    match code {
        1000 => Then::End,
        1002 | 1003 | 1007..=1010 | 4000..=4099 | 4400..=4499 => Then::StayAway,
        4200..=4299 => Then::Now,
        // Also what no peer sends: the connection just broke.
        _ => Then::BackOff,
    }
}

/// Waits with full jitter: anywhere from nothing to a bound that doubles.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The bound of the next wait.
    pub(super) fn bound(&self) -> Duration {
        (BASE * 2u32.saturating_pow(self.failures.min(10))).min(CAP)
    }

    /// The next wait, after a connection that lived this long.
    pub(super) fn next(&mut self, then: Then, lived: Duration) -> Duration {
        if lived >= STABLE {
            self.failures = 0;
        }
        // "Now" is believed once; a server that keeps saying it is backed off from.
        let at_once = then == Then::Now && self.failures == 0;
        let bound = if at_once { Duration::ZERO } else { self.bound() };
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::close::CloseCode;

    #[test]
    fn the_ranges_of_the_table_are_obeyed() {
        let then = |code: CloseCode| after_close(code.get());
        for code in [
            CloseCode::DISCONNECTED,
            CloseCode::ORIGIN,
            CloseCode::TOKEN,
            CloseCode::TOO_BIG,
            CloseCode::PROTOCOL,
        ] {
            assert_eq!(then(code), Then::StayAway, "{code:?}");
        }
        for code in [
            CloseCode::GOING_AWAY,
            CloseCode::INTERNAL,
            CloseCode::RESTART,
            CloseCode::OVERLOADED,
            CloseCode::SLOW,
        ] {
            assert_eq!(then(code), Then::BackOff, "{code:?}");
        }
        assert_eq!(then(CloseCode::MOVED), Then::Now);
        assert_eq!(then(CloseCode::NORMAL), Then::End);
        // Codes of a later release, by their range; and none at all.
        assert_eq!(
            [4050, 4150, 4250, 4450, 1006].map(after_close),
            [Then::StayAway, Then::BackOff, Then::Now, Then::StayAway, Then::BackOff]
        );
    }

    #[test]
    fn the_bound_doubles_up_to_a_cap_and_falls_back_after_a_good_connection() {
        let mut backoff = Backoff::default();
        let mut bounds = Vec::new();
        for _ in 0..8 {
            bounds.push(backoff.bound().as_millis());
            let bound = backoff.bound();
            assert!(backoff.next(Then::BackOff, Duration::ZERO) <= bound);
        }
        assert_eq!(bounds, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]);
        assert!(backoff.next(Then::BackOff, STABLE) <= BASE);
    }

    #[test]
    fn now_is_believed_once() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(Then::Now, Duration::ZERO), Duration::ZERO);
        assert_eq!(backoff.bound(), Duration::from_secs(1));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.bound(), CAP);
    }
}
