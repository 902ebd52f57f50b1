//! A retry is harmless.

use serde_json::{Value, json};

use crate::harness::{Cluster, Device};

#[tokio::test]
async fn a_retry_with_its_key_is_answered_as_before_and_delivered_once() {
    let cluster = Cluster::start(3).await;
    let device = Device::connect(cluster.nodes[2].envelope("ann")).await;
    let body = json!({"to": "user:ann", "data": {"order": 7}});
    let first = cluster.nodes[0].api().push_once(&body, "order-7").await.expect(202);
    // Through another node, and with the key in quotes as the header's draft wants it.
    let again = cluster.nodes[1].api().push_once(&body, "\"order-7\"").await.expect(202);
    for field in ["id", "channel", "pos", "expires_at"] {
        assert_eq!(first[field], again[field], "{field}");
    }
    let other = cluster.nodes[0].api().push_once(&body, "order-8").await.expect(202);
    assert_ne!(first["id"], other["id"]);
    let messages = device.wait_messages(2).await;
    let ids: Vec<_> = messages.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids, [first["id"].as_str().expect("an id"), other["id"].as_str().expect("an id")]);
}

#[tokio::test]
async fn a_key_with_another_body_is_refused() {
    let cluster = Cluster::start(1).await;
    let api = cluster.nodes[0].api();
    api.push_once(&json!({"to": "user:ann", "data": 1}), "k").await.expect(202);
    let refused = api.push_once(&json!({"to": "user:ann", "data": 2}), "k").await;
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(refused.expect(422)["code"], "idempotency_key_reused");
}

#[tokio::test]
async fn a_key_holds_for_each_recipient_apart() {
    let cluster = Cluster::start(2).await;
    let ann = Device::connect(cluster.nodes[0].envelope("ann")).await;
    let bob = Device::connect(cluster.nodes[1].envelope("bob")).await;
    let body = json!({"to": ["user:ann", "user:bob"], "data": "x"});
    let ids_from = async |node: usize| -> Vec<Value> {
        let answer = cluster.nodes[node].api().push_once(&body, "k").await.expect(202);
        answer.as_array().expect("a list").iter().map(|item| item["id"].clone()).collect()
    };
    let (first, again) = (ids_from(0).await, ids_from(1).await);
    assert_eq!(first, again);
    assert!(first.len() == 2 && first[0] != first[1], "{first:?}");
    // A sender may use the same key for somebody else: it is another message.
    let to_cem = json!({"to": "user:cem", "data": "x"});
    let cem = cluster.nodes[0].api().push_once(&to_cem, "k").await.expect(202);
    assert!(!first.contains(&cem["id"]), "{cem}");
    for (user, device) in [("ann", &ann), ("bob", &bob)] {
        cluster.nodes[0].api().push_to(user, "the end").await;
        device.wait_messages(2).await;
        assert_eq!(device.payloads(), ["x", "the end"]);
    }
}

#[tokio::test]
async fn many_tries_at_the_same_moment_make_one_message() {
    let cluster = Cluster::start(3).await;
    let device = Device::connect(cluster.nodes[0].envelope("ann")).await;
    let body = json!({"to": "user:ann", "data": "once"});
    let apis: Vec<_> = cluster.nodes.iter().map(|node| node.api()).collect();
    let tries = (0..24).map(|n| apis[n % 3].push_once(&body, "same"));
    let answers = futures_util::future::join_all(tries).await;
    let ids: Vec<_> = answers.iter().map(|answer| answer.expect(202)["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    apis[1].push_to("ann", "the end").await;
    device.wait_messages(2).await;
    assert_eq!(device.payloads(), ["once", "the end"]);
}
