//! Nodes: registry, heartbeats, streams, leases, and which channels each holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::protocol::{Channel, NodeId};
use crate::store::{
    Beat, Burial, EntryAcks, EntryId, Error, Limits, NodeInfo, NodeRecord, Sent, StreamEntry, StreamStats,
};

use super::clock::Now;
use super::stream::Stream;

/// One registered node.
#[derive(Debug, Clone)]
struct Node {
    info: NodeInfo,
    beaten_at: Now,
    /// When the heartbeat lapses.
    alive_until_ms: u64,
    stream: Stream,
    lease: Option<Lease>,
    /// Wakes the stream's consumer.
    news: Arc<Notify>,
}

/// A survivor's claim on a dead node.
#[derive(Debug, Clone, Copy)]
struct Lease {
    by: NodeId,
    until_ms: u64,
}

impl Node {
    fn is_alive(&self, now: Now) -> bool {
        now.ms() < self.alive_until_ms
    }

    fn holder(&self, now: Now) -> Option<NodeId> {
        self.lease.filter(|lease| now.ms() < lease.until_ms).map(|lease| lease.by)
    }
}

/// All nodes. A node is here from its enrolment until it retires or is buried.
#[derive(Debug, Clone, Default)]
pub(super) struct Nodes {
    nodes: BTreeMap<NodeId, Node>,
    /// The directory, the other way round.
    channels: BTreeMap<NodeId, BTreeSet<Channel>>,
}

impl Nodes {
    pub(super) fn enrol(
        &mut self,
        id: NodeId,
        info: &NodeInfo,
        now: Now,
        limits: &Limits,
    ) -> Result<(), Error> {
        let node = self.nodes.entry(id).or_insert_with(|| Node {
            info: info.clone(),
            beaten_at: now,
            alive_until_ms: 0,
            stream: Stream::with_group(),
            lease: None,
            news: Arc::default(),
        });
        if !node.stream.has_group() {
            return Err(Error::Fenced);
        }
        node.info = info.clone();
        node.beaten_at = now;
        node.alive_until_ms = now.ms().saturating_add(limits.heartbeat_ttl_ms);
        Ok(())
    }

    pub(super) fn beat(&mut self, id: NodeId, info: &NodeInfo, now: Now, limits: &Limits) -> Beat {
        let fenced = match self.nodes.get_mut(&id) {
            // Without its group a node is dead, even after the lease lapsed.
            Some(node) if node.is_alive(now) || (node.stream.has_group() && node.holder(now).is_none()) => {
                node.info = info.clone();
                node.beaten_at = now;
                node.alive_until_ms = now.ms().saturating_add(limits.heartbeat_ttl_ms);
                false
            }
            _ => true,
        };
        let patience_ms = limits.heartbeat_ttl_ms.saturating_add(limits.heartbeat_grace_ms);
        let suspected = |(other, node): &(&NodeId, &Node)| {
            !fenced && **other != id && node.beaten_at.ms().saturating_add(patience_ms) < now.ms()
        };
        let suspects = self.nodes.iter().filter(suspected).map(|(other, _)| *other).collect();
        Beat { fenced, suspects, now_us: now.us }
    }

    pub(super) fn live(&self, now: Now) -> Vec<NodeRecord> {
        let live = self.nodes.iter().filter(|(_, node)| node.is_alive(now));
        live.map(|(id, node)| NodeRecord {
            id: *id,
            info: node.info.clone(),
            beat_age_ms: now.us.saturating_sub(node.beaten_at.us) / 1_000,
        })
        .collect()
    }

    pub(super) fn send(&mut self, id: NodeId, payload: Bytes, now: Now, limits: &Limits) -> Sent {
        let Some(node) = self.nodes.get_mut(&id) else { return Sent::NoStream };
        let capped = node.stream.append(payload, limits.stream_entries_max, now);
        node.news.notify_waiters();
        Sent::Stored { capped }
    }

