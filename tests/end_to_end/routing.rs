//! One push through any node reaches every device of its user, wherever it is.

use serde_json::json;

use crate::harness::{Cluster, PATIENCE, eventually};

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("message {n}")).collect()
}

#[tokio::test]
async fn every_device_gets_each_message_once_in_order_and_nobody_else_anything() {
    let cluster = Cluster::start(3).await;
    let [a, b, c] = &cluster.nodes[..] else { unreachable!("three nodes were started") };
    let devices = [
        a.plain("user1").connect().await,
        b.plain("user1").connect().await,
        b.plain("user1").connect().await,
    ];
    let others = [a.plain("user2").connect().await, c.plain("user10").connect().await];

    c.api().wait_sessions("user1", 3).await;
    let texts = numbered(50);
    for text in &texts {
        let answer = c.api().push_to("user1", text.as_str()).await;
        assert_eq!(answer["channel"], "user:user1");
        assert_eq!((answer["nodes"].as_u64(), answer["sessions"].as_u64()), (Some(2), Some(3)), "{answer}");
    }
    // What comes behind them shows that nothing else does.
    for user in ["user1", "user2", "user10"] {
        c.api().push_to(user, "the end").await;
    }
    let mut expected = texts;
    expected.push("the end".to_owned());
    for device in &devices {
        assert_eq!(device.wait_texts(51).await, expected);
    }
    for other in &others {
        assert_eq!(other.wait_texts(1).await, ["the end"]);
    }
    // Routed, not flooded: the node that took all of them and holds none of
    // user1's devices has read only what was for user10.
    assert_eq!(c.api().metric("postrider_stream_read_messages_sum").await, 1.0);
    assert_eq!(a.api().metric("postrider_stream_read_messages_sum").await, 52.0);
}

#[tokio::test]
async fn a_push_reaches_devices_of_the_node_that_took_it() {
    let cluster = Cluster::start(2).await;
    let near = cluster.nodes[0].plain("ann").connect().await;
    let far = cluster.nodes[1].plain("ann").connect().await;
    cluster.nodes[0].api().push_to("ann", json!({"k": [1, null, "x"]})).await;
    for device in [&near, &far] {
        assert_eq!(device.wait_texts(1).await, [r#"{"k":[1,null,"x"]}"#]);
    }
}

#[tokio::test]
async fn closing_one_socket_disturbs_no_other_of_its_user() {
    let cluster = Cluster::start(3).await;
    let [a, b, c] = &cluster.nodes[..] else { unreachable!("three nodes were started") };
    let leaves_first = a.plain("user1").connect().await;
    let same_node = a.plain("user1").connect().await;
    let other_node = b.plain("user1").connect().await;
    let leaves_last = b.plain("user1").connect().await;

    c.api().push_to("user1", "one").await;
    for device in [&leaves_first, &same_node, &other_node, &leaves_last] {
        assert_eq!(device.wait_texts(1).await, ["one"]);
    }
    assert_eq!(leaves_first.close().await, ["one"]);
    c.api().push_to("user1", "two").await;
    for device in [&same_node, &other_node, &leaves_last] {
        assert_eq!(device.wait_texts(2).await, ["one", "two"]);
    }
    // The last session of a node may not take the other node's away, nor come back by itself.
    assert_eq!(leaves_last.cut().await, ["one", "two"]);
    assert_eq!(other_node.close().await, ["one", "two"]);
    // The directory forgets the node that has nobody left.
    c.api().wait_sessions("user1", 1).await;
    let answer = c.api().push_to("user1", "three").await;
    assert_eq!((answer["nodes"].as_u64(), answer["sessions"].as_u64()), (Some(1), Some(1)), "{answer}");
    assert_eq!(same_node.wait_texts(3).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn a_channel_says_who_is_online_and_where() {
    let cluster = Cluster::start(2).await;
    let api = cluster.nodes[0].api();
    let nobody = api.get("/v1/channels/user:ann").await.expect(200);
    assert_eq!(
        (&nobody["online"], &nobody["sessions"], &nobody["head"]),
        (&json!(false), &json!(0), &json!(null))
    );

    let phone = cluster.nodes[1].envelope("ann").device("phone").acknowledging().connect().await;
    let pushed = api.push_to("ann", "hello").await;
    phone.wait_texts(2).await;
    eventually(PATIENCE, "the phone's acknowledgement is known", async || {
        let channel = api.get("/v1/channels/user:ann").await.expect(200);
        assert_eq!((&channel["channel"], &channel["online"]), (&json!("user:ann"), &json!(true)));
        assert_eq!(channel["nodes"], json!([{"node": cluster.nodes[1].id(), "sessions": 1}]));
        assert_eq!((&channel["head"], &channel["mailbox"]), (&pushed["pos"], &json!(1)));
        let cursor = &channel["cursors"][0];
        cursor["device"] == "phone" && cursor["pos"] == pushed["pos"] && !cursor["at"].is_null()
    })
    .await;
}

#[tokio::test]
async fn sessions_of_a_channel_can_be_closed_on_every_node() {
    let cluster = Cluster::start(2).await;
    let ann = [cluster.nodes[0].plain("ann").connect().await, cluster.nodes[1].plain("ann").connect().await];
    let bob = cluster.nodes[1].plain("bob").connect().await;
    cluster.nodes[0].api().wait_sessions("ann", 2).await;
    let answer = cluster.nodes[0].api().delete("/v1/channels/user:ann/sessions").await.expect(202);
    assert_eq!(answer["nodes"], 2);
    for device in &ann {
        assert_eq!(device.wait_closed(PATIENCE).await.code, Some(4000));
    }
    cluster.nodes[0].api().push_to("bob", "still here").await;
    assert_eq!(bob.wait_texts(1).await, ["still here"]);
}

#[tokio::test]
async fn live_nodes_are_listed_and_a_dead_one_disappears() {
    let mut cluster = Cluster::start(3).await;
    let api = cluster.nodes[0].api();
    let _session = cluster.nodes[1].plain("ann").connect().await;
    eventually(PATIENCE, "three nodes are listed, one with a session", async || {
        let listed = api.get("/v1/nodes").await.expect(200);
        let nodes = listed["nodes"].as_array().expect("a list");
        let of = |id: &str| nodes.iter().find(|node| node["id"] == id);
        nodes.len() == 3
            && cluster.nodes.iter().all(|node| {
                of(node.id()).is_some_and(|listed| {
                    listed["address"] == node.address().to_string()
                        && listed["draining"] == false
                        && listed["version"].is_string()
                        && listed["started_at"].is_string()
                        && listed["heartbeat_age_ms"].as_u64().is_some_and(|age| age < 3_000)
                })
            })
            && of(cluster.nodes[1].id()).is_some_and(|node| node["sessions"] == 1)
    })
    .await;

    cluster.nodes[2].kill();
    let dead = cluster.nodes[2].id();
    eventually(PATIENCE, "the killed node is no longer listed", async || {
        let listed = api.get("/v1/nodes").await.expect(200);
        listed["nodes"].as_array().expect("a list").iter().all(|node| node["id"] != dead)
    })
    .await;
}
