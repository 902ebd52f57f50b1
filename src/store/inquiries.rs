//! The part of the contract that is asked for by people and backends, not by
//! the way of a message: none of it is for hot paths.

use async_trait::async_trait;
use bytes::Bytes;

use crate::protocol::{Channel, MessageId, NodeId, Position};

use super::{Erased, Error, Found, Recent, Route, Withdrawn};

/// Questions about messages and channels, and what takes them away.
#[async_trait]
pub trait Inquiries: Send + Sync {
    /// One message of a channel, kept or gone, and how far the devices are.
    /// `near`: the position that its push was answered with, where it is found
    /// at once. `None`: it was never accepted here, was ephemeral, or has been
    /// gone for longer than is remembered.
    async fn find(
        &self,
        channel: &Channel,
        id: MessageId,
        near: Option<Position>,
    ) -> Result<Option<Found>, Error>;

    /// Up to `limit` messages below the number `before` (the newest, without
    /// one), kept ones with their payloads and gone ones as far as remembered.
    /// A page ends early when it grows large.
    async fn recent(&self, channel: &Channel, before: Option<u64>, limit: usize) -> Result<Recent, Error>;

    /// Takes a message out of its mailbox, so that no device gets it from there
    /// any more; in the ledger it is dropped, unless a device received it.
    /// `None` as for [`find`](Self::find).
    async fn withdraw(
        &self,
        channel: &Channel,
        id: MessageId,
        near: Option<Position>,
    ) -> Result<Option<Withdrawn>, Error>;

    /// Forgets all that is kept of a channel: messages, cursors, ledger, epoch
    /// and lineage. The next append begins a new epoch, so no position is ever
    /// reused. The directory stays, for it says where sessions are, and so do
    /// idempotency keys, until their window ends.
    async fn erase(&self, channel: &Channel) -> Result<Erased, Error>;

    /// The directory lines of each channel that are of live nodes and have
    /// sessions, in input order.
    async fn presence(&self, channels: &[Channel]) -> Result<Vec<Vec<Route>>, Error>;

    /// Answers a question that another node put into this one's stream.
    async fn answer(&self, question: MessageId, node: NodeId, answer: Bytes) -> Result<(), Error>;

    /// The answers that have come so far; they are kept for some seconds.
    async fn answers(&self, question: MessageId) -> Result<Vec<(NodeId, Bytes)>, Error>;

    /// Notes that a channel is online (or offline), if its directory has lines
    /// (or none). Whether that is news: of all callers, one is told so.
    async fn turn(&self, channel: &Channel, online: bool) -> Result<bool, Error>;

    /// The highest position of each channel that any device received, in input
    /// order; `None` where the store knows none.
    async fn watermarks(&self, channels: &[Channel]) -> Result<Vec<Option<Position>>, Error>;
}
