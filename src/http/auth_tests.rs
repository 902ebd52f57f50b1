use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const API_KEY: &str = "a-key-of-sixteen";

fn jwt() -> Authenticator {
    Authenticator::new(&AuthOptions::Jwt { secret: SECRET.into(), api_key: API_KEY.into() })
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
    let identity = jwt().user(&token(&json!({"sub": "alice", "exp": exp, "aud": "other"}))).expect("valid");
    let user = Channel::user("alice").expect("valid");
    assert_eq!(identity, Identity { user, topics: Grant::default(), expires_at: Some(exp) });
    let endless = jwt().user(&token(&json!({"sub": "alice"}))).expect("valid");
    assert_eq!(endless.expires_at, None);
}

#[test]
fn without_authentication_the_token_is_the_user() {
    let none = Authenticator::new(&AuthOptions::None);
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
    let open = Authenticator::new(&AuthOptions::None).user("a").expect("a name");
    assert!(open.topics.allows(&topic("anything")));
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
    assert!(!sender.as_str().contains(API_KEY) && sender.as_str().len() < 20);
    let none = Authenticator::new(&AuthOptions::None);
    assert_eq!(none.sender(None).expect("anyone").as_str(), "anyone");
}

#[test]
fn every_refusal_fits_a_close_reason() {
    use AuthError::*;
    for error in [
        NoToken,
        TooLong,
        NotAName,
        Malformed,
        Algorithm,
        Signature,
        Expired,
        NotYet,
        Times,
        Subject,
        Subprotocol,
        NoKey,
        WrongKey,
    ] {
        assert!(error.to_string().len() <= 123, "{error}");
    }
}

#[test]
fn secrets_are_not_in_debug_texts() {
    let options = AuthOptions::Jwt { secret: SECRET.into(), api_key: API_KEY.into() };
    let text = format!("{options:?} {:?}", jwt());
    assert!(!text.contains(SECRET) && !text.contains(API_KEY), "{text}");
}
