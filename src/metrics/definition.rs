//! How a metric is declared.

use metrics::Unit;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Only grows, in seconds and parts of them.
    SecondsCounter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

impl Kind {
    /// Whether it only grows, so that only its rate says something.
    #[must_use]
    pub const fn is_counter(self) -> bool {
        matches!(self, Self::Counter | Self::SecondsCounter)
    }
}

/// The declaration of one metric.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Its full name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The unit its name ends in.
    pub unit: Option<Unit>,
    /// Its help text.
    pub help: &'static str,
    /// Its label and that label's values, if it has one.
    pub label: Option<(&'static str, &'static [&'static str])>,
    /// Its buckets, if it is a histogram.
    pub buckets: &'static [f64],
}
