//! One timer for all sessions of a node.
//!
//! Buckets of a tenth of a second in a ring: a turn costs what is due in it, not
//! what there is, and a session at rest costs two words. A session is in at most
//! one bucket that counts; being woken earlier leaves the later place behind as
//! stale. The wheel keeps no session alive.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Session;

/// A session that is in no bucket.
pub(super) const NEVER: u64 = u64::MAX;

const TURN: Duration = Duration::from_millis(100);
/// The ring spans almost a minute; who is due later is asked once in between.
const BUCKETS: u64 = 512;
/// Sessions asked before other tasks get their turn.
const ASKED_AT_ONCE: usize = 64;

/// A node's wheel; clones are the same wheel.
#[derive(Clone)]
pub struct Wheel {
    shared: Arc<Shared>,
}

struct Shared {
    started_at: Instant,
    ring: Mutex<Ring>,
}

struct Ring {
    /// The last turn made.
    turn: u64,
    buckets: Vec<Vec<Weak<Session>>>,
}

impl std::fmt::Debug for Wheel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wheel").finish_non_exhaustive()
    }
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new()
    }
}

impl Wheel {
    /// A wheel that starts now.
    #[must_use]
    pub fn new() -> Self {
        let buckets = std::iter::repeat_with(Vec::new).take(BUCKETS as usize).collect();
        let ring = Mutex::new(Ring { turn: 0, buckets });
        Self { shared: Arc::new(Shared { started_at: Instant::now(), ring }) }
    }

    /// Takes care of a session until it is gone.
    pub fn add(&self, session: &Arc<Session>) {
        if session.wheel.set(self.clone()).is_ok() {
            // The first tick tells when the next is wanted.
            self.wake(session, Instant::now());
        }
    }

    /// Asks a session no later than `at`, to a tenth of a second.
    pub fn wake(&self, session: &Arc<Session>, at: Instant) {
        let since = at.saturating_duration_since(self.shared.started_at).as_millis();
        let turn = u64::try_from(since.div_ceil(TURN.as_millis())).unwrap_or(NEVER);
        let mut ring = self.lock();
        let turn = turn.clamp(ring.turn + 1, ring.turn + BUCKETS - 1);
        // Relaxed: the wheel's lock orders all access.
        if turn >= session.due_turn.load(Ordering::Relaxed) {
            return;
        }
        session.due_turn.store(turn, Ordering::Relaxed);
        // A session that is woken often goes back to the same heartbeat each
        // time: its place there is still its own.
        let parked = session.parked_turn.load(Ordering::Relaxed);
        if turn != parked {
            session.parked_turn.store(turn.max(parked), Ordering::Relaxed);
            ring.buckets[(turn % BUCKETS) as usize].push(Arc::downgrade(session));
        }
    }

    /// Turns until cancelled. Stop it last: without it no session times out.
    pub async fn run(self, cancel: CancellationToken) {
        let mut interval = tokio::time::interval(TURN);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        let mut skipped = false;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = interval.tick() => {
                    // Not what the interval returns, which is when it was due.
                    let now = Instant::now();
                    let late = now.saturating_duration_since(last) > 3 * TURN;
                    last = now;
                    // The process stood still. What peers sent meanwhile is in
                    // the sockets: let it be read before anyone is called silent.
                    // Once only, or a busy node would never turn.
                    skipped = late && !skipped;
                    if !skipped {
                        self.turn_to(now).await;
                    }
                }
            }
        }
    }

    async fn turn_to(&self, now: Instant) {
        let since = now.saturating_duration_since(self.shared.started_at).as_millis();
        let last = u64::try_from(since / TURN.as_millis()).unwrap_or(NEVER);
        while let Some((turn, bucket)) = self.next_bucket(last) {
            for (index, session) in bucket.into_iter().enumerate() {
                if index % ASKED_AT_ONCE == ASKED_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
                let Some(session) = session.upgrade() else { continue };
                if self.claim(&session, turn)
                    && let Some(at) = session.tick(now)
                {
                    self.wake(&session, at);
                }
            }
        }
    }

    fn next_bucket(&self, last: u64) -> Option<(u64, Vec<Weak<Session>>)> {
        let mut ring = self.lock();
        if ring.turn >= last {
            return None;
        }
        ring.turn += 1;
        let turn = ring.turn;
        Some((turn, std::mem::take(&mut ring.buckets[(turn % BUCKETS) as usize])))
    }

    /// Whether the session is really due in this turn, and not only was.
    fn claim(&self, session: &Session, turn: u64) -> bool {
        let _ring = self.lock();
        let due = session.due_turn.load(Ordering::Relaxed) == turn;
        if due {
            session.due_turn.store(NEVER, Ordering::Relaxed);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::protocol::frame::{ClientFrame, Dialect, Outgoing};
    use crate::protocol::{Channel, Position, SessionId};
    use crate::session::pipe::pipe;
    use crate::session::{Ending, Events, Options};

    struct Deaf;

    impl Events for Deaf {
        fn written(&self, _: &Arc<Session>, _: &[Arc<Outgoing>]) {}
        fn confirmed(&self, _: &Arc<Session>, _: &Channel, _: Position) {}
        fn frame(&self, _: &Arc<Session>, _: ClientFrame) {}
        fn closed(&self, _: &Arc<Session>, _: Ending) {}
    }

    fn session() -> Arc<Session> {
        let (near, _far) = pipe(64);
        let options = Arc::new(Options::default());
        let metrics = Metrics::new("0", "none");
        // Its low bits put the first heartbeat at the end of the interval.
        let id = SessionId::from_bits(0xffff);
        Session::new(id, Dialect::Plain, Box::new(near), options, Arc::new(Deaf), &metrics)
    }

    impl Wheel {
        fn places(&self) -> usize {
            self.lock().buckets.iter().map(Vec::len).sum()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn being_woken_often_leaves_no_trail() {
        let (wheel, session) = (Wheel::new(), session());
        wheel.add(&session);
        for _ in 0..100 {
            wheel.wake(&session, Instant::now());
            tokio::time::advance(TURN).await;
            wheel.turn_to(Instant::now()).await;
        }
        assert_eq!(wheel.places(), 1, "the heartbeat's");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_wake_counts_and_no_session_is_forgotten() {
        let (wheel, session) = (Wheel::new(), session());
        let now = Instant::now();
        wheel.wake(&session, now + Duration::from_secs(10));
        wheel.wake(&session, now + Duration::from_secs(5));
        wheel.wake(&session, now + Duration::from_secs(7));
        assert_eq!(session.due_turn.load(Ordering::Relaxed), 50);
        wheel.turn_to(now + Duration::from_secs(6)).await;
        let heartbeat = session.due_turn.load(Ordering::Relaxed);
        assert_eq!(heartbeat, 250, "asked at five seconds, it wants to be asked at its heartbeat");
        wheel.wake(&session, now + Duration::from_secs(100_000));
        assert_eq!(session.due_turn.load(Ordering::Relaxed), heartbeat);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_due_beyond_the_ring_is_asked_in_between() {
        let (wheel, session) = (Wheel::new(), session());
        wheel.wake(&session, Instant::now() + Duration::from_secs(3_600));
        assert_eq!(session.due_turn.load(Ordering::Relaxed), BUCKETS - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wheel_keeps_no_session_alive() {
        let (wheel, session) = (Wheel::new(), session());
        wheel.add(&session);
        let weak = Arc::downgrade(&session);
        drop(session);
        assert!(weak.upgrade().is_none());
        wheel.turn_to(Instant::now() + Duration::from_secs(1)).await;
        assert_eq!(wheel.places(), 0);
    }
}
