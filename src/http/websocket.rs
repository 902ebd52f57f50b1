//! The upgrade: from a request to a session.
//!
//! What is wrong with a request's form is answered as a problem. What a browser
//! must be able to read (a bad token, a wrong origin, an overloaded node) is a
//! close frame behind a completed upgrade, since browsers hide failed ones.

use std::sync::{Arc, Mutex};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use warp::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use crate::delivery::{OpenError, Opening};
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{ClientFrame, HelloLimits, Outgoing};
use crate::protocol::{Channel, Position, SessionId, ws};
use crate::session::{Ending, Events, Identity, Session};
use crate::store::Start;

use super::handshake::{Admission, Wish};
use super::unstalled::Unstalled;
use super::visitor::{Visitor, visits};
use super::{App, ClientAddress, Options, Problem};

impl App {
    pub(super) fn upgrade(
        &self,
        headers: &HeaderMap,
        query: &str,
        client: ClientAddress,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response, Problem> {
        let key = handshake_key(headers).inspect_err(|_| self.refused("handshake"))?;
        let upgrade = upgrade.ok_or_else(not_an_upgrade)?;
        self.admit_handshake()?;
        let wish = Wish::read(headers, query);
        // Taken before the upgrade, or a wave of them would pass together.
        let visitor = Visitor { client, place: self.inner.places.clone().try_acquire_owned().ok() };
        let admission = self.admission(headers, &wish, visitor.place.is_some());
        let response = switching(&ws::accept_key(key), wish.subprotocol.clone());
        let app = self.clone();
        self.inner.tasks.spawn(async move {
            let upgraded = match upgrade.await {
                Ok(upgraded) => upgraded,
                Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
            };
            if let Ok(parts) = upgraded.downcast::<TokioIo<Unstalled<TcpStream>>>() {
                app.begin(parts.io.into_inner().into_inner(), parts.read_buf, wish, admission, visitor);
            }
        });
        Ok(response)
    }

    fn refused(&self, reason: &str) {
        self.inner.metrics.connects_refused.with(reason).increment(1);
    }

    /// Refuses before the upgrade what costs the node least that way.
    fn admit_handshake(&self) -> Result<(), Problem> {
        if self.inner.draining.is_cancelled() {
            self.refused("draining");
            return Err(Problem::unavailable(
                "draining",
                "this node is about to leave; connect to another",
                1,
            ));
        }
        if self.inner.handshakes.check().is_err() {
            self.refused("rate");
            let detail = "too many connections at once (handshakes_per_second_max); come back in a moment";
            return Err(Problem::unavailable("handshake_rate", detail, rand::random_range(1..=5)));
        }
        Ok(())
    }

    fn admission(&self, headers: &HeaderMap, wish: &Wish, has_place: bool) -> Admission {
        let Self { inner } = self;
        let admission = if !has_place {
            Admission::Refuse(
                CloseCode::OVERLOADED,
                "this node has all the connections it takes; try again".into(),
            )
        } else {
            wish.admission(headers, &inner.authenticator, &inner.options.allowed_origins)
        };
        if let Admission::Refuse(code, _) = &admission {
            self.refused(match *code {
                CloseCode::OVERLOADED => "limit",
                CloseCode::ORIGIN => "origin",
                CloseCode::TOKEN => "token",
                _ => "handshake",
            });
        }
        admission
    }

    /// Starts the session of an upgraded connection.
    fn begin(
        &self,
        stream: TcpStream,
        leftover: bytes::Bytes,
        wish: Wish,
        admission: Admission,
        visitor: Visitor,
    ) {
        let inner = &self.inner;
        let dialect = wish.dialect;
        shrink_buffers(&stream, &inner.options);
        let events: Arc<dyn Events> = match &admission {
            Admission::Enter(_) if !wish.resume => inner.events.clone(),
            _ => Arc::new(Entering { app: self.clone(), waiting: Mutex::new(Some(wish.clone())) }),
        };
        let session = Session::new(
            SessionId::generate(),
            dialect,
            Box::new(stream),
            inner.session_options.clone(),
            events,
            &inner.metrics,
        );
        inner.metrics.connects.with(dialect.label()).increment(1);
        inner.wheel.add(&session);
        let run = session.clone().run(leftover);
        if let Admission::Enter(identity) = &admission {
            session.identify(identity.clone());
        }
        visitor.came(&session);
        inner.tasks.spawn(visits(visitor, session.clone(), run));
        match admission {
            Admission::Refuse(code, reason) => session.close(code, &reason),
            Admission::Enter(_) => {
                if wish.resume {
                    self.await_entry(session);
                } else {
                    self.open(session, wish.start);
                }
            }
            Admission::Await => self.await_entry(session),
        }
    }

    /// Closes a session that does not authenticate, or resume as it announced.
    fn await_entry(&self, session: Arc<Session>) {
        let app = self.clone();
        let timeout = self.inner.options.handshake_timeout;
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = app.inner.draining.cancelled() => {}
                () = tokio::time::sleep(timeout) => {}
            }
            if session.identity().is_none() {
                let reason =
                    "no token came: send {\"type\":\"auth\",\"token\":…} or connect with ?token= or a cookie";
                session.close(CloseCode::TOKEN, reason);
            } else if !app.inner.delivery.is_attached(session.id()) {
                session
                    .close(CloseCode::BAD_HANDSHAKE, "no resume frame came although ?resume=1 announced one");
            }
        });
    }

    /// Attaches an identified session to its user's channel.
    fn open(&self, session: Arc<Session>, start: Option<Start>) {
        let Some(identity) = session.identity() else { return };
        let start = start.unwrap_or_else(|| Start::Cursor(identity.device.clone()));
        let options = &self.inner.session_options;
        let opening = Opening {
            subscriptions: vec![(identity.user.clone(), start)],
            heartbeat: options.heartbeat_interval,
            limits: HelloLimits {
                frame_bytes_max: options.frame_bytes_max,
                outbox_messages_max: options.outbox_messages_max,
                outbox_bytes_max: options.outbox_bytes_max,
            },
            session: session.clone(),
        };
        let app = self.clone();
        self.inner.tasks.spawn(async move {
            if let Err(error @ OpenError::Store(_)) = app.inner.delivery.open(opening).await {
                app.refused("store");
                tracing::warn!(session = %session.id(), %error, "a session was turned away");
                session.close(CloseCode::STORE_AWAY, "the store is away; reconnect in a moment");
            }
        });
    }
}

