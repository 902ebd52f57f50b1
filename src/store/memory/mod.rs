//! The embedded store: everything in this process's memory.
//!
//! It is what `postrider serve` runs on when nothing is installed: one node,
//! and nothing survives a restart. Nodes of one test process may share it, for
//! a [`Store`] is a handle and its clones are the same store; its clock is
//! tokio's, so a paused clock controls it, and [`Store::copy`] and
//! [`Store::restart`] play a Redis that came back, or came back older.
//!
//! # Bounds
//! Mailboxes are trimmed by count, node streams too; expired messages and
//! channels idle for their retention are freed in passing (there is no task),
//! and what is kept in all is capped in bytes: beyond, appends and sends fail
//! with [`Error::OutOfMemory`] until something expires.
//!
//! # Locks
//! One mutex per shard of channels and one for the nodes, always in this
//! order, and nothing waits under them.

mod access;
mod channel;
mod clock;
mod consumer;
mod cursors;
mod departures;
mod fates;
mod inquiries;
mod mailbox;
mod nodes;
mod numbering;
mod recall;
mod shards;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Ack, Append, Appended, Beat, Burial, ChannelInfo, Consumer, EntryAcks, EntryId, Error, Join, Limits,
    NodeInfo, NodeRecord, Page, Route, Sent, Settled, Start, StreamEntry, StreamStats,
};
use crate::protocol::{Channel, NodeId, Position};
use channel::State;
use clock::Now;
use nodes::Nodes;
use shards::{Shards, lock};

/// What the embedded store may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of everything kept, payloads and a rough overhead, at most.
    pub bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        // Well below what the smallest machines have; some 400,000 small messages.
        Self { bytes_max: 256 * 1024 * 1024 }
    }
}

/// A handle to an embedded store; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    shards: Shards,
    nodes: Mutex<Nodes>,
    answers: Mutex<inquiries::Answers>,
    /// Channels whose being online was told.
    online: Mutex<HashSet<Channel>>,
    access: Mutex<access::Kept>,
}

/// Everything that a store held at one moment, for [`Store::restart`].
#[derive(Debug, Clone)]
pub struct Copy {
    shards: shards::Copy,
    nodes: Nodes,
}

impl Store {
    /// An empty store that takes what [`Options::default`] allows.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with_options(limits, Options::default())
    }

    /// An empty store.
    #[must_use]
    pub fn with_options(limits: Limits, options: Options) -> Self {
        let shards = Shards::new(limits, options.bytes_max);
        let (nodes, answers, online, access) = Default::default();
        Self { shared: Arc::new(Shared { shards, nodes, answers, online, access }) }
    }

    /// Copies everything at one moment.
    #[must_use]
    pub fn copy(&self) -> Copy {
        let shards = &self.shared.shards;
        shards.with_all(|all| Copy { shards: all.copy(), nodes: lock(&self.shared.nodes).clone() })
    }

    /// Begins a new life with what was copied, as a restarted Redis would with
    /// what it last saved: the next append to a channel renews its epoch, and
    /// what happened since the copy is lost. The clock goes on.
    pub fn restart(&self, copy: &Copy) {
        let shards = &self.shared.shards;
        shards.with_all(|mut all| {
            let mut nodes = lock(&self.shared.nodes);
            all.restart(&copy.shards);
            shards.count(nodes.bytes(), copy.nodes.bytes());
            nodes.wake_all();
            *nodes = copy.nodes.clone();
        });
    }

    fn with_nodes<T>(&self, change: impl FnOnce(&mut Nodes, Now) -> T) -> T {
        let mut nodes = lock(&self.shared.nodes);
        let now = self.shared.shards.clock.now();
        let before = nodes.bytes();
        let result = change(&mut nodes, now);
        self.shared.shards.count(before, nodes.bytes());
        result
    }

    fn limits(&self) -> &Limits {
        &self.shared.shards.limits
    }

    fn append_one(&self, append: Append) -> Result<Appended, Error> {
        let shards = &self.shared.shards;
        if !shards.has_room(mailbox::cost(
            &append.data,
            append.collapse_key.as_deref(),
            append.trace.as_deref(),
        )) {
            return Err(Error::OutOfMemory);
        }
        let channel = append.channel.clone();
        shards.change(&channel, |state, at| state.append(append, at))
    }

    fn join_one(&self, join: &Join) -> Page {
        let route = Route { node: join.node, generation: join.generation, sessions: join.sessions };
        self.shared.shards.change(&join.channel, |state, at| {
            state.set_route(route, at.now);
            lock(&self.shared.nodes).hold(join.node, &join.channel);
            let page = state.read(&join.channel, &join.start, join.limit, at);
            state.place(&join.start, &page, at);
            page
        })
    }

    fn acknowledge_one(&self, ack: &Ack) -> Settled {
        self.shared.shards.change(ack.channel(), |state, at| match ack {
            Ack::Received { device, position, .. } => state.receive(device.as_ref(), *position, at),
            Ack::Ephemeral { received, dropped, .. } => state.report(*received, *dropped),
        })
    }

    /// Removes a line of the directory, here and in the nodes' own index.
    fn remove_route(&self, state: &mut State, node: NodeId, channel: &Channel, up_to_generation: u64) {
        if state.remove_route(node, up_to_generation) {
            lock(&self.shared.nodes).let_go(node, channel);
        }
    }
}

#[async_trait]
impl super::Store for Store {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn append(&self, append: Append) -> Result<Appended, Error> {
        // No call here ever waits; busy callers must let others run all the same.
        tokio::task::coop::consume_budget().await;
        self.append_one(append)
    }

