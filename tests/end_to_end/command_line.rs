//! The command line does what the interfaces do, against real nodes.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Cluster, PATIENCE, Process, run_command};

#[tokio::test]
async fn what_one_terminal_pushes_another_one_shows() {
    let cluster = Cluster::start(2).await;
    let (near, far) = (cluster.nodes[0].url(), cluster.nodes[1].url());
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command
        .args(["listen", "--user", "alice", "--device", "laptop", "--count", "2", "--json", "--url", &far]);
    let mut listener = Process::start("postrider listen", &mut command, output.path());
    cluster.nodes[0].api().wait_sessions("alice", 1).await;

    let first =
        ["push", "--to", "user:alice", "--url", &near, "--idempotency-key", "k", "--json", r#"{"n":1}"#];
    let (code, said) = run_command(&first, &[]).await;
    assert_eq!(code, Some(0), "{said}");
    let answer: Value = serde_json::from_str(said.trim()).expect("one line of JSON");
    assert_eq!((&answer["channel"], &answer["sessions"]), (&json!("user:alice"), &json!(1)));
    let (code, said) = run_command(&first, &[]).await;
    assert_eq!(
        (code, serde_json::from_str::<Value>(said.trim()).expect("JSON")["id"].clone()),
        (Some(0), answer["id"].clone())
    );
    let (code, said) =
        run_command(&["push", "--to", "user:alice", "hello"], &[("POSTRIDER_URL", &near)]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("user:alice"), "{said}");

    assert!(listener.wait(PATIENCE).await.success(), "{}", listener.log_text());
    let frames: Vec<Value> =
        listener.log_text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let data: Vec<_> =
        frames.iter().filter(|frame| frame["type"] == "message").map(|frame| frame["data"].clone()).collect();
    assert_eq!(data, [json!({"n": 1}), json!("hello")]);
}

#[tokio::test]
async fn nodes_and_health_can_be_asked_for_by_scripts() {
    let mut cluster = Cluster::start(2).await;
    let url = cluster.nodes[0].url();
    let (code, said) = run_command(&["nodes", "--url", &url, "--json"], &[]).await;
    let answer: Value = serde_json::from_str(said.trim()).expect("one line of JSON");
    assert_eq!((code, answer["nodes"].as_array().map(Vec::len)), (Some(0), Some(2)));
    let (code, said) = run_command(&["nodes", "--url", &url], &[]).await;
    assert_eq!(code, Some(0), "{said}");
    for node in &cluster.nodes {
        assert!(said.contains(node.id()) && said.contains(&node.address().to_string()), "{said}");
    }
    assert_eq!(run_command(&["health", "--url", &url], &[]).await.0, Some(0));
    cluster.nodes[0].kill();
    assert_eq!(run_command(&["health", "--url", &url], &[]).await.0, Some(1));
    let (code, said) = run_command(&["push", "--to", "user:alice", "x", "--url", &url], &[]).await;
    assert_eq!(code, Some(69), "{said}");
}

#[tokio::test]
async fn a_bad_configuration_is_refused_whole_and_a_good_one_is_shown_without_its_secrets() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("postrider.toml");
    let path = file.to_str().expect("a plain path");
    std::fs::write(&file, "listen = \"nowhere\"\nmailbox_mesages_max = 5\npong_timeout_seconds = -1\n")
        .expect("it is ours");
    let (code, said) = run_command(&["config", "check", "--config", path], &[]).await;
    assert_eq!(code, Some(64), "{said}");
    for part in
        ["listen", "nowhere", "mailbox_mesages_max", "mailbox_messages_max", "pong_timeout_seconds", "-1"]
    {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
    let (code, said) = run_command(&["serve", "--config", path], &[]).await;
    assert_eq!(code, Some(64), "{said}");

    let secret = "a secret of more than thirty-two bytes";
    std::fs::write(
        &file,
        format!("listen = \"127.0.0.1:9000\"\nauth = \"jwt\"\njwt_secret = \"{secret}\"\n"),
    )
    .expect("it is ours");
    let env = [("POSTRIDER_API_KEY", "key-of-the-backend"), ("POSTRIDER_LISTEN", "127.0.0.1:9001")];
    assert_eq!(run_command(&["config", "check", "--config", path], &env).await.0, Some(0));
    let show = ["serve", "--config", path, "--print-config", "--listen", "127.0.0.1:9002"];
    let (code, said) = run_command(&show, &env).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("127.0.0.1:9002"), "a flag goes before a variable before the file: {said}");
    assert!(!said.contains(secret) && !said.contains("key-of-the-backend"), "a secret is shown: {said}");
}
