//! The order of one held channel: what was shown, what waits, to whom.
//!
//! Plain bookkeeping, guarded by [`super::held::Held`]'s lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::protocol::frame::Outgoing;
use crate::protocol::rest::rfc3339;
use crate::protocol::status::SessionAnswer;
use crate::protocol::{NodeId, Position, SessionId};
use crate::session::{Queued, Session, Token};
use crate::store::Start;

use super::subscribers::Subscribers;

/// Acceptance times remembered for acknowledgement latency.
pub(super) const ACCEPTED_MAX: usize = 64;

#[derive(Default)]
pub(super) struct State {
    /// Everything up to here was shown. None while nothing was ever sent.
    pub(super) last: Option<Position>,
    /// While `last` is none: the store's time when nothing was kept. A message
    /// that was accepted before is lost, and must not begin the numbering.
    pub(super) empty_at_us: u64,
    /// Whether `last` means anything: a page was read.
    pub(super) known: bool,
    pub(super) subscribers: Subscribers,
    /// Messages of `last`'s epoch that came before an earlier one.
    pub(super) ahead: BTreeMap<u64, Arc<Outgoing>>,
    pub(super) filling: bool,
    /// A message was turned down that only a fill can place.
    pub(super) misplaced: bool,
    /// The latest message that came before `known`: whoever goes live first
    /// must have read it.
    pub(super) early: Option<Position>,
    /// What the previous comparison saw, when it saw a difference.
    pub(super) compared: Option<Compared>,
    pub(super) accepted: VecDeque<(u64, u64)>,
}

/// A mailbox's head, and what was shown when it was compared with it.
pub(super) struct Compared {
    head: Option<Position>,
    last: Option<Position>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// Queued for this many sessions.
    Shown(usize),
    /// Was shown before.
    Duplicate,
    /// An earlier one is missing, or the epoch is another: fill.
    Hole,
    /// The first session is still reading the mailbox and will find it there.
    Early,
}

pub(super) struct Subscriber {
    pub(super) session: Arc<Session>,
    /// Which of the session's subscriptions this is: one that it gave up may
    /// still be reading the mailbox.
    pub(super) ticket: u64,
    /// The last position given to it: of `last`'s epoch while it is live.
    pub(super) sent: Option<Position>,
    /// False while it is still reading the mailbox by itself.
    pub(super) live: bool,
    /// The store's time when it came: what is ephemeral and older is not meant
    /// for it, and its device may have had it on another node.
    pub(super) since_us: u64,
}

impl Subscriber {
    /// As it is told to people.
    pub(super) fn describe(&self, node: NodeId) -> SessionAnswer {
        let session = &self.session;
        let device = session.identity().and_then(|identity| identity.device.as_ref());
        SessionAnswer {
            id: session.id(),
            node,
            device: device.map(ToString::to_string),
            user: session.identity().map(|identity| identity.user.to_string()),
            dialect: session.dialect().label().to_owned(),
            connected_at: rfc3339(self.since_us / 1_000),
            live: self.live,
            pos: self.sent,
            outbox_bytes: session.outbox_bytes() as u64,
        }
    }
}

/// A session that has to read the mailbox by itself.
pub(super) struct Behind {
    pub(super) session: Arc<Session>,
    pub(super) ticket: u64,
    /// The last position given to it.
    pub(super) sent: Option<Position>,
}

/// Sessions that have something to do once the lock is released.
#[derive(Default)]
pub(super) struct Touched {
    to_flush: Vec<Arc<Session>>,
    pub(super) behind: Vec<Behind>,
}

impl Touched {
    pub(super) fn queue(&mut self, session: &Arc<Session>, message: &Arc<Outgoing>, token: Option<&Token>) {
        if session.queue(message, token) == Queued::First {
            self.to_flush.push(session.clone());
        }
    }

    /// Writes what was queued: one write for all that one session got. Returns
    /// how many sessions there were.
    pub(super) fn flush(&mut self) -> usize {
        let sessions = self.to_flush.len();
        for session in self.to_flush.drain(..) {
            session.flush();
        }
        sessions
    }

    /// Sessions that have to read the mailbox by themselves.
    pub(super) fn take_behind(&mut self) -> Vec<Behind> {
        std::mem::take(&mut self.behind)
    }
}

impl State {
    pub(super) fn has(&self, session: SessionId, ticket: u64) -> bool {
        self.subscribers.get(session).is_some_and(|subscriber| subscriber.ticket == ticket)
    }

    pub(super) fn sessions(&self) -> u32 {
        u32::try_from(self.subscribers.len()).unwrap_or(u32::MAX)
    }

