//! Handles of metrics, and how they come to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

use super::Definition;

/// One handle per value of a label.
#[derive(Clone)]
pub struct Labelled<T> {
    values: &'static [&'static str],
    handles: Vec<T>,
}

impl<T> Labelled<T> {
    /// The handle of a declared value; of the last declared one for any other.
    #[must_use]
    pub fn with(&self, value: &str) -> &T {
        let last = self.values.len() - 1;
        let at = self.values.iter().position(|known| *known == value).unwrap_or(last);
        &self.handles[at]
    }
}

/// A counter of time. The recorder's own counters are whole numbers, and whole
/// seconds are too coarse for a rate.
#[derive(Debug, Clone, Default)]
pub struct SecondsCounter(Arc<AtomicU64>);

impl SecondsCounter {
    /// Sets it to what was counted elsewhere; never back.
    pub fn absolute(&self, total: Duration) {
        self.0.fetch_max(u64::try_from(total.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What it counted.
    #[must_use]
    pub fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

pub(super) trait Handle: Sized {
    fn register(recorder: &dyn Recorder, key: &Key, metadata: &Metadata<'_>) -> Self;
}

impl Handle for Counter {
    fn register(recorder: &dyn Recorder, key: &Key, metadata: &Metadata<'_>) -> Self {
        let counter = recorder.register_counter(key, metadata);
        counter.increment(0);
        counter
    }
}

impl Handle for SecondsCounter {
    fn register(_: &dyn Recorder, _: &Key, _: &Metadata<'_>) -> Self {
        Self::default()
    }
}

impl Handle for Gauge {
    fn register(recorder: &dyn Recorder, key: &Key, metadata: &Metadata<'_>) -> Self {
        let gauge = recorder.register_gauge(key, metadata);
        gauge.set(0.0);
        gauge
    }
}

impl Handle for Histogram {
    fn register(recorder: &dyn Recorder, key: &Key, metadata: &Metadata<'_>) -> Self {
        recorder.register_histogram(key, metadata)
    }
}

pub(super) fn register<T: Handle>(
    recorder: &dyn Recorder,
    definition: &Definition,
    value: Option<&'static str>,
) -> T {
    let labels = match (definition.label, value) {
        (Some((label, _)), Some(value)) => vec![Label::from_static_parts(label, value)],
        _ => Vec::new(),
    };
    let metadata = Metadata::new(module_path!(), Level::INFO, None);
    T::register(recorder, &Key::from_parts(definition.name, labels), &metadata)
}

pub(super) fn register_all<T: Handle>(recorder: &dyn Recorder, definition: &Definition) -> Labelled<T> {
    let values = definition.label.map_or(&[] as &[_], |(_, values)| values);
    let handles = values.iter().map(|value| register(recorder, definition, Some(value))).collect();
    Labelled { values, handles }
}
