//! Who a receiver is, and whether a sender may send.
//!
//! Pure: texts in, an identity or an error out. It refuses to know sockets,
//! routes and the store. Errors never contain a token, and their text fits a
//! WebSocket close reason, since that is where a browser can read it.

use std::fmt;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::protocol::{Channel, Grant, PATTERNS_MAX};

/// The longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// By how much the clocks of whoever signs tokens and of a node may differ.
pub const LEEWAY_SECONDS: u64 = 30;

/// How users and senders are told apart.
#[derive(Clone)]
pub enum AuthOptions {
    /// They are not: a token is the name of its user, and anyone may send.
    None,
    /// Users by token, senders by key.
    Jwt {
        /// What signs users' tokens (HS256).
        secret: String,
        /// What senders present.
        api_key: String,
    },
}

impl fmt::Debug for AuthOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Jwt { .. } => "Jwt { .. }",
        })
    }
}

/// Why a token or key was refused, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No source held a token.
    #[error("no token: give one as cookie 'token', Authorization bearer, subprotocol, or ?token=")]
    NoToken,
    /// It is longer than any token meant for us.
    #[error("the token is above {TOKEN_BYTES_MAX} bytes: send a smaller one")]
    TooLong,
    /// Without authentication the token is a name, and this is none.
    #[error("the token must be a user's name: 1 to 200 bytes without spaces or control characters")]
    NotAName,
    /// It is no JWT at all.
    #[error("the token is not a JWT: send the one your backend signed, unchanged")]
    Malformed,
    /// It is signed in another way than the one that is pinned.
    #[error("the token must be signed with HS256, and its header must not be critical of anything else")]
    Algorithm,
    /// The signature does not match.
    #[error("the token's signature does not match: sign it with this server's secret")]
    Signature,
    /// It was valid once.
    #[error("the token has expired: get a new one and reconnect")]
    Expired,
    /// It will be valid.
    #[error("the token is not valid yet: check 'nbf' and the clock that made it")]
    NotYet,
    /// A time in it is no number.
    #[error("the token's 'exp' and 'nbf' must be numbers: seconds since 1970")]
    Times,
    /// It names nobody.
    #[error("the token's 'sub' must be the user's name: a text of 1 to 200 bytes without spaces")]
    Subject,
    /// Its topics are no list of patterns.
    #[error(
        "the token's 'topics' must be a list of up to {PATTERNS_MAX} names or beginnings, like 'orders.*'"
    )]
    Topics,
    /// A subprotocol `bearer.…` that cannot be decoded.
    #[error("the subprotocol after 'bearer.' must be the token in base64url without padding")]
    Subprotocol,
    /// The sender presented no key.
    #[error("no API key: send it as 'Authorization: Bearer KEY'")]
    NoKey,
    /// The sender presented another key.
    #[error("the API key is not the one this server was given")]
    WrongKey,
}

/// Who a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user's own channel.
    pub user: Channel,
    /// The topics that its sessions may subscribe to.
    pub topics: Grant,
    /// When the token stops being valid: seconds since 1970.
    pub expires_at: Option<u64>,
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
    Jwt { key: Box<DecodingKey>, validation: Box<Validation>, api_key: [u8; 32], sender: SenderId },
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Mode::None => "Authenticator(none)",
            Mode::Jwt { .. } => "Authenticator(jwt)",
        })
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: serde_json::Value,
    #[serde(default)]
    exp: Option<serde_json::Value>,
    #[serde(default)]
    topics: Option<serde_json::Value>,
}

impl Authenticator {
    /// Prepares the keys.
    #[must_use]
    pub fn new(options: &AuthOptions) -> Self {
        let AuthOptions::Jwt { secret, api_key } = options else { return Self(Mode::None) };
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        // Tokens without an end are the issuer's choice; an audience is not ours to know yet.
        validation.required_spec_claims.clear();
        validation.validate_aud = false;
        let api_key = hash(api_key);
        let sender =
            SenderId(format!("key-{:02x}{:02x}{:02x}{:02x}", api_key[0], api_key[1], api_key[2], api_key[3]));
        Self(Mode::Jwt {
            key: Box::new(DecodingKey::from_secret(secret.as_bytes())),
            validation: Box::new(validation),
            api_key,
            sender,
        })
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
    pub fn user(&self, token: &str) -> Result<Identity, AuthError> {
        if token.is_empty() {
            return Err(AuthError::NoToken);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLong);
        }
        let Mode::Jwt { key, validation, .. } = &self.0 else {
            let user = Channel::user(token).map_err(|_| AuthError::NotAName)?;
            return Ok(Identity { user, topics: Grant::everything(), expires_at: None });
        };
        // RFC 7515 §4.1.11: an extension marked critical that one does not know is refused.
        let header = jsonwebtoken::decode_header(token).map_err(|error| refusal(error.kind()))?;
        if header.crit.is_some() {
            return Err(AuthError::Algorithm);
        }
        let claims = match jsonwebtoken::decode::<Claims>(token, key, validation) {
            Ok(decoded) => decoded.claims,
            // The header was read and the signature holds: a claim is of another type.
            Err(error) if matches!(error.kind(), ErrorKind::Json(_)) => return Err(AuthError::Subject),
            Err(error) => return Err(refusal(error.kind())),
        };
        let user = claims.sub.as_str().and_then(|name| Channel::user(name).ok()).ok_or(AuthError::Subject)?;
        let topics = topics(claims.topics.as_ref()).ok_or(AuthError::Topics)?;
        Ok(Identity { user, topics, expires_at: claims.exp.as_ref().and_then(seconds) })
    }

    /// Who sends, by the `Authorization` header.
    ///
    /// # Errors
    /// When a key is needed and this is not it.
    pub fn sender(&self, authorization: Option<&str>) -> Result<SenderId, AuthError> {
        let Mode::Jwt { api_key, sender, .. } = &self.0 else {
            return Ok(SenderId("anyone".to_owned()));
        };
        let given = authorization.and_then(bearer).ok_or(AuthError::NoKey)?;
        if given.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::WrongKey);
        }
        // Hashes have one length, so that not even the key's length takes its time.
        if bool::from(hash(given).ct_eq(api_key)) { Ok(sender.clone()) } else { Err(AuthError::WrongKey) }
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

/// The topics that a claim grants: none without it.
fn topics(claim: Option<&serde_json::Value>) -> Option<Grant> {
    let Some(claim) = claim else { return Some(Grant::default()) };
    let names: Option<Vec<&str>> = claim.as_array()?.iter().map(|name| name.as_str()).collect();
    Grant::topics(names?).ok()
}

/// A NumericDate may have a fraction; a session that ends that much early harms nobody.
fn seconds(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds as u64))
}

fn refusal(kind: &ErrorKind) -> AuthError {
    match kind {
        ErrorKind::InvalidSignature => AuthError::Signature,
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::ImmatureSignature => AuthError::NotYet,
        ErrorKind::InvalidClaimFormat(_) => AuthError::Times,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            AuthError::Algorithm
        }
        _ => AuthError::Malformed,
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
