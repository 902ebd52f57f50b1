//! A node that is asked to stop sends its sessions elsewhere, one after the other.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{
    Cluster, Device, Dial, NodeOptions, PATIENCE, RedisServer, Refused, eventually, settled,
};

async fn cluster(config: &str) -> Cluster {
    let options = NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() };
    Cluster::start_on(RedisServer::start().await, 2, options).await
}

#[tokio::test]
async fn sessions_are_told_and_closed_and_nothing_is_lost() {
    let mut cluster =
        cluster("drain_delay_ms = 1000\ndrain_window_ms = 1000\ndrain_deadline_ms = 10000\n").await;
    let mut plain = Vec::new();
    for n in 0..10 {
        plain.push(cluster.nodes[0].plain(&format!("user{n}")).connect().await);
    }
    let device = Device::connect(cluster.nodes[0].envelope("ann").device("phone").acknowledging()).await;
    let api = cluster.nodes[1].api();
    api.push_to("ann", 0).await;
    device.wait_messages(1).await;

    cluster.nodes[0].terminate();
    let leaving = cluster.nodes[0].api();
    // While load balancers find out, everything goes on as before.
    settled(PATIENCE, "the node says that it is unready", async || match leaving.try_get("/readyz").await {
        Ok(answer) if answer.status == 503 => Ok(()),
        other => Err(other),
    })
    .await;
    api.push_to("ann", 1).await;
    device.wait_messages(2).await;
    plain.push(cluster.nodes[0].plain("late").connect().await);

    let told = device.wait_frame("drain", PATIENCE).await;
    assert!(told["reconnect_after_ms"].is_u64(), "{told}");
    assert_eq!(device.wait_closed(PATIENCE).await.code, Some(1012));
    for socket in &plain {
        assert_eq!(socket.wait_closed(PATIENCE).await.code, Some(1012));
    }
    api.push_to("ann", 2).await;
    let position = device.last_position("user:ann").expect("a position");
    let moved =
        Device::resume(cluster.nodes[1].envelope("ann").device("phone"), &[("user:ann", &position)]).await;
    api.push_to("ann", 3).await;
    moved.wait_messages(2).await;
    assert_eq!(moved.payloads(), [json!(2), json!(3)]);
    assert!(moved.frames_of("gap").is_empty());

    assert!(cluster.nodes[0].exit(PATIENCE).await.success(), "a drain ends with exit code 0");
    leaves_nothing(&cluster, 1).await;
}

/// Whoever left in order took its place in the registry and its stream along:
/// nobody has to inherit anything.
async fn leaves_nothing(cluster: &Cluster, nodes: usize) {
    let listed = cluster.nodes[1].api().get("/v1/nodes").await.expect(200);
    assert_eq!(listed["nodes"].as_array().map(Vec::len), Some(nodes), "{listed}");
    let streams = cluster.redis.node_streams().await;
    assert_eq!(streams.len(), nodes, "{streams:?}");
}

/// A client takes a code of its own fault for final.
#[tokio::test]
async fn who_has_not_said_yet_who_or_where_it_is_when_a_node_drains_comes_back_elsewhere() {
    let mut cluster =
        cluster("drain_delay_ms = 0\ndrain_window_ms = 20000\ndrain_deadline_ms = 30000\n").await;
    let node = &cluster.nodes[0];
    let envelope = Dial::anonymous(node.address()).header("sec-websocket-protocol", "postrider.v1+json");
    let waiting = [
        envelope.clone().query("resume=1").connect().await,
        envelope.connect().await,
        node.envelope("ann").query("resume=1").connect().await,
    ];
    cluster.nodes[0].terminate();
    for (at, socket) in waiting.iter().enumerate() {
        assert_eq!(socket.wait_closed(PATIENCE).await.code, Some(1012), "client {at}");
    }
}

