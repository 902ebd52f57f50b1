//! Closing holes in a channel's order from its mailbox.

use std::sync::Arc;

use crate::store::Start;

use super::Delivery;
use super::held::Held;
use super::order::Touched;
use super::replay::backoff;

/// Reads without progress before what waits ahead is given up: a store that
/// came back older may never have what is missing.
const STUCK_READS_MAX: u32 = 3;

impl Delivery {
    /// Fills a channel's holes in a task of its own, unless that is under way.
    /// With `force` it reads the mailbox even when no hole is known.
    pub(super) fn fill(&self, held: &Arc<Held>, force: bool) {
        if let Some(start) = held.begin_fill(force) {
            self.inner.tasks.spawn(self.clone().run_fill(held.clone(), start));
        }
    }

    async fn run_fill(self, held: Arc<Held>, mut start: Start) {
        let mut touched = Touched::default();
        let (mut tries, mut stuck) = (0, 0);
        self.inner.metrics.gaps_filled.increment(1);
        loop {
            let read_at_us = self.inner.clock.now_us();
            let read = self.inner.store.read(&held.channel, &start, self.inner.options.page_messages_max);
            let page = tokio::select! {
                () = self.inner.stop.cancelled() => return held.abandon_fill(),
                page = self.timed("read", read) => page,
            };
            match page {
                Ok(page) => {
                    tries = 0;
                    self.settled(page.settled);
                    let gap = page.gap;
                    let before = held.epoch();
                    let next = held.fill(&start, read_at_us, page, &mut touched);
                    if before.is_some() && held.epoch() != before {
                        // The store began a new life, perhaps with a directory of long ago.
                        self.inner.directory.changed(&held.channel, self.inner.options.linger);
                    }
                    if let Some(gap) = gap {
                        self.told_gap(gap.reason, held.with_sessions(u64::from));
                    }
                    touched.flush();
                    self.catch_up(&held, touched.take_behind());
                    let Some(next) = next else { return };
                    stuck = if next == start { stuck + 1 } else { 0 };
                    if stuck >= STUCK_READS_MAX {
                        held.give_up_ahead();
                    }
                    start = next;
                }
                Err(error) if error.is_transient() => {
                    self.noted(error);
                    tries += 1;
                    tokio::time::sleep(backoff(tries)).await;
                }
                Err(error) => {
                    let error = self.noted(error);
                    tracing::error!(%error, "failed to fill a hole; the next message or comparison tries again");
                    return held.abandon_fill();
                }
            }
        }
    }
}
