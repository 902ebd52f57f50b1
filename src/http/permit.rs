//! Whether whoever sent a request may have it.

use warp::http::header::AUTHORIZATION;
use warp::http::{HeaderMap, StatusCode};

use crate::protocol::close::CloseCode;

use super::auth::{AuthError, Need, Sender};
use super::handshake::Refusal;
use super::{App, Problem};

impl App {
    /// Who sends, if they are known here.
    pub(super) async fn sender(&self, headers: &HeaderMap) -> Result<Sender, Problem> {
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        Ok(self.inner.gate.authenticator.sender(authorization).await?)
    }

    /// Who asks, if they may.
    pub(super) async fn authorize(&self, headers: &HeaderMap, need: Need<'_>) -> Result<Sender, Problem> {
        let sender = self.sender(headers).await?;
        permit(&sender, need)?;
        Ok(sender)
    }
}

/// Whether a sender may do something.
pub(super) fn permit(sender: &Sender, need: Need<'_>) -> Result<(), Problem> {
    if sender.may(need) {
        return Ok(());
    }
    let scope = need.scope();
    let detail = match need {
        Need::Push(channel) => format!(
            "'{}' may not push to {channel}: give its entry in api_keys the scope push={channel}, or push for all",
            sender.name()
        ),
        _ => format!("'{}' may not do this: give its entry in api_keys the scope {scope}", sender.name()),
    };
    Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        if error.is_passing() {
            return Self::unavailable("auth_unavailable", error.to_string(), 1);
        }
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { code, reason }: Refusal) -> Self {
        match code {
            CloseCode::ORIGIN => Self::new(StatusCode::FORBIDDEN, "origin", reason),
            CloseCode::OVERLOADED => Self::unavailable("auth_unavailable", reason, 1),
            _ => Self::new(StatusCode::UNAUTHORIZED, "unauthorized", reason),
        }
    }
}
