//! One postrider node as a child process.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Api, Dial, Listen, PATIENCE, Process, free_port, until};

/// How a node is started.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// The Redis it meets others in; none: the memory store.
    pub redis: Option<String>,
    /// The text of its configuration file, if it has one.
    pub config: Option<String>,
    /// Its environment, beside what the test runs in less everything of ours.
    pub env: Vec<(String, String)>,
    /// Further arguments of `serve`.
    pub args: Vec<String>,
    /// Where it listens; a port that stays its own by default, dead or alive.
    pub listen: Option<SocketAddr>,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    process: Process,
    folder: TempDir,
    options: NodeOptions,
    address: SocketAddr,
    id: String,
}

impl Node {
    /// Starts a node and waits until it is ready.
    pub async fn start(options: NodeOptions) -> Self {
        let node = Self::start_unready(options).await;
        node.ready(PATIENCE).await;
        node
    }

    /// Starts a node and waits until it listens, ready or not.
    pub async fn start_unready(options: NodeOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("postrider-node").tempdir().expect("a temporary folder");
        let mut process = spawn(&folder, &options);
        let (address, id) = listening(&mut process).await;
        Self { process, folder, options, address, id }
    }

    /// Starts it again, on the same address, after it ended or was killed.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.options.listen = Some(self.address);
        self.process = spawn(&self.folder, &self.options);
        (self.address, self.id) = listening(&mut self.process).await;
        self.ready(PATIENCE).await;
    }

    /// Starts it again, as a supervisor would, without waiting for anything:
    /// while Redis is away it ends at once.
    pub fn respawn(&mut self) {
        self.process.kill();
        self.options.listen = Some(self.address);
        self.process = spawn(&self.folder, &self.options);
    }

    /// Waits for `/readyz` to say so.
    pub async fn ready(&self, within: Duration) {
        let api = self.api();
        super::eventually(within, "/readyz answers 200", async || {
            api.try_get("/readyz").await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The id it had when it started.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its REST interface.
    pub fn api(&self) -> Api {
        Api::new(&self.url())
    }

    /// A plain client of `user`, as in the tutorial: its token in a cookie.
    pub fn plain(&self, user: &str) -> Dial {
        Dial::plain(self.address, user)
    }

    /// A client of `user` that speaks envelopes.
    pub fn envelope(&self, user: &str) -> Dial {
        Dial::envelope(self.address, user)
    }

    /// A client of `user` that listens to server-sent events.
    pub fn listen(&self, user: &str) -> Listen {
        Listen::new(self.address, user)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Freezes it.
    pub fn pause(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Thaws it.
    pub fn resume(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// Asks it to drain and stop.
    pub fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits for its end.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        self.process.wait(within).await
    }

    /// What every start has logged so far.
    pub fn whole_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("node.log")).unwrap_or_default()
    }

    /// What this start has logged so far.
    pub fn log_text(&self) -> String {
        self.process.log_text()
    }
}

/// Runs a command of the program to its end; its exit code and all it said.
pub async fn run_command(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut process =
        Process::start("a command", postrider().args(args).envs(env.iter().copied()), output.path());
    let status = process.wait(PATIENCE).await;
    (status.code(), process.log_text())
}

/// The program under test, untouched by the caller's own settings.
fn postrider() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTRIDER_") {
            command.env_remove(name);
        }
    }
    command
}

fn spawn(folder: &TempDir, options: &NodeOptions) -> Process {
    let mut command = postrider();
    let listen = options.listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, free_port()).into());
    command.args(["serve", "--log-format", "json", "--listen", &listen.to_string()]);
    if let Some(url) = &options.redis {
        command.args(["--redis", url]);
    }
    if let Some(text) = &options.config {
        let file = folder.path().join("postrider.toml");
        std::fs::write(&file, text).expect("the configuration is written");
        command.arg("--config").arg(file);
    }
    command.args(&options.args).envs(options.env.iter().cloned());
    Process::start("postrider", &mut command, &folder.path().join("node.log"))
}

/// Address and node id, from the line that says so.
async fn listening(process: &mut Process) -> (SocketAddr, String) {
    until(PATIENCE, "the node logs that it is listening", async || {
        if let Some(line) = process.log_text().lines().find_map(listening_line) {
            return Some(line);
        }
        assert!(process.ended().is_none(), "the node ended before it listened");
        None
    })
    .await
}

fn listening_line(line: &str) -> Option<(SocketAddr, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    if fields.get("message")?.as_str()? != "listening" {
        return None;
    }
    let address = fields.get("address")?.as_str()?.parse().ok()?;
    Some((address, fields.get("node")?.as_str()?.to_owned()))
}
