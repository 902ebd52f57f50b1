//! Giving a session what it is to write.

use std::sync::Arc;

use bytes::Bytes;

use super::outbox::Item;
use super::state::{Phase, State};
use super::trail::Trail;
use super::{Queued, Session, Token};
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Dialect, Outgoing, ServerFrame};
use crate::protocol::{Channel, Position};

impl Session {
    /// Puts a message behind what waits. One that does not fit closes the
    /// session as [`CloseCode::SLOW`].
    pub fn queue(self: &Arc<Self>, outgoing: &Arc<Outgoing>, token: Option<&Token>) -> Queued {
        // Encoded before the lock is taken: this may be the message's first session.
        let len = outgoing.frame(self.dialect()).len();
        self.push(len, |state| {
            let token = token.filter(|_| !state.tokens_returned).cloned();
            Item::Message(Arc::clone(outgoing), token, state.id_behind(outgoing.message()))
        })
    }

    /// Sends a finished frame that is no message: `hello`, `gap`, `drain` and
    /// the like. It counts towards the outbox's limits as messages do.
    pub fn send(self: &Arc<Self>, frame: Bytes) {
        if self.push(frame.len(), |_| Item::Control(frame.clone())) == Queued::First {
            self.flush();
        }
    }

    /// Tells a client that understands it something that is no message.
    pub fn tell(self: &Arc<Self>, frame: &ServerFrame<'_>) {
        match self.dialect() {
            Dialect::Plain => {}
            Dialect::Envelope => self.send(frame.encode()),
            Dialect::Events => {
                let event = frame.encode_event();
                let queued = self.push(event.len(), |state| {
                    Item::Control([&*state.id_told(frame), &event].concat().into())
                });
                if queued == Queued::First {
                    self.flush();
                }
            }
        }
    }

    /// Says which channels an event stream follows and where it begins in each,
    /// the user's own first: from here on its events have ids. Of no
    /// consequence to other sessions.
    pub fn follow(&self, channels: Vec<(Channel, Option<Position>)>) {
        if self.dialect() == Dialect::Events {
            self.lock().trail = Trail::new(channels).map(Box::new);
        }
    }

    fn push(self: &Arc<Self>, len: usize, item: impl Fn(&mut State) -> Item) -> Queued {
        self.try_push(len, &item)
            .or_else(|| {
                // A batch may be longer than an outbox: only a socket that does
                // not take it is slow.
                self.flush();
                self.try_push(len, &item)
            })
            .unwrap_or_else(|| {
                self.close_with(CloseCode::SLOW, "read faster, or resume: nothing is lost", true);
                Queued::Closed
            })
    }

    /// Queues a frame; none when it does not fit.
    fn try_push(&self, len: usize, item: impl Fn(&mut State) -> Item) -> Option<Queued> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return Some(Queued::Closed);
        }
        if !state.fits(len, &self.options) {
            return None;
        }
        let first = state.outbox.is_empty() && !state.flushing;
        let item = item(&mut state);
        state.outbox.push(item);
        if !first {
            self.gauge(&mut state);
        }
        Some(if first { Queued::First } else { Queued::Already })
    }
}
