//! Sessions as server-sent events.
//!
//! A stream is admitted as a socket is. What its client must give up on (a bad
//! token, a page that may not) is answered with a status, on which browsers do
//! give up. What passes (a node that drains or is full) is a stream that ends at
//! once, since browsers give up on any other status too; they come back when its
//! `retry:` says.

use std::time::SystemTime;

use bytes::Bytes;
use tokio::net::TcpStream;
use warp::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use warp::http::{HeaderMap, StatusCode};
use warp::reply::{Reply, Response};

use crate::protocol::close::CloseCode;
use crate::protocol::event_id::{CHANNELS_MAX, text_bytes_max};
use crate::protocol::frame::ServerFrame;
use crate::protocol::rest::AcksBody;
use crate::protocol::{Channel, sse};
use crate::session;

use super::auth::AuthError;
use super::handshake::{Admission, Admitted, LAST_EVENT_ID, Refusal, Wish};
use super::server::HEAD_BYTES_MAX;
use super::service::Seat;
use super::websocket::LOGGED_OUT;
use super::{App, ClientAddress, Problem, body, trace};

/// What the stream is, for browsers.
const EVENT_STREAM: &str = "text/event-stream";
/// Nothing keeps it, and nothing gathers it up to compress it.
const NO_STORE: &str = "no-store, no-transform";
/// How long browsers wait before they come back, in milliseconds: each stream
/// its own time, or the clients of a node that died would come as one.
const RETRY_MS: std::ops::Range<u64> = 500..3_000;
/// The same when the node has asked them to come later.
const RETRY_LATER_MS: std::ops::Range<u64> = 1_000..5_000;