    /// Compares with the mailbox's head; `true` when a notification is lost, or
    /// the mailbox lost what was shown. One comparison proves neither: messages
    /// come while heads are read. What the previous one saw does.
    pub(super) fn is_behind(&mut self, head: Option<Position>) -> bool {
        if !self.known || self.filling || head == self.last {
            self.compared = None;
            return false;
        }
        let last = self.last;
        let Some(before) = self.compared.replace(Compared { head, last }) else { return false };
        // Was there at the previous comparison, and is not shown yet.
        let owed = before
            .head
            .is_some_and(|head| last.is_none_or(|last| last.epoch != head.epoch || last.seq < head.seq));
        // Was shown at the previous comparison, and is not there any more.
        let lost = before
            .last
            .is_some_and(|shown| head.is_none_or(|head| head.epoch == shown.epoch && head.seq < shown.seq));
        owed || lost
    }

    /// A message came that the first session has to read by itself.
    pub(super) fn note_early(&mut self, position: Position) {
        let seq = match self.early {
            None => position.seq,
            Some(early) if early.epoch == position.epoch => early.seq.max(position.seq),
            // Which epoch is later nobody knows: no page read before shows both.
            Some(_) => u64::MAX,
        };
        self.early = Some(Position::new(position.epoch, seq));
    }

    pub(super) fn misplaced(&mut self) -> Accepted {
        self.misplaced = true;
        Accepted::Hole
    }

    pub(super) fn start(&self) -> Start {
        Start::After(self.last.unwrap_or(Position::BEGINNING))
    }

    pub(super) fn show_ephemeral(
        &self,
        message: &Arc<Outgoing>,
        token: &Token,
        touched: &mut Touched,
    ) -> usize {
        let accepted_at_us = message.message().accepted_at_us;
        let mut shown = 0;
        let present = |subscriber: &&Subscriber| subscriber.live && subscriber.since_us <= accepted_at_us;
        for subscriber in self.subscribers.iter().filter(present) {
            touched.queue(&subscriber.session, message, Some(token));
            shown += 1;
        }
        shown
    }

    pub(super) fn show(
        &mut self,
        message: &Arc<Outgoing>,
        position: Position,
        token: Option<&Token>,
        touched: &mut Touched,
    ) -> usize {
        let mut shown = 0;
        for subscriber in self.subscribers.live_mut() {
            let seen =
                subscriber.sent.is_some_and(|sent| sent.epoch == position.epoch && sent.seq >= position.seq);
            if !seen {
                touched.queue(&subscriber.session, message, token);
                subscriber.sent = Some(position);
                shown += 1;
            }
        }
        self.last = Some(position);
        if self.accepted.capacity() > 0 {
            if self.accepted.len() == ACCEPTED_MAX {
                self.accepted.pop_front();
            }
            self.accepted.push_back((position.seq, message.message().accepted_at_us));
        }
        shown
    }

    /// A fill can bring far more than an outbox holds, and no socket was slow: who
    /// has no room for `message` stops following live and reads the mailbox at
    /// its own pace.
    pub(super) fn leave_behind(&mut self, message: &Outgoing, touched: &mut Touched) {
        for subscriber in self.subscribers.live_mut() {
            let Subscriber { session, ticket, sent, .. } = &*subscriber;
            if !session.takes_at_once(message) {
                touched.behind.push(Behind { session: session.clone(), ticket: *ticket, sent: *sent });
                subscriber.live = false;
            }
        }
    }

    /// Shows what was waiting, as far as it follows without a hole.
    pub(super) fn show_ahead(&mut self, touched: &mut Touched) {
        while let Some((seq, _)) = self.ahead.first_key_value() {
            let next = self.last.map_or(1, |last| last.seq + 1);
            if *seq > next {
                return;
            }
            let Some((seq, message)) = self.ahead.pop_first() else { return };
            if let Some(position) = message.message().position.filter(|_| seq == next) {
                self.show(&message, position, None, touched);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    fn at(seq: u64) -> Option<Position> {
        Some(Position::new(Epoch::from_bits(1), seq))
    }

    fn shown(seq: u64) -> State {
        State { known: true, last: at(seq), ..State::default() }
    }

    #[test]
    fn a_mailbox_that_stays_ahead_is_behind_at_the_second_comparison() {
        let mut state = shown(5);
        assert!(!state.is_behind(at(6)));
        state.last = at(6);
        assert!(!state.is_behind(at(7)), "what the first comparison missed came meanwhile");
        assert!(state.is_behind(at(9)));
    }

    #[test]
    fn a_mailbox_that_lost_what_was_shown_is_noticed_though_nothing_new_comes() {
        let mut state = shown(10);
        assert!(!state.is_behind(at(5)), "heads that were read before a message came look like this");
        assert!(state.is_behind(at(5)));
        let mut state = shown(10);
        assert!(!state.is_behind(None));
        assert!(state.is_behind(None));
    }

    #[test]
    fn a_busy_channel_whose_heads_are_always_read_too_early_is_not_behind() {
        let mut state = shown(10);
        for n in 10..20 {
            state.last = at(n);
            assert!(!state.is_behind(at(n - 1)), "{n}");
        }
    }
}
