//! Around every route: whose request it is and what it is called, and problems
//! rendered with that.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use warp::http::HeaderValue;
use warp::reply::Response;

use crate::protocol::MessageId;

use super::client::ClientAddress;
use super::{App, Problem, trace};

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Serves one connection's requests. Warp's service has no name, so it hides in
/// a closure.
#[derive(Clone)]
pub(super) struct Service {
    answer: Arc<dyn Fn(Request<Incoming>, ClientAddress) -> Answer + Send + Sync>,
    peer: ClientAddress,
}

impl Service {
    pub(super) fn new(app: &App) -> Self {
        let routes = TowerToHyperService::new(warp::service(app.routes()));
        let proxies = app.inner.options.trusted_proxies.clone();
        let answer = move |mut request: Request<Incoming>, peer: ClientAddress| -> Answer {
            let (id, traceparent) = (request_id(&request), traceparent(&request));
            let client = proxies.client(peer, request.headers());
            request.extensions_mut().insert(client);
            let answer = routes.call(request);
            Box::pin(async move {
                let mut response = answer.await?;
                if let Some(problem) = response.extensions_mut().remove::<Problem>() {
                    let (status, code) = (problem.status.as_u16(), problem.code);
                    tracing::debug!(request_id = ?id, %client, status, code, "refused");
                    response = problem.render(id.to_str().unwrap_or_default());
                }
                response.headers_mut().insert(trace::REQUEST_ID, id);
                if let Some(traceparent) = traceparent {
                    response.headers_mut().insert(trace::TRACEPARENT, traceparent);
                }
                Ok(response)
            })
        };
        Self { answer: Arc::new(answer), peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED).into() }
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
        (self.answer)(request, self.peer)
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
