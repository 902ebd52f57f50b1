//! What a channel does when its mailbox turned to another epoch, or lost something.

use std::sync::Arc;

use crate::protocol::frame::ServerFrame;
use crate::protocol::{Channel, Position};
use crate::session::Session;
use crate::store::{Gap, GapReason, Page};

use super::order::{Behind, State, Subscriber, Touched};

impl State {
    /// Whether a page is of another epoch than what was shown.
    pub(super) fn turns_with(&self, page: &Page) -> bool {
        let epochs = (page.head.map(|head| head.epoch), self.last.map(|last| last.epoch));
        matches!(epochs, (Some(head), Some(last)) if head != last)
    }

    /// Moves to a head that nothing is kept below: what is missing there was
    /// collapsed or has expired.
    pub(super) fn skip_to(&mut self, head: Option<Position>, touched: &mut Touched) {
        let Some(head) = head else { return };
        if self.last.is_some_and(|last| last.epoch == head.epoch && last.seq >= head.seq) {
            return;
        }
        self.enter_epoch(head, touched);
        let last = self.last.map_or(head, |last| Position::new(head.epoch, last.seq.max(head.seq)));
        self.last = Some(last);
    }

    /// The numbering goes on under another epoch, and of what was shown nothing is
    /// lost. A session that had read further under the old one may have lost some
    /// of that: it reads the mailbox by itself, which tells.
    fn enter_epoch(&mut self, head: Position, touched: &mut Touched) {
        let Some(last) = self.last.filter(|last| last.epoch != head.epoch) else { return };
        for subscriber in self.subscribers.live_mut() {
            let Some(sent) = subscriber.sent.filter(|sent| sent.epoch == last.epoch) else { continue };
            if sent.seq <= last.seq {
                subscriber.sent = Some(Position::new(head.epoch, sent.seq));
            } else {
                let Subscriber { session, ticket, .. } = &*subscriber;
                touched.behind.push(Behind { session: session.clone(), ticket: *ticket, sent: Some(sent) });
                subscriber.live = false;
            }
        }
        self.ahead.clear();
        self.last = Some(Position::new(head.epoch, last.seq));
    }

    pub(super) fn take_gap(
        &mut self,
        channel: &Channel,
        gap: Option<Gap>,
        head: Option<Position>,
        after: u64,
        touched: &mut Touched,
    ) {
        // Who is behind the gap already has lost nothing and goes on.
        if let Some(head) = head.filter(|_| gap.is_none_or(|gap| gap.reason == GapReason::Trimmed)) {
            self.enter_epoch(head, touched);
        }
        let Some(gap) = gap else { return };
        let begin = head.map(|head| Position::new(head.epoch, after));
        let last = self.last;
        let affected = |sent: Option<Position>| match gap.reason {
            GapReason::Reset => sent.map(|sent| sent.epoch) == last.map(|last| last.epoch),
            GapReason::Trimmed => sent.is_none_or(|sent| sent.seq < after),
        };
        for subscriber in self.subscribers.live_mut().filter(|subscriber| affected(subscriber.sent)) {
            tell_gap(&subscriber.session, channel, &Gap { from: subscriber.sent.or(gap.from), ..gap });
            subscriber.sent = begin;
        }
        self.ahead.clear();
        self.last = begin;
    }
}

