//! Tokens of every kind, tickets, the application's own sessions; how they end.

use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{
    Answers, Api, Closed, Cluster, Device, Dial, Node, NodeOptions, PATIENCE, RedisServer, Socket, eventually,
};

const SECRET: &str = "a secret of more than thirty-two bytes";
const KEY: &str = "key-of-the-backend";
const ES256: &str = include_str!("../keys/p256.pem");
const ED25519: &str = include_str!("../keys/ed25519.pem");

fn options(more: &[(&str, &str)]) -> NodeOptions {
    let env = [("POSTRIDER_AUTH", "jwt"), ("POSTRIDER_API_KEY", KEY), ("POSTRIDER_JWT_LEEWAY_SECONDS", "0")];
    let env = env.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    NodeOptions { env, ..NodeOptions::default() }
}

async fn guarded() -> Node {
    Node::start(options(&[("POSTRIDER_JWT_SECRET", SECRET)])).await
}

async fn cluster(nodes: usize, more: &[(&str, &str)]) -> Cluster {
    let more = [&[("POSTRIDER_JWT_SECRET", SECRET)], more].concat();
    Cluster::start_on(RedisServer::start().await, nodes, options(&more)).await
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(now.as_secs()).expect("it is before 2^63")
}

fn token(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key).expect("a token without special wishes")
}

/// A token of a user that lasts so many seconds.
fn lasting(user: &str, seconds: i64) -> String {
    token(&json!({"sub": user, "iat": now(), "exp": now() + seconds}))
}

fn bearer(node: &Node, token: &str) -> Dial {
    Dial::anonymous(node.address()).header("authorization", &format!("Bearer {token}"))
}

fn envelope(dial: Dial) -> Dial {
    dial.header("sec-websocket-protocol", "postrider.v1+json")
}

async fn closed(dial: Dial) -> Closed {
    dial.connect().await.wait_closed(PATIENCE).await
}

async fn post(api: &Api, path: &str, headers: &[(&str, String)], body: &Value) -> crate::harness::Answer {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    api.send(Method::POST, path, headers, Some(body)).await.expect("the node answers")
}

fn published(keys: &[(&str, Algorithm, &str)]) -> String {
    let jwk = |(pem, algorithm, kid): &(&str, Algorithm, &str)| {
        let jwk = Jwk::from_encoding_key(&private(pem), *algorithm).expect("a public key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = json!(kid);
        jwk
    };
    json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()}).to_string()
}

fn private(pem: &str) -> EncodingKey {
    let ec = EncodingKey::from_ec_pem(pem.as_bytes());
    ec.or_else(|_| EncodingKey::from_ed_pem(pem.as_bytes())).expect("a private key")
}

fn by(pem: &str, algorithm: Algorithm, kid: &str) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, &json!({"sub": "ann", "exp": now() + 60}), &private(pem)).expect("signed")
}

#[tokio::test]
async fn keys_from_a_url_let_in_whom_their_issuer_signed_for() {
    let set = published(&[(ES256, Algorithm::ES256, "one"), (ED25519, Algorithm::EdDSA, "two")]);
    let issuer = Answers::start(move |_| (200, set.clone())).await;
    let node = Node::start(options(&[("POSTRIDER_JWKS_URL", &issuer.url("/jwks.json"))])).await;
    for token in [by(ES256, Algorithm::ES256, "one"), by(ED25519, Algorithm::EdDSA, "two")] {
        let device = Device::connect(envelope(bearer(&node, &token))).await;
        assert_eq!(device.hello().await["user"], "ann");
    }
    // The token comes in a frame, of a key that has to be asked for first; the frame behind it waits.
    let stranger = envelope(Dial::anonymous(node.address())).query("resume=1").connect().await;
    stranger.send_json(&json!({"type": "auth", "token": by(ES256, Algorithm::ES256, "three")}));
    stranger.send_json(&json!({"type": "resume", "positions": {}}));
    let end = stranger.wait_closed(PATIENCE).await;
    assert_eq!(end.code, Some(4403), "{end:?}");
    assert!(end.reason.contains("kid"), "{end:?}");
    assert!(issuer.asked().len() <= 2, "{:?}", issuer.asked());
}

