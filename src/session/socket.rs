//! The session as others hold it: queue, flush, send, close.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use metrics::{Counter, Gauge};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::confirm::Confirm;
use super::run::Run;
use super::state::{After, Next, Phase, State};
use super::{Ending, Events, Identity, Options, Wheel, Wire};
use crate::metrics::Metrics;
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Dialect, Outgoing, ServerFrame};
use crate::protocol::{SessionId, ws};

/// Writes that one flush makes before it leaves the rest to the session's task,
/// so that a fast reader cannot keep a router's thread to itself.
const WRITES_PER_FLUSH_MAX: usize = 32;

/// One live socket. See the [module](super).
pub struct Session {
    id: SessionId,
    dialect: Dialect,
    pub(super) wire: Box<dyn Wire>,
    pub(super) options: Arc<Options>,
    pub(super) events: Arc<dyn Events>,
    outbox_bytes: Gauge,
    pub(super) frames_paced: Counter,
    identity: OnceLock<Identity>,
    state: Mutex<State>,
    room: Notify,
    /// Bytes came from the peer since the wheel last asked.
    pub(super) heard: AtomicBool,
    /// Messages written so far, for the log: four billion will do.
    messages_written: AtomicU32,
    pub(super) wheel: OnceLock<Wheel>,
    /// The wheel's turn that this session is due at; guarded by the wheel's lock.
    pub(super) due_turn: AtomicU64,
    /// The last turn whose bucket holds this session, due or not; guarded likewise.
    pub(super) parked_turn: AtomicU64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session over an upgraded connection. It reads nothing until
    /// [`Session::run`] is polled, and times nothing until [`Wheel::add`].
    #[must_use]
    pub fn new(
        id: SessionId,
        dialect: Dialect,
        wire: Box<dyn Wire>,
        options: Arc<Options>,
        events: Arc<dyn Events>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let first_ping_at = Instant::now() + jitter(id, options.heartbeat_interval);
        Arc::new(Self {
            id,
            dialect,
            wire,
            options,
            events,
            outbox_bytes: metrics.outbox_bytes.clone(),
            frames_paced: metrics.frames_paced.clone(),
            identity: OnceLock::new(),
            state: Mutex::new(State::new(dialect, first_ping_at)),
            room: Notify::new(),
            heard: AtomicBool::new(false),
            messages_written: AtomicU32::new(0),
            wheel: OnceLock::new(),
            due_turn: AtomicU64::new(super::wheel::NEVER),
            parked_turn: AtomicU64::new(0),
        })
    }

