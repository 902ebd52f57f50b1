//! What a session asks to listen to: topics, and where to begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::protocol::close::CloseCode;
use crate::protocol::event_id::{CHANNELS_MAX, EventId, Mark};
use crate::protocol::frame::{ClientFrame, Dialect, From, ServerFrame};
use crate::protocol::{Channel, Grant, Position};
use crate::session::{Identity, Session};
use crate::store::Start;

use super::Delivery;
use super::attach::{Begun, Joining, OpenError};
use super::registry::Place;

/// Frames kept for a session that was not greeted yet.
const EARLY_MAX: usize = 16;
/// Topics of one event stream: a client comes back with an id that tells of its
/// user's channel and everyone's besides.
const STREAM_TOPICS_MAX: usize = CHANNELS_MAX - 2;

/// What a session asks for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Names of topics.
    pub topics: Vec<String>,
    /// The last position handled, by channel.
    pub positions: BTreeMap<String, Position>,
    /// Where to begin in a channel without a position.
    pub from: Option<From>,
    /// The last event that an event stream's client had: positions by channel,
    /// too, and some of them acknowledgements.
    pub last: Option<EventId>,
}

impl Asked {
    /// Where a session begins in a channel. In its user's own it begins, without
    /// position or cursor, with what waits for the user. In one where users meet,
    /// what others have received says nothing of this session: it begins now.
    #[must_use]
    pub fn start(&self, identity: &Identity, channel: &Channel) -> Start {
        if let Some(position) = self.positions.get(channel.as_str()) {
            return Start::After(*position);
        }
        if let Some(mark) = self.mark(identity, channel) {
            return Start::After(mark.position.unwrap_or(Position::BEGINNING));
        }
        match (self.from, &identity.device) {
            (Some(From::Now), _) => Start::Now,
            (Some(From::Oldest), _) => Start::Oldest,
            (None, device) if *channel == identity.user => Start::Cursor(device.clone()),
            (None, Some(device)) => Start::CursorOrNow(device.within(channel, &identity.user)),
            (None, None) => Start::Now,
        }
    }

    fn mark(&self, identity: &Identity, channel: &Channel) -> Option<Mark> {
        let last = self.last.as_ref()?;
        if *channel == identity.user { Some(last.own()) } else { last.of(channel) }
    }

    /// What the session's client says that it received: the acknowledgement of
    /// one that only listens.
    pub(super) fn received<'a>(
        &self,
        session: &Session,
        channels: impl Iterator<Item = &'a Channel>,
    ) -> Vec<(Channel, Position)> {
        let Some(identity) = session.identity().filter(|_| self.last.is_some()) else { return Vec::new() };
        let received = |channel: &Channel| {
            let mark = self.mark(identity, channel).filter(|mark| mark.received)?;
            Some((channel.clone(), mark.position?))
        };
        channels.filter_map(received).collect()
    }
}

/// Why a session does not get to listen to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// Its name is none.
    Invalid,
    /// The token does not grant it.
    NotAllowed,
    /// The session has as many as it may.
    TooMany,
    /// The store is away.
    Store,
}

impl Refusal {
    fn label(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotAllowed => "not_allowed",
            Self::TooMany => "limit",
            Self::Store => "store",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid_topic",
            Self::NotAllowed => "topic_not_allowed",
            Self::TooMany => "too_many_topics",
            Self::Store => "store_away",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Invalid => "a topic is a name of 1 to 200 bytes without spaces or '*', like orders.42",
            Self::NotAllowed => "the token's claim 'topics' does not allow this: connect with one that does",
            Self::TooMany => {
                "as many topics as a session may have (limits.topics_max, 254 at most of an event stream): \
                 give some up first"
            }
            Self::Store => "the store is away: subscribe again in a moment",
        }
    }

    /// How a client is closed that cannot be told otherwise.
    fn close_code(self) -> CloseCode {
        match self {
            Self::Invalid | Self::TooMany => CloseCode::BAD_HANDSHAKE,
            Self::NotAllowed => CloseCode::TOPIC,
            Self::Store => CloseCode::STORE_AWAY,
        }
    }
}

