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
    /// Its token is being checked; what came since waits for that.
    Checking(Option<Box<Waiting>>, Vec<ClientFrame>),
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

    fn take(&self) -> Option<Box<Waiting>> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Done) {
            State::Waiting(waiting) => Some(waiting),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Checks the token of an `auth` frame: at once where that can be done, else
    /// in a task of its own.
    fn authenticate(&self, session: &Arc<Session>, token: String, places: Places) {
        let Some(waiting) = self.take() else { return };
        let app = self.0.app.clone();
        let hooked = waiting.wish.hooked.clone();
        let mut checked = Box::pin(async move { app.inner.gate.token(&token, hooked.as_ref()).await });
        if let Some(checked) = checked.as_mut().now_or_never() {
            *self.state() = self.authenticated(session, waiting, checked, places);
            return;
        }
        *self.state() = State::Checking(Some(waiting), Vec::new());
        let (entering, session) = (self.clone(), session.clone());
        self.0.app.inner.tasks.spawn(async move {
            let checked = checked.await;
            let waiting = match &mut *entering.state() {
                State::Checking(waiting, _) => waiting.take(),
                State::Waiting(_) | State::Done => None,
            };
            let Some(waiting) = waiting else { return };
            // What comes meanwhile still waits.
            let next = entering.authenticated(&session, waiting, checked, places);
            let State::Checking(_, frames) = std::mem::replace(&mut *entering.state(), next) else { return };
            frames.into_iter().for_each(|frame| entering.take_frame(&session, frame));
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
        match ambient {
            Some(Ok(admitted)) => {
                wish.asked.positions = places.positions;
                wish.asked.topics.extend(places.topics);
                self.0.app.open(session, admitted, wish);
            }
            Some(Err(refusal)) => self.refuse(session, &refusal),
            None => *self.state() = State::Waiting(Box::new(Waiting { wish, ambient })),
        }
    }

    fn take_frame(&self, session: &Arc<Session>, frame: ClientFrame) {
        let (waits, resumes) = match &mut *self.state() {
            State::Waiting(waiting) => (true, waiting.wish.resume),
            State::Checking(_, frames) if frames.len() < HELD_FRAMES_MAX => return frames.push(frame),
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

    /// Closes a session that did not say in time what it has to.
    pub(super) fn give_up(&self, session: &Arc<Session>) {
        let refusal = match std::mem::replace(&mut *self.state(), State::Done) {
            State::Done => return,
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
