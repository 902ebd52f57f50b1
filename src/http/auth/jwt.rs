//! Checking JSON Web Tokens (RFC 7519) and reading their claims.

use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::protocol::{Channel, Grant};

use super::jwks::Jwks;
use super::keys::Key;
use super::options::Guards;
use super::{AuthError, Identity, pem};

/// Checks tokens.
pub(super) struct Verifier {
    fixed: Vec<Key>,
    published: Option<Arc<Jwks>>,
    rules: Validation,
    user_claim: String,
}

/// A checked token's claims.
pub(super) type Claims = Map<String, Value>;

impl Verifier {
    /// Prepares the keys.
    pub(super) fn new(guards: &Guards, metrics: &Metrics, tasks: &TaskTracker) -> Result<Self, String> {
        let wanted = guards.algorithm.filter(|algorithm| algorithm.is_symmetric());
        let algorithm = wanted.map_or(Algorithm::HS256, |wanted| wanted.0);
        let secret = |secret: &String| Key {
            kid: None,
            algorithm,
            decoding: DecodingKey::from_secret(secret.as_bytes()),
        };
        let mut fixed: Vec<Key> = guards.secrets.iter().map(secret).collect();
        if let Some(text) = &guards.public_keys {
            fixed.extend(pem::keys(text, guards.algorithm.map(|algorithm| algorithm.0))?);
        }
        let published =
            guards.jwks_url.as_ref().map(|url| Jwks::start(url, guards.jwks_refresh, metrics, tasks));
        let mut rules = Validation::new(algorithm);
        rules.leeway = guards.leeway.as_secs();
        rules.validate_nbf = true;
        // Tokens without an end are the issuer's choice.
        rules.required_spec_claims.clear();
        rules.validate_aud = !guards.audiences.is_empty();
        if rules.validate_aud {
            rules.set_audience(&guards.audiences);
            rules.required_spec_claims.insert("aud".to_owned());
        }
        if !guards.issuers.is_empty() {
            rules.set_issuer(&guards.issuers);
            rules.required_spec_claims.insert("iss".to_owned());
        }
        Ok(Self { fixed, published: published.transpose()?, rules, user_claim: guards.user_claim.clone() })
    }

    /// Whether any token could be checked.
    pub(super) fn has_keys(&self) -> bool {
        !self.fixed.is_empty() || self.published.is_some()
    }

    /// A token's claims, once it is known to be valid. Fetches published keys
    /// when the token's is not among those known.
    pub(super) async fn claims(&self, token: &str) -> Result<Claims, AuthError> {
        // RFC 7515 §4.1.11: an extension marked critical that one does not know is refused.
        let header = jsonwebtoken::decode_header(token).map_err(|error| refusal(error.kind()))?;
        if header.crit.is_some() {
            return Err(AuthError::Algorithm);
        }
        let fixed = self.check(token, &header, &self.fixed);
        let Some(published) = &self.published else { return fixed };
        if !says_nothing(&fixed) {
            return fixed;
        }
        let look = |keys: &[Key]| self.check(token, &header, keys);
        let first = published.with(look);
        // A key of that name that does not fit is no reason to ask again.
        if let Some(first) = first
            && (!says_nothing(&first) || (header.kid.is_some() && first != Err(AuthError::UnknownKey)))
        {
            return first;
        }
        published.renew().await;
        published.with(look).unwrap_or(Err(AuthError::KeysAway))
    }

    /// What the keys make of a token: the first that verifies it decides.
    fn check(&self, token: &str, header: &Header, keys: &[Key]) -> Result<Claims, AuthError> {
        let named = |key: &&Key| key.kid.is_none() || header.kid.is_none() || key.kid == header.kid;
        let mut refused = match (keys.iter().any(|key| named(&key)), keys.is_empty()) {
            (false, false) => AuthError::UnknownKey,
            _ => AuthError::Algorithm,
        };
        for key in keys.iter().filter(|key| key.fits(header)) {
            let rules = Validation { algorithms: vec![key.algorithm], ..self.rules.clone() };
            match jsonwebtoken::decode::<Claims>(token, &key.decoding, &rules) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => refused = refusal(error.kind()),
            }
            if refused != AuthError::Signature {
                return Err(refused);
            }
        }
        Err(refused)
    }

    /// Whose token this is.
    pub(super) async fn identity(&self, token: &str) -> Result<Identity, AuthError> {
        self.read(&self.claims(token).await?)
    }

    fn read(&self, claims: &Claims) -> Result<Identity, AuthError> {
        let user = claims.get(&self.user_claim).and_then(Value::as_str);
        let user = user.and_then(|name| Channel::user(name).ok()).ok_or(AuthError::Subject)?;
        let device = match claims.get("device") {
            None | Some(Value::Null) => None,
            Some(device) => {
                Some(device.as_str().and_then(|text| text.parse().ok()).ok_or(AuthError::Device)?)
            }
        };
        let time = |name| match claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_f64().filter(|seconds| *seconds >= 0.0).map(Some).ok_or(AuthError::Times),
        };
        Ok(Identity {
            user,
            topics: topics(claims.get("topics"))?,
            device,
            // A NumericDate may have a fraction; a session that ends that much early harms nobody.
            expires_at: time("exp")?.map(|seconds| seconds as u64),
            issued_at_ms: time("iat")?.map(|seconds| (seconds * 1_000.0) as u64),
        })
    }
}

/// Whether keys that are not known yet could tell more.
fn says_nothing(checked: &Result<Claims, AuthError>) -> bool {
    matches!(checked, Err(AuthError::UnknownKey | AuthError::Algorithm | AuthError::Signature))
}

/// The topics that a claim grants: none without it.
fn topics(claim: Option<&Value>) -> Result<Grant, AuthError> {
    let claim = match claim {
        None | Some(Value::Null) => return Ok(Grant::default()),
        Some(claim) => claim.as_array().ok_or(AuthError::Topics)?,
    };
    let names: Option<Vec<&str>> = claim.iter().map(Value::as_str).collect();
    Grant::topics(names.ok_or(AuthError::Topics)?).map_err(|_| AuthError::Topics)
}

fn refusal(kind: &ErrorKind) -> AuthError {
    match kind {
        ErrorKind::InvalidSignature => AuthError::Signature,
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::ImmatureSignature => AuthError::NotYet,
        ErrorKind::InvalidAudience => AuthError::Audience,
        ErrorKind::InvalidIssuer => AuthError::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => AuthError::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => AuthError::Issuer,
        ErrorKind::InvalidClaimFormat(_) => AuthError::Times,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            AuthError::Algorithm
        }
        _ => AuthError::Malformed,
    }
}
