//! Inheriting a dead node's stream.
//!
//! Any survivor may try; the store's lease lets one do it. Every step can be
//! repeated, so that when this survivor dies in the middle the next one goes on
//! where the lease lapsed. Entries are handed on to the nodes that hold their
//! channels now, and deleted only then; a user who is nowhere is owed by the
//! mailbox. What arrives twice is dropped by the receiver.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use crate::protocol::{Channel, Message, NodeId, entry};
use crate::store::{self, Burial, Sent, StreamEntry};

use super::Delivery;
use super::router::fitting;

/// Entries handed on between two renewals of the lease.
const ENTRIES_STEP: usize = 64;
/// Channels taken off the directory in one step.
const CHANNELS_STEP: usize = 256;
/// Directory look-ups under way at once.
const LOOKUPS: usize = 32;

impl Delivery {
    /// Takes over from `suspects` in a task of its own, one task at a time.
    pub(super) fn reclaim(&self, suspects: Vec<NodeId>) {
        if !self.inner.membership.begin_reclaim() {
            return;
        }
        let delivery = self.clone();
        self.inner.tasks.spawn(async move {
            delivery.inherit_all(suspects).await;
            delivery.inner.membership.end_reclaim();
        });
    }

    async fn inherit_all(&self, mut suspects: Vec<NodeId>) {
        // Survivors that begin at different ends and moments meet less often.
        if rand::random() {
            suspects.reverse();
        }
        for &dead in &suspects {
            let jitter = Duration::from_millis(rand::random_range(0..100));
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(jitter) => {}
            }
            match self.inherit_from(dead, &suspects).await {
                Ok(true) => self.inner.metrics.reclaims.increment(1),
                Ok(false) => {}
                // The lease lapses, and somebody goes on.
                Err(error) => {
                    let error = self.noted(error);
                    tracing::warn!(%dead, %error, "taking over a node's stream was interrupted");
                }
            }
        }
    }

    /// `true` when nothing of the dead node is left, by our doing: of all
    /// survivors one says so, in its log and to its counter.
    async fn inherit_from(&self, dead: NodeId, suspects: &[NodeId]) -> Result<bool, store::Error> {
        let (store, by) = (&self.inner.store, self.node());
        if !store.fence(dead, by).await? {
            return Ok(false);
        }
        let (mut entries_moved, mut channels_dropped) = (0, 0);
        loop {
            if self.inner.stop.is_cancelled() {
                return Ok(false);
            }
            let entries = store.orphans(dead, ENTRIES_STEP).await?;
            if !entries.is_empty() {
                let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
                entries_moved += entries.len();
                self.hand_on(suspects, entries).await?;
                store.discard(dead, by, &ids).await?;
                continue;
            }
            let channels = store.orphaned_channels(dead, CHANNELS_STEP).await?;
            if !channels.is_empty() {
                channels_dropped += channels.len();
                store.drop_routes(dead, &channels).await?;
                channels.iter().for_each(|channel| self.may_have_turned(channel, false));
            } else {
                match store.bury(dead, by).await? {
                    Burial::Done => {
                        tracing::info!(%dead, entries_moved, channels_dropped, "inherited the stream of a dead node");
                        return Ok(true);
                    }
                    Burial::Already => return Ok(false),
                    Burial::Refused => {}
                }
            }
            if !store.fence(dead, by).await? {
                return Ok(false);
            }
        }
    }

    /// Sends what the entries hold to where the addressees are now. Not to those
    /// that are suspected themselves: two that died together would be handed each
    /// other's entries for ever. The mailbox owes it to one that comes back.
    async fn hand_on(&self, suspects: &[NodeId], entries: Vec<StreamEntry>) -> Result<(), store::Error> {
        let mut by_channel: HashMap<Channel, Vec<Message>> = HashMap::new();
        for StreamEntry { id, payload } in entries {
            match entry::decode(payload) {
                // What is ephemeral had its one chance.
                Ok(entry) => {
                    entry.messages.into_iter().filter(|message| message.position.is_some()).for_each(
                        |message| by_channel.entry(message.channel.clone()).or_default().push(message),
                    )
                }
                Err(error) => tracing::error!(entry = %id, %error, "an inherited entry could not be read"),
            }
        }
        let routed: Vec<_> = futures_util::stream::iter(by_channel)
            .map(|(channel, messages)| async move { (self.inner.store.routes(&channel).await, messages) })
            .buffer_unordered(LOOKUPS)
            .collect()
            .await;
        let mut by_node: HashMap<NodeId, Vec<Arc<Message>>> = HashMap::new();
        for (routes, messages) in routed {
            let messages: Vec<_> = messages.into_iter().map(Arc::new).collect();
            for route in routes?.into_iter().filter(|route| !suspects.contains(&route.node)) {
                by_node.entry(route.node).or_default().extend(messages.iter().cloned());
            }
        }
        for (node, mut messages) in by_node {
            self.inner.metrics.reroutes.increment(messages.len() as u64);
            while !messages.is_empty() {
                let fit = fitting(&messages, self.inner.options.entry_bytes_max);
                let payload = entry::encode(messages[..fit].iter().map(Arc::as_ref));
                match self.inner.store.send(node, payload).await? {
                    Sent::Stored { .. } => drop(messages.drain(..fit)),
                    // It died as well: its own heir meets users that have moved by
                    // then, and the mailboxes owe the rest.
                    Sent::NoStream => {
                        let channels = messages.drain(..).map(|message| message.channel.clone());
                        self.inner.store.drop_routes(node, &channels.collect::<Vec<_>>()).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::{alice, info, message_at, start_on};
    use crate::protocol::{Epoch, Position};
    use crate::store::{EntryId, Join, Limits, Start, Store as _, memory};

    #[tokio::test(start_paused = true)]
    async fn what_is_handed_on_fits_into_entries_like_any_other() {
        let store = memory::Store::new(Limits::default());
        let survivor = start_on(Arc::new(store.clone())).await;
        let heir = NodeId::generate();
        store.enrol(heir, &info()).await.expect("enrolled");
        let join =
            Join { node: heir, channel: alice(), generation: 1, sessions: 1, start: Start::Now, limit: 1 };
        store.join(&join).await.expect("joined");
        let bytes = survivor.inner.options.entry_bytes_max / 2;
        let large = |seq| {
            let position = Position::new(Epoch::from_bits(1), seq);
            Message { data: "x".repeat(bytes).into(), ..message_at(position).message().clone() }
        };
        let messages: Vec<_> = (1..=4).map(large).collect();
        let entry = StreamEntry { id: EntryId { ms: 1, n: 1 }, payload: entry::encode(messages.iter()) };
        survivor.hand_on(&[], vec![entry]).await.expect("handed on");
        assert_eq!(store.stream_stats(heir).await.expect("answered").length, 4, "two would be too large");
    }
}
