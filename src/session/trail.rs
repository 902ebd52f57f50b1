//! Where an event stream stands: what its events' ids say.
//!
//! A browser that reconnects sends back the id of the last event alone, so each
//! id holds the positions of all channels of its session. They move in the order
//! of queueing, which is the order of writing.

use super::state::State;
use crate::protocol::event_id::{EventId, Mark};
use crate::protocol::frame::ServerFrame;
use crate::protocol::{Channel, Message, Position, sse};

/// The positions behind everything that was queued.
#[derive(Debug)]
pub(super) struct Trail {
    own: Channel,
    id: EventId,
}

impl Trail {
    /// The first channel is the user's own.
    pub(super) fn new(channels: Vec<(Channel, Option<Position>)>) -> Option<Self> {
        let mut channels = channels.into_iter();
        let begun = |position| Mark { position, received: false };
        let (own, position) = channels.next()?;
        let mut id = EventId::new(begun(position));
        channels.for_each(|(channel, position)| id.set(&channel, begun(position)));
        Some(Self { own, id })
    }

    fn pass(&mut self, channel: &Channel, position: Option<Position>) {
        let mark = Mark { position, received: position.is_some() };
        if *channel == self.own {
            self.id.set_own(mark);
        } else {
            self.id.set(channel, mark);
        }
    }

    fn line(&self) -> Box<[u8]> {
        sse::encode_id(&self.id)
    }
}

impl State {
    /// The line before a message. An ephemeral one moves nothing, and the client
    /// keeps the id it has.
    pub(super) fn id_behind(&mut self, message: &Message) -> Box<[u8]> {
        let (Some(trail), Some(position)) = (self.trail.as_mut(), message.position) else {
            return Box::default();
        };
        trail.pass(&message.channel, Some(position));
        trail.line()
    }

    /// The line before another event: where delivery begins, and behind a loss
    /// that is told once.
    pub(super) fn id_told(&mut self, frame: &ServerFrame<'_>) -> Box<[u8]> {
        let Some(trail) = self.trail.as_mut() else { return Box::default() };
        match frame {
            ServerFrame::Hello { .. } => trail.line(),
            ServerFrame::Gap { channel, to, .. } => {
                trail.pass(channel, *to);
                trail.line()
            }
            _ => Box::default(),
        }
    }
}
