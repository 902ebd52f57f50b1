//! `POST /v1/tickets` and `POST /v1/users/{user}/logout`: letting in and sending away.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::{Reply, Response};

use crate::protocol::rest::rfc3339;
use crate::protocol::tickets::{LogoutAnswer, TicketAnswer, TicketBody};
use crate::protocol::{Channel, Grant};

use super::auth::{AuthError, Identity, Need};
use super::credentials::presented;
use super::routes::unescape;
use super::{App, Problem, body};

/// More than any request for a ticket needs.
const TICKET_BODY_BYTES_MAX: usize = 16 * 1_024;
/// How long a ticket is good for unless the request says otherwise: it is used at
/// once, by whoever just asked for it.
const TTL_DEFAULT: u64 = 30;
/// The longest that may be asked for, in seconds.
const TTL_MAX: u64 = 300;

/// How long a session may be let in for, in seconds: what lasts longer is as good
/// as endless.
const EXPIRES_IN: RangeInclusive<u64> = 1..=365 * 24 * 3_600;

impl App {
    pub(super) fn ticket_routes(&self) -> BoxedFilter<(Response,)> {
        let ticket = warp::path!("v1" / "tickets")
            .and(warp::post())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .and(warp::body::stream())
            .then(|app: Self, headers: HeaderMap, stream| async move {
                match body::read(stream, body::Limit::fixed(TICKET_BODY_BYTES_MAX)).await {
                    Ok(body) => app.ticket(&headers, &body).await.unwrap_or_else(Reply::into_response),
                    Err(problem) => problem.into_response(),
                }
            });
        let logout = warp::path!("v1" / "users" / String / "logout")
            .and(warp::post())
            .and(self.with())
            .and(warp::header::headers_cloned())
            .then(|user: String, app: Self, headers: HeaderMap| async move {
                app.log_out(&headers, &unescape(&user)).await.unwrap_or_else(Reply::into_response)
            });
        ticket.or(logout).unify().boxed()
    }

    async fn ticket(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Problem> {
        let asked = read(body)?;
        let ttl = asked.ttl.unwrap_or(TTL_DEFAULT);
        if ttl == 0 || ttl > TTL_MAX {
            return Err(Problem::invalid(
                "invalid_ttl",
                format!("a ticket's \"ttl\" is 1 to {TTL_MAX} seconds"),
            ));
        }
        let identity = match &asked.user {
            Some(user) => {
                self.authorize(headers, Need::Tickets).await?;
                for_user(user, &asked)?
            }
            None => self.for_oneself(headers, &asked).await?,
        };
        let ticket = self.inner.gate.issue(&identity, ttl * 1_000).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ends = now + Duration::from_secs(ttl);
        let expires_at = rfc3339(u64::try_from(ends.as_millis()).unwrap_or(u64::MAX));
        let answer = warp::reply::json(&TicketAnswer { ticket, expires_at });
        Ok(warp::reply::with_status(answer, StatusCode::CREATED).into_response())
    }

    /// A ticket for whoever asks, by the token that they show.
    async fn for_oneself(&self, headers: &HeaderMap, asked: &TicketBody) -> Result<Identity, Problem> {
        if asked.topics.is_some() || asked.expires_in.is_some() {
            let detail = "a user's own ticket allows what their token allows: \"topics\" and \"expires_in\" are for \
                          backends, which name the \"user\"";
            return Err(Problem::invalid("invalid_body", detail));
        }
        let shown = presented(headers, None)?;
        let identity = match self.inner.gate.handshake(shown.as_ref(), headers).await {
            None => return Err(AuthError::NoToken.into()),
            Some(whose) => whose?,
        };
        match (&identity.device, device(asked)?) {
            (Some(of_token), Some(asked)) if *of_token != asked => Err(AuthError::OtherDevice.into()),
            (None, Some(asked)) => Ok(Identity { device: Some(asked), ..identity }),
            _ => Ok(identity),
        }
    }

    /// First what makes their tokens worthless, then the sessions: whoever comes
    /// between the two is turned away.
    async fn log_out(&self, headers: &HeaderMap, user: &str) -> Result<Response, Problem> {
        self.authorize(headers, Need::Admin).await?;
        let user = Channel::user(user)?;
        let remember = u64::try_from(self.inner.options.logout_memory.as_millis()).unwrap_or(u64::MAX);
        let at_ms = self.inner.delivery.store().log_out(&user, remember).await?;
        let nodes = self.inner.delivery.disconnect(&user).await?;
        let answer = warp::reply::json(&LogoutAnswer { user, nodes, tokens_before: rfc3339(at_ms) });
        Ok(warp::reply::with_status(answer, StatusCode::ACCEPTED).into_response())
    }
}

fn read(body: &[u8]) -> Result<TicketBody, Problem> {
    if body.is_empty() {
        return Ok(TicketBody::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!(
            "{error}; the body may be empty, or {{\"user\": \"alice\", \"topics\": […], \"ttl\": 30}}"
        );
        match error.classify() {
            serde_json::error::Category::Data => Problem::invalid("invalid_body", detail),
            _ => Problem::new(StatusCode::BAD_REQUEST, "invalid_json", detail),
        }
    })
}

fn device(asked: &TicketBody) -> Result<Option<crate::protocol::Device>, Problem> {
    let device = asked.device.as_ref().map(|device| device.parse()).transpose();
    device.map_err(|error| Problem::invalid("invalid_body", format!("\"device\": {error}")))
}

/// What a backend lets a user do.
fn for_user(user: &str, asked: &TicketBody) -> Result<Identity, Problem> {
    let topics = asked.topics.as_deref().unwrap_or_default().iter().map(String::as_str);
    let topics = Grant::topics(topics)
        .map_err(|error| Problem::invalid("invalid_body", format!("\"topics\": {error}")))?;
    if asked.expires_in.is_some_and(|seconds| !EXPIRES_IN.contains(&seconds)) {
        let (from, to) = EXPIRES_IN.into_inner();
        let detail = format!("\"expires_in\" is {from} to {to} seconds; without it the session may last");
        return Err(Problem::invalid("invalid_body", detail));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Identity {
        user: Channel::user(user)?,
        topics,
        device: device(asked)?,
        expires_at: asked.expires_in.map(|seconds| now.as_secs().saturating_add(seconds)),
        issued_at_ms: Some(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
    })
}
