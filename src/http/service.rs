//! Around every route: the request's id, and problems rendered with it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use warp::http::HeaderValue;
use warp::reply::Response;

use crate::protocol::MessageId;

use super::{App, Problem};

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
        let answer = move |request: Request<Incoming>| -> Answer {
            let id = request_id(&request);
            let answer = routes.call(request);
            Box::pin(async move {
                let mut response = answer.await?;
                if let Some(problem) = response.extensions_mut().remove::<Problem>() {
                    let (status, code) = (problem.status.as_u16(), problem.code);
                    tracing::debug!(request_id = ?id, status, code, "refused");
                    response = problem.render(id.to_str().unwrap_or_default());
                }
                response.headers_mut().insert(REQUEST_ID, id);
                Ok(response)
            })
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