impl App {
    /// Turns the connection into a stream of events; answers only a refusal.
    pub(super) async fn events(
        &self,
        headers: &HeaderMap,
        query: &str,
        client: ClientAddress,
        seat: Seat,
    ) -> Result<Response, Problem> {
        if let Err(problem) = self.admit_handshake() {
            let code = if problem.code == "draining" { CloseCode::RESTART } else { CloseCode::OVERLOADED };
            return Ok(come_back(code, &problem.detail));
        }
        let wish = Wish::events(headers, query);
        if !can_come_back(headers, query, wish.asked.topics.len()) {
            self.refused("handshake");
            let detail =
                "the address leaves no room for Last-Event-ID: ask for fewer topics, or use a WebSocket";
            return Err(Problem::invalid("invalid_parameter", detail));
        }
        let visitor = match self.visitor(client) {
            Ok(visitor) => visitor,
            Err(problem) => return Ok(come_back(CloseCode::OVERLOADED, &problem.detail)),
        };
        let admission = self.admission(headers, &wish, visitor.place.is_some()).await;
        match &admission {
            Admission::Enter(_) => {}
            Admission::Await(_) => {
                self.refused("token");
                return Err(refusal(AuthError::NoToken.into()));
            }
            Admission::Refuse(refused) if passes(refused.code) => {
                return Ok(come_back(refused.code, &refused.reason));
            }
            Admission::Refuse(refused) => return Err(refusal(refused.clone())),
        }
        if seat.takeover.is_blocked() {
            let detail = "read the answers before, or ask on a connection of its own";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail));
        }
        let (app, head) = (self.clone(), self.head(&seat));
        let begin = move |stream: TcpStream, _| {
            give_up_on_dead_peers(&stream, &app.inner.session_options);
            app.begin(stream, Bytes::new(), head, wish, admission, visitor);
        };
        match seat.takeover.instead_of_answer(begin).await {}
    }

    /// Takes what a device says that it received of an event stream.
    pub(super) async fn acks(
        &self,
        headers: &HeaderMap,
        query: &str,
        body: &Bytes,
    ) -> Result<Response, Problem> {
        if self.inner.acks.check().is_err() {
            let detail = "too many acknowledgements at once (ten for each of handshakes_per_second_max); try again in a moment";
            return Err(Problem::unavailable("ack_rate", detail, rand::random_range(1..=5)));
        }
        let wish = Wish::events(headers, query);
        let Admitted { identity, issued_at_ms, .. } = match wish.admission(headers, &self.inner.gate).await {
            Admission::Enter(admitted) => admitted,
            Admission::Await(_) => return Err(refusal(AuthError::NoToken.into())),
            Admission::Refuse(refused) => return Err(refusal(refused)),
        };
        // A session asks this when it begins, and a logout closes it; this comes at any time.
        if !self.inner.gate.authenticator.is_open() {
            let issued_at_ms = issued_at_ms.unwrap_or(0);
            let logged_out = self.inner.delivery.is_logged_out(&identity.user, issued_at_ms).await;
            if logged_out.map_err(|_| refusal(AuthError::StoreAway.into()))? {
                return Err(refusal(Refusal::new(CloseCode::TOKEN, LOGGED_OUT)));
            }
        }
        let user = identity.user.clone();
        let device = identity.device.clone().ok_or_else(|| {
            Problem::invalid(
                "invalid_parameter",
                "?device= must say who received: without it, written counts",
            )
        })?;
        let AcksBody { positions } = body::parse(body, r#"an ack is {"positions": {"user:alice": "…"}}"#)?;
        if positions.is_empty() || positions.len() > CHANNELS_MAX {
            let detail = format!("\"positions\" has 1 to {CHANNELS_MAX} channels");
            return Err(Problem::invalid("invalid_channels", detail));
        }
        let of_channel = |(channel, position): (String, _)| match channel.parse::<Channel>()? {
            channel if self.inner.delivery.may_follow(&identity, &channel) => Ok((channel, position)),
            _ => Err(Problem::invalid("invalid_channel", "the token allows no such channel")),
        };
        let positions = positions.into_iter().map(of_channel).collect::<Result<Vec<_>, Problem>>()?;
        for (channel, position) in positions {
            self.inner.delivery.received(&channel, &device.within(&channel, &user), position)?;
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// The head of the answer and the first line of the stream. The connection's
    /// end is the stream's: nothing else ever follows on it.
    fn head(&self, seat: &Seat) -> Bytes {
        let mut headers = stream_headers();
        headers.insert(trace::REQUEST_ID, seat.request_id.clone());
        self.finish_answer(seat.reader.as_ref(), &mut headers);
        let date = httpdate::fmt_http_date(SystemTime::now());
        let mut head = format!("HTTP/1.1 200 OK\r\ndate: {date}\r\n").into_bytes();
        for (name, value) in &headers {
            head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend_from_slice(b"\r\n");
        head.extend_from_slice(&sse::encode_retry(rand::random_range(RETRY_MS)));
        head.into()
    }
}

/// Whether the same request with an id of the stream's is one that we take:
/// browsers would give up for good if it were not. Who gives positions of its own
/// has no need of ids.
fn can_come_back(headers: &HeaderMap, query: &str, topics: usize) -> bool {
    const AROUND: usize = "GET /v1/events? HTTP/1.1\r\nLast-Event-ID: \r\n\r\n".len();
    let line =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
    let head = AROUND + query.len() + headers.iter().map(line).sum::<usize>();
    let id = text_bytes_max((topics + 1).min(CHANNELS_MAX));
    head + id <= HEAD_BYTES_MAX
        || headers.contains_key(LAST_EVENT_ID)
        || url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "positions")
}

fn stream_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (CACHE_CONTROL, HeaderValue::from_static(NO_STORE)),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        // A balancer sends the next request elsewhere only on another connection.
        (CONNECTION, HeaderValue::from_static("close")),
    ])
}

/// A stream that says why it ends at once, and when to come back.
fn come_back(code: CloseCode, reason: &str) -> Response {
    let mut body = sse::encode_retry(rand::random_range(RETRY_LATER_MS)).to_vec();
    body.extend_from_slice(&ServerFrame::Close { code: code.get(), reason }.encode_event());
    let mut response = Response::new(Bytes::from(body).into());
    *response.headers_mut() = stream_headers();
    response
}

/// Whether a later try may go well.
fn passes(code: CloseCode) -> bool {
    matches!(code, CloseCode::OVERLOADED | CloseCode::STORE_AWAY)
}

/// What a status tells.
fn refusal(refused: Refusal) -> Problem {
    match refused.code {
        CloseCode::TOKEN => Problem::new(StatusCode::UNAUTHORIZED, "invalid_token", refused.reason),
        CloseCode::ORIGIN => Problem::new(StatusCode::FORBIDDEN, "origin", refused.reason),
        // Not all at once: everyone who is told so comes back.
        code if passes(code) => {
            Problem::unavailable("store_unavailable", refused.reason, rand::random_range(1..=5))
        }
        _ => Problem::invalid("invalid_parameter", refused.reason),
    }
}

/// Nobody answers a comment, so the kernel has to say that it did not arrive.
/// Later than a reader that stands still is closed as slow, which tells it why.
fn give_up_on_dead_peers(stream: &TcpStream, options: &session::Options) {
    let limit = options.write_stall_max + options.pong_timeout;
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(limit)) {
        // The peer has gone already: reading will say so.
        tracing::debug!(%error, "a socket option could not be set");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, limit);
}