/// Topics that were refused, by reason.
#[derive(Debug, Default)]
pub(super) struct Refused(BTreeMap<Refusal, Vec<String>>);

impl Refused {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, refusal: Refusal, topic: &str) {
        self.0.entry(refusal).or_default().push(topic.to_owned());
    }
}

impl Delivery {
    /// Topics that one session may listen to.
    #[must_use]
    pub fn topics_max(&self) -> usize {
        self.inner.options.topics_max
    }

    /// The same of a session that speaks like this.
    pub(super) fn topics_max_of(&self, dialect: Dialect) -> usize {
        let topics_max = self.topics_max();
        if dialect == Dialect::Events { topics_max.min(STREAM_TOPICS_MAX) } else { topics_max }
    }

    /// Whether a token lets its bearer listen to a channel at all.
    #[must_use]
    pub fn may_follow(&self, identity: &Identity, channel: &Channel) -> bool {
        let topic = || channel.topic_name().is_some() && identity.topics.allows(channel);
        *channel == identity.user || *channel == Channel::all() || topic()
    }

    /// The channels of the topics that the session may listen to.
    pub(super) fn allowed(
        &self,
        session: &Session,
        granted: &Grant,
        topics: &[String],
        refused: &mut Refused,
    ) -> Vec<Channel> {
        let topics_max = self.topics_max_of(session.dialect());
        let mut channels: Vec<Channel> = Vec::new();
        for topic in topics {
            match Channel::topic(topic) {
                Err(_) => refused.add(Refusal::Invalid, topic),
                Ok(channel) if !granted.allows(&channel) => refused.add(Refusal::NotAllowed, topic),
                Ok(channel) if channels.contains(&channel) => {}
                Ok(_) if channels.len() >= topics_max => {
                    refused.add(Refusal::TooMany, topic);
                }
                Ok(channel) => channels.push(channel),
            }
        }
        channels
    }

    /// Tells a session what it does not get to listen to. A plain client is
    /// closed: it has no other way to find out.
    pub(super) fn tell_refused(&self, session: &Arc<Session>, refused: &Refused, plain_is_closed: bool) {
        for (refusal, topics) in &refused.0 {
            self.inner.metrics.subscriptions_refused.with(refusal.label()).increment(topics.len() as u64);
            if plain_is_closed {
                session.close(refusal.close_code(), refusal.advice());
                return;
            }
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            let (code, message) = (refusal.code(), refusal.advice());
            session.tell(&ServerFrame::Error { code, message, topics: &topics });
        }
    }

    /// Takes `subscribe` and `unsubscribe` frames.
    pub(super) fn take_wish(&self, session: &Arc<Session>, frame: ClientFrame) {
        let Some(frame) = self.inner.registry.keep_early(session.id(), frame, EARLY_MAX) else { return };
        self.fulfil(session, frame);
    }

    /// Does what a greeted session asks for.
    pub(super) fn fulfil(&self, session: &Arc<Session>, frame: ClientFrame) {
        if !self.inner.registry.is_attached(session.id()) {
            let message = "the session has not begun: send auth or resume first";
            return session.send(ServerFrame::Error { code: "not_started", message, topics: &[] }.encode());
        }
        match frame {
            ClientFrame::Subscribe { topics, positions, from } => {
                self.subscribe(session, &Asked { topics, positions, from, last: None });
            }
            ClientFrame::Unsubscribe { topics } => self.unsubscribe(session, &topics),
            _ => {}
        }
    }

