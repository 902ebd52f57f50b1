//! Keeping the directory true.
//!
//! Entries are written at once when a session comes ([`super::attach`]) and
//! corrected a moment after it left, so that a reconnect costs nothing. A write
//! that failed may still happen later, and one that was on its way while this
//! node got another id names a node that is gone: both are corrected too.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::{Channel, NodeId};
use crate::store::{self, Join, Page};

use super::Delivery;

/// Joins that share a trip at most: each may bring a page of messages.
const JOINS_MAX: usize = 64;
/// How often due changes are looked for.
const TICK: Duration = Duration::from_millis(250);
/// When a correction that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a write that was given up may still take to happen.
const LATE_MAX: Duration = Duration::from_secs(5);

/// Channels whose entry has to be written again.
#[derive(Default)]
pub(super) struct Changes {
    due: Mutex<HashMap<Channel, Change>>,
}

struct Change {
    at: Instant,
    /// When it has to be corrected once more.
    again_at: Option<Instant>,
    /// Ids this node had when it wrote an entry that is not to be: a set, since a
    /// store that stays away brings the same ones again and again.
    former: BTreeSet<NodeId>,
}

impl Changes {
    /// The entry of `channel` is to be corrected after `wait`.
    pub(super) fn changed(&self, channel: &Channel, wait: Duration) {
        self.change(channel, Instant::now() + wait, |_| {});
    }

    fn change(&self, channel: &Channel, at: Instant, more: impl FnOnce(&mut Change)) {
        let mut due = self.due.lock().expect("no panic while held");
        let change = || Change { at, again_at: None, former: BTreeSet::new() };
        let change = due.entry(channel.clone()).or_insert_with(change);
        change.at = change.at.min(at);
        more(change);
    }

    /// A write under this id was given up, and may happen yet.
    pub(super) fn in_doubt(&self, channel: &Channel, node: NodeId) {
        let again_at = Instant::now() + LATE_MAX;
        self.change(channel, again_at, |change| {
            change.again_at = change.again_at.max(Some(again_at));
            change.former.insert(node);
        });
    }

    fn take(&self, now: Instant) -> Vec<(Channel, BTreeSet<NodeId>)> {
        let mut due = self.due.lock().expect("no panic while held");
        let taken: Vec<_> = due.extract_if(|_, change| change.at <= now).collect();
        let again = |(channel, change): (Channel, Change)| {
            if let Some(at) = change.again_at.filter(|at| *at > now) {
                let later = Change { at, again_at: None, former: change.former.clone() };
                due.insert(channel.clone(), later);
            }
            (channel, change.former)
        };
        taken.into_iter().map(again).collect()
    }

    fn is_empty(&self) -> bool {
        self.due.lock().expect("no panic while held").is_empty()
    }
}

impl Delivery {
    /// Writes a directory entry and reads the mailbox; remembers to correct
    /// what may come of it after all.
    pub(super) async fn join(&self, join: &Join) -> Result<Page, store::Error> {
        let page = self.join_together(join.clone()).await.map_err(|error| self.noted(error));
        if page.is_err() || join.node != self.node() {
            self.inner.directory.in_doubt(&join.channel, join.node);
        }
        page
    }

    async fn join_together(&self, join: Join) -> Result<Page, store::Error> {
        let Some(taken) = self.inner.joins.call(join) else {
            return Err(store::Error::Unavailable("too many sessions wait for it".to_owned()));
        };
        if taken.to_begin {
            self.inner.tasks.spawn(self.clone().run_joins());
        }
        let gone = |_| Err(store::Error::Unavailable("the node is stopping".to_owned()));
        taken.answer.await.unwrap_or_else(gone)
    }

    /// Makes trips until no join waits.
    async fn run_joins(self) {
        let mut trips = self.inner.joins.trips();
        while let Some(calls) = trips.take(JOINS_MAX) {
            let (joins, callers): (Vec<_>, Vec<_>) =
                calls.into_iter().map(|call| (call.what, call.answer)).unzip();
            let pages = self.timed("join", self.inner.store.join_batch(joins)).await;
            for (answer, page) in callers.into_iter().zip(pages) {
                // A session that went away does not need to know.
                let _ = answer.send(page);
            }
        }
    }

    pub(super) async fn run_directory(self) {
        loop {
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            self.correct_directory(Instant::now()).await;
        }
    }

    /// Corrects every entry that is due at `now`.
    pub(super) async fn correct_directory(&self, now: Instant) {
        use futures_util::StreamExt as _;
        let changes = futures_util::stream::iter(self.inner.directory.take(now));
        changes.for_each_concurrent(32, |(channel, former)| self.correct_entry(channel, former)).await;
    }

    async fn correct_entry(&self, channel: Channel, former: BTreeSet<NodeId>) {
        let store = &self.inner.store;
        let node = self.node();
        let mut failed = Vec::new();
        for former in former.into_iter().filter(|former| *former != node) {
            if let Err(error) = store.drop_routes(former, std::slice::from_ref(&channel)).await {
                self.noted(error);
                failed.push(former);
            }
        }
        let (sessions, generation) = self.inner.registry.release(&channel);
        if sessions == 0 {
            self.gauge_held();
        }
        match store.leave(node, &channel, generation, sessions).await {
            Ok(()) => self.may_have_turned(&channel, sessions > 0),
            Err(error) => {
                self.noted(error);
                failed.push(node);
            }
        }
        if !failed.is_empty() {
            let again_at = Instant::now() + AGAIN;
            self.inner.directory.change(&channel, again_at, |change| {
                change.again_at = change.again_at.max(Some(Instant::now() + LATE_MAX));
                change.former.extend(failed);
            });
        }
    }

    /// Corrects every entry now, until the store took them all.
    pub(super) async fn leave_all(&self) {
        while !self.inner.directory.is_empty() {
            self.correct_directory(Instant::now() + Duration::from_secs(3_600)).await;
            if !self.inner.directory.is_empty() {
                tokio::time::sleep(TICK).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::{alice, start_with_faults};
    use crate::store::faulty::Faults;

    /// Found by the storms: whatever was in doubt was noted twice at each try, a
    /// million times within twenty seconds without a store.
    #[tokio::test(start_paused = true)]
    async fn what_is_in_doubt_stays_one_thing_however_often_the_store_fails() {
        let (delivery, fail) = start_with_faults().await;
        fail(Faults { cut: true, ..Faults::default() });
        let (directory, former) = (&delivery.inner.directory, NodeId::generate());
        directory.in_doubt(&alice(), former);
        for _ in 0..16 {
            tokio::time::sleep(AGAIN).await;
            delivery.correct_directory(Instant::now()).await;
            directory.in_doubt(&alice(), delivery.node());
        }
        let due = directory.due.lock().expect("no panic while held");
        let expect = BTreeSet::from([former, delivery.node()]);
        assert_eq!(due.get(&alice()).map(|change| &change.former), Some(&expect));
    }
}
