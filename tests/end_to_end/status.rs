//! A sender asks what became of its messages, and takes them back.

use serde_json::{Value, json};

use crate::harness::{Api, Cluster, Device, PATIENCE, settled};

/// The path of a message, with its position when `near`.
fn path(pushed: &Value, near: bool) -> String {
    let text = |key: &str| pushed[key].as_str().expect("a text").to_owned();
    let near = if near { format!("&pos={}", text("pos")) } else { String::new() };
    format!("/v1/messages/{}?channel={}{near}", text("id"), text("channel"))
}

/// Device and state of each, in the order of the answer.
fn devices(message: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let listed = message["devices"].as_array().expect("a list");
    listed.iter().map(|device| (text(&device["device"]), text(&device["state"]))).collect()
}

async fn becomes(api: &Api, pushed: &Value, state: &str, expected: &[(&str, &str)]) -> Value {
    let what = format!("message {} is {state} with {expected:?}", pushed["id"]);
    let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let mut last = Value::Null;
    settled(PATIENCE, &what, async || {
        let message = api.get(&path(pushed, false)).await.expect(200);
        let same = message["state"] == state && devices(&message) == expected;
        last = message.clone();
        if same { Ok(()) } else { Err(message) }
    })
    .await;
    last
}

async fn push(api: &Api, extra: Value) -> Value {
    let mut body = json!({"to": "user:ann", "data": 1});
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    api.push(&body).await.expect(202)
}

#[tokio::test]
async fn a_message_is_waiting_written_and_acknowledged_device_by_device() {
    let cluster = Cluster::start(3).await;
    let api = cluster.nodes[0].api();
    // Two devices on two nodes; one acknowledges when it is told to, one goes away.
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let laptop = Device::connect(cluster.nodes[2].envelope("ann").device("laptop")).await;
    laptop.close().await;
    api.wait_sessions("ann", 1).await;

    let first = push(&api, json!({"data": {"n": 1}})).await;
    phone.wait_messages(1).await;
    let written = becomes(&api, &first, "waiting", &[("laptop", "waiting"), ("phone", "written")]).await;
    assert!(written["accepted_at"].is_string() && written["expires_at"] == first["expires_at"], "{written}");
    assert_eq!((&written["pos"], &written["left_at"]), (&first["pos"], &Value::Null));

    phone.acknowledge("user:ann", first["pos"].as_str().expect("kept"));
    let expected = [("laptop", "waiting"), ("phone", "acknowledged")];
    let received = becomes(&api, &first, "received", &expected).await;
    assert!(received["devices"][1]["acknowledged_at"].is_string(), "{received}");
    // Any node tells the same, with the position as well as without.
    for node in &cluster.nodes {
        assert_eq!(node.api().get(&path(&first, true)).await.expect(200), received);
    }

    let second = push(&api, json!({})).await;
    phone.wait_messages(2).await;
    phone.acknowledge("user:ann", second["pos"].as_str().expect("kept"));
    becomes(&api, &second, "received", &expected).await;
    let first_again = api.get(&path(&first, false)).await.expect(200);
    let fate = &first_again["devices"][1];
    assert!(fate["acknowledged_before"].is_string() && fate["acknowledged_at"].is_null(), "{fate}");
}

#[tokio::test]
async fn what_expired_was_replaced_or_trimmed_says_so() {
    let redis = crate::harness::RedisServer::start().await;
    let options = crate::harness::NodeOptions {
        args: vec!["--mailbox-messages-max".into(), "20".into()],
        ..Default::default()
    };
    let cluster = Cluster::start_on(redis, 1, options).await;
    let api = cluster.nodes[0].api();
    let laptop = Device::connect(cluster.nodes[0].envelope("ann").device("laptop")).await;
    laptop.close().await;
    api.wait_sessions("ann", 0).await;

    let trimmed = push(&api, json!({})).await;
    let replaced = push(&api, json!({"collapse_key": "score"})).await;
    push(&api, json!({"collapse_key": "score"})).await;
    let short = push(&api, json!({"ttl": 1})).await;
    becomes(&api, &replaced, "collapsed", &[("laptop", "collapsed")]).await;
    let expired = becomes(&api, &short, "expired", &[("laptop", "expired")]).await;
    assert!(expired["left_at"].is_string(), "{expired}");
    for _ in 0..25 {
        push(&api, json!({})).await;
    }
    let dropped = becomes(&api, &trimmed, "dropped", &[("laptop", "dropped")]).await;
    assert_eq!(
        (&dropped["reason"], &dropped["devices"][0]["reason"]),
        (&json!("mailbox_full"), &json!("mailbox_full"))
    );

    let ephemeral = push(&api, json!({"ttl": 0})).await;
    assert_eq!(api.get(&path(&ephemeral, false)).await.expect(404)["code"], "message_unknown");
}

