mod published;

use super::*;
use crate::protocol::PATTERNS_MAX;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use std::time::Duration;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const API_KEY: &str = "a-key-of-sixteen";

const LEEWAY_SECONDS: u64 = 30;

fn guarded(guards: Guards) -> Authenticator {
    let (metrics, tasks) = (Metrics::new("0", "memory"), TaskTracker::new());
    Authenticator::new(&AuthOptions::Guarded(Box::new(guards)), &metrics, &tasks).expect("usable")
}

fn secret_guards() -> Guards {
    Guards {
        secrets: vec![SECRET.into()],
        api_keys: vec![ApiKey::known("default", API_KEY)],
        ..Guards::default()
    }
}

/// Where nothing has to be waited for.
#[derive(Debug)]
struct AtOnce(Authenticator);

impl AtOnce {
    fn user(&self, token: &str) -> Result<Identity, AuthError> {
        self.0.user(token).now_or_never().expect("it waits for nothing")
    }

    fn sender(&self, authorization: Option<&str>) -> Result<Sender, AuthError> {
        self.0.sender(authorization).now_or_never().expect("it waits for nothing")
    }
}

fn jwt() -> AtOnce {
    AtOnce(guarded(secret_guards()))
}

fn open() -> AtOnce {
    let (metrics, tasks) = (Metrics::new("0", "memory"), TaskTracker::new());
    AtOnce(Authenticator::new(&AuthOptions::None, &metrics, &tasks).expect("usable"))
}

fn signed(header: &Header, claims: &Value) -> String {
    encode(header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("signed")
}

fn token(claims: &Value) -> String {
    signed(&Header::new(Algorithm::HS256), claims)
}

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

#[test]
fn a_signed_token_stands_for_its_subject() {
    let exp = get_current_timestamp() + 60;
    let claims = json!({"sub": "alice", "exp": exp, "iat": 1_700_000_000.5, "aud": "other", "device": "tv"});
    let identity = jwt().user(&token(&claims)).expect("valid");
    let expected = Identity {
        user: Channel::user("alice").expect("valid"),
        topics: Grant::default(),
        device: Some("tv".parse().expect("valid")),
        expires_at: Some(exp),
        issued_at_ms: Some(1_700_000_000_500),
    };
    assert_eq!(identity, expected);
    let endless = jwt().user(&token(&json!({"sub": "alice"}))).expect("valid");
    assert_eq!(endless.expires_at, None);
}

#[test]
fn without_authentication_the_token_is_the_user() {
    let none = open();
    assert_eq!(none.user("user1").expect("a name").user.as_str(), "user:user1");
    assert_eq!(none.user("a b"), Err(AuthError::NotAName));
    assert_eq!(none.user(""), Err(AuthError::NoToken));
    assert_eq!(none.user(&"x".repeat(TOKEN_BYTES_MAX + 1)), Err(AuthError::TooLong));
}

#[test]
fn times_are_honoured_with_leeway() {
    let now = get_current_timestamp();
    let of = |claims: Value| jwt().user(&token(&claims)).map(|identity| identity.expires_at);
    assert_eq!(of(json!({"sub": "a", "exp": now - 3_600})), Err(AuthError::Expired));
    assert_eq!(of(json!({"sub": "a", "exp": now - LEEWAY_SECONDS / 2})), Ok(Some(now - LEEWAY_SECONDS / 2)));
    assert_eq!(of(json!({"sub": "a", "nbf": now + 3_600})), Err(AuthError::NotYet));
    assert_eq!(of(json!({"sub": "a", "nbf": now + LEEWAY_SECONDS / 2})), Ok(None));
    assert_eq!(of(json!({"sub": "a", "exp": now as f64 + 60.5})), Ok(Some(now + 60)));
    for bad in [json!("tomorrow"), json!([1]), json!(-5)] {
        assert!(of(json!({"sub": "a", "exp": bad})).is_err(), "{bad}");
    }
}

#[test]
fn the_subject_must_be_a_name() {
    for sub in [json!(""), json!(7), json!(null), json!("a b"), json!(["a"]), json!("x".repeat(201))] {
        assert_eq!(jwt().user(&token(&json!({"sub": sub}))), Err(AuthError::Subject), "{sub}");
    }
    assert_eq!(jwt().user(&token(&json!({}))), Err(AuthError::Subject));
}

#[test]
fn topics_are_what_the_claim_grants_and_a_wrong_claim_is_no_silent_nothing() {
    let of = |topics: Value| {
        jwt().user(&token(&json!({"sub": "a", "topics": topics}))).map(|identity| identity.topics)
    };
    let topic = |name| Channel::topic(name).expect("valid");
    let granted = of(json!(["orders.*", "news"])).expect("valid");
    assert!(granted.allows(&topic("orders.42")) && granted.allows(&topic("news")));
    assert!(!granted.allows(&topic("other")) && !granted.allows(&Channel::user("a").expect("valid")));
    assert_eq!(of(json!([])), Ok(Grant::default()));
    assert_eq!(of(json!(null)), Ok(Grant::default()));
    let many: Vec<_> = (0..=PATTERNS_MAX).map(|n| format!("t{n}")).collect();
    for bad in [json!("orders.*"), json!([7]), json!(["orders.4*"]), json!([""]), json!({}), json!(many)] {
        assert_eq!(of(bad.clone()), Err(AuthError::Topics), "{bad}");
    }
    assert!(open().user("a").expect("a name").topics.allows(&topic("anything")));
}

#[test]
fn only_the_pinned_algorithm_is_accepted() {
    let claims = json!({"sub": "alice"});
    for alg in [Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(jwt().user(&signed(&Header::new(alg), &claims)), Err(AuthError::Algorithm));
    }
    for alg in ["none", "None", "NONE", "RS256", ""] {
        let unsigned = format!("{}.{}.", part(&json!({"alg": alg})), part(&claims));
        assert!(jwt().user(&unsigned).is_err(), "{alg}");
    }
    // The claim to be unsigned with a valid signature behind it.
    let (_, signature) =
        token(&claims).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("parts");
    assert!(jwt().user(&format!("{}.{}.{signature}", part(&json!({"alg": "none"})), part(&claims))).is_err());
}

#[test]
fn a_critical_extension_is_refused() {
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["b64".into()]);
    assert_eq!(jwt().user(&signed(&header, &json!({"sub": "alice"}))), Err(AuthError::Algorithm));
}

