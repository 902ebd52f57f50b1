//! Who may send and who may listen.

use base64::Engine;
use jsonwebtoken::{EncodingKey, Header};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Device, Dial, Node, NodeOptions, PATIENCE, run_command};

const SECRET: &str = "a secret of more than thirty-two bytes";
const KEY: &str = "key-of-the-backend";

async fn guarded() -> Node {
    let env = [("POSTRIDER_AUTH", "jwt"), ("POSTRIDER_JWT_SECRET", SECRET), ("POSTRIDER_API_KEY", KEY)];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Node::start(NodeOptions { env, ..NodeOptions::default() }).await
}

fn token(user: &str, secret: &str, lasts: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let expires = i64::try_from(now.as_secs()).expect("it is before 2^63") + lasts;
    let claims = json!({"sub": user, "exp": expires});
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("a token without special wishes")
}

#[tokio::test]
async fn senders_need_the_api_key() {
    let node = guarded().await;
    let body = json!({"to": "user:ann", "data": 1});
    for api in [node.api(), node.api().with_key("key-of-a-stranger")] {
        let refused = api.push(&body).await;
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert!(refused.header("www-authenticate").is_some_and(|scheme| scheme.starts_with("Bearer")));
        assert_eq!(refused.expect(401)["status"], 401);
        assert_eq!(api.get("/v1/channels/user:ann").await.status, 401);
        assert_eq!(api.delete("/v1/channels/user:ann/sessions").await.status, 401);
    }
    node.api().with_key(KEY).push(&body).await.expect(202);
    for open in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(node.api().get(open).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn a_token_may_come_in_each_of_its_ways() {
    let node = guarded().await;
    let (address, token) = (node.address(), token("ann", SECRET, 60));
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&token);
    let ways = [
        Dial::plain(address, &token),
        Dial::anonymous(address).header("authorization", &format!("Bearer {token}")),
        Dial::anonymous(address).query(&format!("token={token}")),
        Dial::plain(address, &token).path("/"),
    ];
    let api = node.api().with_key(KEY);
    for (i, dial) in ways.into_iter().enumerate() {
        let socket = dial.query("from=now").connect().await;
        api.wait_sessions("ann", 1).await;
        api.push_to("ann", format!("way {i}")).await;
        assert_eq!(socket.wait_texts(1).await, [format!("way {i}")]);
        socket.close().await;
        api.wait_sessions("ann", 0).await;
    }
    let offered = format!("postrider.v1+json, bearer.{encoded}");
    let device = Dial::anonymous(address).header("sec-websocket-protocol", &offered);
    assert_eq!(Device::connect(device).await.hello().await["user"], "ann");
    let first_frame = Dial::anonymous(address).header("sec-websocket-protocol", "postrider.v1+json");
    let first_frame = first_frame.connect().await;
    first_frame.send_json(&json!({"type": "auth", "token": token}));
    assert_eq!(Device::over(first_frame).await.hello().await["user"], "ann");
}

#[tokio::test]
async fn a_missing_or_bad_token_is_closed_with_4403_and_a_reason() {
    let node = guarded().await;
    let bad = [
        Dial::anonymous(node.address()),
        Dial::plain(node.address(), "ann"),
        Dial::plain(node.address(), &token("ann", "another secret of thirty-two bytes", 60)),
        Dial::plain(node.address(), &token("ann", SECRET, -3_600)),
        Dial::plain(node.address(), &token("not a name", SECRET, 60)),
    ];
    for dial in bad {
        let closed = dial.connect().await.wait_closed(PATIENCE).await;
        assert_eq!(closed.code, Some(4403), "{closed:?}");
        assert!(closed.reason.len() > 10, "the reason helps nobody: {closed:?}");
        assert!(!closed.reason.contains(SECRET));
    }
    assert!(!node.log_text().contains(SECRET) && !node.log_text().contains(KEY), "a secret is in the log");
}

#[tokio::test]
async fn a_page_of_another_origin_is_kept_out() {
    let node = Node::start(NodeOptions::default()).await;
    let foreign = node.plain("ann").header("origin", "https://evil.example");
    match foreign.try_connect().await {
        Ok(socket) => assert_eq!(socket.wait_closed(PATIENCE).await.code, Some(4001)),
        Err(crate::harness::Refused::Status(status, _)) => assert_eq!(status, 403),
        Err(other) => panic!("{other:?}"),
    }
    let own = node.plain("ann").header("origin", &node.url()).connect().await;
    node.api().push_to("ann", "hello").await;
    assert_eq!(own.wait_texts(1).await, ["hello"]);
}

#[tokio::test]
async fn a_page_of_another_origin_may_not_say_its_token_later() {
    let node = Node::start(NodeOptions::default()).await;
    let foreign = Dial::anonymous(node.address())
        .header("sec-websocket-protocol", "postrider.v1+json")
        .header("origin", "https://evil.example");
    for dial in [foreign.clone(), foreign.query("resume=1")] {
        let socket = dial.connect().await;
        socket.send_json(
            &json!({"type": "auth", "token": "ann", "positions": {"user:ann": "0000000000000000.0"}}),
        );
        assert_eq!(socket.wait_closed(PATIENCE).await.code, Some(4001));
    }
}

#[tokio::test]
async fn no_page_opens_a_stream_by_a_link_or_an_image() {
    let node = Node::start(NodeOptions::default()).await;
    let of = |site: &str| [("sec-fetch-site", site.to_owned())];
    for path in ["/v1/events?token=ann", "/v1/nodes", "/v1/stats"] {
        for site in ["cross-site", "same-site"] {
            let answer = node.api().send(Method::GET, path, &of(site), None).await.expect("the node answers");
            assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("origin")), "{path} {site}");
        }
    }
    for site in ["same-origin", "none"] {
        let answer = node.api().send(Method::GET, "/v1/stats", &of(site), None).await;
        assert_eq!(answer.expect("the node answers").status, 200, "{site}");
        node.listen("ann").header("sec-fetch-site", site).greeted().await;
    }
    assert_eq!(node.api().get("/").await.status, 200, "who follows a link here may look at a page");
}

