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

/// Processes that descend from one, by their ids, each with its command line.
fn descendants(ancestor: u32) -> BTreeMap<u32, String> {
    let running: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .expect("Linux lists processes")
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let state = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // Behind the name, which may hold anything: state, then parent.
            let parent = state.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((id, parent))
        })
        .collect();
    let mut family = vec![ancestor];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(running.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        at += 1;
    }
    family.into_iter().skip(1).map(|id| (id, command_line(id))).collect()
}

/// Empty when there is no such process.
fn command_line(id: u32) -> String {
    let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
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
    let family = descendants(script.pid());
    for program in ["redis-server", "nginx", "prometheus", "postrider"] {
        assert!(family.values().any(|line| line.contains(program)), "no {program} among {family:?}");
    }

    script.signal(Signal::INT);
    assert!(script.wait(PATIENCE).await.success(), "{}", script.log_text());
    // An id may have been given away again already, but not to the same program.
    let still: Vec<_> = family.iter().filter(|(id, line)| command_line(**id) == **line).collect();
    assert!(still.is_empty(), "{still:?}");
    for place in ["page", "Prometheus", "Redis", "node-1", "node-2", "node-3"] {
        let address = places[place].trim_start_matches("http://").split(['/', ' ']).next().expect("a text");
        let answer = tokio::net::TcpStream::connect(address).await;
        assert!(answer.is_err(), "{place} at {address} still answers");
    }
    let left: Vec<_> = place.path().read_dir().expect("the folder is ours").collect();
    assert!(left.is_empty(), "{left:?}");
}
