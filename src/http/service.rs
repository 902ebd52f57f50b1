//! Around every route: the request's id, and problems rendered with it.
//!
//! A plain `POST /v1/push` does not go through warp: of what a push costs the
//! node, its chain of filters was more than reading the push itself.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper::{Method, Request};
use hyper_util::service::TowerToHyperService;
use warp::http::HeaderValue;
use warp::reply::{Reply, Response};

use crate::protocol::MessageId;

use super::{App, Problem, body};

/// The header that carries a request's id, in and out.
const REQUEST_ID: &str = "x-request-id";
/// The longest id taken from a caller.
const REQUEST_ID_BYTES_MAX: usize = 128;

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Serves one connection's requests. Warp's service has no name, so it hides in
/// a closure.
#[derive(Clone)]
pub(super) struct Service {
    answer: Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>,
}

impl Service {
    pub(super) fn new(app: &App) -> Self {
        let routes = TowerToHyperService::new(warp::service(app.routes()));
        let app = app.clone();
        let answer = move |request: Request<Incoming>| -> Answer {
            let id = request_id(&request);
            if is_push(&request) {
                let app = app.clone();
                return Box::pin(async move {
                    let (head, body) = request.into_parts();
                    let bytes_max = app.inner.options.body_bytes_max;
                    let answer = match body::read(body.into_data_stream(), bytes_max).await {
                        Ok(body) => app.push(&head.headers, body).await,
                        Err(problem) => Err(problem),
                    };
                    Ok(finished(answer.unwrap_or_else(Reply::into_response), id))
                });
            }
            let answer = routes.call(request);
            Box::pin(async move { Ok(finished(answer.await?, id)) })
        };
        Self { answer: Arc::new(answer) }
    }
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        (self.answer)(request)
    }
}

/// The route that most requests take, as `routes` has it too.
fn is_push(request: &Request<Incoming>) -> bool {
    request.method() == Method::POST && request.uri().path() == "/v1/push"
}

fn finished(mut response: Response, id: HeaderValue) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let (status, code) = (problem.status.as_u16(), problem.code);
        tracing::debug!(request_id = ?id, status, code, "refused");
        response = problem.render(id.to_str().unwrap_or_default());
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The caller's id if it is one that can be logged, else a fresh one.
fn request_id(request: &Request<Incoming>) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|id| {
        let plain = id.as_bytes().iter().all(u8::is_ascii_graphic);
        plain && !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX
    });
    given.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&MessageId::generate().to_string()).expect("a ULID is a header value")
    })
}
