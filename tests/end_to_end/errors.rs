//! What goes wrong is said in one form, and says what to do.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, Node, NodeOptions};

/// Checks that an answer is a whole problem document, and returns its code.
fn problem(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.text);
    let body = answer.expect(status);
    assert_eq!(body["status"], status);
    for field in ["type", "title", "detail", "code", "request_id"] {
        assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {body}");
    }
    assert_eq!(answer.header("x-request-id"), body["request_id"].as_str());
    body["code"].as_str().expect("checked above").to_owned()
}

async fn post(api: &Api, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    api.send(Method::POST, path, &[], Some(body.into())).await.expect("the node answers")
}

#[tokio::test]
async fn every_mistake_has_its_status_and_a_code_of_its_own() {
    let node = Node::start(NodeOptions::default()).await;
    let api = node.api();
    let push = |body: Value| body.to_string();
    let mistakes = [
        (400, post(&api, "/v1/push", "{\"to\": ").await),
        (422, post(&api, "/v1/push", push(json!({"to": "alice", "data": 1}))).await),
        (422, post(&api, "/v1/push", push(json!({"to": "user:", "data": 1}))).await),
        (422, post(&api, "/v1/push", push(json!({"to": [], "data": 1}))).await),
        (422, post(&api, "/v1/push", push(json!({"to": "user:a", "data": 1, "ttl": 604_801}))).await),
        (422, post(&api, "/v1/push", push(json!({"to": "user:a", "data": 1, "ttl": -1}))).await),
        (422, post(&api, "/v1/push", push(json!({"to": "user:a"}))).await),
        (
            422,
            post(&api, "/v1/push", push(json!({"to": "user:a", "data": 1, "collapse_key": "k".repeat(65)})))
                .await,
        ),
        (422, post(&api, "/v1/push", push(json!({"to": "user:a", "data": 1, "id": "1"}))).await),
        (404, api.get("/v1/nothing").await),
        (405, api.get("/v1/push").await),
        (422, api.get("/v1/channels/alice").await),
    ];
    for (i, (status, answer)) in mistakes.iter().enumerate() {
        let code = problem(answer, *status);
        assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "mistake {i}: code {code}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_and_one_at_it_is_not() {
    let node = Node::start(NodeOptions::default()).await;
    let api = node.api();
    let body_of = |bytes: usize| {
        let empty = json!({"to": "user:ann", "data": ""}).to_string().len();
        json!({"to": "user:ann", "data": "x".repeat(bytes - empty)}).to_string()
    };
    assert_eq!(body_of(65_536).len(), 65_536);
    post(&api, "/v1/push", body_of(65_536)).await.expect(202);
    problem(&post(&api, "/v1/push", body_of(65_537)).await, 413);
}

#[tokio::test]
async fn a_request_id_is_given_back_or_made_up() {
    let node = Node::start(NodeOptions::default()).await;
    let api = node.api();
    let own = [("x-request-id", "order-7.retry-2".to_owned())];
    let answer = api.send(Method::GET, "/v1/nothing", &own, None).await.expect("the node answers");
    assert_eq!(answer.header("x-request-id"), Some("order-7.retry-2"));
    assert_eq!(answer.json()["request_id"], "order-7.retry-2");
    let made_up = api.push(&json!({"to": "user:ann", "data": 1})).await;
    assert!(made_up.header("x-request-id").is_some_and(|id| id.len() >= 16), "{:?}", made_up.headers);
    let one = api.get("/healthz").await;
    let two = api.get("/healthz").await;
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
}

#[tokio::test]
async fn a_batch_is_answered_item_by_item_in_its_order() {
    let node = Node::start(NodeOptions::default()).await;
    let api = node.api();
    let device = crate::harness::Device::connect(node.envelope("ann")).await;
    let answer = api
        .push_batch(&json!([
            {"to": "user:ann", "data": 1},
            {"to": "nobody in particular", "data": 2},
            {"to": "user:bob", "data": 3},
            {"to": "user:ann", "data": 4, "ttl": 999_999_999},
            {"to": "user:ann", "data": 5},
        ]))
        .await
        .expect(200);
    let results = answer["results"].as_array().expect("a list");
    let statuses: Vec<_> =
        results.iter().map(|result| result["status"].as_u64().expect("a status")).collect();
    assert_eq!(statuses, [202, 422, 202, 422, 202]);
    for result in results {
        if result["status"] == 202 {
            assert!(result["id"].is_string() && result["pos"].is_string(), "{result}");
        } else {
            assert!(result["code"].is_string() && result["detail"].is_string(), "{result}");
        }
    }
    assert_eq!((&results[0]["channel"], &results[2]["channel"]), (&json!("user:ann"), &json!("user:bob")));
    device.wait_messages(2).await;
    assert_eq!(device.payloads(), [json!(1), json!(5)]);
}

#[tokio::test]
async fn a_batch_has_a_limit_and_may_be_full() {
    let node = Node::start(NodeOptions::default()).await;
    let api = node.api();
    let items = |count: usize| Value::Array(vec![json!({"to": "user:ann", "data": "x"}); count]);
    let full = api.push_batch(&items(100)).await.expect(200);
    let results = full["results"].as_array().expect("a list");
    assert!(results.len() == 100 && results.iter().all(|result| result["status"] == 202), "{full}");
    let positions: Vec<_> =
        results.iter().map(|result| result["pos"].as_str().expect("a position")).collect();
    let seqs: Vec<u64> = positions
        .iter()
        .map(|pos| pos.parse::<postrider::protocol::Position>().expect("a valid position").seq)
        .collect();
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>(), "the batch's order is the channel's");
    problem(&api.push_batch(&items(101)).await, 422);
    problem(&api.push_batch(&items(0)).await, 422);
}