    fn subscribe(&self, session: &Arc<Session>, asked: &Asked) {
        let Some(identity) = session.identity() else { return };
        let mut refused = Refused::default();
        let (mut joining, mut listening) = (Vec::new(), Vec::new());
        let granted = self.inner.registry.granted(session.id());
        let granted = granted.as_ref().unwrap_or(&identity.topics);
        let topics_max = self.topics_max_of(session.dialect());
        for channel in self.allowed(session, granted, &asked.topics, &mut refused) {
            match self.inner.registry.place(session.id(), &channel, topics_max) {
                Place::Free => {
                    let start = asked.start(identity, &channel);
                    let one = self.begin(session, channel, start);
                    match self.inner.registry.listen(session.id(), &one.held) {
                        Place::Free => joining.push(one),
                        place => {
                            one.held.remove(session.id());
                            self.inner.directory.changed(&one.held.channel, self.inner.options.linger);
                            if place == Place::Away {
                                return;
                            }
                            refused
                                .add(Refusal::NotAllowed, one.held.channel.topic_name().unwrap_or_default());
                        }
                    }
                }
                Place::Taken => listening.push(channel),
                Place::Full => refused.add(Refusal::TooMany, channel.topic_name().unwrap_or_default()),
                Place::Denied => refused.add(Refusal::NotAllowed, channel.topic_name().unwrap_or_default()),
                Place::Away => return,
            }
        }
        self.tell_refused(session, &refused, false);
        if joining.is_empty() && listening.is_empty() {
            return;
        }
        self.gauge_held();
        self.inner.tasks.spawn(self.clone().listen(session.clone(), joining, listening));
    }

    /// Reads the mailboxes of topics and follows them.
    async fn listen(self, session: Arc<Session>, joining: Vec<Joining>, listening: Vec<Channel>) {
        let count = joining.len();
        let mut refused = Refused::default();
        let mut pages = Vec::new();
        for (joining, page) in self.join_all(&session, joining).await {
            match page {
                Ok(page) => pages.push((joining, page)),
                Err(error) => {
                    let channel = &joining.held.channel;
                    tracing::warn!(%channel, %error, "a session could not listen to a topic");
                    refused.add(Refusal::Store, channel.topic_name().unwrap_or_default());
                    if joining.held.has(session.id(), joining.ticket) {
                        self.stop_listening(&session, channel);
                    }
                }
            }
        }
        self.tell_refused(&session, &refused, false);
        // What was given up meanwhile was answered already.
        pages.retain(|(joining, _)| joining.held.has(session.id(), joining.ticket));
        if !pages.is_empty() || !listening.is_empty() {
            let begun = Begun::of(&pages);
            let listening = listening.iter().filter_map(Channel::topic_name);
            let joined = pages.iter().filter_map(|(joining, _)| joining.held.channel.topic_name());
            let subscribed = ServerFrame::Subscribed {
                topics: joined.chain(listening).collect(),
                resumed: begun.resumed(),
                positions: begun.positions,
            };
            session.send(subscribed.encode());
        }
        if let Err(OpenError::Store(error)) = self.replay_all(&session, pages).await {
            tracing::warn!(%error, "a session could not read the mailboxes of its topics");
            session.close(CloseCode::STORE_AWAY, "what you missed cannot be read now");
        }
        for _ in 0..count {
            self.inner.registry.read(session.id());
        }
    }

    fn unsubscribe(&self, session: &Arc<Session>, topics: &[String]) {
        for topic in topics {
            if let Ok(channel) = Channel::topic(topic) {
                self.stop_listening(session, &channel);
            }
        }
        let topics = topics.iter().map(String::as_str).collect();
        session.send(ServerFrame::Unsubscribed { topics }.encode());
    }

    /// A session that showed a fresh token may listen to what that grants, and to
    /// nothing else any more.
    pub fn grant(&self, session: &Arc<Session>, topics: Grant) {
        let denied = self.inner.registry.grant(session.id(), topics);
        if denied.is_empty() {
            return;
        }
        let mut refused = Refused::default();
        for channel in &denied {
            self.stop_listening(session, channel);
            refused.add(Refusal::NotAllowed, channel.topic_name().unwrap_or_default());
        }
        let topics = denied.iter().filter_map(Channel::topic_name).collect();
        session.send(ServerFrame::Unsubscribed { topics }.encode());
        self.tell_refused(session, &refused, false);
    }

    fn stop_listening(&self, session: &Arc<Session>, channel: &Channel) {
        if let Some(held) = self.inner.registry.unlisten(session.id(), channel) {
            held.remove(session.id());
            self.inner.directory.changed(channel, self.inner.options.linger);
        }
    }
}