/// Takes the first frames of a session that is not attached yet.
struct Entering {
    app: App,
    /// Taken when the session has all it needs.
    waiting: Mutex<Option<Wish>>,
}

impl Entering {
    /// Goes on with positions from an `auth` or `resume` frame.
    fn enter(&self, session: &Arc<Session>, position: Option<Position>) {
        let Some(wish) = self.waiting.lock().expect("no panic while held").take() else { return };
        self.app.open(session.clone(), position.map(Start::After).or(wish.start));
    }

    fn authenticate(&self, session: &Arc<Session>, token: &str) -> Option<Channel> {
        let device =
            self.waiting.lock().expect("no panic while held").as_ref().map(|wish| wish.device.clone())?;
        match self.app.inner.authenticator.user(token) {
            Ok(identity) => {
                session.identify(Identity { user: identity.user.clone(), device });
                Some(identity.user)
            }
            Err(error) => {
                self.app.refused("token");
                session.close(CloseCode::TOKEN, &error.to_string());
                None
            }
        }
    }
}

impl Events for Entering {
    fn written(&self, session: &Arc<Session>, messages: &[Arc<Outgoing>]) {
        self.app.inner.events.written(session, messages);
    }

    fn confirmed(&self, session: &Arc<Session>, channel: &Channel, position: Position) {
        self.app.inner.events.confirmed(session, channel, position);
    }

    fn frame(&self, session: &Arc<Session>, frame: ClientFrame) {
        let waiting = self.waiting.lock().expect("no panic while held").as_ref().map(|wish| wish.resume);
        match (waiting, frame) {
            (Some(resume), ClientFrame::Auth { token, positions }) if session.identity().is_none() => {
                let Some(user) = self.authenticate(session, &token) else { return };
                let position = positions.get(user.as_str()).copied();
                if position.is_some() || !resume {
                    self.enter(session, position);
                }
            }
            (Some(true), ClientFrame::Resume { positions }) => {
                let Some(identity) = session.identity() else { return };
                self.enter(session, positions.get(identity.user.as_str()).copied());
            }
            (_, frame) => self.app.inner.events.frame(session, frame),
        }
    }

    fn closed(&self, session: &Arc<Session>, ending: Ending) {
        self.app.inner.events.closed(session, ending);
    }
}

/// A session's kernel buffers: far smaller than the system lets them grow, since
/// what a device does not read is better kept in its mailbox.
fn shrink_buffers(stream: &TcpStream, options: &Options) {
    let socket = socket2::SockRef::from(stream);
    let set = || {
        if let Some(bytes) = options.send_buffer_bytes {
            socket.set_send_buffer_size(bytes as usize)?;
        }
        if let Some(bytes) = options.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes as usize)?;
        }
        std::io::Result::Ok(())
    };
    if let Err(error) = set() {
        // The peer has gone already: reading will say so.
        tracing::debug!(%error, "a socket option could not be set");
    }
}

/// The key of a well-formed opening handshake (RFC 6455, 4.2.1).
fn handshake_key(headers: &HeaderMap) -> Result<&str, Problem> {
    let has = |name, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return Err(not_an_upgrade());
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != b"13") {
        return Err(Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "websocket_version",
            "use WebSocket version 13",
        ));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    key.filter(|key| key.len() == 24).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "websocket_key", "Sec-WebSocket-Key must be 16 bytes in base64")
    })
}

fn not_an_upgrade() -> Problem {
    let detail = "this resource speaks WebSocket: connect with new WebSocket(url)";
    Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail)
}

fn switching(accept: &str, subprotocol: Option<HeaderValue>) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(accept).expect("base64 is a header value"));
    if let Some(subprotocol) = subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    response
}
