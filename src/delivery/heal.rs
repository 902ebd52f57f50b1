//! Comparing quiet channels with their mailboxes.
//!
//! A notification can be lost (its sender died between mailbox and route). A
//! channel whose mailbox was ahead of it at two comparisons in a row is filled.
//! Also here: the gauges that have to be asked for.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::Channel;

use super::Delivery;
use super::held::Held;

/// Channels in one comparison.
const CHUNK: usize = 100;

impl Delivery {
    pub(super) async fn run_heal(self) {
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(self.inner.options.heal_interval) => {}
            }
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = self.compare_all() => {}
            }
            self.measure().await;
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
