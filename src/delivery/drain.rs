//! Leaving: sessions sent away one by one, then the stream handed over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Dialect, ServerFrame};
use crate::session::Session;

use super::Delivery;

/// How often it is looked whether everything is done.
const TICK: Duration = Duration::from_millis(20);
/// What a client that was told when to leave has to do so by itself: closed at
/// that very moment it would take for a failure what it was about to do.
const GRACE: Duration = Duration::from_millis(500);
/// Leftover entries of the directory taken out in one step.
const LEFTOVERS: usize = 256;
/// What leaving may take at least, if sessions stayed until the last moment.
const LEAVING_MIN: Duration = Duration::from_secs(1);

impl Delivery {
    /// Asks every session to reconnect elsewhere at a moment of its own in
    /// `window`, so that the other nodes see a stream of reconnects and no storm,
    /// and closes it (1012): a plain one then, others half a second later if they
    /// have not left. Returns when all have left, or at `until`.
    pub async fn send_sessions_away(&self, window: Duration, until: Instant) {
        let begun = Instant::now();
        let mut leaving: Vec<(Instant, Arc<Session>)> = Vec::new();
        for session in self.inner.registry.sessions() {
            let delay = window.mul_f64(rand::random());
            let reconnect_after_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            session.tell(&ServerFrame::Drain { reconnect_after_ms });
            let grace = if session.dialect() == Dialect::Plain { Duration::ZERO } else { GRACE };
            leaving.push((begun + delay + grace, session));
        }
        leaving.sort_unstable_by_key(|(at, _)| *at);
        for (at, session) in leaving {
            if !session.is_closing() {
                tokio::time::sleep_until(at.min(until)).await;
            }
            session.close(CloseCode::RESTART, "this node restarts; reconnect to another");
        }
        while self.sessions() > 0 && Instant::now() < until {
            // Sessions that were being set up when the drain began.
            self.inner.registry.sessions().filter(|session| !session.is_closing()).for_each(|session| {
                session.close(CloseCode::RESTART, "this node restarts; reconnect to another");
            });
            tokio::time::sleep(TICK).await;
        }
    }

    /// Leaves the cluster: acknowledgements written, directory cleared, writers
    /// and stream empty, heartbeat and stream removed. `false` when `until` came
    /// first; a survivor inherits the rest then.
    pub async fn leave(&self, until: Instant) -> bool {
        let until = until.max(Instant::now() + LEAVING_MIN);
        // In a task of its own: acknowledgements that were taken and not written are
        // lost when a flush is dropped, and this one may yet end before the node does.
        let delivery = self.clone();
        let flushed = self.inner.tasks.spawn(async move { delivery.flush_cursors().await });
        let left = async {
            // It does not panic, and nobody aborts it.
            let _ = flushed.await;
            self.retire().await;
        };
        tokio::time::timeout_at(until, left).await.is_ok()
    }

    async fn retire(&self) {
        self.leave_all().await;
        loop {
            if self.routes_idle() {
                self.ack_entries().await;
                self.inner.membership.leave();
                match self.inner.store.retire(self.node()).await {
                    Ok(true) => return,
                    Ok(false) => self.drop_leftovers().await,
                    Err(error) => drop(self.noted(error)),
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Takes out entries of the directory that were written late.
    async fn drop_leftovers(&self) {
        let (store, node) = (&self.inner.store, self.node());
        if self.sessions() > 0 {
            return;
        }
        let dropped = match store.orphaned_channels(node, LEFTOVERS).await {
            Ok(channels) if channels.is_empty() => return,
            Ok(channels) => store.drop_routes(node, &channels).await,
            Err(error) => Err(error),
        };
        if let Err(error) = dropped {
            self.noted(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::{alice, kept, start_with_faults};
    use crate::protocol::{Epoch, NodeId, Position};
    use crate::store::faulty::Faults;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_answers_nothing_keeps_no_node_from_leaving_in_time() {
        let (delivery, fail) = start_with_faults().await;
        let silent = Faults { lost: 1.0, deadline: Duration::from_secs(60), ..Faults::default() };
        delivery.inner.directory.in_doubt(&alice(), NodeId::generate());
        fail(silent);
        let until = Instant::now() + Duration::from_secs(4);
        assert!(!delivery.leave(until).await);
        assert_eq!(Instant::now().duration_since(until).as_secs(), 0);
        // Nor while it still has acknowledgements to write.
        delivery.inner.cursors.received(&alice(), None, Position::new(Epoch::from_bits(1), 1));
        let until = Instant::now() + Duration::from_secs(4);
        assert!(!delivery.leave(until).await);
        assert_eq!(Instant::now().duration_since(until).as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_leaves_writes_its_last_acknowledgements() {
        let (delivery, _) = start_with_faults().await;
        let store = &delivery.inner.store;
        let accepted = store.append(kept(&alice(), "1".into())).await.expect("accepted");
        delivery.inner.cursors.received(&alice(), None, accepted.position.expect("durable"));
        assert!(delivery.leave(Instant::now() + LEAVING_MIN).await);
        assert_eq!(store.inspect(&alice()).await.expect("known").ledger.received, 1);
    }
}