#[tokio::test]
async fn a_name_that_somebody_points_at_this_machine_is_not_an_open_nodes() {
    let config = "allowed_origins = [\"http://dev.example:8080\"]\nadvertise = \"node-1.internal:8080\"\n";
    let node = Node::start(NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() }).await;
    let ask = async |host: &str| {
        let headers = [("host", host.to_owned())];
        node.api().send(Method::GET, "/v1/nodes", &headers, None).await.expect("the node answers")
    };
    for host in [
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "dev.example",
        "0.0.0.0:8080",
        "[::]:8080",
        "[::ffff:127.0.0.1]",
    ] {
        let answer = ask(host).await;
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("host")), "{host}");
        assert!(answer.text.contains("allowed_origins"), "{}", answer.text);
    }
    for host in [
        "localhost",
        "app.localhost:1",
        "LOCALHOST.",
        "127.8.9.1:2",
        "[::1]:8080",
        "192.0.2.1",
        "dev.example:8080",
        "node-1.internal:8080",
    ] {
        assert_eq!(ask(host).await.status, 200, "{host}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let headers = [("host", "postrider.internal".to_owned())];
        let answer = node.api().send(Method::GET, path, &headers, None).await.expect("the node answers");
        assert_eq!(answer.status, 200, "{path}: who watches it may call it what they like");
    }
}

#[tokio::test]
async fn without_authentication_it_refuses_to_listen_beyond_loopback() {
    let (code, said) = run_command(&["serve", "--listen", "0.0.0.0:0", "--auth", "none"], &[]).await;
    assert_eq!(code, Some(64), "{said}");
    for part in ["--listen", "0.0.0.0", "--auth jwt"] {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
}
