//! Keys that verify tokens, each pinned to one algorithm: what a token's header
//! says can only choose among them.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use serde_json::Value;

/// Keys of one source: a rotation has two or three.
pub(super) const KEYS_MAX: usize = 32;

/// One key.
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

impl Key {
    /// Whether a token with this header may have been signed for this key.
    pub(super) fn fits(&self, header: &Header) -> bool {
        let named = |kid: &String| header.kid.as_ref().is_none_or(|wanted| wanted == kid);
        self.algorithm == header.alg && self.kid.as_ref().is_none_or(named)
    }
}

/// What an uncompressed point of this length is signed with.
pub(super) fn curve_algorithm(point_bytes: usize) -> Option<Algorithm> {
    match point_bytes {
        65 => Some(Algorithm::ES256),
        97 => Some(Algorithm::ES384),
        _ => None,
    }
}

/// The keys of a published set (RFC 7517) that verify signatures. Others are
/// passed over, and secrets are: a published secret is none.
///
/// # Errors
/// When it is no set, or has no such key.
pub(super) fn from_set(text: &[u8]) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let listed = set.get("keys").and_then(Value::as_array).ok_or("it has no list \"keys\"")?;
    let keys: Vec<Key> = listed.iter().filter_map(from_jwk).take(KEYS_MAX).collect();
    if keys.is_empty() {
        Err("it has no key for RS, PS, ES or EdDSA signatures".to_owned())
    } else {
        Ok(keys)
    }
}

fn from_jwk(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let common = &jwk.common;
    let for_signatures = common.public_key_use.as_ref().is_none_or(|uses| *uses == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let natural = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => Algorithm::ES256,
            EllipticCurve::P384 => Algorithm::ES384,
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let algorithm = match &common.key_algorithm {
        None => natural,
        Some(named) => named.to_string().parse().ok().filter(|named| same_kind(*named, natural))?,
    };
    let decoding = DecodingKey::from_jwk(&jwk).ok().filter(|_| for_signatures)?;
    Some(Key { kid: common.key_id.clone(), algorithm, decoding })
}

fn same_kind(named: Algorithm, natural: Algorithm) -> bool {
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    match natural {
        RS256 => matches!(named, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
        other => named == other,
    }
}
