//! Who sends and operates: API keys, known by their hashes only, and tokens of
//! services; and what each may do.
//!
//! A plain SHA-256 is enough for a key that `postrider key new` made: 256 random
//! bits cannot be guessed, so there is nothing for a slow hash to slow down, and
//! every push would pay for it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::protocol::{Channel, Grant, Pattern};

use super::jwt::Claims;

/// Keys at once: every request is compared with each of them.
pub const API_KEYS_MAX: usize = 64;
/// What every scope of a service's token begins with, since others share the claim.
const TOKEN_SCOPE: &str = "postrider:";

/// What something needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need<'a> {
    /// To send to this channel.
    Push(&'a Channel),
    /// To look.
    Read,
    /// To let a user in by a ticket.
    Tickets,
    /// To change what others do.
    Admin,
}

impl Need<'_> {
    /// The scope that has it.
    #[must_use]
    pub fn scope(self) -> &'static str {
        match self {
            Self::Push(_) => "push",
            Self::Read => "read",
            Self::Tickets => "tickets",
            Self::Admin => "admin",
        }
    }
}

/// What a key allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes {
    push: Grant,
    read: bool,
    tickets: bool,
    admin: bool,
}

impl Scopes {
    /// Everything there is.
    #[must_use]
    pub fn all() -> Self {
        Self { push: Grant::everything(), read: true, tickets: true, admin: true }
    }

    fn allow(&self, need: Need<'_>) -> bool {
        match need {
            Need::Push(channel) => self.push.allows(channel),
            Need::Read => self.read || self.admin,
            Need::Tickets => self.tickets,
            Need::Admin => self.admin,
        }
    }
}

impl FromStr for Scopes {
    type Err = String;

    /// `push read`, `push=topic:orders.* push=user:* tickets`, `admin`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut scopes = Self::default();
        let mut patterns: Vec<Pattern> = Vec::new();
        let mut everything = false;
        for word in text.split_ascii_whitespace() {
            match word.split_once('=') {
                None if word == "push" => everything = true,
                None if word == "read" => scopes.read = true,
                None if word == "tickets" => scopes.tickets = true,
                None if word == "admin" => scopes.admin = true,
                Some(("push", pattern)) => {
                    patterns.push(pattern.parse().map_err(|error| format!("{word}: {error}"))?);
                }
                _ => {
                    return Err(format!(
                        "{word} is no scope: there are push, push=PATTERN, read, tickets, admin"
                    ));
                }
            }
        }
        scopes.push =
            if everything { Grant::everything() } else { Grant::new(patterns).map_err(|e| e.to_string())? };
        if scopes == Self::default() {
            Err("no scope is named: say push, read, tickets or admin".into())
        } else {
            Ok(scopes)
        }
    }
}

/// One key: its name, its hash, what it allows.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    name: String,
    hash: [u8; 32],
    scopes: Scopes,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ApiKey {
    /// A key that is known itself, and allows everything.
    #[must_use]
    pub fn known(name: &str, key: &str) -> Self {
        Self { name: name.to_owned(), hash: hash(key), scopes: Scopes::all() }
    }

    /// The entry of a key in `api_keys`.
    ///
    /// # Errors
    /// What is wrong with name or scopes.
    pub fn entry(name: &str, key: &str, scopes: &str) -> Result<String, String> {
        let hex: String = hash(key).iter().map(|byte| format!("{byte:02x}")).collect();
        let entry = format!("{name}:{hex}:{scopes}");
        entry.parse::<Self>().map(|_| entry)
    }
}

impl FromStr for ApiKey {
    type Err = String;

    /// `NAME:HASH:SCOPES`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "must be NAME:HASH:SCOPES, as 'postrider key new' prints it";
        let mut parts = text.splitn(3, ':');
        let (Some(name), Some(hex), Some(scopes)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(form.to_owned());
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return Err("must begin with a name of 1 to 64 of A-Z a-z 0-9 . _ -".to_owned());
        }
        let hash = read_hex(hex)
            .ok_or("must hold a SHA-256 of the key, 64 hexadecimal digits, never the key itself")?;
        let scopes = scopes.parse().map_err(|error| format!("must end with scopes, but {error}"))?;
        Ok(Self { name: name.to_owned(), hash, scopes })
    }
}

fn read_hex(hex: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(hash)
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Who sends, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    name: Arc<str>,
    scopes: Arc<Scopes>,
}

impl Sender {
    /// Whoever comes, where nobody is asked.
    pub(super) fn anyone() -> Self {
        Self { name: "anyone".into(), scopes: Arc::new(Scopes::all()) }
    }

    /// A service, by its token's claims: its scopes stand in `scope`.
    pub(super) fn service(claims: &Claims) -> Option<Self> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let scopes: Vec<&str> = text("scope")?
            .split_ascii_whitespace()
            .filter_map(|word| word.strip_prefix(TOKEN_SCOPE))
            .collect();
        let scopes = scopes.join(" ").parse().ok()?;
        let name = format!("service {} {}", text("iss").unwrap_or_default(), text("sub")?);
        Some(Self { name: name.into(), scopes: Arc::new(scopes) })
    }

    /// A name for telling idempotency keys and rates apart: no secret, the same
    /// on every node and for every key that is called alike.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may do something.
    #[must_use]
    pub fn may(&self, need: Need<'_>) -> bool {
        self.scopes.allow(need)
    }
}

