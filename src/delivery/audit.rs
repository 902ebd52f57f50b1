//! Looking at the ledgers of a few held channels now and then.
//!
//! `postrider audit` proves the sum of all channels when somebody asks; this
//! notices by itself, and within minutes, that something does not add up, since
//! what makes one channel differ rarely spares the others. Bounded: a handful of
//! channels each time, and none in which much waits to be counted.

use std::sync::Arc;
use std::time::Duration;

use crate::protocol::Channel;
use crate::store::{self, Start};

use super::Delivery;
use super::held::Held;

/// Channels looked at each time: with 300 nodes some 120 in a second of them all.
const CHANNELS: usize = 4;
/// Messages counted in one channel at most; more would hold up the store.
const WAITING_MAX: u64 = 2_000;
/// Looks at a channel that differs before that is reported.
const LOOKS: u32 = 3;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

impl Delivery {
    pub(super) async fn run_audit(self) {
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(self.inner.options.ledger_audit_interval) => {}
            }
            let sample = self.inner.registry.sample(CHANNELS);
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = self.audit_all(sample) => {}
            }
        }
    }

    async fn audit_all(&self, sample: Vec<Arc<Held>>) {
        for held in sample {
            let result = match self.audit(&held.channel).await {
                Ok(Some(true)) => "balanced",
                Ok(Some(false)) => "differing",
                Ok(None) => continue,
                Err(error) => {
                    self.noted(error);
                    "failed"
                }
            };
            self.inner.metrics.ledger_audits.with(result).increment(1);
        }
    }

    /// Whether a channel's ledger adds up; none when too much waits to be counted.
    async fn audit(&self, channel: &Channel) -> Result<Option<bool>, store::Error> {
        let store = &self.inner.store;
        for look in 1.. {
            // Settles what an inspection would settle without telling how much.
            let page = store.read(channel, &Start::Cursor(None), 1).await?;
            self.settled(page.settled);
            let waiting_max = page.head.map_or(0, |head| head.seq.saturating_sub(page.after));
            if waiting_max > WAITING_MAX {
                return Ok(None);
            }
            let info = store.inspect(channel).await?;
            if info.adds_up() {
                return Ok(Some(true));
            }
            if look == LOOKS {
                let (by_counts, counted) = (info.ledger.waiting(), info.waiting_counted);
                tracing::warn!(%channel, by_counts, counted, "the ledger of a channel does not add up");
                break;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        Ok(Some(false))
    }
}
