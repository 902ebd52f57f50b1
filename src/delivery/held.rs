//! One channel that this node holds: its order, and who listens.
//!
//! Pure bookkeeping under one lock: no I/O but queueing frames. What has to be
//! read from the mailbox is said in the return value and done by `fill`.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::protocol::frame::Outgoing;
use crate::protocol::status::SessionAnswer;
use crate::protocol::{Channel, Epoch, NodeId, Position, SessionId};
use crate::session::{Session, Token};
use crate::store::{Page, Settled, Start};

use super::order::{ACCEPTED_MAX, Accepted, State, Subscriber, Touched};

/// A channel with at least one local session, or that had one a moment ago.
pub(super) struct Held {
    pub(super) channel: Channel,
    state: Mutex<State>,
}

/// Whether a session follows its channel live now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Live {
    /// It does.
    Yes,
    /// More was shown meanwhile: read on.
    ReadOn,
    /// The session and the channel are in different epochs, and whichever is
    /// behind has to catch up: fill and read on.
    Apart,
    /// It left.
    Gone,
}

impl Held {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Adds a session that reads the mailbox by itself until it [goes
    /// live](Self::go_live). Returns how many there are now, and the generation
    /// to register that under, taken under the lock so that both agree; it is
    /// the subscription's ticket, too. `since_us` is the store's time now.
    pub(super) fn add(
        &self,
        session: &Arc<Session>,
        since_us: u64,
        next_generation: impl FnOnce() -> u64,
    ) -> (u32, u64) {
        let mut state = self.state();
        let (session, ticket) = (session.clone(), next_generation());
        state.subscribers.push(Subscriber { session, ticket, sent: None, live: false, since_us });
        (state.sessions(), ticket)
    }

    /// Removes a session; says whether it was there.
    pub(super) fn remove(&self, session: SessionId) -> bool {
        self.state().subscribers.remove(session)
    }

    /// Queues a message that a session read by itself; `false` when that
    /// subscription is over, behind which nothing may come.
    pub(super) fn queue(&self, session: &Arc<Session>, ticket: u64, message: &Arc<Outgoing>) -> bool {
        let state = self.state();
        let there = state.has(session.id(), ticket);
        if there {
            let _ = session.queue(message, None);
        }
        there
    }

    /// Whether that subscription is not over.
    pub(super) fn has(&self, session: SessionId, ticket: u64) -> bool {
        self.state().has(session, ticket)
    }

    /// What a session that begins now would read of the mailbox, if this node
    /// follows the channel already and need not ask.
    pub(super) fn page_of_now(&self) -> Option<Page> {
        let state = self.state();
        state.known.then(|| Page {
            head: state.last,
            after: state.last.map_or(0, |last| last.seq),
            gap: None,
            messages: Vec::new(),
            complete: true,
            settled: Settled::default(),
        })
    }

    /// Runs `f` with the number of sessions, under the lock.
    pub(super) fn with_sessions<T>(&self, f: impl FnOnce(u32) -> T) -> T {
        f(self.state().sessions())
    }

    /// The sessions on this channel.
    pub(super) fn sessions(&self) -> Vec<Arc<Session>> {
        self.state().subscribers.iter().map(|subscriber| subscriber.session.clone()).collect()
    }

    /// The sessions as they are told to people, up to `max`, and whether there are more.
    pub(super) fn describe(&self, node: NodeId, max: usize) -> (Vec<SessionAnswer>, bool) {
        let state = self.state();
        let told = state.subscribers.iter().take(max).map(|subscriber| subscriber.describe(node));
        (told.collect(), state.subscribers.len() > max)
    }

    /// Where a read of the mailbox must begin to close every hole.
    pub(super) fn resume_start(&self) -> Start {
        self.state().start()
    }

    /// Takes a message from the node stream.
    pub(super) fn accept(
        &self,
        message: &Arc<Outgoing>,
        token: &Token,
        touched: &mut Touched,
        ahead_max: usize,
    ) -> Accepted {
        let mut state = self.state();
        let Some(position) = message.message().position else {
            return Accepted::Shown(state.show_ephemeral(message, token, touched));
        };
        if !state.known {
            state.note_early(position);
            return Accepted::Early;
        }
        match state.last {
            Some(last) if last.epoch != position.epoch => return state.misplaced(),
            Some(last) if position.seq <= last.seq => return Accepted::Duplicate,
            Some(last) if position.seq == last.seq + 1 => {}
            None if position.seq == 1 && message.message().accepted_at_us >= state.empty_at_us => {}
            Some(_) => {
                if state.ahead.len() < ahead_max {
                    state.ahead.insert(position.seq, message.clone());
                }
                return Accepted::Hole;
            }
            None => return state.misplaced(),
        }
        let shown = state.show(message, position, Some(token), touched);
        state.show_ahead(touched);
        Accepted::Shown(shown)
    }

    /// Whether a hole is open that nobody fills yet; the caller then must.
    pub(super) fn begin_fill(&self, force: bool) -> Option<Start> {
        let mut state = self.state();
        if state.filling {
            // What it has read may be older than the reason to read.
            state.misplaced |= force;
            return None;
        }
        if !state.known || (!force && state.ahead.is_empty() && !state.misplaced) {
            return None;
        }
        state.filling = true;
        state.misplaced = false;
        Some(state.start())
    }

    /// Ends a fill that failed; whatever is missing is tried again later.
    pub(super) fn abandon_fill(&self) {
        self.state().filling = false;
    }

    /// Lets go of what waits for messages that never come.
    pub(super) fn give_up_ahead(&self) {
        self.state().ahead.clear();
    }

    /// Takes a page that was read from `start` on, not before `read_at_us` by the
    /// store's clock. Returns where to read on, or none when every hole is closed.
    pub(super) fn fill(
        &self,
        start: &Start,
        read_at_us: u64,
        page: Page,
        touched: &mut Touched,
    ) -> Option<Start> {
        let mut state = self.state();
        if (page.gap.is_some() || state.turns_with(&page)) && state.start() != *start {
            // The channel moved on while the page was read: what it calls lost, or
            // the same under another epoch, is so of `start` alone. Look again
            // from where we are now.
            return Some(state.start());
        }
        state.take_gap(&self.channel, page.gap, page.head, page.after, touched);
        state.empty_at_us = read_at_us;
        if state.last.is_none() && !page.messages.is_empty() {
            state.last = page.head.map(|head| Position::new(head.epoch, page.after));
        }
        for message in page.messages {
            let Some(position) = message.position else { continue };
            if state.last.is_none_or(|last| position.seq > last.seq) {
                let outgoing = Arc::new(Outgoing::new(message));
                state.leave_behind(&outgoing, touched);
                state.show(&outgoing, position, None, touched);
            }
        }
        if page.complete {
            state.skip_to(page.head, touched);
        }
        state.show_ahead(touched);
        if page.complete && state.ahead.is_empty() && !std::mem::take(&mut state.misplaced) {
            state.filling = false;
            return None;
        }
        Some(state.start())
    }

    /// Lets a session that has read everything up to `sent` (of a mailbox whose
    /// head was that) follow the channel live, if the channel shows nothing
    /// else than what comes behind that.
    pub(super) fn go_live(&self, session: SessionId, ticket: u64, sent: Option<Position>) -> Live {
        let mut state = self.state();
        if !state.known {
            let seen =
                |early: Position| sent.is_some_and(|sent| sent.epoch == early.epoch && sent.seq >= early.seq);
            if state.early.take().is_some_and(|early| !seen(early)) {
                return Live::ReadOn;
            }
            state.empty_at_us = state.subscribers.get(session).map_or(0, |subscriber| subscriber.since_us);
            state.known = true;
            state.last = sent;
        }
        let last = state.last;
        let subscriber = state.subscribers.get_mut(session).filter(|subscriber| subscriber.ticket == ticket);
        let Some(subscriber) = subscriber else { return Live::Gone };
        match (last, sent) {
            (Some(last), Some(sent)) if last.epoch == sent.epoch && sent.seq < last.seq => Live::ReadOn,
            // Epochs do not say which is later.
            _ if last.map(|last| last.epoch) != sent.map(|sent| sent.epoch) => Live::Apart,
            _ => {
                (subscriber.sent, subscriber.live) = (sent, true);
                Live::Yes
            }
        }
    }

    /// The epoch of what was shown last.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.state().last.map(|last| last.epoch)
    }

