//! Spans as a collector gets them: a push and its deliveries are one trace.

use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Answer, Api, Cluster, Device, NodeOptions, PATIENCE, RedisServer, settled};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDER: &str = "00f067aa0ba902b7";

/// Takes OTLP over HTTP, and remembers.
#[derive(Debug, Clone)]
struct Collector {
    url: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}/otlp/", listener.local_addr().expect("bound"));
        let collector = Self { url, spans: Arc::default() };
        let this = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(this.clone().serve(stream));
            }
        });
        collector
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() < length.expect("a length").parse().expect("a number") {
                continue;
            }
            assert!(head.starts_with("POST /otlp/v1/traces HTTP/1.1"), "{head}");
            assert!(head.contains("content-type: application/json"), "{head}");
            self.take(&serde_json::from_str(body).expect("the body is JSON"));
            bytes.clear();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                .await
                .expect("the node listens");
        }
    }

    /// Every span, with the instance that sent it.
    fn take(&self, body: &Value) {
        let mut spans = self.spans.lock().expect("no panic while held");
        for resource in body["resourceSpans"].as_array().expect("a list") {
            let attributes = resource["resource"]["attributes"].clone();
            for scope in resource["scopeSpans"].as_array().expect("a list") {
                for span in scope["spans"].as_array().expect("a list") {
                    let mut span = span.clone();
                    span["resource"] = attributes.clone();
                    spans.push(span);
                }
            }
        }
    }

    async fn wait(&self, count: usize) -> Vec<Value> {
        settled(PATIENCE, &format!("{count} spans arrive"), async || {
            let spans = self.spans.lock().expect("no panic while held").clone();
            if spans.len() >= count { Ok(spans) } else { Err(spans) }
        })
        .await
    }
}

async fn push(api: &Api, data: &str, traceparent: Option<&str>) -> Answer {
    let headers = traceparent.map(|parent| ("traceparent", parent.to_owned()));
    let body = json!({"to": "user:zoe", "data": data}).to_string();
    let answer = api.send(Method::POST, "/v1/push", headers.as_slice(), Some(body.into())).await;
    answer.expect("the node answers")
}

fn attribute<'a>(attributes: &'a Value, key: &str) -> &'a Value {
    let mut pairs = attributes.as_array().expect("a list").iter();
    &pairs.find(|pair| pair["key"] == key).unwrap_or_else(|| panic!("no {key} in {attributes}"))["value"]
}

#[tokio::test]
async fn a_push_and_its_deliveries_on_other_nodes_share_a_trace() {
    let collector = Collector::listen().await;
    let config = format!("otlp_url = \"{}\"\n", collector.url);
    let options = NodeOptions { config: Some(config), ..NodeOptions::default() };
    let cluster = Cluster::start_on(RedisServer::start().await, 2, options).await;
    let [taking, giving] = [&cluster.nodes[0], &cluster.nodes[1]];
    let phone = Device::connect(giving.envelope("zoe").device("phone")).await;
    let laptop = Device::connect(giving.envelope("zoe").device("laptop")).await;

    // Whose sender wants no record, or says nothing, leaves none.
    push(&taking.api(), "hush", None).await.expect(202);
    push(&taking.api(), "hush", Some(&format!("00-{TRACE}-{SENDER}-00"))).await.expect(202);
    let answer = push(&taking.api(), "hush", Some(&format!("00-{TRACE}-{SENDER}-01"))).await.expect(202);
    phone.wait_messages(3).await;
    laptop.wait_messages(3).await;

    let spans = collector.wait(3).await;
    assert_eq!(spans.len(), 3, "{spans:#?}");
    assert!(spans.iter().all(|span| span["traceId"] == TRACE));
    let (pushes, deliveries): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span["name"] == "push");
    let [pushed] = pushes[..] else { panic!("{spans:#?}") };
    assert_eq!((&pushed["parentSpanId"], &pushed["kind"]), (&json!(SENDER), &json!(4)));
    assert_eq!(attribute(&pushed["attributes"], "messaging.message.id")["stringValue"], answer["id"]);
    let instance = |span: &Value| attribute(&span["resource"], "service.instance.id")["stringValue"].clone();
    assert_eq!(instance(pushed), taking.address().to_string());
    for delivered in deliveries {
        assert_eq!((&delivered["name"], &delivered["kind"]), (&json!("deliver"), &json!(5)));
        assert_eq!(delivered["parentSpanId"], pushed["spanId"]);
        assert_eq!(attribute(&delivered["attributes"], "messaging.message.id")["stringValue"], answer["id"]);
        assert_eq!(instance(delivered), giving.address().to_string());
        let at = |end: &str| delivered[end].as_str().expect("a text").parse::<u64>().expect("a number");
        assert!(at("startTimeUnixNano") <= at("endTimeUnixNano"));
    }
    assert!(!format!("{spans:?}").contains("hush"), "a payload is in a span");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_its_spans() {
    let nobody = format!("otlp_url = \"http://127.0.0.1:{}\"\n", crate::harness::free_port());
    let node =
        crate::harness::Node::start(NodeOptions { config: Some(nobody), ..NodeOptions::default() }).await;
    let device = Device::connect(node.envelope("zoe")).await;
    for _ in 0..20 {
        push(&node.api(), "hush", Some(&format!("00-{TRACE}-{SENDER}-01"))).await.expect(202);
    }
    device.wait_messages(20).await;
    let complaints = settled(PATIENCE, "the log says so", async || {
        let log = node.log_text();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("otlp_url")).map(str::to_owned).collect();
        if lines.is_empty() { Err(log) } else { Ok(lines) }
    })
    .await;
    assert_eq!(complaints.len(), 1, "{complaints:?}");
}
