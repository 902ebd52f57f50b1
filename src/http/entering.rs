//! The first frames of a session that is not attached yet: a token, and where to
//! begin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;

use crate::protocol::close::CloseCode;
use crate::protocol::frame::{ClientFrame, Outgoing};
use crate::protocol::{Channel, Position};
use crate::session::{Ending, Events, Session};

use super::App;
use super::auth::{self, AuthError};
use super::handshake::{Admitted, Refusal, Wish};
use super::renewals::Renewals;

/// Frames that may come while a token is being checked: `resume`, and whatever
/// an eager client already has to say.
const HELD_FRAMES_MAX: usize = 16;

/// Takes the first frames of a session, and hands on the others. Clones are the
/// same.
#[derive(Clone)]
pub(super) struct Entering(Arc<Inner>);

struct Inner {
    app: App,
    state: Mutex<State>,
    renewals: Renewals,
}

impl Inner {
    fn new(app: &App, state: State) -> Self {
        Self { app: app.clone(), state: Mutex::new(state), renewals: Renewals::default() }
    }
}

enum State {
    /// It has not said all that is needed.
    Waiting(Box<Waiting>),
    /// What it said is being looked at; what came since waits for that.
    Checking(Vec<ClientFrame>),
    /// It is attached, or closed.
    Done,
}

/// What a frame says of where to begin.
struct Places {
    positions: BTreeMap<String, Position>,
    topics: Vec<String>,
}

struct Waiting {
    wish: Wish,
    /// Whose it is: by a frame, or by what its browser added until one says otherwise.
    ambient: Option<Result<Admitted, Refusal>>,
}

impl Entering {
    pub(super) fn new(app: &App, wish: Wish, ambient: Option<Result<Admitted, Refusal>>) -> Self {
        let waiting = Box::new(Waiting { wish, ambient });
        Self(Arc::new(Inner::new(app, State::Waiting(waiting))))
    }

