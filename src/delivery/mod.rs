//! Where sessions and the store meet.
//!
//! A push is appended to its channel's mailbox ([`push`](Delivery::push)), then
//! handed to one writer per node that holds the channel (`router`). The node
//! that reads the entry (`consumer`) shows each message to the channel's
//! sessions in order (`held`), filling holes from the mailbox (`fill`).
//! Sessions are attached (`attach`), read what they missed (`replay`), listen
//! to topics (`subscribe`), and have their acknowledgements kept (`cursors`).
//! `membership` keeps the node enrolled, `reclaim` inherits dead nodes' streams,
//! `heal` compares quiet channels with their mailboxes, `audit` looks at ledgers,
//! `ask` asks other nodes about their sessions, `follow` tells the news.
//!
//! # When an entry may be acknowledged
//!
//! Each entry that is read gets a token. Dispatching holds a clone; every frame
//! that a socket did not take at once holds another. When the last clone is
//! dropped the entry is done (`entries`), and only then is it acknowledged.
//! A clone is dropped when
//! - the frame was written to its socket, or
//! - its session closed, or stalled for a second: the mailbox owes the message, or
//! - the message was a duplicate, or waits in `held` for an earlier one: the
//!   mailbox has it and the fill that is under way will read it.
//!
//! # Order
//!
//! The state of a held channel and the queueing of frames that follow from it
//! happen under one lock, so every session of a channel sees one order. Sockets
//! are written after the lock is released.
//!
//! # Failure
//!
//! A call to the store that fails loses nothing here: acknowledgements are kept
//! and sent again, fills are tried again, and whatever was not routed is in the
//! mailbox, where `heal` finds it. Refuses to know HTTP.

mod ask;
mod attach;
mod audit;
mod clock;
mod consumer;
mod cursors;
mod directory;
mod drain;
mod entries;
mod epochs;
mod events;
mod fill;
mod finished;
mod follow;
mod heal;
mod held;
mod membership;
mod order;
mod push;
mod reclaim;
mod registry;
mod replay;
mod router;
mod standing;
mod subscribe;
mod subscribers;
#[cfg(test)]
mod tests;
mod together;
#[cfg(test)]
mod topic_tests;
mod trail;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use ask::{Closing, Sessions};
pub use attach::{OpenError, Opening};
pub use follow::{Event, Follower, Kind, News};
pub use push::Pushed;
pub use subscribe::Asked;

use crate::metrics::Metrics;
use crate::protocol::NodeId;
use crate::session::Events;
use crate::spans::Spans;
use crate::store::{self, Append, Join, NodeInfo, Page, Store};

use together::Together;

/// How a node delivers. Defaults carry their reasons.
#[derive(Debug, Clone)]
pub struct Options {
    /// Messages that may wait for one target node's writer. Beyond it a push is
    /// not routed there and the target heals from the mailbox: 8,192 is some
    /// tenths of a second of what one writer moves.
    pub route_queue_max: usize,
    /// Messages in one entry: enough to make the cost of an entry vanish.
    pub entry_messages_max: usize,
    /// Bytes of messages in one entry, so that no reply is large.
    pub entry_bytes_max: usize,
    /// Entries in one read of the node stream.
    pub read_entries_max: usize,
    /// Messages in one read of a mailbox.
    pub page_messages_max: usize,
    /// Messages that wait in one channel for an earlier one. Beyond it they are
    /// left to the mailbox, which the fill reads anyway.
    pub ahead_messages_max: usize,
    /// How often quiet channels are compared with their mailboxes.
    pub heal_interval: Duration,
    /// Channels compared in one second at most.
    pub heal_rate_max: usize,
    /// How often directory entries are written again, so that the store does not
    /// forget channels whose sessions are quiet: it keeps them for a day at least.
    pub directory_refresh: Duration,
    /// How often the ledgers of some held channels are looked at.
    pub ledger_audit_interval: Duration,
    /// How long acknowledgements gather before they are written.
    pub cursor_flush: Duration,
    /// Topics that one session may listen to. A page shows some dozens of things;
    /// who follows more wants a topic that holds them all.
    pub topics_max: usize,
    /// How long a channel whose last session left stays held.
    pub linger: Duration,
    /// How often the node beats: a third of the heartbeat's life or less.
    pub heartbeat_interval: Duration,
    /// Heartbeat expiry plus grace: how long this node must have beaten without
    /// error before it declares others dead.
    pub reclaim_after: Duration,
    /// How long a heartbeat lives: without one for that long the node is unready.
    pub heartbeat_ttl: Duration,
    /// Sessions that one user may have on all nodes together.
    pub sessions_per_user_max: Option<usize>,
    /// Who is told of what happens, if anyone.
    pub follower: Option<Arc<dyn Follower>>,
    /// Where spans go of what senders want traced, if anywhere.
    pub spans: Option<Spans>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            route_queue_max: 8_192,
            entry_messages_max: 256,
            entry_bytes_max: 256 * 1_024,
            read_entries_max: 128,
            page_messages_max: 100,
            ahead_messages_max: 256,
            heal_interval: Duration::from_secs(2),
            heal_rate_max: 5_000,
            directory_refresh: Duration::from_secs(6 * 3_600),
            ledger_audit_interval: Duration::from_secs(10),
            cursor_flush: Duration::from_millis(500),
            topics_max: 100,
            linger: Duration::from_secs(1),
            heartbeat_interval: Duration::from_secs(1),
            reclaim_after: Duration::from_secs(5),
            heartbeat_ttl: Duration::from_secs(3),
            sessions_per_user_max: None,
            follower: None,
            spans: None,
        }
    }
}