    /// See [`State::is_behind`].
    pub(super) fn is_behind(&self, head: Option<Position>) -> bool {
        self.state().is_behind(head)
    }

    /// When the message at `seq` was accepted, if it was shown a moment ago.
    pub(super) fn accepted_at_us(&self, seq: u64) -> Option<u64> {
        let state = self.state();
        state.accepted.iter().rev().find(|(known, _)| *known == seq).map(|(_, at)| *at)
    }

    /// Remembers acceptance times from now on: somebody here acknowledges.
    pub(super) fn remember_accepted(&self) {
        let mut state = self.state();
        if state.accepted.capacity() == 0 {
            state.accepted.reserve_exact(ACCEPTED_MAX);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::Metrics;
    use crate::protocol::frame::{ClientFrame, Dialect};
    use crate::protocol::{Message, MessageId};
    use crate::session::pipe::pipe;
    use crate::session::{Ending, Events, Hold, Options};

    pub(in crate::delivery) struct Nobody;

    impl Events for Nobody {
        fn written(&self, _: &Arc<Session>, _: &[Arc<Outgoing>]) {}
        fn confirmed(&self, _: &Arc<Session>, _: &Channel, _: Position) {}
        fn frame(&self, _: &Arc<Session>, _: ClientFrame) {}
        fn closed(&self, _: &Arc<Session>, _: Ending) {}
    }

    impl Hold for Nobody {}

    pub(in crate::delivery) fn session() -> Arc<Session> {
        let options = Arc::new(Options { heartbeat_interval: Duration::from_secs(60), ..Options::default() });
        let wire = Box::new(pipe(1 << 16).0);
        let metrics = Metrics::new("test", "memory");
        Session::new(SessionId::generate(), Dialect::Plain, wire, options, Arc::new(Nobody), &metrics)
    }

    #[tokio::test]
    async fn a_subscription_that_was_given_up_shows_nothing_whatever_was_asked_for_since() {
        let held = Held::new(Channel::topic("news").expect("valid"));
        let (session, message) = (session(), ephemeral(&held.channel, 20));
        held.add(&session, 0, || 1);
        held.remove(session.id());
        held.add(&session, 0, || 2);
        assert!(!held.queue(&session, 1, &message) && session.outbox_bytes() == 0);
        assert_eq!(held.go_live(session.id(), 1, None), Live::Gone);
        assert!(held.queue(&session, 2, &message) && session.outbox_bytes() > 0);
        assert_eq!(held.go_live(session.id(), 2, None), Live::Yes);
    }

    fn ephemeral(channel: &Channel, accepted_at_us: u64) -> Arc<Outgoing> {
        Arc::new(Outgoing::new(Message {
            id: MessageId::from_bits(1),
            channel: channel.clone(),
            position: None,
            accepted_at_us,
            expires_at_ms: 0,
            data: bytes::Bytes::from_static(b"1"),
            trace: None,
            accountable: true,
        }))
    }

    /// Found by the storms: a user's phone had it from one node, moved, and had
    /// it again from another, which had been standing still.
    #[tokio::test]
    async fn an_ephemeral_message_that_is_late_is_not_for_who_came_after_it() {
        let channel = Channel::user("alice").expect("valid");
        let held = Held::new(channel.clone());
        let (before, after) = (session(), session());
        for (session, since_us) in [(&before, 10), (&after, 30)] {
            held.add(session, since_us, || since_us);
            assert_eq!(held.go_live(session.id(), since_us, None), Live::Yes);
        }
        let message = ephemeral(&channel, 20);
        let token: Token = Arc::new(Nobody);
        let mut touched = Touched::default();
        assert_eq!(held.accept(&message, &token, &mut touched, 1), Accepted::Shown(1));
        assert_eq!((before.outbox_bytes() > 0, after.outbox_bytes() > 0), (true, false));
    }
}
