//! A browser's `EventSource` as others have written it: the npm package of that
//! name, which reconnects by itself.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::harness::{Cluster, Process, settled};
use crate::tools;

/// It needs time to reconnect.
const WITHIN: Duration = Duration::from_secs(40);

/// The package needs a newer Node.js than our first users have.
async fn node_is_new_enough() -> bool {
    let output = Command::new(tools::program("node")).arg("--version").output().expect("it runs");
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    let enough = major.is_some_and(|major| major >= 20);
    if !enough {
        eprintln!("SKIPPED: the package eventsource needs Node.js 20, this is {version}");
    }
    enough
}

fn start(url: &str, count: u32) -> (Process, NamedTempFile) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/js");
    assert!(
        folder.join("node_modules/eventsource").is_dir(),
        "the package eventsource is not installed: run ./scripts/test, or `npm ci --prefix tests/js`"
    );
    let output = NamedTempFile::new().expect("a temporary file");
    let mut command = Command::new(tools::program("node"));
    command.arg(folder.join("event_source.mjs")).args([url, &count.to_string()]).current_dir(&folder);
    (Process::start("EventSource", &mut command, output.path()), output)
}

fn lines(process: &Process) -> Vec<Value> {
    process.log_text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn messages(process: &Process) -> Vec<Value> {
    let messages = lines(process).into_iter().filter(|line| line["type"] == "message");
    messages.map(|line| line["data"]["data"].clone()).collect()
}

#[tokio::test]
async fn event_source_goes_on_by_itself_when_its_node_was_killed_and_is_back() {
    if !node_is_new_enough().await {
        return;
    }
    let mut cluster = Cluster::start(2).await;
    let url = format!("{}/v1/events?token=ann&device=tv&from=now", cluster.nodes[0].url());
    let (mut client, _output) = start(&url, 30);
    cluster.nodes[1].api().wait_sessions("ann", 1).await;
    for n in 0..10 {
        cluster.nodes[1].api().push_to("ann", n).await;
    }
    settled(WITHIN, "ten messages have come", async || {
        let messages = messages(&client);
        if messages.len() >= 10 { Ok(()) } else { Err(client.log_text()) }
    })
    .await;
    cluster.nodes[0].kill();
    for n in 10..20 {
        cluster.nodes[1].api().push_to("ann", n).await;
    }
    cluster.nodes[0].restart().await;
    for n in 20..30 {
        cluster.nodes[1].api().push_to("ann", n).await;
    }
    assert!(client.wait(WITHIN).await.success(), "{}", client.log_text());
    assert_eq!(messages(&client), (0..30).map(Value::from).collect::<Vec<_>>());
    let hellos: Vec<_> = lines(&client).into_iter().filter(|line| line["type"] == "hello").collect();
    assert_eq!(hellos.last().map(|hello| &hello["data"]["resumed"]), Some(&json!(true)));
    // Its reconnect was the acknowledgement of what had come before.
    settled(WITHIN, "the device's cursor is there", async || {
        let channel = cluster.nodes[1].api().get("/v1/channels/user:ann").await.expect(200);
        let cursors = channel["cursors"].as_array().expect("cursors").clone();
        if cursors.iter().any(|cursor| cursor["device"] == "tv") { Ok(()) } else { Err(channel) }
    })
    .await;
}

#[tokio::test]
async fn event_source_gives_up_on_a_refusal_and_reads_why() {
    if !node_is_new_enough().await {
        return;
    }
    let cluster = Cluster::start(1).await;
    let (mut client, _output) = start(&format!("{}/v1/events", cluster.nodes[0].url()), 1);
    assert!(client.wait(WITHIN).await.success(), "{}", client.log_text());
    assert_eq!(lines(&client).last().map(|line| &line["error"]), Some(&json!(401)), "{}", client.log_text());
}
