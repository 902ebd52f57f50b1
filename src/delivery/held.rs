//! One channel that this node holds: its order, and who listens.
//!
//! Pure bookkeeping under one lock: no I/O but queueing frames. What has to be
//! read from the mailbox is said in the return value and done by `fill`.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::protocol::frame::{Outgoing, ServerFrame};
use crate::protocol::{Channel, Position, SessionId};
use crate::session::{Queued, Session, Token};
use crate::store::{Gap, GapReason, Page, Start};

/// Acceptance times remembered for acknowledgement latency.
const ACCEPTED_MAX: usize = 64;

/// A channel with at least one local session, or that had one a moment ago.
pub(super) struct Held {
    pub(super) channel: Channel,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Everything up to here was shown. None while nothing was ever sent.
    last: Option<Position>,
    /// Whether `last` means anything: a page was read.
    known: bool,
    subscribers: Vec<Subscriber>,
    /// Messages of `last`'s epoch that came before an earlier one.
    ahead: BTreeMap<u64, Arc<Outgoing>>,
    filling: bool,
    /// A message was turned down that only a fill can place.
    misplaced: bool,
    /// The latest message that came before `known`: whoever goes live first
    /// must have read it.
    early: Option<Position>,
    /// The head that the previous comparison saw and that was not shown then.
    behind: Option<Position>,
    accepted: VecDeque<(u64, u64)>,
}

struct Subscriber {
    session: Arc<Session>,
    /// The last position given to it.
    sent: Option<Position>,
    /// False while it is still reading the mailbox by itself.
    live: bool,
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

/// Whether a session follows its channel live now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Live {
    /// It does.
    Yes,
    /// It does, and showed that the channel itself is behind: fill.
    AndFill,
    /// More was shown meanwhile: read on.
    ReadOn,
    /// It left.
    Gone,
}

/// Sessions that have frames to flush, once the lock is released.
#[derive(Default)]
pub(super) struct Touched(Vec<Arc<Session>>);

impl Touched {
    pub(super) fn queue(&mut self, session: &Arc<Session>, message: &Arc<Outgoing>, token: Option<&Token>) {
        if session.queue(message, token) == Queued::First {
            self.0.push(session.clone());
        }
    }

    /// Writes what was queued: one write for all that one session got.
    pub(super) fn flush(&mut self) {
        for session in self.0.drain(..) {
            session.flush();
        }
    }
}

impl Held {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    /// Adds a session that reads the mailbox by itself until it [goes
    /// live](Self::go_live). `register` is told how many there are now, under
    /// the lock, so that the count it registers and its order agree.
    pub(super) fn add<T>(&self, session: &Arc<Session>, register: impl FnOnce(u32) -> T) -> T {
        let mut state = self.state();
        state.subscribers.push(Subscriber { session: session.clone(), sent: None, live: false });
        register(len(&state))
    }

    /// Removes a session; says whether it was there.
    pub(super) fn remove(&self, session: SessionId) -> bool {
        let mut state = self.state();
        let before = state.subscribers.len();
        state.subscribers.retain(|subscriber| subscriber.session.id() != session);
        before != state.subscribers.len()
    }

    /// Runs `f` with the number of sessions, under the lock.
    pub(super) fn with_sessions<T>(&self, f: impl FnOnce(u32) -> T) -> T {
        f(len(&self.state()))
    }

