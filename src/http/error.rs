//! Problem documents (RFC 9457): the one place that maps errors to answers.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use warp::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use warp::http::{Response, StatusCode};
use warp::reply::Reply;

use crate::protocol::ChannelError;
use crate::store;

use super::rate::Allowance;

/// A refusal: what a program and a person need to know to do better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people: what to do.
    pub detail: String,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u32>,
    /// How much the sender may still push, where that is limited.
    pub(super) allowance: Option<Allowance>,
}

impl Problem {
    /// A refusal without `Retry-After`.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, allowance: None }
    }

    /// 422: the request was understood and cannot be accepted as it is.
    pub fn invalid(code: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail.to_string())
    }

    /// 503, to be tried again.
    pub fn unavailable(code: &'static str, detail: impl Into<String>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// The document, for the request of that id.
    #[must_use]
    pub fn render(&self, request_id: &str) -> warp::reply::Response {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            code: &'a str,
            request_id: &'a str,
        }
        let document = Document {
            r#type: format!("urn:postrider:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Problem"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            request_id,
        };
        let body = serde_json::to_vec(&document).expect("strings and a number");
        let mut response = Response::new(Bytes::from(body).into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allowance) = self.allowance {
            allowance.tell(headers);
        }
        response
    }
}

impl Reply for Problem {
    /// A placeholder that carries the problem: whoever knows the request's id
    /// ([`super::service`]) renders it.
    fn into_response(self) -> warp::reply::Response {
        let mut response = Response::default();
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable(_) => Self::unavailable(
                "store_unavailable",
                "the store cannot be reached and the message was not accepted; try again with the same Idempotency-Key",
                1,
            ),
            store::Error::Timeout { .. } => Self::unavailable(
                "store_timeout",
                "the store did not answer in time, so the message may or may not be accepted; \
                 try again with the same Idempotency-Key",
                1,
            ),
            store::Error::OutOfMemory => Self {
                retry_after: Some(10),
                ..Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "store_out_of_memory",
                    "the store is out of memory and accepts nothing; raise its maxmemory or lower TTLs",
                )
            },
            store::Error::IdempotencyMismatch => {
                Self::invalid("idempotency_key_reused", "this Idempotency-Key was used with a different body")
            }
            store::Error::Fenced | store::Error::Corrupt { .. } | store::Error::Refused { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the node's log says what failed")
            }
        }
    }
}

impl From<ChannelError> for Problem {
    fn from(error: ChannelError) -> Self {
        Self::invalid("invalid_channel", error)
    }
}

/// What is served to operators alone.
pub(super) fn elsewhere() -> Problem {
    let detail = "this is served at the listener for operators (admin_listen)";
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

/// The limit that a refusal with this code stands for, as the metric names it.
pub(super) fn limit_of(code: &str) -> Option<&'static str> {
    Some(match code {
        "body_timeout" => "body_time",
        "body_too_large" => "body_bytes",
        "invalid_batch" => "batch_messages",
        "invalid_recipients" => "recipients",
        "invalid_ttl" => "ttl",
        "push_rate" => "push_rate",
        "ack_rate" => "ack_rate",
        _ => return None,
    })
}

/// What is left when no route took a request.
pub(super) fn from_rejection(rejection: &warp::Rejection) -> Problem {
    if rejection.is_not_found() {
        let detail = "no such resource; GET / lists what there is";
        return Problem::new(StatusCode::NOT_FOUND, "not_found", detail);
    }
    if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        let detail = "this resource does not take that method";
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    }
    if rejection.find::<warp::reject::InvalidQuery>().is_some() {
        return Problem::new(StatusCode::BAD_REQUEST, "invalid_query", "the query string cannot be read");
    }
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", "the request cannot be read")
}
