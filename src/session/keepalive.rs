//! Keepalive: when to ping, and when silence means that the peer is gone.
//!
//! Knows no socket and reads no clock. Any byte from the peer is life, not only
//! a pong.

use std::time::Duration;

use tokio::time::Instant;

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// A ping.
    Ping,
    /// The end: a ping went unanswered.
    Unresponsive,
}

/// One session's keepalive.
#[derive(Debug)]
pub(super) struct Keepalive {
    next_ping_at: Instant,
    /// When the oldest ping was sent since which nothing was heard.
    asked_at: Option<Instant>,
}

impl Keepalive {
    /// The first ping is due at `first`; later ones follow at the interval.
    pub(super) fn new(first: Instant) -> Self {
        Self { next_ping_at: first, asked_at: None }
    }

    /// What is due at `now`, `heard` saying whether bytes came since the last call.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        heard: bool,
        interval: Duration,
        pong_timeout: Duration,
    ) -> Due {
        if heard {
            self.asked_at = None;
        }
        if self.asked_at.is_some_and(|asked_at| now >= asked_at + pong_timeout) {
            return Due::Unresponsive;
        }
        if now < self.next_ping_at {
            return Due::Nothing;
        }
        self.next_ping_at = now + interval;
        self.asked_at.get_or_insert(now);
        Due::Ping
    }

    /// When [`Keepalive::tick`] next makes a difference.
    pub(super) fn next(&self, pong_timeout: Duration) -> Instant {
        self.asked_at.map_or(self.next_ping_at, |asked_at| self.next_ping_at.min(asked_at + pong_timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(25);
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn started() -> (Instant, Keepalive) {
        let now = Instant::now();
        (now, Keepalive::new(now + INTERVAL))
    }

    #[test]
    fn silence_after_a_ping_ends_the_session_at_the_timeout() {
        let (start, mut keepalive) = started();
        assert_eq!(keepalive.tick(start, false, INTERVAL, TIMEOUT), Due::Nothing);
        assert_eq!(keepalive.next(TIMEOUT), start + INTERVAL);
        let asked = start + INTERVAL;
        assert_eq!(keepalive.tick(asked, true, INTERVAL, TIMEOUT), Due::Ping);
        assert_eq!(keepalive.next(TIMEOUT), asked + TIMEOUT);
        let almost = asked + TIMEOUT - Duration::from_millis(1);
        assert_eq!(keepalive.tick(almost, false, INTERVAL, TIMEOUT), Due::Nothing);
        assert_eq!(keepalive.tick(asked + TIMEOUT, false, INTERVAL, TIMEOUT), Due::Unresponsive);
    }

    #[test]
    fn any_byte_answers_a_ping() {
        let (start, mut keepalive) = started();
        let asked = start + INTERVAL;
        assert_eq!(keepalive.tick(asked, false, INTERVAL, TIMEOUT), Due::Ping);
        assert_eq!(keepalive.tick(asked + TIMEOUT, true, INTERVAL, TIMEOUT), Due::Nothing);
        assert_eq!(keepalive.next(TIMEOUT), asked + INTERVAL);
        assert_eq!(keepalive.tick(asked + INTERVAL, false, INTERVAL, TIMEOUT), Due::Ping);
    }

    #[test]
    fn the_timeout_counts_from_the_oldest_unanswered_ping() {
        let (start, mut keepalive) = started();
        let (interval, timeout) = (Duration::from_secs(3), TIMEOUT);
        let mut keepalive_at =
            |seconds| keepalive.tick(start + Duration::from_secs(seconds), false, interval, timeout);
        assert_eq!(keepalive_at(25), Due::Ping);
        assert_eq!(keepalive_at(28), Due::Ping);
        assert_eq!(keepalive_at(34), Due::Ping);
        assert_eq!(keepalive_at(35), Due::Unresponsive);
    }
}
