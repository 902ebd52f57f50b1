//! What logs must never hold, however busy the node and however much it logs.

use base64::Engine;
use jsonwebtoken::{EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Cluster, Device, Dial, NodeOptions, RedisOptions, RedisServer, settled};
use crate::harness::{PATIENCE, free_port};
use crate::traces::{SHORT_LIVES, forgotten};

/// In every payload, key and secret of this test.
const CANARY: &str = "hush-hush";
const JWT_SECRET: &str = "hush-hush, a secret of more than thirty-two bytes";
const API_KEY: &str = "hush-hush-key-of-the-backend";

fn token(user: &str) -> String {
    let claims = json!({"sub": user, "exp": 4_000_000_000_u64});
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token without special wishes")
}

/// Two nodes that log all there is to log, in front of a Redis with a password.
async fn talkative() -> Cluster {
    let user = ["--user", "postrider", "on", ">hush-hush-redis", "~*", "&*", "+@all"];
    let redis = RedisOptions { args: user.map(str::to_owned).to_vec(), ..RedisOptions::default() };
    let redis = RedisServer::start_with(redis).await;
    let url = format!("redis://postrider:hush-hush-redis@{}", redis.address());
    let secret = "whsec_aHVzaC1odXNoLWh1c2gtaHVzaC1odXNoLWh1c2g=";
    let config = format!(
        "{SHORT_LIVES}log = \"trace\"\nauth = \"jwt\"\nwebhook_url = \"http://127.0.0.1:{}/\"\n",
        free_port()
    );
    let env = [("JWT_SECRET", JWT_SECRET), ("API_KEY", API_KEY), ("WEBHOOK_SECRET", secret)];
    let env = env.map(|(name, value)| (format!("POSTRIDER_{name}"), value.to_owned())).to_vec();
    let options = NodeOptions { redis: Some(url), config: Some(config), env, ..NodeOptions::default() };
    Cluster::start_on(redis, 2, options).await
}

/// Devices that give their token in every way, good and bad.
async fn devices(cluster: &Cluster) -> Vec<Device> {
    let address = cluster.nodes[0].address();
    let envelope = || Dial::anonymous(address).header("sec-websocket-protocol", "postrider.v1+json");
    let (token, bad) = (token("zoe"), format!("{}{CANARY}", token("zoe")));
    for dial in
        [envelope().header("cookie", &format!("token={bad}")), envelope().query(&format!("token={bad}"))]
    {
        dial.connect().await.wait_closed(PATIENCE).await;
    }
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&token);
    let offered = format!("postrider.v1+json, bearer.{encoded}");
    let ways = [
        envelope().header("cookie", &format!("token={token}")),
        envelope().header("authorization", &format!("Bearer {token}")),
        envelope().query(&format!("token={token}")),
        Dial::anonymous(address).header("sec-websocket-protocol", &offered),
    ];
    let mut devices = Vec::new();
    for (n, dial) in ways.into_iter().enumerate() {
        devices.push(Device::connect(dial.device(&format!("device{n}")).acknowledging()).await);
    }
    let first_frame = envelope().device("last").connect().await;
    first_frame.send_json(&json!({"type": "auth", "token": token}));
    first_frame.send(format!("{{\"{CANARY}"));
    devices.push(Device::over(first_frame).await);
    devices
}

#[tokio::test]
async fn no_payload_token_or_secret_is_in_any_line_of_a_busy_node() {
    let mut cluster = talkative().await;
    let devices = devices(&cluster).await;
    let api = cluster.nodes[1].api().with_key(API_KEY);
    for n in 0..20 {
        let body =
            json!({"to": "user:zoe", "data": {CANARY: n}, "collapse_key": format!("{CANARY}-{}", n % 15)});
        api.push_once(&body, &format!("{CANARY}-{n}")).await.expect(202);
    }
    devices[0].wait_messages(20).await;
    // What is wrong is not repeated either.
    for (key, body) in [(API_KEY, "{\"to\": \"hush-hush"), ("hush-hush-stranger", "{}")] {
        let headers = [("authorization", format!("Bearer {key}"))];
        let stranger = cluster.nodes[1].api();
        let answer = stranger.send(Method::POST, "/v1/push", &headers, Some(body.into())).await;
        assert!((400..500).contains(&answer.expect("the node answers").status));
    }
    drop(devices);
    let dead = cluster.nodes[0].id().to_owned();
    cluster.nodes[0].kill();
    forgotten(&cluster.redis, &dead).await;

    let logs: Vec<String> = cluster.nodes.iter().map(|node| node.whole_log()).collect();
    let token = token("zoe");
    let signature = token.rsplit('.').next().expect("three parts");
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&token);
    for line in logs.iter().flat_map(|log| log.lines()) {
        for secret in [CANARY, signature, &encoded[..40], "aHVzaC1odXNo"] {
            assert!(!line.contains(secret), "{secret} is in the log: {line}");
        }
    }
    // They did log: comings, goings, deliveries.
    for (log, message) in [(0, "connected"), (0, "written"), (1, "accepted")] {
        assert!(logs[log].contains(&format!("\"message\":\"{message}\"")), "no line '{message}'");
    }
}

#[tokio::test]
async fn whoever_inherits_a_node_says_so_in_one_line_with_fields() {
    let options = NodeOptions { config: Some(SHORT_LIVES.to_owned()), ..NodeOptions::default() };
    let mut cluster = Cluster::start_on(RedisServer::start().await, 3, options).await;
    let dead = cluster.nodes[0].id().to_owned();
    cluster.nodes[0].kill();
    forgotten(&cluster.redis, &dead).await;
    let lines = settled(PATIENCE, "a survivor says so", async || {
        let logs = [1, 2].map(|n| cluster.nodes[n].log_text());
        let lines =
            logs.iter().flat_map(|log| log.lines()).filter_map(|line| serde_json::from_str(line).ok());
        let about = |line: &Value| {
            line["dead"] == dead.as_str() && line["message"] == "inherited the stream of a dead node"
        };
        let lines: Vec<Value> = lines.filter(about).collect();
        if lines.is_empty() { Err(logs) } else { Ok(lines) }
    })
    .await;
    let [line] = &lines[..] else { panic!("one of the two is the heir: {lines:?}") };
    assert!(line["entries_moved"].is_u64() && line["channels_dropped"].is_u64(), "{line}");
}