#[tokio::test]
async fn while_nobody_can_tell_a_token_is_not_called_bad() {
    let issuer = Answers::start(|_| (500, String::new())).await;
    let node = Node::start(options(&[("POSTRIDER_JWKS_URL", &issuer.url("/"))])).await;
    let end = closed(bearer(&node, &by(ES256, Algorithm::ES256, "one"))).await;
    assert_eq!(end.code, Some(1013), "{end:?}");
}

#[tokio::test]
async fn what_a_client_says_beats_what_its_browser_adds() {
    let node = guarded().await;
    let cookie = format!("token={}", lasting("bob", 60));
    let both = envelope(bearer(&node, &lasting("ann", 60))).header("cookie", &cookie);
    assert_eq!(Device::connect(both).await.hello().await["user"], "ann");
    for (first, user) in [(Some(lasting("ann", 60)), "ann"), (None, "bob")] {
        let dial = envelope(Dial::anonymous(node.address())).header("cookie", &cookie).query("resume=1");
        let socket = dial.connect().await;
        if let Some(token) = first {
            socket.send_json(&json!({"type": "auth", "token": token}));
        }
        socket.send_json(&json!({"type": "resume", "positions": {}}));
        assert_eq!(Device::over(socket).await.hello().await["user"], user);
    }
    let bad = envelope(Dial::anonymous(node.address())).header("cookie", "token=worthless").query("resume=1");
    let socket = bad.connect().await;
    socket.send_json(&json!({"type": "resume", "positions": {}}));
    assert_eq!(socket.wait_closed(PATIENCE).await.code, Some(4403), "then the cookie is all there is");
}

#[tokio::test]
async fn a_ticket_serves_once_on_any_node() {
    let cluster = cluster(2, &[]).await;
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    let own = [("authorization", format!("Bearer {}", lasting("ann", 60)))];
    let made = post(&a.api(), "/v1/tickets", &own, &Value::Null).await.expect(201);
    let ticket = made["ticket"].as_str().expect("a ticket").to_owned();
    let dial = |node: &Node| envelope(Dial::anonymous(node.address())).query(&format!("ticket={ticket}"));
    assert_eq!(Device::connect(dial(b)).await.hello().await["user"], "ann");
    for node in [a, b] {
        let end = closed(dial(node)).await;
        assert_eq!(end.code, Some(4403), "{end:?}");
        assert!(end.reason.contains("POST /v1/tickets"), "{end:?}");
    }
    assert!(!a.log_text().contains(&ticket) && !b.log_text().contains(&ticket), "a ticket is in the log");
    // A backend names whom it is for.
    let body = json!({"user": "bob", "device": "tv", "ttl": 10});
    assert_eq!(post(&a.api(), "/v1/tickets", &own, &body).await.status, 401, "a user speaks for nobody else");
    let made = post(&a.api().with_key(KEY), "/v1/tickets", &[], &body).await.expect(201);
    let query = format!("ticket={}", made["ticket"].as_str().expect("a ticket"));
    let hello = Device::connect(envelope(Dial::anonymous(b.address())).query(&query)).await.hello().await;
    assert_eq!((&hello["user"], &hello["device"]), (&json!("bob"), &json!("tv")));
    for (body, status) in
        [(json!({"ttl": 0}), 422), (json!({"ttl": 301}), 422), (json!({"topics": ["*"]}), 422)]
    {
        assert_eq!(post(&a.api(), "/v1/tickets", &own, &body).await.status, status, "{body}");
    }
    assert_eq!(post(&a.api(), "/v1/tickets", &[], &Value::Null).await.status, 401);
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let node = guarded().await;
    let end = closed(bearer(&node, &lasting("ann", 4))).await;
    assert_eq!(end.code, Some(4401), "{end:?}");
    let silent = envelope(bearer(&node, &lasting("ann", 4)));
    let device = Device::connect(silent).await;
    let asked = device.wait_frame("reauth", PATIENCE).await;
    assert!(asked["within_ms"].as_u64().is_some_and(|within| within <= 2_000), "{asked}");
    assert_eq!(device.wait_closed(PATIENCE).await.code, Some(4401));
    let api = node.api();
    eventually(PATIENCE, "both are counted", async || {
        api.metric("postrider_closes_total{code=\"expired\"}").await == 2.0
    })
    .await;
}

