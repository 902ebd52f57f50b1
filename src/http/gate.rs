//! Whose a session is: what a handshake or frame shows, checked with everything
//! that has to be asked.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use warp::http::HeaderMap;

use crate::protocol::close::CloseCode;
use crate::protocol::{Channel, Device, Grant, Pattern};
use crate::store::{Store, TicketHash};

use super::auth::{AuthError, Authenticator, Identity};
use super::credentials::{Presented, TokenSource};
use super::handshake::{Refusal, origin_allowed};

/// Tickets are as long as 256 random bits in base64url, without padding.
const TICKET_BYTES: usize = 32;

/// Lets in, or says why not.
pub(super) struct Gate {
    pub(super) authenticator: Authenticator,
    store: Arc<dyn Store>,
    allowed_origins: Vec<String>,
}

/// What a ticket stands for, as the store keeps it.
#[derive(Serialize, Deserialize)]
struct Stub {
    user: Channel,
    topics: Vec<Pattern>,
    device: Option<String>,
    expires_at: Option<u64>,
    issued_at_ms: Option<u64>,
}

impl Gate {
    pub(super) fn new(
        authenticator: Authenticator,
        store: Arc<dyn Store>,
        allowed_origins: Vec<String>,
    ) -> Self {
        Self { authenticator, store, allowed_origins }
    }

    /// Whose session a handshake is for, by what it presents; nobody's yet when
    /// that is nothing.
    pub(super) async fn handshake(
        &self,
        presented: Option<&Presented>,
        headers: &HeaderMap,
    ) -> Option<Result<Identity, Refusal>> {
        if let Some(refusal) = self.bars(headers) {
            return Some(Err(refusal));
        }
        let hooked = self.authenticator.hook_headers(headers);
        let ambient = presented.is_none_or(|presented| presented.source.is_ambient());
        if presented.is_none() && hooked.is_none() {
            return None;
        }
        // A browser adds cookies whatever page asks, so the page counts.
        if ambient && !self.is_allowed(headers) {
            return Some(Err(foreign_page()));
        }
        let whose = match presented {
            Some(Presented { token, source: TokenSource::Ticket }) => self.redeem(token).await,
            Some(presented) => self.token(&presented.token, hooked.as_ref()).await,
            None => self.authenticator.session(hooked.as_ref().unwrap_or(headers)).await,
        };
        Some(whose.map_err(Refusal::from))
    }

    /// Why whoever sent these headers may not come in, whatever they show now or
    /// later. Where a token is only a name, any page could make one up.
    pub(super) fn bars(&self, headers: &HeaderMap) -> Option<Refusal> {
        (self.authenticator.is_open() && !self.is_allowed(headers)).then(foreign_page)
    }

    /// Whose token this is; `hooked` is what a hook may be told of its handshake.
    pub(super) async fn token(&self, token: &str, hooked: Option<&HeaderMap>) -> Result<Identity, AuthError> {
        self.authenticator.user_of(token, hooked).await
    }

    /// Whether the page that sent these headers, if one did, may act for its
    /// visitor.
    pub(super) fn is_allowed(&self, headers: &HeaderMap) -> bool {
        origin_allowed(headers, &self.allowed_origins, self.authenticator.is_open())
    }

    /// Makes a ticket: whoever shows it first is let in as `identity`.
    pub(super) async fn issue(
        &self,
        identity: &Identity,
        ttl_ms: u64,
    ) -> Result<String, crate::store::Error> {
        let ticket = URL_SAFE_NO_PAD.encode(rand::random::<[u8; TICKET_BYTES]>());
        let stub = Stub {
            user: identity.user.clone(),
            topics: identity.topics.patterns().to_vec(),
            device: identity.device.as_ref().map(Device::to_string),
            expires_at: identity.expires_at,
            issued_at_ms: identity.issued_at_ms,
        };
        let stub = serde_json::to_vec(&stub).expect("texts and numbers");
        self.store.keep_ticket(&hash(&ticket), stub.into(), ttl_ms).await?;
        Ok(ticket)
    }

    async fn redeem(&self, ticket: &str) -> Result<Identity, AuthError> {
        // What cannot be one costs the store nothing.
        if URL_SAFE_NO_PAD.decode(ticket).map_or(0, |bytes| bytes.len()) != TICKET_BYTES {
            return Err(AuthError::Ticket);
        }
        let stub = self.store.take_ticket(&hash(ticket)).await.map_err(|error| {
            tracing::warn!(%error, "a ticket could not be looked up");
            AuthError::StoreAway
        })?;
        let stub: Stub =
            serde_json::from_slice(&stub.ok_or(AuthError::Ticket)?).map_err(|_| AuthError::Ticket)?;
        Ok(Identity {
            user: stub.user,
            topics: Grant::new(stub.topics).map_err(|_| AuthError::Ticket)?,
            device: stub.device.map(|device| device.parse()).transpose().map_err(|_| AuthError::Ticket)?,
            expires_at: stub.expires_at,
            issued_at_ms: stub.issued_at_ms,
        })
    }
}

fn foreign_page() -> Refusal {
    Refusal::new(CloseCode::ORIGIN, "pages of this origin may not connect; list it in allowed_origins")
}

fn hash(ticket: &str) -> TicketHash {
    Sha256::digest(ticket).into()
}
