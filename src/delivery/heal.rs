//! Comparing quiet channels with their mailboxes.
//!
//! A notification can be lost (its sender died between mailbox and route). A
//! channel whose mailbox was ahead of it at two comparisons in a row is filled.
//! Also here: the gauges that have to be asked for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::Channel;

use super::Delivery;
use super::held::Held;

/// Channels in one comparison.
const CHUNK: usize = 100;

impl Delivery {
    pub(super) async fn run_heal(self) {
        let mut refreshed = Instant::now();
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(self.inner.options.heal_interval) => {}
            }
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = self.compare_all() => {}
            }
            if refreshed.elapsed() >= self.inner.options.directory_refresh {
                refreshed = Instant::now();
                self.refresh_directory();
            }
            self.measure().await;
        }
    }

    /// Has every entry written again, no more at a time than are compared.
    fn refresh_directory(&self) {
        let pause = Duration::from_secs(1) / self.inner.options.heal_rate_max.max(1) as u32;
        for (held, at) in self.inner.registry.channels().zip(0..) {
            self.inner.directory.changed(&held.channel, pause * at);
        }
    }

    async fn compare_all(&self) {
        let held: Vec<_> = self.inner.registry.channels().collect();
        // Spread so that no more than the agreed rate is asked for.
        let pause = Duration::from_secs_f64(CHUNK as f64 / self.inner.options.heal_rate_max.max(1) as f64);
        for (at, chunk) in held.chunks(CHUNK).enumerate() {
            if at > 0 {
                tokio::time::sleep(pause).await;
            }
            self.compare(chunk).await;
        }
    }

    async fn compare(&self, held: &[Arc<Held>]) {
        let channels: Vec<Channel> = held.iter().map(|held| held.channel.clone()).collect();
        let heads = match self.inner.store.heads(&channels).await {
            Ok(heads) => heads,
            Err(error) => return drop(self.noted(error)),
        };
        for (held, head) in held.iter().zip(heads) {
            if held.is_behind(head) {
                self.inner.metrics.heals.increment(1);
                // Perhaps the store came back without our entry.
                self.inner.directory.changed(&held.channel, Duration::ZERO);
                self.fill(held, true);
            }
        }
    }

    async fn measure(&self) {
        let metrics = &self.inner.metrics;
        match self.inner.store.stream_stats(self.node()).await {
            Ok(stats) => {
                metrics.stream_entries.set(stats.length as f64);
                metrics.stream_lag_entries.set(stats.lag as f64);
                metrics.stream_pending_entries.set(stats.pending as f64);
                metrics.stream_oldest_pending_seconds.set(stats.oldest_pending_ms as f64 / 1_000.0);
                self.inner.entries.oldest_pending(stats.oldest_pending_ms);
            }
            Err(error) => drop(self.noted(error)),
        }
        metrics.upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::{alice, attach_to, start_with_faults};
    use crate::session;
    use crate::store::Start;

    /// A store forgets a channel in which nothing happens for long enough, whoever
    /// listens to it.
    #[tokio::test(start_paused = true)]
    async fn the_directory_entries_of_quiet_sessions_are_written_again() {
        let (delivery, _) = start_with_faults().await;
        let options = Arc::new(session::Options::default());
        let _attached = attach_to(&delivery, options, alice(), Start::Now).await;
        let store = &delivery.inner.store;
        store.drop_routes(delivery.node(), &[alice()]).await.expect("dropped");
        let until = Instant::now() + delivery.inner.options.directory_refresh * 2;
        while store.routes(&alice()).await.expect("listed").is_empty() {
            assert!(Instant::now() < until, "nobody can find the session any more");
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }
}
