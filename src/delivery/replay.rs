//! Reading mailboxes for sessions: what they missed, at the pace of their
//! sockets, until they have what their channels have shown.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::Position;
use crate::protocol::close::CloseCode;
use crate::protocol::frame::Outgoing;
use crate::session::Session;
use crate::store::{self, Join, Page, Start};

use super::Delivery;
use super::attach::OpenError;
use super::epochs::tell_gap;
use super::held::{Held, Live};
use super::order::Behind;

/// How often a call that failed is tried again before the session is closed:
/// some seconds in all, which a store that restarts may need.
const TRIES_MAX: u32 = 8;

impl Delivery {
    /// Gives a session what `page` holds and what is kept behind it, until it
    /// follows the channel live or that subscription is over. `since_us` is the
    /// store's time when it began.
    pub(super) async fn replay(
        &self,
        session: &Arc<Session>,
        held: &Arc<Held>,
        ticket: u64,
        mut page: Page,
        since_us: u64,
    ) -> Result<(), OpenError> {
        let mut read_on = None;
        loop {
            self.settled(page.settled);
            if let Some(gap) = &page.gap {
                self.told_gap(gap.reason, 1);
                tell_gap(session, &held.channel, gap);
            }
            let mut sent = begin(&page);
            for message in page.messages {
                sent = message.position.or(sent);
                let waited = message.accepted_at_us < since_us;
                let outgoing =
                    Arc::new(if waited { Outgoing::kept(message) } else { Outgoing::new(message) });
                session.room_for(&outgoing).await;
                if !held.queue(session, ticket, &outgoing) {
                    break;
                }
            }
            session.flush();
            session.room().await;
            if session.is_closing() {
                return Err(OpenError::Closed);
            }
            if page.complete {
                sent = page.head;
                match held.go_live(session.id(), ticket, page.head) {
                    Live::Yes => return Ok(()),
                    Live::Gone => {}
                    Live::ReadOn if read_on.replace(sent) != Some(sent) => {}
                    // What was shown is not kept any more, or the epochs differ.
                    Live::ReadOn | Live::Apart => {
                        self.fill(held, true);
                        tokio::time::sleep(backoff(1)).await;
                    }
                }
            }
            if !held.has(session.id(), ticket) {
                return Ok(());
            }
            let start = Start::After(sent.unwrap_or(Position::BEGINNING));
            page = self.read_patiently(session, held, &start).await?;
        }
    }

    /// Lets sessions that could not take what a fill brought read the mailbox by
    /// themselves, at the pace of their sockets.
    pub(super) fn catch_up(&self, held: &Arc<Held>, behind: Vec<Behind>) {
        for Behind { session, ticket, sent } in behind {
            let (delivery, held) = (self.clone(), held.clone());
            self.inner.tasks.spawn(async move {
                let start = Start::After(sent.unwrap_or(Position::BEGINNING));
                let caught_up = async {
                    let page = delivery.read_patiently(&session, &held, &start).await?;
                    // It was there when these were accepted.
                    delivery.replay(&session, &held, ticket, page, 0).await
                };
                if let Err(OpenError::Store(error)) = caught_up.await {
                    tracing::warn!(%error, "a session that was behind could not read its mailbox");
                    session.close(CloseCode::STORE_AWAY, "what you missed cannot be read now");
                }
            });
        }
    }

    /// Reads a page, again while the store is away for a moment.
    async fn read_patiently(
        &self,
        session: &Session,
        held: &Held,
        start: &Start,
    ) -> Result<Page, store::Error> {
        let mut tries = 0;
        loop {
            let read = self.inner.store.read(&held.channel, start, self.inner.options.page_messages_max);
            match self.timed("read", read).await {
                Ok(page) => return Ok(page),
                Err(error) => self.wait_out(self.noted(error), session, &mut tries).await?,
            }
        }
    }

    /// Joins, again while the store is away for a moment.
    pub(super) async fn join_patiently(
        &self,
        session: &Session,
        join: &mut Join,
    ) -> Result<Page, store::Error> {
        let mut tries = 0;
        loop {
            // It may have been declared dead while it waited.
            join.node = self.node();
            match self.join(join).await {
                Ok(page) => return Ok(page),
                Err(error) => self.wait_out(error, session, &mut tries).await?,
            }
        }
    }

    /// Waits before a call is tried again, if the store is away for a moment and
    /// the session is there to wait for it; else hands the error back.
    async fn wait_out(
        &self,
        error: store::Error,
        session: &Session,
        tries: &mut u32,
    ) -> Result<(), store::Error> {
        if !error.is_transient() || *tries == TRIES_MAX || session.is_closing() {
            return Err(error);
        }
        *tries += 1;
        tokio::time::sleep(backoff(*tries)).await;
        Ok(())
    }
}

/// The position a page begins behind, in the channel's present epoch.
pub(super) fn begin(page: &Page) -> Option<Position> {
    page.head.map(|head| Position::new(head.epoch, page.after))
}

/// Full jitter: anything up to 50 ms, doubled at each try, 2 s at most.
pub(super) fn backoff(tries: u32) -> Duration {
    let cap = Duration::from_millis(50 << tries.min(6)).min(Duration::from_secs(2));
    cap.mul_f64(rand::random::<f64>().max(0.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::held::tests::Nobody;
    use crate::delivery::order::Accepted;
    use crate::delivery::order::Touched;
    use crate::delivery::tests::{alice, attach_to, kept, message_at, start_with_faults};
    use crate::session::{Options, Token};
    use crate::store::faulty::Faults;

    /// Found by the simulation: the store had come back without what was shown last,
    /// and who connected then read the mailbox without a pause until the next comparison.
    #[tokio::test(start_paused = true)]
    async fn who_reads_a_mailbox_that_lost_what_was_shown_waits_for_no_comparison() {
        let (delivery, set_faults) = start_with_faults().await;
        let options = Arc::new(Options::default());
        let _attached = attach_to(&delivery, options.clone(), alice(), Start::Now).await;
        let appended = delivery.inner.store.append(kept(&alice(), "1".into())).await.expect("accepted");
        let kept = appended.position.expect("it is kept");
        let held = delivery.inner.registry.get(&alice()).expect("held");
        let (mut touched, token): (_, Token) = (Touched::default(), Arc::new(Nobody));
        for position in [kept, Position::new(kept.epoch, kept.seq + 1)] {
            assert_eq!(held.accept(&message_at(position), &token, &mut touched, 8), Accepted::Shown(1));
        }
        let ms = Duration::from_millis;
        set_faults(Faults { delayed: 1.0, delay_max: ms(10), deadline: ms(1_000), ..Faults::default() });
        let begun = tokio::time::Instant::now();
        let _attached = attach_to(&delivery, options, alice(), Start::After(kept)).await;
        assert!(begun.elapsed() < delivery.inner.options.heal_interval / 2, "{:?}", begun.elapsed());
    }
}