    async fn append_batch(&self, appends: Vec<Append>) -> Vec<Result<Appended, Error>> {
        tokio::task::coop::consume_budget().await;
        appends.into_iter().map(|append| self.append_one(append)).collect()
    }

    async fn join(&self, join: &Join) -> Result<Page, Error> {
        tokio::task::coop::consume_budget().await;
        Ok(self.join_one(join))
    }

    async fn join_batch(&self, joins: Vec<Join>) -> Vec<Result<Page, Error>> {
        tokio::task::coop::consume_budget().await;
        joins.iter().map(|join| Ok(self.join_one(join))).collect()
    }

    async fn leave(
        &self,
        node: NodeId,
        channel: &Channel,
        generation: u64,
        sessions: u32,
    ) -> Result<(), Error> {
        self.shared.shards.change(channel, |state, at| {
            if sessions == 0 {
                self.remove_route(state, node, channel, generation);
            } else if state.set_route(Route { node, generation, sessions }, at.now) {
                lock(&self.shared.nodes).hold(node, channel);
            }
        });
        Ok(())
    }

    async fn read(&self, channel: &Channel, start: &Start, limit: usize) -> Result<Page, Error> {
        tokio::task::coop::consume_budget().await;
        Ok(self.shared.shards.change(channel, |state, at| state.read(channel, start, limit, at)))
    }

    async fn heads(&self, channels: &[Channel]) -> Result<Vec<Option<Position>>, Error> {
        let head = |channel| self.shared.shards.look(channel, State::head).flatten();
        Ok(channels.iter().map(head).collect())
    }

    async fn acknowledge(&self, acks: &[Ack]) -> Result<Settled, Error> {
        let mut settled = Settled::default();
        for ack in acks {
            settled += self.acknowledge_one(ack);
        }
        Ok(settled)
    }

    async fn routes(&self, channel: &Channel) -> Result<Vec<Route>, Error> {
        Ok(self.shared.shards.look(channel, |state| state.routes().to_vec()).unwrap_or_default())
    }

    async fn drop_routes(&self, node: NodeId, channels: &[Channel]) -> Result<(), Error> {
        for channel in channels {
            self.shared.shards.change(channel, |state, _| {
                state.remove_route(node, u64::MAX);
                lock(&self.shared.nodes).let_go(node, channel);
            });
        }
        Ok(())
    }

    async fn inspect(&self, channel: &Channel) -> Result<ChannelInfo, Error> {
        Ok(self.shared.shards.change(channel, |state, at| state.inspect(at.now)))
    }

    async fn channels(&self, cursor: u64) -> Result<(u64, Vec<Channel>), Error> {
        Ok(self.shared.shards.channels(cursor))
    }

    async fn enrol(&self, node: NodeId, info: &NodeInfo) -> Result<(), Error> {
        self.with_nodes(|nodes, now| nodes.enrol(node, info, now, self.limits()))
    }

    async fn beat(&self, node: NodeId, info: &NodeInfo) -> Result<Beat, Error> {
        Ok(self.with_nodes(|nodes, now| nodes.beat(node, info, now, self.limits())))
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        Ok(self.with_nodes(|nodes, now| nodes.live(now)))
    }

    async fn send(&self, node: NodeId, entry: Bytes) -> Result<Sent, Error> {
        tokio::task::coop::consume_budget().await;
        if !self.shared.shards.has_room(stream::cost(&entry)) {
            return Err(Error::OutOfMemory);
        }
        Ok(self.with_nodes(|nodes, now| nodes.send(node, entry, now, self.limits())))
    }

    async fn consume(&self, node: NodeId) -> Result<Box<dyn Consumer>, Error> {
        let news = self.with_nodes(|nodes, _| nodes.news(node))?;
        Ok(Box::new(consumer::Consumer::new(self.clone(), node, news)))
    }

    async fn ack_entries(&self, node: NodeId, acks: &EntryAcks) -> Result<(), Error> {
        self.with_nodes(|nodes, _| nodes.acknowledge(node, acks));
        Ok(())
    }

    async fn stream_stats(&self, node: NodeId) -> Result<StreamStats, Error> {
        Ok(self.with_nodes(|nodes, now| nodes.stats(node, now)))
    }

    async fn retire(&self, node: NodeId) -> Result<bool, Error> {
        Ok(self.with_nodes(|nodes, _| nodes.retire(node)))
    }

    async fn fence(&self, dead: NodeId, by: NodeId) -> Result<bool, Error> {
        Ok(self.with_nodes(|nodes, now| nodes.fence(dead, by, now, self.limits())))
    }

    async fn orphans(&self, dead: NodeId, limit: usize) -> Result<Vec<StreamEntry>, Error> {
        Ok(self.with_nodes(|nodes, _| nodes.orphans(dead, limit)))
    }

    async fn discard(&self, dead: NodeId, by: NodeId, entries: &[EntryId]) -> Result<(), Error> {
        self.with_nodes(|nodes, now| nodes.discard(dead, by, entries, now, self.limits()))
    }

    async fn orphaned_channels(&self, dead: NodeId, limit: usize) -> Result<Vec<Channel>, Error> {
        Ok(self.with_nodes(|nodes, _| nodes.held(dead, limit)))
    }

    async fn bury(&self, dead: NodeId, by: NodeId) -> Result<Burial, Error> {
        Ok(self.with_nodes(|nodes, now| nodes.bury(dead, by, now)))
    }
}
