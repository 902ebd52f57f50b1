//! The API's description is what is committed, and its examples work.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Device, Node, NodeOptions, Process};
use crate::tools;

const WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn the_committed_description_is_what_a_node_serves() {
    let node = Node::start(NodeOptions::default()).await;
    let answer = node.api().get("/openapi.json").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let committed = std::fs::read_to_string(root().join("docs/openapi.json")).unwrap_or_default();
    if answer.text != committed {
        let served = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("openapi.json");
        std::fs::write(&served, &answer.text).expect("the served document is written");
        panic!("the API changed: look at it, then cp {} docs/openapi.json", served.display());
    }
}

/// Every documented path answers its method: with anything but "no such thing".
#[tokio::test]
async fn every_described_route_is_served() {
    let node = Node::start(NodeOptions::default()).await;
    let api = node.api();
    let document = api.get("/openapi.json").await.expect(200);
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let path = path.replace("{channel}", "user:nobody").replace("{file}", "base.css");
            let path = path.replace("{id}", "01JZ8Q6V3M5N8R2T4W6Y8A0B2C?channel=user:nobody");
            let path = path.replace("{session}", "01JZ8Q6V3M5N8R2T4W6Y8A0B2E");
            let method = method.to_uppercase().parse().expect("a method");
            let body = operation.get("requestBody").map(|_| b"{}".to_vec());
            let answer = api.send(method, &path, &[], body).await.expect("the node answers");
            let status = answer.status.to_string();
            assert!(
                operation["responses"].get(&status).is_some(),
                "{path} answered {status}: {}",
                answer.text
            );
            let problem = answer.header("content-type") == Some("application/problem+json");
            let code = if problem { answer.json()["code"].clone() } else { Value::Null };
            assert!(code != json!("not_found") && code != json!("method_not_allowed"), "{path}: {code}");
        }
    }
}

async fn run(program: &str, file: &str, url: &str) -> Value {
    let file = root().join("docs/examples").join(file);
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut command = Command::new(tools::program(program));
    // For the package `ws`, where Node.js has no WebSocket of its own.
    command.arg(&file).current_dir(root().join("tests/js")).env("POSTRIDER_URL", url);
    let mut process = Process::start(program, &mut command, output.path());
    let status = process.wait(WITHIN).await;
    let said = process.log_text();
    assert!(status.success(), "{}: {status}: {said}", file.display());
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{}: {error}: {said}", file.display()))
}

#[tokio::test]
async fn the_examples_in_curl_javascript_and_python_do_what_they_say() {
    let mut documented = 0;
    let mut run_too = 0;
    for (program, ending) in [("bash", "sh"), ("node", "mjs"), ("python3", "py")] {
        let node = Node::start(NodeOptions::default()).await;
        let device = Device::connect(node.envelope("alice")).await;
        let url = node.url();
        let pushed = run(program, &format!("push.{ending}"), &url).await;
        assert_eq!((&pushed["channel"], &pushed["sessions"]), (&json!("user:alice"), &json!(1)));
        device.wait_messages(1).await;
        let batch = run(program, &format!("batch.{ending}"), &url).await;
        let statuses: Vec<_> =
            batch["results"].as_array().expect("results").iter().map(|one| &one["status"]).collect();
        assert_eq!(statuses, [202, 202]);
        device.wait_messages(2).await;
        assert_eq!(device.payloads()[0], json!({"order": 42}));
        let channel = run(program, &format!("channel.{ending}"), &url).await;
        assert_eq!((&channel["online"], &channel["mailbox"]), (&json!(true), &json!(2)));
        run_too += 3;
        documented += std::fs::read_dir(root().join("docs/examples"))
            .expect("the examples are there")
            .filter(|entry| {
                entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|e| e == ending))
            })
            .count();
    }
    // Beside them stand the two that listen, below.
    assert_eq!(documented, run_too + 2, "an example that no test runs");
}

#[tokio::test]
async fn the_examples_that_listen_get_what_is_pushed() {
    let node = Node::start(NodeOptions::default()).await;
    node.api().push_to("alice", json!({"order": 42})).await;
    for example in ["listen.mjs", "events.mjs"] {
        let output = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new(tools::program("node"));
        // A module looks for packages beside itself: it is run from where they are.
        let source =
            std::fs::read_to_string(root().join("docs/examples").join(example)).expect("the example");
        command.args(["--input-type=module", "--eval", &source]);
        command.current_dir(root().join("tests/js")).env("POSTRIDER_URL", node.url());
        let process = Process::start(example, &mut command, output.path());
        let frame = crate::harness::until(WITHIN, "the example prints the message", async || {
            process.log_text().lines().find_map(|line| serde_json::from_str::<Value>(line).ok())
        })
        .await;
        assert_eq!((&frame["channel"], &frame["data"]), (&json!("user:alice"), &json!({"order": 42})));
        drop(process);
        // The next one is the same device: what it would receive must be new.
        node.api().push_to("alice", json!({"order": 42})).await;
    }
}
