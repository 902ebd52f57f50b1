//! Keys that an issuer publishes.

use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A published set with these public keys, named by their place in [`PAIRS`].
fn set(pairs: &[usize]) -> String {
    let jwk = |at: &usize| {
        let (private_key, _, algorithm) = PAIRS[*at];
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&private(private_key), algorithm).expect("a key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = json!(format!("key-{at}"));
        jwk
    };
    json!({"keys": pairs.iter().map(jwk).collect::<Vec<_>>()}).to_string()
}

#[test]
fn a_published_set_is_read_as_far_as_it_can_be_used() {
    let mut published: Value = serde_json::from_str(&set(&[0, 1, 2, 3])).expect("JSON");
    let keys = published["keys"].as_array_mut().expect("a list");
    for extra in [
        json!({"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc"}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "alg": "RS256"}),
        json!({"kty": "new", "alg": "XX512"}),
        json!("no key"),
    ] {
        keys.push(extra);
    }
    let read = keys::from_set(published.to_string().as_bytes()).expect("a set");
    let algorithms: Vec<_> = read.iter().map(|key| key.algorithm).collect();
    assert_eq!(algorithms, PAIRS.map(|(_, _, algorithm)| algorithm));
    for text in
        ["", "[]", "{\"keys\": {}}", "{\"keys\": []}", "{\"keys\": [{\"kty\": \"oct\", \"k\": \"AA\"}]}"]
    {
        assert!(keys::from_set(text.as_bytes()).is_err(), "{text}");
    }
}

/// An issuer that publishes what it is told to, and counts how often it is asked.
#[derive(Clone)]
struct Issuer {
    answer: std::sync::Arc<std::sync::Mutex<(usize, Option<String>)>>,
    url: url::Url,
}

impl Issuer {
    async fn start(set: Option<String>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/jwks", listener.local_addr().expect("bound")).parse().expect("a URL");
        let issuer = Self { answer: std::sync::Arc::new(std::sync::Mutex::new((0, set))), url };
        let serving = issuer.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 1_024];
                let _ = stream.read(&mut asked).await;
                let body = {
                    let mut answer = serving.answer.lock().expect("no panic");
                    answer.0 += 1;
                    answer.1.clone()
                };
                let text = match body {
                    Some(body) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
                    None => "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        issuer
    }

    fn publish(&self, set: Option<String>) {
        self.answer.lock().expect("no panic").1 = set;
    }

    fn asked(&self) -> usize {
        self.answer.lock().expect("no panic").0
    }

    fn authenticator(&self) -> Authenticator {
        guarded(Guards { jwks_url: Some(self.url.clone()), ..Guards::default() })
    }
}

async fn by_key(authenticator: &Authenticator, at: usize) -> Result<(), AuthError> {
    let (private, _, algorithm) = PAIRS[at];
    authenticator.user(&signed_by(private, algorithm, Some(&format!("key-{at}")))).await.map(drop)
}

#[tokio::test]
async fn published_keys_are_fetched_once_and_again_when_a_token_names_a_new_one() {
    let issuer = Issuer::start(Some(set(&[0, 1]))).await;
    let authenticator = issuer.authenticator();
    for at in [0, 1, 0, 1] {
        assert_eq!(by_key(&authenticator, at).await, Ok(()));
    }
    assert_eq!(issuer.asked(), 1);
    // It rotates; but it was asked a moment ago.
    issuer.publish(Some(set(&[2])));
    assert_eq!(by_key(&authenticator, 2).await, Err(AuthError::UnknownKey));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(by_key(&authenticator, 2).await, Ok(()));
    assert_eq!(by_key(&authenticator, 0).await, Err(AuthError::UnknownKey));
    assert_eq!(issuer.asked(), 2, "strangers' key names do not make a hammer of the node");
}

#[tokio::test]
async fn keys_that_were_fetched_serve_while_their_url_is_away() {
    let issuer = Issuer::start(Some(set(&[1]))).await;
    let authenticator = issuer.authenticator();
    assert_eq!(by_key(&authenticator, 1).await, Ok(()));
    issuer.publish(None);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3_600)).await;
    tokio::time::resume();
    assert_eq!(by_key(&authenticator, 1).await, Ok(()), "old, and looked at again behind the scenes");
    while issuer.asked() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(by_key(&authenticator, 1).await, Ok(()));
}

#[tokio::test]
async fn without_any_keys_yet_nobody_is_told_that_the_token_is_bad() {
    let issuer = Issuer::start(None).await;
    let authenticator = issuer.authenticator();
    let error = by_key(&authenticator, 0).await.expect_err("no keys");
    assert!(error.is_passing(), "{error}");
    issuer.publish(Some(set(&[0])));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    assert_eq!(by_key(&authenticator, 0).await, Ok(()));
}

#[tokio::test]
async fn a_secret_that_an_issuer_publishes_signs_nothing() {
    let key = URL_SAFE_NO_PAD.encode(SECRET);
    let mut published: Value = serde_json::from_str(&set(&[0])).expect("JSON");
    published["keys"].as_array_mut().expect("a list").push(json!({"kty": "oct", "k": key, "kid": "shared"}));
    let issuer = Issuer::start(Some(published.to_string())).await;
    let header = Header { kid: Some("shared".into()), ..Header::new(Algorithm::HS256) };
    let token = signed(&header, &json!({"sub": "ann"}));
    assert_eq!(issuer.authenticator().user(&token).await, Err(AuthError::UnknownKey));
}