#[test]
fn another_signature_is_refused() {
    let other = encode(
        &Header::new(Algorithm::HS256),
        &json!({"sub": "alice"}),
        &EncodingKey::from_secret(b"another secret of thirty-two bytes"),
    );
    assert_eq!(jwt().user(&other.expect("signed")), Err(AuthError::Signature));
    // The subject of one token under the signature of another.
    let good = token(&json!({"sub": "alice"}));
    let parts: Vec<&str> = good.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], part(&json!({"sub": "bob"})), parts[2]);
    assert_eq!(jwt().user(&forged), Err(AuthError::Signature));
    assert!(jwt().user(&format!("{}.{}.", parts[0], parts[1])).is_err());
}

#[test]
fn what_is_no_token_is_refused_without_a_panic() {
    for text in ["alice", "..", "a.b.c", "é.é.é", "....", "\0", " "] {
        assert!(jwt().user(text).is_err(), "{text}");
    }
    let array = format!("{}.{}.x", part(&json!([])), part(&json!([])));
    assert!(jwt().user(&array).is_err());
    assert_eq!(jwt().user(&"x".repeat(TOKEN_BYTES_MAX + 1)), Err(AuthError::TooLong));
}

#[test]
fn senders_need_the_key() {
    assert_eq!(jwt().sender(None), Err(AuthError::NoKey));
    assert_eq!(jwt().sender(Some("Basic abc")), Err(AuthError::NoKey));
    assert_eq!(jwt().sender(Some("Bearer ")), Err(AuthError::NoKey));
    for key in ["wrong", "a-key-of-sixtee", "a-key-of-sixteen1", "A-KEY-OF-SIXTEEN"] {
        assert_eq!(jwt().sender(Some(&format!("Bearer {key}"))), Err(AuthError::WrongKey), "{key}");
    }
    let sender = jwt().sender(Some(&format!("bearer {API_KEY}"))).expect("the key");
    assert_eq!(sender.name(), "default");
    let none = open();
    assert_eq!(none.sender(None).expect("anyone").name(), "anyone");
}

