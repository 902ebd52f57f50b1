//! The upgrade: from a request to a session.
//!
//! What is wrong with a request's form is answered as a problem. What a browser
//! must be able to read (a bad token, a wrong origin, an overloaded node) is a
//! close frame behind a completed upgrade, since browsers hide failed ones.

use std::sync::Arc;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::net::TcpStream;
use warp::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use crate::delivery::{OpenError, Opening};
use crate::protocol::close::CloseCode;
use crate::protocol::frame::{Dialect, HelloLimits};
use crate::protocol::{Channel, SessionId, ws};
use crate::session::{Events, Session};

use super::entering::Entering;
use super::handshake::{Admission, Admitted, Refusal, Wish};
use super::service::Seat;
use super::visitor::{Visitor, visits};
use super::{App, ClientAddress, Options, Problem};

/// Why a token that is valid by itself is not taken.
pub(super) const LOGGED_OUT: &str =
    "the user was logged out after this token was issued: log in for a new one";

impl App {
    pub(super) fn upgrade(
        &self,
        headers: &HeaderMap,
        query: &str,
        client: ClientAddress,
        seat: &Seat,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response, Problem> {
        let key = handshake_key(headers).inspect_err(|_| self.refused("handshake"))?;
        // The server's word that it takes the request for one; what follows is ours.
        upgrade.ok_or_else(not_an_upgrade)?;
        self.admit_handshake()?;
        let mut wish = Wish::socket(headers, query);
        wish.hooked = self.inner.gate.authenticator.hook_headers(headers);
        // Taken before the upgrade, or a wave of them would pass together.
        let visitor = self.visitor(client)?;
        let response = switching(&ws::accept_key(key), wish.subprotocol.clone());
        let (app, headers) = (self.clone(), headers.clone());
        let tasks = self.inner.tasks.clone();
        seat.takeover.behind_answer(move |stream, leftover| {
            tasks.spawn(async move {
                // Somebody else may have to be asked; the client's first frames wait in its socket.
                let admission = app.admission(&headers, &wish, visitor.place.is_some()).await;
                app.begin(stream, leftover, Bytes::new(), wish, admission, visitor);
            });
        });
        Ok(response)
    }

    /// Room for one more session, of this client's and of the node's.
    pub(super) fn visitor(&self, client: ClientAddress) -> Result<Visitor, Problem> {
        let address = self.inner.session_addresses.take(client).ok_or_else(|| {
            self.refused("address");
            let detail = "this address has all the sessions that one may have (connections_per_address_max)";
            Problem::unavailable("address_limit", detail, rand::random_range(5..=15))
        })?;
        let place = self.inner.places.clone().try_acquire_owned().ok();
        Ok(Visitor { client, place, _address: address })
    }

    pub(super) fn refused(&self, reason: &str) {
        self.inner.metrics.connects_refused.with(reason).increment(1);
    }

    /// Refuses before the upgrade what costs the node least that way.
    pub(super) fn admit_handshake(&self) -> Result<(), Problem> {
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

    pub(super) async fn admission(&self, headers: &HeaderMap, wish: &Wish, has_place: bool) -> Admission {
        let Self { inner } = self;
        let admission = if has_place {
            let checked = wish.admission(headers, &inner.gate);
            tokio::time::timeout(inner.options.handshake_timeout, checked).await.unwrap_or_else(|_| {
                Admission::Refuse(Refusal::new(
                    CloseCode::OVERLOADED,
                    "your token could not be checked in time",
                ))
            })
        } else {
            let reason = "this node has all the connections it takes; try again";
            Admission::Refuse(Refusal::new(CloseCode::OVERLOADED, reason))
        };
        if let Admission::Refuse(refusal) = &admission {
            self.refused(if has_place { refusal.label() } else { "limit" });
        }
        admission
    }

    /// Starts the session of a connection that was taken over. `leftover` is what
    /// its client has sent ahead, `head` what the session writes first.
    pub(super) fn begin(
        &self,
        stream: TcpStream,
        leftover: Bytes,
        head: Bytes,
        wish: Wish,
        admission: Admission,
        visitor: Visitor,
    ) {
        let inner = &self.inner;
        let dialect = wish.dialect;
        shrink_buffers(&stream, &inner.options);
        let entering = match &admission {
            // They have nothing to say that anybody waits for.
            Admission::Enter(_) if dialect != Dialect::Envelope => None,
            Admission::Enter(_) if !wish.resume => Some(Entering::attached(self)),
            Admission::Enter(admitted) => Some(Entering::new(self, wish.clone(), Some(Ok(admitted.clone())))),
            Admission::Await(ambient) => Some(Entering::new(self, wish.clone(), ambient.clone())),
            Admission::Refuse(_) => Some(Entering::attached(self)),
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
        if let Admission::Enter(admitted) = &admission {
            session.identify(admitted.identity.clone());
        }
        if !head.is_empty() {
            session.send(head);
        }
        visitor.came(&session);
        // Attached before anything is read, so that its first frame finds it so.
        match (admission, entering) {
            (Admission::Refuse(Refusal { code, reason }), _) => session.close(code, &reason),
            (Admission::Enter(admitted), _) if !wish.resume => self.open(&session, admitted, wish),
            (_, Some(entering)) => self.await_entry(&session, entering),
            (_, None) => {}
        }
        inner.tasks.spawn(visits(self.clone(), visitor, session, run));
    }

    /// Closes a session that does not authenticate, or resume as it announced, in
    /// time: before the node leaves, too.
    fn await_entry(&self, session: &Arc<Session>, entering: Entering) {
        // A session that is over must not keep its socket open until then.
        let (app, session) = (self.clone(), Arc::downgrade(session));
        let timeout = self.inner.options.handshake_timeout;
        self.inner.tasks.spawn(async move {
            let late = tokio::select! {
                () = app.inner.draining.cancelled() => false,
                () = tokio::time::sleep(timeout) => true,
            };
            if let Some(session) = session.upgrade() {
                entering.give_up(&session, late);
            }
        });
    }

    /// Attaches a session to its user's channel, everyone's, and the topics that
    /// it asks for, for as long as what let it in lasts.
    pub(super) fn open(&self, session: &Arc<Session>, admitted: Admitted, wish: Wish) {
        let Admitted { identity, expires_at, issued_at_ms } = admitted;
        let Wish { mut asked, position, .. } = wish;
        if let Some(position) = position {
            asked.positions.entry(identity.user.to_string()).or_insert(position);
        }
        let subscriptions = [identity.user.clone(), Channel::all()].map(|channel| {
            let start = asked.start(&identity, &channel);
            (channel, start)
        });
        session.identify(identity);
        self.inner.expiries.set(session, expires_at);
        let options = &self.inner.session_options;
        let opening = Opening {
            subscriptions: subscriptions.into(),
            asked,
            // A token that does not say when it was made is as old as any.
            issued_at_ms: (!self.inner.gate.authenticator.is_open()).then(|| issued_at_ms.unwrap_or(0)),
            heartbeat: options.heartbeat_interval,
            limits: HelloLimits {
                frame_bytes_max: options.frame_bytes_max,
                outbox_messages_max: options.outbox_messages_max,
                outbox_bytes_max: options.outbox_bytes_max,
                topics_max: self.inner.delivery.topics_max(),
            },
            session: session.clone(),
        };
        let (app, session) = (self.clone(), session.clone());
        let opened = self.inner.delivery.open(opening);
        self.inner.tasks.spawn(async move {
            if let Err(error) = opened.await {
                app.turn_away(&session, &error);
            }
        });
    }

    pub(super) fn turn_away(&self, session: &Arc<Session>, error: &OpenError) {
        let (label, code, reason) = match error {
            OpenError::Closed => return,
            OpenError::Store(error) => {
                tracing::warn!(session = %session.id(), %error, "a session was turned away");
                ("store", CloseCode::STORE_AWAY, "the store is away; reconnect in a moment")
            }
            OpenError::LoggedOut => ("token", CloseCode::TOKEN, LOGGED_OUT),
            OpenError::TooMany => {
                let reason =
                    "this user has all the sessions that one may have (sessions_per_user_max): close another";
                ("user", CloseCode::USER_LIMIT, reason)
            }
        };
        self.refused(label);
        session.close(code, reason);
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

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    has(UPGRADE, "websocket") && has(CONNECTION, "upgrade")
}

/// The key of a well-formed opening handshake (RFC 6455, 4.2.1).
fn handshake_key(headers: &HeaderMap) -> Result<&str, Problem> {
    if !is_upgrade(headers) {
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
