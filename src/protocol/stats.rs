//! The body of `GET /v1/stats`: one node's numbers, for people who watch.

use serde::Serialize;
use utoipa::ToSchema;

use super::NodeId;
use super::status::StreamAnswer;

/// The answer to `GET /v1/stats`: the numbers of the node that answers.
///
/// Counters grow from the node's start; whoever wants rates asks twice and
/// tells nodes apart by `node`.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatsAnswer {
    /// The node that answers.
    pub node: NodeId,
    /// Its version.
    pub version: String,
    /// What it keeps messages in.
    pub store: StoreKind,
    /// Who may connect and send.
    pub auth: AuthKind,
    /// When this was read, by the node's clock.
    #[schema(format = DateTime, examples("2026-11-24T19:02:11.482Z"))]
    pub at: String,
    /// Why it takes no traffic; null when it does.
    pub unready: Option<String>,
    /// Whether it is about to leave.
    pub draining: bool,
    /// Open sessions.
    pub sessions: u64,
    /// Channels that have a session here.
    pub channels: u64,
    /// Bytes waiting in the outboxes of all sessions.
    pub outbox_bytes: u64,
    /// Its stream.
    pub stream: StreamAnswer,
    /// What it has done since it started.
    pub totals: Totals,
    /// How long things took since it started.
    pub latencies: Latencies,
}

/// What messages are kept in.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// The process's memory: one node, and nothing survives a restart.
    Memory,
    /// Redis.
    Redis,
}

/// Who may connect and send.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthKind {
    /// Anyone; a token is the name of its user.
    None,
    /// Users by token, senders by key.
    Jwt,
}

/// What a node has done since it started.
#[derive(Debug, Serialize, ToSchema)]
pub struct Totals {
    /// Pushes accepted, one for each recipient.
    pub accepted: u64,
    /// Pushes refused or failed.
    pub refused: u64,
    /// Messages written to sockets.
    pub written: u64,
    /// Messages first received by a device, as far as this node told the ledger.
    pub received: u64,
    /// Sessions opened.
    pub connects: u64,
    /// Sessions closed because they read too slowly.
    pub slow_closes: u64,
    /// Losses told to clients.
    pub gaps: u64,
    /// Messages that came twice and were dropped.
    pub duplicates: u64,
    /// Messages routed again, because a node had gone.
    pub rerouted: u64,
    /// Streams of dead nodes taken over.
    pub reclaims: u64,
    /// Failed calls to the store.
    pub store_errors: u64,
}

/// How long things took, as histograms.
#[derive(Debug, Serialize, ToSchema)]
pub struct Latencies {
    /// From a push's request to its answer.
    pub push: HistogramNumbers,
    /// From acceptance by the store to the last byte written to a socket.
    pub accept_to_write: HistogramNumbers,
    /// From acceptance by the store to a device's acknowledgement.
    pub accept_to_ack: HistogramNumbers,
}

/// A histogram: how many observations were at most each bound.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct HistogramNumbers {
    /// Upper bounds, in seconds, ascending.
    pub bounds: Vec<f64>,
    /// Observations up to the bound at the same place; cumulative.
    pub counts: Vec<u64>,
    /// All observations, those above the last bound included.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum_seconds: f64,
}
