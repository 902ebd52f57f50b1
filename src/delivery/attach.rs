//! Attaching a session to its channels.
//!
//! First the session is added to the held channel, where it is passed over;
//! then the store writes the directory entry and reads the mailbox; then the
//! session reads on by itself until it has what the channel has, and under the
//! channel's lock it goes live. In this order a concurrent push is seen exactly
//! once: by the page, by a later page, or live.
//!
//! A session that begins now in a channel of many users which this node follows
//! already has nothing to ask the store: it goes live with what the channel
//! has, and the directory's count is corrected with the next change. So ten
//! thousand sessions on a topic are one entry and, mostly, one call.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use crate::protocol::frame::{Dialect, HelloLimits, ServerFrame};
use crate::protocol::{Channel, Position, SessionId};
use crate::session::Session;
use crate::store::{self, Join, Page, Start};

use super::held::Held;
use super::replay::begin;
use super::subscribe::{Asked, Refused};
use super::{Delivery, Inner};

/// Mailboxes that are read at once for one session.
const JOINS_AT_ONCE: usize = 8;

/// A session about to be attached.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The session; it has been identified.
    pub session: Arc<Session>,
    /// Its channels, topics apart, and where each begins.
    pub subscriptions: Vec<(Channel, Start)>,
    /// The topics that it asks for.
    pub asked: Asked,
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

/// A subscription whose mailbox has not been read yet.
pub(super) struct Joining {
    pub(super) held: Arc<Held>,
    /// Which of the session's this is.
    pub(super) ticket: u64,
    /// The store's time when it began.
    since_us: u64,
    join: Join,
}

/// A subscription, and the first it reads.
pub(super) type Joined = (Joining, Page);

impl Delivery {
    /// Attaches a session: directory, `hello`, replay, then live delivery. It is
    /// attached when this returns; the rest is the future's.
    ///
    /// # Errors
    /// When the store is away or the session closes first; the session is
    /// detached when it closes, whatever this returns.
    pub fn open(&self, opening: Opening) -> impl Future<Output = Result<(), OpenError>> + Send + use<> {
        let Opening { session, mut subscriptions, asked, issued_at_ms, heartbeat, limits } = opening;
        let limits = HelloLimits { topics_max: self.topics_max_of(session.dialect()), ..limits };
        let since = Instant::now();
        let mut refused = Refused::default();
        if let Some(identity) = session.identity() {
            for channel in self.allowed(&session, &identity.topics, &asked.topics, &mut refused) {
                let start = asked.start(identity, &channel);
                subscriptions.push((channel, start));
            }
        }
        let begin = |(channel, start)| self.begin(&session, channel, start);
        let received = asked.received(&session, subscriptions.iter().map(|(channel, _)| channel));
        let joining: Vec<_> = subscriptions.into_iter().map(begin).collect();
        self.inner.registry.attach(&session, joining.iter().map(|joining| joining.held.clone()).collect());
        self.gauge_held();
        let delivery = self.clone();
        async move {
            if session.dialect() == Dialect::Plain && !refused.is_empty() {
                delivery.tell_refused(&session, &refused, true);
            }
            if session.is_closing() {
                delivery.detach(&session);
                return Err(OpenError::Closed);
            }
            let mut pages = Vec::with_capacity(joining.len());
            for (joining, page) in delivery.join_all(&session, joining).await {
                pages.push((joining, page?));
            }
            delivery.may_stay(&session, issued_at_ms).await?;
            delivery.inner.metrics.open_seconds.record(since.elapsed());
            for (channel, position) in received {
                delivery.acknowledged(&session, &channel, position);
            }
            delivery.greet(&session, &pages, heartbeat, limits);
            delivery.tell_refused(&session, &refused, false);
            while let Some(early) = delivery.inner.registry.greeted(session.id()) {
                early.into_iter().for_each(|frame| delivery.fulfil(&session, frame));
            }
            delivery.replay_all(&session, pages).await
        }
    }

    /// Adds a session to a held channel, where it is passed over until it goes
    /// live.
    pub(super) fn begin(&self, session: &Arc<Session>, channel: Channel, start: Start) -> Joining {
        let registry = &self.inner.registry;
        let since_us = self.inner.clock.now_us();
        let (held, (sessions, generation)) =
            registry.hold(&channel, |held| held.add(session, since_us, || registry.next_generation()));
        if session.identity().is_some_and(|identity| identity.device.is_some()) {
            held.remember_accepted();
        }
        let limit = self.inner.options.page_messages_max;
        let join = Join { node: self.node(), channel, generation, sessions, start, limit };
        Joining { held, ticket: generation, since_us, join }
    }

    /// Enters the directory and reads the first pages, in the order given.
    pub(super) async fn join_all(
        &self,
        session: &Arc<Session>,
        joining: Vec<Joining>,
    ) -> Vec<(Joining, Result<Page, store::Error>)> {
        let joined = futures_util::stream::iter(joining).map(async |mut joining| {
            let page = self.join_one(session, &mut joining).await;
            (joining, page)
        });
        joined.buffered(JOINS_AT_ONCE).collect().await
    }

