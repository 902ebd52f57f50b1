//! News for the operator's own receiver, which may fail, be slow, or be away.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::harness::{Cluster, Device, NodeOptions, PATIENCE, RedisServer, eventually, free_port, settled};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One request as the receiver got it.
#[derive(Debug, Clone)]
struct Request {
    id: String,
    body: Value,
}

/// A receiver whose first answers are failures, or that never answers.
#[derive(Debug, Clone, Default)]
struct Receiver {
    taken: Arc<Mutex<Vec<Request>>>,
    failed: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// Listens there; the first `failures` requests are answered 500.
    async fn listen(port: u16, failures: usize, silent: bool) -> Self {
        let receiver = Self::default();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let this = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(this.clone().serve(stream, failures, silent));
            }
        });
        receiver
    }

    async fn serve(self, mut stream: TcpStream, failures: usize, silent: bool) {
        while let Some(request) = read(&mut stream).await {
            if silent {
                std::future::pending::<()>().await;
            }
            let fails = {
                let mut failed = self.failed.lock().expect("no panic while held");
                let fails = failed.len() < failures;
                if fails {
                    failed.push(request.clone());
                }
                fails
            };
            let answer = if fails { "500 Internal Server Error" } else { "204 No Content" };
            if !fails {
                self.taken.lock().expect("no panic while held").push(request);
            }
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn taken(&self) -> Vec<Request> {
        self.taken.lock().expect("no panic while held").clone()
    }

    /// Types of what came of a user, in order.
    fn types(&self, user: &str) -> Vec<String> {
        let of = |request: &Request| request.body["data"]["channel"] == format!("user:{user}");
        let kind = |request: Request| request.body["type"].as_str().expect("a type").to_owned();
        self.taken().into_iter().filter(of).map(kind).collect()
    }

    async fn wait(&self, user: &str, types: &[&str]) {
        let what = format!("{user} is told to be {types:?}");
        settled(PATIENCE, &what, async || {
            let found = self.types(user);
            if found == types { Ok(()) } else { Err(found) }
        })
        .await;
    }
}

/// Reads one request and checks its signature.
async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        let line = text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        });
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let length: usize = header("content-length").parse().expect("a number");
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = &bytes[head..head + length];
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    assert_eq!(header("webhook-signature"), signature(&id, &timestamp, body), "{text}");
    Some(Request { id, body: serde_json::from_slice(body).expect("JSON") })
}

