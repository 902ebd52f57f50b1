//! A private `redis-server` that can be killed, frozen and started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{PATIENCE, Process, find_program, free_port, until};

/// What survives a `kill -9` of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing.
    Nothing,
    /// What is older than about a second (`appendfsync everysec`).
    EverySecond,
    /// Everything answered (`appendfsync always`).
    Always,
}

/// How the server is started.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// What survives a kill.
    pub persistence: Persistence,
    /// Further arguments, such as `--maxmemory 8mb`.
    pub args: Vec<String>,
    /// Keeps its files in memory where the system has such a folder: a killed
    /// process loses no less and no more, and a busy disk delays nobody.
    pub in_memory: bool,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { persistence: Persistence::Nothing, args: Vec::new(), in_memory: false }
    }
}

/// A Redis stream that has a consumer group: to an onlooker, a node stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// Its key.
    pub key: String,
    /// Its entries.
    pub length: u64,
    /// Entries read and not acknowledged, over all groups.
    pub pending: u64,
}

/// A running server.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    folder: TempDir,
    port: u16,
    options: RedisOptions,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::start_with(RedisOptions::default()).await
    }

    /// Starts one.
    ///
    /// # Panics
    /// When there is no `redis-server`, with what to do about it.
    pub async fn start_with(options: RedisOptions) -> Self {
        let shared_memory = Path::new("/dev/shm");
        let parent = if options.in_memory && shared_memory.is_dir() {
            shared_memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let folder = tempfile::Builder::new().prefix("postrider-redis").tempdir_in(parent);
        let folder = folder.expect("a temporary folder");
        let port = free_port();
        let process = spawn(&folder, port, &options);
        let mut server = Self { process, folder, port, options };
        for _ in 0..5 {
            if server.came_up().await {
                return server;
            }
            server.port = free_port();
            server.process = spawn(&server.folder, server.port, &server.options);
        }
        panic!("redis-server did not start on any of five ports");
    }

    /// True once our own process answers; false when it ended (its port was taken).
    async fn came_up(&mut self) -> bool {
        let pid = self.process.pid().to_string();
        let url = self.url();
        until(PATIENCE, "redis-server answers", async || {
            if self.process.ended().is_some() {
                return Some(false);
            }
            let mut connection = connect(&url).await.ok()?;
            let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.ok()?;
            // While it loads its append-only file it answers INFO, but nothing else.
            let _: String = redis::cmd("PING").query_async(&mut connection).await.ok()?;
            Some(info.lines().any(|line| line.trim_end() == format!("process_id:{pid}")))
        })
        .await
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with the same folder and port.
    pub async fn restart(&mut self) {
        self.process.kill();
        for _ in 0..20 {
            self.process = spawn(&self.folder, self.port, &self.options);
            if self.came_up().await {
                return;
            }
        }
        panic!("redis-server did not come back on port {}", self.port);
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn pause(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Thaws it.
    pub fn resume(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// Asks it to stop, as an operator does.
    pub async fn shutdown(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait(PATIENCE).await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it keeps its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection for looking behind the scenes.
    pub async fn connection(&self) -> MultiplexedConnection {
        let url = self.url();
        // On a machine that is busy one try may time out.
        until(PATIENCE, "redis-server takes connections", async || connect(&url).await.ok()).await
    }

    /// Every key that would stay for ever, with its type.
    pub async fn keys_without_expiry(&self) -> Vec<(String, String)> {
        let mut connection = self.connection().await;
        let mut found = Vec::new();
        for key in all_keys(&mut connection).await {
            let ttl: i64 = connection.ttl(&key).await.expect("TTL is answered");
            if ttl == -1 {
                let kind: String = redis::cmd("TYPE")
                    .arg(&key)
                    .query_async(&mut connection)
                    .await
                    .expect("TYPE is answered");
                found.push((String::from_utf8_lossy(&key).into_owned(), kind));
            }
        }
        found.sort();
        found
    }

    /// The node streams, as anyone can tell them from mailboxes: they have groups.
    pub async fn node_streams(&self) -> Vec<StreamState> {
        let mut connection = self.connection().await;
        let mut found = Vec::new();
        for key in all_keys(&mut connection).await {
            let kind: String =
                redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.expect("TYPE is answered");
            if kind != "stream" {
                continue;
            }
            let groups: redis::streams::StreamInfoGroupsReply =
                connection.xinfo_groups(&key).await.unwrap_or_default();
            if !groups.groups.is_empty() {
                let length = connection.xlen(&key).await.expect("XLEN is answered");
                let pending = groups.groups.iter().map(|group| group.pending as u64).sum();
                let key = String::from_utf8_lossy(&key).into_owned();
                found.push(StreamState { key, length, pending });
            }
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }
}

fn spawn(folder: &TempDir, port: u16, options: &RedisOptions) -> Process {
    let program = find_program("redis-server").unwrap_or_else(|| {
        panic!("redis-server is not installed: run ./scripts/test, which installs it, or `apt-get install redis-server`")
    });
    let (appendonly, appendfsync) = match options.persistence {
        Persistence::Nothing => ("no", "no"),
        Persistence::EverySecond => ("yes", "everysec"),
        Persistence::Always => ("yes", "always"),
    };
    let mut command = Command::new(program);
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
        .args(["--appendonly", appendonly, "--appendfsync", appendfsync])
        .arg("--dir")
        .arg(folder.path())
        .args(&options.args);
    Process::start("redis-server", &mut command, &folder.path().join("redis.log"))
}

async fn connect(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(Duration::from_secs(10)));
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// Idempotency keys end in bytes that are no text.
async fn all_keys(connection: &mut MultiplexedConnection) -> Vec<Vec<u8>> {
    redis::cmd("KEYS").arg("*").query_async(connection).await.expect("KEYS is answered")
}
