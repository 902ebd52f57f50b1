//! Attaching a session to its channels.
//!
//! First the session is added to the held channel, where it is passed over;
//! then the store writes the directory entry and reads the mailbox; then the
//! session reads on by itself until it has what the channel has, and under the
//! channel's lock it goes live. In this order a concurrent push is seen exactly
//! once: by the page, by a later page, or live.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Dialect, HelloLimits, Outgoing, ServerFrame};
use crate::protocol::{Channel, Position, SessionId};
use crate::session::Session;
use crate::store::{self, Join, Page, Start};

use super::held::{Held, Live};
use super::order::tell_gap;
use super::{Delivery, Inner};

/// How often a call that failed is tried again before the session is closed:
/// some seconds in all, which a store that restarts may need.
const TRIES_MAX: u32 = 8;

/// A session about to be attached.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The session; it has been identified.
    pub session: Arc<Session>,
    /// Its channels, and where each begins.
    pub subscriptions: Vec<(Channel, Start)>,
    /// When what let it in was issued, in milliseconds since 1970; none where
    /// nobody is asked who they are.
    pub issued_at_ms: Option<u64>,
    /// How often the node pings, for `hello`.
    pub heartbeat: Duration,
    /// What the node accepts, for `hello`.
    pub limits: HelloLimits,
}

/// Why a session could not be attached. The text follows "failed to".
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store did not answer.
    #[error("open the session: {0}")]
    Store(#[from] store::Error),
    /// Its user was logged out since it was let in.
    #[error("open the session: its user was logged out")]
    LoggedOut,
    /// Its user has all the sessions that one may have.
    #[error("open the session: its user has too many")]
    TooMany,
    /// The session closed meanwhile.
    #[error("open the session: it closed first")]
    Closed,
}

impl Delivery {
    /// Attaches a session: directory, `hello`, replay, then live delivery.
    ///
    /// # Errors
    /// When the store is away or the session closes first; the session is
    /// detached when it closes, whatever this returns.
    pub async fn open(&self, opening: Opening) -> Result<(), OpenError> {
        let Opening { session, subscriptions, issued_at_ms, heartbeat, limits } = opening;
        let registry = &self.inner.registry;
        let (since, since_us) = (Instant::now(), self.inner.clock.now_us());
        let mut joins = Vec::with_capacity(subscriptions.len());
        let mut channels = Vec::with_capacity(subscriptions.len());
        for (channel, start) in subscriptions {
            let (held, (sessions, generation)) = registry.hold(&channel, |held| {
                held.add(&session, since_us, |sessions| (sessions, registry.next_generation()))
            });
            if session.identity().is_some_and(|identity| identity.device.is_some()) {
                held.remember_accepted();
            }
            channels.push(held.clone());
            let limit = self.inner.options.page_messages_max;
            joins.push((held, Join { node: self.node(), channel, generation, sessions, start, limit }));
        }
        registry.attach(&session, channels);
        self.gauge_held();
        if session.is_closing() {
            self.detach(&session);
            return Err(OpenError::Closed);
        }
        let mut pages = Vec::with_capacity(joins.len());
        for (held, mut join) in joins {
            let page = self.join_patiently(&session, &mut join).await;
            if !registry.is_attached(session.id()) {
                // It left while the entry was being written, which must not
                // outlive what was done about that.
                self.inner.directory.changed(&join.channel, self.inner.options.linger);
            }
            let page = page?;
            if join.sessions == 1 {
                self.may_have_turned(&join.channel, true);
            }
            pages.push((held, join.start, page));
        }
        self.may_stay(&session, issued_at_ms).await?;
        self.inner.metrics.open_seconds.record(since.elapsed());
        self.greet(&session, &pages, heartbeat, limits);
        for (held, _, page) in pages {
            self.replay(&session, &held, page, since_us).await?;
        }
        Ok(())
    }

