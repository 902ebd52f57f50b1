//! Who a receiver is, and whether a sender may send.
//!
//! [`Authenticator`] is asked for every handshake, request and `auth` frame.
//! Tokens are checked here against keys that are each pinned to one algorithm
//! (`keys`): secrets, public keys in PEM (`pem`), and keys published at a URL
//! (`jwks`), which is the only I/O of this module. It refuses to know sockets,
//! routes and the store.

mod error;
mod jwks;
mod jwt;
mod keys;
mod options;
mod pem;
#[cfg(test)]
mod tests;

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::protocol::{Channel, Device, Grant};

pub use error::AuthError;
pub use options::{AuthOptions, Guards, JWT_ALGORITHMS, JwtAlgorithm, check_public_keys};

use jwt::Verifier;

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

/// A sender's name for telling idempotency keys apart: short, no secret, the
/// same on every node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SenderId(String);

impl SenderId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks tokens and keys.
pub struct Authenticator(Mode);

enum Mode {
    None,
    Guarded(Box<Guarded>),
}

struct Guarded {
    tokens: Verifier,
    api_key: Option<([u8; 32], SenderId)>,
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
        let api_key = guards.api_key.as_deref().map(|key| {
            let key = hash(key);
            let sender = format!("key-{:02x}{:02x}{:02x}{:02x}", key[0], key[1], key[2], key[3]);
            (key, SenderId(sender))
        });
        let tokens = Verifier::new(guards, metrics, tasks)?;
        Ok(Self(Mode::Guarded(Box::new(Guarded { tokens, api_key }))))
    }

    /// Whether anyone may connect and send.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.0, Mode::None)
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn user(&self, token: &str) -> Result<Identity, AuthError> {
        if token.is_empty() {
            return Err(AuthError::NoToken);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong);
        }
        match &self.0 {
            Mode::Guarded(guarded) => guarded.tokens.identity(token).await,
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
    /// When a key is needed and this is not it.
    pub fn sender(&self, authorization: Option<&str>) -> Result<SenderId, AuthError> {
        let Mode::Guarded(guarded) = &self.0 else {
            return Ok(SenderId("anyone".to_owned()));
        };
        let given = authorization.and_then(bearer).ok_or(AuthError::NoKey)?;
        if given.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::WrongKey);
        }
        // Hashes have one length, so that not even the key's length takes its time.
        let (key, sender) = guarded.api_key.as_ref().ok_or(AuthError::WrongKey)?;
        if bool::from(hash(given).ct_eq(key)) { Ok(sender.clone()) } else { Err(AuthError::WrongKey) }
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"postrider api key\0").chain_update(key).finalize().into()
}

/// What follows `Bearer`, if that is the scheme.
pub(super) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, rest) = authorization.trim().split_once(' ')?;
    let rest = rest.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty()).then_some(rest)
}
