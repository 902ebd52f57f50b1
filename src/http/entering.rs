//! The first frames of a session that is not attached yet: a token, and where to
//! begin.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;

use crate::protocol::close::CloseCode;
use crate::protocol::frame::{ClientFrame, Outgoing};
use crate::protocol::{Channel, Position};
use crate::session::{Ending, Events, Identity, Session};
use crate::store::Start;

use super::App;
use super::auth::{self, AuthError};
use super::handshake::{Refusal, Wish};

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
}

enum State {
    /// It has not said all that is needed.
    Waiting(Box<Waiting>),
    /// Its token is being checked; what came since waits for that.
    Checking(Box<Waiting>, Vec<ClientFrame>),
    /// It is attached, or closed.
    Done,
}

struct Waiting {
    wish: Wish,
    /// Whose it is by what its browser added, unless a frame says otherwise.
    ambient: Option<Result<Identity, Refusal>>,
}

impl Entering {
    pub(super) fn new(app: &App, wish: Wish, ambient: Option<Result<Identity, Refusal>>) -> Self {
        let waiting = Box::new(Waiting { wish, ambient });
        Self(Arc::new(Inner { app: app.clone(), state: Mutex::new(State::Waiting(waiting)) }))
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
    fn authenticate(
        &self,
        session: &Arc<Session>,
        token: String,
        position: impl FnOnce(&Channel) -> Option<Position> + Send + 'static,
    ) {
        let Some(waiting) = self.take() else { return };
        let app = self.0.app.clone();
        let mut checked = Box::pin(async move { app.inner.authenticator.user(&token).await });
        if let Some(checked) = checked.as_mut().now_or_never() {
            return self.authenticated(session, waiting, checked, position);
        }
        *self.state() = State::Checking(waiting, Vec::new());
        let (entering, session) = (self.clone(), session.clone());
        self.0.app.inner.tasks.spawn(async move {
            let checked = checked.await;
            let state = std::mem::replace(&mut *entering.state(), State::Done);
            let State::Checking(waiting, frames) = state else { return };
            entering.authenticated(&session, waiting, checked, position);
            frames.into_iter().for_each(|frame| entering.take_frame(&session, frame));
        });
    }

    fn authenticated(
        &self,
        session: &Arc<Session>,
        waiting: Box<Waiting>,
        checked: Result<auth::Identity, AuthError>,
        position: impl FnOnce(&Channel) -> Option<Position>,
    ) {
        let identity = checked.map_err(Refusal::from).and_then(|token| waiting.wish.identity(token));
        match identity {
            Ok(identity) => {
                let position = position(&identity.user);
                session.identify(identity);
                if position.is_some() || !waiting.wish.resume {
                    self.0.app.open(session.clone(), position.map(Start::After).or(waiting.wish.start));
                } else {
                    *self.state() = State::Waiting(waiting);
                }
            }
            Err(refusal) => self.refuse(session, &refusal),
        }
    }

    fn refuse(&self, session: &Arc<Session>, Refusal { code, reason }: &Refusal) {
        self.0.app.refused(Refusal::new(*code, "").label());
        session.close(*code, reason);
    }

    /// Goes on where a `resume` frame says, as whom the browser said if no frame did.
    fn resume(&self, session: &Arc<Session>, position: impl FnOnce(&Channel) -> Option<Position>) {
        let Some(waiting) = self.take() else { return };
        let Waiting { wish, ambient } = *waiting;
        if session.identity().is_none() {
            match ambient {
                Some(Ok(identity)) => session.identify(identity),
                Some(Err(refusal)) => return self.refuse(session, &refusal),
                None => {
                    *self.state() = State::Waiting(Box::new(Waiting { wish, ambient: None }));
                    return;
                }
            }
        }
        let Some(identity) = session.identity() else { return };
        let position = position(&identity.user);
        self.0.app.open(session.clone(), position.map(Start::After).or(wish.start));
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
            ClientFrame::Auth { token, positions } if waits && session.identity().is_none() => {
                self.authenticate(session, token, move |user| positions.get(user.as_str()).copied());
            }
            ClientFrame::Resume { positions } if waits && resumes => {
                self.resume(session, |user| positions.get(user.as_str()).copied());
            }
            frame => self.0.app.inner.events.frame(session, frame),
        }
    }
}

impl Entering {
    /// Closes a session that did not say in time what it has to.
    pub(super) fn give_up(&self, session: &Arc<Session>) {
        let refusal = match std::mem::replace(&mut *self.state(), State::Done) {
            State::Done => return,
            State::Checking(..) => Refusal::new(CloseCode::OVERLOADED, "your token could not be checked in time"),
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
