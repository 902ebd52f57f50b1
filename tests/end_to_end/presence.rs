//! Who is there, on which node, and for how long after that node was killed.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Api, Cluster, Device, PATIENCE, eventually, settled};

/// Expiry of a heartbeat and its grace, by default, and some for a busy machine.
const OFFLINE_WITHIN: Duration = Duration::from_secs(15);

async fn presence(api: &Api, channels: &[&str]) -> Vec<Value> {
    let body = json!({ "channels": channels }).to_string().into_bytes();
    let answer = api.send(Method::POST, "/v1/presence", &[], Some(body)).await.expect("the node answers");
    let answer = answer.expect(200);
    answer["channels"].as_array().expect("a list").clone()
}

async fn sessions(api: &Api, user: &str) -> Value {
    api.get(&format!("/v1/channels/user:{user}/sessions")).await.expect(200)
}

#[tokio::test]
async fn many_channels_are_asked_about_at_once_in_their_order() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let _ann = [cluster.nodes[0].plain("ann").connect().await, cluster.nodes[1].plain("ann").connect().await];
    let _bob = cluster.nodes[1].plain("bob").connect().await;
    api.wait_sessions("ann", 2).await;
    api.wait_sessions("bob", 1).await;
    let found = presence(&api, &["user:nobody", "user:bob", "user:ann", "user:bob"]).await;
    let brief: Vec<_> = found
        .iter()
        .map(|one| (one["channel"].as_str(), one["online"].as_bool(), one["sessions"].as_u64()))
        .collect();
    let bob = (Some("user:bob"), Some(true), Some(1));
    let expected =
        [(Some("user:nobody"), Some(false), Some(0)), bob, (Some("user:ann"), Some(true), Some(2)), bob];
    assert_eq!(brief, expected);
    assert_eq!(found[1]["nodes"], json!([{"node": cluster.nodes[1].id(), "sessions": 1}]));

    let many: Vec<String> = (0..1_001).map(|n| format!("user:u{n}")).collect();
    for (channels, code) in [
        (json!(many), "invalid_channels"),
        (json!([]), "invalid_channels"),
        (json!(["ann"]), "invalid_channel"),
    ] {
        let body = json!({ "channels": channels }).to_string().into_bytes();
        let answer = api.send(Method::POST, "/v1/presence", &[], Some(body)).await.expect("the node answers");
        assert_eq!(answer.expect(422)["code"], code);
    }
    assert_eq!(presence(&api, &many[1..].iter().map(String::as_str).collect::<Vec<_>>()).await.len(), 1_000);
}

#[tokio::test]
async fn sessions_are_listed_wherever_they_are_and_closed_one_by_one() {
    let cluster = Cluster::start(3).await;
    let api = cluster.nodes[0].api();
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let laptop = Device::connect(cluster.nodes[0].envelope("ann").device("laptop")).await;
    let plain = cluster.nodes[2].plain("ann").connect().await;
    api.wait_sessions("ann", 3).await;
    let pushed = api.push_to("ann", "hello").await;
    phone.wait_messages(1).await;
    laptop.wait_messages(1).await;
    plain.wait_texts(1).await;

    let listed = settled(PATIENCE, "three sessions were given the message", async || {
        let listed = sessions(&api, "ann").await;
        let all = listed["sessions"].as_array().expect("a list").clone();
        let done = all.len() == 3 && all.iter().all(|one| one["pos"] == pushed["pos"] && one["live"] == true);
        if done { Ok(()) } else { Err(listed) }
    });
    listed.await;
    let listed = sessions(&api, "ann").await;
    assert_eq!((&listed["more"], &listed["unanswered"]), (&json!(false), &json!([])));
    let all = listed["sessions"].as_array().expect("a list");
    let of = |device: Value| all.iter().find(|one| one["device"] == device).expect("listed");
    let hello = phone.hello().await;
    let session = of(json!("phone"));
    assert_eq!((&session["id"], &session["node"]), (&hello["session"], &hello["node"]));
    assert_eq!(session["dialect"], "envelope");
    assert_eq!(of(Value::Null)["node"], cluster.nodes[2].id());
    assert_eq!((&of(Value::Null)["dialect"], &session["outbox_bytes"]), (&json!("plain"), &json!(0)));

    let id = session["id"].as_str().expect("an id");
    let path = format!("/v1/channels/user:ann/sessions/{id}");
    let closed = cluster.nodes[2].api().delete(&path).await.expect(200);
    assert_eq!((&closed["id"], &closed["closed"]), (&session["id"], &json!(true)));
    assert_eq!(phone.wait_closed(PATIENCE).await.code, Some(4000));
    eventually(PATIENCE, "the others are still there", async || {
        sessions(&api, "ann").await["sessions"].as_array().expect("a list").len() == 2
    })
    .await;
    assert_eq!(api.delete(&path).await.expect(404)["code"], "session_unknown");
    api.push_to("ann", "still here").await;
    laptop.wait_messages(2).await;
    plain.wait_texts(2).await;
}