#[test]
fn every_refusal_fits_a_close_reason() {
    use AuthError::*;
    let refusals = [
        NoToken,
        TooLong,
        NotAName,
        Malformed,
        Algorithm,
        UnknownKey,
        Signature,
        Expired,
        NotYet,
        Times,
        Subject,
        Topics,
        Device,
        OtherDevice,
        Audience,
        Issuer,
        Subprotocol,
        KeysAway,
        HookRefused,
        HookAway,
        Ticket,
        StoreAway,
        OtherUser,
        NoKey,
        NoScope,
        WrongKey,
    ];
    for error in refusals {
        assert!(error.to_string().len() <= 123, "{error}");
    }
}

#[test]
fn secrets_are_not_in_debug_texts() {
    let options = AuthOptions::Guarded(Box::new(secret_guards()));
    let text = format!("{options:?} {:?}", jwt());
    assert!(!text.contains(SECRET) && !text.contains(API_KEY), "{text}");
}

#[test]
fn audience_and_issuer_are_looked_at_once_they_are_set() {
    let guards = Guards {
        audiences: vec!["postrider".into(), "push".into()],
        issuers: vec!["https://issuer".into()],
        ..secret_guards()
    };
    let authenticator = AtOnce(guarded(guards));
    let of = |claims: Value| authenticator.user(&token(&claims)).map(drop);
    let good = "https://issuer";
    assert_eq!(of(json!({"sub": "a", "aud": "push", "iss": good})), Ok(()));
    assert_eq!(of(json!({"sub": "a", "aud": ["x", "postrider"], "iss": good})), Ok(()));
    assert_eq!(of(json!({"sub": "a", "aud": ["x"], "iss": good})), Err(AuthError::Audience));
    assert_eq!(of(json!({"sub": "a", "iss": good})), Err(AuthError::Audience));
    assert_eq!(of(json!({"sub": "a", "aud": "push", "iss": "https://issuer/"})), Err(AuthError::Issuer));
    assert_eq!(of(json!({"sub": "a", "aud": "push"})), Err(AuthError::Issuer));
}

#[test]
fn another_claim_may_name_the_user() {
    let authenticator = AtOnce(guarded(Guards { user_claim: "uid".into(), ..secret_guards() }));
    let identity = authenticator.user(&token(&json!({"sub": "google|7", "uid": "ann"}))).expect("valid");
    assert_eq!(identity.user.as_str(), "user:ann");
    assert_eq!(authenticator.user(&token(&json!({"sub": "ann"}))), Err(AuthError::Subject));
}

#[test]
fn a_leeway_of_its_own_counts() {
    let strict = AtOnce(guarded(Guards { leeway: Duration::ZERO, ..secret_guards() }));
    let now = get_current_timestamp();
    assert_eq!(strict.user(&token(&json!({"sub": "a", "exp": now - 1}))), Err(AuthError::Expired));
    assert!(strict.user(&token(&json!({"sub": "a", "exp": now + 60}))).is_ok());
}

#[test]
fn the_secret_of_before_is_accepted_as_well() {
    let guards = Guards {
        secrets: vec!["a new secret of thirty-two bytes.".into(), SECRET.into()],
        ..Guards::default()
    };
    assert!(AtOnce(guarded(guards)).user(&token(&json!({"sub": "a"}))).is_ok());
}

const PAIRS: [(&str, &str, Algorithm); 4] = [
    (
        include_str!("../../../tests/keys/rsa.pem"),
        include_str!("../../../tests/keys/rsa.pub.pem"),
        Algorithm::RS256,
    ),
    (
        include_str!("../../../tests/keys/p256.pem"),
        include_str!("../../../tests/keys/p256.pub.pem"),
        Algorithm::ES256,
    ),
    (
        include_str!("../../../tests/keys/p384.pem"),
        include_str!("../../../tests/keys/p384.pub.pem"),
        Algorithm::ES384,
    ),
    (
        include_str!("../../../tests/keys/ed25519.pem"),
        include_str!("../../../tests/keys/ed25519.pub.pem"),
        Algorithm::EdDSA,
    ),
];

