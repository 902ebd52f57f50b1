//! What was sent while nobody was there waits, as long as it was asked to.

use serde_json::{Value, json};

use crate::harness::{Api, Cluster, Device, NodeOptions, PATIENCE, RedisServer, settled};

async fn push(api: &Api, extra: Value) -> Value {
    let mut body = json!({"to": "user:ann"});
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    api.push(&body).await.expect(202)
}

/// Waits until `device` of ann is known to have received everything.
async fn caught_up(api: &Api, device: &str) {
    settled(PATIENCE, "the device's cursor is at the head", async || {
        let channel = api.get("/v1/channels/user:ann").await.expect(200);
        let cursors = channel["cursors"].as_array().expect("a list");
        let cursor = cursors.iter().find(|cursor| cursor["device"] == device);
        match cursor {
            Some(cursor) if cursor["pos"] == channel["head"] => Ok(()),
            _ => Err(channel),
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_for_nobody_is_accepted_and_waits_for_the_first_device() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    for n in 0..3 {
        let answer = push(&api, json!({"data": format!("waits {n}")})).await;
        assert_eq!((&answer["nodes"], &answer["sessions"]), (&json!(0), &json!(0)));
        assert!(answer["pos"].is_string() && answer["expires_at"].is_string(), "{answer}");
    }
    let phone = cluster.nodes[1].plain("ann").device("phone").connect().await;
    assert_eq!(phone.wait_texts(3).await, ["waits 0", "waits 1", "waits 2"]);

    // Once it was received it no longer waits for a session that says nothing about where it was.
    caught_up(&api, "phone").await;
    let nameless = cluster.nodes[0].plain("ann").connect().await;
    push(&api, json!({"data": "live"})).await;
    assert_eq!(nameless.wait_texts(1).await, ["live"]);
}

#[tokio::test]
async fn nameless_sessions_share_what_was_written_to_one_of_them() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    push(&api, json!({"data": "first"})).await;
    let one = cluster.nodes[1].plain("ann").connect().await;
    assert_eq!(one.wait_texts(1).await, ["first"]);
    // That it counts as received becomes known within a moment; until then a session may be told again.
    settled(PATIENCE, "a further nameless session starts behind it", async || {
        let next = cluster.nodes[0].plain("ann").connect().await;
        push(&api, json!({"data": "mark"})).await;
        let texts = next.wait_texts(1).await;
        if texts[0] == "mark" { Ok(()) } else { Err(texts) }
    })
    .await;
}

#[tokio::test]
async fn a_named_device_that_returns_elsewhere_gets_what_it_missed() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let phone = cluster.nodes[0].plain("ann").device("phone").connect().await;
    let tablet = cluster.nodes[0].plain("ann").device("tablet").connect().await;
    push(&api, json!({"data": "one"})).await;
    phone.wait_texts(1).await;
    caught_up(&api, "phone").await;
    phone.cut().await;
    // The tablet receives these; the phone is owed them all the same.
    push(&api, json!({"data": "two"})).await;
    push(&api, json!({"data": "three"})).await;
    tablet.wait_texts(3).await;
    caught_up(&api, "tablet").await;
    let phone = cluster.nodes[1].plain("ann").device("phone").connect().await;
    assert_eq!(phone.wait_texts(2).await, ["two", "three"]);
}

#[tokio::test]
async fn a_session_may_ask_for_everything_or_for_nothing_old() {
    let cluster = Cluster::start(1).await;
    let api = cluster.nodes[0].api();
    push(&api, json!({"data": "old"})).await;
    let now = cluster.nodes[0].envelope("ann").query("from=now");
    let now = Device::connect(now).await;
    let oldest = cluster.nodes[0].plain("ann").query("from=oldest").connect().await;
    assert_eq!(oldest.wait_texts(1).await, ["old"]);
    let again = cluster.nodes[0].plain("ann").query("from=oldest").connect().await;
    push(&api, json!({"data": "new"})).await;
    assert_eq!(again.wait_texts(2).await, ["old", "new"]);
    assert_eq!(oldest.wait_texts(2).await, ["old", "new"]);
    now.wait_messages(1).await;
    assert_eq!(now.payloads(), ["new"]);
    assert!(now.frames_of("gap").is_empty());
}

#[tokio::test]
async fn a_message_is_gone_after_its_time() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    push(&api, json!({"data": "short", "ttl": 1})).await;
    push(&api, json!({"data": "long", "ttl": 3600})).await;
    let mailbox = async || api.get("/v1/channels/user:ann").await.expect(200)["mailbox"].as_u64();
    settled(PATIENCE, "the short-lived message is gone from the mailbox", async || {
        let left = mailbox().await;
        if left == Some(1) { Ok(()) } else { Err(left) }
    })
    .await;
    let device = Device::connect(cluster.nodes[1].envelope("ann")).await;
    device.wait_messages(1).await;
    assert_eq!(device.payloads(), ["long"]);
    assert!(device.frames_of("gap").is_empty(), "an expired message is no loss");
}

