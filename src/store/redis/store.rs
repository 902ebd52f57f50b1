//! The store's handle, and the contract handed to whoever carries it out.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::protocol::{Channel, NodeId, Position};
use crate::store::{
    Ack, Append, Appended, Beat, Burial, ChannelInfo, Consumer, EntryAcks, EntryId, Error, Join, Limits,
    NodeInfo, NodeRecord, Page, Route, Sent, Settled, Start, StreamEntry, StreamStats,
};

use super::connector::Connector;
use super::keys::Keys;
use super::link::Link;
use super::{ConnectError, Options, acks, append, channels, consumer, nodes, pages, reclaim};

/// A thousand years: times stay within the six bytes that scripts give them.
pub(super) const MS_MAX: u64 = 1_000 * 366 * 24 * 60 * 60 * 1_000;
/// More than Redis holds.
pub(super) const COUNT_MAX: usize = 1 << 30;

/// What nodes share, kept in Redis.
///
/// Dropping it ends its connection and the task that would renew it; consumers
/// that it opened live on.
pub struct Store {
    pub(super) link: Link,
    pub(super) keys: Keys,
    pub(super) limits: Limits,
}

impl Store {
    /// Connects, and checks that the server can keep what it is given.
    ///
    /// # Errors
    /// When the options make no sense, the server cannot be reached or does not
    /// serve, is older than 7.0, or is set to evict keys.
    pub async fn connect(options: Options, limits: Limits) -> Result<Self, ConnectError> {
        options.check_prefix()?;
        let limits = possible(limits);
        let keys = Keys::new(&options.prefix);
        let link = Link::open(Connector::new(&options)?, keys.life()).await?;
        Ok(Self { link, keys, limits })
    }

    /// Whether there is a connection now; without one, every call fails at once.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }
}

/// Limits that Redis can count with: it refuses to set an expiry of nothing, in
/// the middle of a script, and scripts compute in doubles.
fn possible(limits: Limits) -> Limits {
    let ms = |limit: u64| limit.clamp(1, MS_MAX);
    let count = |limit: usize| limit.min(COUNT_MAX);
    Limits {
        mailbox_messages_max: count(limits.mailbox_messages_max),
        idempotency_window_ms: ms(limits.idempotency_window_ms),
        channel_retention_ms: ms(limits.channel_retention_ms),
        heartbeat_ttl_ms: ms(limits.heartbeat_ttl_ms),
        heartbeat_grace_ms: limits.heartbeat_grace_ms.min(MS_MAX),
        lease_ttl_ms: ms(limits.lease_ttl_ms),
        stream_entries_max: count(limits.stream_entries_max),
        cursors_max: count(limits.cursors_max.max(1)),
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("redis::Store")
            .field("address", &self.link.connector().address)
            .field("prefix", &self.keys.prefix())
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl crate::store::Store for Store {
    fn kind(&self) -> &'static str {
        "redis"
    }

    async fn append(&self, append: Append) -> Result<Appended, Error> {
        append::one(self, &append).await
    }

    async fn append_batch(&self, appends: Vec<Append>) -> Vec<Result<Appended, Error>> {
        append::many(self, &appends).await
    }

    async fn join(&self, join: &Join) -> Result<Page, Error> {
        pages::join(self, join).await
    }

    async fn join_batch(&self, joins: Vec<Join>) -> Vec<Result<Page, Error>> {
        pages::join_many(self, &joins).await
    }

    async fn leave(
        &self,
        node: NodeId,
        channel: &Channel,
        generation: u64,
        sessions: u32,
    ) -> Result<(), Error> {
        channels::leave(self, node, channel, generation, sessions).await
    }

    async fn read(&self, channel: &Channel, start: &Start, limit: usize) -> Result<Page, Error> {
        pages::read(self, channel, start, limit).await
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Option<Position>>, Error> {
        channels::heads(self, channels).await
    }

    async fn acknowledge(&self, acks: &[Ack]) -> Result<Settled, Error> {
        acks::settle(self, acks).await
    }

    async fn routes(&self, channel: &Channel) -> Result<Vec<Route>, Error> {
        channels::routes(self, channel).await
    }

    async fn drop_routes(&self, node: NodeId, channels: &[Channel]) -> Result<(), Error> {
        channels::drop_routes(self, node, channels).await
    }

    async fn inspect(&self, channel: &Channel) -> Result<ChannelInfo, Error> {
        channels::inspect(self, channel).await
    }

    async fn channels(&self, cursor: u64) -> Result<(u64, Vec<Channel>), Error> {
        channels::list(self, cursor).await
    }

    async fn enrol(&self, node: NodeId, info: &NodeInfo) -> Result<(), Error> {
        nodes::enrol(self, node, info).await
    }

    async fn beat(&self, node: NodeId, info: &NodeInfo) -> Result<Beat, Error> {
        nodes::beat(self, node, info).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        nodes::list(self).await
    }

    async fn send(&self, node: NodeId, entry: Bytes) -> Result<Sent, Error> {
        nodes::send(self, node, &entry).await
    }

    async fn consume(&self, node: NodeId) -> Result<Box<dyn Consumer>, Error> {
        Ok(Box::new(consumer::Reader::open(self, node).await?))
    }

    async fn ack_entries(&self, node: NodeId, acks: &EntryAcks) -> Result<(), Error> {
        nodes::ack_entries(self, node, acks).await
    }

    async fn stream_stats(&self, node: NodeId) -> Result<StreamStats, Error> {
        nodes::stream_stats(self, node).await
    }

    async fn retire(&self, node: NodeId) -> Result<bool, Error> {
        nodes::retire(self, node).await
    }

    async fn fence(&self, dead: NodeId, by: NodeId) -> Result<bool, Error> {
        reclaim::fence(self, dead, by).await
    }

    async fn orphans(&self, dead: NodeId, limit: usize) -> Result<Vec<StreamEntry>, Error> {
        reclaim::orphans(self, dead, limit).await
    }

    async fn discard(&self, dead: NodeId, by: NodeId, entries: &[EntryId]) -> Result<(), Error> {
        reclaim::discard(self, dead, by, entries).await
    }

    async fn orphaned_channels(&self, dead: NodeId, limit: usize) -> Result<Vec<Channel>, Error> {
        reclaim::orphaned_channels(self, dead, limit).await
    }

    async fn bury(&self, dead: NodeId, by: NodeId) -> Result<Burial, Error> {
        reclaim::bury(self, dead, by).await
    }
}
