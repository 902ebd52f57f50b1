//! Clients that vanish without a word, never read, or hang up in the middle.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{
    Cluster, Device, Direction, Mode, Node, NodeOptions, PATIENCE, Proxy, RedisServer, eventually, settled,
};

async fn cluster(config: &str) -> Cluster {
    let options = NodeOptions { config: Some(config.to_owned()), ..NodeOptions::default() };
    Cluster::start_on(RedisServer::start().await, 2, options).await
}

#[tokio::test]
async fn half_open_sockets_are_found_by_their_missing_pongs() {
    let cluster = cluster("ping_interval_seconds = 1\npong_timeout_seconds = 1\n").await;
    let proxy = Proxy::start(cluster.nodes[0].address()).await;
    let through = proxy.address();
    let plain = cluster.nodes[0].plain("ann").device("tv").through(through).connect().await;
    let envelope =
        Device::connect(cluster.nodes[0].envelope("ann").device("phone").acknowledging().through(through))
            .await;
    let healthy = cluster.nodes[0].plain("ann").device("desk").connect().await;
    let pusher = cluster.nodes[1].api();
    pusher.wait_sessions("ann", 3).await;
    pusher.push_to("ann", 0).await;
    plain.wait_texts(1).await;
    envelope.wait_messages(1).await;
    let position = envelope.last_position("user:ann").expect("a position");
    eventually(PATIENCE, "the television's pong moved its cursor", async || {
        let channel = pusher.get("/v1/channels/user:ann").await.expect(200);
        channel["cursors"].as_array().is_some_and(|cursors| {
            cursors.iter().any(|cursor| cursor["device"] == "tv" && cursor["pos"] == channel["head"])
        })
    })
    .await;

    // Neither side is told; what the node writes still disappears into buffers.
    proxy.set_both(Mode::Blackhole);
    pusher.push_to("ann", 1).await;
    let holder = cluster.nodes[0].api();
    settled(Duration::from_secs(10), "both are closed as unresponsive", async || {
        let closed = holder.metric("postrider_closes_total{code=\"unresponsive\"}").await;
        if closed == 2.0 { Ok(()) } else { Err(closed) }
    })
    .await;
    assert_eq!(holder.metric("postrider_sessions{dialect=\"plain\"}").await, 1.0);
    assert_eq!(healthy.closed(), None, "who answers stays");

    // What died in the buffers was not received: both get it elsewhere.
    let tv = cluster.nodes[1].plain("ann").device("tv").connect().await;
    assert_eq!(tv.wait_texts(1).await, ["1"]);
    let phone =
        Device::resume(cluster.nodes[1].envelope("ann").device("phone"), &[("user:ann", &position)]).await;
    phone.wait_messages(1).await;
    assert_eq!(phone.payloads(), [json!(1)]);
}

#[tokio::test]
async fn a_plain_device_that_never_reads_is_closed_and_gets_everything_when_it_comes_back() {
    let cluster =
        cluster("outbox_messages_max = 32\nsocket_send_buffer_bytes = 4096\nping_interval_seconds = 60\n")
            .await;
    let deaf = cluster.nodes[0].plain("ann").device("tv").receive_buffer(4096).connect().await;
    deaf.stop_reading();
    let (pusher, holder) = (cluster.nodes[1].api(), cluster.nodes[0].api());
    let padding = "x".repeat(8 * 1024);
    let mut sent = 0;
    while holder.metric("postrider_closes_total{code=\"slow\"}").await < 1.0 {
        assert!(sent < 800, "800 messages of 8 KiB were not enough");
        for _ in 0..16 {
            pusher.push_to("ann", format!("{sent} {padding}")).await;
            sent += 1;
        }
    }
    assert!(holder.metric("postrider_outbox_bytes").await < 1_048_576.0, "what it owed was let go");
    let back = cluster.nodes[1].plain("ann").device("tv").connect().await;
    let texts = back.wait_texts(sent).await;
    let first: Vec<_> =
        texts.iter().map(|text| text.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(first, (0..sent).map(|n| n.to_string()).collect::<Vec<_>>());
}

fn request(n: usize) -> String {
    let body = json!({"to": "user:ann", "data": n}).to_string();
    format!(
        "POST /v1/push HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends a part of a request and hangs up, by a reset or in order.
async fn hang_up(address: SocketAddr, bytes: &[u8], reset: bool) {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    stream.write_all(bytes).await.expect("an open connection");
    if reset {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an open socket");
    }
}

async fn mailbox(node: &Node) -> Value {
    node.api().get("/v1/channels/user:ann").await.expect(200)
}

#[tokio::test]
async fn a_publisher_that_hangs_up_leaves_no_half_done_push() {
    let cluster = cluster("").await;
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone")).await;
    let address = cluster.nodes[0].address();
    // Whole requests whose caller is gone, and bodies that end too early.
    for n in 0..60 {
        let whole = request(n);
        hang_up(address, whole.as_bytes(), n % 2 == 0).await;
        hang_up(address, &whole.as_bytes()[..whole.len() - 3], n % 2 == 1).await;
    }
    // A request behind them all; then whatever they did is done or under way.
    cluster.nodes[0].api().push_to("ann", "the end").await;
    settled(PATIENCE, "the device has what the mailbox has", async || {
        let (channel, messages) = (mailbox(&cluster.nodes[1]).await, phone.messages());
        let last = messages.last().and_then(|message| message.position.clone());
        if channel["head"].as_str() == last.as_deref() && channel["mailbox"] == messages.len() {
            Ok(())
        } else {
            Err((channel, messages.len()))
        }
    })
    .await;
    let mut numbers: Vec<_> = phone.payloads().iter().filter_map(Value::as_u64).collect();
    let received = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), received, "each at most once");
    assert!(received > 0, "a request that arrived whole is not forgotten with its caller");
    let refused = cluster.nodes[0].api().metric("postrider_pushes_total{result=\"accepted\"}").await;
    assert_eq!(refused, received as f64 + 1.0, "what was cut short was not accepted");
}

#[tokio::test]
async fn a_publisher_that_sends_nothing_holds_its_connection_only_so_long() {
    let cluster = cluster("").await;
    let mut silent = TcpStream::connect(cluster.nodes[0].address()).await.expect("the node listens");
    let mut slow = TcpStream::connect(cluster.nodes[0].address()).await.expect("the node listens");
    let whole = request(1);
    slow.write_all(&whole.as_bytes()[..whole.len() - 3]).await.expect("an open connection");
    for stream in [&mut silent, &mut slow] {
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(45), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "a connection without a request stays open");
    }
    assert_eq!(mailbox(&cluster.nodes[0]).await["head"], Value::Null);
}

#[tokio::test]
async fn half_a_connection_that_is_closed_is_a_closed_connection() {
    let cluster = cluster("").await;
    let proxy = Proxy::start(cluster.nodes[0].address()).await;
    let phone = cluster.nodes[0].envelope("ann").device("phone").through(proxy.address());
    let phone = Device::connect(phone).await;
    proxy.half_close(Direction::ToServer);
    phone.wait_closed(PATIENCE).await;
    eventually(PATIENCE, "the node forgets the session", async || {
        cluster.nodes[0].api().metric("postrider_sessions{dialect=\"envelope\"}").await == 0.0
    })
    .await;
}
