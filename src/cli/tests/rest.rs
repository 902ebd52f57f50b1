use super::server::{Canned, nowhere};
use super::{parse, text};
use crate::cli::Command;
use crate::cli::output::Failure;
use crate::config::Environment;

/// Runs a client command against a server: what it printed, how it ended.
async fn run(line: &[&str], url: &str, input: &str) -> (String, Result<(), Failure>) {
    let environment = Environment::of([("POSTRIDER_URL", url)]);
    let mut out = Vec::new();
    let result = match parse(line) {
        Command::Push(push) => push.send(&environment, &mut input.as_bytes(), &mut out).await,
        Command::Nodes(nodes) => nodes.list(&environment, &mut out).await,
        Command::Health(health) => health.ask(&environment, &mut out).await,
        other => panic!("no client command: {other:?}"),
    };
    (text(out), result)
}

fn failed(result: Result<(), Failure>) -> String {
    match result {
        Err(Failure::Failed(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

const ACCEPTED: &str = r#"{"id":"01JZ8Q6V3M5N8R2T4W6Y8A0B2C","channel":"user:alice","pos":"0000000000000001.7",
    "nodes":1,"sessions":2,"expires_at":"2026-01-01T00:00:00Z"}"#;

#[tokio::test]
async fn a_push_sends_what_it_was_given_and_prints_what_became_of_it() {
    let server = Canned::answering("202 Accepted", ACCEPTED).await;
    let line = [
        "push",
        "--to",
        "user:alice",
        "--ttl",
        "60",
        "--collapse-key",
        "score",
        "--idempotency-key",
        "k1",
        "--api-key",
        "secret",
        r#"{"n": 1.10}"#,
    ];
    let (out, result) = run(&line, &server.url.clone(), "").await;
    assert!(result.is_ok());
    assert_eq!(
        out,
        "accepted 01JZ8Q6V3M5N8R2T4W6Y8A0B2C for user:alice at 0000000000000001.7: 2 sessions on 1 node, \
         kept until 2026-01-01T00:00:00Z\n"
    );
    let request = server.request().await;
    assert!(request.starts_with("POST /v1/push HTTP/1.1"), "{request}");
    let body = r#"{"to":"user:alice","data":{"n": 1.10},"ttl":60,"collapse_key":"score"}"#;
    assert!(request.ends_with(body), "{request}");
    let head = request.to_lowercase();
    assert!(
        head.contains("idempotency-key: k1") && head.contains("authorization: bearer secret"),
        "{request}"
    );
}

#[tokio::test]
async fn standard_input_is_one_message_without_its_last_line_break() {
    let server = Canned::answering("202 Accepted", ACCEPTED).await;
    let (out, result) =
        run(&["push", "--to", "user:alice", "--json", "-"], &server.url.clone(), "two\nlines\n").await;
    assert!(result.is_ok());
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(server.request().await.ends_with(r#"{"to":"user:alice","data":"two\nlines"}"#));
}

#[tokio::test]
async fn a_push_that_one_of_several_recipients_refused_fails() {
    let body = format!(
        r#"[{ACCEPTED},{{"status":507,"channel":"user:bob","code":"store_full","detail":"out of memory"}}]"#
    );
    let server = Canned::answering("202 Accepted", &body).await;
    let (out, result) =
        run(&["push", "--to", "user:alice", "--to", "user:bob", "x"], &server.url.clone(), "").await;
    assert!(failed(result).starts_with("refused for 1 of 2 recipients"));
    assert!(out.contains("refused user:bob: out of memory [code store_full]"), "{out}");
    assert!(server.request().await.contains(r#""to":["user:alice","user:bob"]"#));
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let problem =
        r#"{"title":"Not valid","detail":"ttl is above 604800","code":"ttl_too_long","request_id":"r1"}"#;
    let server = Canned::answering("422 Unprocessable Entity", problem).await;
    let (_, result) = run(&["push", "--to", "user:a", "x"], &server.url, "").await;
    assert_eq!(
        failed(result),
        "the server refused (422): Not valid: ttl is above 604800 [code ttl_too_long, request r1]"
    );
    let server = Canned::answering("401 Unauthorized", "").await;
    let (_, result) = run(&["nodes"], &server.url, "").await;
    assert!(failed(result).contains("POSTRIDER_API_KEY"));
    let server = Canned::answering("503 Service Unavailable\r\nretry-after: 2", "<html>\u{1b}[2J").await;
    let (_, result) = run(&["push", "--to", "user:a", "x"], &server.url, "").await;
    assert_eq!(failed(result), "the server refused (503): Service Unavailable; try again in 2 s");
}

#[tokio::test]
async fn what_is_no_node_is_recognised() {
    let server = Canned::answering("200 OK", "<html>").await;
    let (_, result) = run(&["nodes"], &server.url, "").await;
    assert!(failed(result).contains("is this a postrider node?"));
    let (_, result) = run(&["push", "--to", "user:a", "x"], &nowhere(), "").await;
    assert!(
        matches!(result, Err(Failure::Unreachable(text)) if text.contains("'postrider serve' starts one"))
    );
}

#[tokio::test]
async fn nodes_are_listed_in_columns_or_as_they_came() {
    let body = "{\"nodes\":[{\"id\":\"N1\",\"address\":\"127.0.0.1:8081\",\"version\":\"0.1.0\",\"started_at\":\
                \"2026-01-01T00:00:00Z\",\"sessions\":12,\"draining\":true,\"heartbeat_age_ms\":41},\n{\"id\":\"N2\"}]}";
    let server = Canned::answering("200 OK", body).await;
    let (out, result) = run(&["nodes"], &server.url, "").await;
    assert!(result.is_ok());
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "NODE  ADDRESS         VERSION  STARTED               SESSIONS  HEARTBEAT  STATE");
    assert_eq!(
        lines[1],
        "N1    127.0.0.1:8081  0.1.0    2026-01-01T00:00:00Z  12        41 ms ago  draining"
    );
    assert!(lines[2].starts_with("N2 ") && lines[2].ends_with("serving"));
    let server = Canned::answering("200 OK", body).await;
    let (out, _) = run(&["nodes", "--json"], &server.url, "").await;
    assert_eq!(out.trim_end(), body.replace('\n', " "));
}

#[tokio::test]
async fn health_asks_for_life_or_readiness_and_knows_only_yes_and_no() {
    let server = Canned::answering("200 OK", r#"{"status":"ok"}"#).await;
    let (out, result) = run(&["health"], &server.url.clone(), "").await;
    assert!(result.is_ok() && out == "ok\n", "{out}");
    assert!(server.request().await.starts_with("GET /healthz"));
    let server =
        Canned::answering("503 Service Unavailable", r#"{"status":"not_ready","reason":"draining"}"#).await;
    let (_, result) = run(&["health", "--ready"], &server.url.clone(), "").await;
    assert!(failed(result).contains("draining"));
    assert!(server.request().await.starts_with("GET /readyz"));
    for url in [nowhere().as_str(), "nonsense"] {
        failed(run(&["health"], url, "").await.1);
    }
}