fn private(pem: &str) -> EncodingKey {
    let pem = pem.as_bytes();
    let rsa = EncodingKey::from_rsa_pem(pem);
    rsa.or_else(|_| EncodingKey::from_ec_pem(pem)).or_else(|_| EncodingKey::from_ed_pem(pem)).expect("a key")
}

fn signed_by(pem: &str, algorithm: Algorithm, kid: Option<&str>) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &json!({"sub": "ann"}), &private(pem)).expect("signed")
}

#[test]
fn each_kind_of_public_key_verifies_its_own_signatures_only() {
    for (private, public, algorithm) in PAIRS {
        let authenticator =
            AtOnce(guarded(Guards { public_keys: Some(public.to_owned()), ..Guards::default() }));
        for (other, _, its) in PAIRS {
            let expected = if other == private { Ok(()) } else { Err(AuthError::Algorithm) };
            assert_eq!(
                authenticator.user(&signed_by(other, its, None)).map(drop),
                expected,
                "{algorithm:?} {its:?}"
            );
        }
        // The public key taken for a secret: whoever has read it could sign.
        let forged = encode(
            &Header::new(Algorithm::HS256),
            &json!({"sub": "ann"}),
            &EncodingKey::from_secret(public.as_bytes()),
        );
        assert_eq!(authenticator.user(&forged.expect("signed")), Err(AuthError::Algorithm));
    }
    let (rsa, public, _) = PAIRS[0];
    let wanted = Guards {
        public_keys: Some(public.to_owned()),
        algorithm: Some("PS512".parse().expect("an algorithm")),
        ..Guards::default()
    };
    let authenticator = AtOnce(guarded(wanted));
    assert!(authenticator.user(&signed_by(rsa, Algorithm::PS512, None)).is_ok());
    assert_eq!(authenticator.user(&signed_by(rsa, Algorithm::RS256, None)), Err(AuthError::Algorithm));
}

#[test]
fn a_file_may_hold_several_public_keys_and_no_private_one() {
    let all: String = PAIRS.iter().map(|(_, public, _)| *public).collect();
    let authenticator = AtOnce(guarded(Guards { public_keys: Some(all.clone()), ..Guards::default() }));
    for (private, _, algorithm) in PAIRS {
        assert!(authenticator.user(&signed_by(private, algorithm, None)).is_ok(), "{algorithm:?}");
    }
    let es256 = "ES256".parse().ok();
    for (text, algorithm) in [
        (String::new(), None),
        ("no PEM".to_owned(), None),
        (PAIRS[0].0.to_owned(), None),
        (PAIRS[1].0.to_owned(), None),
        (include_str!("../../../tests/keys/p521.pub.pem").to_owned(), None),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned(), None),
        (all.repeat(9), None),
        (PAIRS[0].1.to_owned(), es256),
    ] {
        assert!(check_public_keys(&text, algorithm).is_err(), "{text}");
    }
    assert_eq!(check_public_keys(PAIRS[1].1, es256), Ok(()));
}

#[test]
fn a_services_token_serves_only_where_that_is_asked_for() {
    let claims = json!({"sub": "billing", "scope": "postrider:read"});
    let header = format!("Bearer {}", token(&claims));
    assert_eq!(jwt().sender(Some(&header)), Err(AuthError::WrongKey));
    let both = AtOnce(guarded(Guards { service_tokens: true, ..secret_guards() }));
    assert!(both.sender(Some(&header)).expect("a service").may(Need::Read));
    assert!(both.sender(Some(&format!("Bearer {API_KEY}"))).is_ok());
    let user = format!("Bearer {}", token(&json!({"sub": "ann"})));
    assert_eq!(both.sender(Some(&user)), Err(AuthError::NoScope), "a user's token sends nothing");
    let old =
        format!("Bearer {}", token(&json!({"sub": "billing", "scope": "postrider:read", "exp": 1_000})));
    assert_eq!(both.sender(Some(&old)), Err(AuthError::Expired));
}
