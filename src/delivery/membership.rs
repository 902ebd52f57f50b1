//! Being a member: enrolled, beating, fenced, rejoined, gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::protocol::NodeId;
use crate::store::{self, Beat, Join, NodeInfo};

use super::held::Held;
use super::replay::backoff;
use super::{Delivery, Inner, Options};

/// Channels registered at once when a node rejoins.
const REJOIN_CONCURRENCY: usize = 64;

/// What this node is in the cluster.
pub(super) struct Membership {
    node: watch::Sender<NodeId>,
    info: NodeInfo,
    draining: AtomicBool,
    /// Set when this node removes itself: from then on nothing is a fencing.
    leaving: AtomicBool,
    rejoin: Notify,
    /// The id that was found fenced last.
    fenced: Mutex<Option<NodeId>>,
    reclaiming: AtomicBool,
    beats: Mutex<Beats>,
}

struct Beats {
    /// When the last one succeeded.
    last: Option<Instant>,
    /// The store's time then.
    store_us: u64,
    /// Since when every one succeeded.
    steady_since: Option<Instant>,
}

impl Membership {
    pub(super) fn new(node: NodeId, info: NodeInfo) -> Self {
        let beats = Mutex::new(Beats { last: None, store_us: 0, steady_since: None });
        Self {
            node: watch::Sender::new(node),
            info,
            draining: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            rejoin: Notify::new(),
            fenced: Mutex::new(None),
            reclaiming: AtomicBool::new(false),
            beats,
        }
    }

    pub(super) fn node(&self) -> NodeId {
        *self.node.borrow()
    }

    /// The node with that id found that it is fenced.
    pub(super) fn ask_to_rejoin(&self, node: NodeId) {
        if self.node() == node && !self.leaving.load(Ordering::Acquire) {
            *self.fenced.lock().expect("no panic while held") = Some(node);
            self.rejoin.notify_one();
        }
    }

    /// Whether the id that this node has now was found fenced, and not one that
    /// it has given up meanwhile.
    fn is_fenced(&self) -> bool {
        *self.fenced.lock().expect("no panic while held") == Some(self.node())
    }

    /// Waits until this node has another id than `node`.
    pub(super) async fn changed_from(&self, node: NodeId) {
        let mut watcher = self.node.subscribe();
        // The sender lives as long as self.
        let _ = watcher.wait_for(|now| *now != node).await;
    }

    /// This node is about to remove itself from the cluster.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Marks that this node takes over from others; `false` if it does already.
    pub(super) fn begin_reclaim(&self) -> bool {
        !self.reclaiming.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_reclaim(&self) {
        self.reclaiming.store(false, Ordering::Release);
    }

    /// Notes a beat, and the store's time if it succeeded. After a pause as long as
    /// a heartbeat lives the count begins anew, and so it does after a step of the
    /// store's clock: a node must not take others for dead who may have stood still
    /// with it, or whose heartbeats lapsed all at once.
    fn note(&self, store_us: Option<u64>, options: &Options) {
        let Options { heartbeat_ttl, heartbeat_interval, .. } = *options;
        let mut beats = self.beats.lock().expect("no panic while held");
        if let Some(store_us) = store_us {
            let now = Instant::now();
            let stepped = Duration::from_micros(store_us.saturating_sub(beats.store_us));
            if beats.last.is_some_and(|last| {
                now - last >= heartbeat_ttl || stepped + heartbeat_interval >= now - last + heartbeat_ttl
            }) {
                beats.steady_since = None;
            }
            (beats.last, beats.store_us) = (Some(now), store_us);
            beats.steady_since.get_or_insert(now);
        } else {
            beats.steady_since = None;
        }
    }
}

impl Delivery {
    /// Why this node should get no traffic; none when it should.
    #[must_use]
    pub fn unready_reason(&self) -> Option<&'static str> {
        let membership = &self.inner.membership;
        if membership.draining.load(Ordering::Relaxed) {
            return Some("draining");
        }
        let beats = membership.beats.lock().expect("no panic while held");
        let fresh = beats.last.is_some_and(|last| last.elapsed() < self.inner.options.heartbeat_ttl);
        if fresh && beats.steady_since.is_some() { None } else { Some("the store cannot be reached") }
    }

    /// Announces that this node is about to leave.
    pub fn announce_drain(&self) {
        self.inner.membership.draining.store(true, Ordering::Relaxed);
        self.inner.metrics.draining.set(1.0);
        self.inner.metrics.ready.set(0.0);
    }