#[tokio::test]
async fn a_fresh_token_lets_a_session_go_on() {
    let node = guarded().await;
    let device = Device::connect(envelope(bearer(&node, &lasting("ann", 6)))).await;
    let other = Device::connect(envelope(bearer(&node, &lasting("ann", 6)))).await;
    device.wait_frame("reauth", PATIENCE).await;
    device.socket().send_json(&json!({"type": "auth", "token": "worthless"}));
    assert_eq!(device.wait_frame("error", PATIENCE).await["code"], "token");
    device.socket().send_json(&json!({"type": "auth", "token": lasting("ann", 600)}));
    // The session that was asked at the same time, and said nothing, has ended.
    assert_eq!(other.wait_closed(PATIENCE).await.code, Some(4401));
    node.api().with_key(KEY).push_to("ann", "still here").await;
    device.wait_messages(1).await;
    assert_eq!(device.socket().closed(), None);
    device.socket().send_json(&json!({"type": "auth", "token": lasting("bob", 600)}));
    let end = device.wait_closed(PATIENCE).await;
    assert_eq!(end.code, Some(4403), "{end:?}");
}

#[tokio::test]
async fn a_fresh_token_says_anew_which_topics_may_be_listened_to() {
    let node = guarded().await;
    let of = |topics: &[&str]| token(&json!({"sub": "ann", "exp": now() + 600, "topics": topics}));
    let dial = envelope(bearer(&node, &of(&["orders.*", "news"]))).query("topic=orders.1&topic=news");
    let device = Device::connect(dial).await;
    device.hello().await;
    let operator = node.api().with_key(KEY);
    let push = async |topic: &str| {
        operator.push(&json!({"to": format!("topic:{topic}"), "data": topic})).await.expect(202);
    };
    push("orders.1").await;
    device.wait_messages(1).await;
    device.socket().send_json(&json!({"type": "auth", "token": of(&["news", "sport"])}));
    assert_eq!(device.wait_frame("unsubscribed", PATIENCE).await["topics"], json!(["orders.1"]));
    let error = device.wait_frame("error", PATIENCE).await;
    assert_eq!((&error["code"], &error["topics"]), (&json!("topic_not_allowed"), &json!(["orders.1"])));
    // What the first one granted is not to be had again, what the fresh one grants is.
    device.socket().send_json(&json!({"type": "subscribe", "topics": ["orders.2", "sport"]}));
    assert_eq!(device.wait_frame("subscribed", PATIENCE).await["topics"], json!(["sport"]));
    for topic in ["orders.1", "orders.2", "news", "sport"] {
        push(topic).await;
    }
    let messages = device.wait_messages(3).await;
    let data: Vec<&str> = messages.iter().filter_map(|message| message.data.as_str()).collect();
    assert_eq!(data, ["orders.1", "news", "sport"]);
}

#[tokio::test]
async fn a_logout_closes_sessions_everywhere_and_makes_tokens_worthless() {
    let cluster = cluster(2, &[]).await;
    let [a, b] = &cluster.nodes[..] else { panic!("two nodes") };
    let old = token(&json!({"sub": "ann", "iat": now() - 5}));
    let undated = token(&json!({"sub": "ann"}));
    let sessions: Vec<Socket> = vec![
        bearer(a, &old).connect().await,
        bearer(b, &old).connect().await,
        bearer(b, &undated).connect().await,
    ];
    let own = [("authorization", format!("Bearer {old}"))];
    let ticket = post(&a.api(), "/v1/tickets", &own, &Value::Null).await.expect(201);
    let operator = a.api().with_key(KEY);
    operator.wait_sessions("ann", 3).await;
    let bystander = bearer(b, &lasting("bob", 60)).connect().await;
    let answer = post(&operator, "/v1/users/ann/logout", &[], &Value::Null).await.expect(202);
    assert_eq!((&answer["user"], &answer["nodes"]), (&json!("user:ann"), &json!(2)));
    for session in &sessions {
        assert_eq!(session.wait_closed(PATIENCE).await.code, Some(4000));
    }
    let query = format!("ticket={}", ticket["ticket"].as_str().expect("a ticket"));
    for dial in
        [bearer(a, &old), bearer(b, &old), bearer(a, &undated), Dial::anonymous(b.address()).query(&query)]
    {
        let end = closed(dial).await;
        assert_eq!(end.code, Some(4403), "{end:?}");
        assert!(end.reason.contains("logged out"), "{end:?}");
    }
    let new = token(&json!({"sub": "ann", "iat": now() + 1}));
    let back = Device::connect(envelope(bearer(b, &new))).await;
    assert_eq!(back.hello().await["user"], "ann");
    assert_eq!(bystander.closed(), None);
}

