//! Who came from where and what became of their messages, as the log tells it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Cluster, Device, Node, NodeOptions, PATIENCE, RedisServer, settled};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn configured(text: &str) -> NodeOptions {
    NodeOptions { config: Some(text.to_owned()), ..NodeOptions::default() }
}

fn lines(node: &Node, message: &str) -> Vec<Value> {
    let lines = node.log_text();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

/// Waits for log lines of that message; all of them.
async fn logged(node: &Node, message: &str, count: usize) -> Vec<Value> {
    settled(PATIENCE, &format!("'{message}' is logged"), async || {
        let lines = lines(node, message);
        if lines.len() >= count { Ok(lines) } else { Err(node.log_text()) }
    })
    .await
}

#[tokio::test]
async fn a_connection_leaves_one_line_when_it_comes_and_one_when_it_goes() {
    let node = Node::start(NodeOptions::default()).await;
    let device = Device::connect(node.envelope("zoe").device("phone").acknowledging()).await;
    let came = logged(&node, "connected", 1).await;
    for n in 0..3 {
        node.api().push_to("zoe", json!({"hush": n})).await;
    }
    device.wait_messages(3).await;
    drop(device);
    let went = logged(&node, "disconnected", 1).await;
    let stranger = node.plain("").path("/v1/ws?token=hush-hush%01").connect().await;
    stranger.wait_closed(PATIENCE).await;
    let both = logged(&node, "disconnected", 2).await;

    assert_eq!((came.len(), went.len(), both.len()), (1, 1, 2));
    assert_eq!((&came[0]["user"], &came[0]["device"]), (&json!("zoe"), &json!("phone")));
    assert_eq!((&came[0]["client"], &came[0]["dialect"]), (&json!("127.0.0.1"), &json!("envelope")));
    assert_eq!(came[0]["session"], went[0]["session"]);
    assert_eq!((&went[0]["messages"], &went[0]["user"]), (&json!(3), &json!("zoe")));
    assert!(went[0]["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{went:?}");
    assert_eq!((&went[0]["by"], &went[0]["code"]), (&json!("nobody"), &json!(1006)));
    assert_eq!((&both[1]["by"], &both[1]["code"]), (&json!("node"), &json!(4403)));
    assert_eq!(both[1]["user"], Value::Null);
    let log = node.log_text();
    assert!(!log.contains("hush"), "a payload or a token is in the log: {log}");
}

#[tokio::test]
async fn a_client_is_who_a_trusted_proxy_says_and_nobody_else() {
    for (trusted, client) in [("[]", "127.0.0.1"), ("[\"127.0.0.0/8\"]", "192.0.2.7")] {
        let node = Node::start(configured(&format!("trusted_proxies = {trusted}\n"))).await;
        let forwarded = node.plain("ann").header("x-forwarded-for", "198.51.100.1, 192.0.2.7");
        let _socket = forwarded.connect().await;
        let came = logged(&node, "connected", 1).await;
        assert_eq!(came[0]["client"], client, "with trusted_proxies = {trusted}");
    }
}

/// Sends bytes and returns the first line of what comes back.
async fn first_line(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    let mut buffer = [0; 1_024];
    while !answer.contains(&b'\n') {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(len) => answer.extend_from_slice(&buffer[..len]),
        }
    }
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_proxy_header_is_wanted_from_trusted_proxies_and_taken_from_nobody_else() {
    let options = configured("trusted_proxies = [\"127.0.0.1\"]\nproxy_protocol = \"on\"\n");
    let node = Node::start_unready(options).await;
    let upgrade = "GET /v1/ws?token=ann HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let proxied = format!("PROXY TCP4 192.0.2.7 10.0.0.1 4444 443\r\n{upgrade}");
    assert_eq!(first_line(node.address(), proxied.as_bytes()).await, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(logged(&node, "connected", 1).await[0]["client"], "192.0.2.7");
    let spoken_for_itself = "PROXY UNKNOWN\r\nGET /readyz HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(first_line(node.address(), spoken_for_itself.as_bytes()).await, "HTTP/1.1 200 OK");
    assert_eq!(first_line(node.address(), upgrade.as_bytes()).await, "", "it has no header");

    let other = configured("trusted_proxies = [\"10.0.0.0/8\"]\nproxy_protocol = \"on\"\n");
    let node = Node::start(other).await;
    assert_eq!(first_line(node.address(), upgrade.as_bytes()).await, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(first_line(node.address(), proxied.as_bytes()).await, "HTTP/1.1 400 Bad Request");
}

#[tokio::test]
async fn a_delivery_is_joined_to_its_push_by_the_ids_that_the_sender_gave() {
    let redis = RedisServer::start().await;
    let cluster = Cluster::start_on(redis, 2, configured("log = \"info,postrider=debug\"\n")).await;
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let device = Device::connect(b.envelope("ann")).await;
    let headers = [("x-request-id", "order-42".to_owned()), ("traceparent", TRACEPARENT.to_owned())];
    let body = json!({"to": "user:ann", "data": "hush"}).to_string().into_bytes();
    let answer =
        a.api().send(reqwest::Method::POST, "/v1/push", &headers, Some(body)).await.expect("answered");
    assert_eq!(answer.header("x-request-id"), Some("order-42"));
    assert_eq!(answer.header("traceparent"), Some(TRACEPARENT));
    let id = answer.expect(202)["id"].clone();
    device.wait_messages(1).await;
    // Once more from the mailbox, through the node that did not deliver it.
    let late = Device::connect(a.envelope("ann").device("phone").query("from=oldest")).await;
    late.wait_messages(1).await;

    for (node, message) in [(a, "accepted"), (b, "written"), (a, "written")] {
        let line = logged(node, message, 1).await.remove(0);
        assert_eq!(line["id"], id, "{line}");
        assert_eq!(line["request_id"], "order-42", "{line}");
        assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{line}");
        assert!(!node.log_text().contains("hush"), "a payload is in the log");
    }
}

#[tokio::test]
async fn ids_that_cannot_be_logged_are_not_taken() {
    let node = Node::start(NodeOptions::default()).await;
    let headers = [("x-request-id", "a b".to_owned()), ("traceparent", "00-zz".to_owned())];
    let body = json!({"to": "user:ann", "data": 1}).to_string().into_bytes();
    let answer =
        node.api().send(reqwest::Method::POST, "/v1/push", &headers, Some(body)).await.expect("answered");
    assert_eq!(answer.header("traceparent"), None);
    let id = answer.header("x-request-id").expect("one of our own");
    assert_eq!(id.len(), 26, "{id}");
    answer.expect(202);
}