    pub(super) async fn run_membership(self) {
        let Inner { stop, options, membership, .. } = &*self.inner;
        loop {
            let fenced = tokio::select! {
                () = stop.cancelled() => return,
                () = membership.rejoin.notified() => membership.is_fenced(),
                () = tokio::time::sleep(options.heartbeat_interval) => {
                    match self.beat().await {
                        Ok(beat) => {
                            self.inherit(&beat);
                            beat.fenced
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the heartbeat failed");
                            false
                        }
                    }
                }
            };
            if fenced && !membership.leaving.load(Ordering::Acquire) {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.rejoin() => {}
                }
            }
        }
    }

    /// Beats once.
    pub(super) async fn beat(&self) -> Result<Beat, store::Error> {
        let Inner { store, membership, metrics, clock, .. } = &*self.inner;
        let sent = Instant::now();
        let beat = store.beat(self.node(), &self.info()).await;
        let received = Instant::now();
        let alive = beat.as_ref().ok().filter(|beat| !beat.fenced);
        membership.note(alive.map(|beat| beat.now_us), &self.inner.options);
        metrics.ready.set(if self.unready_reason().is_none() { 1.0 } else { 0.0 });
        let beat = beat.map_err(|error| self.noted(error))?;
        clock.observe(sent, received, beat.now_us);
        metrics.store_round_trip_seconds.record(received - sent);
        if !beat.fenced {
            metrics.heartbeat_timestamp_seconds.set(beat.now_us as f64 / 1e6);
        }
        Ok(beat)
    }

    fn info(&self) -> NodeInfo {
        let membership = &self.inner.membership;
        NodeInfo {
            sessions: self.inner.registry.sessions_len() as u64,
            draining: membership.draining.load(Ordering::Relaxed),
            ..membership.info.clone()
        }
    }

    /// Starts taking over from the dead, once this node's own beats show that
    /// it is not the store that was away.
    fn inherit(&self, beat: &Beat) {
        let steady = {
            let beats = self.inner.membership.beats.lock().expect("no panic while held");
            beats.steady_since.is_some_and(|since| since.elapsed() >= self.inner.options.reclaim_after)
        };
        if steady && !beat.suspects.is_empty() {
            self.reclaim(beat.suspects.clone());
        }
    }

    /// Takes a new id, registers every held channel under it, and closes every
    /// hole from the mailboxes. The sockets notice nothing.
    async fn rejoin(&self) {
        let Inner { store, membership, metrics, .. } = &*self.inner;
        metrics.fencings.increment(1);
        let (old, mut node) = (self.node(), NodeId::generate());
        let mut tries = 0;
        while let Err(error) = store.enrol(node, &self.info()).await {
            let error = self.noted(error);
            if matches!(error, store::Error::Fenced) {
                // A try that was thought to have failed was so long ago that
                // the new id is dead as well.
                node = NodeId::generate();
            }
            tries += 1;
            tracing::warn!(%error, tries, "failed to rejoin; trying again");
            tokio::time::sleep(backoff(tries)).await;
        }
        tracing::warn!(%old, %node, "this node was declared dead and rejoins under a new id");
        self.inner.entries.restart();
        membership.node.send_replace(node);
        let _ = self.beat().await;
        // In a task of its own: with many channels, or a store that fails now
        // and then, this takes longer than a heartbeat lives.
        self.inner.tasks.spawn(self.clone().register_all(old, node));
    }

    /// Registers every held channel under `node`, for as long as that is its id,
    /// and takes back what was written under the old one since it was buried:
    /// the next push would find that out, but who knows when there is one.
    async fn register_all(self, old: NodeId, node: NodeId) {
        use futures_util::StreamExt as _;
        let all: Vec<_> = self.inner.registry.channels().collect();
        let channels: Vec<_> = all.iter().map(|held| held.channel.clone()).collect();
        let held = futures_util::stream::iter(all);
        let registered = held.for_each_concurrent(REJOIN_CONCURRENCY, |held| self.register(node, held));
        tokio::select! {
            () = self.inner.stop.cancelled() => return,
            () = registered => {}
        }
        if let Err(error) = self.inner.store.drop_routes(old, &channels).await {
            self.noted(error);
            channels.iter().for_each(|channel| self.inner.directory.in_doubt(channel, old));
        }
    }

    async fn register(&self, node: NodeId, held: Arc<Held>) {
        let mut tries = 0;
        while self.node() == node {
            // Whoever comes later registers by itself, and whom nobody listens
            // to is about to be released.
            let Some((sessions, generation)) = self.inner.registry.registration(&held.channel) else {
                return;
            };
            let (channel, start) = (held.channel.clone(), held.resume_start());
            let join = Join { node, channel, generation, sessions, start, limit: 1 };
            match self.join(&join).await {
                Ok(page) => {
                    self.settled(page.settled);
                    self.may_have_turned(&join.channel, true);
                    break;
                }
                Err(_) => {
                    tries += 1;
                    tokio::time::sleep(backoff(tries)).await;
                }
            }
        }
        self.fill(&held, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::{alice, attach_to, start_with_faults};
    use crate::session;
    use crate::store::Start;

    /// Healing would find it, much later.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_rejoins_registers_its_channels_under_its_new_id() {
        let (delivery, _) = start_with_faults().await;
        let _attached =
            attach_to(&delivery, Arc::new(session::Options::default()), alice(), Start::Now).await;
        let old = delivery.node();
        delivery.rejoin().await;
        let new = delivery.node();
        let registered = async {
            while !delivery.inner.store.routes(&alice()).await.expect("known").iter().any(|at| at.node == new)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert_ne!(new, old);
        tokio::time::timeout(Duration::from_secs(1), registered).await.expect("at once");
    }
    /// Heartbeats that lapsed since the store's clock was set forward say nothing.
    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_stores_clock_begins_the_count_of_steady_beats_anew() {
        let (delivery, _) = start_with_faults().await;
        let membership = Membership::new(NodeId::generate(), delivery.info());
        let options = Options::default();
        let beat = async |store_s: u64| {
            tokio::time::advance(Duration::from_secs(1)).await;
            membership.note(Some(store_s * 1_000_000), &options);
            membership
                .beats
                .lock()
                .expect("no panic while held")
                .steady_since
                .expect("it succeeded")
                .elapsed()
        };
        assert_eq!(beat(100).await, Duration::ZERO);
        assert_eq!(beat(101).await, Duration::from_secs(1));
        assert_eq!(beat(103).await, Duration::from_secs(2), "no heartbeat lapsed by that");
        assert_eq!(beat(106).await, Duration::ZERO);
        assert_eq!(beat(90).await, Duration::from_secs(1), "set back, they live longer");
    }
}