#[tokio::test]
async fn who_was_logged_out_acknowledges_nothing_any_more() {
    let mut cluster = cluster(1, &[]).await;
    let [node] = &cluster.nodes[..] else { panic!("one node") };
    let operator = node.api().with_key(KEY);
    let position = operator.push_to("ann", "secret").await["pos"].clone();
    let body = json!({"positions": {"user:ann": position}});
    let old = [("authorization", format!("Bearer {}", token(&json!({"sub": "ann", "iat": now() - 5}))))];
    post(&operator, "/v1/users/ann/logout", &[], &Value::Null).await.expect(202);
    let refused = post(&node.api(), "/v1/events/acks?device=phone", &old, &body).await;
    assert_eq!((refused.status, &refused.json()["code"]), (401, &json!("invalid_token")));
    assert!(refused.text.contains("logged out"), "{}", refused.text);
    let new = [("authorization", format!("Bearer {}", token(&json!({"sub": "ann", "iat": now() + 1}))))];
    assert_eq!(post(&node.api(), "/v1/events/acks?device=phone", &new, &body).await.status, 204);
    cluster.redis.kill();
    let away = post(&node.api(), "/v1/events/acks?device=phone", &new, &body).await;
    assert_eq!((away.status, &away.json()["code"]), (503, &json!("store_unavailable")));
}

#[tokio::test]
async fn what_lasts_longer_than_can_be_counted_lasts_for_ever() {
    let application =
        Answers::start(|_| (200, json!({"user": "ann", "expires_in": u64::MAX}).to_string())).await;
    let hook = application.url("/whoami");
    let more = [
        ("POSTRIDER_JWT_SECRET", SECRET),
        ("POSTRIDER_AUTH_HOOK_URL", &hook),
        ("POSTRIDER_JWT_LEEWAY_SECONDS", "30"),
    ];
    let node = Node::start(options(&more)).await;
    for token in [token(&json!({"sub": "ann", "exp": u64::MAX})), "opaque".to_owned()] {
        let device = Device::connect(envelope(bearer(&node, &token))).await;
        assert_eq!(device.hello().await["user"], "ann");
    }
    let backend = node.api().with_key(KEY);
    for (expires_in, status) in [(u64::MAX, 422), (31_536_001, 422), (0, 422), (1, 201), (31_536_000, 201)] {
        let body = json!({"user": "ann", "expires_in": expires_in});
        assert_eq!(post(&backend, "/v1/tickets", &[], &body).await.status, status, "{body}");
    }
}

/// A hook that keeps whoever asks waiting until it is told to answer.
struct SlowHook {
    listener: tokio::net::TcpListener,
}

impl SlowHook {
    async fn start() -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/whoami", listener.local_addr().expect("bound"));
        (Self { listener }, url)
    }

    /// The next question's token, and where its answer is awaited.
    async fn asked(&self) -> (String, tokio::net::TcpStream) {
        let (mut stream, _) = self.listener.accept().await.expect("a question");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.expect("a head") > 0, "the node hung up");
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let token = head.split_once("bearer ").expect("a token").1.lines().next().expect("a line");
        (token.to_owned(), stream)
    }
}

