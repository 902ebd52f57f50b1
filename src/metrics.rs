//! Every number a node exports: name, unit, help and label values, in one place.
//!
//! Each node builds its own [`Metrics`] under its own recorder, so that nodes
//! sharing a process stay apart; no metric macro stands anywhere else. Names
//! end in their unit, counters in `_total`. No label ever holds a user, channel,
//! device or session. Everything is present, at zero, from the start.
//!
//! Most are moved where things happen. What has to be looked at (the process, the
//! runtime) is [sampled](Metrics::run) each second, so that a scrape only writes
//! down what is known: it costs the same however many sessions there are.
//!
//! Knows nothing of ours: values are handed in.

mod definition;
mod handles;
mod process;
mod runtime;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

pub use definition::{Definition, Kind};
pub use handles::{Labelled, SecondsCounter};

use handles::{register, register_all};
use process::Process;
use runtime::Runtime;

/// Latency buckets, in seconds; SLO edges at 50 ms, 500 ms and 5 s.
pub const LATENCY_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Buckets for things that are counted.
pub const COUNT_BUCKETS: &[f64] =
    &[0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0, 16384.0];

/// How often the process and the runtime are looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

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
    Counter pushes = "postrider_pushes_total", label "result" ["accepted", "repeated", "invalid", "unauthorized", "mismatch", "limited", "unavailable", "out_of_memory", "failed"];
    /// Nodes that one push was routed to.
    Histogram push_nodes = "postrider_push_nodes", buckets COUNT_BUCKETS;
    /// Sessions of this node that one message was handed to.
    Histogram message_sessions = "postrider_message_sessions", buckets COUNT_BUCKETS;
    /// Time from request to answer of a push.
    Histogram push_seconds = "postrider_push_seconds", unit Seconds, buckets LATENCY_BUCKETS;
    /// Time from acceptance of a message by the store to its last byte written to the socket of a session that was there then.
    Histogram accept_to_write_seconds = "postrider_accept_to_write_seconds", unit Seconds, buckets LATENCY_BUCKETS;
    /// Time from acceptance of a message by the store to a device's acknowledgement of it.
    Histogram accept_to_ack_seconds = "postrider_accept_to_ack_seconds", unit Seconds, buckets LATENCY_BUCKETS;
    /// Messages written to sockets.
    Counter messages_written = "postrider_messages_written_total";
    /// Messages written to sockets whose session came after they were accepted: what mailboxes kept.
    Counter messages_replayed = "postrider_messages_replayed_total";
    /// Ledger movements made by this node, in messages, by class.
    Counter ledger_messages = "postrider_ledger_messages_total", label "class" ["accepted", "received", "expired", "collapsed", "dropped_mailbox_full", "dropped_no_session", "dropped_unreported", "dropped_withdrawn"];
    /// Channels whose ledger this node looked at, by what it found; failed: the store did not answer.
    Counter ledger_audits = "postrider_ledger_audits_total", label "result" ["balanced", "differing", "failed"];
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
    /// Open sessions, by dialect.
    Gauge sessions = "postrider_sessions", label "dialect" ["plain", "envelope", "events"];
    /// Sessions that this node takes (connections_max).
    Gauge sessions_max = "postrider_sessions_max";
    /// Channels held by this node.
    Gauge channels_held = "postrider_channels_held";
    /// Sessions opened, by dialect.
    Counter connects = "postrider_connects_total", label "dialect" ["plain", "envelope", "events"];
    /// Time to open a session: from knowing whose it is to its place in the directory and the first page of its mailbox.
    Histogram open_seconds = "postrider_open_seconds", unit Seconds, buckets LATENCY_BUCKETS;
    /// Connections refused before they became sessions, by reason.
    Counter connects_refused = "postrider_connects_refused_total", label "reason" ["draining", "limit", "rate", "address", "user", "token", "auth", "origin", "handshake", "store"];
    /// Requests that ran into a limit, by which.
    Counter requests_limited = "postrider_requests_limited_total", label "limit" ["head_time", "body_time", "body_bytes", "batch_messages", "recipients", "ttl", "push_rate", "ack_rate"];
    /// Times that a session sent more frames than it may in a second, and was read on later.
    Counter frames_paced = "postrider_frames_paced_total";
    /// Sessions closed, by code.
    Counter closes = "postrider_closes_total", label "code" ["normal", "going_away", "protocol", "unsupported", "invalid_data", "too_big", "internal", "restart", "overloaded", "disconnected", "bad_handshake", "origin", "slow", "unresponsive", "store_away", "user_limit", "moved", "expired", "token", "topic", "lost", "other"];
    /// Session starts by how they resumed.
    Counter resumes = "postrider_resumes_total", label "outcome" ["fresh", "resumed", "gap"];
    /// Topics that sessions asked for and did not get to listen to, by reason.
    Counter subscriptions_refused = "postrider_subscriptions_refused_total", label "reason" ["invalid", "not_allowed", "limit", "store"];
    /// Bytes waiting in the outboxes of all sessions.
    Gauge outbox_bytes = "postrider_outbox_bytes", unit Bytes;
    /// Open connections that carry requests, not sessions.
    Gauge http_connections = "postrider_http_connections";
    /// Answers to HTTP requests, by class of status.
    Counter http_answers = "postrider_http_answers_total", label "status" ["1xx", "2xx", "3xx", "4xx", "5xx"];
    /// PROXY headers ahead of connections: taken, of the proxy itself, or refused with the connection.
    Counter proxy_headers = "postrider_proxy_headers_total", label "result" ["taken", "own", "refused"];
    /// Nodes asked about their sessions, by whether they answered in time.
    Counter asks = "postrider_asks_total", label "outcome" ["answered", "unanswered"];
    /// Time of the last heartbeat that the store took.
    Gauge heartbeat_timestamp_seconds = "postrider_heartbeat_timestamp_seconds", unit Seconds;
    /// Round trip of a heartbeat to the store.
    Histogram store_round_trip_seconds = "postrider_store_round_trip_seconds", unit Seconds, buckets LATENCY_BUCKETS;
    /// Time of trips to the store on the way of messages and sessions, by call: pushes (append) and connects (join) that come together share one.
    Histogram store_call_seconds = "postrider_store_call_seconds", unit Seconds, label "call" ["append", "append_batch", "send", "join", "read", "acknowledge"], buckets LATENCY_BUCKETS;
    /// Failed calls to the store, by kind of failure.
    Counter store_errors = "postrider_store_errors_total", label "kind" ["unavailable", "timeout", "out_of_memory", "fenced", "other"];
    /// Fetches of the keys that sign users' tokens, by outcome.
    Counter jwks_fetches = "postrider_jwks_fetches_total", label "result" ["fetched", "failed"];
    /// Questions to the auth hook, by what came of them; kept ones were not asked.
    Counter auth_hook_questions = "postrider_auth_hook_questions_total", label "result" ["allowed", "refused", "failed", "kept"];
    /// Webhook requests by what the receiver made of them.
    Counter webhook_requests = "postrider_webhook_requests_total", label "result" ["taken", "failed", "refused"];
    /// Events that no webhook receiver was told of, by reason.
    Counter webhooks_dropped = "postrider_webhooks_dropped_total", label "reason" ["queue_full", "not_followed", "given_up", "refused", "stopped"];
    /// Whether this node is draining.
    Gauge draining = "postrider_draining";
    /// Whether this node takes traffic: store reachable, enrolled, not draining.
    Gauge ready = "postrider_ready";
    /// Threads that serve.
    Gauge runtime_workers = "postrider_runtime_workers";
    /// Time that threads spent serving, over all of them.
    SecondsCounter runtime_busy_seconds = "postrider_runtime_busy_seconds_total", unit Seconds;
    /// Tasks alive: sessions, requests, loops.
    Gauge runtime_tasks = "postrider_runtime_tasks";
    /// Processor time of the process, user and system.
    SecondsCounter process_cpu_seconds = "process_cpu_seconds_total", unit Seconds;
    /// Memory of the process that is really there.
    Gauge process_resident_memory_bytes = "process_resident_memory_bytes", unit Bytes;
    /// Open files of the process; every session is one.
    Gauge process_open_fds = "process_open_fds";
    /// Files that the process may open.
    Gauge process_max_fds = "process_max_fds";
    /// When the process started, since 1970.
    Gauge process_start_time_seconds = "process_start_time_seconds", unit Seconds;
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