/// Tells a client that understands it that messages were lost.
pub(super) fn tell_gap(session: &Arc<Session>, channel: &Channel, gap: &Gap) {
    let reason = match gap.reason {
        GapReason::Trimmed => "trimmed",
        GapReason::Reset => "reset",
    };
    // Where to go on when all is lost, the numbering too.
    let to = gap.to.or(Some(Position::BEGINNING));
    session.tell(&ServerFrame::Gap { channel, from: gap.from, to, reason });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::held::tests::{Nobody, session};
    use crate::delivery::held::{Held, Live};
    use crate::delivery::order::Accepted;
    use crate::delivery::tests::{alice, message};
    use crate::protocol::Epoch;
    use crate::session::Token;
    use crate::store::{Settled, Start};

    fn at(epoch: u64, seq: u64) -> Option<Position> {
        Some(Position::new(Epoch::from_bits(epoch), seq))
    }

    /// Found by the simulation: two devices had resumed behind 107 and 108 while
    /// their node had seen no more than 102. Redis came back without 103 and
    /// what followed; both were taken to have what got those numbers anew.
    #[tokio::test]
    async fn who_had_read_further_than_its_node_when_the_epoch_turned_reads_the_mailbox_by_itself() {
        let mut state = State { known: true, last: at(1, 102), ..State::default() };
        for (ticket, seq) in [(1, 102), (2, 107), (3, 95)] {
            let (session, since_us) = (session(), 0);
            state.subscribers.push(Subscriber { session, ticket, sent: at(1, seq), live: true, since_us });
        }
        let mut touched = Touched::default();
        state.skip_to(at(2, 106), &mut touched);
        let behind: Vec<_> = touched.take_behind().iter().map(|one| (one.ticket, one.sent)).collect();
        assert_eq!(behind, [(2, at(1, 107))]);
        let live = |one: &Subscriber| (one.ticket, one.sent, one.live);
        let subscribers: Vec<_> = state.subscribers.iter().map(live).collect();
        assert_eq!(subscribers, [(1, at(2, 102), true), (2, at(1, 107), false), (3, at(2, 95), true)]);
    }

    /// Found by the simulation: the read was asked for behind 98, and the node was
    /// shown up to 107 before its answer came, from a Redis that had come back
    /// without what follows 98. The others' 99 to 107 were taken for the same.
    #[tokio::test]
    async fn a_page_of_another_epoch_says_nothing_of_what_was_shown_while_it_was_read() {
        let held = Held::new("user:ann".parse().expect("valid"));
        let session = session();
        held.add(&session, 0, || 1);
        assert_eq!(held.go_live(session.id(), 1, at(1, 107)), Live::Yes);
        let start = |seq| Start::After(at(1, seq).expect("a position"));
        let (head, settled) = (at(2, 102), Settled::default());
        let page = || Page { head, after: 98, gap: None, messages: Vec::new(), complete: true, settled };
        let mut touched = Touched::default();
        assert_eq!(held.fill(&start(98), 0, page(), &mut touched), Some(start(107)));
        assert_eq!(held.fill(&start(107), 0, page(), &mut touched), None);
        assert_eq!(held.epoch(), Some(Epoch::from_bits(2)), "of what it was read for, a page says so");
    }

    /// Found by the simulation: the first message of a channel was forwarded late,
    /// by a Redis that had come back empty. Who had been told of the loss was shown
    /// it, and told of the same loss again.
    #[tokio::test]
    async fn a_late_entry_of_a_numbering_that_is_lost_does_not_begin_it_again() {
        let settled = Settled::default();
        let page = |gap| Page { head: None, after: 0, gap, messages: Vec::new(), complete: true, settled };
        let reset = Gap { from: at(2, 7), to: None, reason: GapReason::Reset };
        for (shown, since_us, read_at_us, accepted) in [
            (at(2, 7), 0, u64::MAX, Accepted::Hole),
            (at(2, 7), 0, 0, Accepted::Shown(1)),
            (None, u64::MAX, 0, Accepted::Hole),
            (None, 0, 0, Accepted::Shown(1)),
        ] {
            let (held, session) = (Held::new(alice()), session());
            held.add(&session, since_us, || 1);
            assert_eq!(held.go_live(session.id(), 1, shown), Live::Yes);
            let mut touched = Touched::default();
            if let Some(shown) = shown {
                let (start, page) = (Start::After(shown), page(Some(reset)));
                assert_eq!(held.fill(&start, read_at_us, page, &mut touched), None);
            }
            let token: Token = Arc::new(Nobody);
            assert_eq!(
                held.accept(&message(1), &token, &mut touched, 8),
                accepted,
                "{shown:?}, {read_at_us}"
            );
        }
    }
}
