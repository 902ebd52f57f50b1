//! `scripts/cluster`: all of it starts with one command and is gone after Ctrl-C.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Api, Device, Dial, PATIENCE, Process, settled, until};

/// It starts seven programs, on a machine that runs other tests.
const START: Duration = Duration::from_secs(60);

/// What it printed: the first word of an indented line, and the rest.
fn printed(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (name, value) = line.strip_prefix("  ")?.split_once("  ")?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Command lines of running processes that name a folder.
fn processes_with(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy();
    let processes = std::fs::read_dir("/proc").expect("Linux lists processes").flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&*folder)).collect()
}

async fn answers(address: &str) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}

#[tokio::test]
async fn one_command_starts_everything_and_an_interrupt_leaves_nothing() {
    let place = TempDir::new().expect("a temporary folder");
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cluster"));
    command.args(["--binary", env!("CARGO_BIN_EXE_postrider")]).env("TMPDIR", place.path());
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut script = Process::start("scripts/cluster", &mut command, log.path());
    let said = until(START, "it says that it is ready", async || {
        assert!(script.ended().is_none(), "it ended: {}", script.log_text());
        Some(script.log_text()).filter(|text| text.contains("Ctrl-C stops everything"))
    })
    .await;
    let places = printed(&said);

    // A push through nginx, to a device behind nginx, on whichever nodes.
    let page = places["page"].trim_end_matches('/');
    let balancer: SocketAddr = page.trim_start_matches("http://").parse().expect("an address");
    let device = Device::connect(Dial::envelope(balancer, "alice")).await;
    Api::new(page).push_to("alice", "hello").await;
    device.wait_messages(1).await;
    assert_eq!(device.payloads(), [json!("hello")]);
    for path in ["", "/console", "/docs"] {
        Api::new(page).get(path).await.text.find("<html").expect("a page");
    }
    let prometheus = Api::new(&places["Prometheus"]);
    settled(PATIENCE, "Prometheus scrapes three nodes", async || {
        let targets = prometheus.get("/api/v1/targets").await.expect(200);
        let active = targets["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let up = active.iter().filter(|target| target["health"] == "up").count();
        if up == 3 { Ok(()) } else { Err(Value::from(active)) }
    })
    .await;
    assert!(processes_with(place.path()).len() > 2, "Redis, nginx and Prometheus name their folder");

    script.signal(Signal::INT);
    assert!(script.wait(PATIENCE).await.success(), "{}", script.log_text());
    assert_eq!(processes_with(place.path()), Vec::<String>::new());
    let nodes = places["nodes"].split_whitespace();
    let others = [places["Redis"].as_str(), places["Prometheus"].trim_start_matches("http://").trim_end_matches('/')];
    for address in nodes.chain(others).chain([balancer.to_string().as_str()]) {
        assert!(!answers(address).await, "{address} still answers");
    }
    let left: Vec<_> = place.path().read_dir().expect("the folder is ours").collect();
    assert!(left.is_empty(), "{left:?}");
}
