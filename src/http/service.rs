//! Around every route: whose request it is and what it is called, and problems
//! rendered with that.
//!
//! A plain `POST /v1/push` and a `GET /v1/ws` do not go through warp: of what a
//! push costs the node, its chain of filters was more than reading the push
//! itself.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request};
use hyper_util::service::TowerToHyperService;
use warp::http::header::CONNECTION;
use warp::http::{HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use crate::protocol::MessageId;

use super::client::ClientAddress;
use super::cross_site::is_for_operators;
use super::takeover::Takeover;
use super::{App, Problem, body, error, trace};

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

type Respond = dyn Fn(Request<Incoming>, ClientAddress, &Takeover) -> Answer + Send + Sync;

/// Serves one connection's requests. Warp's service has no name, so it hides in
/// a closure.
#[derive(Clone)]
pub(super) struct Service {
    answer: Arc<Respond>,
    peer: ClientAddress,
    takeover: Takeover,
}

/// The connection that a request came on, for those that take it over, and what
/// its answer says of the request.
#[derive(Clone)]
pub(super) struct Seat {
    pub(super) takeover: Takeover,
    pub(super) request_id: HeaderValue,
    /// The origin of a page that may read the answer.
    pub(super) reader: Option<HeaderValue>,
}

/// Whom a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Everybody; what operators look at only where they have no listener.
    Everybody,
    /// Operators.
    Operators,
}

impl Service {
    pub(super) fn new(app: &App, face: Face) -> Self {
        let routes = TowerToHyperService::new(warp::service(app.routes()));
        let proxies = app.inner.options.trusted_proxies.clone();
        let draining = app.inner.draining.clone();
        let app = app.clone();
        let hides = face == Face::Everybody && app.inner.options.apart;
        let answer =
            move |mut request: Request<Incoming>, peer: ClientAddress, takeover: &Takeover| -> Answer {
                let client = proxies.client(peer, request.headers());
                let caller = Caller {
                    app: app.clone(),
                    id: request_id(&request),
                    traceparent: traceparent(&request),
                    client,
                    reader: app.reads(request.headers()),
                    last: draining.is_cancelled(),
                };
                request.extensions_mut().insert(client);
                let elsewhere = hides && is_for_operators(request.uri(), request.headers());
                let early = app.preflight(&request).or_else(|| {
                    let problem =
                        if elsewhere { Some(error::elsewhere()) } else { app.refuses_page(&request) };
                    problem.map(Reply::into_response)
                });
                if let Some(early) = early {
                    return Box::pin(async move { Ok(caller.finish(early)) });
                }
                if is_push(&request) {
                    return Box::pin(async move {
                        let answer = caller.app.take_push(request).await;
                        Ok(caller.finish(answer))
                    });
                }
                let seat = Seat {
                    takeover: takeover.clone(),
                    request_id: caller.id.clone(),
                    reader: caller.reader.clone(),
                };
                if is_socket(&request) {
                    let answer = app.take_socket(request, client, &seat);
                    return Box::pin(std::future::ready(Ok(caller.finish(answer))));
                }
                request.extensions_mut().insert(seat);
                let answer = routes.call(request);
                Box::pin(async move { Ok(caller.finish(answer.await?)) })
            };
        let peer = IpAddr::V4(Ipv4Addr::UNSPECIFIED).into();
        Self { answer: Arc::new(answer), peer, takeover: Takeover::default() }
    }

    /// For a connection of its own.
    pub(super) fn connected(&self) -> Self {
        Self { takeover: Takeover::default(), ..self.clone() }
    }

    /// How the connection is taken over.
    pub(super) fn takeover(&self) -> Takeover {
        self.takeover.clone()
    }

    /// Says who is at the other end of the connection.
    pub(super) fn peer(&mut self, peer: ClientAddress) {
        self.peer = peer;
    }
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.takeover.note_request();
        (self.answer)(request, self.peer, &self.takeover)
    }
}

/// The route that most requests take, as `routes` has it too.
fn is_push(request: &Request<Incoming>) -> bool {
    request.method() == Method::POST && request.uri().path() == "/v1/push"
}

/// Likewise, of connections.
fn is_socket(request: &Request<Incoming>) -> bool {
    request.method() == Method::GET && request.uri().path() == "/v1/ws"
}

impl App {
    fn take_socket(&self, mut request: Request<Incoming>, client: ClientAddress, seat: &Seat) -> Response {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let query = request.uri().query().unwrap_or_default();
        let answer = self.upgrade(request.headers(), query, client, seat, upgrade);
        answer.unwrap_or_else(Reply::into_response)
    }

    async fn take_push(&self, request: Request<Incoming>) -> Response {
        let (head, body) = request.into_parts();
        let answer = match body::read(body.into_data_stream(), self.push_limit()).await {
            Ok(body) => self.push(&head.headers, body).await,
            Err(problem) => Err(problem),
        };
        answer.unwrap_or_else(Reply::into_response)
    }
}

/// Whose request it is, and what it is called.
struct Caller {
    app: App,
    id: HeaderValue,
    traceparent: Option<HeaderValue>,
    client: ClientAddress,
    /// The origin of a page that may read the answer.
    reader: Option<HeaderValue>,
    /// Whether the connection had better not be used again: the node is leaving.
    last: bool,
}

impl Caller {
    /// Renders a problem, and tells every answer's caller what its request is called.
    fn finish(self, mut response: Response) -> Response {
        let Self { app, id, traceparent, client, reader, last } = self;
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            let (status, code) = (problem.status.as_u16(), problem.code);
            tracing::debug!(request_id = ?id, %client, status, code, "refused");
            if let Some(limit) = error::limit_of(code) {
                app.inner.metrics.requests_limited.with(limit).increment(1);
            }
            response = problem.render(id.to_str().unwrap_or_default());
        }
        app.finish_answer(reader.as_ref(), response.headers_mut());
        app.inner.metrics.http_answers.with(class(response.status())).increment(1);
        response.headers_mut().insert(trace::REQUEST_ID, id);
        if last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(traceparent) = traceparent {
            response.headers_mut().insert(trace::TRACEPARENT, traceparent);
        }
        response
    }
}

/// What a status begins with, as the metric names it.
fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// The caller's id if it is one that can be logged, else a fresh one.
fn request_id(request: &Request<Incoming>) -> HeaderValue {
    let given = trace::request_id(request.headers()).and_then(|_| request.headers().get(trace::REQUEST_ID));
    given.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&MessageId::generate().to_string()).expect("a ULID is a header value")
    })
}

fn traceparent(request: &Request<Incoming>) -> Option<HeaderValue> {
    trace::traceparent(request.headers()).and_then(|_| request.headers().get(trace::TRACEPARENT)).cloned()
}