#[tokio::test]
async fn a_killed_node_takes_its_users_offline_within_expiry_and_grace() {
    let mut cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let _here = cluster.nodes[0].plain("ann").connect().await;
    let _there =
        [cluster.nodes[1].plain("ann").connect().await, cluster.nodes[1].plain("bob").connect().await];
    api.wait_sessions("ann", 2).await;
    api.wait_sessions("bob", 1).await;
    let dead = cluster.nodes[1].id().to_owned();
    cluster.nodes[1].kill();

    // Until the heartbeat lapses the node may only be slow: it is named, not left out.
    let listed = sessions(&api, "bob").await;
    let lapsed = listed["unanswered"] == json!([]);
    assert!(lapsed || listed["unanswered"] == json!([dead]), "{listed}");
    settled(OFFLINE_WITHIN, "bob is offline and ann is where she is", async || {
        let found = presence(&api, &["user:ann", "user:bob"]).await;
        let ann = json!([{"node": cluster.nodes[0].id(), "sessions": 1}]);
        let done = found[0]["nodes"] == ann && found[1]["online"] == false;
        if done { Ok(()) } else { Err(found) }
    })
    .await;
    // From then on everything says so: no node without a heartbeat is counted.
    let bob = api.get("/v1/channels/user:bob").await.expect(200);
    assert_eq!((&bob["online"], &bob["sessions"], &bob["nodes"]), (&json!(false), &json!(0), &json!([])));
    assert_eq!(sessions(&api, "bob").await["unanswered"], json!([]));
    assert_eq!(sessions(&api, "ann").await["sessions"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn nodes_tell_how_their_streams_stand() {
    let mut cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let ann = cluster.nodes[1].plain("ann").connect().await;
    api.wait_sessions("ann", 1).await;
    api.push_to("ann", "one").await;
    ann.wait_texts(1).await;
    cluster.nodes[1].pause();
    for n in 0..5 {
        api.push_to("ann", n).await;
    }
    // By its address: one that stood still for too long has another id.
    let of = async |address: &str| {
        let listed = api.get("/v1/nodes").await.expect(200);
        let nodes = listed["nodes"].as_array().expect("a list");
        nodes.iter().find(|node| node["address"] == address).cloned().unwrap_or_default()
    };
    let paused = cluster.nodes[1].address().to_string();
    settled(PATIENCE, "what the paused node does not read is seen", async || {
        let node = of(&paused).await;
        let stream = &node["stream"];
        let waits = stream["lag"].as_u64().unwrap_or(0) + stream["pending"].as_u64().unwrap_or(0);
        if waits > 0 && stream["length"].as_u64() >= Some(1) { Ok(()) } else { Err(node) }
    })
    .await;
    cluster.nodes[1].resume();
    ann.wait_texts(6).await;
    settled(PATIENCE, "nothing is left", async || {
        let node = of(&paused).await;
        let empty = json!({"length": 0, "lag": 0, "pending": 0, "oldest_pending_ms": 0});
        if node["stream"] == empty && node["sessions"] == 1 { Ok(()) } else { Err(node) }
    })
    .await;
}
