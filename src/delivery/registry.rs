//! Which sessions and channels this node has.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::protocol::frame::{ClientFrame, Dialect};
use crate::protocol::{Channel, Grant, SessionId};
use crate::session::Session;

use super::held::Held;

/// Enough that a busy lock is rare, few enough that visiting all is cheap.
const SHARDS: usize = 64;

/// Sharded maps; no lock is held while another of this module is taken.
pub(super) struct Registry {
    hasher: RandomState,
    channels: Vec<Mutex<HashMap<Channel, Arc<Held>>>>,
    sessions: Vec<Mutex<HashMap<SessionId, Attached>>>,
    /// By dialect.
    sessions_len: [AtomicUsize; Dialect::ALL.len()],
    channels_len: AtomicUsize,
    generation: AtomicU64,
}

/// A session and the channels it listens to.
pub(super) struct Attached {
    pub(super) session: Arc<Session>,
    pub(super) channels: Vec<Arc<Held>>,
    /// The topics that a fresh token grants; none while the first one counts.
    granted: Option<Grant>,
    /// What it asked for before its `hello` was sent; none once it was.
    early: Option<Vec<ClientFrame>>,
    /// Topics whose mailboxes are being read for it, given up meanwhile or not.
    reading: usize,
}

/// What became of a wish to listen to one more topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// There is a place for it.
    Free,
    /// It listens to it already.
    Taken,
    /// It listens to as many as it may.
    Full,
    /// A fresh token grants it no longer.
    Denied,
    /// It is not attached, or no longer.
    Away,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            channels: (0..SHARDS).map(|_| Mutex::default()).collect(),
            sessions: (0..SHARDS).map(|_| Mutex::default()).collect(),
            sessions_len: Default::default(),
            channels_len: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
        }
    }
}

