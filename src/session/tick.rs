//! What a session does when the wheel asks.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;

use super::confirm::Want;
use super::keepalive::Due;
use super::outbox::Item;
use super::state::{After, Phase, State};
use super::{Ending, Options, Session};
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Dialect, ServerFrame};
use crate::protocol::sse;

/// What follows from a tick once the lock is released.
enum Action {
    Nothing,
    Flush,
    Close(CloseCode, &'static str),
}

impl Session {
    /// Does what is due at `now`: pings, gives back tokens, closes what does not
    /// answer or does not read. Returns when to ask again; `None` when over.
    pub fn tick(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        // Nobody answers on an event stream. The kernel notices when its bytes do
        // not arrive, and breaks the connection.
        let heard = self.heard.swap(false, Ordering::Relaxed) || self.dialect() == Dialect::Events;
        let action = self.with_state(|state, after| self.due(state, after, now, heard));
        match action {
            Action::Nothing => {}
            Action::Flush => self.flush(),
            Action::Close(code, reason) => self.close_with(code, reason, true),
        }
        self.lock().next_tick(now, &self.options)
    }

    fn due(&self, state: &mut State, after: &mut After, now: Instant, heard: bool) -> Action {
        let options = &*self.options;
        if state.phase != Phase::Open {
            if state.deadline.is_some_and(|deadline| now >= deadline) {
                state.cut(Ending::Lost, &*self.wire, after);
            }
            return Action::Nothing;
        }
        if state.stalled_since.is_some_and(|since| now >= since + options.write_stall_max) {
            return Action::Close(CloseCode::SLOW, "nothing was read for too long; resume: nothing is lost");
        }
        if state.behind_since.is_some_and(|since| now >= since + options.token_stall_max) {
            state.tokens_returned = true;
            state.outbox.release_tokens(&mut after.done);
        }
        match state.keepalive.tick(now, heard, options.heartbeat_interval, options.pong_timeout) {
            Due::Unresponsive => Action::Close(CloseCode::UNRESPONSIVE, "no answer to a ping"),
            Due::Ping => {
                let ping = match self.dialect() {
                    Dialect::Plain => state.next_ping(),
                    Dialect::Envelope => envelope_ping(),
                    Dialect::Events => Bytes::from_static(sse::COMMENT),
                };
                state.outbox.push(Item::Control(ping));
                Action::Flush
            }
            // A flush asks for the confirmation that is due.
            Due::Nothing if state.confirmation_due(now, options) => Action::Flush,
            Due::Nothing => Action::Nothing,
        }
    }
}

impl State {
    fn confirmation_due(&self, now: Instant, options: &Options) -> bool {
        self.confirm
            .as_ref()
            .is_some_and(|confirm| confirm.want(now, options.confirm_interval, false) == Want::Now)
    }

    fn next_tick(&self, now: Instant, options: &Options) -> Option<Instant> {
        match self.phase {
            Phase::Gone => return None,
            Phase::Closing => return self.deadline,
            Phase::Open => {}
        }
        let confirm = self.confirm.as_ref().and_then(|confirm| {
            match confirm.want(now, options.confirm_interval, false) {
                Want::At(due_at) => Some(due_at),
                Want::Nothing | Want::Now => None,
            }
        });
        let tokens = self.behind_since.filter(|_| !self.tokens_returned);
        [
            Some(self.keepalive.next(options.pong_timeout)),
            self.stalled_since.map(|since| since + options.write_stall_max),
            tokens.map(|since| since + options.token_stall_max),
            confirm,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

fn envelope_ping() -> Bytes {
    static PING: OnceLock<Bytes> = OnceLock::new();
    PING.get_or_init(|| ServerFrame::Ping.encode()).clone()
}
