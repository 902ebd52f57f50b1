//! What is kept, and the contract of whatever keeps it.
//!
//! [`Store`] has two implementations that pass one suite
//! (`tests/store_contract`): [`redis`], where nodes meet, and [`memory`], the
//! embedded default of one process. Nothing above this module knows which one
//! it talks to; nothing in it knows of sockets or HTTP.
//!
//! The semantics of every call are stated here once; an implementation only
//! says how. Failure: every call returns within the store's deadline, with
//! [`Error::Unavailable`] or [`Error::Timeout`] when the store is away. After a
//! timeout the effect is unknown and may still happen later.

mod access;
mod channel;
mod fate;
pub mod faulty;
mod inquiries;
mod ledger;
pub mod memory;
mod node;
pub mod redis;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use access::{Access, Standing, TicketHash};
pub use channel::{
    Ack, Append, Appended, ChannelInfo, Cursor, Gap, GapReason, Idempotency, Join, Page, Route, Settled,
    Start,
};
pub use fate::{
    DEPARTURES_KEPT_MS, DEPARTURES_MAX, DEVICES_MAX, Departure, DeviceFate, Erased, Found, Progress, Recent,
    Traced, Why, Withdrawn,
};
pub use inquiries::Inquiries;
pub use ledger::{Dropped, Ledger};
pub use node::{Beat, Burial, EntryAcks, EntryId, NodeInfo, NodeRecord, Sent, StreamEntry, StreamStats};

use crate::protocol::{Channel, NodeId, Position};

/// Limits that a store keeps, the same for every implementation.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Messages a mailbox keeps; the oldest are trimmed beyond it, in steps of
    /// at most a twentieth of it so that a full mailbox stays cheap.
    pub mailbox_messages_max: usize,
    /// How long an idempotency key is remembered.
    pub idempotency_window_ms: u64,
    /// How long an untouched channel keeps its epoch, cursors and ledger.
    pub channel_retention_ms: u64,
    /// How long a heartbeat lives.
    pub heartbeat_ttl_ms: u64,
    /// How long after its heartbeat lapsed a node is suspected dead.
    pub heartbeat_grace_ms: u64,
    /// How long a reclaim lease lives unless renewed.
    pub lease_ttl_ms: u64,
    /// Entries a node stream holds at most: a backstop, not a buffer.
    pub stream_entries_max: usize,
    /// Devices whose cursor a channel keeps. Beyond it those are forgotten whose
    /// cursor moved longest ago, in steps of at most a twentieth of it; whoever
    /// is forgotten begins like a new device.
    pub cursors_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            mailbox_messages_max: 1_000,
            idempotency_window_ms: 60 * 60 * 1_000,
            channel_retention_ms: 30 * 24 * 60 * 60 * 1_000,
            heartbeat_ttl_ms: 3_000,
            heartbeat_grace_ms: 2_000,
            lease_ttl_ms: 5_000,
            stream_entries_max: 10_000,
            cursors_max: 10_000,
        }
    }
}

/// Why a call failed. The text follows "failed to".
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store cannot be reached; nothing is known to have happened.
    #[error("reach the store: {0}")]
    Unavailable(String),
    /// No answer in time; the effect is unknown.
    #[error("{what} within {after_ms} ms")]
    Timeout {
        /// What was attempted.
        what: &'static str,
        /// The deadline it missed.
        after_ms: u64,
    },
    /// The store refuses writes for want of memory.
    #[error("write: the store is out of memory")]
    OutOfMemory,
    /// The idempotency key was used before with another body.
    #[error("accept the push: its idempotency key was used with a different body")]
    IdempotencyMismatch,
    /// The node's stream or group is gone: it was declared dead.
    #[error("use the node stream: this node was declared dead")]
    Fenced,
    /// What the store holds is not what we wrote.
    #[error("read {what}: {detail}")]
    Corrupt {
        /// What was read.
        what: &'static str,
        /// What was wrong with it.
        detail: String,
    },
    /// The store answered with an error of its own.
    #[error("{what}: {detail}")]
    Refused {
        /// What was attempted.
        what: &'static str,
        /// The store's words.
        detail: String,
    },
}