impl Registry {
    fn channel_shard(&self, channel: &Channel) -> MutexGuard<'_, HashMap<Channel, Arc<Held>>> {
        let at = self.hasher.hash_one(channel) as usize % SHARDS;
        self.channels[at].lock().expect("no panic while held")
    }

    fn session_shard(&self, session: SessionId) -> MutexGuard<'_, HashMap<SessionId, Attached>> {
        // The low bits of a ULID are random.
        let at = session.bits() as usize % SHARDS;
        self.sessions[at].lock().expect("no panic while held")
    }

    /// The next registration's number: grows for as long as the process lives.
    pub(super) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The held channel, if it is held.
    pub(super) fn get(&self, channel: &Channel) -> Option<Arc<Held>> {
        self.channel_shard(channel).get(channel).cloned()
    }

    /// Holds a channel for a session: `with` runs on it while it cannot be
    /// [released](Self::release).
    pub(super) fn hold<T>(&self, channel: &Channel, with: impl FnOnce(&Arc<Held>) -> T) -> (Arc<Held>, T) {
        let mut shard = self.channel_shard(channel);
        let held = shard.entry(channel.clone()).or_insert_with(|| {
            self.channels_len.fetch_add(1, Ordering::Relaxed);
            Arc::new(Held::new(channel.clone()))
        });
        let result = with(held);
        (held.clone(), result)
    }

    /// How many sessions a channel has, with the generation to register that
    /// under; none without any.
    pub(super) fn registration(&self, channel: &Channel) -> Option<(u32, u64)> {
        let shard = self.channel_shard(channel);
        let registration = |sessions| (sessions > 0).then(|| (sessions, self.next_generation()));
        shard.get(channel)?.with_sessions(registration)
    }

    /// Stops holding a channel if it has no sessions. Returns how many it has,
    /// with the generation to register that under: lower than any that a
    /// session which comes later will get.
    pub(super) fn release(&self, channel: &Channel) -> (u32, u64) {
        let mut shard = self.channel_shard(channel);
        let Some(held) = shard.get(channel) else { return (0, self.next_generation()) };
        let (sessions, generation) = held.with_sessions(|sessions| (sessions, self.next_generation()));
        if sessions == 0 {
            shard.remove(channel);
            self.channels_len.fetch_sub(1, Ordering::Relaxed);
        }
        (sessions, generation)
    }

    /// Remembers which channels a session listens to. What it asks for waits
    /// until it is [greeted](Self::greeted).
    pub(super) fn attach(&self, session: &Arc<Session>, channels: Vec<Arc<Held>>) {
        let attached = Attached {
            session: session.clone(),
            channels,
            granted: None,
            early: Some(Vec::new()),
            reading: 0,
        };
        if self.session_shard(session.id()).insert(session.id(), attached).is_none() {
            self.count(session).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets a session.
    pub(super) fn detach(&self, session: SessionId) -> Option<Attached> {
        let attached = self.session_shard(session).remove(&session)?;
        self.count(&attached.session).fetch_sub(1, Ordering::Relaxed);
        Some(attached)
    }

    fn count(&self, session: &Session) -> &AtomicUsize {
        &self.sessions_len[session.dialect() as usize]
    }

    /// The held channel, if that session listens to it.
    pub(super) fn channel_of(&self, session: SessionId, channel: &Channel) -> Option<Arc<Held>> {
        let shard = self.session_shard(session);
        shard.get(&session)?.channels.iter().find(|held| held.channel == *channel).cloned()
    }

    /// Keeps a frame of a session that was not greeted yet, `frames_max` at most;
    /// hands it back when it is its turn now.
    pub(super) fn keep_early(
        &self,
        session: SessionId,
        frame: ClientFrame,
        frames_max: usize,
    ) -> Option<ClientFrame> {
        let mut shard = self.session_shard(session);
        match shard.get_mut(&session).and_then(|attached| attached.early.as_mut()) {
            Some(early) if early.len() < frames_max => {
                early.push(frame);
                None
            }
            _ => Some(frame),
        }
    }

    /// What a session asked for meanwhile: none when nothing waits any more, and
    /// from then on nothing will.
    pub(super) fn greeted(&self, session: SessionId) -> Option<Vec<ClientFrame>> {
        let mut shard = self.session_shard(session);
        let attached = shard.get_mut(&session)?;
        let early = attached.early.as_mut().map(std::mem::take);
        early.filter(|early| !early.is_empty()).or_else(|| {
            attached.early = None;
            None
        })
    }

    /// Whether a session may listen to one more topic.
    pub(super) fn place(&self, session: SessionId, topic: &Channel, topics_max: usize) -> Place {
        let shard = self.session_shard(session);
        let Some(attached) = shard.get(&session) else { return Place::Away };
        if attached.channels.iter().any(|held| held.channel == *topic) {
            return Place::Taken;
        }
        let topics = attached.channels.iter().filter(|held| held.channel.topic_name().is_some()).count();
        // Twice as many readings: so many may have been given up, and no more, or
        // whoever comes and goes all the time would have the store do without end.
        if topics < topics_max && attached.reading < topics_max * 2 { Place::Free } else { Place::Full }
    }

    /// A session listens to one more channel, whose mailbox is read for it until
    /// [`read`](Self::read), unless there is no place for it any more.
    pub(super) fn listen(&self, session: SessionId, held: &Arc<Held>) -> Place {
        let mut shard = self.session_shard(session);
        let Some(attached) = shard.get_mut(&session) else { return Place::Away };
        if attached.granted.as_ref().is_some_and(|granted| !granted.allows(&held.channel)) {
            return Place::Denied;
        }
        attached.channels.push(held.clone());
        attached.reading += 1;
        Place::Free
    }

    /// The topics that a session may listen to, if a fresh token said so.
    pub(super) fn granted(&self, session: SessionId) -> Option<Grant> {
        self.session_shard(session).get(&session)?.granted.clone()
    }

    /// From now on a session may listen to other topics. Returns those that it
    /// listens to and may not.
    pub(super) fn grant(&self, session: SessionId, granted: Grant) -> Vec<Channel> {
        let mut shard = self.session_shard(session);
        let Some(attached) = shard.get_mut(&session) else { return Vec::new() };
        let channels = attached.channels.iter().map(|held| &held.channel);
        let denied = |channel: &&Channel| channel.topic_name().is_some() && !granted.allows(channel);
        let denied = channels.filter(denied).cloned().collect();
        attached.granted = Some(granted);
        denied
    }

    /// One of a session's mailboxes was read to its end, or given up.
    pub(super) fn read(&self, session: SessionId) {
        if let Some(attached) = self.session_shard(session).get_mut(&session) {
            attached.reading = attached.reading.saturating_sub(1);
        }
    }

    /// A session no longer listens to a channel; none if it did not.
    pub(super) fn unlisten(&self, session: SessionId, channel: &Channel) -> Option<Arc<Held>> {
        let mut shard = self.session_shard(session);
        let channels = &mut shard.get_mut(&session)?.channels;
        let at = channels.iter().position(|held| held.channel == *channel)?;
        Some(channels.swap_remove(at))
    }

    pub(super) fn is_attached(&self, session: SessionId) -> bool {
        self.session_shard(session).contains_key(&session)
    }

    pub(super) fn sessions_len(&self) -> usize {
        Dialect::ALL.iter().map(|dialect| self.sessions_len_of(*dialect)).sum()
    }

    pub(super) fn sessions_len_of(&self, dialect: Dialect) -> usize {
        self.sessions_len[dialect as usize].load(Ordering::Relaxed)
    }

    pub(super) fn channels_len(&self) -> usize {
        self.channels_len.load(Ordering::Relaxed)
    }

    /// Up to `count` held channels, any of them.
    pub(super) fn sample(&self, count: usize) -> Vec<Arc<Held>> {
        let first = rand::random_range(0..SHARDS);
        let shards = self.channels.iter().cycle().skip(first).take(SHARDS);
        let one_of = |shard: &Mutex<HashMap<Channel, Arc<Held>>>| {
            let shard = shard.lock().expect("no panic while held");
            let last = shard.len().checked_sub(1)?;
            shard.values().nth(rand::random_range(0..=last)).cloned()
        };
        shards.filter_map(one_of).take(count).collect()
    }

    /// Every session, a shard at a time.
    pub(super) fn sessions(&self) -> impl Iterator<Item = Arc<Session>> + '_ {
        self.sessions.iter().flat_map(|shard| {
            let shard = shard.lock().expect("no panic while held");
            shard.values().map(|attached| attached.session.clone()).collect::<Vec<_>>()
        })
    }

    /// Every held channel, a shard at a time.
    pub(super) fn channels(&self) -> impl Iterator<Item = Arc<Held>> + '_ {
        self.channels.iter().flat_map(|shard| {
            let shard = shard.lock().expect("no panic while held");
            shard.values().cloned().collect::<Vec<_>>()
        })
    }
}
