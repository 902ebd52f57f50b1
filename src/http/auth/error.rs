//! Why a token or key was refused, in words that say what to do.
//!
//! Texts never hold a token, and fit a WebSocket close reason, since that is
//! where a browser can read them.

use crate::protocol::PATTERNS_MAX;
use crate::protocol::close::CloseCode;

use super::TOKEN_BYTES_MAX;

/// Why a token or key was refused, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No source held a token.
    #[error("no token: give one as Authorization bearer, subprotocol, cookie 'token', or a ?ticket=")]
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
    /// It is signed in another way than any key is pinned to.
    #[error(
        "no key here is for the token's 'alg', or its header is critical: sign with RS256, ES256, … as configured"
    )]
    Algorithm,
    /// No key has the name that its header gives.
    #[error("no key here has the token's 'kid': publish it at jwks_url, or sign with a current key")]
    UnknownKey,
    /// The signature does not match.
    #[error("the token's signature does not match: sign it with the key that this server is configured with")]
    Signature,
    /// It was valid once.
    #[error("the token has expired: get a new one and reconnect")]
    Expired,
    /// It will be valid.
    #[error("the token is not valid yet: check 'nbf' and the clock that made it")]
    NotYet,
    /// A time in it is no number.
    #[error("the token's 'exp', 'nbf' and 'iat' must be numbers: seconds since 1970")]
    Times,
    /// It names nobody.
    #[error(
        "the token's user claim ('sub' unless configured) must be a text of 1 to 200 bytes without spaces"
    )]
    Subject,
    /// Its topics are no list of patterns.
    #[error(
        "the token's 'topics' must be a list of up to {PATTERNS_MAX} names or beginnings, like 'orders.*'"
    )]
    Topics,
    /// Its device is none.
    #[error("the token's 'device' must be 1 to 64 of A-Z a-z 0-9 . _ -, like 'phone'")]
    Device,
    /// It is for another device than the one that connects.
    #[error("the token is for another device than ?device= says: leave that out or get a token for it")]
    OtherDevice,
    /// It is for another service.
    #[error("the token's 'aud' does not name this service: it must hold one of jwt_audience")]
    Audience,
    /// It is of another issuer.
    #[error("the token's 'iss' is not one of jwt_issuer: get it from an issuer that is")]
    Issuer,
    /// A subprotocol `bearer.…` that cannot be decoded.
    #[error("the subprotocol after 'bearer.' must be the token in base64url without padding")]
    Subprotocol,
    /// What would tell cannot be asked now.
    #[error("tokens cannot be checked now, since their keys cannot be fetched; try again in a moment")]
    KeysAway,
    /// The application said no.
    #[error("the application does not know this session (auth_hook_url answered so): log in and reconnect")]
    HookRefused,
    /// The application did not say anything.
    #[error("the application could not be asked whose session this is; try again in a moment")]
    HookAway,
    /// The ticket is none, or was one.
    #[error("the ticket is unknown, used, or older than its time: get a new one from POST /v1/tickets")]
    Ticket,
    /// The store could not be asked.
    #[error("the store is away, so this cannot be checked; try again in a moment")]
    StoreAway,
    /// A session's fresh token is somebody else's.
    #[error("the fresh token is of another user or device than the session: reconnect instead")]
    OtherUser,
    /// The sender presented no key.
    #[error("no API key: send it as 'Authorization: Bearer KEY'")]
    NoKey,
    /// A service's token has no scope of ours.
    #[error(
        "the token's 'scope' holds none of postrider:push, postrider:push=PATTERN, postrider:read, postrider:admin"
    )]
    NoScope,
    /// The sender presented another key.
    #[error(
        "the API key is not one of this server's: look at api_keys, or make one with 'postrider key new'"
    )]
    WrongKey,
}

impl AuthError {
    /// What a socket is closed with.
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        if self.is_passing() { CloseCode::OVERLOADED } else { CloseCode::TOKEN }
    }

    /// Whether the same token may be taken later.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(self, Self::KeysAway | Self::HookAway | Self::StoreAway)
    }
}
