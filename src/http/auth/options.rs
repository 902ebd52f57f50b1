//! How users and senders are told apart, as configured.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use url::Url;

use super::{ApiKey, HookOptions, pem};

/// How users and senders are told apart.
#[derive(Clone)]
pub enum AuthOptions {
    /// They are not: a token is the name of its user, and anyone may send.
    None,
    /// Users by token, senders by key.
    Guarded(Box<Guards>),
}

/// What is asked of users and senders.
#[derive(Clone)]
pub struct Guards {
    /// Secrets that sign users' tokens.
    pub secrets: Vec<String>,
    /// Public keys that users' tokens are signed for: PEM, one or several.
    pub public_keys: Option<String>,
    /// What tokens are signed with, where the key alone does not tell.
    pub algorithm: Option<JwtAlgorithm>,
    /// Where public keys are published.
    pub jwks_url: Option<Url>,
    /// How long published keys are used before they are looked at again.
    pub jwks_refresh: Duration,
    /// Of which one must be a token's `aud`; not looked at when empty.
    pub audiences: Vec<String>,
    /// Of which one must be a token's `iss`; not looked at when empty.
    pub issuers: Vec<String>,
    /// By how much the clocks of whoever signs tokens and of a node may differ.
    pub leeway: Duration,
    /// The claim that names the user.
    pub user_claim: String,
    /// Who is asked about what is no token that can be checked here.
    pub hook: Option<HookOptions>,
    /// What senders present.
    pub api_keys: Vec<ApiKey>,
    /// Whether services may show tokens with scopes instead of keys.
    pub service_tokens: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            public_keys: None,
            algorithm: None,
            jwks_url: None,
            jwks_refresh: Duration::from_secs(300),
            audiences: Vec::new(),
            issuers: Vec::new(),
            leeway: Duration::from_secs(30),
            user_claim: "sub".to_owned(),
            hook: None,
            api_keys: Vec::new(),
            service_tokens: false,
        }
    }
}

// Most of it is secret.
impl fmt::Debug for AuthOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Guarded(_) => "Guarded(..)",
        })
    }
}

/// A signature's algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JwtAlgorithm(pub(super) Algorithm);

/// The names of all algorithms that tokens may be signed with.
pub const JWT_ALGORITHMS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "EdDSA",
];

impl FromStr for JwtAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = JWT_ALGORITHMS.contains(&text).then(|| text.parse().ok()).flatten();
        known.map(Self).ok_or_else(|| format!("must be one of {}", JWT_ALGORITHMS.join(", ")))
    }
}

impl JwtAlgorithm {
    /// Whether it takes a secret, not a public key.
    #[must_use]
    pub fn is_symmetric(self) -> bool {
        matches!(self.0, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
    }
}

/// Whether a text holds public keys in PEM, each fit for `algorithm` if one is
/// given.
///
/// # Errors
/// What is wrong with it.
pub fn check_public_keys(text: &str, algorithm: Option<JwtAlgorithm>) -> Result<(), String> {
    pem::keys(text, algorithm.map(|algorithm| algorithm.0)).map(drop)
}
