//! What is measured: nodes and a Redis of our own, or nodes that are given.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::child::Process;
use super::usage::{self, Usage};
use crate::cli::output::Failure;

const STARTING_MAX: Duration = Duration::from_secs(20);
/// Sockets are not all that a node accepts.
const SPARE_CONNECTIONS: usize = 1_000;

/// Where the nodes that a run starts meet.
#[derive(Debug, Clone)]
pub(super) enum Meeting {
    /// In a Redis of the run's own, with this `appendfsync` (or `off`).
    PrivateRedis { appendfsync: String },
    /// In the Redis of this address.
    Redis(String),
    /// Nowhere: one node, its own memory.
    Memory,
}

/// Nodes to start.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) meeting: Meeting,
    /// Sockets that one node may get.
    pub(super) sockets: usize,
    /// Further arguments of `serve`.
    pub(super) args: Vec<String>,
}

/// A process that is measured.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) pid: u32,
}

/// What is measured, running.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<SocketAddr>,
    pub(super) watched: Vec<Watched>,
    // Nodes leave before the Redis that they meet in, and both before their folder goes.
    processes: Vec<Process>,
    _redis: Option<Process>,
    _folder: Option<TempDir>,
}

impl Cluster {
    /// Nodes that run already.
    pub(super) fn given(nodes: Vec<SocketAddr>, watched: Vec<Watched>) -> Self {
        Self { nodes, watched, processes: Vec::new(), _redis: None, _folder: None }
    }

    pub(super) fn start(plan: &Plan) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("postrider-bench")
            .tempdir()
            .map_err(|error| Failure::Failed(format!("failed to make a temporary folder: {error}")))?;
        let redis = match &plan.meeting {
            Meeting::PrivateRedis { appendfsync } => Some(start_redis(folder.path(), appendfsync)?),
            Meeting::Redis(_) | Meeting::Memory => None,
        };
        let url = match (&plan.meeting, &redis) {
            (Meeting::Redis(url), _) => Some(url.clone()),
            (_, Some((_, address))) => Some(format!("redis://{address}")),
            _ => None,
        };
        let mut processes = Vec::new();
        for number in 0..plan.nodes {
            processes.push(start_node(plan, number, url.as_deref(), folder.path())?);
        }
        let mut nodes = Vec::new();
        let mut watched: Vec<Watched> = Vec::new();
        for (number, process) in processes.iter_mut().enumerate() {
            nodes.push(process.await_some("listened", STARTING_MAX, |process| address_in(&process.log()))?);
            watched.push(Watched { name: node_name(number), pid: process.pid() });
        }
        if let Some((process, _)) = &redis {
            watched.push(Watched { name: "redis".to_owned(), pid: process.pid() });
        }
        let redis = redis.map(|(process, _)| process);
        Ok(Self { nodes, watched, processes, _redis: redis, _folder: Some(folder) })
    }

    /// What every watched process has cost so far.
    pub(super) fn usage(&self) -> Vec<Usage> {
        self.watched.iter().map(|watched| usage::of(watched.pid).unwrap_or_default()).collect()
    }

    /// Processor time of all watched processes.
    pub(super) fn cpu_ns(&self) -> u64 {
        self.watched.iter().filter_map(|watched| usage::cpu_ns(watched.pid)).sum()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All at once; each is then waited for on its own.
        self.processes.iter().for_each(Process::ask_to_leave);
    }
}

/// `node A`, `node B`, … `node AA`.
pub(super) fn node_name(number: usize) -> String {
    let letter = |n: usize| char::from(b'A' + (n % 26) as u8);
    match number {
        0..26 => format!("node {}", letter(number)),
        _ => format!("node {}{}", letter(number / 26 - 1), letter(number)),
    }
}

/// The address that a URL or `host:port` names.
pub(super) fn resolve(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let mut found = (host, port).to_socket_addrs().map_err(|error| {
        Failure::Usage(format!("--node must name a host that can be found: {host}: {error}"))
    })?;
    found.next().ok_or_else(|| Failure::Usage(format!("--node must name a host that has an address: {host}")))
}

fn start_redis(folder: &Path, appendfsync: &str) -> Result<(Process, SocketAddr), Failure> {
    let port = free_port()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut command = Command::new("redis-server");
    let (appendonly, appendfsync) = if appendfsync == "off" { ("no", "no") } else { ("yes", appendfsync) };
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
        .args(["--appendonly", appendonly, "--appendfsync", appendfsync])
        .arg("--dir")
        .arg(folder);
    let mut process = Process::start("redis-server", &mut command, &folder.join("redis.log"))?;
    process.await_some("accepted connections", STARTING_MAX, |_| TcpStream::connect(address).ok())?;
    Ok((process, address))
}

fn free_port() -> Result<u16, Failure> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|error| Failure::Failed(format!("failed to find a free port: {error}")))
}

fn start_node(plan: &Plan, number: usize, redis: Option<&str>, folder: &Path) -> Result<Process, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("failed to find this program's own file: {error}")))?;
    let mut command = Command::new(program);
    // The caller's own settings are for the caller's own nodes.
    command.env_clear();
    command.args(["serve", "--listen", "127.0.0.1:0", "--auth", "none", "--log-format", "json"]);
    command.args(["--connections-max", &(plan.sockets + SPARE_CONNECTIONS).to_string()]);
    // The limit protects a node from what is measured here.
    command.args(["--handshakes-per-second-max", "1000000"]);
    command.args(["--drain-window-ms", "0", "--drain-deadline-ms", "1000"]);
    command.args(["--worker-threads", &worker_threads(plan.nodes).to_string()]);
    if let Some(url) = redis {
        command.args(["--redis", url]);
    }
    if let Meeting::Redis(_) = plan.meeting {
        // Nothing of a run should stay in somebody's Redis for long.
        command.args(["--redis-prefix", &format!("bench-{}", std::process::id())]);
        // As short as what is kept of a channel may be: no shorter than its messages.
        command.args(["--ttl-max-seconds", "3600", "--channel-retention-seconds", "3600"]);
    }
    command.args(&plan.args);
    Process::start(&node_name(number), &mut command, &folder.join(format!("node-{number}.log")))
}

/// The machine's processors shared out over the nodes that are started on it.
fn worker_threads(nodes: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / nodes.max(1)).max(1)
}

/// The address, from the line that says that a node listens.
fn address_in(log: &str) -> Option<SocketAddr> {
    log.lines().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let listening = line["message"].as_str() == Some("listening");
        line["address"].as_str().filter(|_| listening)?.parse().ok()
    })
}

/// Whether a program can be started by its name.
pub(super) fn is_installed(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").output();
    asked.is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_letters() {
        assert_eq!([0, 1, 25, 26, 31].map(node_name), ["node A", "node B", "node Z", "node AA", "node AF"]);
    }

    #[test]
    fn a_node_says_where_it_listens() {
        let log =
            "{\"message\":\"starting\"}\nnoise\n{\"message\":\"listening\",\"address\":\"127.0.0.1:81\"}\n";
        assert_eq!(address_in(log), Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 81))));
        assert_eq!(address_in("{\"message\":\"starting\",\"address\":\"127.0.0.1:81\"}"), None);
    }
}
