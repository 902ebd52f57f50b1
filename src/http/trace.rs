//! What a caller sends along so that its request can be found again: an id of
//! its own (`X-Request-Id`) and its place in a trace (`traceparent`).

use warp::http::HeaderMap;

use crate::protocol::trace;

/// The header that carries a request's id, in and out.
pub(super) const REQUEST_ID: &str = "x-request-id";
/// The header that carries a request's place in a trace, in and out.
pub(super) const TRACEPARENT: &str = "traceparent";

/// The caller's id of its request, if it is one that can be logged.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(REQUEST_ID)?.to_str().ok().filter(|id| trace::is_request_id(id))
}

/// The caller's place in a trace. One that is not well formed is none, as its
/// standard says.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers.get(TRACEPARENT)?.to_str().ok().filter(|parent| trace::is_traceparent(parent))
}

/// Both, as a message carries them.
pub(super) fn carried(headers: &HeaderMap) -> Option<Box<str>> {
    trace::join(traceparent(headers), request_id(headers))
}