/// As receivers compute it, by RFC 2104 in full.
fn signature(id: &str, timestamp: &str, body: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let key = STANDARD.decode(&SECRET["whsec_".len()..]).expect("base64");
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(&key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    let inner = Sha256::digest([&pad(0x36)[..], &signed].concat());
    format!("v1,{}", STANDARD.encode(Sha256::digest([&pad(0x5c)[..], &inner].concat())))
}

async fn cluster(nodes: usize, port: u16, more: &[&str]) -> Cluster {
    let mut args = vec!["--webhook-url".to_owned(), format!("http://127.0.0.1:{port}/hook")];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    let env = vec![("POSTRIDER_WEBHOOK_SECRET".to_owned(), SECRET.to_owned())];
    let options = NodeOptions { args, env, ..NodeOptions::default() };
    Cluster::start_on(RedisServer::start().await, nodes, options).await
}

#[tokio::test]
async fn news_is_signed_and_a_receiver_that_fails_is_told_again_under_the_same_id() {
    let port = free_port();
    let receiver = Receiver::listen(port, 2, false).await;
    let cluster = cluster(2, port, &[]).await;
    let api = cluster.nodes[0].api();
    let phone = Device::connect(cluster.nodes[1].envelope("ann").device("phone").acknowledging()).await;
    let pushed = api.push_to("ann", "hello").await;
    phone.wait_messages(1).await;
    receiver.wait("ann", &["online", "delivered"]).await;
    let [online, delivered] = &receiver.taken()[..] else { panic!("two events") };
    assert_eq!(online.body["data"]["node"], cluster.nodes[1].id());
    assert!(online.body["timestamp"].is_string());
    let data = json!({"channel": "user:ann", "device": "phone", "pos": pushed["pos"]});
    assert_eq!(delivered.body["data"], data);
    let failed = receiver.failed.lock().expect("no panic while held").clone();
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|request| request.id == online.id && request.body == online.body));
    assert_ne!(online.id, delivered.id);
    let node = cluster.nodes[1].api();
    assert_eq!(node.metric(r#"postrider_webhook_requests_total{result="failed"}"#).await, 2.0);

    phone.close().await;
    receiver.wait("ann", &["online", "delivered", "offline"]).await;
}

#[tokio::test]
async fn only_what_expired_unreceived_is_told_with_its_id() {
    let port = free_port();
    let receiver = Receiver::listen(port, 0, false).await;
    let cluster = cluster(1, port, &["--webhook-events", "expired"]).await;
    let api = cluster.nodes[0].api();
    let brief = |user: &str| json!({"to": format!("user:{user}"), "data": 1, "ttl": 1});
    let expired = api.push(&brief("ann")).await.expect(202);
    let phone = Device::connect(cluster.nodes[0].envelope("bob").device("phone").acknowledging()).await;
    api.push(&brief("bob")).await.expect(202);
    phone.wait_messages(1).await;
    let withdrawn = api.push(&brief("ann")).await.expect(202);
    let id = withdrawn["id"].as_str().expect("an id");
    api.delete(&format!("/v1/messages/{id}?channel=user:ann")).await.expect(200);
    receiver.wait("ann", &["expired"]).await;
    let data = &receiver.taken()[0].body["data"];
    assert_eq!((&data["id"], &data["pos"]), (&expired["id"], &expired["pos"]));
    assert_eq!(data["expires_at"], expired["expires_at"]);
    // What comes behind shows that nothing else did.
    api.push(&brief("carol")).await.expect(202);
    receiver.wait("carol", &["expired"]).await;
    assert_eq!(receiver.taken().len(), 2, "{:?}", receiver.taken());
}

#[tokio::test]
async fn coming_back_within_the_linger_or_elsewhere_is_no_news_and_a_killed_node_is() {
    let port = free_port();
    let receiver = Receiver::listen(port, 0, false).await;
    let mut cluster = cluster(2, port, &["--webhook-events", "online,offline"]).await;
    let api = cluster.nodes[0].api();
    let first = cluster.nodes[1].plain("ann").connect().await;
    receiver.wait("ann", &["online"]).await;
    for _ in 0..3 {
        let next = cluster.nodes[1].plain("ann").connect().await;
        next.close().await;
    }
    first.close().await;
    let elsewhere = cluster.nodes[0].plain("ann").connect().await;
    api.wait_sessions("ann", 1).await;
    elsewhere.close().await;
    let last = cluster.nodes[1].plain("ann").connect().await;
    // Bob's news shows that the linger of what ann did before is over.
    let bob = cluster.nodes[0].plain("bob").connect().await;
    receiver.wait("bob", &["online"]).await;
    bob.close().await;
    receiver.wait("bob", &["online", "offline"]).await;
    api.wait_sessions("ann", 1).await;
    assert_eq!(receiver.types("ann"), ["online"], "she was there all the time");
    drop(last);
    receiver.wait("ann", &["online", "offline"]).await;

    let _there = cluster.nodes[1].plain("carol").connect().await;
    receiver.wait("carol", &["online"]).await;
    cluster.nodes[1].kill();
    receiver.wait("carol", &["online", "offline"]).await;
}

#[tokio::test]
async fn a_receiver_that_is_away_gets_its_news_when_it_comes() {
    let port = free_port();
    let cluster = cluster(1, port, &["--webhook-events", "online"]).await;
    let _ann = cluster.nodes[0].plain("ann").connect().await;
    let api = cluster.nodes[0].api();
    eventually(PATIENCE, "it was tried in vain", async || {
        api.metric(r#"postrider_webhook_requests_total{result="failed"}"#).await >= 1.0
    })
    .await;
    let receiver = Receiver::listen(port, 0, false).await;
    receiver.wait("ann", &["online"]).await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_holds_up_nothing_and_what_does_not_fit_is_counted() {
    let port = free_port();
    let _receiver = Receiver::listen(port, 0, true).await;
    let cluster = cluster(1, port, &["--webhook-queue-max", "8"]).await;
    let api = cluster.nodes[0].api();
    let phone = Device::connect(cluster.nodes[0].envelope("ann").device("phone").acknowledging()).await;
    let begun = Instant::now();
    let mut sent = 0;
    eventually(PATIENCE, "news is dropped", async || {
        sent += 1;
        api.push_to("ann", sent).await;
        phone.wait_messages(sent).await;
        api.metric(r#"postrider_webhooks_dropped_total{reason="queue_full"}"#).await >= 1.0
    })
    .await;
    // A try alone would take ten seconds.
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_webhook_without_a_usable_secret_does_not_start() {
    let args = ["config", "check", "--webhook-url", "http://127.0.0.1:9/"];
    let (code, said) = crate::harness::run_command(&args, &[]).await;
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("POSTRIDER_WEBHOOK_SECRET"), "{said}");
    let weak = [("POSTRIDER_WEBHOOK_SECRET", "whsec_c2hvcnQ=")];
    let (code, said) = crate::harness::run_command(&args, &weak).await;
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("whsec_") && !said.contains("c2hvcnQ="), "{said}");
}
