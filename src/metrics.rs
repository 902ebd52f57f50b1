//! Every number a node exports: name, unit, help and label values, in one place.
//!
//! Each node builds its own [`Metrics`] under its own recorder, so that nodes
//! sharing a process stay apart; no metric macro stands anywhere else. Names
//! end in their unit, counters in `_total`. No label ever holds a user, channel,
//! device or session. Everything is present, at zero, from the start.
//!
//! Knows nothing of ours: values are handed in.

use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Latency buckets, in seconds; SLO edges at 50 ms, 500 ms and 5 s.
pub const LATENCY_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Buckets for things that are counted.
pub const COUNT_BUCKETS: &[f64] =
    &[0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0, 16384.0];

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
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

trait Handle: Sized {
    fn register(recorder: &dyn Recorder, key: &Key, metadata: &Metadata<'_>) -> Self;
}

impl Handle for Counter {
    fn register(recorder: &dyn Recorder, key: &Key, metadata: &Metadata<'_>) -> Self {
        let counter = recorder.register_counter(key, metadata);
        counter.increment(0);
        counter
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

fn register<T: Handle>(recorder: &dyn Recorder, definition: &Definition, value: Option<&'static str>) -> T {
    let labels = match (definition.label, value) {
        (Some((label, _)), Some(value)) => vec![Label::from_static_parts(label, value)],
        _ => Vec::new(),
    };
    let metadata = Metadata::new(module_path!(), Level::INFO, None);
    T::register(recorder, &Key::from_parts(definition.name, labels), &metadata)
}

fn register_all<T: Handle>(recorder: &dyn Recorder, definition: &Definition) -> Labelled<T> {
    let values = definition.label.map_or(&[] as &[_], |(_, values)| values);
    let handles = values.iter().map(|value| register(recorder, definition, Some(value))).collect();
    Labelled { values, handles }
}

macro_rules! declare {
    ($(
        #[doc = $help:literal]
        $kind:ident $field:ident = $name:literal $(, unit $unit:ident)? $(, label $label:literal [$($value:literal),+ $(,)?])? $(, buckets $buckets:ident)?;
    )*) => {
        /// The handles of every metric of one node.
        #[derive(Clone)]
        pub struct Handles {
            $(#[doc = $help] pub $field: declare!(@type $kind $($label)?),)*
        }

        /// Every metric there is.
        pub const DEFINITIONS: &[Definition] = &[
            $(Definition {
                name: $name,
                kind: Kind::$kind,
                unit: declare!(@unit $($unit)?),
                help: declare!(@trim $help),
                label: declare!(@label $($label [$($value),+])?),
                buckets: declare!(@buckets $($buckets)?),
            },)*
        ];

        impl Handles {
            fn new(recorder: &dyn Recorder) -> Self {
                let mut definitions = DEFINITIONS.iter();
                let mut next = || definitions.next().expect("as many definitions as fields");
                Self { $($field: declare!(@register recorder, next(), $($label)?),)* }
            }
        }
    };
    (@type $kind:ident) => { $kind };
    (@type $kind:ident $label:literal) => { Labelled<$kind> };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(Unit::$unit) };
    (@trim $help:literal) => { $help.trim_ascii() };
    (@label) => { None };
    (@label $label:literal [$($value:literal),+]) => { Some(($label, &[$($value),+])) };
    (@buckets) => { &[] };
    (@buckets $buckets:ident) => { $buckets };
    (@register $recorder:ident, $definition:expr,) => { register($recorder, $definition, None) };
    (@register $recorder:ident, $definition:expr, $label:literal) => { register_all($recorder, $definition) };
}

declare! {
    /// Pushes by result, one for each recipient.
    Counter pushes = "postrider_pushes_total", label "result" ["accepted", "repeated", "invalid", "unauthorized", "mismatch", "unavailable", "out_of_memory", "failed"];
    /// Nodes that one push was routed to.
    Histogram push_nodes = "postrider_push_nodes", buckets COUNT_BUCKETS;
    /// Sessions of this node that one message was handed to.
    Histogram message_sessions = "postrider_message_sessions", buckets COUNT_BUCKETS;
    /// Time from request to answer of a push.
    Histogram push_seconds = "postrider_push_seconds", unit Seconds, buckets LATENCY_BUCKETS;
    /// Time from acceptance of a message by the store to its last byte written to a socket.
    Histogram accept_to_write_seconds = "postrider_accept_to_write_seconds", unit Seconds, buckets LATENCY_BUCKETS;
    /// Time from acceptance of a message by the store to a device's acknowledgement of it.
    Histogram accept_to_ack_seconds = "postrider_accept_to_ack_seconds", unit Seconds, buckets LATENCY_BUCKETS;
    /// Messages written to sockets.
    Counter messages_written = "postrider_messages_written_total";
    /// Ledger movements made by this node, in messages, by class.
    Counter ledger_messages = "postrider_ledger_messages_total", label "class" ["accepted", "received", "expired", "collapsed", "dropped_mailbox_full", "dropped_no_session", "dropped_unreported", "dropped_withdrawn"];
    /// Entries in this node's stream.
    Gauge stream_entries = "postrider_stream_entries";
    /// Entries of this node's stream that it has not read yet.
    Gauge stream_lag_entries = "postrider_stream_lag_entries";
    /// Entries of this node's stream that were read and not acknowledged.
    Gauge stream_pending_entries = "postrider_stream_pending_entries";
    /// Age of the oldest unacknowledged entry of this node's stream.
    Gauge stream_oldest_pending_seconds = "postrider_stream_oldest_pending_seconds", unit Seconds;
    /// Messages in one read of the node stream.
    Histogram stream_read_messages = "postrider_stream_read_messages", buckets COUNT_BUCKETS;
    /// Entries acknowledged to the node stream.
    Counter stream_acks = "postrider_stream_acks_total";
    /// Entries whose sending cut off older ones, because a node stream was at its cap.
    Counter stream_capped = "postrider_stream_capped_total";
    /// Entries sent to node streams by outcome.
    Counter entries_sent = "postrider_entries_sent_total", label "outcome" ["stored", "no_stream", "overflow", "failed"];
    /// Messages routed again, because a node had gone or its stream was inherited.
    Counter reroutes = "postrider_reroutes_total";
    /// Streams of dead nodes taken over.
    Counter reclaims = "postrider_reclaims_total";
    /// Times this node found that it had been declared dead and rejoined.
    Counter fencings = "postrider_fencings_total";
    /// Holes in a channel's order that were filled from the mailbox.
    Counter gaps_filled = "postrider_gaps_filled_total";
    /// Losses told to clients, by reason.
    Counter gaps_told = "postrider_gaps_told_total", label "reason" ["trimmed", "reset"];
    /// Messages that came twice and were dropped.
    Counter duplicates_dropped = "postrider_duplicates_dropped_total";
    /// Channels found behind their mailbox by comparison, and healed.
    Counter heals = "postrider_heals_total";
    /// Tasks of this node that run, one for each connection or session among them.
    Gauge tasks = "postrider_tasks";
    /// Open sessions.
    Gauge sessions = "postrider_sessions";
    /// Channels held by this node.
    Gauge channels_held = "postrider_channels_held";
    /// Sessions opened, by dialect.
    Counter connects = "postrider_connects_total", label "dialect" ["plain", "envelope"];
    /// Connections refused before they became sessions, by reason.
    Counter connects_refused = "postrider_connects_refused_total", label "reason" ["draining", "limit", "rate", "token", "origin", "handshake", "store"];
    /// Sessions closed, by code.
    Counter closes = "postrider_closes_total", label "code" ["normal", "going_away", "protocol", "unsupported", "invalid_data", "too_big", "internal", "restart", "overloaded", "disconnected", "bad_handshake", "origin", "slow", "unresponsive", "store_away", "moved", "token", "lost", "other"];
    /// Session starts by how they resumed.
    Counter resumes = "postrider_resumes_total", label "outcome" ["fresh", "resumed", "gap"];
    /// Bytes waiting in the outboxes of all sessions.
    Gauge outbox_bytes = "postrider_outbox_bytes", unit Bytes;
    /// Time of the last heartbeat that the store took.
    Gauge heartbeat_timestamp_seconds = "postrider_heartbeat_timestamp_seconds", unit Seconds;
    /// Round trip of a heartbeat to the store.
    Histogram store_round_trip_seconds = "postrider_store_round_trip_seconds", unit Seconds, buckets LATENCY_BUCKETS;
    /// Failed calls to the store, by kind of failure.
    Counter store_errors = "postrider_store_errors_total", label "kind" ["unavailable", "timeout", "out_of_memory", "fenced", "other"];
    /// Webhook requests by what the receiver made of them.
    Counter webhook_requests = "postrider_webhook_requests_total", label "result" ["taken", "failed", "refused"];
    /// Events that no webhook receiver was told of, by reason.
    Counter webhooks_dropped = "postrider_webhooks_dropped_total", label "reason" ["queue_full", "not_followed", "given_up", "refused", "stopped"];
    /// Whether this node is draining.
    Gauge draining = "postrider_draining";
    /// Whether this node takes traffic: store reachable, enrolled, not draining.
    Gauge ready = "postrider_ready";
}

/// The build, as labels of a gauge that is always 1.
pub const BUILD_INFO: &str = "postrider_build_info";

/// One node's metrics: the handles, and the page they appear on.
#[derive(Clone)]
pub struct Metrics {
    handles: Arc<Handles>,
    page: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl std::ops::Deref for Metrics {
    type Target = Handles;

    fn deref(&self) -> &Handles {
        &self.handles
    }
}

impl Metrics {
    /// Declares everything under a recorder of its own.
    #[must_use]
    pub fn new(version: &'static str, store: &'static str) -> Self {
        let mut builder = PrometheusBuilder::new();
        for definition in DEFINITIONS.iter().filter(|definition| definition.kind == Kind::Histogram) {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(definition.name.to_owned()), definition.buckets)
                .expect("bucket lists are not empty");
        }
        let recorder = builder.build_recorder();
        for definition in DEFINITIONS {
            describe(&recorder, definition);
        }
        let handles = Arc::new(Handles::new(&recorder));
        let build: SharedString = "Version and store of this node; always 1.".into();
        recorder.describe_gauge(KeyName::from_const_str(BUILD_INFO), None, build);
        let labels =
            vec![Label::from_static_parts("version", version), Label::from_static_parts("store", store)];
        let metadata = Metadata::new(module_path!(), Level::INFO, None);
        recorder.register_gauge(&Key::from_parts(BUILD_INFO, labels), &metadata).set(1.0);
        Self { handles, page: recorder.handle() }
    }

    /// The page that Prometheus scrapes.
    #[must_use]
    pub fn render(&self) -> String {
        self.page.render()
    }

    /// Keeps histograms small: call every few seconds.
    pub fn upkeep(&self) {
        self.page.run_upkeep();
    }

    /// Records the time from a store timestamp to `now_us`, never negative.
    pub fn record_since(histogram: &Histogram, from_us: u64, now_us: u64) {
        histogram.record(Duration::from_micros(now_us.saturating_sub(from_us)));
    }
}

fn describe(recorder: &dyn Recorder, definition: &Definition) {
    let name = KeyName::from_const_str(definition.name);
    let help = SharedString::from(definition.help);
    match definition.kind {
        Kind::Counter => recorder.describe_counter(name, definition.unit, help),
        Kind::Gauge => recorder.describe_gauge(name, definition.unit, help),
        Kind::Histogram => recorder.describe_histogram(name, definition.unit, help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_declared_is_on_the_page_at_zero() {
        let page = Metrics::new("0", "memory").render();
        for definition in DEFINITIONS {
            assert!(
                page.contains(&format!("# HELP {} ", definition.name)),
                "{} has no help",
                definition.name
            );
            let series = match definition.kind {
                Kind::Histogram => format!("{}_count 0", definition.name),
                _ => match definition.label {
                    Some((label, values)) => format!("{}{{{label}=\"{}\"}} 0", definition.name, values[0]),
                    None => format!("{} 0", definition.name),
                },
            };
            assert!(page.contains(&series), "{series} is missing");
        }
    }

    #[test]
    fn names_end_in_their_unit_and_counters_in_total() {
        for definition in DEFINITIONS {
            assert!(definition.name.starts_with("postrider_"), "{}", definition.name);
            assert_eq!(
                definition.kind == Kind::Counter,
                definition.name.ends_with("_total"),
                "{}",
                definition.name
            );
            match definition.unit {
                Some(Unit::Seconds) => assert!(definition.name.ends_with("_seconds"), "{}", definition.name),
                Some(Unit::Bytes) => assert!(definition.name.ends_with("_bytes"), "{}", definition.name),
                _ => {}
            }
        }
    }
}
