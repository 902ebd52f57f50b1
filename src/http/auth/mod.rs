//! Who a receiver is, and whether a sender may send.
//!
//! [`Authenticator`] is asked for every handshake, request and `auth` frame.
//! Tokens are checked here against keys that are each pinned to one algorithm
//! (`keys`): secrets, public keys in PEM (`pem`), and keys published at a URL
//! (`jwks`), which is the only I/O of this module. It refuses to know sockets,
//! routes and the store.

mod error;
mod hook;
mod jwks;
mod jwt;
mod keys;
mod options;
mod pem;
mod senders;
#[cfg(test)]
mod tests;

use std::fmt;

use hyper::HeaderMap;
use hyper::header::COOKIE;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::protocol::{Channel, Device, Grant};

pub use error::AuthError;
pub use hook::HookOptions;
pub use options::{AuthOptions, Guards, JWT_ALGORITHMS, JwtAlgorithm, check_public_keys};
pub use senders::{API_KEYS_MAX, ApiKey, Need, Scopes, Sender};

use hook::Hook;
use jwt::Verifier;
use senders::ApiKeys;

/// The longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Who a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's own channel.
    pub user: Channel,
    /// The topics that its sessions may subscribe to.
    pub topics: Grant,
    /// The device that it is for, if it is for one only.
    pub device: Option<Device>,
    /// When the token stops being valid: seconds since 1970.
    pub expires_at: Option<u64>,
    /// When it was made, if it says so: milliseconds since 1970.
    pub issued_at_ms: Option<u64>,
}

/// Checks tokens and keys.
pub struct Authenticator(Mode);

enum Mode {
    None,
    Guarded(Box<Guarded>),
}

struct Guarded {
    tokens: Verifier,
    /// Asked about what is no token that can be checked here.
    hook: Option<Hook>,
    keys: ApiKeys,
    /// Whether services may show tokens instead of keys.
    service_tokens: bool,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Mode::None => "Authenticator(none)",
            Mode::Guarded(_) => "Authenticator(guarded)",
        })
    }
}

impl Authenticator {
    /// Prepares the keys; published ones are fetched under `tasks`.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn new(options: &AuthOptions, metrics: &Metrics, tasks: &TaskTracker) -> Result<Self, String> {
        let AuthOptions::Guarded(guards) = options else { return Ok(Self(Mode::None)) };
        let tokens = Verifier::new(guards, metrics, tasks)?;
        let hook = guards.hook.as_ref().map(|options| Hook::new(options, metrics)).transpose()?;
        let (keys, service_tokens) = (ApiKeys::new(&guards.api_keys), guards.service_tokens);
        Ok(Self(Mode::Guarded(Box::new(Guarded { tokens, hook, keys, service_tokens }))))
    }

    /// Whether anyone may connect and send.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.0, Mode::None)
    }

    /// What of a handshake's headers the hook may be told, if there is a hook and
    /// anything to ask it about.
    #[must_use]
    pub fn hook_headers(&self, headers: &HeaderMap) -> Option<HeaderMap> {
        let Mode::Guarded(guarded) = &self.0 else { return None };
        let hook = guarded.hook.as_ref()?;
        Some(hook.allowed(headers)).filter(|allowed| hook.knows(allowed))
    }

    /// Whose session it is, by what a browser added to a handshake.
    ///
    /// # Errors
    /// When the application does not say.
    pub async fn session(&self, hooked: &HeaderMap) -> Result<Identity, AuthError> {
        match &self.0 {
            Mode::Guarded(guarded) => match &guarded.hook {
                Some(hook) => hook.ask(hooked, None).await,
                None => Err(AuthError::NoToken),
            },
            Mode::None => Err(AuthError::NoToken),
        }
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn user(&self, token: &str) -> Result<Identity, AuthError> {
        self.user_of(token, None).await
    }

    /// Whose token this is; a hook that has to be asked is told of the handshake.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn user_of(&self, token: &str, hooked: Option<&HeaderMap>) -> Result<Identity, AuthError> {
        if token.is_empty() {
            return Err(AuthError::NoToken);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong);
        }
        match &self.0 {
            Mode::Guarded(guarded) => guarded.user(token, hooked).await,
            Mode::None => {
                let user = Channel::user(token).map_err(|_| AuthError::NotAName)?;
                let topics = Grant::everything();
                Ok(Identity { user, topics, device: None, expires_at: None, issued_at_ms: None })
            }
        }
    }

    /// Who sends, by the `Authorization` header.
    ///
    /// # Errors
    /// When a key is needed and this is not one.
    pub async fn sender(&self, authorization: Option<&str>) -> Result<Sender, AuthError> {
        let Mode::Guarded(guarded) = &self.0 else { return Ok(Sender::anyone()) };
        let given = authorization.and_then(bearer).ok_or(AuthError::NoKey)?;
        if given.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::WrongKey);
        }
        if let Some(sender) = guarded.keys.find(given) {
            return Ok(sender.clone());
        }
        if !guarded.service_tokens || given.split('.').count() != 3 {
            return Err(AuthError::WrongKey);
        }
        // Boxed: it may fetch keys, which is most of a push's future, and rare.
        Sender::service(&Box::pin(guarded.tokens.claims(given)).await?).ok_or(AuthError::NoScope)
    }
}

impl Guarded {
    async fn user(&self, token: &str, hooked: Option<&HeaderMap>) -> Result<Identity, AuthError> {
        let is_jwt = token.split('.').count() == 3;
        match &self.hook {
            Some(hook) if !is_jwt || !self.tokens.has_keys() => {
                let mut headers = hooked.cloned().unwrap_or_default();
                // Who says a token is not asked for a cookie, nor is the page's
                // origin looked at: an application must not go by that cookie.
                headers.remove(COOKIE);
                hook.ask(&headers, Some(token)).await
            }
            _ => self.tokens.identity(token).await,
        }
    }
}

/// What follows `Bearer`, if that is the scheme.
pub(super) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, rest) = authorization.trim().split_once(' ')?;
    let rest = rest.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty()).then_some(rest)
}