    async fn join_one(&self, session: &Session, joining: &mut Joining) -> Result<Page, store::Error> {
        let Joining { held, ticket, join, .. } = joining;
        let shared = join.channel.user_name().is_none();
        if shared
            && join.start == Start::Now
            && let Some(page) = held.page_of_now()
        {
            self.inner.directory.changed(&join.channel, self.inner.options.linger);
            return Ok(page);
        }
        let page = self.join_patiently(session, join).await;
        if !held.has(session.id(), *ticket) {
            // It left while the entry was being written, which must not
            // outlive what was done about that.
            self.inner.directory.changed(&join.channel, self.inner.options.linger);
        }
        let page = page?;
        if join.sessions == 1 {
            self.may_have_turned(&join.channel, true);
        }
        Ok(page)
    }

    /// Gives a session what it missed, one channel after the other.
    pub(super) async fn replay_all(
        &self,
        session: &Arc<Session>,
        pages: Vec<Joined>,
    ) -> Result<(), OpenError> {
        for (Joining { held, ticket, since_us, .. }, page) in pages {
            self.replay(session, &held, ticket, page, since_us).await?;
        }
        Ok(())
    }

    fn greet(&self, session: &Arc<Session>, pages: &[Joined], heartbeat: Duration, limits: HelloLimits) {
        let begun = Begun::of(pages);
        self.inner.metrics.resumes.with(begun.outcome()).increment(1);
        if session.dialect() == Dialect::Plain {
            return;
        }
        let identity = session.identity();
        let user =
            identity.map_or("", |identity| identity.user.user_name().unwrap_or(identity.user.as_str()));
        let hello = ServerFrame::Hello {
            session: session.id(),
            node: self.node(),
            user,
            device: identity.and_then(|identity| identity.device.as_ref()).map(|device| device.as_str()),
            resumed: begun.resumed(),
            positions: begun.positions,
            heartbeat_ms: u64::try_from(heartbeat.as_millis()).unwrap_or(u64::MAX),
            limits,
        };
        let begins =
            pages.iter().map(|(joining, page)| (joining.held.channel.clone(), Some(safe_begin(page))));
        session.follow(begins.collect());
        session.tell(&hello);
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

    pub(super) fn gauge_held(&self) {
        let Inner { metrics, registry, gauging, .. } = &*self.inner;
        // Read and set in one, or of two that change at once the first would set
        // what it had read before the last.
        let _ordered = gauging.lock().expect("no panic while held");
        for dialect in Dialect::ALL {
            metrics.sessions.with(dialect.label()).set(registry.sessions_len_of(dialect) as f64);
        }
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

/// Where several subscriptions begin.
pub(super) struct Begun<'a> {
    asked: bool,
    gap: bool,
    /// By channel.
    pub(super) positions: BTreeMap<&'a str, Position>,
}

impl<'a> Begun<'a> {
    pub(super) fn of(pages: &'a [Joined]) -> Self {
        let position = |(joining, page): &'a Joined| (joining.held.channel.as_str(), safe_begin(page));
        Self {
            asked: pages.iter().any(|(joining, _)| matches!(joining.join.start, Start::After(_))),
            gap: pages.iter().any(|(_, page)| page.gap.is_some()),
            positions: pages.iter().map(position).collect(),
        }
    }

    /// Whether positions were given, all understood, and nothing lost.
    pub(super) fn resumed(&self) -> bool {
        self.asked && !self.gap
    }

    fn outcome(&self) -> &'static str {
        match (self.asked, self.gap) {
            (_, true) => "gap",
            (true, false) => "resumed",
            (false, false) => "fresh",
        }
    }
}

/// Where a client may resume that has seen `hello` and nothing else: before what
/// is lost, so that it is told of the `gap` again if its connection dies between
/// the two. Who was there before anything was pushed has a place as well, or it
/// would be told nothing of what others received and the mailbox lost meanwhile.
fn safe_begin(page: &Page) -> Position {
    page.gap.as_ref().and_then(|gap| gap.from).or_else(|| begin(page)).unwrap_or(Position::BEGINNING)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{alice, attach_to, start_on};
    use super::*;
    use crate::store::{Limits, memory};

    async fn start() -> Delivery {
        start_on(Arc::new(memory::Store::new(Limits::default()))).await
    }

    fn gauge(delivery: &Delivery, series: &str) -> f64 {
        let page = delivery.inner.metrics.render();
        let value = page.lines().find_map(|line| line.strip_prefix(series));
        value.expect("the metric is there").trim().parse().expect("a number")
    }

    /// Found in review: the gauge was set when a session left, and its channel was held for a linger more.
    #[tokio::test(start_paused = true)]
    async fn a_channel_that_was_released_is_not_counted_as_held() {
        let delivery = start().await;
        let (session, _run, _client) = attach_to(&delivery, Arc::default(), alice(), Start::Now).await;
        assert_eq!(gauge(&delivery, "postrider_channels_held "), 1.0);
        delivery.detach(&session);
        tokio::time::sleep(delivery.inner.options.linger * 2).await;
        assert_eq!(gauge(&delivery, "postrider_channels_held "), 0.0);
    }
}
