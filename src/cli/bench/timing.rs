//! When things happened, of what falls into the measured window.

use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Nanoseconds; what takes longer counts as this.
const LONGEST_NS: u64 = 600_000_000_000;

/// This process's clock: nanoseconds since it was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A distribution of durations.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // Three digits: what is said of a millisecond is true to a microsecond.
        Self(Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order"))
    }
}

impl Latencies {
    pub(super) fn record(&mut self, from_ns: u64, to_ns: u64) {
        self.0.saturating_record(to_ns.saturating_sub(from_ns).max(1));
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    /// In milliseconds; `quantile` 1 is the longest.
    pub(super) fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e6
    }
}

/// Deliveries, answers and connects of the window.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// From when a message was due (or sent, when nothing paces it) to its receipt.
    pub(super) delivery: Latencies,
    /// From the same to the push's answer.
    pub(super) answer: Latencies,
    /// From a connect's start to its socket being open.
    pub(super) join: Latencies,
    /// Deliveries that arrived within the window, whenever they were due.
    pub(super) delivered: u64,
    /// Messages accepted within the window.
    pub(super) accepted: u64,
    window: Option<(u64, u64)>,
}

impl Timing {
    /// From now on; what an earlier window saw is forgotten.
    pub(super) fn open_window(&mut self, now_ns: u64) {
        *self = Self { window: Some((now_ns, u64::MAX)), ..Self::default() };
    }

    pub(super) fn close_window(&mut self, now_ns: u64) {
        if let Some((_, until)) = &mut self.window {
            *until = now_ns;
        }
    }

    fn within(&self, at_ns: u64) -> bool {
        self.window.is_some_and(|(from, until)| (from..until).contains(&at_ns))
    }

    pub(super) fn delivered(&mut self, at_ns: u64, now_ns: u64) {
        self.delivered += u64::from(self.within(now_ns));
        // By when it was due, so that what arrives after the window counts too.
        if self.within(at_ns) {
            self.delivery.record(at_ns, now_ns);
        }
    }

    pub(super) fn accepted(&mut self, messages: u64, at_ns: u64, now_ns: u64) {
        if self.within(now_ns) {
            self.accepted += messages;
        }
        if self.within(at_ns) {
            self.answer.record(at_ns, now_ns);
        }
    }

    pub(super) fn joined(&mut self, at_ns: u64, now_ns: u64) {
        if self.within(at_ns) {
            self.join.record(at_ns, now_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_belongs_to_when_a_message_was_due_and_throughput_to_when_it_came() {
        let mut timing = Timing::default();
        timing.open_window(0);
        timing.delivered(1, 2);
        timing.open_window(10);
        timing.delivered(9, 11);
        timing.delivered(10, 12);
        timing.close_window(20);
        timing.delivered(19, 1_000_019);
        timing.delivered(20, 21);
        assert_eq!((timing.delivered, timing.delivery.len()), (2, 2));
        assert!((timing.delivery.ms(1.0) - 1.0).abs() < 0.001);
    }
}