    /// Acknowledges, then reads: pending entries above `pending_after` first, if
    /// that is given, and it is taken when there are no more.
    pub(super) fn consume(
        &mut self,
        id: NodeId,
        acks: &EntryAcks,
        pending_after: &mut Option<EntryId>,
        limit: usize,
        now: Now,
    ) -> Result<Vec<StreamEntry>, Error> {
        let node = self.nodes.get_mut(&id).filter(|node| node.stream.has_group()).ok_or(Error::Fenced)?;
        node.stream.acknowledge(acks);
        if let Some(after) = *pending_after {
            let entries = node.stream.read_pending(after, limit);
            *pending_after = entries.last().map(|entry| entry.id);
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(node.stream.read_new(limit, now))
    }

    /// What wakes the stream's consumer.
    pub(super) fn news(&self, id: NodeId) -> Result<Arc<Notify>, Error> {
        let node = self.nodes.get(&id).filter(|node| node.stream.has_group()).ok_or(Error::Fenced)?;
        Ok(Arc::clone(&node.news))
    }

    /// Acknowledges; an unknown stream has nothing to acknowledge.
    pub(super) fn acknowledge(&mut self, id: NodeId, acks: &EntryAcks) {
        // A fenced stream belongs to whoever reclaims it: trimming it would
        // take away what is not handed on yet.
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| node.stream.has_group()) {
            node.stream.acknowledge(acks);
        }
    }

    pub(super) fn stats(&self, id: NodeId, now: Now) -> StreamStats {
        self.nodes.get(&id).map(|node| node.stream.stats(now)).unwrap_or_default()
    }

    pub(super) fn retire(&mut self, id: NodeId) -> bool {
        let empty = self.nodes.get(&id).is_none_or(|node| node.stream.is_empty());
        if empty && !self.channels.contains_key(&id) {
            self.remove(id);
            return true;
        }
        false
    }

    pub(super) fn fence(&mut self, dead: NodeId, by: NodeId, now: Now, limits: &Limits) -> bool {
        let Some(node) = self.nodes.get_mut(&dead) else { return false };
        if node.is_alive(now) || node.holder(now).is_some_and(|holder| holder != by) {
            return false;
        }
        node.lease = Some(Lease { by, until_ms: now.ms().saturating_add(limits.lease_ttl_ms) });
        node.stream.destroy_group();
        node.news.notify_waiters();
        true
    }

    pub(super) fn orphans(&self, dead: NodeId, limit: usize) -> Vec<StreamEntry> {
        self.nodes.get(&dead).map(|node| node.stream.oldest(limit)).unwrap_or_default()
    }

    pub(super) fn discard(
        &mut self,
        dead: NodeId,
        by: NodeId,
        ids: &[EntryId],
        now: Now,
        limits: &Limits,
    ) -> Result<(), Error> {
        let held = self.nodes.get_mut(&dead).filter(|node| node.holder(now) == Some(by));
        let node = held.ok_or(Error::Fenced)?;
        node.stream.delete(ids);
        node.lease = Some(Lease { by, until_ms: now.ms().saturating_add(limits.lease_ttl_ms) });
        Ok(())
    }

    pub(super) fn bury(&mut self, dead: NodeId, by: NodeId, now: Now) -> Burial {
        let node = self.nodes.get(&dead).filter(|node| node.holder(now) == Some(by));
        let empty = node.is_some_and(|node| node.stream.is_empty());
        if empty && !self.channels.contains_key(&dead) {
            self.remove(dead);
            return Burial::Done;
        }
        Burial::Refused
    }

    fn remove(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.remove(&id) {
            node.news.notify_waiters();
        }
    }

    pub(super) fn hold(&mut self, id: NodeId, channel: &Channel) {
        self.channels.entry(id).or_default().insert(channel.clone());
    }

    pub(super) fn let_go(&mut self, id: NodeId, channel: &Channel) {
        if let Some(channels) = self.channels.get_mut(&id) {
            channels.remove(channel);
            if channels.is_empty() {
                self.channels.remove(&id);
            }
        }
    }

    pub(super) fn held(&self, id: NodeId, limit: usize) -> Vec<Channel> {
        self.channels.get(&id).into_iter().flatten().take(limit).cloned().collect()
    }

    /// The bytes of all streams.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.values().map(|node| node.stream.bytes()).sum()
    }

    pub(super) fn wake_all(&self) {
        self.nodes.values().for_each(|node| node.news.notify_waiters());
    }
}
