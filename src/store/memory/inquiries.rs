//! Questions about messages and channels.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;

use crate::protocol::{Channel, MessageId, NodeId, Position};
use crate::store::{Erased, Error, Found, Inquiries, Recent, Route, Withdrawn};

use super::Store;
use super::channel::State;
use super::shards::lock;

/// How long answers to a question are kept.
const ANSWERS_TTL_MS: u64 = 10_000;

/// Answers by question, with the time when they are forgotten.
pub(super) type Answers = BTreeMap<MessageId, (u64, Vec<(NodeId, Bytes)>)>;

#[async_trait]
impl Inquiries for Store {
    async fn find(
        &self,
        channel: &Channel,
        id: MessageId,
        _near: Option<Position>,
    ) -> Result<Option<Found>, Error> {
        Ok(self.shared.shards.change(channel, |state, at| state.find(id, at.now)))
    }

    async fn recent(&self, channel: &Channel, before: Option<u64>, limit: usize) -> Result<Recent, Error> {
        Ok(self.shared.shards.change(channel, |state, at| state.recent(before, limit, at.now)))
    }

    async fn withdraw(
        &self,
        channel: &Channel,
        id: MessageId,
        _near: Option<Position>,
    ) -> Result<Option<Withdrawn>, Error> {
        Ok(self.shared.shards.change(channel, |state, at| state.withdraw(id, at.now)))
    }

    async fn erase(&self, channel: &Channel) -> Result<Erased, Error> {
        Ok(self.shared.shards.change(channel, |state, _| state.erase()))
    }

    async fn presence(&self, channels: &[Channel]) -> Result<Vec<Vec<Route>>, Error> {
        let live: HashSet<_> =
            self.with_nodes(|nodes, now| nodes.live(now)).into_iter().map(|node| node.id).collect();
        let present = |channel| {
            let routes = self.shared.shards.look(channel, |state| state.routes().to_vec());
            let mut routes = routes.unwrap_or_default();
            routes.retain(|route| route.sessions > 0 && live.contains(&route.node));
            routes.sort_by_key(|route| route.node);
            routes
        };
        Ok(channels.iter().map(present).collect())
    }

    async fn answer(&self, question: MessageId, node: NodeId, answer: Bytes) -> Result<(), Error> {
        let now_ms = self.shared.shards.clock.now().ms();
        let mut answers = lock(&self.shared.answers);
        answers.retain(|_, (until_ms, _)| *until_ms > now_ms);
        let (until_ms, given) = answers.entry(question).or_default();
        *until_ms = now_ms + ANSWERS_TTL_MS;
        given.retain(|(who, _)| *who != node);
        given.push((node, answer));
        Ok(())
    }

    async fn answers(&self, question: MessageId) -> Result<Vec<(NodeId, Bytes)>, Error> {
        Ok(lock(&self.shared.answers).get(&question).map(|(_, given)| given.clone()).unwrap_or_default())
    }

    async fn turn(&self, channel: &Channel, online: bool) -> Result<bool, Error> {
        Ok(self.shared.shards.change(channel, |state, _| {
            let mut noted = lock(&self.shared.online);
            match (online, state.routes().is_empty()) {
                (true, false) => noted.insert(channel.clone()),
                (false, true) => noted.remove(channel),
                _ => false,
            }
        }))
    }

    async fn watermarks(&self, channels: &[Channel]) -> Result<Vec<Option<Position>>, Error> {
        let watermark = |channel| self.shared.shards.look(channel, State::watermark).flatten();
        Ok(channels.iter().map(watermark).collect())
    }
}