#[tokio::test]
async fn a_message_that_is_taken_back_reaches_nobody_who_had_it_not() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let secret = push(&api, json!({"data": "a mistake"})).await;
    push(&api, json!({"data": "no mistake"})).await;
    let withdrawn = cluster.nodes[1].api().delete(&path(&secret, true)).await.expect(200);
    assert_eq!(withdrawn["withdrawn"], true);
    assert_eq!((&withdrawn["state"], &withdrawn["reason"]), (&json!("dropped"), &json!("withdrawn")));
    let again = api.delete(&path(&secret, false)).await.expect(200);
    assert_eq!((&again["withdrawn"], &again["state"]), (&json!(false), &json!("dropped")));

    let phone = Device::connect(cluster.nodes[0].envelope("ann").device("phone").acknowledging()).await;
    phone.wait_messages(1).await;
    push(&api, json!({"data": "the end"})).await;
    phone.wait_messages(2).await;
    assert_eq!(phone.payloads(), ["no mistake", "the end"]);
    assert!(phone.frames_of("gap").is_empty(), "nothing was lost");
    settled(PATIENCE, "the ledger says so", async || {
        let ledger = api.get("/v1/channels/user:ann").await.expect(200)["ledger"].clone();
        let expected =
            json!({"accepted": 3, "received": 2, "waiting": 0, "expired": 0, "collapsed": 0, "dropped": 1});
        if ledger == expected { Ok(()) } else { Err(ledger) }
    })
    .await;
}

#[tokio::test]
async fn recent_messages_are_listed_newest_first_with_their_fates() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    for n in 1..=7 {
        push(&api, json!({"data": {"n": n}})).await;
    }
    let page = api.get("/v1/channels/user:ann/messages?limit=3").await.expect(200);
    let numbers = |page: &Value| {
        let messages = page["messages"].as_array().expect("a list");
        messages.iter().map(|message| message["data"]["n"].as_u64().expect("kept")).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&page), [7, 6, 5]);
    let next = page["next"].as_u64().expect("there is more");
    let page = api.get(&format!("/v1/channels/user:ann/messages?limit=10&before={next}")).await.expect(200);
    assert_eq!((numbers(&page), &page["next"]), (vec![4, 3, 2, 1], &Value::Null));
    assert_eq!(page["messages"][0]["state"], "waiting");
    for (query, code) in
        [("limit=0", "invalid_limit"), ("limit=101", "invalid_limit"), ("before=x", "invalid_query")]
    {
        let answer = api.get(&format!("/v1/channels/user:ann/messages?{query}")).await.expect(422);
        assert_eq!(answer["code"], code);
    }
}

#[tokio::test]
async fn all_that_is_kept_about_a_user_can_be_forgotten() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone").acknowledging()).await;
    let before = push(&api, json!({})).await;
    phone.wait_messages(1).await;
    becomes(&api, &before, "received", &[("phone", "acknowledged")]).await;

    let erased = api.delete("/v1/channels/user:ann").await.expect(200);
    assert_eq!(
        (&erased["messages"], &erased["devices"], &erased["nodes"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(phone.wait_closed(PATIENCE).await.code, Some(4000));
    api.wait_sessions("ann", 0).await;
    let channel = api.get("/v1/channels/user:ann").await.expect(200);
    assert_eq!(
        (&channel["head"], &channel["mailbox"], &channel["cursors"]),
        (&Value::Null, &json!(0), &json!([]))
    );
    assert_eq!(api.get(&path(&before, true)).await.expect(404)["code"], "message_unknown");

    let after = push(&api, json!({"data": "after"})).await;
    assert_ne!(before["pos"], after["pos"]);
    let pos = before["pos"].as_str().expect("kept");
    let back = Device::connect(cluster.nodes[0].envelope("ann").query(&format!("pos={pos}"))).await;
    let gap = back.wait_frame("gap", PATIENCE).await;
    assert_eq!(gap["reason"], "reset", "an old position means nothing any more");
    back.wait_messages(1).await;
    assert_eq!(back.payloads(), ["after"]);
}

#[tokio::test]
async fn questions_that_make_no_sense_are_answered_with_what_to_do() {
    let cluster = Cluster::start(1).await;
    let api = cluster.nodes[0].api();
    let unknown = "01KB0000000000000000000000";
    let cases = [
        (format!("/v1/messages/{unknown}"), 400, "missing_channel"),
        (format!("/v1/messages/{unknown}?channel=ann"), 422, "invalid_channel"),
        ("/v1/messages/7?channel=user:ann".to_owned(), 422, "invalid_message_id"),
        (format!("/v1/messages/{unknown}?channel=user:ann&pos=7"), 422, "invalid_position"),
        (format!("/v1/messages/{unknown}?channel=user:ann"), 404, "message_unknown"),
    ];
    for (path, status, code) in cases {
        for answer in [api.get(&path).await, api.delete(&path).await] {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.expect(status)["code"], code, "{path}");
        }
    }
    let session = format!("/v1/channels/user:ann/sessions/{unknown}");
    assert_eq!(api.delete(&session).await.expect(404)["code"], "session_unknown");
    assert_eq!(api.delete("/v1/channels/user:ann/sessions/7").await.expect(422)["code"], "invalid_session");
}
