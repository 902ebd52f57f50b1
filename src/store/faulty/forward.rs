//! Every call of the contract, sent through the faults.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::Store;
use super::consumer::FaultyConsumer;
use super::plan::Entries;
use crate::protocol::{Channel, NodeId, Position};
use crate::store::{
    self, Ack, Append, Appended, Beat, Burial, ChannelInfo, Consumer, EntryAcks, EntryId, Error, Join,
    NodeInfo, NodeRecord, Page, Route, Sent, Settled, Start, StreamEntry, StreamStats,
};

/// `call` with owned arguments.
macro_rules! call {
    ($self:ident, $what:literal, $store:ident => $call:expr) => {
        $self.call($what, move |$store| async move { $call.await }).await
    };
}

#[async_trait]
impl store::Store for Store {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn append(&self, append: Append) -> Result<Appended, Error> {
        call!(self, "append a message", store => store.append(append))
    }

    async fn append_batch(&self, appends: Vec<Append>) -> Vec<Result<Appended, Error>> {
        let count = appends.len();
        let results = self
            .call("append messages", move |store| async move { Ok(store.append_batch(appends).await) })
            .await;
        results.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn join(&self, join: &Join) -> Result<Page, Error> {
        let join = join.clone();
        call!(self, "join a channel", store => store.join(&join))
    }

    async fn join_batch(&self, joins: Vec<Join>) -> Vec<Result<Page, Error>> {
        let count = joins.len();
        let results =
            self.call("join channels", move |store| async move { Ok(store.join_batch(joins).await) }).await;
        results.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn leave(
        &self,
        node: NodeId,
        channel: &Channel,
        generation: u64,
        sessions: u32,
    ) -> Result<(), Error> {
        let channel = channel.clone();
        call!(self, "leave a channel", store => store.leave(node, &channel, generation, sessions))
    }

    async fn read(&self, channel: &Channel, start: &Start, limit: usize) -> Result<Page, Error> {
        let (channel, start) = (channel.clone(), start.clone());
        call!(self, "read a mailbox", store => store.read(&channel, &start, limit))
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Option<Position>>, Error> {
        let channels = channels.to_vec();
        call!(self, "read heads", store => store.heads(&channels))
    }

    async fn acknowledge(&self, acks: &[Ack]) -> Result<Settled, Error> {
        let acks = acks.to_vec();
        call!(self, "write cursors", store => store.acknowledge(&acks))
    }

    async fn routes(&self, channel: &Channel) -> Result<Vec<Route>, Error> {
        let channel = channel.clone();
        call!(self, "read routes", store => store.routes(&channel))
    }

    async fn drop_routes(&self, node: NodeId, channels: &[Channel]) -> Result<(), Error> {
        let channels = channels.to_vec();
        call!(self, "drop routes", store => store.drop_routes(node, &channels))
    }

    async fn inspect(&self, channel: &Channel) -> Result<ChannelInfo, Error> {
        let channel = channel.clone();
        call!(self, "inspect a channel", store => store.inspect(&channel))
    }

    async fn channels(&self, cursor: u64) -> Result<(u64, Vec<Channel>), Error> {
        call!(self, "list channels", store => store.channels(cursor))
    }

    async fn enrol(&self, node: NodeId, info: &NodeInfo) -> Result<(), Error> {
        let info = info.clone();
        call!(self, "enrol a node", store => store.enrol(node, &info))
    }

    async fn beat(&self, node: NodeId, info: &NodeInfo) -> Result<Beat, Error> {
        let info = info.clone();
        call!(self, "renew a heartbeat", store => store.beat(node, &info))
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        call!(self, "list nodes", store => store.nodes())
    }

    async fn send(&self, node: NodeId, entry: Bytes) -> Result<Sent, Error> {
        let fate = self.plan().entries();
        let send = async move |store: Arc<dyn store::Store>| match fate {
            Entries::Stored => store.send(node, entry).await,
            Entries::Vanished => Ok(Sent::Stored { capped: false }),
            Entries::Doubled => {
                store.send(node, entry.clone()).await?;
                store.send(node, entry).await
            }
        };
        self.call("send an entry", send).await
    }

    async fn consume(&self, node: NodeId) -> Result<Box<dyn Consumer>, Error> {
        let inner = call!(self, "open a node stream", store => store.consume(node))?;
        Ok(Box::new(FaultyConsumer::new(self.clone(), node, inner)))
    }

    async fn ack_entries(&self, node: NodeId, acks: &EntryAcks) -> Result<(), Error> {
        let acks = acks.clone();
        call!(self, "acknowledge entries", store => store.ack_entries(node, &acks))
    }

    async fn stream_stats(&self, node: NodeId) -> Result<StreamStats, Error> {
        call!(self, "measure a node stream", store => store.stream_stats(node))
    }

    async fn retire(&self, node: NodeId) -> Result<bool, Error> {
        call!(self, "retire a node", store => store.retire(node))
    }

    async fn fence(&self, dead: NodeId, by: NodeId) -> Result<bool, Error> {
        call!(self, "fence a node", store => store.fence(dead, by))
    }

    async fn orphans(&self, dead: NodeId, limit: usize) -> Result<Vec<StreamEntry>, Error> {
        call!(self, "read orphans", store => store.orphans(dead, limit))
    }

    async fn discard(&self, dead: NodeId, by: NodeId, entries: &[EntryId]) -> Result<(), Error> {
        let entries = entries.to_vec();
        call!(self, "discard orphans", store => store.discard(dead, by, &entries))
    }

    async fn orphaned_channels(&self, dead: NodeId, limit: usize) -> Result<Vec<Channel>, Error> {
        call!(self, "list orphaned channels", store => store.orphaned_channels(dead, limit))
    }

    async fn bury(&self, dead: NodeId, by: NodeId) -> Result<Burial, Error> {
        call!(self, "bury a node", store => store.bury(dead, by))
    }
}