/// The keys of a node.
pub(super) struct ApiKeys(Vec<([u8; 32], Sender)>);

impl ApiKeys {
    pub(super) fn new(keys: &[ApiKey]) -> Self {
        let sender = |key: &ApiKey| Sender { name: (*key.name).into(), scopes: Arc::new(key.scopes.clone()) };
        Self(keys.iter().take(API_KEYS_MAX).map(|key| (key.hash, sender(key))).collect())
    }

    /// Whose key this is. All are compared, so that time tells nothing.
    pub(super) fn find(&self, given: &str) -> Option<&Sender> {
        let given = hash(given);
        let (mut found, mut place) = (Choice::from(0), 0_u64);
        for (at, (hash, _)) in (0..).zip(&self.0) {
            let same = given.ct_eq(hash);
            place.conditional_assign(&at, same);
            found |= same;
        }
        bool::from(found).then(|| &self.0[place as usize].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn channel(text: &str) -> Channel {
        text.parse().expect("a channel")
    }

    #[test]
    fn an_entry_is_name_hash_and_scopes() {
        let entry = ApiKey::entry("backend", "a key", "push=user:* read").expect("valid");
        // printf %s 'a key' | sha256sum
        assert_eq!(
            entry,
            "backend:8fa3aab2faa9b79e0a0398da5b5abd0780142442a5be80b9a64608d718cb1fcd:push=user:* read"
        );
        let keys = ApiKeys::new(&[entry.parse().expect("valid")]);
        let sender = keys.find("a key").expect("it is there");
        assert_eq!(sender.name(), "backend");
        assert!(sender.may(Need::Push(&channel("user:ann"))) && sender.may(Need::Read));
        assert!(!sender.may(Need::Push(&channel("topic:a"))) && !sender.may(Need::Admin));
        assert_eq!(keys.find("a key "), None);
    }

    #[test]
    fn what_is_no_entry_is_refused_with_what_is_wrong() {
        let hash = "0".repeat(64);
        for (text, part) in [
            ("the-key-itself".to_owned(), "postrider key new"),
            ("backend:the-key-itself:push".to_owned(), "never the key itself"),
            (format!("a b:{hash}:push"), "name"),
            (format!(":{hash}:push"), "name"),
            (format!("a:{hash}:"), "no scope"),
            (format!("a:{hash}:write"), "write is no scope"),
            (format!("a:{hash}:push=room:x"), "'user:NAME'"),
            (format!("a:{hash}:push=topic:a*"), "separator"),
            (format!("a:{}é:push", "0".repeat(62)), "64 hexadecimal digits"),
        ] {
            let error = text.parse::<ApiKey>().expect_err(&text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn several_keys_serve_at_once_and_those_of_one_name_are_one_sender() {
        let entry = |key: &str| ApiKey::entry("backend", key, "push").expect("valid").parse().expect("valid");
        let keys = ApiKeys::new(&[entry("old"), entry("new"), ApiKey::known("default", "plain")]);
        assert_eq!(keys.find("old"), keys.find("new"));
        assert_eq!(keys.find("plain").map(Sender::name), Some("default"));
        assert!(keys.find("plain").is_some_and(|sender| sender.may(Need::Admin)));
    }

    #[test]
    fn scopes_allow_what_they_say() {
        let scopes = |text: &str| text.parse::<Scopes>().expect("valid");
        let user = channel("user:ann");
        assert!(scopes("admin").allow(Need::Read) && !scopes("admin").allow(Need::Push(&user)));
        assert!(!scopes("admin").allow(Need::Tickets), "who may log users out may not read their messages");
        assert!(scopes("push").allow(Need::Push(&user)) && !scopes("push read").allow(Need::Tickets));
        let some = scopes("push=user:ann push=topic:orders.*");
        assert!(some.allow(Need::Push(&user)) && some.allow(Need::Push(&channel("topic:orders.4"))));
        assert!(!some.allow(Need::Push(&channel("user:anna"))) && !some.allow(Need::Push(&channel("all"))));
    }

    #[test]
    fn a_services_token_needs_scopes_of_ours() {
        let service = |claims: Value| Sender::service(claims.as_object().expect("claims"));
        let token =
            json!({"sub": "billing", "iss": "https://i", "scope": "openid postrider:push=user:* x:read"});
        let sender = service(token).expect("a service");
        assert!(sender.may(Need::Push(&channel("user:ann"))) && !sender.may(Need::Read));
        assert_eq!(sender.name(), "service https://i billing");
        for none in [
            json!({"sub": "a"}),
            json!({"sub": "a", "scope": "push read"}),
            json!({"scope": "postrider:read"}),
        ] {
            assert_eq!(service(none.clone()), None, "{none}");
        }
    }
}
