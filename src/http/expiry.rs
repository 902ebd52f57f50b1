//! When sessions' tokens end: who is asked for a fresh one, and who is closed.
//!
//! One task and one ordered list for all sessions of a node. A session that
//! speaks envelopes is asked in time and goes on when it answers; one that does
//! not, or cannot, is closed with 4401 when its token ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::protocol::SessionId;
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Dialect, ServerFrame};
use crate::session::Session;

/// How long before its token ends a session is asked for another, if the token
/// lives for twice as long.
const ASK_BEFORE: Duration = Duration::from_secs(30);
/// Tokens that live longer than this are as good as endless.
const FAR: Duration = Duration::from_secs(365 * 24 * 3_600);

struct Due {
    session: Weak<Session>,
    /// When its token ends, if this is only when it is asked for another.
    ends: Option<Instant>,
}

#[derive(Default)]
struct Schedule {
    due: BTreeMap<(Instant, SessionId), Due>,
    of: HashMap<SessionId, Instant>,
}

/// The ends of all tokens.
pub(super) struct Expiries {
    /// For how long after its end a token is taken.
    leeway: Duration,
    schedule: Mutex<Schedule>,
    sooner: Notify,
}

impl Expiries {
    pub(super) fn new(leeway: Duration) -> Self {
        Self { leeway, schedule: Mutex::default(), sooner: Notify::new() }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes when a session's token ends: seconds since 1970, or never.
    pub(super) fn set(&self, session: &Arc<Session>, expires_at: Option<u64>) {
        let now = Instant::now();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Whoever issued it may have said any number.
        let until = |at| Duration::from_secs(at).saturating_add(self.leeway);
        let left = expires_at.map(|at| until(at).saturating_sub(since_1970));
        self.set_left(session, left.filter(|left| *left < FAR), now);
    }

    fn set_left(&self, session: &Arc<Session>, left: Option<Duration>, now: Instant) {
        let mut schedule = self.schedule();
        schedule.remove(session.id());
        // A session is forgotten once it is over, under the same lock: either that
        // is seen here, or what is noted here is found there.
        let Some(left) = left.filter(|_| !session.is_closing()) else { return };
        let ends = now + left;
        let asks = session.dialect() == Dialect::Envelope;
        let (at, ends) = if asks { (ends - ASK_BEFORE.min(left / 2), Some(ends)) } else { (ends, None) };
        let first = schedule.due.first_key_value().is_none_or(|((first, _), _)| at < *first);
        schedule.put(at, Due { session: Arc::downgrade(session), ends }, session.id());
        drop(schedule);
        if first {
            self.sooner.notify_one();
        }
    }

    /// Forgets a session that is over.
    pub(super) fn forget(&self, session: SessionId) {
        self.schedule().remove(session);
    }

    /// Asks and closes, until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let next = self.schedule().due.first_key_value().map(|((at, _), _)| *at);
            let next = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.sooner.notified() => {}
                () = next => self.act(Instant::now()),
            }
        }
    }

    fn act(&self, now: Instant) {
        loop {
            let due = {
                let mut schedule = self.schedule();
                let Some(((at, id), _)) = schedule.due.first_key_value() else { return };
                if *at > now {
                    return;
                }
                let id = *id;
                let Some(due) = schedule.remove(id) else { return };
                if let Some(ends) = due.ends {
                    schedule.put(ends, Due { session: due.session.clone(), ends: None }, id);
                }
                due
            };
            // Without the lock: closing reports to whoever forgets the session here.
            let Some(session) = due.session.upgrade() else { continue };
            match due.ends {
                Some(ends) => {
                    let within_ms =
                        u64::try_from(ends.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
                    session.send(ServerFrame::Reauth { within_ms }.encode());
                }
                None => session.close(CloseCode::EXPIRED, "your token has expired: reconnect with a new one"),
            }
        }
    }
}

impl Schedule {
    fn put(&mut self, at: Instant, due: Due, id: SessionId) {
        self.due.insert((at, id), due);
        self.of.insert(id, at);
    }

    fn remove(&mut self, id: SessionId) -> Option<Due> {
        let at = self.of.remove(&id)?;
        self.due.remove(&(at, id))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::metrics::Metrics;
    use crate::session::pipe::pipe;
    use crate::session::{Ending, Events, Options, Run};

    struct Nobody;

    impl Events for Nobody {
        fn written(&self, _: &Arc<Session>, _: &[Arc<crate::protocol::frame::Outgoing>]) {}

        fn confirmed(&self, _: &Arc<Session>, _: &crate::protocol::Channel, _: crate::protocol::Position) {}

        fn frame(&self, _: &Arc<Session>, _: crate::protocol::frame::ClientFrame) {}

        fn closed(&self, _: &Arc<Session>, _: Ending) {}
    }

    fn session() -> (Arc<Session>, Run) {
        let (id, dialect) = (SessionId::generate(), Dialect::Envelope);
        let (wire, options) = (Box::new(pipe(1_024).0), Arc::new(Options::default()));
        let session = Session::new(id, dialect, wire, options, Arc::new(Nobody), &Metrics::new("0", "none"));
        let run = session.clone().run(Bytes::new());
        (session, run)
    }

    fn in_seconds(seconds: u64) -> Option<u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(now.as_secs() + seconds)
    }

    fn noted(expiries: &Expiries) -> (usize, usize) {
        let schedule = expiries.schedule();
        (schedule.due.len(), schedule.of.len())
    }

    #[tokio::test]
    async fn a_token_that_is_checked_only_after_its_session_ended_leaves_nothing() {
        let expiries = Expiries::new(Duration::ZERO);
        let (session, run) = session();
        expiries.set(&session, in_seconds(60));
        assert_eq!(noted(&expiries), (1, 1));
        drop(run);
        expiries.forget(session.id());
        expiries.set(&session, in_seconds(3_600));
        assert_eq!(noted(&expiries), (0, 0));
    }

    #[tokio::test]
    async fn an_end_that_cannot_be_counted_to_is_none() {
        let expiries = Expiries::new(Duration::from_secs(30));
        let (session, _run) = session();
        for expires_at in [u64::MAX, u64::MAX - 30, u64::MAX / 2] {
            expiries.set(&session, in_seconds(60));
            expiries.set(&session, Some(expires_at));
            assert_eq!(noted(&expiries), (0, 0), "{expires_at}");
        }
    }
}