async fn answer(mut stream: tokio::net::TcpStream) {
    let body = json!({"user": "ann", "expires_in": 600, "topics": ["*"]}).to_string();
    let text = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.expect("the node waits");
}

#[tokio::test]
async fn of_many_fresh_tokens_one_is_checked_at_a_time_and_the_newest_counts() {
    let (hook, url) = SlowHook::start().await;
    let more = [("POSTRIDER_AUTH_HOOK_URL", &*url), ("POSTRIDER_AUTH_HOOK_TIMEOUT_MS", "10000")];
    let node = Node::start(options(&more)).await;
    let (device, ()) = tokio::join!(Device::connect(envelope(bearer(&node, "first"))), async {
        answer(hook.asked().await.1).await;
    });
    device.hello().await;
    let renew = |n: usize| {
        device.socket().send_json(&json!({"type": "auth", "token": format!("fresh-{n}")}));
    };
    renew(1);
    let (token, stream) = hook.asked().await;
    assert_eq!(token, "fresh-1");
    (2..=300).for_each(renew);
    device.socket().send_json(&json!({"type": "subscribe", "topics": ["news"]}));
    device.wait_frame("subscribed", PATIENCE).await;
    answer(stream).await;
    let (token, stream) = hook.asked().await;
    assert_eq!(token, "fresh-300");
    answer(stream).await;
    let another = tokio::time::timeout(Duration::from_millis(500), hook.asked()).await;
    assert!(another.is_err(), "asked about {another:?}, too");
    assert_eq!(device.socket().closed(), None);
}

#[tokio::test]
async fn the_application_itself_may_say_whose_session_it_is() {
    let application = Answers::start(|head| {
        let head = head.to_lowercase();
        match () {
            () if head.contains("session=anns") => (200, json!({"user": "ann", "device": "tv"}).to_string()),
            () if head.contains("bearer opaque-of-bob") && !head.contains("cookie:") => {
                (200, json!({"user": "bob", "expires_in": 4}).to_string())
            }
            () if head.contains("session=garbled") => (200, "<html>".to_owned()),
            () => (401, String::new()),
        }
    })
    .await;
    let node = Node::start(options(&[("POSTRIDER_AUTH_HOOK_URL", &application.url("/whoami"))])).await;
    let with =
        |cookie: &str| Dial::anonymous(node.address()).header("cookie", cookie).header("x-private", "1");
    let hello = Device::connect(envelope(with("theme=dark; session=anns"))).await.hello().await;
    assert_eq!((&hello["user"], &hello["device"]), (&json!("ann"), &json!("tv")));
    let asked = application.asked().concat().to_lowercase();
    assert!(asked.starts_with("get /whoami ") && asked.contains("session=anns"), "{asked}");
    assert!(!asked.contains("x-private") && !asked.contains("sec-websocket"), "{asked}");
    // Kept for a moment: the second time nobody is asked.
    Device::connect(envelope(with("theme=dark; session=anns"))).await;
    assert_eq!(application.asked().len(), 1);
    let end = closed(with("session=unknown")).await;
    assert_eq!(end.code, Some(4403), "{end:?}");
    let end = closed(with("session=garbled")).await;
    assert_eq!(end.code, Some(1013), "{end:?}");
    let foreign = closed(with("session=anns").header("origin", "https://evil.example")).await;
    assert_eq!(foreign.code, Some(4001), "{foreign:?}");
    // A token in a frame: the cookie of whoever's browser it is must not decide.
    let socket = envelope(with("session=anns")).query("resume=1").connect().await;
    socket.send_json(&json!({"type": "auth", "token": "opaque-of-bob"}));
    socket.send_json(&json!({"type": "resume", "positions": {}}));
    let device = Device::over(socket).await;
    assert_eq!(device.hello().await["user"], "bob");
    assert_eq!(device.wait_closed(PATIENCE).await.code, Some(4401), "as long as the application said");
    application.answer(|_| (503, String::new()));
    let end = closed(with("session=new")).await;
    assert_eq!(end.code, Some(1013), "{end:?}");
    let counted = node.api().metric("postrider_auth_hook_questions_total{result=\"failed\"}").await;
    assert_eq!(counted, 2.0);
}