    /// The session's name.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What the client understands.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whose the session is, once that is known.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.get()
    }

    /// Says whose the session is; the first word counts. From here on, what is
    /// written to a plain client that named its device is confirmed by Ping.
    pub fn identify(&self, identity: Identity) {
        let confirms = self.dialect == Dialect::Plain && identity.device.is_some();
        if self.identity.set(identity).is_ok() && confirms {
            self.lock().confirm = Some(Box::new(Confirm::default()));
        }
    }

    /// Whether the session takes no more messages.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.lock().phase != Phase::Open
    }

    /// How the session ended, or would if its connection broke now.
    #[must_use]
    pub fn ending(&self) -> Ending {
        self.lock().ending.unwrap_or(Ending::Lost)
    }

    /// Messages that were written to the socket in full.
    #[must_use]
    pub fn messages_written(&self) -> u32 {
        self.messages_written.load(Ordering::Relaxed)
    }

    /// Bytes that wait for the socket.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.lock().outbox.bytes()
    }

    /// Writes as much as the socket takes now. Harmless when somebody else is
    /// at it: they write this session's frames too, in order.
    pub fn flush(self: &Arc<Self>) {
        for round in 0..WRITES_PER_FLUSH_MAX {
            let mut after = After::default();
            let next = {
                let mut state = self.lock();
                if round == 0 {
                    if state.flushing || state.phase == Phase::Gone {
                        return;
                    }
                    state.flushing = true;
                }
                let next = state.write(&*self.wire, &self.options, &mut after);
                self.gauge(&mut state);
                next
            };
            self.settle(after);
            if next == Next::Stop {
                return;
            }
        }
        self.with_state(|state, after| state.hand_over(&self.options, after));
    }

    /// Closes behind what waits: the rest of the outbox is written first, if
    /// the socket has kept up lately, and then the peer has a moment to agree.
    pub fn close(self: &Arc<Self>, code: CloseCode, reason: &str) {
        let late =
            self.lock().behind_since.is_some_and(|since| since.elapsed() >= self.options.token_stall_max);
        self.close_with(code, reason, late);
    }

    /// Closes; an `impatient` close waits for no socket that takes nothing.
    pub(super) fn close_with(self: &Arc<Self>, code: CloseCode, reason: &str, impatient: bool) {
        let frame = match self.dialect {
            Dialect::Plain | Dialect::Envelope => ws::encode_close(code, reason),
            Dialect::Events => ServerFrame::Close { code: code.get(), reason }.encode_event(),
        };
        let timeout = self.options.close_timeout;
        self.with_state(|state, after| state.close(Ending::Ours(code), frame, impatient, timeout, after));
        self.flush();
    }

    /// Resolves when the outbox is at most half full, or the session is closing.
    pub async fn room(&self) {
        self.until(|state| state.has_room(&self.options)).await;
    }

    /// Resolves when the outbox is at most half full and takes this message as
    /// well, or the session is closing: what paces a replay. Writes what waits,
    /// so that nothing but the socket can keep it waiting.
    pub async fn room_for(self: &Arc<Self>, outgoing: &Outgoing) {
        let len = outgoing.frame(self.dialect).len();
        let ready = |state: &State| state.has_room_for(len, &self.options);
        let at_once = ready(&self.lock());
        if !at_once {
            self.flush();
            self.until(ready).await;
        }
    }

    /// Whether there is room for a message now; writes what waits if need be. A
    /// session that is closing takes everything.
    pub fn takes_at_once(self: &Arc<Self>, outgoing: &Outgoing) -> bool {
        let len = outgoing.frame(self.dialect).len();
        let ready = || self.lock().has_room_for(len, &self.options);
        ready() || {
            self.flush();
            ready()
        }
    }

    async fn until(&self, ready: impl Fn(&State) -> bool) {
        loop {
            let mut notified = std::pin::pin!(self.room.notified());
            notified.as_mut().enable();
            {
                let mut state = self.lock();
                if ready(&state) {
                    return;
                }
                state.room_wanted = true;
            }
            notified.await;
        }
    }

    /// The session's task: reads, answers, goes on with writes that stalled.
    /// `leftover` is what the client sent right behind its handshake. Resolves
    /// when the session is over; dropped earlier, it ends the session.
    pub fn run(self: Arc<Self>, leftover: Bytes) -> Run {
        Run::new(self, leftover)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then does what follows from it without the lock.
    pub(super) fn with_state<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, &mut After) -> T) -> T {
        let mut after = After::default();
        let result = {
            let mut state = self.lock();
            let result = change(&mut state, &mut after);
            self.gauge(&mut state);
            result
        };
        self.settle(after);
        result
    }

    fn settle(self: &Arc<Self>, after: After) {
        if !after.done.messages.is_empty() {
            self.messages_written.fetch_add(after.done.messages.len() as u32, Ordering::Relaxed);
            self.events.written(self, &after.done.messages);
        }
        // Only now: an entry may be acknowledged when its frames are reported.
        drop(after.done);
        if after.room {
            self.room.notify_waiters();
        }
        if let Some(waker) = after.waker {
            waker.wake();
        }
        if let (Some(at), Some(wheel)) = (after.wheel, self.wheel.get()) {
            wheel.wake(self, at);
        }
        if let Some(ending) = after.closed {
            self.events.closed(self, ending);
        }
    }

    pub(super) fn gauge(&self, state: &mut State) {
        let bytes = state.outbox.bytes();
        if bytes != state.gauged_bytes {
            self.outbox_bytes.increment(bytes as f64 - state.gauged_bytes as f64);
            state.gauged_bytes = bytes;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.outbox_bytes.decrement(state.gauged_bytes as f64);
    }
}

/// Spreads first pings over the interval, or sessions that came in one wave
/// would be pinged in one wave for ever. An id's low bits are random.
fn jitter(id: SessionId, interval: Duration) -> Duration {
    interval.mul_f64((id.bits() & 0xffff) as f64 / 65_536.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_pings_are_spread_over_the_interval() {
        let interval = Duration::from_secs(25);
        let firsts: Vec<_> = (0..64).map(|_| jitter(SessionId::generate(), interval)).collect();
        assert!(firsts.iter().all(|first| *first < interval));
        for quarter in 0..4 {
            let from = interval / 4 * quarter;
            let hits = firsts.iter().filter(|first| (from..from + interval / 4).contains(*first)).count();
            assert!(hits > 0, "an empty quarter is as good as impossible");
        }
    }
}
