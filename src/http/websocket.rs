//! The upgrade: from a request to a session.
//!
//! What is wrong with a request's form is answered as a problem. What a browser
//! must be able to read (a bad token, a wrong origin, an overloaded node) is a
//! close frame behind a completed upgrade, since browsers hide failed ones.

use std::sync::Arc;

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
use crate::protocol::frame::HelloLimits;
use crate::protocol::{SessionId, ws};
use crate::session::{Events, Session};
use crate::store::Start;

use super::entering::Entering;
use super::handshake::{Admission, Refusal, Wish};
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
        let response = switching(&ws::accept_key(key), wish.subprotocol.clone());
        let (app, headers) = (self.clone(), headers.clone());
        self.inner.tasks.spawn(async move {
            // Somebody else may have to be asked; the client's first frames wait in its socket.
            let admission = app.admission(&headers, &wish, visitor.place.is_some()).await;
            let upgraded = match upgrade.await {
                Ok(upgraded) => upgraded,
                Err(error) => return tracing::debug!(%error, "an upgrade was not completed"),
            };
            if let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() {
                app.begin(parts.io.into_inner(), parts.read_buf, wish, admission, visitor);
            }
        });
        Ok(response)
    }

    pub(super) fn refused(&self, reason: &str) {
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

    async fn admission(&self, headers: &HeaderMap, wish: &Wish, has_place: bool) -> Admission {
        let Self { inner } = self;
        let admission = if has_place {
            let checked = wish.admission(headers, &inner.authenticator, &inner.options.allowed_origins);
            tokio::time::timeout(inner.options.handshake_timeout, checked).await.unwrap_or_else(|_| {
                Admission::Refuse(Refusal::new(CloseCode::OVERLOADED, "your token could not be checked in time"))
            })
        } else {
            let reason = "this node has all the connections it takes; try again";
            Admission::Refuse(Refusal::new(CloseCode::OVERLOADED, reason))
        };
        if let Admission::Refuse(refusal) = &admission {
            self.refused(refusal.label());
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
        let entering = match &admission {
            Admission::Enter(_) if !wish.resume => None,
            Admission::Await(ambient) => Some(Entering::new(self, wish.clone(), ambient.clone())),
            _ => Some(Entering::new(self, wish.clone(), None)),
        };
        let events: Arc<dyn Events> = match &entering {
            Some(entering) => Arc::new(entering.clone()),
            None => inner.events.clone(),
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
        match (admission, entering) {
            (Admission::Refuse(Refusal { code, reason }), _) => session.close(code, &reason),
            (_, Some(entering)) => self.await_entry(session, entering),
            (_, None) => self.open(session, wish.start),
        }
    }

    /// Closes a session that does not authenticate, or resume as it announced.
    fn await_entry(&self, session: Arc<Session>, entering: Entering) {
        let app = self.clone();
        let timeout = self.inner.options.handshake_timeout;
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = app.inner.draining.cancelled() => {}
                () = tokio::time::sleep(timeout) => {}
            }
            entering.give_up(&session);
        });
    }

    /// Attaches an identified session to its user's channel.
    pub(super) fn open(&self, session: Arc<Session>, start: Option<Start>) {
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
