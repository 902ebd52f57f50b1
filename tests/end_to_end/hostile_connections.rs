//! Connections that mean no good or know no better, byte by byte: each is
//! answered as written here, and nobody else notices any of them.

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::rude::corpus;
use crate::harness::{Device, Dial, Node, NodeOptions, PATIENCE, Socket, settled};

fn open_files(node: &Node) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("our child runs").count()
}

fn memory_kib(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("our child runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The whole corpus at once, with a message to the good client for each.
async fn siege(node: &Node, good: &Device, plain: &Socket) {
    let mut siege = JoinSet::new();
    for rude in corpus() {
        let address = node.address();
        siege.spawn(async move {
            let found = rude.ending(address).await;
            (rude, found)
        });
    }
    let mut wrong = Vec::new();
    let (before, mut sent) = (good.messages().len(), 0);
    while let Some(ended) = siege.join_next().await {
        let (rude, found) = ended.expect("no panic");
        if found != rude.ends {
            wrong.push(format!("{}: {found:?}, not {:?}", rude.name, rude.ends));
        }
        node.api().push_to("good", sent).await;
        sent += 1;
        good.wait_messages(before + sent).await;
        plain.wait_texts(before + sent).await;
    }
    assert!(wrong.is_empty(), "{} of {sent}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn who_leaves_before_saying_a_token_leaves_no_open_file() {
    let config = Some("handshake_timeout_seconds = 60\n".to_owned());
    let node = Node::start(NodeOptions { config, ..NodeOptions::default() }).await;
    let before = open_files(&node);
    for _ in 0..100 {
        Dial::anonymous(node.address()).connect().await.close().await;
    }
    settled(PATIENCE, "files are back", async || {
        let now = open_files(&node);
        if now <= before + 10 { Ok(()) } else { Err((before, now)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_ends_as_it_should_and_nobody_else_notices() {
    let node = Node::start(NodeOptions::default()).await;
    let good = Device::connect(node.envelope("good").device("phone").acknowledging()).await;
    let plain = node.plain("good").device("tv").connect().await;
    node.api().wait_sessions("good", 2).await;
    siege(&node, &good, &plain).await;
    let (files, memory) = (open_files(&node), memory_kib(&node));
    siege(&node, &good, &plain).await;
    settled(PATIENCE, "sessions and files are back", async || {
        let (sessions, now) = (node.api().sessions().await, open_files(&node));
        // The harness's own connections come and go.
        if sessions == 2.0 && now <= files + 2 { Ok(()) } else { Err((sessions, now, files)) }
    })
    .await;
    let grown = memory_kib(&node).saturating_sub(memory);
    assert!(grown < 16 * 1_024, "{grown} KiB more after another round");
    assert_eq!((good.socket().closed(), plain.closed()), (None, None));
    let numbers: Vec<_> = good.payloads().iter().map(ToString::to_string).collect();
    assert_eq!(plain.texts(), numbers, "both had the same, in the same order");
    let answer = node.api().push(&json!({"to": "user:good", "data": "the end"})).await.expect(202);
    assert_eq!(answer["sessions"], 2);
}
