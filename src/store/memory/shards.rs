//! All channels, spread over locks.
//!
//! Each call locks one shard and never waits under it. The bytes of everything
//! kept are added up in one counter; past the cap, appends are refused until
//! messages expire, are trimmed or collapse.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::protocol::Channel;
use crate::store::Limits;

use super::channel::State;
use super::clock::{Circumstances, Clock, Now};

/// Few enough to visit all, many enough that threads rarely meet.
const SHARDS: usize = 64;
/// How often a shard that is in use is tidied: expired messages of channels
/// that nobody touches go, and channels idle for their retention.
const TIDY_PERIOD_MS: u64 = 10_000;
/// How often everything is tidied at most while the store is full.
const TIDY_ALL_PERIOD_MS: u64 = 1_000;

#[derive(Debug, Clone, Default)]
struct Shard {
    channels: HashMap<Channel, State>,
    tidy_at_ms: u64,
}

/// The channels, with the clock and limits that they live by.
#[derive(Debug)]
pub(super) struct Shards {
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    shards: Box<[Mutex<Shard>]>,
    run: AtomicU64,
    bytes: AtomicUsize,
    bytes_max: usize,
    tidy_all_at_ms: AtomicU64,
}

/// A copy of all channels.
#[derive(Debug, Clone)]
pub(super) struct Copy(Vec<Shard>);

impl Shards {
    pub(super) fn new(limits: Limits, bytes_max: usize) -> Self {
        Self {
            clock: Clock::start(),
            limits,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            run: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            bytes_max,
            tidy_all_at_ms: AtomicU64::new(0),
        }
    }

    /// Calls `change` with the channel's state, made if it was not there, and
    /// forgets the channel again if nothing worth keeping came of it.
    pub(super) fn change<T>(
        &self,
        channel: &Channel,
        change: impl FnOnce(&mut State, Circumstances<'_>) -> T,
    ) -> T {
        let mut shard = self.shard(channel);
        // Taken under the lock, so that time never goes back within a channel.
        let at = self.circumstances(self.clock.now());
        self.tidy_if_due(&mut shard, at);
        let state = match shard.channels.get_mut(channel) {
            Some(state) => state,
            None => shard.channels.entry(channel.clone()).or_default(),
        };
        let before = state.counted_bytes();
        if state.is_over(at) {
            *state = State::default();
        }
        let result = change(state, at);
        if state.is_over(at) {
            shard.channels.remove(channel);
            self.count(before, 0);
        } else {
            self.count(before, state.count_bytes());
        }
        result
    }

    /// Calls `look` with the channel's state, if there is one.
    pub(super) fn look<T>(&self, channel: &Channel, look: impl FnOnce(&State) -> T) -> Option<T> {
        let shard = self.shard(channel);
        let at = self.circumstances(self.clock.now());
        shard.channels.get(channel).filter(|state| !state.is_over(at)).map(look)
    }

    /// Whether `more` bytes can be kept.
    pub(super) fn has_room(&self, more: usize) -> bool {
        let fits = || self.bytes.load(Ordering::Relaxed).saturating_add(more) <= self.bytes_max;
        fits() || (self.tidy_all() && fits())
    }

    /// Counts a change from `before` to `after` bytes.
    pub(super) fn count(&self, before: usize, after: usize) {
        if after >= before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The channels that something was pushed to, of one shard, and the next
    /// shard to ask for, 0 behind the last.
    pub(super) fn channels(&self, cursor: u64) -> (u64, Vec<Channel>) {
        let index = usize::try_from(cursor).unwrap_or(usize::MAX);
        let Some(shard) = self.shards.get(index) else { return (0, Vec::new()) };
        let known = |(channel, state): (&Channel, &State)| state.head().map(|_| channel.clone());
        let mut channels: Vec<_> = lock(shard).channels.iter().filter_map(known).collect();
        // So that a seeded simulation sees the same each time.
        channels.sort();
        let next = if index + 1 < self.shards.len() { cursor + 1 } else { 0 };
        (next, channels)
    }

    /// Calls `visit` while nothing else happens to any channel.
    pub(super) fn with_all<T>(&self, visit: impl FnOnce(AllShards<'_>) -> T) -> T {
        visit(AllShards { shards: self, locked: self.shards.iter().map(lock).collect() })
    }

    fn circumstances(&self, now: Now) -> Circumstances<'_> {
        Circumstances { now, run: self.run.load(Ordering::Relaxed), limits: &self.limits }
    }

    fn shard(&self, channel: &Channel) -> MutexGuard<'_, Shard> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(channel);
        lock(&self.shards[hash as usize % SHARDS])
    }

    fn tidy_if_due(&self, shard: &mut Shard, at: Circumstances<'_>) {
        let now_ms = at.now.ms();
        if now_ms >= shard.tidy_at_ms {
            shard.tidy_at_ms = now_ms + TIDY_PERIOD_MS.min(self.limits.channel_retention_ms);
            self.tidy(shard, at);
        }
    }

    fn tidy(&self, shard: &mut Shard, at: Circumstances<'_>) {
        shard.channels.retain(|_, state| {
            let before = state.counted_bytes();
            if state.is_over(at) {
                self.count(before, 0);
                return false;
            }
            state.tidy(at.now);
            self.count(before, state.count_bytes());
            true
        });
    }

    /// Tidies every shard, unless that was done a moment ago.
    fn tidy_all(&self) -> bool {
        let at = self.circumstances(self.clock.now());
        let due = self.tidy_all_at_ms.load(Ordering::Relaxed);
        let next = at.now.ms() + TIDY_ALL_PERIOD_MS;
        let exchange =
            |due| self.tidy_all_at_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        if at.now.ms() < due || exchange(due).is_err() {
            return false;
        }
        self.shards.iter().for_each(|shard| self.tidy(&mut lock(shard), at));
        true
    }
}

/// All channels, held still.
pub(super) struct AllShards<'a> {
    shards: &'a Shards,
    locked: Vec<MutexGuard<'a, Shard>>,
}

impl AllShards<'_> {
    pub(super) fn copy(&self) -> Copy {
        Copy(self.locked.iter().map(|shard| Shard::clone(shard)).collect())
    }

    /// Begins a new life with what was copied.
    pub(super) fn restart(&mut self, copy: &Copy) {
        self.shards.run.fetch_add(1, Ordering::Relaxed);
        let bytes = |shard: &Shard| shard.channels.values().map(State::counted_bytes).sum();
        for (shard, copied) in self.locked.iter_mut().zip(&copy.0) {
            self.shards.count(bytes(shard), bytes(copied));
            **shard = copied.clone();
        }
    }
}

/// Nothing that runs under the store's locks panics.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing that runs under this lock panics")
}
