//! What pages of other origins may do, and what browsers are told about answers.
//!
//! Nothing, unless `cors` is on: then pages of `allowed_origins` may ask and read.
//! A node that anyone may use refuses other pages' requests altogether, links and
//! images included, since for those a browser asks nobody: on a developer's
//! machine every page that is looked at could push and listen. Nor does it answer
//! to names that somebody else may have pointed at it.

use std::net::IpAddr;

use hyper::{Method, Request, Uri};
use percent_encoding::percent_decode_str;
use warp::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, HOST, ORIGIN, VARY, X_CONTENT_TYPE_OPTIONS,
};
use warp::http::uri::Authority;
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use super::websocket::is_upgrade;
use super::{App, Problem};

const METHODS: &str = "GET, POST, DELETE";
const REQUEST_HEADERS: &str =
    "authorization, content-type, idempotency-key, last-event-id, traceparent, x-request-id";
const ANSWER_HEADERS: &str = "retry-after, ratelimit, ratelimit-policy, traceparent, x-request-id";
/// Seconds that a browser remembers what it was told.
const MAX_AGE: &str = "600";

/// Paths that a node with a listener for operators serves only there, in every
/// form in which a router might still know them.
pub(super) fn is_for_operators(uri: &Uri, headers: &HeaderMap) -> bool {
    let path = percent_decode_str(uri.path()).decode_utf8_lossy();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments[..] {
        // As an upgrade it is a session.
        [] => !is_upgrade(headers),
        ["metrics" | "console" | "docs" | "openapi.json"] | ["v1", "stats" | "nodes"] => true,
        [first, ..] => first == "assets",
    }
}

impl App {
    /// The answer to a question that a browser asks before a request.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response> {
        let asks = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let origin = self.reads(request.headers()).filter(|_| asks)?;
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        self.finish_answer(Some(&origin), headers);
        Some(response)
    }

    /// The origin of the page that asks, if pages of its may read answers.
    pub(super) fn reads(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let options = &self.inner.options;
        let origin = headers.get(ORIGIN).filter(|_| options.cors)?;
        let listed = options.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
        listed.then(|| origin.clone())
    }

    /// Why a page's request is not even looked at, if it is not. Upgrades are let
    /// pass: what a browser must be able to read is told on the socket, and with
    /// those it says the page's origin always.
    pub(super) fn refuses_page<B>(&self, request: &Request<B>) -> Option<Problem> {
        let headers = request.headers();
        let guarded = !self.inner.gate.authenticator.is_open() || is_upgrade(headers);
        if guarded || !request.uri().path().starts_with("/v1/") {
            return None;
        }
        let problem = if !self.inner.gate.is_allowed(headers) {
            let detail = "this node asks nobody who they are (auth none), so pages of other origins may not use it; \
                          list this one in allowed_origins, or use --auth jwt";
            Problem::new(StatusCode::FORBIDDEN, "origin", detail)
        } else if !self.is_called_by_name(request) {
            let detail = "this node asks nobody who they are (auth none), so it answers only to names that are surely \
                          its own; say 127.0.0.1 or localhost, list scheme://host[:port] as it is called in \
                          allowed_origins, or use --auth jwt";
            Problem::new(StatusCode::FORBIDDEN, "host", detail)
        } else {
            return None;
        };
        if request.uri().path() == "/v1/events" {
            self.refused("origin");
        }
        Some(problem)
    }

    /// Whether a request is to a name that nobody else can point at this machine.
    /// One of somebody's own makes their page of the same origin as this node, and
    /// then a browser sends no `Origin`. A request that names nobody is no browser's.
    fn is_called_by_name<B>(&self, request: &Request<B>) -> bool {
        let options = &self.inner.options;
        let listed = options.allowed_origins.iter().filter_map(|origin| origin.split_once("://"));
        let own: Vec<&str> =
            listed.map(|(_, authority)| authority).chain(options.advertised.as_deref()).collect();
        let hosts = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
        let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        hosts.chain(named).all(|name| is_own_name(name, &own))
    }

    /// What every answer tells a browser.
    pub(super) fn finish_answer(&self, reader: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
        // What is not marked otherwise is about somebody, or about now.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if self.inner.options.cors {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = reader {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(ANSWER_HEADERS));
        }
    }
}

/// Addresses are nobody's names, and what is below `localhost` is this machine.
fn is_own_name(authority: &[u8], own: &[&str]) -> bool {
    let Ok(authority) = Authority::try_from(authority) else { return false };
    if own.iter().any(|own| authority.as_str().eq_ignore_ascii_case(own)) {
        return true;
    }
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    // Some systems take the unspecified address for this machine, and browsers do
    // not say there which page asks.
    let is_own = |address: IpAddr| !address.is_unspecified() && address == address.to_canonical();
    address.is_ok_and(is_own) || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use warp::http::header::{CONNECTION, UPGRADE};

    #[test]
    fn what_operators_look_at_is_told_from_what_everybody_needs() {
        let none = HeaderMap::new();
        for path in [
            "/metrics",
            "/console",
            "/",
            "/assets/base.css",
            "/v1/stats",
            "/v1/nodes?x=1",
            "/docs",
            "/metrics/",
            "/openapi.json/",
            "/v1/stats/",
            "//metrics",
            "/v1//nodes//",
            "/%6Detrics",
            "http://node/console/",
        ] {
            assert!(is_for_operators(&Uri::from_static(path), &none), "{path}");
        }
        for path in ["/v1/push", "/v1/ws", "/healthz", "/readyz", "/v1/messages/1", "/consoles"] {
            assert!(!is_for_operators(&Uri::from_static(path), &none), "{path}");
        }
        let asks = |upgrade, connection| {
            let headers = [(UPGRADE, upgrade), (CONNECTION, connection)];
            HeaderMap::from_iter(headers.map(|(name, value)| (name, HeaderValue::from_static(value))))
        };
        assert!(!is_for_operators(&Uri::from_static("/"), &asks("websocket", "keep-alive, Upgrade")));
        for (upgrade, connection) in [("x", "upgrade"), ("websocket", "close")] {
            assert!(is_for_operators(&Uri::from_static("/"), &asks(upgrade, connection)), "{upgrade}");
        }
    }
}