#[tokio::test]
async fn a_draining_node_takes_no_new_sessions() {
    let mut cluster =
        cluster("drain_delay_ms = 0\ndrain_window_ms = 20000\ndrain_deadline_ms = 30000\n").await;
    let _sessions = [
        cluster.nodes[0].plain("ann").connect().await,
        cluster.nodes[0].plain("bob").connect().await,
        cluster.nodes[0].plain("cem").connect().await,
    ];
    cluster.nodes[0].terminate();
    let address = cluster.nodes[0].address();
    settled(PATIENCE, "an upgrade is refused", async || {
        match Dial::plain(address, "new").try_connect().await {
            Err(Refused::Status(503, answer)) => {
                assert!(answer.headers().contains_key("retry-after"), "it does not say when to come back");
                Ok(())
            }
            Err(Refused::Lost(_)) => Ok(()),
            Ok(socket) => match socket.closed() {
                Some(closed) if closed.code == Some(1012) => Ok(()),
                other => Err(format!("connected, {other:?}")),
            },
            Err(other) => Err(format!("{other:?}")),
        }
    })
    .await;
    // Requests are answered on, but not over connections that balancers would keep.
    let answer = cluster.nodes[0].api().push(&json!({"to": "user:ann", "data": 1})).await;
    assert_eq!((answer.status, answer.header("connection")), (202, Some("close")));
}

#[tokio::test]
async fn a_push_that_was_on_its_way_when_the_listener_closed_is_accepted() {
    let mut cluster = cluster("drain_delay_ms = 0\ndrain_window_ms = 0\n").await;
    let address = cluster.nodes[0].address();
    let mut waiting = TcpStream::connect(address).await.expect("the node listens");
    cluster.nodes[0].terminate();
    eventually(PATIENCE, "nobody is let in any more", async || TcpStream::connect(address).await.is_err())
        .await;
    let body = r#"{"to": "user:ann", "data": "at the last moment"}"#;
    let head = format!("POST /v1/push HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    waiting.write_all(format!("{head}{body}").as_bytes()).await.expect("the connection is open");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.expect("an answer, and then the end");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    assert!(cluster.nodes[0].exit(PATIENCE).await.success());
    let device = Device::connect(cluster.nodes[1].envelope("ann")).await;
    device.wait_messages(1).await;
    assert_eq!(device.payloads(), [json!("at the last moment")]);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut cluster =
        cluster("drain_delay_ms = 60000\ndrain_window_ms = 60000\ndrain_deadline_ms = 600000\n").await;
    let _session = cluster.nodes[0].plain("ann").connect().await;
    cluster.nodes[0].terminate();
    let api = cluster.nodes[0].api();
    eventually(PATIENCE, "the first signal was heard", async || {
        api.try_get("/readyz").await.is_ok_and(|answer| answer.status == 503)
    })
    .await;
    assert!(cluster.nodes[0].is_running());
    cluster.nodes[0].terminate();
    cluster.nodes[0].exit(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn nodes_can_be_replaced_one_by_one_under_load() {
    let mut cluster = cluster("drain_delay_ms = 0\ndrain_window_ms = 300\ndrain_deadline_ms = 5000\n").await;
    let mut device = Device::connect(cluster.nodes[0].envelope("ann").device("phone")).await;
    let (mut seen, mut sent) = (Vec::new(), 0_u64);
    for round in 0..4 {
        let (leaving, staying) = (round % 2, 1 - round % 2);
        for _ in 0..25 {
            cluster.nodes[staying].api().push_to("ann", sent).await;
            sent += 1;
        }
        cluster.nodes[leaving].terminate();
        device.wait_closed(PATIENCE).await;
        seen.extend(device.payloads());
        let from = cluster.nodes[staying].envelope("ann").device("phone");
        device = match device.last_position("user:ann") {
            Some(position) => Device::resume(from, &[("user:ann", &position)]).await,
            None => Device::connect(from).await,
        };
        assert!(cluster.nodes[leaving].exit(PATIENCE).await.success());
        cluster.nodes[leaving].restart().await;
    }
    let expected: Vec<_> = (0..sent).map(|n| json!(n)).collect();
    let everything = || [seen.clone(), device.payloads()].concat();
    settled(PATIENCE, "the last message is there", async || {
        let all = everything();
        if all.last() == expected.last() { Ok(()) } else { Err(all) }
    })
    .await;
    assert_eq!(everything(), expected);
    leaves_nothing(&cluster, 2).await;
}