/// The handle to a node's delivery: cheap to clone.
#[derive(Clone)]
pub struct Delivery {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    store: Arc<dyn Store>,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
    clock: clock::StoreClock,
    membership: membership::Membership,
    registry: registry::Registry,
    gauging: std::sync::Mutex<()>,
    pushes: Together<Append, Result<Pushed, store::Error>>,
    joins: Together<Join, Result<Page, store::Error>>,
    router: router::Router,
    entries: entries::Tracker,
    cursors: cursors::Cursors,
    directory: directory::Changes,
    following: follow::Following,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("node", &self.node()).finish_non_exhaustive()
    }
}

impl Delivery {
    /// Enters the cluster and starts every loop under `tasks`, until `stop`.
    ///
    /// # Errors
    /// When the store cannot be reached at the start.
    pub async fn start(
        options: Options,
        store: Arc<dyn Store>,
        info: NodeInfo,
        metrics: Metrics,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, store::Error> {
        let node = NodeId::generate();
        store.enrol(node, &info).await?;
        let inner = Inner {
            pushes: Together::default(),
            joins: Together::default(),
            router: router::Router::default(),
            entries: entries::Tracker::default(),
            cursors: cursors::Cursors::default(),
            directory: directory::Changes::default(),
            following: follow::Following::new(options.follower.clone()),
            clock: clock::StoreClock::default(),
            registry: registry::Registry::default(),
            gauging: std::sync::Mutex::default(),
            membership: membership::Membership::new(node, info),
            options,
            store,
            metrics,
            tasks,
            stop,
        };
        let delivery = Self { inner: Arc::new(inner) };
        delivery.beat().await?;
        delivery.spawn_loops();
        Ok(delivery)
    }

    fn spawn_loops(&self) {
        // Each loop logs and retries its own failures and ends at `stop`; none
        // of them can fail in a way that should stop the node.
        let tasks = &self.inner.tasks;
        tasks.spawn(self.clone().run_membership());
        tasks.spawn(self.clone().run_consumer());
        tasks.spawn(self.clone().run_entry_acks());
        tasks.spawn(self.clone().run_cursors());
        tasks.spawn(self.clone().run_directory());
        tasks.spawn(self.clone().run_heal());
        tasks.spawn(self.clone().run_audit());
        tasks.spawn(self.clone().run_turns());
        tasks.spawn(self.clone().run_expiries());
    }

    /// This node's id: changes when it was declared dead and rejoined.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.membership.node()
    }

    /// The store, for what needs no delivery: listings and inspection.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// How many sessions are attached.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.inner.registry.sessions_len()
    }

    /// What sessions of this node report to.
    #[must_use]
    pub fn events(&self) -> Arc<dyn Events> {
        Arc::new(events::SessionEvents::new(self.clone()))
    }

    /// Measures a call to the store.
    async fn timed<T>(&self, call: &'static str, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let result = work.await;
        self.inner.metrics.store_call_seconds.with(call).record(started.elapsed());
        result
    }

    /// Counts a failure of the store, and hands it back.
    fn noted(&self, error: store::Error) -> store::Error {
        let kind = match &error {
            store::Error::Unavailable(_) => "unavailable",
            store::Error::Timeout { .. } => "timeout",
            store::Error::OutOfMemory => "out_of_memory",
            store::Error::Fenced => "fenced",
            _ => "other",
        };
        self.inner.metrics.store_errors.with(kind).increment(1);
        error
    }

    /// Counts what a call to the store moved in the ledger.
    pub fn settled(&self, settled: store::Settled) {
        let ledger = &self.inner.metrics.ledger_messages;
        let moved = [
            ("received", settled.received),
            ("expired", settled.expired),
            ("collapsed", settled.collapsed),
            ("dropped_mailbox_full", settled.dropped_mailbox_full),
            ("dropped_no_session", settled.dropped_no_session),
            ("dropped_unreported", settled.dropped_unreported),
            ("dropped_withdrawn", settled.dropped_withdrawn),
        ];
        for (class, count) in moved {
            if count > 0 {
                ledger.with(class).increment(count);
            }
        }
    }
}