    /// The sessions on this channel.
    pub(super) fn sessions(&self) -> Vec<Arc<Session>> {
        self.state().subscribers.iter().map(|subscriber| subscriber.session.clone()).collect()
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
            state.early = Some(position);
            return Accepted::Early;
        }
        match state.last {
            Some(last) if last.epoch != position.epoch => return state.misplaced(),
            Some(last) if position.seq <= last.seq => return Accepted::Duplicate,
            last if position.seq == last.map_or(1, |last| last.seq + 1) => {}
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
        if state.filling || !state.known || (!force && state.ahead.is_empty() && !state.misplaced) {
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

    /// Takes a page that was read from `start` on. Returns where to read on, or
    /// none when every hole is closed.
    pub(super) fn fill(&self, start: &Start, page: Page, touched: &mut Touched) -> Option<Start> {
        let mut state = self.state();
        if page.gap.is_some() && state.start() != *start {
            // The channel moved on while the page was read: what it calls lost
            // may have been shown since. Look again from where we are now.
            return Some(state.start());
        }
        state.take_gap(&self.channel, page.gap, page.head, page.after);
        if state.last.is_none() && !page.messages.is_empty() {
            state.last = page.head.map(|head| Position::new(head.epoch, page.after));
        }
        for message in page.messages {
            let Some(position) = message.position else { continue };
            if state.last.is_none_or(|last| position.seq > last.seq) {
                state.show(&Arc::new(Outgoing::new(message)), position, None, touched);
            }
        }
        if page.complete {
            state.skip_to(page.head);
        }
        state.show_ahead(touched);
        if page.complete && state.ahead.is_empty() && !std::mem::take(&mut state.misplaced) {
            state.filling = false;
            return None;
        }
        Some(state.start())
    }

    /// Lets a session that has read everything up to `sent` (of a mailbox whose
    /// head was that) follow the channel live; `false` when more was shown
    /// meanwhile and it must read on.
    pub(super) fn go_live(&self, session: SessionId, sent: Option<Position>) -> Live {
        let mut state = self.state();
        if !state.known {
            let seen =
                |early: Position| sent.is_some_and(|sent| sent.epoch == early.epoch && sent.seq >= early.seq);
            if state.early.take().is_some_and(|early| !seen(early)) {
                return Live::ReadOn;
            }
            state.known = true;
            state.last = sent;
        }
        let caught_up = match (state.last, sent) {
            (Some(last), Some(sent)) if last.epoch == sent.epoch => sent.seq >= last.seq,
            _ => true,
        };
        let stale = state.last.map(|last| last.epoch) != sent.map(|sent| sent.epoch) && state.last.is_some();
        let Some(subscriber) =
            state.subscribers.iter_mut().find(|subscriber| subscriber.session.id() == session)
        else {
            return Live::Gone;
        };
        if !caught_up {
            return Live::ReadOn;
        }
        subscriber.sent = sent;
        subscriber.live = true;
        if stale { Live::AndFill } else { Live::Yes }
    }

    /// Compares with the mailbox's head; `true` when the same or a later one
    /// was not shown at the previous comparison either: a notification is lost.
    pub(super) fn is_behind(&self, head: Option<Position>) -> bool {
        let mut state = self.state();
        if !state.known || state.filling || head == state.last {
            state.behind = None;
            return false;
        }
        let seen_before = state.behind.take();
        let still = match (seen_before, state.last) {
            (Some(seen), Some(last)) => seen.epoch != last.epoch || last.seq < seen.seq,
            (Some(_), None) => true,
            (None, _) => false,
        };
        // A store that knows nothing of a channel we know has lost it.
        state.behind = head.or(state.last);
        let lost = head.is_none() && seen_before.is_some() && seen_before == state.last;
        still || lost
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

fn len(state: &State) -> u32 {
    u32::try_from(state.subscribers.len()).unwrap_or(u32::MAX)
}

impl State {
    fn misplaced(&mut self) -> Accepted {
        self.misplaced = true;
        Accepted::Hole
    }

    fn start(&self) -> Start {
        self.last.map_or(Start::Oldest, Start::After)
    }

    fn show_ephemeral(&self, message: &Arc<Outgoing>, token: &Token, touched: &mut Touched) -> usize {
        let mut shown = 0;
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.live) {
            touched.queue(&subscriber.session, message, Some(token));
            shown += 1;
        }
        shown
    }

    fn show(
        &mut self,
        message: &Arc<Outgoing>,
        position: Position,
        token: Option<&Token>,
        touched: &mut Touched,
    ) -> usize {
        let mut shown = 0;
        for subscriber in self.subscribers.iter_mut().filter(|subscriber| subscriber.live) {
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

    /// Shows what was waiting, as far as it follows without a hole.
    fn show_ahead(&mut self, touched: &mut Touched) {
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

    /// Moves to a head that nothing is kept below: what is missing there was
    /// collapsed or has expired.
    fn skip_to(&mut self, head: Option<Position>) {
        let Some(head) = head else { return };
        if self.last.is_some_and(|last| last.epoch == head.epoch && last.seq >= head.seq) {
            return;
        }
        self.enter_epoch(head);
        let last = self.last.map_or(head, |last| Position::new(head.epoch, last.seq.max(head.seq)));
        self.last = Some(last);
    }

    /// The numbering goes on under another epoch, nothing lost.
    fn enter_epoch(&mut self, head: Position) {
        let Some(last) = self.last.filter(|last| last.epoch != head.epoch) else { return };
        for subscriber in &mut self.subscribers {
            if let Some(sent) = subscriber.sent.as_mut().filter(|sent| sent.epoch == last.epoch) {
                sent.epoch = head.epoch;
            }
        }
        self.ahead.clear();
        self.last = Some(Position::new(head.epoch, last.seq));
    }

    fn take_gap(&mut self, channel: &Channel, gap: Option<Gap>, head: Option<Position>, after: u64) {
        let Some(gap) = gap else {
            if let Some(head) = head {
                self.enter_epoch(head);
            }
            return;
        };
        let begin = head.map(|head| Position::new(head.epoch, after));
        let last = self.last;
        let affected = |sent: Option<Position>| match gap.reason {
            GapReason::Reset => sent.map(|sent| sent.epoch) == last.map(|last| last.epoch),
            GapReason::Trimmed => sent.is_none_or(|sent| sent.seq < after),
        };
        for subscriber in
            self.subscribers.iter_mut().filter(|subscriber| subscriber.live && affected(subscriber.sent))
        {
            tell_gap(&subscriber.session, channel, &Gap { from: subscriber.sent.or(gap.from), ..gap });
            subscriber.sent = begin;
        }
        self.ahead.clear();
        self.last = begin;
    }
}

/// Tells a client that understands it that messages were lost.
pub(super) fn tell_gap(session: &Arc<Session>, channel: &Channel, gap: &Gap) {
    if session.dialect() == crate::protocol::frame::Dialect::Envelope {
        let reason = match gap.reason {
            GapReason::Trimmed => "trimmed",
            GapReason::Reset => "reset",
        };
        session.send(ServerFrame::Gap { channel, from: gap.from, to: gap.to, reason }.encode());
    }
}
