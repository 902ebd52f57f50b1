//! The clients that the first users have: Node.js with the package `ws`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, Process};
use crate::tools;

#[tokio::test]
async fn user1_gets_everything_once_on_both_devices_with_the_package_ws() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/js");
    assert!(
        folder.join("node_modules/ws").is_dir(),
        "the package ws is not installed: run ./scripts/test, or `npm ci --prefix tests/js`"
    );
    let cluster = Cluster::start(3).await;
    let addresses = cluster.nodes.iter().map(|node| node.address().to_string());
    let mut command = Command::new(tools::program("node"));
    command.arg(folder.join("first_users.mjs")).args(addresses).current_dir(&folder);
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut client = Process::start("the Node.js client", &mut command, output.path());
    let status = client.wait(Duration::from_secs(40)).await;
    let said = client.log_text();
    assert!(status.success(), "{status}: {said}");

    let seen: Value =
        said.lines().last().and_then(|line| serde_json::from_str(line).ok()).expect("one line of JSON");
    let message = |n: u32, text: &str| Value::String(format!(r#"{{"n":{n},"text":"{text}"}}"#));
    let first: Vec<_> = (0..20).map(|n| message(n, "grüße ☕")).collect();
    let more = (20..25).map(|n| message(n, "still here")).chain([json!("the end")]);
    let second: Vec<_> = first.iter().cloned().chain(more).collect();
    assert_eq!(seen["first"], Value::Array(first));
    assert_eq!(seen["second"], Value::Array(second));
    assert_eq!(seen["other"], json!(["the end"]));
    assert_eq!(seen["closed"]["code"], 1000);
}