    /// For a session that has said all that is needed: only fresh tokens come here.
    pub(super) fn attached(app: &App) -> Self {
        Self(Arc::new(Inner::new(app, State::Done)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it waits for, to be looked at until [`Entering::put`]. Meanwhile it can
    /// still be given up on.
    fn take(&self) -> Option<Box<Waiting>> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Checking(Vec::new())) {
            State::Waiting(waiting) => Some(waiting),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Goes on with what came of it, unless the session was given up on.
    fn put(&self, session: &Arc<Session>, next: State) {
        let frames = {
            let mut state = self.state();
            let State::Checking(frames) = &mut *state else { return };
            let frames = std::mem::take(frames);
            *state = next;
            frames
        };
        frames.into_iter().for_each(|frame| self.take_frame(session, frame));
    }

    /// Checks the token of an `auth` frame: at once where that can be done, else
    /// in a task of its own.
    fn authenticate(&self, session: &Arc<Session>, token: String, places: Places) {
        let Some(waiting) = self.take() else { return };
        let app = self.0.app.clone();
        let hooked = waiting.wish.hooked.clone();
        let mut checked = Box::pin(async move { app.inner.gate.token(&token, hooked.as_ref()).await });
        if let Some(checked) = checked.as_mut().now_or_never() {
            let next = self.authenticated(session, waiting, checked, places);
            return self.put(session, next);
        }
        let (entering, session) = (self.clone(), session.clone());
        self.0.app.inner.tasks.spawn(async move {
            let checked = checked.await;
            if session.is_closing() {
                return;
            }
            let next = entering.authenticated(&session, waiting, checked, places);
            entering.put(&session, next);
        });
    }

    fn authenticated(
        &self,
        session: &Arc<Session>,
        mut waiting: Box<Waiting>,
        checked: Result<auth::Identity, AuthError>,
        places: Places,
    ) -> State {
        match checked.map_err(Refusal::from).and_then(|token| waiting.wish.admit(token)) {
            Ok(admitted) => {
                let begins = !waiting.wish.resume || !places.positions.is_empty();
                waiting.wish.asked.positions = places.positions;
                waiting.wish.asked.topics.extend(places.topics);
                if !begins {
                    session.identify(admitted.identity.clone());
                    waiting.ambient = Some(Ok(admitted));
                    return State::Waiting(waiting);
                }
                self.0.app.open(session, admitted, waiting.wish);
            }
            Err(refusal) => self.refuse(session, &refusal),
        }
        State::Done
    }

    fn refuse(&self, session: &Arc<Session>, refusal: &Refusal) {
        self.0.app.refused(refusal.label());
        session.close(refusal.code, &refusal.reason);
    }

    /// Goes on where a `resume` frame says, as whom the browser said if no frame did.
    fn resume(&self, session: &Arc<Session>, places: Places) {
        let Some(waiting) = self.take() else { return };
        let Waiting { mut wish, ambient } = *waiting;
        let next = match ambient {
            Some(Ok(admitted)) => {
                wish.asked.positions = places.positions;
                wish.asked.topics.extend(places.topics);
                self.0.app.open(session, admitted, wish);
                State::Done
            }
            Some(Err(refusal)) => {
                self.refuse(session, &refusal);
                State::Done
            }
            None => State::Waiting(Box::new(Waiting { wish, ambient })),
        };
        self.put(session, next);
    }

    fn take_frame(&self, session: &Arc<Session>, frame: ClientFrame) {
        let (waits, resumes) = match &mut *self.state() {
            State::Waiting(waiting) => (true, waiting.wish.resume),
            State::Checking(frames) if frames.len() < HELD_FRAMES_MAX => return frames.push(frame),
            State::Checking(..) => {
                return session.close(CloseCode::BAD_HANDSHAKE, "wait for hello before you send more");
            }
            State::Done => (false, false),
        };
        match frame {
            ClientFrame::Auth { token, positions, topics } if waits && session.identity().is_none() => {
                self.authenticate(session, token, Places { positions, topics });
            }
            ClientFrame::Resume { positions, topics } if waits && resumes => {
                self.resume(session, Places { positions, topics });
            }
            ClientFrame::Auth { token, .. } if !waits && session.identity().is_some() => {
                self.renew(session, token);
            }
            frame => self.0.app.inner.events.frame(session, frame),
        }
    }
}

impl Entering {
    /// Lets a session go on with a fresh token, after those that it sent before.
    fn renew(&self, session: &Arc<Session>, token: String) {
        // Where a token is only a name, none is fresher than another.
        if self.0.app.inner.gate.authenticator.is_open() || !self.0.renewals.put(token) {
            return;
        }
        let (entering, session) = (self.clone(), session.clone());
        self.0.app.inner.tasks.spawn(async move {
            while let Some(token) = entering.0.renewals.next().filter(|_| !session.is_closing()) {
                entering.0.app.renew(&session, &token).await;
            }
        });
    }

    /// Closes a session that did not say yet what it has to. If it is not `late`,
    /// that is not its fault, and another node takes it.
    pub(super) fn give_up(&self, session: &Arc<Session>, late: bool) {
        let refusal = match std::mem::replace(&mut *self.state(), State::Done) {
            State::Done => return,
            _ if !late => Refusal::new(CloseCode::RESTART, "this node restarts; reconnect to another"),
            State::Checking(..) => {
                Refusal::new(CloseCode::OVERLOADED, "your token could not be checked in time")
            }
            State::Waiting(waiting) => match waiting.ambient {
                Some(Err(refusal)) => refusal,
                None if session.identity().is_none() => Refusal::new(
                    CloseCode::TOKEN,
                    "no token came: send {\"type\":\"auth\",\"token\":…} or connect with a header, a cookie or ?ticket=",
                ),
                _ => Refusal::new(
                    CloseCode::BAD_HANDSHAKE,
                    "no resume frame came although ?resume=1 announced one",
                ),
            },
        };
        session.close(refusal.code, &refusal.reason);
    }
}

impl Events for Entering {
    fn written(&self, session: &Arc<Session>, messages: &[Arc<Outgoing>]) {
        self.0.app.inner.events.written(session, messages);
    }

    fn confirmed(&self, session: &Arc<Session>, channel: &Channel, position: Position) {
        self.0.app.inner.events.confirmed(session, channel, position);
    }

    fn frame(&self, session: &Arc<Session>, frame: ClientFrame) {
        self.take_frame(session, frame);
    }

    fn closed(&self, session: &Arc<Session>, ending: Ending) {
        self.0.app.inner.events.closed(session, ending);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;
    use warp::http::HeaderMap;

    use super::*;
    use crate::delivery::{self, Delivery};
    use crate::http::auth::{AuthOptions, Authenticator};
    use crate::http::{Options, Parts};
    use crate::metrics::Metrics;
    use crate::protocol::SessionId;
    use crate::protocol::frame::Dialect;
    use crate::session::pipe::pipe;
    use crate::session::{self, Wheel};
    use crate::store::{Limits, NodeInfo, memory};

    async fn app() -> App {
        let (metrics, tasks) = (Metrics::new("0", "memory"), TaskTracker::new());
        let [draining, stop] = std::array::from_fn(|_| CancellationToken::new());
        let info = NodeInfo::default();
        let store = Arc::new(memory::Store::new(Limits::default()));
        let options = delivery::Options::default();
        let delivery = Delivery::start(options, store, info, metrics.clone(), tasks.clone(), stop.clone());
        App::new(Parts {
            options: Options::default(),
            session_options: session::Options::default(),
            delivery: delivery.await.expect("starts"),
            authenticator: Authenticator::new(&AuthOptions::None, &metrics, &tasks).expect("usable"),
            wheel: Wheel::new(),
            metrics,
            tasks,
            draining,
            stop,
        })
    }

    #[tokio::test]
    async fn who_is_given_up_on_while_a_frame_is_looked_at_is_closed() {
        let app = app().await;
        let entering = Entering::new(&app, Wish::socket(&HeaderMap::new(), ""), None);
        let (id, options) = (SessionId::generate(), Arc::new(session::Options::default()));
        let wire = Box::new(pipe(1_024).0);
        let session = Session::new(
            id,
            Dialect::Envelope,
            wire,
            options,
            Arc::new(entering.clone()),
            &app.inner.metrics,
        );
        let _run = session.clone().run(Bytes::new());
        let waiting = entering.take().expect("it waits");
        entering.give_up(&session, true);
        assert!(session.is_closing());
        entering.put(&session, State::Waiting(waiting));
        assert!(matches!(*entering.state(), State::Done), "there is no way back");
    }
}
