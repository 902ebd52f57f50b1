//! Which sessions and channels this node has.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::protocol::{Channel, SessionId};
use crate::session::Session;

use super::held::Held;

/// Enough that a busy lock is rare, few enough that visiting all is cheap.
const SHARDS: usize = 64;

/// Sharded maps; no lock is held while another of this module is taken.
pub(super) struct Registry {
    hasher: RandomState,
    channels: Vec<Mutex<HashMap<Channel, Arc<Held>>>>,
    sessions: Vec<Mutex<HashMap<SessionId, Attached>>>,
    sessions_len: AtomicUsize,
    channels_len: AtomicUsize,
    generation: AtomicU64,
}

/// A session and the channels it listens to.
#[derive(Clone)]
pub(super) struct Attached {
    pub(super) session: Arc<Session>,
    pub(super) channels: Vec<Arc<Held>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            channels: (0..SHARDS).map(|_| Mutex::default()).collect(),
            sessions: (0..SHARDS).map(|_| Mutex::default()).collect(),
            sessions_len: AtomicUsize::new(0),
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

    /// Remembers which channels a session listens to.
    pub(super) fn attach(&self, session: &Arc<Session>, channels: Vec<Arc<Held>>) {
        let attached = Attached { session: session.clone(), channels };
        if self.session_shard(session.id()).insert(session.id(), attached).is_none() {
            self.sessions_len.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets a session.
    pub(super) fn detach(&self, session: SessionId) -> Option<Attached> {
        let attached = self.session_shard(session).remove(&session);
        if attached.is_some() {
            self.sessions_len.fetch_sub(1, Ordering::Relaxed);
        }
        attached
    }

    /// The held channel, if that session listens to it.
    pub(super) fn channel_of(&self, session: SessionId, channel: &Channel) -> Option<Arc<Held>> {
        let shard = self.session_shard(session);
        shard.get(&session)?.channels.iter().find(|held| held.channel == *channel).cloned()
    }

    pub(super) fn is_attached(&self, session: SessionId) -> bool {
        self.session_shard(session).contains_key(&session)
    }

    pub(super) fn sessions_len(&self) -> usize {
        self.sessions_len.load(Ordering::Relaxed)
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