    fn greet(
        &self,
        session: &Arc<Session>,
        pages: &[(Arc<Held>, Start, Page)],
        heartbeat: Duration,
        limits: HelloLimits,
    ) {
        let asked = pages.iter().any(|(_, start, _)| matches!(start, Start::After(_)));
        let gap = pages.iter().any(|(_, _, page)| page.gap.is_some());
        let outcome = match (asked, gap) {
            (_, true) => "gap",
            (true, false) => "resumed",
            (false, false) => "fresh",
        };
        self.inner.metrics.resumes.with(outcome).increment(1);
        if session.dialect() == Dialect::Plain {
            return;
        }
        let positions: BTreeMap<&str, Position> =
            pages.iter().map(|(held, _, page)| (held.channel.as_str(), safe_begin(page))).collect();
        let identity = session.identity();
        let user =
            identity.map_or("", |identity| identity.user.user_name().unwrap_or(identity.user.as_str()));
        let hello = ServerFrame::Hello {
            session: session.id(),
            node: self.node(),
            user,
            device: identity.and_then(|identity| identity.device.as_ref()).map(|device| device.as_str()),
            resumed: asked && !gap,
            positions,
            heartbeat_ms: u64::try_from(heartbeat.as_millis()).unwrap_or(u64::MAX),
            limits,
        };
        session.send(hello.encode());
    }

    /// `since_us` is the store's time when the session came.
    async fn replay(
        &self,
        session: &Arc<Session>,
        held: &Arc<Held>,
        mut page: Page,
        since_us: u64,
    ) -> Result<(), OpenError> {
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
                let _ = session.queue(&outgoing, None);
            }
            session.flush();
            session.room().await;
            if session.is_closing() {
                return Err(OpenError::Closed);
            }
            if page.complete {
                sent = page.head;
                match held.go_live(session.id(), page.head) {
                    Live::Yes => return Ok(()),
                    Live::Gone => return Err(OpenError::Closed),
                    Live::ReadOn => {}
                    Live::Apart => {
                        self.fill(held, true);
                        tokio::time::sleep(backoff(1)).await;
                    }
                }
            }
            let start = Start::After(sent.unwrap_or(Position::BEGINNING));
            page = self.read_patiently(session, held, &start).await?;
        }
    }

    /// Lets sessions that could not take what a fill brought read the mailbox by
    /// themselves, at the pace of their sockets.
    pub(super) fn catch_up(&self, held: &Arc<Held>, behind: Vec<(Arc<Session>, Option<Position>)>) {
        for (session, sent) in behind {
            let (delivery, held) = (self.clone(), held.clone());
            self.inner.tasks.spawn(async move {
                let start = Start::After(sent.unwrap_or(Position::BEGINNING));
                let caught_up = async {
                    let page = delivery.read_patiently(&session, &held, &start).await?;
                    // It was there when these were accepted.
                    delivery.replay(&session, &held, page, 0).await
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
    async fn join_patiently(&self, session: &Session, join: &mut Join) -> Result<Page, store::Error> {
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

    /// Whether a session is attached, or about to be.
    #[must_use]
    pub fn is_attached(&self, session: SessionId) -> bool {
        self.inner.registry.is_attached(session)
    }

    /// Takes a session out of its channels; harmless when repeated.
    pub(super) fn detach(&self, session: &Arc<Session>) {
        let Some(attached) = self.inner.registry.detach(session.id()) else { return };
        for held in attached.channels {
            held.remove(session.id());
            self.inner.directory.changed(&held.channel, self.inner.options.linger);
        }
        self.gauge_held();
    }

    fn gauge_held(&self) {
        let Inner { metrics, registry, .. } = &*self.inner;
        metrics.sessions.set(registry.sessions_len() as f64);
        metrics.channels_held.set(registry.channels_len() as f64);
    }

    pub(super) fn told_gap(&self, reason: store::GapReason, sessions: u64) {
        let reason = match reason {
            store::GapReason::Trimmed => "trimmed",
            store::GapReason::Reset => "reset",
        };
        self.inner.metrics.gaps_told.with(reason).increment(sessions);
    }
}

/// Where a client may resume that has seen `hello` and nothing else: before what
/// is lost, so that it is told of the `gap` again if its connection dies between
/// the two. Who was there before anything was pushed has a place as well, or it
/// would be told nothing of what others received and the mailbox lost meanwhile.
fn safe_begin(page: &Page) -> Position {
    page.gap.as_ref().and_then(|gap| gap.from).or_else(|| begin(page)).unwrap_or(Position::BEGINNING)
}

/// The position a page begins behind, in the channel's present epoch.
fn begin(page: &Page) -> Option<Position> {
    page.head.map(|head| Position::new(head.epoch, page.after))
}

/// Full jitter: anything up to 50 ms, doubled at each try, 2 s at most.
pub(super) fn backoff(tries: u32) -> Duration {
    let cap = Duration::from_millis(50 << tries.min(6)).min(Duration::from_secs(2));
    cap.mul_f64(rand::random::<f64>().max(0.1))
}
