//! Clients that occupy connections by being slow, hundreds at once, by the tool
//! that others are tried with: they are closed in time, and others are served.

use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Device, Node, NodeOptions, PATIENCE, Process, find_program, settled};

const CONNECTIONS: &str = "150";
/// Until the tool gives up. The node is expected to be done with it long before:
/// its longest timeout is 20 s.
const SECONDS: &str = "50";

/// How the tool's run is told to end when nobody is left to hold a connection.
const ALL_CLOSED: &str = "No open connections left";

fn attack(node: &Node, log: &std::path::Path, kind: &[&str]) -> Process {
    let program = find_program("slowhttptest").unwrap_or_else(|| {
        panic!("slowhttptest is not installed: run ./scripts/test, which installs it, or `apt-get install slowhttptest`")
    });
    let mut command = Command::new(program);
    let (url, path) = (node.url(), if kind.contains(&"-B") { "/v1/push" } else { "/openapi.json" });
    command.args(kind).args(["-c", CONNECTIONS, "-r", "100", "-l", SECONDS, "-p", "5"]);
    command.args(["-u", &format!("{url}{path}")]);
    Process::start("slowhttptest", &mut command, log)
}

/// Files that a node has open.
fn open_files(node: &Node) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("our child runs").count()
}

/// The tool's last word about something: it repeats a status every few seconds.
fn last(text: &str, about: &str) -> String {
    let plain: String = text.replace('\u{1b}', "");
    let line = plain.lines().rev().find(|line| line.contains(about)).unwrap_or_default();
    line.rsplit(':').next().unwrap_or_default().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_bodies_are_closed_and_others_are_served() {
    let node = Node::start(NodeOptions::default()).await;
    let device = Device::connect(node.envelope("ann").device("phone").acknowledging()).await;
    let files = open_files(&node);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kinds: [(&str, &[&str]); 2] =
        [("heads", &["-H", "-i", "2"]), ("bodies", &["-B", "-i", "2", "-s", "40000"])];
    let logs = kinds.map(|(name, _)| folder.path().join(name));
    let mut attacks: Vec<_> =
        kinds.iter().zip(&logs).map(|((_, kind), log)| attack(&node, log, kind)).collect();
    let (mut sent, mut slowest, mut occupied) = (0, Duration::ZERO, 0);
    while !attacks.iter_mut().all(|attack| attack.ended().is_some()) {
        let asked = Instant::now();
        node.api().push_to("ann", sent).await;
        sent += 1;
        device.wait_messages(sent).await;
        slowest = slowest.max(asked.elapsed());
        occupied = occupied.max(open_files(&node) - files);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for ((name, _), log) in kinds.iter().zip(&logs) {
        let said = std::fs::read_to_string(log).expect("the tool speaks");
        assert!(said.contains(ALL_CLOSED), "slow {name} were left open:\n{said}");
        assert!(last(&said, "service available").contains("YES"), "slow {name} kept others out:\n{said}");
    }
    assert!(occupied > 150, "only {occupied} connections at once: this was no attack");
    assert!(slowest < PATIENCE / 4, "a message took {slowest:?}");
    settled(PATIENCE, "the node's files are closed", async || {
        let now = open_files(&node);
        if now <= files + 2 { Ok(()) } else { Err((now, files)) }
    })
    .await;
    assert_eq!(device.socket().closed(), None);
}