impl Handles {
    /// The counters that the recorder does not know, by name.
    fn seconds_counter(&self, name: &str) -> &SecondsCounter {
        match name {
            "process_cpu_seconds_total" => &self.process_cpu_seconds,
            _ => &self.runtime_busy_seconds,
        }
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
        handles.process_start_time_seconds.set(process::start_time_seconds());
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
        let mut page = self.page.render();
        // The recorder's counters are whole numbers.
        for definition in DEFINITIONS.iter().filter(|definition| definition.kind == Kind::SecondsCounter) {
            let Definition { name, help, .. } = definition;
            let seconds = self.handles.seconds_counter(name).get().as_secs_f64();
            let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {seconds}\n\n");
        }
        page
    }

    /// Keeps histograms small: call every few seconds.
    pub fn upkeep(&self) {
        self.page.run_upkeep();
    }

    /// Samples what has to be looked at, and keeps histograms small, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let (mut process, runtime) = (Process::default(), Runtime::current());
        loop {
            process.sample(&self.handles);
            runtime.sample(&self.handles);
            self.upkeep();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SAMPLE_INTERVAL) => {}
            }
        }
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
        // Not the recorder's: see `render`.
        Kind::SecondsCounter => {}
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
            let suffix = if definition.kind == Kind::Histogram { "_count" } else { "" };
            let labels: Vec<_> = match definition.label {
                Some((label, values)) => {
                    values.iter().map(|value| format!("{{{label}=\"{value}\"}}")).collect()
                }
                None => vec![String::new()],
            };
            for label in labels {
                let series = format!("{}{suffix}{label} ", definition.name);
                let line = page.lines().find_map(|line| line.strip_prefix(&series));
                let known_before = definition.name == "process_start_time_seconds";
                assert!(line == Some("0") || known_before && line.is_some(), "{series} is {line:?}");
            }
        }
    }

    #[test]
    fn counters_of_time_are_told_apart_and_never_go_back() {
        let metrics = Metrics::new("0", "memory");
        metrics.process_cpu_seconds.absolute(Duration::from_millis(1_500));
        metrics.process_cpu_seconds.absolute(Duration::from_secs(1));
        metrics.runtime_busy_seconds.absolute(Duration::from_millis(250));
        let page = metrics.render();
        assert!(
            page.contains("\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.5\n"),
            "{page}"
        );
        assert!(page.contains("\npostrider_runtime_busy_seconds_total 0.25\n"), "{page}");
    }

    #[test]
    fn names_end_in_their_unit_and_counters_in_total() {
        for definition in DEFINITIONS {
            let ours = definition.name.starts_with("postrider_");
            // These are called the same for every program.
            assert!(ours || definition.name.starts_with("process_"), "{}", definition.name);
            assert_eq!(
                definition.kind.is_counter(),
                definition.name.ends_with("_total"),
                "{}",
                definition.name
            );
            match definition.unit {
                Some(Unit::Seconds) => {
                    let name = definition.name.trim_end_matches("_total");
                    assert!(name.ends_with("_seconds"), "{}", definition.name);
                }
                Some(Unit::Bytes) => assert!(definition.name.ends_with("_bytes"), "{}", definition.name),
                _ => {}
            }
        }
    }
}
