//! Public keys from PEM, each pinned to one algorithm.

use jsonwebtoken::{Algorithm, DecodingKey};

use super::keys::{KEYS_MAX, Key, curve_algorithm};

const BEGIN: &str = "-----BEGIN ";

/// Reads every key of a text.
///
/// # Errors
/// What is wrong, to follow "must".
pub(super) fn keys(text: &str, wanted: Option<Algorithm>) -> Result<Vec<Key>, String> {
    let blocks: Vec<usize> = text.match_indices(BEGIN).map(|(at, _)| at).collect();
    if blocks.is_empty() || blocks.len() > KEYS_MAX {
        return Err(format!("must hold 1 to {KEYS_MAX} public keys in PEM, like -----BEGIN PUBLIC KEY-----"));
    }
    let ends = blocks.iter().skip(1).copied().chain([text.len()]);
    blocks.iter().zip(ends).map(|(from, to)| key(&text[*from..to], wanted)).collect()
}

fn key(block: &str, wanted: Option<Algorithm>) -> Result<Key, String> {
    let label = block[BEGIN.len()..].split("-----").next().unwrap_or_default();
    if label.contains("PRIVATE") {
        return Err("must hold public keys only: keep the private one where tokens are signed".to_owned());
    }
    let read = |read: fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>| read(block.as_bytes()).ok();
    let (decoding, fitting) = if let Some(key) = read(DecodingKey::from_ed_pem) {
        (key, vec![Algorithm::EdDSA])
    } else if let Some(key) = read(DecodingKey::from_ec_pem) {
        let curve = key.try_get_as_bytes().ok().and_then(|point| curve_algorithm(point.len()));
        (key, vec![curve.ok_or("must be keys of the curves P-256 or P-384 where they are elliptic")?])
    } else if let Some(key) = read(DecodingKey::from_rsa_pem) {
        use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
        (key, vec![RS256, RS384, RS512, PS256, PS384, PS512])
    } else {
        return Err("must hold public keys (RSA, P-256, P-384 or Ed25519) in PEM".to_owned());
    };
    // A choice for secrets says nothing of public keys.
    let wanted =
        wanted.filter(|wanted| !matches!(wanted, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512));
    let algorithm = match wanted {
        None => fitting[0],
        Some(wanted) if fitting.contains(&wanted) => wanted,
        Some(wanted) => return Err(format!("must hold keys for {wanted:?}, which jwt_algorithm asks for")),
    };
    Ok(Key { kid: None, algorithm, decoding })
}
