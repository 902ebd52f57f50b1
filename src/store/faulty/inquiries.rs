//! Questions, sent through the faults.

use async_trait::async_trait;
use bytes::Bytes;

use super::Store;
use crate::protocol::{Channel, MessageId, NodeId, Position};
use crate::store::{Erased, Error, Found, Inquiries, Recent, Route, Withdrawn};

#[async_trait]
impl Inquiries for Store {
    async fn find(
        &self,
        channel: &Channel,
        id: MessageId,
        near: Option<Position>,
    ) -> Result<Option<Found>, Error> {
        let channel = channel.clone();
        self.call("find a message", move |store| async move { store.find(&channel, id, near).await }).await
    }

    async fn recent(&self, channel: &Channel, before: Option<u64>, limit: usize) -> Result<Recent, Error> {
        let channel = channel.clone();
        self.call("list messages", move |store| async move { store.recent(&channel, before, limit).await })
            .await
    }

    async fn withdraw(
        &self,
        channel: &Channel,
        id: MessageId,
        near: Option<Position>,
    ) -> Result<Option<Withdrawn>, Error> {
        let channel = channel.clone();
        self.call("withdraw a message", move |store| async move { store.withdraw(&channel, id, near).await })
            .await
    }

    async fn erase(&self, channel: &Channel) -> Result<Erased, Error> {
        let channel = channel.clone();
        self.call("erase a channel", move |store| async move { store.erase(&channel).await }).await
    }

    async fn presence(&self, channels: &[Channel]) -> Result<Vec<Vec<Route>>, Error> {
        let channels = channels.to_vec();
        self.call("read presence", move |store| async move { store.presence(&channels).await }).await
    }

    async fn answer(&self, question: MessageId, node: NodeId, answer: Bytes) -> Result<(), Error> {
        self.call("answer a question", move |store| async move { store.answer(question, node, answer).await })
            .await
    }

    async fn answers(&self, question: MessageId) -> Result<Vec<(NodeId, Bytes)>, Error> {
        self.call("read answers", move |store| async move { store.answers(question).await }).await
    }

    async fn turn(&self, channel: &Channel, online: bool) -> Result<bool, Error> {
        let channel = channel.clone();
        self.call("note presence", move |store| async move { store.turn(&channel, online).await }).await
    }

    async fn watermarks(&self, channels: &[Channel]) -> Result<Vec<Option<Position>>, Error> {
        let channels = channels.to_vec();
        self.call("read watermarks", move |store| async move { store.watermarks(&channels).await }).await
    }
}
