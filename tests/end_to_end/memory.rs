//! One node with nothing installed: the embedded store behaves like the other.

use serde_json::json;

use crate::harness::{Device, Node, NodeOptions, PATIENCE};

#[tokio::test]
async fn a_single_node_serves_on_its_own_memory_and_says_so() {
    let node = Node::start(NodeOptions::default()).await;
    let log = node.log_text();
    assert!(log.contains("memory") && log.contains("WARN"), "it does not say so loudly: {log}");
    let api = node.api();

    // Waiting, live, and to every device.
    api.push_to("user1", "waited").await;
    let first = node.plain("user1").path("/").connect().await;
    assert_eq!(first.wait_texts(1).await, ["waited"]);
    let second = node.plain("user1").query("from=now").connect().await;
    let other = node.plain("user2").connect().await;
    api.wait_sessions("user1", 2).await;
    let answer = api.push_to("user1", json!({"n": 1})).await;
    assert_eq!((&answer["nodes"], &answer["sessions"]), (&json!(1), &json!(2)));
    assert_eq!(first.wait_texts(2).await, ["waited", r#"{"n":1}"#]);
    assert_eq!(second.wait_texts(1).await, [r#"{"n":1}"#]);

    // Closing one disturbs neither the other nor anyone else.
    first.close().await;
    api.push_to("user1", "later").await;
    api.push_to("user2", "yours").await;
    assert_eq!(second.wait_texts(2).await[1], "later");
    assert_eq!(other.wait_texts(1).await, ["yours"]);

    let nodes = api.get("/v1/nodes").await.expect(200);
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(1));
    assert_eq!(nodes["nodes"][0]["id"], node.id());
    assert!(api.get("/metrics").await.text.contains("store=\"memory\""));
}

#[tokio::test]
async fn a_device_resumes_and_a_retry_is_recognised() {
    let node = Node::start(NodeOptions::default()).await;
    let api = node.api();
    let device = Device::connect(node.envelope("ann").device("phone")).await;
    let body = json!({"to": "user:ann", "data": "once"});
    let one = api.push_once(&body, "k").await.expect(202);
    let two = api.push_once(&body, "k").await.expect(202);
    assert_eq!(one["id"], two["id"]);
    device.wait_messages(1).await;
    let position = device.last_position("user:ann").expect("a position");
    device.cut().await;
    for n in 0..3 {
        api.push_to("ann", n).await;
    }
    let device = Device::resume(node.envelope("ann"), &[("user:ann", &position)]).await;
    device.wait_messages(3).await;
    assert_eq!(device.payloads(), [json!(0), json!(1), json!(2)]);
    assert_eq!(device.hello().await["resumed"], true);
}

#[tokio::test]
async fn it_stops_in_order_when_asked_to() {
    let options =
        NodeOptions { config: Some("drain_window_ms = 100\n".to_owned()), ..NodeOptions::default() };
    let mut node = Node::start(options).await;
    let session = node.plain("ann").connect().await;
    node.terminate();
    assert_eq!(session.wait_closed(PATIENCE).await.code, Some(1012));
    assert!(node.exit(PATIENCE).await.success());
}