#[tokio::test]
async fn an_ephemeral_message_reaches_whoever_is_there_and_waits_for_nobody() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let unheard = push(&api, json!({"data": "unheard", "ttl": 0})).await;
    assert_eq!(unheard["pos"], Value::Null, "an ephemeral message takes no position");
    let device = Device::connect(cluster.nodes[1].envelope("ann")).await;
    push(&api, json!({"data": "heard", "ttl": 0})).await;
    device.wait_messages(1).await;
    push(&api, json!({"data": "kept"})).await;
    let messages = device.wait_messages(2).await;
    assert_eq!(device.payloads(), ["heard", "kept"]);
    assert_eq!(messages[0].position, None);
    assert!(messages[1].position.is_some());
}

#[tokio::test]
async fn a_newer_message_of_a_key_replaces_the_one_that_nobody_saw() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let online = Device::connect(cluster.nodes[0].envelope("ann").device("tablet")).await;
    let pushes = [
        ("score 1:0", Some("score")),
        ("hello", None),
        ("score 2:0", Some("score")),
        ("score 3:0", Some("score")),
    ];
    for (sent, (data, key)) in pushes.into_iter().enumerate() {
        let key = key.map_or(json!({}), |key| json!({"collapse_key": key}));
        let mut body = json!({"data": data});
        body.as_object_mut().expect("an object").extend(key.as_object().expect("an object").clone());
        push(&api, body).await;
        online.wait_messages(sent + 1).await;
    }
    // Nobody acknowledged anything: a device that was there sees each, one that was not sees the last.
    let late = Device::connect(cluster.nodes[1].envelope("ann").device("phone").query("from=oldest")).await;
    late.wait_messages(2).await;
    push(&api, json!({"data": "the end"})).await;
    late.wait_messages(3).await;
    assert_eq!(late.payloads(), ["hello", "score 3:0", "the end"]);
    assert!(late.frames_of("gap").is_empty(), "a replaced message is no loss");
    online.wait_messages(5).await;
    assert_eq!(online.payloads(), ["score 1:0", "hello", "score 2:0", "score 3:0", "the end"]);
}

#[tokio::test]
async fn a_full_mailbox_loses_its_oldest_and_says_so() {
    let options =
        NodeOptions { config: Some("mailbox_messages_max = 20\n".to_owned()), ..NodeOptions::default() };
    let cluster = Cluster::start_on(RedisServer::start().await, 2, options).await;
    let api = cluster.nodes[0].api();
    let device = Device::connect(cluster.nodes[0].envelope("ann").device("phone")).await;
    push(&api, json!({"data": 0})).await;
    device.wait_messages(1).await;
    let position = device.last_position("user:ann").expect("a position");
    device.cut().await;
    for n in 1..60 {
        push(&api, json!({"data": n})).await;
    }
    let device = Device::resume(cluster.nodes[1].envelope("ann"), &[("user:ann", &position)]).await;
    let gap = device.wait_frame("gap", PATIENCE).await;
    assert_eq!((&gap["channel"], &gap["reason"]), (&json!("user:ann"), &json!("trimmed")));
    assert_eq!(gap["from"], position.as_str());
    let hello = device.hello().await;
    assert_eq!(hello["resumed"], false);
    assert_eq!(hello["positions"]["user:ann"], position.as_str(), "delivery begins before what is lost");
    push(&api, json!({"data": "the end"})).await;
    settled(PATIENCE, "what was kept arrives", async || {
        let payloads = device.payloads();
        if payloads.last() == Some(&json!("the end")) { Ok(()) } else { Err(payloads) }
    })
    .await;
    let payloads = device.payloads();
    let first = payloads[0].as_u64().expect("a number");
    assert!((39..=41).contains(&first), "the mailbox holds about its last 20, from {first}");
    let kept: Vec<_> = (first..60).map(|n| json!(n)).chain([json!("the end")]).collect();
    assert_eq!(payloads, kept);
}

/// A connection that died between `hello` and `gap` hid the gap from a client
/// without a position of its own, which resumed from where `hello` had put it.
#[tokio::test]
async fn who_saw_only_hello_is_told_of_the_gap_at_the_next_connection() {
    let options =
        NodeOptions { config: Some("mailbox_messages_max = 20\n".to_owned()), ..NodeOptions::default() };
    let cluster = Cluster::start_on(RedisServer::start().await, 2, options).await;
    let api = cluster.nodes[0].api();
    let phone = || cluster.nodes[0].envelope("ann").device("phone");
    Device::connect(phone()).await.close().await;
    for n in 0..60 {
        push(&api, json!({"data": n})).await;
    }
    // It named no position: the node goes on from its cursor, which is below what is kept.
    let first = Device::connect(phone()).await;
    let told = first.wait_frame("gap", PATIENCE).await;
    let hello = first.hello().await;
    let began = hello["positions"]["user:ann"].as_str().expect("a position").to_owned();
    first.cut().await;
    let second = Device::resume(cluster.nodes[1].envelope("ann"), &[("user:ann", &began)]).await;
    let again = second.wait_frame("gap", PATIENCE).await;
    assert_eq!((&again["to"], &again["reason"]), (&told["to"], &told["reason"]));
    assert_eq!(again["from"], began.as_str());
}