impl Error {
    /// Whether the same call can succeed later without anyone changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout { .. } | Self::OutOfMemory)
    }
}

/// Everything that nodes share.
///
/// # Channels
/// A channel has a mailbox (messages by sequence number), an epoch with its
/// lineage, a *watermark* (the highest sequence number that any device
/// received), a *floor* (the highest lost to trimming), a directory (which
/// nodes hold it), cursors by device, and its ledger.
///
/// The first append after the store (re)started renews the epoch and records
/// where the previous one ended; numbers go on. A position of an epoch in the
/// lineage is valid up to that end; beyond it, or in an unknown epoch, what it
/// stood for is lost, and whoever asks is told so by a [`Gap`].
///
/// # Time
/// All times are the store's own clock, since 1970; names end in the unit.
#[async_trait]
pub trait Store: Access + Inquiries + Send + Sync + fmt::Debug + 'static {
    /// `memory` or `redis`: for logs and `build_info`.
    fn kind(&self) -> &'static str;

    /// Accepts one message: assigns its position, appends it to the mailbox,
    /// honours idempotency and collapse keys, settles the ledger, and reads the
    /// directory, all or nothing. A repeated idempotency key returns the first
    /// answer with `repeated` set (and the routes of now).
    async fn append(&self, append: Append) -> Result<Appended, Error>;

    /// [`append`](Self::append) for many in one trip; results in input order.
    async fn append_batch(&self, appends: Vec<Append>) -> Vec<Result<Appended, Error>>;

    /// Writes the directory entry, *then* reads the mailbox, so that a
    /// concurrent push is seen by the route or by the page, never by neither.
    async fn join(&self, join: &Join) -> Result<Page, Error>;

    /// [`join`](Self::join) for many in one trip; results in input order.
    async fn join_batch(&self, joins: Vec<Join>) -> Vec<Result<Page, Error>>;

    /// Sets how many sessions `node` has for `channel`; 0 removes the entry.
    /// Ignored when the directory holds a higher generation of that node.
    async fn leave(
        &self,
        node: NodeId,
        channel: &Channel,
        generation: u64,
        sessions: u32,
    ) -> Result<(), Error>;

    /// Reads up to `limit` unexpired messages from `start` on.
    async fn read(&self, channel: &Channel, start: &Start, limit: usize) -> Result<Page, Error>;

    /// The last position of each channel, in input order; `None` where the
    /// store knows none. Cheap: asked for every held channel every few seconds.
    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Option<Position>>, Error>;

    /// Moves cursors forward (never back) and reports ephemeral outcomes.
    async fn acknowledge(&self, acks: &[Ack]) -> Result<Settled, Error>;

    /// The directory of one channel.
    async fn routes(&self, channel: &Channel) -> Result<Vec<Route>, Error>;

    /// Removes `node`'s directory entry of each channel, whatever its
    /// generation: for nodes known to be gone.
    async fn drop_routes(&self, node: NodeId, channels: &[Channel]) -> Result<(), Error>;

    /// All that is known of a channel, its ledger settled first. Not for hot paths.
    async fn inspect(&self, channel: &Channel) -> Result<ChannelInfo, Error>;

    /// Known channels, a part at a time: pass 0 first, then what came back
    /// until that is 0. May repeat a channel. For `postrider audit`.
    async fn channels(&self, cursor: u64) -> Result<(u64, Vec<Channel>), Error>;

    /// Enters a node: its stream and group, its heartbeat, the registry.
    async fn enrol(&self, node: NodeId, info: &NodeInfo) -> Result<(), Error>;

    /// Renews the heartbeat if the node was not declared dead, and names the
    /// nodes whose beats are older than expiry plus grace.
    async fn beat(&self, node: NodeId, info: &NodeInfo) -> Result<Beat, Error>;

    /// The nodes whose heartbeat lives.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error>;

    /// Appends an entry to a node's stream unless that stream is gone.
    async fn send(&self, node: NodeId, entry: Bytes) -> Result<Sent, Error>;

    /// Opens the reader of a node's own stream, on a connection of its own.
    async fn consume(&self, node: NodeId) -> Result<Box<dyn Consumer>, Error>;

    /// Acknowledges entries and trims the stream below `acks.trim_below`.
    async fn ack_entries(&self, node: NodeId, acks: &EntryAcks) -> Result<(), Error>;

    /// Length, lag, pending and oldest pending of a node's stream.
    async fn stream_stats(&self, node: NodeId) -> Result<StreamStats, Error>;

    /// Leaves in order: removes heartbeat, stream and registry entry if the
    /// stream is empty. `false`: it is not; what it holds must be handed on.
    async fn retire(&self, node: NodeId) -> Result<bool, Error>;

    /// Takes or renews the lease on a dead node's stream. On the first taking
    /// the group is destroyed, so that the old owner's reads fail. `false`: the
    /// node beats after all, or another survivor has the lease, or it is gone.
    async fn fence(&self, dead: NodeId, by: NodeId) -> Result<bool, Error>;

    /// Up to `limit` of the oldest entries of a fenced stream.
    async fn orphans(&self, dead: NodeId, limit: usize) -> Result<Vec<StreamEntry>, Error>;

    /// Deletes entries that were handed on. Fails with [`Error::Fenced`] when
    /// the lease is no longer `by`'s.
    async fn discard(&self, dead: NodeId, by: NodeId, entries: &[EntryId]) -> Result<(), Error>;

    /// Up to `limit` channels that the dead node still has directory entries of.
    async fn orphaned_channels(&self, dead: NodeId, limit: usize) -> Result<Vec<Channel>, Error>;

    /// Ends a reclaim: removes stream, lease and registry entry if the stream
    /// is empty, no channel is left, and the lease is `by`'s. Of those who get
    /// so far with one node, one is told [`Burial::Done`].
    async fn bury(&self, dead: NodeId, by: NodeId) -> Result<Burial, Error>;
}

