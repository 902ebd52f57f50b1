//! What sessions report, turned into acknowledgements and numbers.

use std::sync::Arc;

use crate::metrics::Metrics;
use crate::protocol::frame::{ClientFrame, Outgoing, ServerFrame};
use crate::protocol::{Channel, Device, Message, Position};
use crate::session::{Ending, Events, Session};
use crate::store;

use super::held::Held;
use super::{Delivery, trail};

/// The receiver of every session's news on one node.
pub(super) struct SessionEvents {
    delivery: Delivery,
}

impl SessionEvents {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self { delivery }
    }

    fn received_nameless(&self, outgoing: &Outgoing) {
        let Message { channel, position, .. } = outgoing.message();
        if let Some(position) = position.filter(|_| outgoing.receive_nameless()) {
            self.delivery.inner.cursors.received(channel, None, position);
        }
    }
}

impl Events for SessionEvents {
    fn written(&self, session: &Arc<Session>, messages: &[Arc<Outgoing>]) {
        let inner = &self.delivery.inner;
        let now_us = inner.clock.now_us();
        inner.metrics.messages_written.increment(messages.len() as u64);
        for message in messages {
            if message.has_waited() {
                inner.metrics.messages_replayed.increment(1);
            } else {
                let accepted_us = message.message().accepted_at_us;
                Metrics::record_since(&inner.metrics.accept_to_write_seconds, accepted_us, now_us);
            }
            trail::written(inner.options.spans.as_ref(), session, message, now_us);
        }
        // Nameless sessions share one implicit device, for which written counts
        // as received: they asked for no more.
        if session.identity().is_some_and(|identity| identity.device.is_none()) {
            let mut positioned = messages.iter().rev().filter(|message| message.message().position.is_some());
            // Nearly always all are of one channel: the last one stands for them.
            let Some(last) = positioned.next() else { return };
            self.received_nameless(last);
            let channel = &last.message().channel;
            positioned
                .filter(|message| message.message().channel != *channel)
                .for_each(|message| self.received_nameless(message));
        }
    }

    fn confirmed(&self, session: &Arc<Session>, channel: &Channel, position: Position) {
        self.delivery.acknowledged(session, channel, position);
    }

    fn frame(&self, session: &Arc<Session>, frame: ClientFrame) {
        let refuse = |code, message| session.send(ServerFrame::Error { code, message, topics: &[] }.encode());
        match frame {
            ClientFrame::Ack { positions } => {
                for (channel, position) in positions {
                    match channel.parse() {
                        Ok(channel) => self.delivery.acknowledged(session, &channel, position),
                        Err(_) => refuse(
                            "invalid_channel",
                            "an ack's positions are keyed by channel, like user:alice",
                        ),
                    }
                }
            }
            frame @ (ClientFrame::Subscribe { .. } | ClientFrame::Unsubscribe { .. }) => {
                self.delivery.take_wish(session, frame);
            }
            ClientFrame::Auth { .. } => refuse("already_authenticated", "the session has a user already"),
            ClientFrame::Resume { .. } => {
                refuse("already_started", "connect with ?resume=1 and send resume as the first frame");
            }
            ClientFrame::Pong | ClientFrame::Unknown => {}
        }
    }

    fn closed(&self, session: &Arc<Session>, ending: Ending) {
        self.delivery.inner.metrics.closes.with(ending.label()).increment(1);
        // Not here: whoever writes may hold the lock of the channel that the
        // session has to be taken out of.
        let (delivery, session) = (self.delivery.clone(), session.clone());
        self.delivery.inner.tasks.spawn(async move { delivery.detach(&session) });
    }
}

impl Delivery {
    /// A device says so without a session: what it received came from an event
    /// stream, here or on another node.
    ///
    /// # Errors
    /// When too many of these wait for the store already.
    pub fn received(
        &self,
        channel: &Channel,
        device: &Device,
        position: Position,
    ) -> Result<(), store::Error> {
        if self.inner.cursors.is_full() {
            return Err(store::Error::Unavailable("too many acknowledgements wait for it".to_owned()));
        }
        let held = self.inner.registry.get(channel);
        self.note_received(held.as_deref(), channel, device, position);
        Ok(())
    }

    /// A device says that it received everything up to `position`.
    pub(super) fn acknowledged(&self, session: &Arc<Session>, channel: &Channel, position: Position) {
        let Some(identity) = session.identity() else { return };
        let Some(held) = self.inner.registry.channel_of(session.id(), channel) else { return };
        // The implicit device's messages count as received once written.
        let Some(device) = &identity.device else { return };
        self.note_received(Some(&held), channel, &device.within(channel, &identity.user), position);
    }

    fn note_received(&self, held: Option<&Held>, channel: &Channel, device: &Device, position: Position) {
        let inner = &self.inner;
        if let Some(accepted_us) = held.and_then(|held| held.accepted_at_us(position.seq)) {
            Metrics::record_since(&inner.metrics.accept_to_ack_seconds, accepted_us, inner.clock.now_us());
        }
        inner.cursors.received(channel, Some(device), position);
    }
}