/// The reader of one node's stream. One at a time; order is the stream's.
#[async_trait]
pub trait Consumer: Send {
    /// Acknowledges `acks` (in the same trip), then waits for entries that were
    /// never read: returns as soon as there are any, or empty after a short
    /// while. [`Error::Fenced`] when the stream or its group is gone. After any
    /// other error the next call first returns what had been read but not
    /// acknowledged, so nothing is skipped.
    async fn next(&mut self, acks: EntryAcks, entries_max: usize) -> Result<Vec<StreamEntry>, Error>;
}

/// Where a store is.
#[derive(Clone)]
pub enum Location {
    /// In this process: one node, and nothing survives a restart.
    Memory,
    /// In the Redis of that URL, under that prefix.
    Redis {
        /// May hold a password.
        url: String,
        /// Certificates, for `rediss://`.
        tls: redis::TlsFiles,
        /// What every key begins with.
        prefix: String,
    },
}

/// Why a store could not be opened. The text follows "failed to".
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Redis cannot be used as it is, or not be reached.
    #[error(transparent)]
    Redis(#[from] redis::ConnectError),
}

/// Opens a store.
///
/// # Errors
/// When it cannot be reached, or is set up so that it could not keep messages.
pub async fn open(location: Location, limits: Limits) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match location {
        Location::Memory => Arc::new(memory::Store::new(limits)),
        Location::Redis { url, tls, prefix } => {
            let options = redis::Options { url, tls, prefix, ..redis::Options::default() };
            Arc::new(redis::Store::connect(options, limits).await?)
        }
    })
}
